"""`/api/v1/admin/config`: secrets are sealed, masked and never told; every change is in the audit log."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEntry, SystemConfig
from tests.audit.conftest import engine, noted, signed_in
from tests.callers import find

CONFIG = "/api/v1/admin/config"
SECRET = "hunter2-of-the-mail-server"
MASK = "********"


def ask(app, headers, method, path="", **body):
    return app.test_client().open(CONFIG + path, method=method, json=body or None, headers=headers)


def opened(app, key):
    row = find(app, SystemConfig, key)
    assert row.value is None
    return app.extensions["gateway"].sealer.open(row.sealed)


def test_a_value_lives_and_dies(app, admin):
    assert ask(app, admin, "GET").json == []
    made = ask(app, admin, "POST", key="mail.host", value="mx1", description="where mail goes")
    assert (made.status_code, made.json["value"], made.json["is_secret"]) == (201, "mx1", False)
    assert (made.json["description"], made.json["updated_by"]) == ("where mail goes", "admin")
    assert made.json.keys() == {*("key", "value", "is_secret", "description", "created_at", "updated_at", "updated_by")}
    again = ask(app, admin, "POST", key="mail.host", value="mx2")
    assert (again.status_code, again.json["code"]) == (409, "CONFLICT")
    changed = ask(app, admin, "PATCH", "/mail.host", value="mx2")
    assert (changed.json["value"], changed.json["description"]) == ("mx2", "where mail goes")
    assert changed.json["updated_at"] >= made.json["updated_at"]
    assert ask(app, admin, "GET", "/mail.host").json == changed.json
    assert ask(app, admin, "GET").json == [changed.json]
    assert ask(app, admin, "PUT", "/mail.host", value=None).json["value"] is None
    assert ask(app, admin, "DELETE", "/mail.host").status_code == 204
    assert [ask(app, admin, method, "/mail.host", value="x").status_code for method in ("GET", "PUT", "DELETE")] == [
        404
    ] * 3
    assert [entry.action for entry in noted(app, resource_type="system")] == [
        *("config_create", "config_update", "config_update", "config_delete")
    ]


def test_a_secret_is_sealed_masked_and_kept(app, admin):
    made = ask(app, admin, "POST", key="mail.password", value=SECRET, is_secret=True)
    assert (made.status_code, made.json["value"]) == (201, MASK)
    assert opened(app, "mail.password") == SECRET
    before = find(app, SystemConfig, "mail.password").sealed
    for empty in ("", None, MASK):
        kept = ask(app, admin, "PUT", "/mail.password", value=empty, description=f"for mail {empty}")
        assert (kept.status_code, kept.json["value"]) == (200, MASK)
    assert find(app, SystemConfig, "mail.password").sealed == before
    ask(app, admin, "PATCH", "/mail.password", description="for mail")
    assert find(app, SystemConfig, "mail.password").sealed == before
    assert ask(app, admin, "PUT", "/mail.password", value=f"{SECRET}-2").json["value"] == MASK
    assert opened(app, "mail.password") == f"{SECRET}-2"
    told = repr([(entry.details, entry.resource_id) for entry in noted(app)])
    assert SECRET not in told
    assert noted(app)[-1].details == {"before": {}, "after": {}, "value": "changed"}
    assert SECRET not in ask(app, admin, "GET").text
    ask(app, admin, "DELETE", "/mail.password")
    assert noted(app)[-1].details["before"] == {"key": "mail.password", "is_secret": True, "description": "for mail"}


def test_a_secret_does_not_become_readable(app, admin):
    ask(app, admin, "POST", key="k", value=SECRET, is_secret=True)
    for body in ({"is_secret": False}, {"is_secret": False, "value": ""}, {"is_secret": False, "value": MASK}):
        assert ask(app, admin, "PATCH", "/k", **body).status_code == 400
        assert opened(app, "k") == SECRET
    open_ = ask(app, admin, "PATCH", "/k", is_secret=False, value="for everybody")
    assert (open_.json["value"], open_.json["is_secret"]) == ("for everybody", False)
    assert find(app, SystemConfig, "k").sealed is None
    assert ask(app, admin, "PATCH", "/k", is_secret=True).json["value"] == MASK
    assert opened(app, "k") == "for everybody"
    assert noted(app)[-1].details["value"] == "sealed"


def test_nothing_changed_is_no_entry(app, admin):
    ask(app, admin, "POST", key="k", value="v", description="d")
    before = len(noted(app))
    assert ask(app, admin, "PUT", "/k", value="v", description="d", is_secret=False, key="k").status_code == 200
    assert len(noted(app)) == before
    with Session(engine(app)) as session:
        assert session.scalars(select(AuditEntry).where(AuditEntry.action == "config_create")).one().details == {
            "after": {"key": "k", "is_secret": False, "description": "d"},
            "value": "set",
        }


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"key": ""},
        {"key": "a b", "value": "x"},
        {"key": "../x", "value": "x"},
        {"key": "x" * 101, "value": "x"},
        {"key": "x\n", "value": "x"},
        {"key": 1, "value": "x"},
        {"key": "x", "value": 1},
        {"key": "x", "value": "x" * 20_001},
        {"key": "x", "value": "\0"},
        {"key": "x", "is_secret": "yes"},
        {"key": "x", "is_secret": True},
        {"key": "x", "is_secret": True, "value": MASK},
        {"key": "x", "description": "x" * 501},
        {"key": "x", "description": None},
        {"key": "x", "updated_by": "somebody else"},
    ],
)
def test_what_cannot_be_is_refused(lite, admin_of_lite, body):
    answer = lite.test_client().post(CONFIG, json=body, headers=admin_of_lite)
    assert (answer.status_code, answer.json["code"]) == (400, "VALIDATION_ERROR")
    assert ask(lite, admin_of_lite, "GET").json == []


@pytest.fixture
def admin_of_lite(lite):
    return signed_in(lite)


def test_a_key_stays_what_it_is(lite, admin_of_lite):
    ask(lite, admin_of_lite, "POST", key="k", value="v")
    assert ask(lite, admin_of_lite, "PUT", "/k", key="other").status_code == 400
    assert ask(lite, admin_of_lite, "GET", "/no%20such%20key").status_code == 404
