"""Hostile bodies of Messages requests: an error in Anthropic's form or an answer, never a failure of ours."""

import json
import random

from tests.fuzz.test_bodies import RAW, _change
from tests.fuzz.test_streams import COUNT, SEED
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, rows, with_upstream

CACHE = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
TEXT = {"type": "text", "text": "one two"}
GOOD = {
    "model": "fast",
    "max_tokens": 50,
    "system": [{**TEXT, **CACHE}],
    "messages": [
        {"role": "user", "content": [TEXT, {"type": "image", "source": PNG}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                TEXT,
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}, "caller": {"type": "direct"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": [TEXT]},
                {"type": "document", "source": {"type": "content", "content": [TEXT]}, "title": "T"},
                {"type": "search_result", "title": "T", "source": "s", "content": [TEXT]},
                {"type": "mid_conv_system", "content": [TEXT]},
            ],
        },
        {"role": "system", "content": "Be kind."},
    ],
    "stop_sequences": ["x"],
    "temperature": 0.5,
    "top_k": 3,
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {"a": {}}}, **CACHE}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    "metadata": {"user_id": "u"},
    "service_tier": "auto",
}


def test_no_body_makes_the_gateway_fail(lite, upstream):
    with_upstream(lite, upstream)
    add_model(lite, add_provider(lite, upstream, "local", kind="ollama"), "local", upstream_model="tiny")
    client, engine = lite.test_client(), lite.extensions["gateway"].engine
    statuses = {}
    for seed in range(SEED, SEED + COUNT // 4):
        chance = random.Random(seed)
        data = _body(chance)
        path = chance.choice(("/v1/messages", "/v1/messages", "/v1/messages?beta=true", "/v1/messages/count_tokens"))
        response = client.post(path, data=data, headers=AUTH | {"content-type": "application/json"}, buffered=True)
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        where = f"seed {seed}: {data[:300]!r} gave {response.status_code} {response.data[:300]!r}"
        assert response.status_code in (200, 400, 404, 413, 502), where
        assert response.headers["request-id"].startswith("req_"), where
        if response.status_code != 200:
            assert response.json["type"] == "error", where
            assert set(response.json["error"]) == {"type", "message", "details"}, where
    assert statuses.get(200, 0) > COUNT / 60, statuses
    assert statuses.get(400, 0) > COUNT / 60, statuses
    assert len(rows(engine)) > 0
    assert_books_agree(engine)


def _body(chance: random.Random) -> bytes:
    if chance.random() < 0.1:
        return chance.choice(RAW)
    body = json.loads(json.dumps(GOOD))
    body["model"] = chance.choice(("fast", "fast", "local", "echo", "echo-tool-call"))
    if chance.random() < 0.3:
        body["stream"] = True
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        _change(chance, body)
    return json.dumps(body, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
