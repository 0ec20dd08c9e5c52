"""Puts tool calls right that compatible servers send in pieces no client can put together.

Clients tell the pieces of several calls apart by `index` alone, which must be there, begin at 0 and stay with its call.
Servers are known to leave it out, to begin at 1, to give every call index 0, to repeat it within a chunk, to send
arguments as objects, and to send none at all where "{}" is meant. What is right passes untouched.
"""

from dataclasses import dataclass, field
from typing import Any

from utils import jsonx

Piece = dict[str, Any]


@dataclass(slots=True)
class _Choice:
    ids: list[str] = field(default_factory=list)  # by our index
    by_theirs: dict[int, int] = field(default_factory=dict)  # their index: ours, of the call that had it last
    is_empty: list[bool] = field(default_factory=list)  # by our index: no arguments came yet
    is_named: list[bool] = field(default_factory=list)  # by our index


class ToolCalls:
    """The calls of one stream. `name` makes ids for calls that have none."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._choices: dict[int, _Choice] = {}

    def mend(self, choice: dict[str, Any]) -> bool:
        """Put the pieces of a streamed choice right, in place; whether that changed anything."""
        delta = choice.get("delta") or {}
        pieces = delta.get("tool_calls")
        number = choice.get("index") or 0
        if not pieces and number not in self._choices:
            return False
        state = self._choices.setdefault(number, _Choice())
        is_changed = False
        if pieces:
            mended = self._mend_pieces(state, pieces, number)
            is_changed = mended != pieces
            delta["tool_calls"] = mended
        if choice.get("finish_reason") and (missing := [place for place, empty in enumerate(state.is_empty) if empty]):
            delta["tool_calls"] = _joined(
                [
                    *(delta.get("tool_calls") or ()),
                    *({"index": place, "function": {"arguments": "{}"}} for place in missing),
                ]
            )
            choice["delta"] = delta
            is_changed = True
        return is_changed

    def _mend_pieces(self, state: _Choice, pieces: list[Piece], number: int) -> list[Piece]:
        mended = []
        for piece in pieces:
            function = dict(piece.get("function") or {})
            if (arguments := function.get("arguments")) is not None and not isinstance(arguments, str):
                function["arguments"] = jsonx.dumps(arguments).decode()
            ours, is_new = self._place(state, piece, function)
            found = {**piece, "index": ours}
            if is_new:
                found |= {"id": state.ids[ours], "type": piece.get("type") or "function"}
            if function or "function" in piece:
                found["function"] = function
            state.is_empty[ours] = state.is_empty[ours] and not function.get("arguments")
            state.is_named[ours] = state.is_named[ours] or bool(function.get("name"))
            mended.append(found)
        return _joined(mended)

    def _place(self, state: _Choice, piece: Piece, function: dict[str, Any]) -> tuple[int, bool]:
        """Our index of the call that a piece belongs to, and whether it is a new one."""
        theirs, id_, begins = piece.get("index"), piece.get("id"), bool(function.get("name"))
        if id_ and id_ in state.ids:
            return state.ids.index(id_), False
        known = state.by_theirs.get(theirs) if theirs is not None else None
        if known is not None and not (begins and (state.is_named[known] or id_)):
            return known, False
        if not begins and not id_ and theirs is None and state.ids:
            return len(state.ids) - 1, False
        ours = len(state.ids)
        state.ids.append(id_ or f"call_{self._name}_{ours}")
        state.is_empty.append(piece.get("type", "function") == "function")
        state.is_named.append(False)
        if theirs is not None:
            state.by_theirs[theirs] = ours
        return ours, True


def _joined(pieces: list[Piece]) -> list[Piece]:
    """The pieces with one entry for each call."""
    found: dict[int, Piece] = {}
    for piece in pieces:
        first = found.get(piece["index"])
        if first is None:
            found[piece["index"]] = piece
            continue
        function = first.setdefault("function", {})
        more = piece.get("function") or {}
        function["arguments"] = (function.get("arguments") or "") + (more.get("arguments") or "")
        if more.get("name") and not function.get("name"):
            function["name"] = more["name"]
    return list(found.values())


def mend_message(message: dict[str, Any], name: str) -> bool:
    """Put the tool calls of a whole message right, in place; whether that changed anything."""
    is_changed = False
    for place, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function")
        if not call.get("id"):
            call["id"], is_changed = f"call_{name}_{place}", True
        if isinstance(function, dict) and not (isinstance(function.get("arguments"), str) and function["arguments"]):
            arguments = function.get("arguments")
            function["arguments"], is_changed = jsonx.dumps(arguments).decode() if arguments else "{}", True
    return is_changed
