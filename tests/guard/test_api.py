"""Policies as the management API takes and shows them, and who has which."""

import threading

import pytest

from tests.callers import bearer
from tests.guard.world import CARD, EMAIL, kinds, policy, post
from tests.helpers import AUTH, chat, with_upstream
from tests.management import ask, audited, change, make, refused, seen

CHAT = "/v1/chat/completions"


def test_the_form_of_the_other_gateway(app):
    body = {
        "name": "p",
        "tags": ["support", "eu"],
        "config": {"rules": {"address": "allow", "email": "allow_but_redact", "pin": "block", "all": "allow_but_warn"}},
        "regexConfig": {"rules": [{"definition": "PRJ-[0-9]{4}", "action": "block"}]},
        "customConfig": {"rules": [{"definition": "Texts about weapons.", "action": "block"}]},
    }
    made = ask(app, "POST", "/api/policies", body)
    assert made.status_code == 200, made.text
    view = made.json
    assert {name: view[name] for name in ("name", "tags", "config")} == {
        name: body[name] for name in ("name", "tags", "config")
    }
    assert view["regexConfig"]["rules"] == [{**body["regexConfig"]["rules"][0], "name": "pattern_1"}]
    assert view["customConfig"]["rules"] == [{**body["customConfig"]["rules"][0], "name": "judge_1"}]
    assert (view["everyone"], view["enabled"], view["appliesTo"], view["version"]) == (False, True, ["requests"], 1)
    found = ask(app, "GET", "/api/policies?tags=eu&tags=support").json
    assert [one["id"] for one in found] == [view["id"]]
    assert ask(app, "GET", "/api/policies?tags=eu&tags=other").json == []
    patched = ask(app, "PATCH", f"/api/policies/{view['id']}", {"tags": ["eu"], "config": {"rules": {}}})
    assert (patched.json["tags"], patched.json["config"], patched.json["version"]) == (["eu"], {"rules": {}}, 2)
    assert patched.json["regexConfig"] == view["regexConfig"]
    assert ask(app, "DELETE", f"/api/policies/{view['id']}").status_code == 200
    refused(ask(app, "GET", f"/api/policies/{view['id']}"), 404, "/errors/policy-not-found")
    actions = ["policy_create", "policy_update", "policy_delete"]
    assert [entry.action for entry in audited(app, "policy")] == actions


@pytest.mark.parametrize(
    ("member", "value", "place"),
    [
        ("config", {"rules": {"nonsense": "block"}}, "config.rules.nonsense"),
        ("config", {"rules": {"email": "mask"}}, "config.rules.email"),
        ("regexConfig", {"rules": [{"definition": "(", "action": "block"}]}, "regexConfig.rules.0.definition"),
        ("regexConfig", {"rules": [{"definition": r"(a)\1", "action": "block"}]}, "regexConfig.rules.0.definition"),
        ("regexConfig", {"rules": [{"definition": "a*", "action": "block"}]}, "regexConfig.rules.0.definition"),
        ("regexConfig", {"rules": [{"definition": "a"}]}, "regexConfig.rules.0.action"),
        ("wordConfig", {"rules": [{"definition": "", "action": "block"}]}, "wordConfig.rules.0.definition"),
        ("customConfig", {"rules": [{"definition": "x", "action": "allow_but_redact"}]}, "customConfig.rules.0.action"),
        ("sizeConfig", {"maxCharacters": -1}, "sizeConfig.maxCharacters"),
        (
            "regexConfig",
            {"rules": [{"name": "email", "definition": "a", "action": "block"}]},
            "regexConfig.rules.0.name",
        ),
        ("appliesTo", [], "appliesTo"),
        ("everyone", "yes", "everyone"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(lite, member, value, place):
    answer = ask(lite, "POST", "/api/policies", {"name": "p", member: value})
    assert answer.status_code == 400, answer.text
    assert list(answer.json["errors"]) == [place]


def test_a_key_has_a_policy_until_it_is_taken_away(app, upstream):
    with_upstream(app, upstream)
    made = policy(app, everyone=False, **kinds(credit_debit_number="block"))
    key = make(app, policyId=made["id"])
    assert key["policyId"] == made["id"]
    assert ask(app, "GET", f"/api/policies/{made['id']}").json["boundTo"]["keys"] == [key["keyId"]]
    asked = chat(f"card {CARD}")
    assert post(app, CHAT, asked, bearer(key["key"])).status_code == 403
    assert post(app, CHAT, asked, AUTH).status_code == 200  # another key
    change(app, key["keyId"], policyId="")
    assert seen(app, key["keyId"])["policyId"] == ""
    assert post(app, CHAT, asked, bearer(key["key"])).status_code == 200
    change(app, key["keyId"], policyId=made["id"])
    ask(app, "DELETE", f"/api/policies/{made['id']}")
    assert seen(app, key["keyId"])["policyId"] == ""
    assert post(app, CHAT, asked, bearer(key["key"])).status_code == 200


def test_a_policy_names_what_it_is_bound_to(app, upstream):
    with_upstream(app, upstream)
    made = policy(app, everyone=False, boundTo={"models": ["fast"]}, **kinds(credit_debit_number="block"))
    assert made["boundTo"] == {"users": [], "keys": [], "teams": [], "models": ["fast"]}
    assert post(app, CHAT, chat(CARD)).status_code == 403
    moved = policy(app, everyone=False, boundTo={"models": ["fast"]})
    assert ask(app, "GET", f"/api/policies/{made['id']}").json["boundTo"]["models"] == []
    assert post(app, CHAT, chat(CARD)).status_code == 200
    answer = ask(app, "PATCH", f"/api/policies/{moved['id']}", {"boundTo": {"teams": ["nobody"]}})
    assert list(answer.json["errors"]) == ["boundTo.teams"]


def test_the_surface_of_the_other_gateway_says_what_its_clients_know(lite, upstream):
    with_upstream(lite, upstream)
    policy(lite, **kinds(credit_debit_number="block"))
    answer = post(lite, "/api/providers/openai/v1/chat/completions", chat(CARD))
    assert (answer.status_code, answer.json["error"]["message"]) == (403, "[BricksLLM] request blocked")
    assert answer.json["error"]["code"] == 403


def test_of_two_who_change_a_policy_the_second_is_told(app):
    made = policy(app)
    barrier, found = threading.Barrier(4), []

    def edit(word):
        barrier.wait()
        body = {"name": word, "version": made["version"]}
        found.append(ask(app, "PATCH", f"/api/policies/{made['id']}", body).status_code)

    threads = [threading.Thread(target=edit, args=(f"name {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200, 409, 409, 409]
    assert ask(app, "GET", f"/api/policies/{made['id']}").json["version"] == 2


def test_a_change_reaches_the_next_call(lite, upstream):
    with_upstream(lite, upstream)
    made = policy(lite, **kinds(email="block"))
    assert post(lite, CHAT, chat(EMAIL)).status_code == 403
    ask(lite, "PATCH", f"/api/policies/{made['id']}", kinds(email="allow_but_warn"))
    answer = post(lite, CHAT, chat(EMAIL))
    assert (answer.status_code, answer.headers["x-gateway-policy-warning"]) == (200, "cards: email")
    ask(lite, "PATCH", f"/api/policies/{made['id']}", {"enabled": False})
    assert "x-gateway-policy-warning" not in post(lite, CHAT, chat(EMAIL)).headers


def test_what_is_deleted_leaves_no_binding(app):
    made = policy(app, everyone=False)
    key = make(app, policyId=made["id"])
    ask(app, "DELETE", f"/api/key-management/keys/{key['keyId']}")
    assert ask(app, "GET", f"/api/policies/{made['id']}").json["boundTo"]["keys"] == []
