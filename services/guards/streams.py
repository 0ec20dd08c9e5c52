"""The texts of a streamed answer, put together across its events and rewritten on the way.

What a wire hands on are events of four shapes: chunks of the hub (`choices`), Anthropic's blocks, the Responses API's
and its relatives' deltas, and others. In each a text grows piece by piece at a place of its own (a choice and a member
of its delta, a block, an item); each place has one rewriter. What it holds back is told before the event that ends
the place. Texts that come whole, such as those that repeat an answer at its end, are rewritten as wholes.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final, Protocol

from services.errors import UpstreamError
from services.guards import texts
from services.guards.texts import SKIPPED
from services.providers.base import SHAPE_ERRORS, StreamDecoder
from services.types import Call, Usage
from utils import jsonx, sse

BLANK: Final = b"\n\n"
BLOCK_ENDS: Final = "content_block_stop"
BLOCK_GROWS: Final = "content_block_delta"
DELTA: Final = ".delta"
DONE: Final = ".done"
ANSWER_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
PLACES: Final = ("output_index", "item_id", "content_index", "summary_index")  # what tells texts of one type apart
JSON: Final = frozenset({"arguments", "partial_json"})  # texts that are JSON, at the end of a place
JSON_ENDS: Final = "_arguments"  # … and of a type
AT_ONCE: Final = frozenset({"annotations", "reasoning_details", "thinking_blocks"})  # members that come whole
DELTAS: Final = {"text": "text_delta", "partial_json": "input_json_delta", "thinking": "thinking_delta"}
THOUGHTS: Final = frozenset({"reasoning", "reasoning_content"})

Place = tuple[Any, ...]


class Growing(Protocol):
    """A text that comes in pieces, see services/policies/rewrite.py."""

    def feed(self, piece: str) -> str: ...  # noqa: D102 - a protocol says only the shape
    def end(self) -> str: ...  # noqa: D102 - the same


class Answer(Protocol):
    """What is done about the texts of an answer, see services/guards/guard.py."""

    def whole(self, text: str) -> str: ...  # noqa: D102 - a protocol says only the shape
    def growing(self) -> Growing: ...  # noqa: D102 - the same
    def said(self, value: Any) -> Any: ...  # noqa: D102 - the same


class Kept:
    """A text that is JSON, such as what a tool is called with: nobody can use a part of it, so its end tells it."""

    def __init__(self, whole: Callable[[str], str]) -> None:
        self._whole, self._pieces = whole, list[str]()

    def feed(self, piece: str) -> str:
        """Nothing yet."""
        self._pieces.append(piece)
        return ""

    def end(self) -> str:
        """All of it."""
        return texts.within("".join(self._pieces), self._whole)


class Watched:
    """A wire's decoder whose events have been looked at; see StreamDecoder."""

    def __init__(self, decoder: StreamDecoder, call: Call, answer: Answer) -> None:
        self._decoder, self._call, self._answer = decoder, call, answer
        self._open: dict[Place, Growing] = {}
        self._told: dict[Place, dict[str, Any]] = {}  # the last event of a place of the Responses API
        self._added = 0  # events of our own, which move the numbers of those after them

    @property
    def usage(self) -> Usage | None:
        """See StreamDecoder."""
        return self._decoder.usage

    @property
    def is_done(self) -> bool:
        """See StreamDecoder."""
        return self._decoder.is_done

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See StreamDecoder.feed."""
        for joined in self._decoder.feed(data):
            yield from self._events(joined)

    def end(self) -> Iterator[bytes]:
        """See StreamDecoder.end."""
        for joined in self._decoder.end():
            yield from self._events(joined)

    def _events(self, joined: bytes) -> Iterator[bytes]:
        """Each of the events that a wire handed on at once."""
        if not joined:
            return
        splitter = sse.EventSplitter()
        for event in (*splitter.feed(joined), *splitter.end()):
            yield self._event(event)

    def _event(self, event: bytes) -> bytes:
        payload = sse.data_of(event)
        if payload is None or payload.strip() == b"[DONE]":
            return event
        try:
            told = jsonx.peek(payload)
            if isinstance(told.get("choices"), list):
                return sse.format_event(self._chunk(told))
            kind = str(told.get("type"))
            if kind.startswith("content_block_"):
                return b"".join(map(_named, self._block(kind, told)))
            return b"".join(map(_named if event.startswith(b"event:") else sse.format_event, self._typed(kind, told)))
        except SHAPE_ERRORS as exc:
            raise UpstreamError("the upstream sent a malformed event") from exc

    # Chunks of the hub

    def _chunk(self, chunk: dict[str, Any]) -> dict[str, Any]:
        choices = []
        for choice in chunk["choices"]:
            place = ("choice", choice.get("index") or 0)
            said = {name: None if name == "logprobs" else member for name, member in choice.items()}  # they spell it
            grown = self._grow(said, place)
            if (delta := choice.get("delta")) and delta.get("content"):  # who thinks has thought by then
                for name in THOUGHTS:
                    for path, text in self._close((*place, "delta", name)):
                        _put(grown, ("delta", name, *path), text)
            if choice.get("finish_reason"):
                for path, text in self._close(place):
                    _put(grown, path, text)
            choices.append(grown)
        return {**chunk, "choices": choices}

    def _grow(self, value: Any, place: Place) -> Any:
        """The value with each of its texts fed to the rewriter of its place."""
        if isinstance(value, dict):
            return {
                name: member
                if name in SKIPPED
                else texts.rewritten(member, self._answer.whole)
                if name in AT_ONCE
                else self._grow(member, (*place, name))
                for name, member in value.items()
            }
        if isinstance(value, list):
            return [
                self._grow(one, (*place, one.get("index", at) if isinstance(one, dict) else at))
                for at, one in enumerate(value)
            ]
        return self._feed(place, value) if isinstance(value, str) else value

    # Anthropic's blocks

    def _block(self, kind: str, told: dict[str, Any]) -> list[dict[str, Any]]:
        place = ("block", told["index"])
        if kind == BLOCK_GROWS:
            return [{**told, "delta": self._of_block(told["delta"], place)}]
        if kind == BLOCK_ENDS:
            return [
                {"type": BLOCK_GROWS, "index": told["index"], "delta": {"type": DELTAS[path[0]], path[0]: text}}
                for path, text in self._close(place)
                if path[0] in DELTAS
            ] + [told]
        return [{**told, "content_block": self._of_block(told["content_block"], place)}]

    def _of_block(self, value: dict[str, Any], place: Place) -> dict[str, Any]:
        grown = {name: self._feed((*place, name), value[name]) for name in DELTAS if isinstance(value.get(name), str)}
        others = {name: member for name, member in value.items() if name not in grown}
        return {**value, **texts.rewritten(others, self._answer.whole), **grown}

    # The Responses API and its relatives

    def _typed(self, kind: str, told: dict[str, Any]) -> list[dict[str, Any]]:
        stem, _dot, _end = kind.rpartition(".")
        place = (stem, *(told.get(name) for name in PLACES))
        found: list[dict[str, Any]] = []
        if kind.endswith(DELTA) and isinstance(told.get("delta"), str):
            grown = {**told, "delta": self._feed(place, told["delta"], is_json=stem.endswith(JSON_ENDS))}
            self._told[place] = grown
            found = [grown | ({"logprobs": []} if "logprobs" in told else {})]
        else:
            if kind.endswith(DONE):
                last = self._told.pop(place, None)
                found = [{**(last or {}), "delta": text} for _path, text in self._close(place)]
            found.append(self._repeated(kind, told))
        return self._renumbered(found)

    def _repeated(self, kind: str, told: dict[str, Any]) -> dict[str, Any]:
        """An event whose texts are whole; what ends an answer is what is kept of it."""
        new: dict[str, Any] = self._answer.said(told)
        if kind in ANSWER_ENDS and self._call.reply is not None:
            self._call.reply.whole = new["response"]
        return new

    def _renumbered(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The events with their numbers one after the other."""
        if "sequence_number" not in events[-1]:
            return events
        first = events[-1]["sequence_number"] + self._added
        self._added += len(events) - 1
        if self._call.reply is not None:
            self._call.reply.next_number += len(events) - 1
        return [{**event, "sequence_number": first + at} for at, event in enumerate(events)]

    # Places

    def _feed(self, place: Place, piece: str, *, is_json: bool = False) -> str:
        known = self._open.get(place)
        if known is None:
            is_json = is_json or place[-1] in JSON
            known = self._open[place] = Kept(self._answer.whole) if is_json else self._answer.growing()
        return known.feed(piece)

    def _close(self, place: Place) -> Iterator[tuple[Place, str]]:
        """What is held back at a place and below it, by the path from there; the place is over."""
        for path in [path for path in self._open if path[: len(place)] == place]:
            if text := self._open.pop(path).end():
                yield path[len(place) :], text


def _named(told: dict[str, Any]) -> bytes:
    return f"event: {told['type']}\n".encode() + sse.format_event(told)


def _put(holder: Any, path: Place, text: str) -> None:
    """Add a text to the member at the end of a path; what is missing on the way is made."""
    for name, below in pairwise(path):
        if isinstance(holder, list):
            found = next((one for one in holder if one.get("index") == name), None)
            if found is None:
                holder.append(found := {"index": name})
        else:
            found = holder.get(name)
            if found is None:
                found = holder[name] = [] if isinstance(below, int) else {}
        holder = found
    last = path[-1]
    holder[last] = (holder.get(last) or "") + text
