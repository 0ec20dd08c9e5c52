"""The pages about usage, ledger and audit log: pages at any depth, filters, the bill, the export."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from models import AuditEntry, LedgerEntry, UsageRecord
from routes.admin.exports import harmless
from services import reports
from tests.admin.conftest import Browser, add_calls, add_key, add_team, add_user, row_of, rows_of

OLDER = re.compile(r'href="([^"]*before=[^"]*)"')
NEWER = re.compile(r'href="([^"]*after=[^"]*)"')
QUERY_PLAN = {"sqlite": "QUERY PLAN", "postgresql": ""}
SHOWN = re.compile(r'lead-cell"><a href="[^"]*\?id=(\d+)"')


def link(pattern: re.Pattern[str], page: str) -> str | None:
    found = pattern.search(page)
    return found[1].replace("&amp;", "&") if found else None


def shown(page: str) -> list[int]:
    return [int(number) for number in SHOWN.findall(page)]


def usage_ids(app: Flask) -> list[int]:
    with Session(app.extensions["gateway"].engine) as session:
        return list(session.scalars(select(UsageRecord.id).order_by(UsageRecord.request_id.desc())))


@pytest.mark.parametrize("query", ["", "user=ana", "span=24h", "model=fast", "user=ana&until=2100-01-01T00:00"])
def test_every_call_is_on_exactly_one_page_both_ways(panel_anywhere_admin: Browser, query: str) -> None:
    app = panel_anywhere_admin.app
    user = add_user(app, "ana")
    add_calls(app, 67, user_id=user)
    expected = usage_ids(app)
    seen, path, last = [], f"/admin/usage/?{query}", ""
    while path:
        last, page = path, panel_anywhere_admin.get(path).text
        seen.append(shown(page))
        path = link(OLDER, page) or ""
    assert [len(part) for part in seen] == [20, 20, 20, 7]
    assert [number for part in seen for number in part] == expected
    back, path = [], last
    while path:
        page = panel_anywhere_admin.get(path).text
        back.append(shown(page))
        path = link(NEWER, page) or ""
    assert [number for part in reversed(back) for number in part] == expected


def test_calls_that_come_in_meanwhile_move_nothing(panel_admin: Browser) -> None:
    add_calls(panel_admin.app, 45)
    first = panel_admin.get("/admin/usage/").text
    second = panel_admin.get(link(OLDER, first) or "").text
    add_calls(panel_admin.app, 30, created_at=datetime.now(UTC) + timedelta(seconds=5))
    assert shown(panel_admin.get(link(OLDER, first) or "").text) == shown(second)


@pytest.mark.parametrize("size", [20, 50, 100])
def test_page_sizes(panel_admin: Browser, size: int) -> None:
    add_calls(panel_admin.app, 120)
    assert len(shown(panel_admin.get(f"/admin/usage/?page_size={size}").text)) == size


@pytest.mark.parametrize("size", ["0", "1000000", "-1", "30", "all"])
def test_other_page_sizes_are_the_usual_one(panel_admin: Browser, size: str) -> None:
    add_calls(panel_admin.app, 25)
    assert len(shown(panel_admin.get(f"/admin/usage/?page_size={size}").text)) == 20


def test_filters(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    user = add_user(app, "ana")
    key = add_key(app, user)
    now = datetime.now(UTC)
    add_calls(app, 3)
    add_calls(app, 2, user_id=user, key_id=key)
    add_calls(app, 1, model="slow", outcome="upstream_cut", state="estimated")
    add_calls(app, 4, created_at=now - timedelta(days=3))
    add_calls(app, 1, user_id=987)

    def count(query: str) -> int:
        return len(shown(panel_anywhere_admin.get(f"/admin/usage/?{query}").text))

    assert count("") == 11
    assert count("user=ana") == 2
    assert count("user=nobody") == 0
    assert count("user=%23987") == 1
    assert count(f"key={key}") == 2
    assert count("key=99999") == 0
    assert count("model=slow") == 1
    assert count("model=slo%25") == 0
    assert count("outcome=upstream_cut") == 1
    assert count("state=estimated") == 1
    assert count("outcome=ok&model=fast") == 10
    assert count("span=24h") == 7
    assert count("span=7d") == 11
    assert count("span=bogus") == 11
    since, until = (f"{now - timedelta(days=days):%Y-%m-%dT%H:%M}" for days in (4, 2))
    assert count(f"since={since}&until={until}") == 4
    assert count(f"user=ana&until={until}") == 0
    assert count("since=yesterday") == 11


def test_a_rare_call_is_found_step_by_step_and_never_by_reading_everything(
    panel_anywhere_admin: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "WALK", 10)
    add_calls(panel_anywhere_admin.app, 2, model="rare")
    add_calls(panel_anywhere_admin.app, 35)
    path, pages, found = "/admin/usage/?model=rare", 0, []
    while path:
        page = panel_anywhere_admin.get(path).text
        pages, found = pages + 1, found + shown(page)
        path = link(OLDER, page) or ""
        if path:
            assert "may be more further back" in page
    assert (len(found), pages) == (2, 4)


def test_calls_that_failed_are_found_by_an_index(panel_anywhere: Flask) -> None:
    add_calls(panel_anywhere, 2, outcome="upstream_error")
    add_calls(panel_anywhere, 300)
    engine = panel_anywhere.extensions["gateway"].engine
    walk = reports.usage_walk(reports.UsageFilter(outcome="upstream_error"))
    assert len(reports.read_page(engine, walk).rows) == 2
    query = select(UsageRecord.id).where(*walk.where).order_by(walk.key.desc()).limit(20)
    words = str(query.compile(engine, compile_kwargs={"literal_binds": True}))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE usage")
            for way in ("seqscan", "bitmapscan"):  # of so few rows any order is quickly made
                connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
        plan = str(connection.exec_driver_sql(f"EXPLAIN {QUERY_PLAN[engine.dialect.name]} {words}").fetchall())
    assert "ix_usage_not_ok" in plan
    assert "sort" not in plan.lower()
    assert "temp b-tree" not in plan.lower()


def test_the_bill_of_a_call(panel_admin: Browser) -> None:
    add_calls(
        panel_admin.app,
        1,
        input_tokens=1000,
        cache_read_input_tokens=400,
        cache_creation_input_tokens=100,
        output_tokens=50,
        reasoning_output_tokens=20,
        input_rate=1_000_000_000,
        output_rate=4_000_000_000,
        cache_read_rate=100_000_000,
        cost_nanousd=840_000,
        attempts='[["acme", "upstream_timeout"], ["backup", "ok"]]',
        is_overrun=True,
    )
    page = panel_admin.get(f"/admin/usage/details/?id={rows_of(panel_admin.app, UsageRecord)[0].id}").text
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for line in (
        "Input 600 &times; $1.00 = $0.0006",
        "Cached input 400 &times; $0.10 = $0.00004",
        "Output 50 &times; $4.00 = $0.0002",
        "$0.00084",
        "1. acme upstream_timeout",
        "2. backup ok",
        "overrun",
        "reasoning 20",
    ):
        assert line.replace("&times;", "\u00d7") in text, line


def test_a_bill_shows_the_lines_that_were_added_up(panel_admin: Browser) -> None:
    lines = [["cached_input", 7, 75_000_100], ["input", 3, 2_500_000_000], ["request", 1, 5_000_000], ["image", 2, 7]]
    add_calls(panel_admin.app, 1, cost_nanousd=5_008_039, charge_lines=json.dumps(lines))
    page = panel_admin.get(f"/admin/usage/details/?id={rows_of(panel_admin.app, UsageRecord)[0].id}").text
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for line in (
        "Cached input 7 \u00d7 $0.0750001 = $0.0000005250007",
        "Input 3 \u00d7 $2.50 = $0.0000075",
        "Each request 1 \u00d7 $0.005 each = $0.005",
        "Each made image 2 \u00d7 $0.000000007 each = $0.000000014",
        "Sum $0.0050080390007",
        "$0.005008039",
    ):
        assert line in text, line


def test_a_row_that_was_booked_without_lines_is_explained_by_its_rates() -> None:
    row = type("Row", (), {
        "input_tokens": 1000, "cache_read_input_tokens": 400, "cache_creation_input_tokens": None, "output_tokens": 50,
        "input_rate": 1_000_000_000, "output_rate": 4_000_000_000, "cache_read_rate": 0, "cache_creation_rate": None,
        "charge_lines": None,
    })  # fmt: skip
    lines = reports.bill(row)
    assert [(line.kind, line.units, line.cost_usd) for line in lines] == [
        ("cached_input", 400, 0),
        ("input", 600, Decimal("0.0006")),
        ("output", 50, Decimal("0.0002")),
    ]


def test_a_call_without_a_price_has_no_bill(panel_admin: Browser) -> None:
    add_calls(panel_admin.app, 1, input_rate=None, output_rate=None, state="void", cost_nanousd=0, attempts=None)
    page = panel_admin.get(f"/admin/usage/details/?id={rows_of(panel_admin.app, UsageRecord)[0].id}").text
    assert "No price applied" in page
    assert "It went to no provider" in page


def exported(browser: Browser, query: str = "") -> list[dict[str, str]]:
    answer = browser.get(f"/admin/usage/export.csv?{query}")
    assert answer.status_code == 200
    assert answer.mimetype == "text/csv"
    assert re.search(r'"usage-\d{4}-\d\d-\d\d\.csv"', answer.headers["content-disposition"])
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_the_export_has_all_pages_and_obeys_the_filters(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    user = add_user(app, "ana")
    ids = add_calls(app, 620, user_id=user, key_id=add_key(app, user))
    add_calls(app, 5, model="slow")
    found = exported(panel_anywhere_admin, "model=fast")
    assert [row["request_id"] for row in found] == list(reversed(ids))
    assert (found[0]["user"], found[0]["cost_usd"], found[0]["input_tokens"]) == ("ana", "0.000027", "100")
    assert found[0]["key"].startswith("sk-th-")
    assert len(exported(panel_anywhere_admin)) == 625


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_cells_that_a_spreadsheet_would_run_are_made_harmless(panel_admin: Browser, start: str) -> None:
    evil = f"{start}HYPERLINK(1)"
    assert harmless(evil) == f"'{evil}"
    add_calls(panel_admin.app, 1, model=evil, error=evil)
    (row,) = exported(panel_admin)
    assert row["model"].startswith("'")
    assert row["error"].startswith("'")


@pytest.mark.parametrize("cell", ["-5", "-0.000027", "12"])
def test_numbers_below_zero_are_no_formulas(cell: str) -> None:
    assert harmless(cell) == cell


@pytest.mark.parametrize("cell", ["-5+1", "--5", "+5", "-.5", "-5\n", "-1|x"])
def test_what_only_begins_like_a_number_is_made_harmless(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


def test_the_ledger_by_account_and_call(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    user = add_user(app, "ana")
    ids = add_calls(app, 3, user_id=user)
    add_calls(app, 2)
    entry = {
        "created_at": datetime.now(UTC),
        "kind": "charge",
        "account": "budget",
        "account_id": 4,
        "amount_nanousd": 5,
    }
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.execute(insert(LedgerEntry), [{**entry, "request_id": ids[0]}])

    def count(query: str) -> int:
        return panel_anywhere_admin.get(f"/admin/ledger/?{query}").text.count('<td class="lead-cell">')

    assert count("") == 6
    assert count("user=ana") == 3
    assert count("budget=4") == 1
    assert count("budget=five") == 0
    assert count(f"request_id={ids[0]}") == 2
    assert count(f"request_id={ids[0]}&user=ana") == 1
    assert count("kind=top_up") == 0


def test_ledger_and_audit_log_have_pages_too(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    add_calls(app, 45)
    for _ in range(45):
        app.extensions["gateway"].audit.note(app.extensions["gateway"].audit and _actor(), "thing_done", "thing")
    for view, total in (("ledger", 45), ("audit", len(rows_of(app, AuditEntry)))):
        sizes, path = [], f"/admin/{view}/"
        while path:
            page = panel_anywhere_admin.get(path).text
            sizes.append(page.count('<td class="lead-cell">'))
            path = link(OLDER, page) or ""
        assert sum(sizes) == total
        assert len(sizes) == -(-total // 20)


def _actor() -> Any:
    from services.audit import Actor

    return Actor("tests")


def test_the_audit_log_shows_before_and_after(panel_admin: Browser) -> None:
    number = add_user(panel_admin.app, "ana")
    panel_admin.post(f"/admin/users/edit/?id={number}", {"role": "admin", "is_active": "y"})
    entry = rows_of(panel_admin.app, AuditEntry)[-1]
    assert f"?id={entry.id}" in panel_admin.get("/admin/audit/?action=user_update&actor=admin").text
    page = panel_admin.get(f"/admin/audit/details/?id={entry.id}").text
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "Before role user" in text
    assert "After role admin" in text
    assert "Nothing matches" in panel_admin.get("/admin/audit/?actor=nobody").text


@pytest.mark.parametrize("view", ["usage", "ledger", "audit"])
@pytest.mark.parametrize("rule", ["new", "edit", "delete", "action", "ajax/update"])
def test_logs_are_only_read(panel_admin: Browser, view: str, rule: str) -> None:
    add_calls(panel_admin.app, 1)
    assert panel_admin.post(f"/admin/{view}/{rule}/", {"id": "1"}).status_code == 404
    assert panel_admin.get(f"/admin/{view}/{rule}/?id=1").status_code == 404
    assert row_of(panel_admin.app, UsageRecord, rows_of(panel_admin.app, UsageRecord)[0].id) is not None


def test_a_call_shows_its_team_and_what_its_caller_sent_with_it(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    ana = add_user(app, "ana")
    team = add_team(app, "research", (ana,))
    add_calls(app, 2, user_id=ana, team_id=team, custom_id="order-17", client_metadata='{"tenant": "acme"}')
    add_calls(app, 3, user_id=ana)
    page = panel_anywhere_admin.get("/admin/usage/").text
    assert page.count("order-17</code>") == page.count(">research</a>") == 2
    for query in ("team=research", f"team=%23{team}", "custom_id=order-17"):
        assert len(shown(panel_anywhere_admin.get(f"/admin/usage/?{query}").text)) == 2, query
    assert shown(panel_anywhere_admin.get("/admin/usage/?team=nobodys").text) == []
    first = shown(panel_anywhere_admin.get("/admin/usage/?custom_id=order-17").text)[0]
    details = panel_anywhere_admin.get(f"/admin/usage/details/?id={first}").text
    for text in ("research", "order-17", "{&#34;tenant&#34;: &#34;acme&#34;}"):
        assert text in details, text
    rows = list(csv.DictReader(io.StringIO(panel_anywhere_admin.get("/admin/usage/export.csv").text)))
    assert [row["team"] for row in rows].count("research") == 2
    assert {row["custom_id"] for row in rows} == {"order-17", ""}
    assert {row["client_metadata"] for row in rows} == {'{"tenant": "acme"}', ""}
