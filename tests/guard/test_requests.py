"""What policies do about requests: before anything is reserved, on every surface."""

import json

import pytest

from tests.guard.world import CARD, EMAIL, engine, kinds, policy, post
from tests.helpers import assert_books_agree, chat, last, open_holds, rows, with_upstream

BLOCK = kinds(credit_debit_number="block")
SAID = f"my card is {CARD}"
TOOL_RESULT = [
    {"role": "user", "content": "hi"},
    {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": SAID},
]
ARGUMENTS = [
    {"role": "user", "content": "hi"},
    {
        "role": "assistant",
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"n": int(CARD)})}}
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": "ok"},
]
CALLS = [
    ("/v1/chat/completions", {"messages": [{"role": "system", "content": SAID}, {"role": "user", "content": "hi"}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": SAID}]}]}),
    ("/v1/chat/completions", {"messages": TOOL_RESULT}),
    ("/v1/chat/completions", {"messages": ARGUMENTS}),
    ("/v1/completions", {"prompt": SAID}),
    ("/v1/completions", {"prompt": ["hi", SAID]}),
    ("/v1/embeddings", {"input": ["hi", SAID]}),
    ("/v1/messages", {"max_tokens": 9, "system": SAID, "messages": [{"role": "user", "content": "hi"}]}),
    ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "text", "text": SAID}]}]}),
    ("/v1/responses", {"input": SAID}),
    ("/v1/responses", {"input": "hi", "instructions": SAID}),
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": SAID}]}]}),
    ("/v1/moderations", {"input": SAID}),
    ("/v1/rerank", {"query": "hi", "documents": ["one", SAID]}),
    ("/api/providers/openai/v1/chat/completions", {"messages": [{"role": "user", "content": SAID}]}),
]


def test_a_request_that_is_blocked_goes_nowhere_and_costs_nothing(app, upstream):
    with_upstream(app, upstream)
    made = policy(app, **kinds(credit_debit_number="block"))
    answer = post(app, "/v1/chat/completions", chat(f"my card is {CARD}"))
    assert answer.status_code == 403
    assert answer.json["error"]["code"] == "policy_violation"
    assert "`cards`" in answer.json["error"]["message"]
    assert "`credit_debit_number`" in answer.json["error"]["message"]
    assert CARD not in answer.text
    assert made["id"] not in answer.text
    assert answer.headers["x-should-retry"] == "false"
    assert upstream.served == []
    assert rows(engine(app)) == []
    assert open_holds(engine(app)) == 0


def test_what_is_redacted_is_put_back(lite, upstream):
    with_upstream(lite, upstream)
    policy(lite, **kinds(email="allow_but_redact"))
    body = '{"choices":[{"index":0,"message":{"role":"assistant","content":"Written to [EMAIL_1]."},'
    upstream.will(body=body + '"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":4}}')
    answer = post(lite, "/v1/chat/completions", chat(f"Write to {EMAIL} and again {EMAIL}"))
    assert upstream.served[0].body["messages"][0]["content"] == "Write to [EMAIL_1] and again [EMAIL_1]"
    assert answer.json["choices"][0]["message"]["content"] == f"Written to {EMAIL}."
    row = last(engine(lite))
    assert (row.action, row.policy_id, row.outcome) == ("redacted", 1, "ok")


@pytest.mark.parametrize(
    ("path", "body"), CALLS, ids=[f"{number} {path}" for number, (path, _body) in enumerate(CALLS)]
)
def test_every_text_of_every_request_is_read(lite, upstream, path, body):
    with_upstream(lite, upstream)
    policy(lite, **BLOCK)
    answer = post(lite, path, {"model": "fast", **body})
    assert answer.status_code == 403, answer.text
    assert CARD not in answer.text
    assert upstream.served == []


def test_token_numbers_cannot_hide_a_text(lite, upstream):
    with_upstream(lite, upstream)
    policy(lite, **BLOCK)
    answer = post(lite, "/v1/completions", {"model": "fast", "prompt": [1, 2, 3]})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "prompt")


def test_a_dry_run_changes_nothing_and_is_noted(lite, upstream):
    with_upstream(lite, upstream)
    policy(
        lite,
        dryRun=True,
        appliesTo=["requests", "answers"],
        **kinds(credit_debit_number="block", email="allow_but_redact"),
    )
    answer = post(lite, "/v1/chat/completions", chat(f"{CARD} {EMAIL}"))
    assert answer.status_code == 200
    assert upstream.served[0].body["messages"][0]["content"] == f"{CARD} {EMAIL}"
    assert last(engine(lite)).action == "dry_block"


def test_of_several_policies_the_strictest_action_counts(lite, upstream):
    with_upstream(lite, upstream)
    policy(lite, name="warns", **kinds(email="allow_but_warn"))
    policy(lite, name="hides", **kinds(email="allow_but_redact"))
    answer = post(lite, "/v1/chat/completions", chat(EMAIL))
    assert upstream.served[0].body["messages"][0]["content"] == "[EMAIL_1]"
    assert answer.headers["x-gateway-policy-warning"] == "warns: email"
    row = last(engine(lite))
    assert (row.action, row.policy_id) == ("redacted", 2)
    policy(lite, name="blocks", **kinds(email="block"))
    assert post(lite, "/v1/chat/completions", chat(EMAIL)).status_code == 403


def test_placeholders_that_somebody_types_open_nothing(lite, upstream):
    with_upstream(lite, upstream)
    policy(lite, **kinds(email="allow_but_redact"))
    post(lite, "/v1/chat/completions", chat(f"[EMAIL_1] {EMAIL} [[EMAIL_1]]"))
    sent = upstream.served[0].body["messages"][0]["content"]
    assert sent == "[TEXT_1] [EMAIL_1] [[TEXT_1]]"


def test_the_size_of_a_request_has_a_rule(lite, upstream):
    with_upstream(lite, upstream)
    policy(lite, sizeConfig={"maxCharacters": 20, "action": "block"})
    assert post(lite, "/v1/chat/completions", chat("x" * 20)).status_code == 200
    answer = post(lite, "/v1/chat/completions", chat("x" * 21))
    assert answer.status_code == 403
    assert "`size`" in answer.json["error"]["message"]


def test_hostile_patterns_and_long_lines_take_no_time(lite, upstream):
    with_upstream(lite, upstream)
    policy(
        lite,
        regexConfig={"rules": [{"definition": "(a+)+$", "action": "allow_but_warn"}]},
        **kinds(all="allow_but_warn"),
    )
    answer = post(lite, "/v1/chat/completions", chat("a" * 1_000_000 + "!"))
    assert answer.status_code == 200
    assert "x-gateway-policy-warning" not in answer.headers


def test_a_refusal_is_kept_for_who_asks_why(lite, upstream):
    with_upstream(lite, upstream)
    policy(lite, **BLOCK)
    post(lite, "/v1/chat/completions", chat(SAID))
    lite.extensions["gateway"].refusals.flush()
    with engine(lite).connect() as connection:
        (row,) = connection.exec_driver_sql("SELECT kind, rule, code, message, details FROM refusals").all()
    assert row[:3] == ("policy", "policy 1", "policy_violation")
    assert CARD not in f"{row[3]}{row[4]}"


def test_a_whole_answer_that_is_withheld_is_booked(lite, upstream):
    with_upstream(lite, upstream)
    policy(lite, appliesTo=["answers"], **BLOCK)
    message = {"role": "assistant", "content": SAID}
    usage = {"prompt_tokens": 5, "completion_tokens": 4}
    upstream.will(body=json.dumps({"choices": [{"index": 0, "message": message}], "usage": usage}))
    answer = post(lite, "/v1/chat/completions", chat("hi"))
    assert answer.status_code == 403
    row = last(engine(lite))
    assert (row.outcome, row.action, row.state, row.output_tokens) == ("blocked", "blocked", "measured", 4)
    assert_books_agree(engine(lite))
