"""OpenAI's Responses API, as callers send it.

Answers are kept here and nowhere else: an upstream is sent the whole conversation and told to store nothing. So
`previous_response_id` works with every provider, and nobody's conversation is found by another user of the same
provider account.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from services.dialects import openai
from services.dialects import responses_fields as fields
from services.dialects.responses_fields import kind_of
from services.dialects.responses_input import EXTRA, SEALED, items_of, translate
from services.errors import NotFound
from services.types import Call, Caller, Chat, Demand, PublicModel, Reply
from utils import clock

NAME: Final = "responses"
ENCRYPTED: Final = "reasoning.encrypted_content"
CALLS: Final = frozenset({"function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"})
OWN: Final = frozenset({"tools", "text", "instructions", "reasoning", "store", "previous_response_id", "conversation"})


def call(operation: str, raw: bytes, caller: Caller, request_id: str) -> Call:
    """A call that begins now. Where it goes on from an earlier answer, `resolve` adds what was said before.

    Raises:
        InvalidRequest: naming the member that is wrong in `param`.
    """
    asked = openai.members(raw)
    fields.check(asked)
    given = items_of(asked.get("input"))
    head = {
        "id": f"resp_{request_id.removeprefix('req_')}",
        "previous_response_id": asked.get("previous_response_id"),
        "store": asked.get("store") is not False,
    }
    body, native_only, untranslated = translate(asked)
    return Call(
        id=request_id,
        operation=operation,
        body=body,
        caller=caller,
        started_ms=clock.now_ms(),
        started_s=clock.monotonic_s(),
        body_bytes=len(raw),
        is_stream=bool(asked.get("stream")),
        wants_usage=True,
        dialect=NAME,
        native=_upstream(asked),
        native_only=native_only,
        untranslated=untranslated,
        reply=Reply(head, given),
    )


def references(call: Call) -> list[str]:
    """The ids of items that the input names instead of repeating them."""
    given = call.reply.given if call.reply is not None else []
    return [item["id"] for item in given if kind_of(item) == "item_reference"]


def resolve(call: Call, past: Sequence[Chat], named: Mapping[str, Chat], stored_bytes: int) -> None:
    """Put what was said before, and the items that are named, into the request. `stored_bytes`: how much that is.

    Raises:
        NotFound: an item is named that nobody knows.
    """
    assert call.reply is not None  # noqa: S101 - made by `call` above
    assert call.native is not None  # noqa: S101 - made by `call` above
    items = []
    for index, item in enumerate(call.reply.given):
        is_name = kind_of(item) == "item_reference"
        if is_name and item["id"] not in named:
            raise NotFound(f"There is no item `{item['id']}`.", param=f"input.{index}.id")
        items.append(_again(named[item["id"]]) if is_name else item)
    call.reply.given = items
    whole = {**call.native, "input": [*map(_again, past), *items]}
    call.body, call.native_only, call.untranslated = translate(whole, past=len(past))
    call.native = _upstream(whole)
    call.body_bytes += stored_bytes


def demand(call: Call, model: PublicModel, default_output: int) -> Demand:
    """What the call may use at most: as the same chat, where it is one; nobody knows what a hosted tool will read."""
    found = openai.demand(call, model, default_output)
    if call.native_only is None:
        return found
    window = model.context_window
    return replace(found, input_tokens=window or found.input_tokens, is_bounded=window is not None)


def is_meant(body: Chat) -> bool:
    """Whether a body with `input` is a request of this API rather than one for embeddings."""
    given = body.get("input")
    is_items = isinstance(given, list) and bool(given) and all(isinstance(item, dict) for item in given)
    return is_items or not OWN.isdisjoint(body) or any(name.startswith("max_") for name in body)


def _upstream(asked: Chat) -> Chat:
    """The request for an upstream of the same dialect. It keeps nothing, so it finds no reasoning by its number."""
    native = {name: value for name, value in asked.items() if name != "previous_response_id"} | {"store": False}
    if isinstance(native.get("input"), list):
        native["input"] = [_foreign(item) for item in native["input"] if not _is_lost(item)]
    include = native.get("include") or []
    if native.get("reasoning") and ENCRYPTED not in include:
        native["include"] = [*include, ENCRYPTED]
    return native


def _foreign(item: Chat) -> Chat:
    """An item without what another provider wants back."""
    return {name: value for name, value in item.items() if name != EXTRA} if EXTRA in item else item


def _again(item: Chat) -> Chat:
    """An item that was answered or sent before, for an upstream that has kept nothing under its number."""
    if kind_of(item) not in CALLS:
        return item
    return {name: value for name, value in item.items() if name != "id"}


def _is_lost(item: Any) -> bool:
    """Reasoning that upstream cannot read: its number alone, or what another provider said."""
    sealed = item.get("encrypted_content")
    return kind_of(item) == "reasoning" and (not sealed or sealed.startswith(SEALED))
