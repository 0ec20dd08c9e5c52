"""A provider on loopback that can fail in every way: OpenAI's, Ollama's and Anthropic's dialects with switches.

What it does with a request is a Plan: the one in the request's text (`{{"chunks": 3, "cut_after": 2}}` in double
braces), else the next one given to `will`, else the default. It notes what it served and when its peer left.
"""

import json
import re
import select
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

from tests.fakes import anthropic, gemini, media, responses

TAG = re.compile(r"\{\{(.*?)\}\}")


@dataclass
class Plan:
    """How to answer one request."""

    status: int = 200  # 0 = the connection is closed instead, or reset
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None  # sent as it is instead of an answer in the dialect
    words: int = 5  # tokens of the answer, one a chunk
    first_s: float = 0.0  # silence before the head
    every_s: float = 0.0  # between chunks
    script: list[str] | None = None  # the events of a stream instead of those of the dialect
    then: str = "end"  # what follows a script or half a whole answer: "end", "cut", "reset" or "mute"
    cut_after: int | None = None  # chunks after which the connection breaks
    reset: bool = False  # … with a TCP reset
    mute_after: int | None = None  # chunks after which there is silence until the peer leaves
    end_after: int | None = None  # chunks after which the body ends, as if that had been all
    usage: Any = "right"  # "right", None (not reported), or what to report
    done: bool = True  # whether the stream has its end mark
    finish: bool = True  # whether it has a finish_reason
    piece: int = 0  # write the body in pieces of so many bytes
    piece_s: float = 0.0005  # … and so often
    raw_event: str | None = None  # a piece of stream put in after the first word
    null_usage: bool = True  # `usage: null` on every chunk when asked for usage, as OpenAI does
    close: bool = False  # close the connection after the answer


@dataclass
class Served:
    """One request as it came in, and what became of it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    plan: Plan
    at: float
    words_sent: int = 0
    finished: bool = False
    peer_left_at: float | None = None

    @property
    def billed(self) -> tuple[int, int]:
        """Tokens in and out that it goes on the bill with, whether or not anybody stays to read the answer."""
        is_responses = self.path.endswith("/responses")
        return responses.INPUT_TOKENS if is_responses else len(_text(self.body).split()), self.plan.words


class Upstream:
    """The server; runs in threads of the test process from `start` to `stop`."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.served: list[Served] = []
        self.default = Plan()
        self.models = ["gpt-4o-mini", "gpt-4o"]
        self.connections = 0
        self._plans: deque[Plan] = deque()
        self._listener = socket.create_server((host, 0), backlog=1024)
        self.port = self._listener.getsockname()[1]
        self._stopping = False

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    def will(self, **plan: Any) -> None:
        """What to do with the next request that names no plan itself."""
        self._plans.append(Plan(**plan))

    def start(self) -> "Upstream":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def stop(self) -> None:
        self._stopping = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # else who waits in `accept` waits for ever
        self._listener.close()

    def wait_for(self, count: int, timeout: float = 5.0) -> list[Served]:
        """The requests, once there are that many."""
        end = time.monotonic() + timeout
        while len(self.served) < count and time.monotonic() < end:
            time.sleep(0.01)
        assert len(self.served) >= count, f"{len(self.served)} requests came, not {count}"
        return self.served

    def _accept(self) -> None:
        while not self._stopping:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        reader = peer.makefile("rb")
        try:
            while (request := _read(reader)) is not None:
                path, headers, body = request
                plan = self._plan(body)
                served = Served(path, headers, body, plan, time.monotonic())
                self.served.append(served)
                if not _Answer(peer, served, self).send() or plan.close:
                    return
        except OSError:
            pass
        finally:
            reader.close()
            peer.close()

    def _plan(self, body: dict[str, Any]) -> Plan:
        tag = TAG.search(_text(body))
        if tag:
            return Plan(**json.loads("{" + tag[1] + "}"))
        if self._plans:
            return self._plans.popleft()
        return Plan(**{f.name: getattr(self.default, f.name) for f in fields(Plan)})


class _PeerLeft(Exception):
    """The gateway closed the connection."""


class _Answer:
    def __init__(self, peer: socket.socket, served: Served, server: Upstream) -> None:
        self.peer, self.served, self.plan, self.body = peer, served, served.plan, served.body
        self.server = server

    def send(self) -> bool:
        """Answer; False = the connection is to be closed."""
        try:
            self._wait(self.plan.first_s)
            return self._answer() if self.plan.status else self._then()
        except (_PeerLeft, BrokenPipeError, ConnectionResetError):
            self.served.peer_left_at = self.served.peer_left_at or time.monotonic()
            return False

    def _answer(self) -> bool:
        path = self.served.path.partition("?")[0]
        if self.plan.script is not None:
            return self._stream([(event.encode(), True) for event in self.plan.script if event], "text/event-stream")
        if self.plan.body is not None or self.plan.status != 200:
            default = json.dumps(
                {"error": {"message": f"status {self.plan.status}", "type": "fake", "param": None, "code": "fake"}}
            )
            return self._whole(self.plan.body if self.plan.body is not None else default)
        if path.endswith("/models"):
            return self._whole(
                json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.models]})
            )
        if path.endswith(("/embeddings", "/api/embed")):
            return self._whole(json.dumps(self._embeddings(path)))
        if path.startswith("/api/") or "/api/chat" in path or "/api/generate" in path:
            return self._ollama(path)
        if path.endswith("/v1/messages") or gemini.PATH.search(path):
            return self._gemini(path) if gemini.PATH.search(path) else self._anthropic()
        if (made := media.answer(path, self.body, self.plan)) is not None:
            kind, content = made
            return self._stream(content, kind) if isinstance(content, list) else self._whole(content, kind)
        if path.endswith("/responses"):
            return self._responses()
        if self.body.get("stream"):
            return self._stream([self._sse(event) for event in self._events()], "text/event-stream")
        return self._whole(json.dumps(self._completion()))

    def _responses(self) -> bool:
        if not self.body.get("stream"):
            return self._whole(json.dumps(responses.answer(self.body, self.plan)))
        events = responses.events(self.body, self.plan)
        return self._stream([(text.encode(), is_word) for text, is_word in events], "text/event-stream")

    def _gemini(self, path: str) -> bool:
        made = gemini.answer(path, self.body, self.plan)
        if isinstance(made, list):
            events = [(f"data: {json.dumps(value)}\n\n".encode(), is_word) for value, is_word in made]
            return self._stream(events, "text/event-stream")
        return self._whole(json.dumps(made))

    def _whole(self, text: str, kind: str = "application/json") -> bool:
        data = text.encode()
        head = {"content-type": kind, "content-length": str(len(data)), **self.plan.headers}
        self._write(_head(self.plan.status, head))
        if self.plan.then != "end":
            self._write(data[: len(data) // 2])
            return self._then()
        self._write(data)
        self.served.finished = True
        return "content-length" in {name.lower() for name in head}

    def _stream(self, chunks: list[tuple[bytes, bool]], kind: str) -> bool:
        head = {"content-type": kind, "transfer-encoding": "chunked", **self.plan.headers}
        self._write(_head(200, head))
        for data, is_word in chunks:
            if is_word:
                if self.served.words_sent == self.plan.cut_after:
                    self._break()
                    return False
                if self.served.words_sent == self.plan.end_after:
                    break
                if self.served.words_sent == self.plan.mute_after:
                    self._wait(60)
                self._wait(self.plan.every_s)
            self._write(b"%x\r\n%s\r\n" % (len(data), data))
            self.served.words_sent += is_word
            if is_word and self.served.words_sent == 1 and self.plan.raw_event is not None:
                raw = self.plan.raw_event.encode()
                self._write(b"%x\r\n%s\r\n" % (len(raw), raw))
        if self.plan.then != "end":
            return self._then()
        self._write(b"0\r\n\r\n")
        self.served.finished = True
        return True

    def _events(self) -> list[tuple[Any, bool]]:
        is_chat = "messages" in self.body
        frame = {
            "id": "chatcmpl-fake",
            "object": "chat.completion.chunk" if is_chat else "text_completion",
            "created": 1,
            "model": "fake",
        }
        wants = bool((self.body.get("stream_options") or {}).get("include_usage"))
        extra = {"usage": None} if wants and self.plan.null_usage else {}

        def choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            said = {"delta": delta} if is_chat else {"text": delta.get("content", "")}
            return {**frame, "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": finish}], **extra}

        events: list[tuple[Any, bool]] = [(choice({"role": "assistant", "content": ""}), False)] if is_chat else []
        events += [(choice({"content": f"word{number} "}), True) for number in range(self.plan.words)]
        if self.plan.finish:
            events.append((choice({}, "stop"), False))
        if wants and self.plan.usage is not None:
            events.append(({**frame, "choices": [], "usage": self._usage()}, False))
        if self.plan.done:
            events.append(("data: [DONE]\n\n", False))
        return events

    def _sse(self, event: tuple[Any, bool]) -> tuple[bytes, bool]:
        value, is_word = event
        text = value if isinstance(value, str) else f"data: {json.dumps(value, separators=(',', ':'))}\n\n"
        return text.encode(), is_word

    def _completion(self) -> dict[str, Any]:
        text = "".join(f"word{number} " for number in range(self.plan.words))
        self.served.words_sent = self.plan.words
        said = {"message": {"role": "assistant", "content": text}} if "messages" in self.body else {"text": text}
        answer = {
            "id": "chatcmpl-fake",
            "object": "chat.completion" if "messages" in self.body else "text_completion",
            "created": 1,
            "model": "fake",
            "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": "stop"}],
        }
        return answer if self.plan.usage is None else answer | {"usage": self._usage()}

    def _usage(self) -> Any:
        if self.plan.usage != "right":
            return self.plan.usage
        prompt = len(_text(self.body).split())
        return {"prompt_tokens": prompt, "completion_tokens": self.plan.words, "total_tokens": prompt + self.plan.words}

    def _embeddings(self, path: str) -> dict[str, Any]:
        given = self.body.get("input", "")
        texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
        if path.endswith("/api/embed"):
            return {
                "model": self.body["model"],
                "embeddings": [[0.5, -0.25]] * len(texts),
                "prompt_eval_count": len(texts),
            }
        data = [{"object": "embedding", "index": index, "embedding": [0.5, -0.25]} for index in range(len(texts))]
        answer = {"object": "list", "data": data, "model": "fake"}
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return (
            answer
            if self.plan.usage is None
            else answer | {"usage": usage if self.plan.usage == "right" else self.plan.usage}
        )

    def _ollama(self, path: str) -> bool:
        if path.endswith("/api/tags"):
            return self._whole(json.dumps({"models": [{"name": name, "model": name} for name in self.server.models]}))

        def line(text: str, *, done: bool = False) -> dict[str, Any]:
            said = {"message": {"role": "assistant", "content": text}} if "/api/chat" in path else {"response": text}
            counts = {"done_reason": "stop", "prompt_eval_count": 7, "eval_count": self.plan.words} if done else {}
            if self.plan.usage is None:
                counts = {"done_reason": "stop"} if done else {}
            return {"model": self.body["model"], "created_at": "2026-11-21T00:00:00Z", **said, "done": done, **counts}

        words = [f"word{number} " for number in range(self.plan.words)]
        if not self.body.get("stream"):
            return self._whole(json.dumps(line("".join(words), done=True)))
        lines = [(line(word), True) for word in words] + ([(line("", done=True), False)] if self.plan.done else [])
        return self._stream(
            [(json.dumps(value).encode() + b"\n", is_word) for value, is_word in lines], "application/x-ndjson"
        )

    def _anthropic(self) -> bool:
        words, usage = [f"word{number} " for number in range(self.plan.words)], self.plan.usage
        if usage == "right":
            usage = {"input_tokens": len(_text(self.body).split()), "output_tokens": self.plan.words}
        if not self.body.get("stream"):
            return self._whole(json.dumps(anthropic.message(self.body["model"], words, usage)))
        events: list[tuple[Any, bool]] = []
        for value, is_word in anthropic.events(self.body["model"], words, usage, done=self.plan.done):
            events.append((f"event: {value['type']}\ndata: {json.dumps(value)}\n\n", is_word))
        return self._stream([self._sse(event) for event in events], "text/event-stream")

    def _write(self, data: bytes) -> None:
        if not self.plan.piece:
            self.peer.sendall(data)
            return
        for start in range(0, len(data), self.plan.piece):
            self.peer.sendall(data[start : start + self.plan.piece])
            self._wait(self.plan.piece_s)

    def _then(self) -> bool:
        """What a plan has in mind for an answer that is not whole yet."""
        if self.plan.then == "mute":
            self._wait(60)
        self._break()
        return False

    def _break(self) -> None:
        if self.plan.reset or self.plan.then == "reset":
            self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()

    def _wait(self, seconds: float) -> None:
        """Be silent, and notice at once when the peer leaves."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self.peer], [], [], min(left, 0.5))
            if ready and not self.peer.recv(1, socket.MSG_PEEK):
                self.served.peer_left_at = time.monotonic()
                raise _PeerLeft
            if ready:
                time.sleep(min(left, 0.01))


def _read(reader: Any) -> tuple[str, dict[str, str], dict[str, Any]] | None:
    start = reader.readline()
    if not start:
        return None
    headers = {}
    while line := reader.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body = reader.read(int(headers.get("content-length", 0)))
    path, kind = start.split()[1].decode(), headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        return path, headers, media.form_of(kind, body)
    return path, headers, json.loads(body) if body else {}


def _head(status: int, headers: dict[str, str]) -> bytes:
    return "".join(
        [f"HTTP/1.1 {status} Fake\r\n", *(f"{name}: {value}\r\n" for name, value in headers.items()), "\r\n"]
    ).encode()


def _text(body: dict[str, Any]) -> str:
    messages = body.get("messages")
    if messages is None:
        given = body.get("prompt", body.get("input", ""))
        return given if isinstance(given, str) else " ".join(str(part) for part in given)
    contents = [message.get("content") for message in messages]
    return " ".join(content if isinstance(content, str) else json.dumps(content) for content in contents if content)
