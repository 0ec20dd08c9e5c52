"""A policy that loses what it was bound to, or gains it elsewhere, has changed."""

from tests.guard.world import policy
from tests.management import ask, audited, change, make


def view(app, made):
    return ask(app, "GET", f"/api/policies/{made['id']}").json


def updates(app):
    return [
        (one.resource_id, one.details["before"].get("boundTo"), one.details["after"].get("boundTo"))
        for one in audited(app, "policy")
        if one.action == "policy_update"
    ]


def bound_to(**ends):
    return {"keys": [], "users": [], "teams": [], "models": []} | ends


def test_what_another_policy_takes_is_a_change_of_the_one_that_had_it(app):
    key = make(app)["keyId"]
    old = policy(app, name="old", everyone=False, boundTo={"keys": [key]})
    policy(app, name="new", everyone=False, boundTo={"keys": [key]})
    assert (view(app, old)["version"], view(app, old)["boundTo"]) == (2, bound_to())
    assert updates(app) == [(old["id"], bound_to(keys=[key]), bound_to())]


def test_what_a_policy_has_already_is_taken_from_nobody(app):
    key = make(app)["keyId"]
    made = policy(app, everyone=False, boundTo={"keys": [key]})
    ask(app, "PATCH", f"/api/policies/{made['id']}", {"boundTo": {"keys": [key]}})
    assert view(app, made)["version"] == 2
    assert updates(app) == [(made["id"], None, None)]


def test_a_key_that_changes_its_policy_changes_both(app):
    old, new = policy(app, name="old", everyone=False), policy(app, name="new", everyone=False)
    key = make(app, policyId=old["id"])["keyId"]
    change(app, key, policyId=new["id"])
    change(app, key, policyId=new["id"])
    assert (view(app, old)["version"], view(app, new)["version"]) == (3, 2)
    change(app, key, policyId="")
    assert view(app, new)["version"] == 3
    with_it = bound_to(keys=[key])
    assert updates(app) == [
        (old["id"], bound_to(), with_it),
        (old["id"], with_it, bound_to()),
        (new["id"], bound_to(), with_it),
        (new["id"], with_it, bound_to()),
    ]
