"""What any relay in Flask costs: no keys, no budgets, no books. The figure to compare the gateway with."""

from collections.abc import Iterator

import urllib3
from flask import Flask, Response, request


def create(provider: int) -> Flask:
    """The relay, to the provider at that port."""
    app = Flask(__name__)
    pool = urllib3.HTTPConnectionPool("127.0.0.1", provider, maxsize=2000)

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/v1/chat/completions")
    def relay() -> Response:
        headers = {"content-type": "application/json"}
        answer = pool.urlopen(
            "POST", request.path, body=request.get_data(), headers=headers, preload_content=False, retries=False
        )

        def parts() -> Iterator[bytes]:
            try:
                while part := answer.read1():
                    yield part
            finally:
                answer.release_conn()

        return Response(parts(), answer.status, mimetype=answer.headers["content-type"])

    return app
