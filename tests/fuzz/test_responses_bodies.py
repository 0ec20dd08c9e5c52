"""Hostile bodies for `/v1/responses`: refused in its words or served, whatever is odd in them."""

import json
import random

from tests.fuzz.test_bodies import RAW, _change
from tests.fuzz.test_streams import COUNT, SEED
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree

GOOD = {
    "model": "fast",
    "instructions": "be brief",
    "input": [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "input_text", "text": "one"}, {"type": "input_image", "image_url": "x"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"}], "content": None},
        {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "r"}]},
        {"type": "custom_tool_call", "call_id": "b", "name": "g", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "y"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "two", "annotations": []}]},
        {"role": "user", "content": "three"},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}, {"type": "custom", "name": "g"}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"a": "b"},
    "include": ["reasoning.encrypted_content"],
    "max_output_tokens": 16,
    "temperature": 0.5,
    "stream": False,
    "store": True,
    "truncation": "auto",
    "user": "u",
    "top_logprobs": 2,
}


def test_no_body_makes_the_gateway_fail(lite, upstream):
    add_model(lite, add_provider(lite, upstream, "own", settings={"responses": True}), "own")
    add_model(lite, add_provider(lite, upstream), "fast")
    add_model(lite, add_provider(lite, upstream, "local", kind="ollama"), "local")
    client, statuses = lite.test_client(), {}
    for seed in range(SEED, SEED + COUNT // 5):
        chance = random.Random(seed)
        data = _body(chance)
        response = client.post("/v1/responses", data=data, headers=AUTH, buffered=True)
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        where = f"seed {seed}: {data[:600]!r} gave {response.status_code} {response.data[:300]!r}"
        assert response.status_code in (200, 400, 413, 502), where
        assert "gateway failed" not in response.text, where
        if response.status_code != 200:
            assert set(response.get_json()["error"]) == {"message", "type", "param", "code"}, where
    assert statuses[200] > COUNT / 100, statuses
    assert statuses[400] > COUNT / 50, statuses
    assert_books_agree(lite.extensions["gateway"].engine)


def _body(chance: random.Random) -> bytes:
    if chance.random() < 0.05:
        return chance.choice(RAW)
    body = json.loads(json.dumps(GOOD))
    body["model"] = chance.choice(("own", "fast", "local", "echo", "echo-tool-call"))
    body["stream"] = chance.random() < 0.3
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        _change(chance, body)
    return json.dumps(body, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
