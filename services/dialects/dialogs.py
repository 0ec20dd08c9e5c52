"""The dialect of `/api/v1/dialogs`: a text in, small events with the words of the answer out.

The body of a call is one message; the rest of its dialog is put before it by services/turns.py. The last event of an
answer that ended well is not made here: it says what was booked and stored, which comes later.
"""

from typing import Any, Final

from services.dialects import dialogs_fields as fields
from services.dialects import openai, prompts
from services.errors import GatewayError, UpstreamError
from services.types import Call, Caller
from utils import clock, jsonx, sse

NAME: Final = "dialogs"


def call(operation: str, raw: bytes, caller: Caller, request_id: str) -> Call:
    """A call that begins now, with the message alone.

    Raises:
        InvalidRequest: naming the member that is wrong in `param`.
    """
    given = fields.read(fields.MESSAGE, openai.members(raw), ("content",))
    return Call(
        id=request_id,
        operation=operation,
        body={"messages": [{"role": "user", "content": given["content"]}]},
        caller=caller,
        started_ms=clock.now_ms(),
        started_s=clock.monotonic_s(),
        body_bytes=len(raw),
        dialect=NAME,
        native=given,
    )


def error_body(exc: GatewayError) -> dict[str, Any]:
    """What went wrong inside a stream, in words."""
    return {"error": str(exc), "done": True}


def error_event(exc: GatewayError) -> bytes:
    """The same as the last event."""
    return sse.format_event(error_body(exc))


def last_event(message_id: str, prompt_tokens: int | None, completion_tokens: int | None) -> bytes:
    """The end of an answer: where it is stored and what was used."""
    told = {"message_id": message_id, "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return sse.format_event({"content": "", "done": True, **told})


class Said:
    """See Translation: of one call, whose answer it remembers as far as it came."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        """What was answered; databases take no NUL."""
        return "".join(self._texts).replace("\0", "\ufffd")

    def answer(self, call: Call, body: bytes) -> bytes:
        """Nothing: the answer to the caller is made of the message that is stored.

        Raises:
            UpstreamError: there is no text.
        """
        self._texts = [prompts.text_of(body)]
        return b""

    def stream(self, call: Call) -> "Said":
        """Itself, for a stream that begins."""
        self._texts.clear()
        return self

    def feed(self, event: bytes) -> bytes:
        """See EventTranslator.feed."""
        payload = sse.data_of(event)
        if payload is None or payload.startswith(b"[DONE]"):
            return b""
        try:
            choices = jsonx.peek(payload).get("choices") or ()
            words = "".join(_words(choice.get("delta") or {}) for choice in choices)
        except (AttributeError, LookupError, TypeError, ValueError) as exc:
            raise UpstreamError("the upstream sent a malformed event") from exc
        if not words:
            return b""
        self._texts.append(words)
        return sse.format_event({"content": words, "done": False})

    def end(self) -> bytes:
        """See EventTranslator.end."""
        return b""


def _words(delta: dict[str, Any]) -> str:
    """What a piece of a stream says; words of a refusal count."""
    words = delta.get("content") or delta.get("refusal") or ""
    if isinstance(words, list):
        return "".join(part["text"] for part in words if part["type"] == "text")
    if not isinstance(words, str):
        raise TypeError
    return words
