"""Pages issue a bounded number of statements, however many rows they show."""

import pytest
from flask import Flask

from services import invitations
from services.audit import Actor
from tests.admin.alerting import add_alert, add_target
from tests.admin.conftest import (
    Browser,
    add_budget,
    add_calls,
    add_key,
    add_limit,
    add_model,
    add_provider,
    add_refusals,
    add_team,
    add_user,
    statements,
)
from tests.admin.pages import talk
from tests.admin.portal import add_batch, add_code, add_request

MOST = {  # statements of a list, with the one that finds the session
    "users": 7,
    "teams": 8,
    "invites": 6,
    "keys": 6,
    "raises": 6,
    "topups": 5,
    "budgets": 9,
    "limits": 9,
    "providers": 5,
    "models": 7,
    "usage": 6,
    "blocked": 6,
    "ledger": 6,
    "audit": 3,
    "balances": 5,
    "transactions": 6,
    "dialogs": 4,
    "messages": 4,
    "agents": 5,
    "routes": 4,
    "policies": 6,
    "alerts": 4,
    "batches": 6,
    "alert-targets": 5,
}


BADGE = 1  # of every page: how many requests wait


def fill(app: Flask, start: int, end: int) -> None:
    for place in range(start, end):
        user = add_user(app, f"user-{place}")
        key = add_key(app, user, f"key-{place}")
        team = add_team(app, f"team-{place}", (user,))
        invitations.make(app.extensions["gateway"].engine, Actor("admin", user), team=f"team-{place}")
        provider = add_provider(app, f"provider-{place}")
        model = add_model(app, [provider], f"model-{place}")
        for scope, scope_id in (("user", user), ("key", key), ("team", team), ("model", model)):
            add_budget(app, scope, scope_id, period="day" if place % 2 else "month")
            add_limit(app, scope, scope_id)
        add_refusals(app, 2, user_id=user, key_id=key, team_id=team)
        add_calls(app, 2, user_id=user, key_id=key, team_id=team, custom_id=f"call-{place}")
        talk(app, f"text-{place}", user, key)
        add_request(app, user)
        add_alert(app, add_target(app, f"target-{place}"), f"alert-{place}")
        add_batch(app, user, f"batch-{place}", key_id=key)
        add_code(app, f"code-{place}", user, f"{place:064d}")
        app.extensions["gateway"].audit.note(_actor(), "thing_done", "thing", place, {"after": {"a": 1}})


def _actor() -> object:
    from services.audit import Actor

    return Actor("tests")


def test_lists_do_not_ask_once_a_row(panel_anywhere: Flask) -> None:
    browser = Browser(panel_anywhere, "admin")
    fill(panel_anywhere, 0, 3)
    counts: dict[str, list[int]] = {view: [] for view in MOST}
    for more in ((3, 3), (3, 25)):
        fill(panel_anywhere, *more)
        for view, found in counts.items():
            browser.get(f"/admin/{view}/")  # the session's own bookkeeping is done
            with statements(panel_anywhere) as seen:
                assert browser.get(f"/admin/{view}/?page_size=100").status_code == 200
            found.append(len(seen))
    assert {view: found[0] for view, found in counts.items()} == {view: found[1] for view, found in counts.items()}
    assert {view: found[0] for view, found in counts.items() if found[0] > MOST[view] + BADGE} == {}


@pytest.mark.parametrize(
    "view", ["usage", "ledger", "audit", "blocked", "transactions", "dialogs", "messages", "alerts", "batches"]
)
def test_logs_are_neither_counted_nor_skipped_into(panel_admin: Browser, view: str) -> None:
    add_calls(panel_admin.app, 30)
    panel_admin.get(f"/admin/{view}/")
    with statements(panel_admin.app) as seen:
        panel_admin.get(f"/admin/{view}/")
    text = " ".join(one for one in seen if "raise_requests" not in one).lower()  # the badge counts 100 at most
    assert "count(" not in text
    assert "offset" not in text.replace("limit ? offset ?", "")


def test_the_overview_needs_few_statements(panel_anywhere: Flask) -> None:
    fill(panel_anywhere, 0, 5)
    browser = Browser(panel_anywhere, "admin")
    browser.get("/admin/")
    with statements(panel_anywhere) as seen:
        browser.get("/admin/")
    assert len(seen) <= 12 + BADGE


def test_reads_of_usage_use_an_index(panel_app: Flask) -> None:
    """SQLite says how it would do it: no walk over the whole table, no sorting of it."""
    from sqlalchemy import text

    add_calls(panel_app, 50)
    browser = Browser(panel_app, "admin")
    engine = panel_app.extensions["gateway"].engine
    for query in ("", "?user=admin", "?key=1", "?span=24h", "?before=req_0", "?user=admin&before=5"):
        with statements(panel_app) as seen:
            browser.get(f"/admin/usage/{query}")
        (statement,) = [one for one in seen if "FROM usage" in one]
        with engine.connect() as connection:
            values = {f"p{place}": 1 for place in range(statement.count("?"))}
            for name in values:
                statement = statement.replace("?", f":{name}", 1)
            plan = " ".join(row[-1] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"), values))
        assert "USING INDEX" in plan or "INTEGER PRIMARY KEY" in plan, (query, plan)
        assert "TEMP B-TREE" not in plan, (query, plan)
