"""Who gets alerts, on loopback, with fault switches: a receiver of webhooks and a mail server."""

import json
import socket
import socketserver
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HANG, RESET = "hang", "reset"


@dataclass(frozen=True)
class Got:
    """One request as it came in."""

    headers: dict[str, str]
    body: bytes
    at_s: float

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Receiver:
    """Answers each request with the next of its faults, then with 204. A fault: HANG, RESET, or an answer's bytes."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.faults: list[str | bytes] = []
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hooks/s3cret"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def wait_for(self, count: int, within_s: float = 30.0) -> list[dict[str, Any]]:
        """What came, once it is so much."""
        end_s = time.monotonic() + within_s
        while len(self.got) < count and time.monotonic() < end_s:
            time.sleep(0.05)
        assert len(self.got) >= count, f"only {[got.told for got in self.got]} came"
        return [got.told for got in self.got]

    def _accept(self) -> None:
        while True:
            try:
                line, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with line, line.makefile("rb") as reader, suppress(OSError):
            if not reader.readline():
                return
            headers = {}
            while asked := reader.readline().strip():
                name, _colon, value = asked.decode().partition(":")
                headers[name.lower()] = value.strip()
            self.got.append(Got(headers, reader.read(int(headers.get("content-length", 0))), time.time()))
            fault = self.faults.pop(0) if self.faults else b"HTTP/1.1 204 No Content\r\n\r\n"
            if fault == HANG:
                self._ended.wait(30)
            elif fault == RESET:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
            else:
                line.sendall(fault if isinstance(fault, bytes) else fault.encode())


def answer(status: int, body: str = "", **headers: str) -> bytes:
    """An answer's bytes."""
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", "connection: close"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", body]).encode()


class MailServer(socketserver.ThreadingTCPServer):
    """Takes mail over SMTP, after STARTTLS or at once with a certificate if it is given one; keeps what came."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, certificate: Path | None = None, *, refuses: str = "", hangs: bool = False) -> None:
        self.mails: list[tuple[list[str], str]] = []
        self.said: list[str] = []
        self.certificate, self.refuses, self.hangs = certificate, refuses, hangs
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()


class _Conversation(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        with suppress(OSError):
            if self.server.hangs:
                self.server.ended.wait(30)
                return
            self._say("220 here")
            try:
                self._talk()
            finally:
                self.connection.close()

    def _talk(self) -> None:
        recipients: list[str] = []
        while line := self.rfile.readline().decode().strip():
            self.server.said.append(line)
            word = line.upper().split(" ")[0]
            if self.server.refuses and line.upper().startswith(self.server.refuses):
                self._say("550 not here")
            elif word == "EHLO":
                self._say(
                    "250-here", "250-AUTH PLAIN", *(["250-STARTTLS"] if self.server.certificate else []), "250 8BITMIME"
                )
            elif word == "RCPT":
                recipients.append(line.partition("<")[2].partition(">")[0])
                self._say("250 ok")
            elif word == "DATA":
                self._say("354 go on")
                body = []
                while (part := self.rfile.readline().decode()) != ".\r\n":
                    body.append(part)
                self.server.mails.append((recipients, "".join(body)))
                recipients = []
                self._say("250 ok")
            elif word == "STARTTLS":
                self._say("220 go on")
                self._encrypt()
            elif word == "AUTH":
                self._say("235 welcome")
            elif word == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _encrypt(self) -> None:
        assert self.server.certificate is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server.certificate)
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())
