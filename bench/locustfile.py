"""A crowd of chats and streams by locust, for those who want its pages and graphs; bench.py measures more exactly.

How to install and run it stands in bench/README.md.
"""

import json
import time
from typing import Any

from locust import HttpUser, constant_throughput, events, task

END = "data: [DONE]"


@events.init_command_line_parser.add_listener
def _options(parser: Any) -> None:
    parser.add_argument("--key", env_var="TOLLHOUSE_API_KEY", is_secret=True, help="A key of the gateway.")
    parser.add_argument("--model", default="echo", help="The model to call; echo costs nothing.")


class Caller(HttpUser):
    """Sends one request a second: three chats to each stream, and now and then the list of models."""

    wait_time = constant_throughput(1)

    def on_start(self) -> None:
        """Every caller has the same key: limits of a key are part of what is tried."""
        self.headers = {"authorization": f"Bearer {self.environment.parsed_options.key}"}

    def body(self, *, stream: bool) -> dict[str, object]:
        """A chat with a short answer."""
        said = [{"role": "user", "content": "Count to ten."}]
        return {"model": self.environment.parsed_options.model, "messages": said, "stream": stream, "max_tokens": 64}

    @task(6)
    def chat(self) -> None:
        """A chat whose answer comes whole."""
        self.client.post("/v1/chat/completions", json=self.body(stream=False), headers=self.headers, name="chat")

    @task(2)
    def stream(self) -> None:
        """A chat in pieces: the time to the first word is a row of its own, and a stream without its end a failure."""
        started, last, is_first = time.perf_counter(), "", True
        asked = {"json": self.body(stream=True), "headers": self.headers, "name": "stream"}
        with self.client.post("/v1/chat/completions", stream=True, catch_response=True, **asked) as answer:
            for line in answer.iter_lines() if answer.status_code == 200 else ():
                last = line.decode() or last
                if is_first and content_of(last):
                    is_first = False
                    note_first_word((time.perf_counter() - started) * 1000)
            if last != END:
                answer.failure(f"status {answer.status_code}, the last line was {last[:80]!r}")

    @task(1)
    def models(self) -> None:
        """The list of models."""
        self.client.get("/v1/models", headers=self.headers, name="models")


def content_of(line: str) -> str:
    """The text of an event; empty where it has none."""
    if not line.startswith("data: {"):
        return ""
    choices = json.loads(line.removeprefix("data: ")).get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""


def note_first_word(milliseconds: float) -> None:
    """A row for the time to the first word."""
    events.request.fire(
        request_type="POST", name="stream: first word", response_time=milliseconds, response_length=0, exception=None
    )
