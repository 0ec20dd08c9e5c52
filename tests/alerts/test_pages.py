"""The pages about alerts: a target is made, tested, given another secret and deleted; failures are sent again."""

import json
import re

import pytest
from flask import Flask

from models import AuditEntry
from models_alerts import AlertDelivery, AlertTarget
from services import alerts
from tests.admin.alerting import add_alert, add_target
from tests.admin.conftest import Browser, add_user, panel_anywhere, rows_of  # noqa: F401 - a fixture
from tests.alerts.conftest import deliveries, make_due
from tests.fakes.receiver import HANG, Receiver, answer

SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]{40,}")
TARGETS = "/admin/alert-targets"


@pytest.fixture
def browser(panel_anywhere: Flask) -> Browser:  # noqa: F811 - the fixture
    return Browser(panel_anywhere, "admin")


def test_a_target_is_made_tested_rotated_and_deleted(browser: Browser, receiver: Receiver) -> None:
    made = browser.post(
        f"{TARGETS}/new/", {"name": "ops", "kind": "webhook", "address": receiver.url, "is_enabled": "y"}
    )
    assert made.status_code == 303, made.text
    shown = browser.get(made.location)
    (secret,) = set(SECRET.findall(shown.text))
    assert SECRET.search(browser.get(made.location, follow_redirects=True).text) is None, "it is shown once"
    (row,) = rows_of(browser.app, AlertTarget)
    here = browser.gateway
    assert here.sealer.open(row.secret) == secret
    for page in ("", f"details/?id={row.id}", f"edit/?id={row.id}", "export.csv"):
        text = browser.get(f"{TARGETS}/{page}").text
        assert "s3cret" not in text
        assert secret not in text
    tested = browser.post(f"{TARGETS}/test/", {"id": row.id}, follow_redirects=True)
    assert "The test was taken: the answer was 204." in tested.text
    receiver.faults = [HANG, answer(302, location="https://elsewhere.test/x")]
    tested = browser.post(f"{TARGETS}/test/", {"id": row.id}, follow_redirects=True)
    assert "the receiver should answer at once" in tested.text
    tested = browser.post(f"{TARGETS}/test/", {"id": row.id}, follow_redirects=True)
    assert "redirects are not followed: enter the address where it ends" in tested.text
    assert len(rows_of(browser.app, AlertDelivery)) == 3
    rotated = browser.post(f"{TARGETS}/rotate/", {"id": row.id}, follow_redirects=True)
    assert set(SECRET.findall(rotated.text)) - {secret}
    edited = {"id": row.id, "name": "ops", "address": "", "events": ["key.expiring"]}
    assert browser.post(f"{TARGETS}/edit/", edited).status_code == 303
    (row,) = rows_of(browser.app, AlertTarget)
    assert (row.events, row.is_enabled) == (["key.expiring"], False)
    assert here.sealer.open(row.sealed_address) == receiver.url
    assert browser.post(f"{TARGETS}/delete/", {"id": row.id}).status_code == 303
    assert rows_of(browser.app, AlertTarget) == rows_of(browser.app, AlertDelivery) == []
    actions = [entry.action for entry in rows_of(browser.app, AuditEntry)]
    assert [one for one in actions if one.startswith("alert_target")] == [
        "alert_target_create", *["alert_target_test"] * 3, "alert_target_rotate", "alert_target_update",
        "alert_target_delete",
    ]  # fmt: skip
    assert secret not in str([entry.details for entry in rows_of(browser.app, AuditEntry)])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"address": "ftp://x.test"}, "Not a web address"),
        ({"address": "http://169.254.169.254/"}, "never called"),
        ({"kind": "email", "address": "nobody"}, "Not e-mail addresses"),
        ({"name": "taken"}, "There is a target of this name already."),
        ({"events": ["nothing"]}, "Not a valid choice"),
    ],
)
def test_what_cannot_be_is_said_at_the_form(browser: Browser, given: dict[str, object], why: str) -> None:
    good = {"name": "taken", "kind": "webhook", "address": "https://hooks.test/a", "is_enabled": "y"}
    assert browser.post(f"{TARGETS}/new/", good).status_code == 303
    answered = browser.post(f"{TARGETS}/new/", {**good, "name": "other", **given})
    assert answered.status_code == 422
    assert why in answered.text
    assert len(rows_of(browser.app, AlertTarget)) == 1


def test_what_failed_is_seen_and_sent_again(browser: Browser, receiver: Receiver) -> None:
    assert "Add target" in browser.get("/admin/alerts/").text
    here, target = browser.gateway, add_target(browser.app, "hook")
    alert = add_alert(browser.app, target, "user ana")
    add_alert(browser.app, target, "user bob", "sent", event="balance.exhausted")
    listed = browser.get("/admin/alerts/?state=failed").text
    assert "user ana" in listed
    assert "user bob" not in listed
    assert "user bob" in browser.get("/admin/alerts/?event=balance.exhausted&span=24h").text
    assert "Nothing matches" in browser.get("/admin/alerts/?state=nobody").text
    assert "Send again" in browser.get(f"/admin/alerts/details/?id={alert}").text
    sent = browser.post("/admin/alerts/again/", {"id": alert}, follow_redirects=True)
    assert "It is sent again in a moment." in sent.text
    assert (deliveries(browser.app)[0].state, deliveries(browser.app)[0].attempts) == ("waiting", 0)
    make_due(browser.app)
    assert here.alerts.post.send_all() == 1
    assert (
        "check the address, and that this host may reach it" in browser.get(f"/admin/alerts/details/?id={alert}").text
    )
    assert receiver.got == []


def test_auditors_look_and_change_nothing(browser: Browser) -> None:
    target = add_target(browser.app, "hook")
    alert = add_alert(browser.app, target)
    add_user(browser.app, "looker", role="auditor")
    looker = Browser(browser.app, "looker")
    page = looker.get(f"/admin/alerts/details/?id={alert}").text
    assert "Send again" not in page
    assert "Send a test" not in looker.get(f"{TARGETS}/details/?id={target}").text
    assert looker.post("/admin/alerts/again/", {"id": alert}).status_code == 403
    assert looker.post(f"{TARGETS}/test/", {"id": target}).status_code == 403
    assert looker.get(f"{TARGETS}/edit/?id={target}").status_code == 403


def test_commands_list_and_test(browser: Browser, receiver: Receiver) -> None:
    run = browser.app.test_cli_runner().invoke
    assert "Nothing was noticed yet" in run(args=["alerts", "list"]).output
    assert "There is no target" in run(args=["alerts", "targets"]).output
    sealed = browser.gateway.sealer.seal(receiver.url)
    target = add_target(browser.app, "hook", sealed_address=sealed, events=["key.expiring"])
    name = rows_of(browser.app, AlertTarget)[0].name
    assert re.search(rf"{name} +webhook +hook +key.expiring +yes", run(args=["alerts", "targets"]).output)
    assert "took it: the answer was 204." in run(args=["alerts", "test", name]).output
    receiver.faults = [answer(500)]
    failed = run(args=["alerts", "test", name])
    assert failed.exit_code != 0
    assert "the receiver failed" in failed.output
    assert run(args=["alerts", "test", "nobody"]).exit_code != 0
    add_alert(browser.app, target, "ana")
    listed = run(args=["alerts", "list", "--last", "1"]).output
    assert alerts.sentence("budget.warning", {"owner": "ana", "spent": "ana", "limit": "ana", "percent": 80}) in listed
    assert f"{name}: failed" in listed
    (told,) = json.loads(run(args=["alerts", "list", "--last", "1", "--json"]).output)
    assert (told["type"], told["deliveries"][0]["target"]) == ("budget.warning", name)
