"""Every member of every body of dialogs, agents and files with values that do not belong there."""

import json

import pytest

from services.dialects import dialogs_fields as fields
from tests.helpers import AUTH, with_upstream
from tests.routes.test_agents import AGENTS
from tests.routes.test_dialog_files import FILE, IMPORT
from tests.routes.test_dialogs import DIALOGS, make

VALUES = [
    *(None, True, 0, -1, 0.5, 2**31, 2**63, 2**64 - 1, 1e308, "", " ", "\0", "a\0b", "\u202ex", "\ufffe", "😀" * 64),
    *("x" * 300, "' OR 1=1 --", "%s%n", "{7*7}", "../../etc", [], [None], ["x"], {}, {"a": 1}, [[[[1]]]]),
]
RAW = [
    *(b"", b"null", b"[]", b'"x"', b"{", b"\xff\xfe", b'{"title": "\\ud800"}', b'{"content": "\\udfff"}', b"NaN"),
    *(b'{"a": ' * 120 + b"1" + b"}" * 120, b"[" * 50_000, b'{"title": 1e999}', b'\xef\xbb\xbf{"name": "x"}'),
]
UNKNOWN = {"id": "x", "user_id": 1, "is_preset": True, "message_count": 9, "busy_until": 1, "__proto__": {}}


@pytest.fixture
def places(app, upstream):
    """Where bodies go, with a good one for each."""
    with_upstream(app, upstream)
    dialog, client = make(app), app.test_client()
    mine = client.post(AGENTS, json={"name": "mine"}, headers=AUTH).json["id"]
    return client, [
        ("POST", DIALOGS, {"model_name": "fast"}, fields.DIALOG),
        ("PATCH", f"{DIALOGS}/{dialog}", {"title": "x"}, fields.RENAMED),
        ("POST", f"{DIALOGS}/{dialog}/messages", {"content": "hi"}, fields.MESSAGE),
        ("POST", f"{DIALOGS}/{dialog}/messages/sync", {"content": "hi"}, fields.MESSAGE),
        ("POST", AGENTS, {"name": "other"}, fields.AGENT),
        ("PATCH", f"{AGENTS}/{mine}", {"name": "mine"}, fields.AGENT),
    ]


def send(client, method, path, **body):
    answer = client.open(path, method=method, headers=AUTH, buffered=True, **body)
    assert answer.status_code < 500, (path, body, answer.text)
    if answer.status_code >= 400:
        assert answer.json.keys() - {"details"} == {"code", "message", "request_id"}
    return answer.status_code


def test_no_value_of_any_member_makes_the_gateway_fail(places):
    client, found = places
    for method, path, good, members in found:
        for name in members:
            for value in VALUES:
                send(client, method, path, json=good | {name: value})
        config = "config" if "config" in members else "agent_config"
        for name in (*fields.NAMED_CONFIG, "other"):
            for value in VALUES if config in members else ():
                send(client, method, path, json=good | {config: {name: value}})


def test_members_that_nobody_may_set_are_refused_everywhere(places):
    client, found = places
    for method, path, good, _members in found:
        for name, value in UNKNOWN.items():
            assert send(client, method, path, json=good | {name: value}) == 400, (path, name)


def test_bodies_that_are_no_objects_are_refused_everywhere(places):
    client, found = places
    for method, path in (*((method, path) for method, path, *_ in found), ("POST", IMPORT)):
        for raw in RAW:
            assert send(client, method, path, data=raw) == 400, (path, raw[:40])


def test_no_value_in_a_file_makes_the_gateway_fail(places):
    client, _found = places
    for value in VALUES:
        for name in (*FILE, "dialog_count", "message_count"):
            send(client, "POST", IMPORT, json=FILE | {name: value})
        for name in (*FILE["dialogs"][0], "user_id"):
            dialog = FILE["dialogs"][0] | {name: value}
            send(client, "POST", IMPORT, data=json.dumps({"dialogs": [dialog]}))
        for name in (*FILE["dialogs"][0]["messages"][1], "id", "number"):
            message = FILE["dialogs"][0]["messages"][1] | {name: value}
            send(client, "POST", IMPORT, data=json.dumps({"dialogs": [{"model_name": "x", "messages": [message]}]}))
