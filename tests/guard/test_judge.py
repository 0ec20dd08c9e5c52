"""Rules about which a model is asked: a call of the same caller, with an answer or without one."""

import json

import pytest

from tests.guard.world import EMAIL, engine, kinds, policy, post
from tests.helpers import add_model, add_provider, assert_books_agree, chat, last, rows, with_upstream

CHAT = "/v1/chat/completions"
RULE = {"definition": "Nothing about weapons.", "action": "block", "model": "judge"}


def verdict(word):
    message = {"role": "assistant", "content": word}
    usage = {"prompt_tokens": 20, "completion_tokens": 1}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})


@pytest.fixture
def app(lite, upstream):
    with_upstream(lite, upstream)
    add_model(lite, add_provider(lite, upstream, "judges"), "judge", upstream_model="gpt-4o")
    yield lite
    assert_books_agree(engine(lite))


def test_a_judge_lets_through_or_not_and_is_paid_for(app, upstream):
    policy(app, customConfig={"rules": [RULE]}, **kinds(email="allow_but_redact"))
    upstream.will(body=verdict("KEEPS"))
    assert post(app, CHAT, chat(f"flowers for {EMAIL}")).status_code == 200
    asked = upstream.served[0]
    assert asked.body["model"] == "gpt-4o"
    assert RULE["definition"] in asked.body["messages"][0]["content"]
    assert "flowers for [EMAIL_1]" in asked.body["messages"][1]["content"]
    question, call = rows(engine(app))
    assert (question.model, question.custom_id, question.user_id) == ("judge", call.request_id, call.user_id)
    assert question.cost_nanousd > 0
    upstream.will(body=verdict("BREAKS"))
    answer = post(app, CHAT, chat("guns"))
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "policy_violation")
    assert len(upstream.served) == 3
    assert last(engine(app)).model == "judge"


@pytest.mark.parametrize("broken", [{"status": 500}, {"body": verdict("Perhaps.")}, {"status": 0}, {"body": "{}"}])
@pytest.mark.parametrize(("failure", "status"), [("block", 403), ("allow", 200)])
def test_a_judge_that_is_down_fails_as_the_policy_says(app, upstream, broken, failure, status):
    policy(app, customConfig={"rules": [RULE]}, onJudgeFailure=failure)
    upstream.will(**broken)
    answer = post(app, CHAT, chat("flowers"))
    assert answer.status_code == status
    assert ("could not judge" in answer.text) is (status == 403)


def test_a_judge_that_is_slow_is_not_waited_for(make_app, sqlite_database, upstream):
    slow = make_app(sqlite_database, POLICY_JUDGE_TIMEOUT="1", POLICY_JUDGE_MODEL="fast")
    with_upstream(slow, upstream)
    policy(slow, customConfig={"rules": [{"definition": "x", "action": "block"}]}, onJudgeFailure="allow")
    upstream.will(first_s=3, body=verdict("KEEPS"))
    assert post(slow, CHAT, chat("flowers")).status_code == 200
    first, second = rows(engine(slow))
    assert first.outcome == "upstream_timeout"
    assert second.duration_ms < 3000
