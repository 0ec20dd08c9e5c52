"""How the surfaces say no: a schema for each form of error, and which form a path has.

The forms are those of routes/render.py, by the same table; a surface that is new there needs its name here.
"""

from typing import Any, Final

from routes import callroutes, problems, render, render_people, render_v1
from routes.openapi.shapes import ANY, Schema, closed, either, opened, or_null, ref, text, whole

V1: Final = "/v1"
PLAIN: Final = "PlainError"
FORMS: Final[dict[str, tuple[str, ...]]] = {  # by the beginning of the path, as in render.BODIES
    render.MESSAGES: ("AnthropicError",),
    V1: ("OpenAIError", "AnthropicError"),  # clients of Anthropic's API are known by a header
    "/api/providers": ("ProxyError",),
    "/api/key-management": ("Problem",),
    "/api/v2/key-management": ("Problem",),
    "/api/users": ("Problem",),
    **dict.fromkeys((problems.REPORTS, *problems.EVENTS), ("Problem",)),
    problems.SETTINGS: ("Problem",),
    problems.POLICIES: ("Problem",),
    problems.ROUTES: ("Problem",),
    render_v1.PREFIX: ("CodedError",),
    **dict.fromkeys(render_people.PATHS, (PLAIN,)),
}
CALLS_OF_ROUTES: Final = f"{callroutes.calls.name}.call"  # the one endpoint whose form the path alone does not tell

_ENVELOPE: Final = {
    "message": text("What was wrong and what to do; for people."),
    "type": text("The kind of error; docs/errors.md lists them."),
    "param": or_null(text("The member of the request that is meant.")),
}
SCHEMAS: Final[dict[str, Schema]] = {
    "OpenAIError": closed(
        {"error": opened(_ENVELOPE | {"code": or_null(text("For programs."))}, {"innererror": {"type": "object"}})},
        about="An error as OpenAI's clients read it.",
    ),
    "AnthropicError": closed(
        {
            "type": {"const": "error"},
            "error": closed(
                {"type": text(), "message": text(), "details": {"type": "object", "additionalProperties": True}}
            ),
            "request_id": or_null(text()),
        },
        about="An error as Anthropic's clients read it: those that send `anthropic-version`.",
    ),
    "ProxyError": closed(
        {"error": closed(_ENVELOPE | {"code": whole("The HTTP status."), "detail": text("The gateway's own words.")})},
        about="An error of the proxy surface; `message` is a fixed text for programs that compare it.",
    ),
    "Problem": closed(
        {
            "type": text("Such as `/errors/validation`."),
            "title": text(),
            "status": whole(),
            "detail": text(),
            "instance": text("The path that was asked for."),
        },
        {"errors": {"type": "object", "additionalProperties": text("Why this member cannot be taken.")}},
        about="An error of the key management API.",
    ),
    "CodedError": closed(
        {"code": text("In capitals, such as `VALIDATION_ERROR`."), "message": text(), "request_id": text()},
        {"details": {"type": "object", "additionalProperties": ANY}},
        about="An error of `/api/v1`.",
    ),
    PLAIN: closed(
        {"detail": text(), "error": text(), "code": text(), "request_id": text()},
        {"details": {"type": "object", "additionalProperties": ANY}},
        about="An error of the smaller APIs.",
    ),
}
MEANINGS: Final[dict[str, str]] = {  # of statuses
    "400": "The request itself is wrong; sending it again changes nothing.",
    "401": "No credential, or one that opens nothing.",
    "402": "A budget cannot take the call, or nobody said what the model costs.",
    "403": "The caller is known and may not do this.",
    "404": "It does not exist, or is somebody else's.",
    "409": "Something stands in the way that is there already, or somebody else changed the same thing.",
    "413": "The body is too large.",
    "422": "Values that cannot be taken, or an answer that would be more than one answer may be; ask for less.",
    "429": "A limit has no room, or it was tried too often; `retry-after` says when it has.",
    "4XX": "The provider refused, in words of its own that are handed on.",
    "500": "The gateway failed; its log has the reason, under the id of the request.",
    "502": "The provider failed, cannot be reached, or answered something unusable.",
    "503": "The books or the database do not take it at the moment, or this worker is ending.",
    "504": "The provider was silent for too long.",
}
HEADERS: Final[dict[str, Schema]] = {
    "RequestId": {
        "description": "The id of the request, the same in logs and books.",
        "required": True,
        "schema": text(),
    },
    "RetryAfter": {"description": "Seconds until trying again may help.", "schema": whole()},
}
REQUEST_ID: Final = {"x-request-id": {"$ref": "#/components/headers/RequestId"}}
OTHERS: Final[dict[str, dict[str, Any]]] = {  # statuses that are no refusals of the gateway's own
    "204": {"description": "Nothing is left to show.", "headers": REQUEST_ID},
    "414": {
        "description": "The address is longer than the server takes; the gateway has not seen the request.",
        "content": {"text/html": {"schema": text()}},
    },
    "302": {"description": "Elsewhere, for browsers.", "headers": {"location": {"schema": text()}}},
}


def responses() -> dict[str, Any]:
    """The components that answers refer to, one for each combination of forms."""
    combinations = {*FORMS.values(), (PLAIN,), FORMS["/api/providers"]}
    return {_name(forms): _response(forms) for forms in sorted(combinations)}


def answers(path: str, endpoint: str, statuses: tuple[str, ...]) -> dict[str, Any]:
    """The refusals of an operation, by status."""
    name = _name(_forms(path, endpoint))
    return {
        status: OTHERS.get(status) or {"$ref": f"#/components/responses/{name}", "description": MEANINGS[status]}
        for status in statuses
    }


def _forms(path: str, endpoint: str) -> tuple[str, ...]:
    if endpoint == CALLS_OF_ROUTES:
        return FORMS["/api/providers"]
    fitting = (forms for start, forms in FORMS.items() if path == start or path.startswith(f"{start}/"))
    return next(fitting, (PLAIN,))


def _name(forms: tuple[str, ...]) -> str:
    return "Or".join(forms)


def _response(forms: tuple[str, ...]) -> dict[str, Any]:
    schemas = [ref(name) for name in forms]
    return {
        "description": "A refusal.",
        "headers": REQUEST_ID | {"retry-after": {"$ref": "#/components/headers/RetryAfter"}},
        "content": {"application/json": {"schema": schemas[0] if len(schemas) == 1 else either(*schemas)}},
    }
