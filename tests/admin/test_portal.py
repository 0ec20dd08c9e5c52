"""The portal on both databases: what people see of themselves, what they do, and that nobody sees anybody else's."""

import re
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, Budget, RaiseRequest, SystemConfig, User, WebSession
from tests.admin.conftest import (
    PASSWORD,
    Browser,
    add_budget,
    add_calls,
    add_key,
    add_limit,
    add_refusals,
    add_team,
    add_user,
    key_row,
    row_of,
    rows_of,
    spend,
    statements,
    user_of,
)
from tests.admin.portal import add_dialog, add_request
from tests.callers import bearer
from tests.helpers import chat
from utils import clock

MOST = 12  # statements of a page
NEW_KEY = {"name": "laptop", "scope": "all", "lives": "90", "period": "month", "requests_period": "minute"}
SECRET = re.compile(r"sk-th-[A-Za-z0-9]{49}")


def configure(app: Flask, **values: str) -> None:
    """Set configuration values of the portal; `_` stands for a dot where it ends a word of ours."""
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        for name, value in values.items():
            session.merge(SystemConfig(key="portal." + name.replace("keys_", "keys."), value=value))


def actions(app: Flask) -> list[str]:
    return [row.action for row in rows_of(app, AuditEntry)]


def plain(page: str) -> str:
    """A page without what is new on every one of them, and without what was asked for."""
    return re.sub(r'req_\w+|nonce="[^"]+"|name="csrf_token" value="[^"]+"|\?id=[\w-]+', "", page)


@pytest.fixture
def ana(panel_anywhere: Flask) -> int:
    return add_user(panel_anywhere, "ana")


@pytest.fixture
def browser(panel_anywhere: Flask, ana: int) -> Browser:
    return Browser(panel_anywhere, "ana")


def test_the_first_page_says_what_to_do_next(browser: Browser) -> None:
    page = browser.get("/portal/").text
    assert "First steps" in page
    assert "Nothing limits you" in page
    assert "/v1/chat/completions" in page
    assert "/admin/keys/" not in page, "nothing leads where one may not go"


def test_the_first_page_has_every_layer_with_what_is_left(panel_anywhere: Flask, ana: int, browser: Browser) -> None:
    app = panel_anywhere
    team, key = add_team(app, "crew", (ana,)), add_key(app, ana, "laptop")
    spend(app, add_budget(app, "user", ana, 20_000_000_000), 15_000_000_000, 1_000_000_000)
    add_budget(app, "team", team, 100_000_000_000)
    add_limit(app, "key", key, 60)
    add_budget(app, "user", ana, 5_000, unit="tokens", period="total", is_prepaid=True)
    add_calls(app, 3, user_id=ana, key_id=key, cost_nanousd=2_000_000_000)
    page = browser.get("/portal/").text
    for text in ("$4.00", "Team crew", "Key laptop", "5,000 tokens", "Nearly spent", "$6.00", "Ask for more"):
        assert text in page, text
    assert "First steps" not in page


def test_nobody_sees_anything_of_others(panel_anywhere: Flask, ana: int) -> None:
    app = panel_anywhere
    key, dialog, asked = (
        add_key(app, ana, "secret-key-name"),
        add_dialog(app, ana, "secret words"),
        add_request(app, ana),
    )
    add_calls(app, 1, user_id=ana, key_id=key, model="secret-model")
    add_refusals(app, 1, user_id=ana, key_id=key, model="secret-model")
    add_user(app, "oto")
    foreign = Browser(app, "oto")
    call = 1
    for path, given, missing in (
        *((f"keys/{page}/", key, 98765) for page in ("details", "rotate", "revoke", "delete", "created")),
        ("calls/details/", call, 98765),
        *((f"dialogs/{page}/", dialog, "0" * 8 + dialog[8:]) for page in ("details", "delete")),
    ):
        with statements(app) as seen:
            there = foreign.get(f"/portal/{path}?id={given}")
        with statements(app) as unseen:
            nowhere = foreign.get(f"/portal/{path}?id={missing}")
        assert (there.status_code, nowhere.status_code) == (404, 404), path
        assert plain(there.text) == plain(nowhere.text)
        assert len(seen) == len(unseen), "equal work"
    for path, number in (("keys/delete", key), ("keys/revoke", key), ("dialogs/delete", dialog)):
        assert foreign.post(f"/portal/{path}/", {"id": str(number)}).status_code == 404
    assert foreign.post("/portal/requests/withdraw/", {"id": str(asked)}).status_code == 404
    assert foreign.post("/portal/dialogs/rename/", {"id": dialog, "title": "x"}).status_code == 404
    assert row_of(app, ApiKey, key).revoked_at is None
    assert row_of(app, RaiseRequest, asked).state == "open"
    for page in ("", "keys/", "calls/", "refused/", "dialogs/", "requests/", "dialogs/?q=secret"):
        assert not re.search("secret[ -](words|key|model)", foreign.get(f"/portal/{page}").text), page


def test_people_read_why_their_calls_were_refused(panel_anywhere: Flask, ana: int, browser: Browser) -> None:
    assert "No call of yours was refused" in browser.get("/portal/refused/").text
    key = add_key(panel_anywhere, ana, "laptop")
    add_refusals(panel_anywhere, 21, user_id=ana, key_id=key, kind="budget", message="The budget is spent.", status=402)
    first = browser.get("/portal/refused/").text
    assert (first.count("The budget is spent."), "laptop" in first, "<b>402</b>" in first) == (20, True, True)
    older = re.search(r'href="(/portal/refused/\?id=\d+)" *>?[^<]*', first)
    assert older is not None
    assert browser.get(older[1]).text.count("The budget is spent.") == 1


def test_no_page_needs_more_statements_than_it_may(panel_anywhere: Flask, ana: int, browser: Browser) -> None:
    app = panel_anywhere
    add_team(app, "crew", (ana, add_user(app, "lea", role="team_admin")))
    keys = [add_key(app, ana, f"key-{place}") for place in range(6)]
    for key in keys:
        add_budget(app, "key", key)
        add_limit(app, "key", key)
        add_calls(app, 2, user_id=ana, key_id=key, model=f"model-{key}")
        add_request(app, ana, state="declined")
    dialog = add_dialog(app, ana, answers=5)
    add_refusals(app, 5, user_id=ana, key_id=keys[0])
    own = [
        "",
        "calls/",
        "calls/details/?id=1",
        "refused/",
        "keys/",
        "keys/new/",
        f"keys/details/?id={keys[0]}",
        "dialogs/",
    ]
    own += ["dialogs/", f"dialogs/details/?id={dialog}", "requests/", "requests/new/", "top-up/", "profile/"]
    of_team = ["team/", f"team/member/?id={ana}", "team/keys/", "team/budgets/", "team/requests/"]
    for who, pages in ((browser, own), (Browser(app, "lea"), of_team)):
        who.get("/portal/")  # the session's bookkeeping is done, and the catalogue read
        for page in pages:
            with statements(app) as seen:
                assert who.get(f"/portal/{page}").status_code == 200
            assert len(seen) <= MOST, (page, seen)


def test_a_key_is_made_shown_once_and_works(panel_anywhere: Flask, ana: int, browser: Browser) -> None:
    app = panel_anywhere
    made = browser.post("/portal/keys/new/", {**NEW_KEY, "budget": "5", "requests": "60"})
    assert made.status_code == 303
    (secret,) = set(SECRET.findall(browser.get(made.location).text))
    assert browser.get(made.location).location.endswith(f"details/?id={key_row(app, 'laptop').id}"), "once"
    row = key_row(app, "laptop")
    assert timedelta(days=89) < row.expires_at - clock.now() <= timedelta(days=90)
    assert [(one.scope, one.limit_amount) for one in rows_of(app, Budget)] == [("key", 5_000_000_000)]
    assert "key_create" in actions(app)
    sent = app.test_client().post("/v1/chat/completions", json=chat(model="echo"), headers=bearer(secret))
    assert sent.status_code == 200
    rotated = browser.post("/portal/keys/rotate/", {"id": str(row.id), "grace": "0"})
    (fresh,) = set(SECRET.findall(browser.get(rotated.location).text))
    assert fresh != secret
    assert browser.post("/portal/keys/revoke/", {"id": str(row.id)}).status_code == 303
    sent = app.test_client().post("/v1/chat/completions", json=chat(model="echo"), headers=bearer(fresh))
    assert sent.status_code == 401
    assert browser.post("/portal/keys/delete/", {"id": str(row.id)}).status_code == 303
    assert all(one.name != "laptop" for one in rows_of(app, ApiKey))


def test_the_policy_holds_and_says_why(panel_anywhere: Flask, ana: int, browser: Browser) -> None:
    app = panel_anywhere
    configure(app, keys_most="1", keys_longest="30d")
    page = browser.get("/portal/keys/new/").text
    assert "As long as allowed: 30d" in page
    assert browser.post("/portal/keys/new/", {**NEW_KEY, "lives": "90"}).status_code == 422
    assert browser.post("/portal/keys/new/", {**NEW_KEY, "lives": "never"}).status_code == 422
    assert browser.post("/portal/keys/new/", {**NEW_KEY, "lives": "longest"}).status_code == 303
    refused = browser.post("/portal/keys/new/", {**NEW_KEY, "lives": "7"})
    assert (refused.status_code, "You may have 1 working keys" in refused.text) == (422, True)
    configure(app, keys="no")
    assert "Keys are made by admins here" in browser.get("/portal/keys/").text
    configure(app, keys="perhaps")
    assert "portal.keys to something that cannot be read" in browser.get("/portal/keys/").text
    assert browser.post("/portal/keys/new/", {**NEW_KEY, "lives": "7"}).status_code == 422
    assert len([row for row in rows_of(app, ApiKey) if row.user_id == ana]) == 1


def test_a_key_gets_no_more_than_its_owner_has(panel_anywhere: Flask, browser: Browser) -> None:
    app = panel_anywhere
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.query(User).filter_by(username="ana").one().allowed_models = ["echo"]
    add_budget(app, "user", getattr(user_of(app, "ana"), "id", 0), 1_000_000_000)
    page = browser.get("/portal/keys/new/").text
    assert 'value="echo"' in page
    assert 'value="echo-slow"' not in page
    some = {"scope": "some", "allowed_models": ["echo-slow"]}
    assert browser.post("/portal/keys/new/", NEW_KEY | some).status_code == 422
    refused = browser.post("/portal/keys/new/", NEW_KEY | {"budget": "2"})
    assert "Your own budget of this period is smaller" in refused.text
    assert browser.post("/portal/keys/new/", NEW_KEY | {"budget": "1"}).status_code == 303


def test_browsers_are_listed_and_signed_out(panel_anywhere: Flask, ana: int, browser: Browser) -> None:
    app = panel_anywhere
    second, third = Browser(app, "ana"), Browser(app, "ana")
    add_user(app, "oto")
    foreign = Browser(app, "oto")
    page = browser.get("/portal/profile/").text
    marks = re.findall(r'name="session" value="(\w{16})"', page)
    assert len(marks) == 2
    assert foreign.post("/portal/profile/sessions/end/", {"session": marks[0]}).status_code == 404
    assert browser.post("/portal/profile/sessions/end/", {"session": marks[0]}).status_code == 303
    assert sorted(one.get("/portal/").status_code for one in (second, third)) == [200, 302]
    assert browser.post("/portal/profile/sessions/end/", {"session": "others"}).status_code == 303
    assert [one.get("/portal/").status_code for one in (browser, second, third)] == [200, 302, 302]
    assert foreign.get("/portal/").status_code == 200
    with Session(app.extensions["gateway"].engine) as session:
        assert session.query(WebSession).filter_by(user_id=ana).count() == 1
    assert actions(app).count("session_end") == 2


def test_everything_of_oneself_is_exported(panel_anywhere: Flask, ana: int, browser: Browser) -> None:
    add_request(panel_anywhere, ana, "my own reason")
    add_request(panel_anywhere, add_user(panel_anywhere, "oto"), "somebody else's")
    sent = browser.post("/portal/profile/export/")
    assert sent.headers["content-disposition"] == 'attachment; filename="export.jsonl"'
    assert "my own reason" in sent.text
    assert "somebody else" not in sent.text
    assert sent.text.splitlines()[-1].startswith('{"section":"end"')
    assert "user_export" in actions(panel_anywhere)


def test_an_account_is_deleted_only_where_that_is_allowed(panel_anywhere: Flask, ana: int, browser: Browser) -> None:
    app, form = panel_anywhere, {"username": "ana", "password": PASSWORD}
    assert browser.post("/portal/profile/delete/", form).status_code == 403
    configure(app, delete_account="yes")
    assert browser.post("/portal/profile/delete/", form | {"password": "wrong"}).status_code == 422
    assert browser.post("/portal/profile/delete/", form | {"username": "anna"}).status_code == 422
    assert row_of(app, User, ana).username == "ana"
    add_request(app, ana)
    assert browser.post("/portal/profile/delete/", form).status_code == 303
    assert row_of(app, User, ana).username == f"erased-{ana}"
    assert rows_of(app, RaiseRequest) == []
    assert browser.get("/portal/").status_code == 302


def test_dialogs_are_read_renamed_gone_on_with_and_deleted(panel_anywhere: Flask, ana: int, browser: Browser) -> None:
    app, dialog = panel_anywhere, add_dialog(panel_anywhere, ana, "about whales")
    assert "about whales" in browser.get("/portal/dialogs/?q=whales").text
    assert "Nothing matches" in browser.get("/portal/dialogs/?q=penguins").text
    sent = browser.post("/portal/dialogs/send/", {"id": dialog, "content": "and dolphins?"})
    assert sent.status_code == 303
    page = browser.get(f"/portal/dialogs/details/?id={dialog}").text
    assert page.count("and dolphins?") >= 1
    streamed = browser.post("/portal/dialogs/stream/", {"id": dialog, "content": "more"})
    assert '"done":true' in streamed.text.replace(" ", "")
    assert browser.post("/portal/dialogs/stream/", {"id": dialog, "content": ""}).status_code == 400
    assert browser.post("/portal/dialogs/rename/", {"id": dialog, "title": "Sea"}).status_code == 303
    assert "Sea" in browser.get("/portal/dialogs/").text
    assert '"Sea"' in browser.post("/portal/dialogs/export/").text
    assert browser.post("/portal/dialogs/delete/", {"id": dialog}).status_code == 303
    assert "No dialog yet" in browser.get("/portal/dialogs/").text
    said: list[Any] = actions(app)
    assert said.count("message_send") == 2
