"""Policies that cannot be used are refused when they are stored; one that is stored all the same keeps its limits."""

import time

import pytest
from sqlalchemy.orm import Session

from models_policies import Policy
from services.guards import rules
from tests.guard.world import engine, kinds, policy, post
from tests.helpers import chat, last, with_upstream
from tests.management import ask

CHAT = "/v1/chat/completions"
LARGE = r"(\pL{100,900}|\d{1})z"
WORD = {"words": [{"name": "w", "definition": "\u202f", "action": "block"}]}


def pattern(*definitions):
    return {"regexConfig": {"rules": [{"definition": one, "action": "block"} for one in definitions]}}


def store(app, **columns):
    """A policy that no API would have taken."""
    with Session(engine(app)) as session, session.begin():
        session.add(Policy(name="old", is_for_all=True, rules=WORD, **columns))
    app.extensions["gateway"].catalog.refresh()


@pytest.mark.parametrize("word", ["  ", "\u202f", "\u200b", "\u2060\u00a0", "\ufe0f", "\u3164", "\t"])
def test_a_word_that_nobody_sees_is_refused(lite, word):
    body = {"name": "p", "wordConfig": {"rules": [{"definition": word, "action": "block"}]}}
    answer = ask(lite, "POST", "/api/policies", body)
    assert answer.status_code == 400, answer.text
    assert list(answer.json["errors"]) == ["wordConfig.rules.0.definition"]


def test_patterns_that_are_too_large_are_refused_at_once(lite):
    started = time.process_time()
    answer = ask(lite, "POST", "/api/policies", {"name": "p", **pattern(*[LARGE] * 100)})
    assert time.process_time() - started < 0.5
    assert answer.status_code == 400
    assert list(answer.json["errors"]) == ["regexConfig.rules.0.definition"]
    assert "too large" in answer.json["errors"]["regexConfig.rules.0.definition"]


def test_patterns_that_are_too_large_together_are_refused(lite):
    made = policy(lite, **pattern(r"\pL{60}0"))
    changes = pattern(*[rf"\pL{{60}}{count}" for count in range(100)])
    started = time.process_time()
    answer = ask(lite, "PATCH", f"/api/policies/{made['id']}", changes)
    assert time.process_time() - started < 0.5
    assert list(answer.json["errors"]) == ["regexConfig.rules.1.definition"]
    assert ask(lite, "GET", f"/api/policies/{made['id']}").json["version"] == 1


def test_the_largest_policy_is_stored_and_used_in_time(lite, upstream):
    with_upstream(lite, upstream)
    large = pattern(*[rf"\pL{{16}}{count}x" for count in range(5)])
    words = {"wordConfig": {"rules": [{"definition": f"secret plan {n}", "action": "block"} for n in range(100)]}}
    started = time.process_time()
    policy(lite, appliesTo=["requests", "answers"], **kinds(all="allow_but_warn"), **large, **words)
    assert post(lite, CHAT, chat("hello")).status_code == 200
    assert time.process_time() - started < 1.5
    assert post(lite, CHAT, chat("the Secret Plan 7.")).status_code == 403
    assert post(lite, CHAT, chat("the Secret Plan 700")).status_code == 200


def test_an_unreadable_policy_says_so(lite, upstream):
    with_upstream(lite, upstream)
    store(lite)
    answer = post(lite, CHAT, chat("hello"))
    assert answer.status_code == 403
    assert "cannot be read" in answer.json["error"]["message"]
    assert "found" not in answer.json["error"]["message"]
    assert upstream.served == []


@pytest.mark.parametrize("is_on", [{"on_requests": True}, {"on_requests": False, "on_answers": True}])
def test_an_unreadable_dry_run_changes_nothing(lite, upstream, is_on):
    with_upstream(lite, upstream)
    store(lite, is_dry_run=True, **is_on)
    assert post(lite, CHAT, chat("hello")).status_code == 200
    assert last(engine(lite)).action == "dry_block"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_unreadable_policy_of_answers_refuses_answers_alone(lite, upstream, is_streamed):
    with_upstream(lite, upstream)
    store(lite, on_requests=False, on_answers=True)
    answer = post(lite, CHAT, {**chat("hello"), "stream": is_streamed})
    assert "cannot be read" in answer.text
    assert len(upstream.served) == 1


def test_an_unreadable_policy_can_be_disabled(lite, upstream):
    with_upstream(lite, upstream)
    store(lite)
    (made,) = ask(lite, "GET", "/api/policies").json
    assert ask(lite, "PATCH", f"/api/policies/{made['id']}", {"enabled": False}).status_code == 200
    assert post(lite, CHAT, chat("hello")).status_code == 200


def test_a_rule_that_allows_takes_no_part():
    assert rules.scanners_of({"patterns": [{"name": "p", "definition": "a", "action": "allow"}]}) == {}
