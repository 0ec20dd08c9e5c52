"""A GigaChat on loopback: the service that gives tokens, and the API that takes them, in one server.

It answers a chat with its last message, and with a call of the first function when there are any.
"""

import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

KEY = "Y2xpZW50OnNlY3JldA=="  # base64 of client:secret
STATE = "77d3fb14-457a-46ba-937e-8d856156d003"
USAGE = {"prompt_tokens": 4, "completion_tokens": 3, "precached_prompt_tokens": 2, "total_tokens": 7}


class GigaChat:
    """The server; `exchanges` and `asked` say what came in."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.exchanges: list[dict[str, Any]] = []
        self.under_way = self.most_under_way = 0
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.good: set[str] = set()  # the tokens that are taken
        self.life_ms = 1_800_000
        self.exchange_s = 0.0  # how long one takes
        self.gate = threading.Event()  # … which is not given before it is open
        self.gate.set()
        self.exchange_status = 200
        self.refuses_all = False
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": self}))
        self._server.daemon_threads = True
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    @property
    def settings(self) -> dict[str, Any]:
        """What a provider needs to find it."""
        return {"auth_url": f"{self.url}/api/v2/oauth"}

    def start(self) -> "GigaChat":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def exchange(self, headers: dict[str, str], form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """One token for a key."""
        with self._lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            self.exchanges.append({"headers": headers, "form": form})
            number = len(self.exchanges)
        try:
            time.sleep(self.exchange_s)
            self.gate.wait(10)
            if self.exchange_status != 200:
                return self.exchange_status, {"code": 6, "message": f"credentials doesn't match db data {KEY}"}
            token = f"eyJ-token-{number:04}-{'x' * 20}"
            self.good.add(token)
            return 200, {"access_token": token, "expires_at": round(time.time() * 1000) + self.life_ms}
        finally:
            with self._lock:
                self.under_way -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: GigaChat

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/api/v2/oauth":
            self._answer(*self.fake.exchange(self._headers(), parse_qs(raw.decode())))
        elif self.path.endswith("/token"):
            status, made = self.fake.exchange(self._headers(), {})
            self._answer(status, {"tok": made["access_token"], "exp": made["expires_at"] // 1000})
        else:
            self._serve(json.loads(raw))

    def _headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def _serve(self, body: dict[str, Any]) -> None:
        self.fake.asked.append((self.path, self._headers(), body))
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if self.fake.refuses_all or token not in self.fake.good:
            self._answer(401, {"status": 401, "message": f"Token {token} has expired"})
        elif self.path.endswith("/models"):
            listed = [{"id": name, "object": "model", "owned_by": "salutedevices"} for name in ("GigaChat-2", "Em")]
            self._answer(200, {"object": "list", "data": listed})
        elif self.path.endswith("/embeddings"):
            data = [
                {"object": "embedding", "index": place, "embedding": [0.5], "usage": {"prompt_tokens": 2}}
                for place, _text in enumerate(body["input"])
            ]
            self._answer(200, {"object": "list", "data": data, "model": body["model"]})
        elif body.get("stream"):
            self._stream(body)
        else:
            choice = {"index": 0, **_reply(body, "message")}
            self._answer(200, {**_frame(body), "choices": [choice], "usage": USAGE})

    def _stream(self, body: dict[str, Any]) -> None:
        choice = {"index": 0, **_reply(body, "delta")}
        finish = {"index": 0, "delta": {"content": ""}, "finish_reason": choice.pop("finish_reason")}
        chunks = [{**_frame(body), "choices": [choice]}, {**_frame(body), "choices": [finish], "usage": USAGE}]
        text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        self._send(200, text.encode(), "text/event-stream; charset=utf-8")

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        self._send(status, json.dumps(value).encode(), "application/json; charset=utf-8")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _frame(body: dict[str, Any]) -> dict[str, Any]:
    return {"created": 1_790_000_001, "model": f"{body['model']}:1.0.26.20", "object": "chat.completion"}


def _reply(body: dict[str, Any], member: str) -> dict[str, Any]:
    last = body["messages"][-1]
    if body.get("functions") and last["role"] == "user":
        call = {"name": body["functions"][0]["name"], "arguments": {"city": last["content"]}}
        said = {"role": "assistant", "content": "", "function_call": call, "functions_state_id": STATE}
        return {member: said, "finish_reason": "function_call"}
    return {member: {"role": "assistant", "content": f"You said: {last['content']}"}, "finish_reason": "stop"}
