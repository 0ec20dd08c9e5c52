"""The first page: its sums, its chart, and what it advises to do first."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from routes.admin.overview import chart_of, nice_top
from services import reports
from tests.admin.conftest import Browser, add_calls, add_provider
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
