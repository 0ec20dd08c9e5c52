"""What Anthropic would say, for the fake provider: one word a token, usage in its two places."""

from typing import Any

WORDS = {"type": "text", "text": ""}


def message(model: str, words: list[str], usage: Any) -> dict[str, Any]:
    """A whole answer."""
    content = [{"type": "text", "text": "".join(words)}]
    return _frame(model, content, "end_turn") | ({} if usage is None else {"usage": usage})


def events(model: str, words: list[str], usage: Any, *, done: bool) -> list[tuple[dict[str, Any], bool]]:
    """The events of a stream, and which of them carry a word."""
    counts = usage if isinstance(usage, dict) else {}
    given = {name: count for name, count in counts.items() if name != "output_tokens"}
    opened = {"usage": given | {"output_tokens": 1}} if counts else {}
    said = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words
    ]
    ended: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    if counts:
        ended["usage"] = {"output_tokens": counts["output_tokens"]}
    return [
        ({"type": "message_start", "message": _frame(model, [], None) | opened}, False),
        ({"type": "content_block_start", "index": 0, "content_block": WORDS}, False),
        ({"type": "ping"}, False),
        *((event, True) for event in said),
        ({"type": "content_block_stop", "index": 0}, False),
        (ended, False),
        *([({"type": "message_stop"}, False)] if done else []),
    ]


def _frame(model: str, content: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
    return {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
    }
