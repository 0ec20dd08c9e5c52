"""The first page: its sums, its chart, and what it advises to do first."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from routes.admin.overview import chart_of, nice_top
from services import reports
from tests.admin.conftest import (
    Browser,
    add_budget,
    add_calls,
    add_key,
    add_model,
    add_provider,
    add_team,
    add_user,
    spend,
)
from utils import clock


def test_an_empty_gateway_says_what_to_do_first(panel_admin: Browser) -> None:
    page = panel_admin.get("/admin/").text.replace("&#34;", '"').replace("&#39;", "'")
    assert "First steps" in page
    assert "curl http://localhost/v1/chat/completions" in page
    assert '"model": "echo"' in page
    assert "No call yet" in page


def test_the_advice_goes_once_it_is_followed(panel_admin: Browser) -> None:
    add_provider(panel_admin.app)
    assert "First steps" in panel_admin.get("/admin/").text
    add_calls(panel_admin.app, 1)
    assert "First steps" not in panel_admin.get("/admin/").text


def test_the_curl_of_the_first_steps_works(panel_app: Flask) -> None:
    from tests.helpers import AUTH

    body = '{"model": "echo", "messages": [{"role": "user", "content": "Hello!"}]}'
    assert body in Browser(panel_app, "admin").get("/admin/").text.replace("&#34;", '"')
    headers = {**AUTH, "content-type": "application/json"}
    assert panel_app.test_client().post("/v1/chat/completions", data=body, headers=headers).status_code == 200


def test_sums_of_the_last_day_against_the_day_before(panel_anywhere: Flask) -> None:
    now = datetime.now(UTC)
    add_calls(panel_anywhere, 6, created_at=now - timedelta(minutes=90))
    add_calls(panel_anywhere, 2, created_at=now - timedelta(minutes=5), outcome="upstream_error", input_tokens=None)
    add_calls(panel_anywhere, 1, created_at=now - timedelta(minutes=5), outcome="client_gone")
    add_calls(panel_anywhere, 4, created_at=now - timedelta(hours=30))
    add_calls(panel_anywhere, 9, created_at=now - timedelta(hours=50))
    found = reports.activity(panel_anywhere.extensions["gateway"].engine, clock.now_ms())
    assert (found.day.calls, found.day.failed, found.day.tokens) == (9, 2, 7 * 120 + 2 * 20)
    assert found.day.cost_nanousd == 9 * 27_000
    assert (found.day_before.calls, found.day_before.failed) == (4, 0)
    assert len(found.hours) == 24
    assert sum(sums.calls for _start, sums in found.hours) == 9
    assert found.hours[-1][0] <= clock.now_ms() < found.hours[-1][0] + reports.HOUR_MS
    page = Browser(panel_anywhere, "admin").get("/admin/").text
    assert "+125%" in page
    assert "22%" in page


def test_the_chart_has_a_table_with_the_same_numbers(panel_admin: Browser) -> None:
    add_calls(panel_admin.app, 7, created_at=datetime.now(UTC) - timedelta(hours=2))
    page = panel_admin.get("/admin/").text
    assert page.count('class="good"') == 24
    rows = re.findall(r'<th scope="row">[^<]+</th><td class="number">(\d+)</td>', page)
    assert len(rows) == 24
    assert sum(map(int, rows)) == 7


@pytest.mark.parametrize(
    ("most", "top"), [(0, 4), (3, 4), (4, 4), (5, 6), (11, 12), (99, 100), (108, 120), (31, 40), (1999, 2000)]
)
def test_the_top_of_the_chart_is_round_and_even(most: int, top: int) -> None:
    assert nice_top(most) == top
    assert top % 2 == 0


def test_bars_stay_within_the_chart() -> None:
    sums = reports.Sums(calls=37, failed=5)
    chart = chart_of(reports.Activity(sums, sums, tuple((hour * reports.HOUR_MS, sums) for hour in range(24))))
    for bar in chart.bars:
        assert 0 < bar.good_height + bar.failed_height <= 100
        assert bar.x + 10 <= chart.width


def test_a_provider_in_trouble_is_on_the_first_page(panel_admin: Browser) -> None:
    add_provider(panel_admin.app, discovery_error="no connection to `acme`: no answer")
    assert "no connection to `acme`" in panel_admin.get("/admin/").text


def test_budgets_past_their_share_to_warn_at_are_on_the_first_page(panel_anywhere: Flask) -> None:
    user = add_user(panel_anywhere, "ana")
    owners = {
        "user": user,
        "key": add_key(panel_anywhere, user, "laptop"),
        "team": add_team(panel_anywhere, "research"),
        "model": add_model(panel_anywhere, [add_provider(panel_anywhere)], "fast"),
    }
    budgets = [add_budget(panel_anywhere, scope, number, 1000, unit="tokens") for scope, number in owners.items()]
    for budget, spent in zip(budgets, (800, 799, 1200, 950), strict=True):
        spend(panel_anywhere, budget, spent)
    never = add_budget(panel_anywhere, "user", user, 1000, period="day", warn_percent=None)
    late = add_budget(panel_anywhere, "user", user, 1000, period="week", warn_percent=99)
    spend(panel_anywhere, never, 999, period="day")
    spend(panel_anywhere, late, 980, period="week")
    over = add_budget(panel_anywhere, "key", owners["key"], 1000, unit="tokens", period="hour")
    spend(panel_anywhere, over, 2000, start=0)  # in another period
    add_budget(panel_anywhere, "team", owners["team"], 0, period="day")
    page = Browser(panel_anywhere, "admin").get("/admin/").text
    card = page.split("Budgets near their end")[1].split("Providers")[0]
    assert re.findall(r"details/\?id=\d+\">([^<]+)</a>", card) == ["research", "fast", "ana"]
    assert "1,200 tokens" in card


def test_without_such_budgets_the_first_page_says_so(panel_admin: Browser) -> None:
    add_budget(panel_admin.app, "user", 1)
    assert "None is past its share to warn at." in panel_admin.get("/admin/").text
