"""Hostile request bodies: an answer in the caller's dialect, never a failure of ours, never a row without a call."""

import json
import random
from copy import deepcopy

from tests.fuzz.test_streams import COUNT, SEED
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, rows, with_upstream

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
ODD = [
    None,
    True,
    False,
    0,
    -1,
    2**63,
    10**400,
    1.5,
    -0.0,
    "",
    "\x00",
    "\ud800",
    "x" * 5000,
    [],
    {},
    [None],
    {"": None},
    [[[]]],
    "fast",
    "😀",
]
RAW = [
    b"",
    b"[",
    b"null",
    b"nan",
    b'{"model":NaN}',
    b'{"model":1e999}',
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"[" * 100_000,
    b'{"a":' * 5000,
]
GOOD = {
    "model": "fast",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "one two three"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "7"},
    ],
    "prompt": "one two",
    "input": ["one", "two"],
    "max_tokens": 5,
    "max_completion_tokens": 5,
    "n": 1,
    "stream": False,
    "stream_options": {"include_usage": True},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": "auto",
    "stop": ["x"],
    "temperature": 0.5,
    "logit_bias": {"1": 2},
    "response_format": {"type": "json_object"},
    "encoding_format": "float",
    "dimensions": 2,
    "user": "u",
    "metadata": {"a": "b"},
}


def test_no_body_makes_the_gateway_fail(lite, upstream):
    with_upstream(lite, upstream)
    add_model(lite, add_provider(lite, upstream, "local", kind="ollama"), "local", upstream_model="tiny")
    client, engine = lite.test_client(), lite.extensions["gateway"].engine
    statuses = {}
    for seed in range(SEED, SEED + COUNT // 3):
        chance = random.Random(seed)
        data = _body(chance)
        response = client.post(
            chance.choice(PATHS), data=data, headers=AUTH | {"content-type": "application/json"}, buffered=True
        )
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        where = f"seed {seed}: {data[:300]!r} gave {response.status_code} {response.data[:300]!r}"
        assert response.status_code in (200, 400, 413, 502), where
        assert response.headers["x-request-id"].startswith("req_"), where
        if response.status_code != 200:
            assert set(response.get_json()["error"]) >= {"message", "type", "param", "code"}, where
            assert "Traceback" not in response.text, where
    assert statuses.get(200, 0) > COUNT / 60, statuses
    assert statuses.get(400, 0) > COUNT / 30, statuses
    assert len(rows(engine)) >= statuses[200]
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
    text = json.dumps(body, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    if chance.random() < 0.1:
        where = chance.randrange(len(text))
        text = text[:where] + chance.randbytes(2) + text[where + chance.randrange(3) :]
    return text


def _change(chance: random.Random, value: object) -> None:
    """Put something odd somewhere in a nest of lists and objects."""
    while True:
        spots = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        if not spots:
            return
        name, inner = chance.choice(spots)
        if isinstance(inner, (dict, list)) and inner and chance.random() < 0.6:
            value = inner
            continue
        value[name] = deepcopy(chance.choice(ODD))
        return
