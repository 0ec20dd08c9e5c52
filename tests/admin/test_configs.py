"""The page of configuration values: making, changing and deleting them; secrets are taken and never shown."""

import pytest
from flask import Flask

from models import AuditEntry, SystemConfig
from tests.admin.conftest import Browser, row_of, rows_of

SECRET = "hunter2-of-the-mail-server"
NEW, EDIT, DELETE = "/admin/configs/new/", "/admin/configs/edit/?id=mail.password", "/admin/configs/delete/"


@pytest.fixture
def admin(panel_app: Flask) -> Browser:
    return Browser(panel_app, "admin")


def test_an_empty_list_says_what_it_is_for(admin: Browser) -> None:
    page = admin.get("/admin/configs/").text
    assert "No value yet" in page
    assert "Add value" in page


def test_a_value_is_made_changed_and_deleted_after_asking(admin: Browser) -> None:
    done = admin.post(NEW, {"key": "mail.host", "value": "mx1", "description": "where mail goes"})
    assert (done.status_code, done.location) == (303, "/admin/configs/details/?id=mail.host")
    assert "mx1" in admin.get(done.location).text
    assert "mx1" in admin.get("/admin/configs/").text
    form = admin.get("/admin/configs/edit/?id=mail.host").text
    assert ">mx1</textarea>" in form.replace("\r", "").replace("\n", "")
    assert admin.post("/admin/configs/edit/?id=mail.host", {"value": "mx2", "description": ""}).status_code == 303
    row = row_of(admin.app, SystemConfig, "mail.host")
    assert (row.value, row.description, row.updated_by) == ("mx2", "", "admin")
    assert "Delete mail.host?" in admin.get(f"{DELETE}?id=mail.host").text
    assert row_of(admin.app, SystemConfig, "mail.host") is not None
    assert admin.post(DELETE, {"id": "mail.host"}).status_code == 303
    assert row_of(admin.app, SystemConfig, "mail.host") is None
    actions = [row.action for row in rows_of(admin.app, AuditEntry) if row.resource_type == "system"]
    assert actions == ["config_create", "config_update", "config_delete"]
    assert "mx1" not in repr([row.details for row in rows_of(admin.app, AuditEntry)])


def test_a_secret_is_never_sent_back_and_an_empty_edit_keeps_it(admin: Browser) -> None:
    sent = {"key": "mail.password", "secret": SECRET, "is_secret": "y"}
    assert admin.post(NEW, sent).status_code == 303
    sealer = admin.gateway.sealer
    for path in ("/admin/configs/", "/admin/configs/details/?id=mail.password", EDIT):
        page = admin.get(path)
        assert page.status_code == 200
        assert SECRET not in page.text
    assert "********" in admin.get("/admin/configs/").text
    assert admin.post(EDIT, {"secret": "", "is_secret": "y", "description": "for mail"}).status_code == 303
    row = row_of(admin.app, SystemConfig, "mail.password")
    assert (row.value, sealer.open(row.sealed), row.description) == (None, SECRET, "for mail")
    assert admin.post(EDIT, {"secret": "another one", "is_secret": "y"}).status_code == 303
    row = row_of(admin.app, SystemConfig, "mail.password")
    assert sealer.open(row.sealed) == "another one"
    refused = admin.post(EDIT, {"value": ""})
    assert (refused.status_code, "does not become readable" in refused.text) == (422, True)
    assert row_of(admin.app, SystemConfig, "mail.password").is_secret
    assert SECRET not in repr([entry.details for entry in rows_of(admin.app, AuditEntry)])


@pytest.mark.parametrize(
    "sent",
    [
        {"key": "a b", "value": "x"},
        {"key": "", "value": "x"},
        {"key": "k\0", "value": "x"},
        {"key": "k", "is_secret": "y"},
        {"key": "k", "value": "x" * 20_001},
        {"key": "k", "description": "x" * 501},
        {"key": "taken", "value": "x"},
    ],
)
def test_what_cannot_be_is_refused(admin: Browser, sent: dict[str, str]) -> None:
    admin.post(NEW, {"key": "taken", "value": "first"})
    assert admin.post(NEW, sent).status_code == 422
    assert row_of(admin.app, SystemConfig, "taken").value == "first"
    assert row_of(admin.app, SystemConfig, "k") is None


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"key": "portal.kyes", "value": "no"}, "is none of portal.keys, portal.keys.most,"),
        ({"key": "portal.keys", "value": "perhaps"}, "is yes or no"),
        ({"key": "portal.keys.most", "value": "-1"}, "is a whole number up to 99,999"),
        ({"key": "portal.keys.longest", "value": "long"}, "is a time, such as 90d or 12h"),
        ({"key": "portal.keys", "is_secret": "y", "secret": "no"}, "is false for values that the portal reads"),
    ],
)
def test_what_the_portal_could_not_read_is_refused(admin: Browser, sent: dict[str, str], said: str) -> None:
    refused = admin.post(NEW, sent)
    assert (refused.status_code, said in refused.text) == (422, True)
    assert row_of(admin.app, SystemConfig, sent["key"]) is None
    admin.post(NEW, {"key": "portal.keys", "value": "no"})
    assert admin.post("/admin/configs/edit/?id=portal.keys", {"value": "perhaps"}).status_code == 422
    assert row_of(admin.app, SystemConfig, "portal.keys").value == "no"


def test_an_edit_that_somebody_overtook_asks_again(admin: Browser) -> None:
    admin.post(NEW, {"key": "k", "value": "1"})
    stale = admin.post("/admin/configs/edit/?id=k", {"value": "2", "seen": "of-before"})
    assert (stale.status_code, row_of(admin.app, SystemConfig, "k").value) == (422, "1")
    for path in ("details", "edit", "delete"):
        assert admin.get(f"/admin/configs/{path}/?id=nothing").status_code == 404
