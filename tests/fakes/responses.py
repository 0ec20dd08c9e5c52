"""What the fake provider answers to `/responses`: words, or a call of the first function where none was called yet."""

import json
from typing import Any

RESPONSE_ID, MESSAGE_ID, CALL_ID = "resp_upstream", "msg_upstream", "fc_upstream"
ARGUMENTS = '{"city":"Rome"}'
INPUT_TOKENS = 40


def answer(body: dict[str, Any], plan: Any, status: str = "completed") -> dict[str, Any]:
    """The whole answer."""
    usage = plan.usage
    if usage == "right":
        usage = {
            "input_tokens": INPUT_TOKENS,
            "input_tokens_details": {"cached_tokens": 8},
            "output_tokens": plan.words,
            "output_tokens_details": {"reasoning_tokens": 1},
            "total_tokens": INPUT_TOKENS + plan.words,
        }
    return {
        "id": RESPONSE_ID,
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "model": body["model"],
        "output": [] if status == "in_progress" else [item(body, plan)],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": body.get("store", True),
        "temperature": 1.0,
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "usage": None if status == "in_progress" else usage,
        "metadata": {},
        "an_unknown_member": {"kept": True},
    }


def item(body: dict[str, Any], plan: Any) -> dict[str, Any]:
    """What the answer consists of."""
    given = body.get("input")
    is_called = isinstance(given, list) and any(part.get("type") == "function_call_output" for part in given)
    names = [tool["name"] for tool in body.get("tools") or () if tool["type"] == "function"]
    if names and not is_called:
        call = {"call_id": "call_upstream", "name": names[0], "arguments": ARGUMENTS, "status": "completed"}
        return {"id": CALL_ID, "type": "function_call", **call}
    part = {"type": "output_text", "text": words(plan), "annotations": [], "logprobs": []}
    return {"id": MESSAGE_ID, "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def words(plan: Any) -> str:
    return "".join(f"word{number} " for number in range(plan.words))


def events(body: dict[str, Any], plan: Any) -> list[tuple[str, bool]]:
    """The stream, each event with whether it is a word."""
    done = item(body, plan)
    told: list[tuple[dict[str, Any], bool]] = [
        ({"type": f"response.{kind}", "response": answer(body, plan, "in_progress")}, False)
        for kind in ("created", "in_progress")
    ]
    place = {"item_id": done["id"], "output_index": 0}
    if done["type"] == "message":
        text = {**place, "content_index": 0}
        empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        opened = done | {"status": "in_progress", "content": []}
        told.append(({"type": "response.output_item.added", "output_index": 0, "item": opened}, False))
        told.append(({"type": "response.content_part.added", **text, "part": empty}, False))
        for number in range(plan.words):
            delta = {"type": "response.output_text.delta", **text, "delta": f"word{number} ", "logprobs": []}
            told.append((delta, True))
        told.append(({"type": "response.output_text.done", **text, "text": words(plan), "logprobs": []}, False))
        told.append(({"type": "response.content_part.done", **text, "part": done["content"][0]}, False))
    else:
        opened = done | {"status": "in_progress", "arguments": ""}
        told.append(({"type": "response.output_item.added", "output_index": 0, "item": opened}, False))
        told.append(({"type": "response.function_call_arguments.delta", **place, "delta": ARGUMENTS}, True))
        told.append(({"type": "response.function_call_arguments.done", **place, "arguments": ARGUMENTS}, False))
    told.append(({"type": "response.output_item.done", "output_index": 0, "item": done}, False))
    if plan.finish:
        told.append(({"type": "response.completed", "response": answer(body, plan)}, False))
    return [
        (f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n", is_word)
        for number, (event, is_word) in enumerate(told)
    ]
