"""What policies do about requests: before anything is reserved, on every surface."""

from tests.guard.world import CARD, EMAIL, engine, kinds, policy, post
from tests.helpers import chat, last, open_holds, rows, with_upstream


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
