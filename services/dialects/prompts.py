"""The dialect of `POST /api/call`: one prompt in, one text out, as clients of a small gateway know it."""

from typing import Any, Final, NoReturn

from services.dialects import openai
from services.errors import GatewayError, InvalidRequest, Unsupported, UpstreamError
from services.types import CHAT, Call, Caller
from utils import clock, jsonx, sse

NAME: Final = "prompts"
KEY: Final = "user_api_key"  # in the body, where no header has one
MAX_TOKENS: Final = 100  # what those clients get who do not say
TEMPERATURE: Final = 0.7
REQUIRED: Final = ("model_name", "prompt")


def call(operation: str, raw: bytes, caller: Caller, request_id: str) -> Call:
    """A call that begins now. Members that nobody knows are left out.

    Raises:
        InvalidRequest: naming the member that is wrong in `param`.
    """
    given = openai.members(raw)
    for name in REQUIRED:
        if not isinstance(given.get(name), str) or not given[name].strip():
            raise InvalidRequest(f"`{name}` must be a non-empty string.", param=name)
    body = {
        "model": given["model_name"],
        "messages": [{"role": "user", "content": given["prompt"]}],
        "max_tokens": MAX_TOKENS if given.get("max_tokens") is None else given["max_tokens"],
        "temperature": TEMPERATURE if given.get("temperature") is None else given["temperature"],
    }
    for name in ("max_tokens", "temperature"):
        if (problem := openai.FIELDS[CHAT][name](body[name])) is not None:
            raise InvalidRequest(f"`{name}` {problem}.", param=name)
    return Call(
        id=request_id,
        operation=operation,
        body=body,
        caller=caller,
        started_ms=clock.now_ms(),
        started_s=clock.monotonic_s(),
        body_bytes=len(raw),
        dialect=NAME,
        native=given,
    )


def error_body(exc: GatewayError) -> dict[str, Any]:
    """An error as these clients expect it."""
    return {"detail": str(exc)}


def error_event(exc: GatewayError) -> bytes:
    """The same as an event, which no answer of this dialect has."""
    return sse.format_event(error_body(exc))


class ToText:
    """See Translation."""

    def answer(self, call: Call, body: bytes) -> bytes:
        """The text of a whole answer, or the words in which it was refused.

        Raises:
            UpstreamError: there is none.
        """
        return jsonx.dumps({"response": text_of(body)})

    def stream(self, call: Call) -> NoReturn:
        """Nothing asks for it.

        Raises:
            Unsupported: always.
        """
        raise Unsupported("This path does not stream.", param="stream")


def text_of(body: bytes) -> str:
    """The text of a hub's whole answer, or the words in which it was refused.

    Raises:
        UpstreamError: there is none.
    """
    try:
        message = jsonx.peek(body)["choices"][0]["message"]
        text = message.get("content") or message.get("refusal") or ""
        if isinstance(text, list):
            text = "".join(part["text"] for part in text if part["type"] == "text")
    except (AttributeError, LookupError, TypeError, ValueError) as exc:
        raise UpstreamError("the upstream answered with JSON that is no completion") from exc
    if not isinstance(text, str):
        raise UpstreamError("the upstream answered with something else than a text")
    return text
