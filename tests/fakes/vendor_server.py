"""Vendors on loopback, each at the paths and in the words of its own API, with one brain behind them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fakes.vendor_brains import Ask, Brain, Refusal, Said
from tests.fakes.vendor_faces import face_of


class Vendors:
    """The server; runs in threads of the test process from its making to `stop`.

    A provider's credential is `key-of-` and the name of its wire, except at Bedrock, whose requests are signed.
    """

    def __init__(self) -> None:
        self.brain = Brain()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, wire: str, path: str, body: Any) -> tuple[Ask, Said]:
        """What is asked at a path, and the brain's answer.

        Raises:
            Refusal: the vendor does not answer this.
        """
        if not wire:
            raise Refusal(401, "no credential")
        ask = face_of(path).read(path, body)
        return ask, self.brain.think(wire, ask)

    def wire_of(self, headers: dict[str, str]) -> str:
        """Whose credential came with a request; empty where there is none that opens anything."""
        if headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 Credential="):
            return "bedrock"
        given = [headers.get(name, "") for name in ("x-api-key", "x-goog-api-key", "authorization")]
        return next((value.partition("key-of-")[2] for value in given if "key-of-" in value), "")


def _handler(vendors: Vendors) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
            wire = vendors.wire_of({name.lower(): value for name, value in self.headers.items()})
            face = face_of(self.path)
            try:
                ask, said = vendors.answer(wire, self.path, body)
            except Refusal as refusal:
                self._whole(refusal.status, face.error(refusal.status, str(refusal)))
                return
            if ask.is_stream:
                self._stream(face.stream_kind, face.stream(said, body))
            else:
                self._whole(200, face.whole(said, body))

        def _whole(self, status: int, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, kind: str, events: list[bytes]) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for event in events:
                for piece in filter(None, (event[:50], event[50:])):  # events arrive in pieces
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_args: Any) -> None:
            """Say nothing."""

    return Handler
