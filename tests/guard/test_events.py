"""What policies did, as events tell it."""

import pytest

from tests.guard.world import CARD, EMAIL, kinds, policy, post
from tests.helpers import add_model, add_provider, chat
from tests.management import ask

CHAT = "/v1/chat/completions"


@pytest.fixture
def ready(app, upstream):
    add_model(app, add_provider(app, upstream))
    return app


def events(app, **members):
    app.extensions["gateway"].refusals.flush()
    answer = ask(app, "POST", "/api/v2/events", {"start": 1, "end": 2**32, **members})
    assert answer.status_code == 200, answer.text
    return [(one["action"], one["policyId"], one["status"]) for one in answer.json["events"]]


def test_an_event_says_which_policy_did_what(ready):
    made = policy(ready, **kinds(email="allow_but_redact", credit_debit_number="block"))["id"]
    assert post(ready, CHAT, chat(f"write to {EMAIL}")).status_code == 200
    assert post(ready, CHAT, chat(f"pay with {CARD}")).status_code == 403
    assert post(ready, CHAT, chat("hello")).status_code == 200
    told = [("allowed", made, 200), ("blocked", made, 403), ("redacted", made, 200)]
    assert sorted(events(ready)) == told
    for action, *_rest in told:
        assert [one[0] for one in events(ready, actions=[action])] == [action]
    assert sorted(events(ready, policyIds=[made])) == told
    assert events(ready, policyIds=["00000000-0000-0000-0000-000000000000"]) == []
