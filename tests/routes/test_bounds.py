"""What hostile bodies, callers and upstreams can cost: the call is answered and booked, or refused in clear words."""

import json
import re

import pytest

from services import budgets
from services.audit import Actor
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, chat, last, rows, with_upstream

SECRET = "sk-upstream-very-secret"
DEAR = {"input_rate": 10_000_000_000, "output_rate": 60_000_000_000}


def post(app, body, path="/v1/chat/completions"):
    return app.test_client().post(path, json=body, headers=AUTH, buffered=True)


def engine(app):
    return app.extensions["gateway"].engine


def limit(app, amount, unit="usd"):
    budgets.put(engine(app), Actor("tests"), scope="user", owner="api-tokens", unit=unit, limit=amount, period="total")
    app.extensions["gateway"].catalog.refresh()


# Bodies


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("prompt", [" " * 1_200_000, "a" * 1_200_000], ids=["blanks", "one word"])
def test_a_prompt_of_a_million_characters_is_counted_and_booked(lite, upstream, prompt, is_stream):
    with_upstream(lite, upstream)
    upstream.will(usage=None)
    response = post(lite, chat(prompt, stream=is_stream))
    assert response.status_code == 200
    assert b"word4" in response.data
    (row,) = rows(engine(lite))
    assert (row.outcome, row.state) == ("ok", "estimated")
    assert 5_000 < row.input_tokens < 400_000
    assert_books_agree(engine(lite))


def test_each_text_of_an_embedding_has_a_window_of_its_own(lite, upstream):
    add_model(lite, add_provider(lite, upstream), context_window=100, price={**DEAR, "output_rate": 0})
    limit(lite, 250, "tokens")
    upstream.will(usage={"prompt_tokens": 200, "total_tokens": 200})
    texts = {"model": "fast", "input": ["a" * 300, "b" * 300]}
    assert post(lite, texts, "/v1/embeddings").status_code == 200
    (row,) = rows(engine(lite))
    assert (row.input_tokens, row.is_overrun) == (200, False)
    assert post(lite, texts, "/v1/embeddings").status_code == 402


@pytest.mark.parametrize("upstream_model", ["gpt2", "davinci", "code-davinci-002"])
def test_a_model_with_a_vocabulary_that_is_not_shipped_is_counted_all_the_same(lite, upstream, upstream_model):
    add_model(lite, add_provider(lite, upstream), upstream_model=upstream_model)
    upstream.will(usage=None)
    assert post(lite, chat("one two three")).status_code == 200
    assert (last(engine(lite)).state, last(engine(lite)).input_tokens) == ("estimated", 10)


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("names", "shown"),
    [
        pytest.param(["a\r\nset-cookie: b=c"], "a%0D%0Aset-cookie%3A%20b%3Dc", id="line break"),
        pytest.param(["a\x00b"], "a%00b", id="NUL"),
        pytest.param(["ключ"], "%D0%BA%D0%BB%D1%8E%D1%87", id="not ASCII"),
        pytest.param(["user", "logit_bias"], "logit_bias,user", id="ordinary"),
        pytest.param([f"name_{number:010}" for number in range(500)], None, id="many"),
        pytest.param(["é" * 5000], None, id="long"),
    ],
)
def test_names_of_dropped_parameters_are_quoted_and_few(lite, upstream, names, shown, is_stream):
    add_model(lite, add_provider(lite, upstream, kind="ollama"))
    values = {"user": "x", "logit_bias": {}}
    response = post(lite, chat(stream=is_stream, **{name: values.get(name, 1) for name in names}))
    told = response.headers["x-gateway-dropped-params"]
    assert response.status_code == 200
    assert told == shown if shown else 0 < len(told) <= 1000
    assert told.isascii()
    assert told.isprintable()
    assert "set-cookie" not in response.headers
    assert [row.outcome for row in rows(engine(lite))] == ["ok"]


@pytest.mark.parametrize(
    ("path", "body", "low", "high"),
    [
        pytest.param(
            "/v1/completions",
            {"model": "fast", "prompt": "word " * 5000, "messages": []},
            5000,
            5010,
            id="a completion with messages",
        ),
        pytest.param(
            "/v1/chat/completions",
            chat([{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}]),
            1000,
            1020,
            id="a picture",
        ),
        pytest.param(
            "/v1/chat/completions",
            chat([{"type": "input_audio", "input_audio": {"data": "UklGRiQA" * 20_000, "format": "wav"}}]),
            10_000,
            10_020,
            id="a sound",
        ),
        pytest.param("/v1/chat/completions", chat("data:" + " word" * 5000), 5000, 5020, id="a text like data"),
    ],
)
def test_what_no_provider_counted_is_counted_by_its_kind(lite, upstream, path, body, low, high):
    with_upstream(lite, upstream)
    upstream.will(usage=None)
    assert post(lite, body, path).status_code == 200
    row = last(engine(lite))
    assert row.state == "estimated"
    assert low <= row.input_tokens <= high


@pytest.mark.parametrize("unit", ["usd", "tokens"])
def test_a_demand_beyond_all_numbers_is_refused_like_any_other(app, upstream, unit):
    add_model(app, add_provider(app, upstream), price=DEAR)
    body = {"model": "fast", "prompt": ["x"] * 2048, "best_of": 128, "max_tokens": 2**31 - 1}
    limit(app, "5", unit)
    response = post(app, body, "/v1/completions")
    assert (response.status_code, response.json["error"]["code"]) == (402, "budget_exceeded")
    assert response.headers["x-should-retry"] == "false"
    assert (rows(engine(app)), upstream.served) == ([], [])
    assert_books_agree(engine(app))


@pytest.mark.parametrize("window", [1_000_000, None], ids=["wider", "unknown"])
def test_the_window_of_a_fallback_counts_for_what_is_held(lite, upstream, window):
    """The model itself takes 1,000 tokens; what its fallback takes must fit the budget too."""
    down, good = add_provider(lite, "http://127.0.0.1:1/v1", "down"), add_provider(lite, upstream, "good")
    add_model(lite, good, "big", price=DEAR, context_window=window)
    add_model(lite, down, "fast", fallbacks=["big"], context_window=1000)
    limit(lite, "0.02")
    response = post(lite, chat("word " * 20_000, max_tokens=10))
    assert (response.status_code, response.json["error"]["code"]) == (402, "budget_exceeded")
    assert (rows(engine(lite)), upstream.served) == ([], [])


def test_the_window_of_a_fallback_that_cannot_be_used_does_not_count(make_app, sqlite_database, upstream):
    app = make_app(sqlite_database, UNPRICED_POLICY="refuse")
    provider = add_provider(app, upstream)
    add_model(app, provider, "unpriced", price=None, context_window=1_000_000)
    add_model(app, provider, "off", price=DEAR, context_window=1_000_000, is_enabled=False)
    add_model(app, provider, "narrow", price=DEAR, context_window=500)
    fallbacks = ["unpriced", "off", "narrow", "missing"]
    add_model(app, provider, "fast", price=DEAR, fallbacks=fallbacks, context_window=1000)
    limit(app, "0.02")
    assert post(app, chat("word " * 20_000, max_tokens=10)).status_code == 200


# Upstreams


@pytest.mark.parametrize(
    ("reported", "state", "low", "high"),
    [
        pytest.param(1, "estimated", 30, 200, id="less than was delivered"),
        pytest.param(5000, "measured", 5000, 5000, id="more than was delivered"),
    ],
)
def test_a_stream_that_breaks_after_a_report_is_booked_with_the_larger_count(
    lite, upstream, reported, state, low, high
):
    with_upstream(lite, upstream)
    usage = {"prompt_tokens": 2, "completion_tokens": reported, "total_tokens": 2 + reported}
    upstream.will(words=50, cut_after=30, raw_event=f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n")
    assert b"word29" in post(lite, chat("hi", stream=True)).data
    row = last(engine(lite))
    assert (row.outcome, row.state, row.input_tokens) == ("upstream_cut", state, 2)
    assert low <= row.output_tokens <= high
    assert row.cost_nanousd == 2 * 150 + row.output_tokens * 600
    assert_books_agree(engine(lite))


def usage(given, output, total, reasoning=None):
    details = {} if reasoning is None else {"completion_tokens_details": {"reasoning_tokens": reasoning}}
    return {"prompt_tokens": given, "completion_tokens": output, "total_tokens": total, **details}


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("reported", "output"),
    [
        pytest.param(usage(32, 9, 135, 94), 103, id="left out of the output"),
        pytest.param(usage(32, 103, 135, 94), 103, id="part of the output"),
        pytest.param(usage(32, 9, 135), 103, id="only the total knows"),
        pytest.param(usage(32, 9, 135, 0), 103, id="only the total knows of more than none"),
        pytest.param(usage(32, 9, 135, 50), 9, id="a total that explains nothing"),
        pytest.param(usage(32, 9, 30, 94), 9, id="a total that is too small"),
        pytest.param(usage(32, 9, "135", 94), 9, id="a total that is none"),
    ],
)
def test_reasoning_is_charged_wherever_it_is_counted(lite, upstream, reported, output, is_stream):
    with_upstream(lite, upstream)
    upstream.will(usage=reported)
    assert post(lite, chat("hi", stream=is_stream)).status_code == 200
    row = last(engine(lite))
    assert (row.state, row.input_tokens, row.output_tokens) == ("measured", 32, output)
    assert row.cost_nanousd == 32 * 150 + output * 600


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("member", ["message", "type", "code", "param"])
@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_no_error_shows_the_credential_in_any_member(lite, upstream, status, member, is_stream):
    with_upstream(lite, upstream, credential=SECRET)
    error = json.dumps({"error": {"message": "no", "type": "x", member: f"bad key {SECRET} given"}})
    if is_stream and status == 200:
        upstream.will(raw_event=f"data: {error}\n\n")
    else:
        upstream.will(status=status, body=error)
    response = post(lite, chat(stream=is_stream))
    assert b"error" in response.data
    assert SECRET.encode() not in response.data
    assert SECRET not in str(list(response.headers))
    row = last(engine(lite))
    assert SECRET not in f"{row.error} {row.attempts} {row.outcome}"


@pytest.mark.parametrize(
    ("plan", "status", "after"),
    [
        pytest.param({"status": 429, "headers": {"retry-after": "9" * 5000}}, 429, "86400", id="endless digits"),
        pytest.param({"status": 503, "headers": {"retry-after": "9" * 5000}}, 503, "86400", id="likewise when busy"),
        pytest.param({"status": 429, "headers": {"retry-after": "-5"}}, 429, None, id="negative"),
        pytest.param({"status": 429, "headers": {"retry-after": "٣"}}, 429, None, id="a digit of another script"),
        pytest.param(
            {"status": 101, "headers": {"connection": "upgrade", "upgrade": "websocket"}}, 502, None, id="switching"
        ),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
def test_odd_heads_of_an_upstream_are_errors_of_the_upstream(lite, upstream, plan, status, after, is_stream):
    with_upstream(lite, upstream)
    upstream.will(**plan)
    response = post(lite, chat(stream=is_stream))
    assert (response.status_code, response.headers.get("retry-after")) == (status, after)
    assert response.json["error"]["message"]
    assert [row.state for row in rows(engine(lite))] == ["void"]
    assert_books_agree(engine(lite))


# What a call costs besides its tokens, or in a higher tier, is held before it is charged


def test_the_price_of_a_request_is_held_and_charged(app, upstream):
    price = {"input_rate": 1, "output_rate": 1, "request_nanousd": 1_000_000}
    add_model(app, add_provider(app, upstream), price=price)
    limit(app, "0.0025")
    assert [post(app, chat(max_tokens=5)).status_code for _ in range(3)] == [200, 200, 402]
    assert [row.cost_nanousd for row in rows(engine(app))] == [1_000_000, 1_000_000]
    assert_books_agree(engine(app))


def test_a_call_that_no_provider_took_is_not_charged_its_request(app, upstream):
    add_model(app, add_provider(app, upstream), price={"input_rate": 1, "output_rate": 1, "request_nanousd": 7})
    upstream.will(status=500)
    assert post(app, chat()).status_code == 502
    assert (last(engine(app)).state, last(engine(app)).cost_nanousd) == ("void", 0)
    assert_books_agree(engine(app))


def test_a_call_is_held_at_the_dearest_tier_that_it_can_reach(app, upstream):
    tiers = [{"above": 100, "input_rate": 10**12}]
    add_model(app, add_provider(app, upstream), price={"input_rate": 10**9, "output_rate": 0, "tiers": tiers})
    limit(app, "0.1")
    assert post(app, chat("hi", max_tokens=5)).status_code == 200
    refused = post(app, chat("h" * 200, max_tokens=5))
    assert refused.status_code == 402
    needed = re.search(r"needed \$0\.(\d)", json.loads(refused.data)["error"]["message"])
    assert needed is not None
    assert needed[1] in "23", "a dollar for every thousand tokens that its bytes may be"
    assert_books_agree(engine(app))
