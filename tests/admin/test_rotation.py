"""Replacing the secret of a key, ending the time of former ones, and letting a revoked key work again."""

import re
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, RetiredSecret
from tests.admin.conftest import Browser, add_budget, add_key, add_user, row_of, rows_of
from tests.helpers import chat

SECRET = re.compile(r"sk-th-[0-9A-Za-z]{49}")
MARK = re.compile(r"secret=([0-9a-f]+)")


def make(app: Flask, **options: Any) -> tuple[int, str]:
    """A key of a new user, and its secret."""
    here = app.extensions["gateway"]
    user = add_user(app, "ana")
    with Session(here.engine) as session, session.begin():
        issued = here.keys.issue(session, user, "prod", **options)
    return issued.id, issued.secret


def status(app: Flask, secret: str) -> int:
    headers = {"Authorization": f"Bearer {secret}"}
    return app.test_client().post("/v1/chat/completions", json=chat("hello", "echo"), headers=headers).status_code


def rotate(browser: Browser, number: int, grace: str = "24") -> Any:
    """The page that a browser ends up with."""
    seen = browser.get(f"/admin/keys/rotate/?id={number}").text.split('name="seen" value="')[1].split('"')[0]
    answer = browser.post("/admin/keys/rotate/", {"id": number, "grace": grace, "seen": seen})
    return browser.get(answer.location) if answer.status_code == 303 else answer


def secret_in(page: Any) -> str:
    found = set(SECRET.findall(page.text))
    assert len(found) == 1
    return str(found.pop())


def retired(app: Flask) -> list[RetiredSecret]:
    with Session(app.extensions["gateway"].engine) as session:
        return list(session.scalars(select(RetiredSecret).order_by(RetiredSecret.expires_at)))


def test_a_rotated_key_opens_with_both_secrets_for_a_while(panel_anywhere: Flask) -> None:
    number, former = make(panel_anywhere)
    budget = add_budget(panel_anywhere, "key", number)
    browser = Browser(panel_anywhere, "admin")
    page = rotate(browser, number)
    assert "The new secret of prod" in page.text
    assert "The former secret goes on working" in page.text
    secret = secret_in(page)
    assert [status(panel_anywhere, one) for one in (former, secret)] == [200, 200]
    assert secret not in browser.get(f"/admin/keys/details/?id={number}").text
    (found,) = retired(panel_anywhere)
    assert timedelta(hours=23) < found.expires_at - datetime.now(UTC) <= timedelta(hours=24)
    entry = rows_of(panel_anywhere, AuditEntry)[-1]
    assert (entry.action, entry.resource_id, entry.details["grace_hours"]) == ("key_rotate", str(number), "24")
    assert entry.details["before"]["hint"] != entry.details["after"]["hint"]
    assert secret not in repr(entry.details)
    assert f"/admin/budgets/edit/?id={budget}" in browser.get(f"/admin/keys/details/?id={number}").text


def test_without_grace_every_former_secret_stops_at_once(panel_anywhere: Flask) -> None:
    number, first = make(panel_anywhere)
    browser = Browser(panel_anywhere, "admin")
    second, third = (secret_in(rotate(browser, number, grace)) for grace in ("24", "0"))
    assert [status(panel_anywhere, one) for one in (first, second, third)] == [401, 401, 200]
    assert retired(panel_anywhere) == []


def test_a_former_secret_can_be_ended(panel_anywhere: Flask) -> None:
    number, first = make(panel_anywhere)
    browser = Browser(panel_anywhere, "admin")
    second = secret_in(rotate(browser, number, "168"))
    third = secret_in(rotate(browser, number, "1"))
    page = browser.get(f"/admin/keys/details/?id={number}").text
    marks = MARK.findall(page)
    assert len(marks) == 2, "the one that ends first is the second secret"
    assert "goes on working" in browser.get(f"/admin/keys/end/?id={number}&secret={marks[0]}").text
    assert len(retired(panel_anywhere)) == 2
    answer = browser.post("/admin/keys/end/", {"id": number, "secret": marks[0]})
    assert answer.location == f"/admin/keys/details/?id={number}"
    assert [status(panel_anywhere, one) for one in (first, second, third)] == [200, 401, 200]
    assert rows_of(panel_anywhere, AuditEntry)[-1].action == "key_secret_end"
    assert browser.post("/admin/keys/end/", {"id": number, "secret": marks[0]}).status_code == 403
    for mark in ("", "%", "zz", "\0"):
        assert browser.post("/admin/keys/end/", {"id": number, "secret": mark}).status_code == 403, mark
    assert len(retired(panel_anywhere)) == 1


def test_a_secret_whose_time_is_over_is_not_shown(panel_admin: Browser) -> None:
    number, former = make(panel_admin.app)
    rotate(panel_admin, number, "1")
    with Session(panel_admin.gateway.engine) as session, session.begin():
        session.execute(update(RetiredSecret).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert "Former secret" not in panel_admin.get(f"/admin/keys/details/?id={number}").text
    assert status(panel_admin.app, former) == 401


def test_another_key_s_former_secret_is_out_of_reach(panel_admin: Browser) -> None:
    number, _former = make(panel_admin.app)
    rotate(panel_admin, number, "24")
    mark = retired(panel_admin.app)[0].digest[:12]
    other = add_key(panel_admin.app, 1, "other")
    assert panel_admin.post("/admin/keys/end/", {"id": other, "secret": mark}).status_code == 403
    assert len(retired(panel_admin.app)) == 1


def test_two_rotations_at_once_show_one_secret_that_opens(panel_anywhere: Flask) -> None:
    number, _former = make(panel_anywhere)
    browsers = [Browser(panel_anywhere, "admin") for _ in range(2)]
    pages = [browser.get(f"/admin/keys/rotate/?id={number}").text for browser in browsers]
    seen = pages[0].split('name="seen" value="')[1].split('"')[0]
    for browser in browsers:
        browser.token()
    start, answers = threading.Barrier(2), []

    def go(browser: Browser) -> None:
        form = {"id": number, "grace": "0", "seen": seen}
        start.wait()
        answers.append((browser, browser.post("/admin/keys/rotate/", form)))

    threads = [threading.Thread(target=go, args=(browser,)) for browser in browsers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    good = [(browser, answer) for browser, answer in answers if answer.status_code == 303]
    assert len(good) == 1, [answer.status_code for _browser, answer in answers]
    browser, answer = good[0]
    assert status(panel_anywhere, secret_in(browser.get(answer.location))) == 200


def test_what_a_key_cannot(panel_admin: Browser) -> None:
    environment = next(row.id for row in rows_of(panel_admin.app, ApiKey) if row.kind == "environment")
    number, _secret = make(panel_admin.app)
    assert panel_admin.post("/admin/keys/rotate/", {"id": environment, "grace": "24"}).status_code == 403
    assert panel_admin.post("/admin/keys/lift/", {"id": number}).status_code == 403
    assert panel_admin.post("/admin/keys/rotate/", {"id": number, "grace": "9999"}).status_code == 422
    assert panel_admin.post("/admin/keys/rotate/", {"id": number, "grace": "24", "seen": "old"}).status_code == 422
    assert retired(panel_admin.app) == []


def test_a_revoked_key_works_again_once_that_is_lifted(panel_anywhere: Flask) -> None:
    number, secret = make(panel_anywhere)
    browser = Browser(panel_anywhere, "admin")
    browser.post("/admin/keys/revoke/", {"id": number, "reason": "by mistake"})
    assert status(panel_anywhere, secret) == 401
    assert browser.get(f"/admin/keys/rotate/?id={number}").status_code == 200
    assert browser.post("/admin/keys/rotate/", {"id": number, "grace": "0"}).status_code == 403
    assert "work again?" in browser.get(f"/admin/keys/lift/?id={number}").text
    assert browser.post("/admin/keys/lift/", {"id": number}).status_code == 303
    assert status(panel_anywhere, secret) == 200
    row = row_of(panel_anywhere, ApiKey, number)
    assert (row.revoked_at, row.revoked_reason) == (None, None)
    entry = rows_of(panel_anywhere, AuditEntry)[-1]
    assert (entry.action, entry.details["before"]["revoked_reason"]) == ("key_lift", "by mistake")


@pytest.mark.parametrize("has_other", [True, False])
def test_a_user_has_one_default_key(panel_anywhere: Flask, has_other: bool) -> None:
    here = panel_anywhere.extensions["gateway"]
    number, _secret = make(panel_anywhere, kind="default")
    user = row_of(panel_anywhere, ApiKey, number).user_id
    browser = Browser(panel_anywhere, "admin")
    browser.post("/admin/keys/revoke/", {"id": number, "reason": ""})
    if has_other:
        with Session(here.engine) as session, session.begin():
            here.keys.issue(session, user, "default", kind="default")
    assert browser.post("/admin/keys/lift/", {"id": number}).status_code == (403 if has_other else 303)


def test_a_revoked_key_has_no_former_secrets_that_work(panel_app: Flask) -> None:
    number, _secret = make(panel_app)
    browser = Browser(panel_app, "admin")
    rotate(browser, number)
    assert "Former secrets that still work" in browser.get(f"/admin/keys/details/?id={number}").text
    browser.post("/admin/keys/revoke/", {"id": number, "reason": ""})
    assert "Former secrets that still work" not in browser.get(f"/admin/keys/details/?id={number}").text
