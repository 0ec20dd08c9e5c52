"""What a key may do, what it may have, and every layer that limits it, on the pages about keys."""

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, Budget, Limit
from tests.admin.conftest import Browser, add_budget, add_key, add_limit, add_team, add_user, key_row, row_of, rows_of


def make(browser: Browser, **data: Any) -> Any:
    sent = {"name": "prod", "owner": "ana", "scope": "all", "period": "month", **data}
    return browser.post("/admin/keys/new/", sent)


def test_everything_a_key_can_be_given_at_once(panel_anywhere: Flask) -> None:
    add_user(panel_anywhere, "ana")
    answer = make(
        Browser(panel_anywhere, "admin"),
        tags="prod, eu ,prod,,",
        allowed_paths="post /v1/chat/completions\n\n/v1/models\npost /v1/chat/completions",
        allowed_ips="10.1.2.3/8\n2001:db8::/32\n192.168.1.7",
        ttl="36h30m",
        should_log_request="y",
        first_byte_s="2.5",
        total_s="60",
        budget="5",
        period="day",
        token_budget="1000",
        token_period="total",
        requests="60",
        requests_period="hour",
        concurrent="3",
    )
    assert answer.status_code == 303, answer.text
    row = key_row(panel_anywhere, "prod")
    assert row.tags == ["prod", "eu"]
    assert row.allowed_paths == [
        {"path": "/v1/chat/completions", "method": "POST"},
        {"path": "/v1/models", "method": ""},
    ]
    assert row.allowed_ips == ["10.0.0.0/8", "2001:db8::/32", "192.168.1.7/32"]
    assert (row.should_log_request, row.should_log_response) == (True, False)
    assert row.timeouts == {"first_byte_s": 2.5, "total_s": 60}
    browser = Browser(panel_anywhere, "admin")
    assert "Longest wait for the first byte" in browser.get(f"/admin/keys/details/?id={row.id}").text
    assert 'value="2.5"' in browser.get(f"/admin/keys/edit/?id={row.id}").text
    assert (row.ttl, row.expires_at) == ("36h30m", row.created_at + timedelta(hours=36, minutes=30))
    budgets = [(b.scope, b.scope_id, b.unit, b.period, b.limit_amount) for b in rows_of(panel_anywhere, Budget)]
    assert budgets == [("key", row.id, "usd", "day", 5_000_000_000), ("key", row.id, "tokens", "total", 1000)]
    limits = [(b.scope, b.scope_id, b.unit, b.period, b.limit_amount) for b in rows_of(panel_anywhere, Limit)]
    assert limits == [("key", row.id, "requests", "hour", 60), ("key", row.id, "concurrent", "none", 3)]
    actions = [entry.action for entry in rows_of(panel_anywhere, AuditEntry)]
    assert [actions.count(name) for name in ("key_create", "limit_set", "rate_limit_set")] == [1, 2, 2]
    page = Browser(panel_anywhere, "admin").get(f"/admin/keys/details/?id={row.id}").text
    for text in (row.uuid, "POST /v1/chat/completions", "10.0.0.0/8", "36h30m", "prod", "Calls at once", "/ 60"):
        assert text in page, text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param({"allowed_paths": "v1/models"}, "v1/models: not a path", id="a path without a slash"),
        pytest.param({"allowed_paths": "BREW /v1/tea"}, "not a path", id="a method there is not"),
        pytest.param({"allowed_paths": "POST /v1/x <b>"}, "&lt;b&gt;: not a path", id="markup for a path"),
        pytest.param({"allowed_paths": "/" + "x" * 300}, "not a path", id="a long path"),
        pytest.param({"allowed_paths": "/x\n" * 201}, "too many lines", id="too many paths"),
        pytest.param({"allowed_paths": "/v1/\u202emodels"}, "can be seen", id="a character nobody sees"),
        pytest.param({"allowed_ips": "10.0.0.0/33"}, "not an address", id="a prefix there is not"),
        pytest.param({"allowed_ips": "localhost"}, "not an address", id="a name"),
        pytest.param({"allowed_ips": "10.0.0.1\n300.1.1.1"}, "300.1.1.1: not an address", id="one good, one bad"),
        pytest.param({"tags": ",".join(map(str, range(51)))}, "At most 50 tags", id="too many tags"),
        pytest.param({"tags": "x" * 61}, "At most 50 tags", id="a long tag"),
        pytest.param({"tags": "a\0b"}, "can be seen", id="a NUL in a tag"),
        pytest.param({"ttl": "soon"}, "not a time such as", id="no time"),
        pytest.param({"ttl": "0h"}, "not a time such as", id="no time at all"),
        pytest.param({"ttl": "-2d"}, "not a time such as", id="a time that is over"),
        pytest.param({"ttl": "40000d"}, "not a time such as", id="more than a century"),
        pytest.param({"ttl": "2d", "expires_at": "2999-01-01T00:00"}, "not both", id="two ends"),
        pytest.param({"requests": "-1"}, "Number must be", id="fewer than no requests"),
        pytest.param({"requests": "many"}, "Not a valid integer", id="no number"),
        pytest.param({"concurrent": "9" * 30}, "Number must be", id="more than there is"),
        pytest.param({"requests": "5", "requests_period": "eon"}, "Not a valid choice", id="a period there is not"),
    ],
)
def test_a_key_is_not_made_and_the_form_says_why(panel_app: Flask, data: dict[str, str], said: str) -> None:
    add_user(panel_app, "ana")
    before = len(rows_of(panel_app, ApiKey))
    answer = make(Browser(panel_app, "admin"), **data)
    assert answer.status_code == 422
    assert said in answer.text
    assert len(rows_of(panel_app, ApiKey)) == before
    assert rows_of(panel_app, Limit) == []


def test_restrictions_change_and_can_be_taken_away(panel_anywhere: Flask) -> None:
    number = add_key(panel_anywhere, add_user(panel_anywhere, "ana"))
    browser = Browser(panel_anywhere, "admin")
    form = {
        "name": "prod",
        "scope": "all",
        "tags": "a",
        "allowed_paths": "/v1/models",
        "allowed_ips": "::1",
        "ttl": "2d",
    }
    assert browser.post(f"/admin/keys/edit/?id={number}", form).status_code == 303
    row = row_of(panel_anywhere, ApiKey, number)
    assert (row.tags, row.allowed_ips, row.expires_at) == (["a"], ["::1/128"], row.created_at + timedelta(days=2))
    page = browser.get(f"/admin/keys/edit/?id={number}").text
    for text in ('value="2d"', ">\r\n/v1/models<", ">\r\n::1/128<", 'value="a"'):
        assert text in page, text
    empty = {**form, "tags": "", "allowed_paths": " \n", "allowed_ips": "", "ttl": "", "expires_at": ""}
    assert browser.post(f"/admin/keys/edit/?id={number}", empty).status_code == 303
    row = row_of(panel_anywhere, ApiKey, number)
    assert (row.tags, row.allowed_paths, row.allowed_ips, row.ttl, row.expires_at) == (None,) * 5
    details = rows_of(panel_anywhere, AuditEntry)[-1].details
    assert details["before"]["allowed_paths"] == [{"path": "/v1/models", "method": ""}]
    assert details["after"]["allowed_ips"] is None


def test_a_moment_takes_the_place_of_a_time(panel_admin: Browser) -> None:
    number = add_key(panel_admin.app, add_user(panel_admin.app, "ana"))
    path = f"/admin/keys/edit/?id={number}"
    panel_admin.post(path, {"name": "prod", "scope": "all", "ttl": "2d"})
    answer = panel_admin.post(path, {"name": "prod", "scope": "all", "ttl": "", "expires_at": "2999-01-01T00:00"})
    assert answer.status_code == 303
    row = row_of(panel_admin.app, ApiKey, number)
    assert (row.ttl, row.expires_at) == (None, datetime(2999, 1, 1, tzinfo=UTC))


def test_the_list_narrows_by_tag_team_owner_and_text(panel_anywhere: Flask) -> None:
    ana, bo = add_user(panel_anywhere, "ana"), add_user(panel_anywhere, "bo")
    add_team(panel_anywhere, "research", (ana,))
    browser = Browser(panel_anywhere, "admin")
    for name, owner, tags in (("one", "ana", "prod, eu"), ("two", "ana", 'p"q, ", "'), ("three", "bo", "prodded")):
        make(browser, name=name, owner=owner, tags=tags)
    add_key(panel_anywhere, bo, "untagged")

    def names(**query: str) -> set[str]:
        page = browser.get("/admin/keys/", query_string=query).text
        return set(re.findall(r'lead-cell"><a [^>]*>([^<]+)<', page)) & {"one", "two", "three", "untagged"}

    assert names() == {"one", "two", "three", "untagged"}
    assert names(tag="prod") == names(tag="eu") == {"one"}
    assert names(tag='p"q') == {"two"}
    assert names(tag="%") == names(tag="pro") == names(tag="PROD") == set()
    assert names(team="research") == names(owner="ana") == {"one", "two"}
    assert names(team="research", owner="bo") == set()
    assert names(team="none of that name") == set()
    assert names(tag="prodded", state="active") == {"three"}
    assert names(search=key_row(panel_anywhere, "two").uuid) == {"two"}


def test_the_page_of_a_key_shows_every_layer_that_limits_it(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    ana, bo = add_user(app, "ana"), add_user(app, "bo")
    team = add_team(app, "research", (ana,))
    key, other = add_key(app, ana), add_key(app, bo)
    wanted, foreign = [("key", key), ("user", ana), ("team", team)], [("key", other), ("user", bo)]
    budgets = [add_budget(app, *owner) for owner in (*wanted, *foreign)]
    limits = [add_limit(app, *owner) for owner in (*wanted, *foreign)]

    def shown(path: str, view: str) -> list[int]:
        page = panel_anywhere_admin.get(path).text
        return [int(number) for number in re.findall(rf"/admin/{view}/edit/\?id=(\d+)", page)]

    of_key, of_user, of_team = (f"/admin/{view}s/details/?id={number}" for view, number in wanted)
    assert (shown(of_key, "budgets"), shown(of_key, "limits")) == (budgets[:3], limits[:3])
    assert (shown(of_user, "budgets"), shown(of_user, "limits")) == (budgets[1:3], limits[1:3])
    assert (shown(of_team, "budgets"), shown(of_team, "limits")) == (budgets[2:3], limits[2:3])
    page = panel_anywhere_admin.get(of_key).text
    for text in ("research", "$20.00", "/ 100", "<time"):
        assert text in page, text
    assert "calls are only counted" in panel_anywhere_admin.get(f"/admin/users/details/?id={add_user(app, 'eva')}").text


def test_a_tag_with_a_comma_stays_one_tag(panel_admin: Browser) -> None:
    tags = ["a,b", "c", 'say "x"', '"', '",', "d"]
    number = add_key(panel_admin.app, add_user(panel_admin.app, "ana"))
    with Session(panel_admin.app.extensions["gateway"].engine) as session, session.begin():
        session.get_one(ApiKey, number).tags = tags
    page = panel_admin.get(f"/admin/keys/edit/?id={number}").text
    shown = html.unescape(page.split('name="tags"')[1].split('value="')[1].split('"')[0])
    assert shown.startswith('"a,b", c, say "x", ')
    form = {"name": "prod", "scope": "all", "tags": shown}
    assert panel_admin.post(f"/admin/keys/edit/?id={number}", form).status_code == 303
    assert row_of(panel_admin.app, ApiKey, number).tags == tags
