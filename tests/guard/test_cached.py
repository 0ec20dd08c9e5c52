"""Policies before a cache: what was taken out of a request is never given to another caller."""

import pytest

from tests.guard.world import CARD, EMAIL, kinds, policy, post
from tests.helpers import add_model, add_provider, chat
from tests.management import ask

CHAT = "/v1/chat/completions"


@pytest.fixture
def cached(app, upstream):
    add_model(app, add_provider(app, upstream), routing={"cache_s": 60})
    return app


def told(answer):
    return answer.headers.get("x-gateway-cache")


def test_what_was_taken_out_of_a_request_is_in_no_kept_answer(cached, upstream):
    policy(cached, **kinds(email="allow_but_redact"))
    for who in (EMAIL, "rui.costa@example.com"):
        answer = post(cached, CHAT, chat(f"echo {who}"))
        assert (answer.status_code, told(answer)) == (200, "bypass")
    assert len(upstream.served) == 2
    plain = [told(post(cached, CHAT, chat("nobody's address"))) for _ in range(2)]
    assert plain == ["miss", "hit"], "where nothing was found, answers are kept"


def test_a_policy_that_blocks_stands_before_the_cache_and_a_changed_one_after_it(cached, upstream):
    assert told(post(cached, CHAT, chat(f"echo {CARD}"))) == "miss"
    assert told(post(cached, CHAT, chat(f"echo {CARD}"))) == "hit"
    made = policy(cached, **kinds(credit_debit_number="block"))
    assert post(cached, CHAT, chat(f"echo {CARD}")).status_code == 403
    assert told(post(cached, CHAT, chat("hello"))) == "miss"
    assert told(post(cached, CHAT, chat("hello"))) == "hit"
    changed = ask(cached, "PATCH", f"/api/policies/{made['id']}", kinds(email="block"))
    assert changed.status_code == 200, changed.text
    assert told(post(cached, CHAT, chat("hello"))) == "miss", "under other rules it may be another answer"
    assert len(upstream.served) == 3
