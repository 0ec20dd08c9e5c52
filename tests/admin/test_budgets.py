"""The pages about budgets: setting and lowering them, what is left, and that the books still agree."""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import inspect
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, Budget, Limit
from tests.admin.conftest import (
    Browser,
    add_budget,
    add_key,
    add_limit,
    add_model,
    add_provider,
    add_team,
    add_user,
    columns_of,
    row_of,
    rows_of,
    spend,
)
from tests.helpers import assert_books_agree


def make(browser: Browser, **data: Any) -> Any:
    form = {"scope": "user", "owner": "ana", "unit": "usd", "limit": "20", "period": "month", "timezone": "UTC", **data}
    return browser.post("/admin/budgets/new/", form)


def test_budgets_for_users_and_keys(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    user = add_user(app, "ana")
    key = add_key(app, user)
    assert make(panel_anywhere_admin).location == "/admin/budgets/"
    tokens = {"scope": "key", "owner": str(key), "unit": "tokens", "limit": "5000", "period": "day"}
    assert make(panel_anywhere_admin, **tokens, timezone="America/Sao_Paulo").status_code == 303
    found = [(b.scope, b.scope_id, b.unit, b.period, b.timezone, b.limit_amount) for b in rows_of(app, Budget)]
    assert found == [
        ("user", user, "usd", "month", "UTC", 20_000_000_000),
        ("key", key, "tokens", "day", "America/Sao_Paulo", 5000),
    ]
    entry = rows_of(app, AuditEntry)[-1]
    assert (entry.action, entry.resource_type, entry.resource_id) == ("limit_set", "key", str(key))
    assert (entry.details["before"], entry.details["after"]) == (None, 5000)


def test_a_key_is_found_by_its_hint(panel_admin: Browser) -> None:
    key = add_key(panel_admin.app, add_user(panel_admin.app, "ana"))
    hint = row_of(panel_admin.app, ApiKey, key).hint
    assert make(panel_admin, scope="key", owner=hint).status_code == 303
    assert rows_of(panel_admin.app, Budget)[0].scope_id == key


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"owner": "nobody"}, id="no such user"),
        pytest.param({"scope": "key", "owner": "99999"}, id="no such key"),
        pytest.param({"scope": "team"}, id="no such team"),
        pytest.param({"scope": "planet"}, id="a scope there is not"),
        pytest.param({"warn_percent": "0"}, id="a warning from the start"),
        pytest.param({"warn_percent": "101"}, id="a warning after the end"),
        pytest.param({"warn_percent": "half"}, id="a warning at no number"),
        pytest.param({"limit": ""}, id="no limit"),
        pytest.param({"limit": "lots"}, id="no amount"),
        pytest.param({"limit": "-5"}, id="a negative amount"),
        pytest.param({"limit": "1e40"}, id="more than there is"),
        pytest.param({"unit": "tokens", "limit": "1.5"}, id="half a token"),
        pytest.param({"unit": "apples"}, id="a unit there is not"),
        pytest.param({"period": "fortnight"}, id="a period there is not"),
        pytest.param({"timezone": "Mars/Olympus"}, id="a time zone there is not"),
        pytest.param({"timezone": "../../etc/passwd"}, id="a path as time zone"),
    ],
)
def test_a_budget_is_not_stored(panel_admin: Browser, data: dict[str, str]) -> None:
    add_user(panel_admin.app, "ana")
    assert make(panel_admin, **data).status_code == 422
    assert rows_of(panel_admin.app, Budget) == []


@pytest.mark.parametrize(
    ("unit", "limit", "said"),
    [
        ("usd", "-5", "This cannot be negative."),
        ("tokens", "-5", "This cannot be negative."),
        ("usd", "99999999999", "This is more than can be counted."),
        ("usd", "inf", "This is more than can be counted."),
        ("tokens", "9" * 20, "This is more than can be counted."),
        ("usd", "0.0000000001", "Nine decimals are the finest that counts."),
        ("usd", "NaN", "This is not an amount in USD"),
        ("tokens", "1e3", "This is not a number of tokens."),
    ],
)
def test_each_amount_that_cannot_be_has_its_own_reason(panel_admin: Browser, unit: str, limit: str, said: str) -> None:
    add_user(panel_admin.app, "ana")
    assert said in make(panel_admin, unit=unit, limit=limit).text


def test_a_hint_that_several_keys_share_names_none_of_them(panel_admin: Browser) -> None:
    app = panel_admin.app
    for _ in range(2):
        add_key(app, add_user(app, f"u{_}"))
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.query(ApiKey).update({"hint": "co\u2026"})
    answer = make(panel_admin, scope="key", owner="co\u2026")
    assert answer.status_code == 422
    assert "Several keys have this hint." in answer.text


def test_the_time_zone_stays_while_something_is_spent(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    number = add_budget(app, "user", add_user(app, "ana"))
    spend(app, number, 1)
    form = {"limit": "20", "timezone": "Asia/Tokyo"}
    answer = panel_anywhere_admin.post(f"/admin/budgets/edit/?id={number}", form)
    assert answer.status_code == 422
    assert "The time zone stays as it is while something is spent" in answer.text
    assert row_of(app, Budget, number).timezone == "UTC"


def test_a_second_budget_of_the_same_kind_is_refused(panel_anywhere_admin: Browser) -> None:
    add_user(panel_anywhere_admin.app, "ana")
    make(panel_anywhere_admin)
    answer = make(panel_anywhere_admin, limit="1")
    assert answer.status_code == 422
    assert "such a budget already" in answer.text
    assert [row.limit_amount for row in rows_of(panel_anywhere_admin.app, Budget)] == [20_000_000_000]


def test_a_limit_may_be_lowered_below_what_is_spent(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    number = add_budget(app, "user", add_user(app, "ana"))
    spend(app, number, 12_000_000_000, 500_000_000)
    page = panel_anywhere_admin.get(f"/admin/budgets/edit/?id={number}").text
    assert "$12.00" in page
    assert "+ $0.50 held" in page
    answer = panel_anywhere_admin.post(f"/admin/budgets/edit/?id={number}", {"limit": "10", "timezone": "UTC"})
    assert answer.status_code == 303
    assert row_of(app, Budget, number).limit_amount == 10_000_000_000
    assert "-$2.50" in panel_anywhere_admin.get("/admin/budgets/").text
    details = rows_of(app, AuditEntry)[-1].details
    assert (details["before"], details["after"]) == (20_000_000_000, 10_000_000_000)


def test_only_limit_time_zone_and_warning_change(panel_admin: Browser) -> None:
    number = add_budget(panel_admin.app, "user", add_user(panel_admin.app, "ana"))
    before = row_of(panel_admin.app, Budget, number)
    every = dict.fromkeys(inspect(Budget).columns.keys(), "7") | {"scope": "key", "is_prepaid": "y"}
    every |= {"limit": "20", "timezone": "UTC", "warn_percent": "80"}
    answer = panel_admin.post(f"/admin/budgets/edit/?id={number}", every)
    assert answer.status_code == 303
    after = row_of(panel_admin.app, Budget, number)
    for column in columns_of(Budget) - {"updated_at"}:
        assert getattr(after, column) == getattr(before, column), column


def test_deleting_keeps_what_was_spent_in_the_ledger(panel_anywhere: Flask) -> None:
    here = panel_anywhere.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        issued = here.keys.issue(session, 1, "caller")
    number = add_budget(panel_anywhere, "key", issued.id, 1_000_000, unit="tokens")
    here.catalog.refresh()
    body = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"Authorization": f"Bearer {issued.secret}"}
    assert panel_anywhere.test_client().post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    browser = Browser(panel_anywhere, "admin")
    assert "no longer measured" in browser.get(f"/admin/budgets/delete/?id={number}").text
    assert browser.post("/admin/budgets/delete/", {"id": number}).status_code == 303
    assert rows_of(panel_anywhere, Budget) == []
    assert f"#{number}" in browser.get(f"/admin/ledger/?budget={number}").text
    assert rows_of(panel_anywhere, AuditEntry)[-1].details["before"]["limit_amount"] == 1_000_000
    assert_books_agree(here.engine)


def test_budgets_for_teams_and_models(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    team, model = add_team(app, "research"), add_model(app, [add_provider(app)], "fast")
    assert make(panel_anywhere_admin, scope="team", owner="research", warn_percent="50").status_code == 303
    assert make(panel_anywhere_admin, scope="model", owner="fast", warn_percent="").status_code == 303
    found = [(row.scope, row.scope_id, row.warn_percent) for row in rows_of(app, Budget)]
    assert found == [("team", team, 50), ("model", model, None)]
    page = panel_anywhere_admin.get("/admin/budgets/").text
    assert f"/admin/teams/details/?id={team}" in page
    assert f"/admin/models/details/?id={model}" in page


@pytest.mark.parametrize(
    ("spent", "held", "warn", "said"),
    [
        (15, 0, 80, "OK"),
        (15, 1, 80, "Nearly spent"),
        (19, 0, None, "OK"),
        (19, 1, None, "Used up"),
        (25, 0, 80, "Used up"),
    ],
)
def test_the_state_follows_the_share_to_warn_at(
    panel_admin: Browser, spent: int, held: int, warn: int | None, said: str
) -> None:
    number = add_budget(panel_admin.app, "user", 1, 20_000_000_000, warn_percent=warn)
    spend(panel_admin.app, number, spent * 1_000_000_000, held * 1_000_000_000)
    assert f">{said}</span>" in panel_admin.get("/admin/budgets/").text
    assert f">{said}</span>" in panel_admin.get(f"/admin/budgets/edit/?id={number}").text


def test_a_change_of_the_warning_is_audited(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    number = add_budget(app, "user", 1)
    form = {"limit": "20", "timezone": "UTC", "warn_percent": "90"}
    assert panel_anywhere_admin.post(f"/admin/budgets/edit/?id={number}", form).status_code == 303
    details = rows_of(app, AuditEntry)[-1].details
    assert (details["warn_percent_before"], details["warn_percent_after"]) == (80, 90)
    empty = {**form, "warn_percent": ""}
    assert panel_anywhere_admin.post(f"/admin/budgets/edit/?id={number}", empty).status_code == 303
    assert row_of(app, Budget, number).warn_percent is None


def test_a_balance_is_shown_and_not_deleted(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    user = add_user(app, "ana")
    number = add_budget(app, "user", user, 10_000, unit="tokens", period="total", is_prepaid=True)
    page = panel_anywhere_admin.get("/admin/budgets/").text
    assert "Balance" in page
    assert "budgets/edit" in page
    assert "stays with its user" in panel_anywhere_admin.get(f"/admin/budgets/delete/?id={number}").text
    assert panel_anywhere_admin.post("/admin/budgets/delete/", {"id": number}).status_code == 403
    assert row_of(app, Budget, number).limit_amount == 10_000
    details = panel_anywhere_admin.get(f"/admin/users/details/?id={user}").text
    assert f"/admin/ledger/?budget={number}" in details


def test_budgets_and_limits_of_a_deleted_model_go_with_it(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    provider = add_provider(app)
    models = [add_model(app, [provider], name) for name in ("fast", "slow")]
    found = add_model(app, [provider], "found", managed_by="discovery")
    for model in (*models, found):
        add_budget(app, "model", model)
        add_limit(app, "model", model)
    panel_anywhere_admin.post("/admin/models/delete/", {"id": models[0]})
    panel_anywhere_admin.post("/admin/providers/delete/", {"id": provider})
    for table in (Budget, Limit):
        assert [row.scope_id for row in rows_of(app, table)] == [models[1]]
