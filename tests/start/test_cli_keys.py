"""`flask keys …` and `flask usage` as an operator uses them, on both databases."""

import json

import pytest

import config as settings
from tests.callers import bearer
from tests.helpers import chat


@pytest.fixture
def command(app):
    """Gives exit status and text."""

    def run(*arguments, given=None):
        result = app.test_cli_runner().invoke(args=[str(one) for one in arguments], input=given)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


@pytest.fixture
def owner(command):
    assert command("users", "create", "ana", given="a good password\n")[0] == 0
    return "ana"


def call(app, secret, model="echo"):
    app.extensions["gateway"].catalog.refresh()
    return app.test_client().post("/v1/chat/completions", json=chat(model=model), headers=bearer(secret)).status_code


def test_a_key_is_made_used_rotated_and_revoked(app, command, owner):
    status, secret = command(
        "keys", "create", "robot", "--user", owner, "--model", "echo", "--ttl", "90d", "--usd", "5"
    )
    assert status == 0
    secret = secret.strip()
    assert call(app, secret) == 200
    assert call(app, secret, "echo-json") == 403
    (made,) = json.loads(command("keys", "list", "--user", owner, "--json")[1])
    assert (made["name"], made["userId"], made["costLimitInUsd"], made["revoked"]) == ("robot", owner, 5, False)
    assert secret not in repr(made)
    listed = command("keys", "list")[1]
    assert listed.splitlines()[0].split() == ["KEY", "NAME", "USER", "STATE", "UUID"]
    assert made["keyId"] in listed
    status, text = command("keys", "rotate", made["keyId"], "--json")
    newer = json.loads(text)["key"]
    assert status == 0
    assert newer != secret
    assert (call(app, secret), call(app, newer)) == (401, 200)
    status, text = command("keys", "revoke", made["keyId"], "--reason", "left")
    assert (status, "robot" in text) == (0, True)
    assert call(app, newer) == 401
    assert "revoked" in command("keys", "list")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "robot", "--user", "nobody"), "nobody"),
        (("create", "robot", "--user", "ana", "--usd", "much"), "costLimitInUsd must be a number"),
        (("create", "robot", "--user", "ana", "--ttl", "soon"), "ttl"),
        (("rotate", "4711"), "There is no key `4711`."),
        (("rotate", "4711", "--grace", "long"), "4711"),
        (("revoke", "sk-th-none"), "There is no key"),
        (("list", "--user", ""), "userId"),
    ],
)
def test_what_cannot_be_is_said(command, owner, arguments, words):
    status, text = command("keys", *arguments)
    assert (status, words in text) == (settings.EXIT_BAD_CONFIG, True), text
    assert "Traceback" not in text


def test_usage_is_added_up_by_what_one_asks_for(app, command, owner):
    secret = command("keys", "create", "robot", "--user", owner)[1].strip()
    assert [call(app, secret) for _ in range(3)] == [200] * 3
    for by, name in (("model", "echo"), ("provider", "echo"), ("user", owner), ("key", "robot")):
        (row,) = json.loads(command("usage", "--by", by, "--json")[1])
        assert row[by].startswith(name)
        assert (row["calls"], row["failed"], row["cost_usd"]) == (3, 0, "0")
        assert row["input_tokens"] > 0
    days = json.loads(command("usage", "--by", "day", "--days", "3", "--json")[1])
    assert [row["calls"] for row in days] == [0, 0, 3]
    shown = command("usage")[1].splitlines()
    assert shown[0].split() == ["MODEL", "CALLS", "FAILED", "INPUT", "OUTPUT", "COST"]
    assert shown[1].split()[:2] == ["echo", "3"]
    assert shown[-1].split()[:3] == ["in", "all", "3"]
    assert (
        command("keys", "revoke", json.loads(command("keys", "list", "--user", owner, "--json")[1])[0]["keyId"])[0] == 0
    )


def test_without_calls_the_sums_are_nothing(command):
    assert json.loads(command("usage", "--json")[1]) == []
    assert command("usage")[1].splitlines()[-1].split() == ["in", "all", "0", "0", "0", "0", "$0.00"]
