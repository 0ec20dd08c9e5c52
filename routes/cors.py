"""Lets browsers on other origins that CORS_ORIGINS names call `/v1` and `/api/providers`. Keys only, never cookies."""

from typing import Final

from flask import Flask, Response, request

ALLOWED: Final = {
    "access-control-allow-headers": "authorization, content-type, x-api-key, api-key, "
    "openai-organization, openai-project, x-custom-event-id, x-metadata, "
    "anthropic-version, anthropic-beta, anthropic-dangerous-direct-browser-access",
    "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
    "access-control-expose-headers": "x-request-id, request-id, retry-after, x-should-retry, "
    "x-gateway-dropped-params, x-gateway-max-output-tokens",
    "access-control-max-age": "600",
}


def register(app: Flask, blueprints: tuple[str, ...], origins: tuple[str, ...]) -> None:
    """Add the headers to the answers of these blueprints; without origins nothing stands in any request's way."""

    def allow(response: Response) -> Response:
        origin = request.headers.get("origin", "")
        if origin and ("*" in origins or origin in origins):
            response.headers.update(ALLOWED)
            response.headers["access-control-allow-origin"] = "*" if "*" in origins else origin
            response.headers.add("vary", "origin")
        return response

    if origins:
        for blueprint in blueprints:
            app.after_request_funcs.setdefault(blueprint, []).append(allow)
