"""A strict upstream: a server that checks every request against a document, and a relay that notes what it says.

The server answers with examples made from the document. A stream made that way has no beginning and no end; so where
a streamed request is found good, the relay answers with a recorded stream of that vendor.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.contract.documents import FLAGS
from tests.fakes.ports import free_port
from tests.fakes.served import ROOT

GOLDEN = ROOT / "tests" / "golden"
START_S, STOP_S = 60, 10
JSON = "application/json"
AZURE, V1 = "/openai", "/openai/v1"  # below which Microsoft serves its own paths, and OpenAI's
OWN = ("host", "connection", "transfer-encoding", "accept-encoding", "content-length")
STREAMS = {  # by the end of a path
    "/chat/completions": "openai/text-usage-asked",
    "/completions": "openai/completions",
    "/responses": "openai/responses-text",
    "/images/generations": "openai/images-streamed",
    "/images/edits": "openai/images-streamed-without-usage",
    "/audio/speech": "openai/speech-events",
    "/audio/transcriptions": "openai/transcription-streamed",
    "/messages": "anthropic/text",
    ":streamGenerateContent": "gemini/text-stream",
}
WHOLE = {  # where the document requires so little that its examples are empty
    ":generateContent": "gemini/text",
    ":batchEmbedContents": "gemini/embeddings",
    "/images/generations": "openai/images",
    "/images/edits": "openai/images",
    "/images/variations": "openai/images",
}
ASKS = (b'"stream":true', b'"stream": true', b'"stream_format":"sse"', b'name="stream"\r\n\r\ntrue')


@dataclass(frozen=True)
class Verdict:
    """What the server said of one request."""

    method: str
    path: str
    status: int
    complaints: tuple[str, ...]


class Relay(ThreadingHTTPServer):
    """Serves in threads that do not outlive the run."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves while nothing is under way is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Strict:
    """The server and its relay, from the making to `stop`; `verdicts` grows with every request."""

    def __init__(self, command: Path, document: Path, folder: Path) -> None:
        self.verdicts: list[Verdict] = []
        self._port = free_port()
        log = folder / f"{document.stem}-{self._port}.log"
        flags = ["--host", "127.0.0.1", "-p", str(self._port), "--log-level", "summary", *FLAGS, str(document)]
        with log.open("wb") as out:
            self._process = subprocess.Popen([str(command), *flags], stdout=out, stderr=out)
        try:
            self._wait(log)
        except BaseException:
            self._end()
            raise
        self._relay = Relay(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._relay.server_port}"
        threading.Thread(target=self._relay.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """End both."""
        self._relay.shutdown()
        self._relay.server_close()
        self._end()

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The server's answer; its verdict is noted."""
        status, given, answer = self._get(method, _unprefixed(path), headers, body)
        self.verdicts.append(Verdict(method, path, status, complaints_of(status, given, answer)))
        return status, given, answer

    def _get(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def _wait(self, log: Path) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            try:
                if self._get("GET", "/_x-steady/health", {}, b"")[0] == http.client.OK:
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"the strict upstream did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _unprefixed(path: str) -> str:
    """The path in the document: what the addresses of servers have before it is no part of it."""
    return path.removeprefix(V1).removeprefix(AZURE)


def complaints_of(status: int, headers: dict[str, str], body: bytes) -> tuple[str, ...]:
    """What was wrong with the request, each with its place."""
    try:
        listed = json.loads(body)["steady"]["errors"]
    except (ValueError, LookupError, TypeError):
        count = range(1, int(headers.get("x-steady-error-count", "0")) + 1)
        found = [tuple(headers.get(f"x-steady-error-{n}-{part}", "") for part in PARTS) for n in count]
    else:
        found = [(entry["code"], entry.get("path", ""), entry["message"], _sent(entry)) for entry in listed]
    if not found and status >= http.client.BAD_REQUEST:
        found = [(str(status), "", body.decode("utf-8", "replace")[:200])]
    return tuple(" ".join(part for part in parts if part) for parts in found)


def _sent(entry: dict[str, object]) -> str:
    return f"(sent {json.dumps(entry['actual'])[:120]})" if "actual" in entry else ""


PARTS = ("code", "path", "message")


def _recorded(path: str, body: bytes) -> tuple[str, bytes] | None:
    """The recording that answers a request better than the server could: its content type and its bytes."""
    place = urlsplit(path)
    is_stream = "alt=sse" in place.query or any(mark in body for mark in ASKS)
    cases, name, kind = (STREAMS, "stream.in", "text/event-stream") if is_stream else (WHOLE, "answer.in", JSON)
    case = next((case for end, case in cases.items() if place.path.endswith(end)), None)
    return None if case is None else (kind, (GOLDEN / case / name).read_bytes())


def _handler(strict: Strict) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
            status, given, answer = strict.ask(self.command, self.path, headers, body)
            recorded = _recorded(self.path, body) if status == http.client.OK else None
            kind, answer = recorded or (given.get("content-type", JSON), answer)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            self.do_POST()

        def do_DELETE(self) -> None:
            self.do_POST()

        def log_message(self, *_arguments: object) -> None:
            """The verdicts say it all."""

    return Handler


def all_complaints(verdicts: Sequence[Verdict]) -> list[str]:
    """What was wrong with any of these requests."""
    return [f"{verdict.path}: {complaint}" for verdict in verdicts for complaint in verdict.complaints]
