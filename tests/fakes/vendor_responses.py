"""The face of vendor_brains.py that speaks OpenAI's Responses API, apart from its other faces because it is long."""

import json
from typing import Any

from tests.fakes.vendor_brains import CACHED, Ask, Refusal, Said


class Responses:
    """OpenAI's Responses API, which is told to store nothing."""

    stream_kind = "text/event-stream"

    def read(self, path: str, body: Any) -> Ask:
        if body.get("store") is not False or body.get("previous_response_id"):
            raise Refusal(400, "the gateway keeps answers, not the vendor")
        ask = Ask(is_stream=body.get("stream") is True, system=body.get("instructions") or "")
        given = body["input"]
        for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
            content = item.get("content")
            text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())
            if item.get("role") == "user":
                ask.said = text
            elif item.get("role") in ("system", "developer"):
                ask.system = text
            elif item.get("type") == "function_call":
                ask.calls[item["call_id"]] = item["name"]
            elif item.get("type") == "function_call_output":
                ask.results[item["call_id"]] = item["output"]
        choice = body.get("tool_choice")
        if choice != "none":
            ask.tools = {tool["name"]: tool["parameters"] for tool in body.get("tools") or ()}
        ask.must_call = choice == "required"
        ask.only = choice["name"] if isinstance(choice, dict) else ""
        ask.schema = ((body.get("text") or {}).get("format") or {}).get("schema")
        return ask

    def whole(self, said: Said, body: Any) -> Any:
        return self._answer(said, body, self._items(said), "completed")

    def stream(self, said: Said, body: Any) -> list[bytes]:
        opened = self._answer(said, body, [], "in_progress")
        events = [{"type": f"response.{kind}", "response": opened} for kind in ("created", "in_progress")]
        for index, item in enumerate(self._items(said)):
            events += self._item_events(said, item, index)
        events.append({"type": "response.completed", "response": self.whole(said, body)})
        return [
            f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n".encode()
            for number, event in enumerate(events)
        ]

    def error(self, status: int, message: str) -> Any:
        kind = "rate_limit_error" if status == 429 else "invalid_request_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}

    def _items(self, said: Said) -> list[dict[str, Any]]:
        part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        message = {"id": "msg_x1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
        return (
            [message]
            if said.text
            else [
                {
                    "id": f"fc_{call.id}",
                    "type": "function_call",
                    "status": "completed",
                    "call_id": call.id,
                    "name": call.name,
                    "arguments": json.dumps(call.arguments),
                }
                for call in said.calls
            ]
        )

    def _item_events(self, said: Said, item: dict[str, Any], index: int) -> list[dict[str, Any]]:
        place: dict[str, Any] = {"item_id": item["id"], "output_index": index}
        empty = {"content": []} if item["type"] == "message" else {"arguments": ""}
        opened = {**item, **empty, "status": "in_progress"}
        events = [{"type": "response.output_item.added", "output_index": index, "item": opened}]
        if item["type"] == "message":
            place["content_index"] = 0
            part = item["content"][0]
            words = "response.output_text"
            events.append({"type": "response.content_part.added", **place, "part": {**part, "text": ""}})
            events += [{"type": f"{words}.delta", **place, "delta": word, "logprobs": []} for word in said.words]
            events.append({"type": f"{words}.done", **place, "text": said.text, "logprobs": []})
            events.append({"type": "response.content_part.done", **place, "part": part})
        else:
            arguments, calls = item["arguments"], "response.function_call_arguments"
            events += [{"type": f"{calls}.delta", **place, "delta": piece} for piece in (arguments[:5], arguments[5:])]
            events.append({"type": f"{calls}.done", **place, "name": item["name"], "arguments": arguments})
        return [*events, {"type": "response.output_item.done", "output_index": index, "item": item}]

    def _answer(self, said: Said, body: Any, output: list[Any], status: str) -> dict[str, Any]:
        usage = {
            "input_tokens": said.input_tokens,
            "input_tokens_details": {"cached_tokens": CACHED},
            "output_tokens": said.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 7},
            "total_tokens": said.input_tokens + said.output_tokens,
        }
        return {
            "id": "resp_x1",
            "object": "response",
            "created_at": 1_790_000_000,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "model": body["model"],
            "output": output,
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "temperature": 1.0,
            "text": body.get("text") or {"format": {"type": "text"}},
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": body.get("tools") or [],
            "top_p": 1.0,
            "usage": usage if status == "completed" else None,
            "metadata": {},
        }
