"""A provider on loopback that answers with recorded bytes and notes what it was asked: Gemini or Bedrock."""

import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from flask import Flask

from tests.helpers import add_model, add_provider

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
KEYS = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "IQoJb3JpZ2luX2VjE+/==")
CREDENTIALS = {"gemini": "google-key", "bedrock": ":".join(KEYS)}
MODELS = {"gemini": "gemini-2.5-flash", "bedrock": "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"}
STREAMS = {"gemini": "text/event-stream", "bedrock": "application/vnd.amazon.eventstream"}
REGION = "eu-west-3"


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What the next request gets; with `is_cut` the connection breaks after it."""

    body: bytes
    kind: str = "application/json"
    status: int = 200
    is_stream: bool = False
    is_cut: bool = False
    headers: tuple[tuple[str, str], ...] = ()


class Recorded:
    """The server; runs in threads of the test process from its making to `stop`."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: deque[Answer] = deque()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def will(self, body: bytes, **more: Any) -> None:
        """What to answer next."""
        self.answers.append(Answer(body, **more))

    def stop(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        recorded = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                recorded.asked.append(Asked(self.command, self.path, headers, body))
                answer = recorded.answers.popleft()
                self.send_response(answer.status)
                self.send_header("content-type", answer.kind)
                for name, value in answer.headers:
                    self.send_header(name, value)
                if answer.is_stream:
                    self.send_header("transfer-encoding", "chunked")
                    self.end_headers()
                    for start in range(0, len(answer.body), 100):  # events arrive in pieces
                        piece = answer.body[start : start + 100]
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    if not answer.is_cut:
                        self.wfile.write(b"0\r\n\r\n")
                else:
                    self.send_header("content-length", str(len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)
                self.close_connection = answer.is_cut

            def log_message(self, *_args: Any) -> None:
                """Say nothing."""

        return Handler


def with_vendors(app: Flask, vendor: Recorded) -> Flask:
    """The app with models `gemini` and `bedrock`, each on a provider of that kind."""
    for kind, model in MODELS.items():
        provider = add_provider(app, vendor.base_url, kind, kind=kind, credential=CREDENTIALS[kind])
        with app.extensions["gateway"].engine.begin() as connection:
            connection.exec_driver_sql(f'UPDATE providers SET settings = \'{{"region": "{REGION}"}}\'')
        add_model(app, provider, kind, upstream_model=model)
    return app


def recorded(kind: str, case: str, name: str) -> bytes:
    """The bytes of a recorded case."""
    return (GOLDEN / kind / case / name).read_bytes()
