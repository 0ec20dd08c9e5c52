"""The first page: its sums, its chart, and what it advises to do first."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from routes.admin.charts import nice_top, stacked
from services import activity
from services.activity import Sums
from services.errors import UpstreamRefused
from services.rollups import Rollups
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

STEPS = 'id="steps"'


def test_an_empty_gateway_says_what_to_do_first(panel_admin: Browser) -> None:
    page = panel_admin.get("/admin/").text.replace("&#34;", '"').replace("&#39;", "'")
    assert STEPS in page
    assert "curl http://localhost/v1/chat/completions" in page
    assert '"model": "echo"' in page
    assert "No call yet" in page


def test_the_advice_goes_once_it_is_followed(panel_admin: Browser) -> None:
    add_model(panel_admin.app, [add_provider(panel_admin.app)])
    add_key(panel_admin.app, add_user(panel_admin.app, "ana"))
    assert STEPS in panel_admin.get("/admin/").text
    add_calls(panel_admin.app, 1)
    assert STEPS not in panel_admin.get("/admin/").text


def test_the_curl_of_the_first_steps_works(panel_app: Flask) -> None:
    from tests.helpers import AUTH

    body = '{"model": "echo", "messages": [{"role": "user", "content": "Hello!"}]}'
    assert body in Browser(panel_app, "admin").get("/admin/").text.replace("&#34;", '"')
    headers = {**AUTH, "content-type": "application/json"}
    assert panel_app.test_client().post("/v1/chat/completions", data=body, headers=headers).status_code == 200


def test_figures_of_the_last_day_against_the_day_before(panel_anywhere: Flask) -> None:
    now = datetime.now(UTC)
    add_calls(panel_anywhere, 6, created_at=now - timedelta(minutes=90), duration_ms=400)
    failed = {"outcome": "upstream_error", "duration_ms": 30_000}
    add_calls(panel_anywhere, 2, created_at=now - timedelta(minutes=5), input_tokens=None, **failed)
    add_calls(panel_anywhere, 1, created_at=now - timedelta(minutes=5), is_stream=True, first_byte_ms=25)
    Rollups(panel_anywhere.extensions["gateway"].engine).fold()
    add_calls(panel_anywhere, 4, created_at=now - timedelta(hours=30), duration_ms=200)
    add_calls(panel_anywhere, 9, created_at=now - timedelta(hours=50))
    page = Browser(panel_anywhere, "admin").get("/admin/").text
    figures = dict(re.findall(r'figure-name">([^<]+)</p>\s*<p class="figure-value">(?:<span[^>]*>)?([^<]+)<', page))
    assert figures == {
        "Requests": "9",
        "Spend": "$0.000243",
        "Error rate": "22%",
        "Latency, median": "408 ms",
        "Latency, p95": "1.25 s",
        "First token, p95": "25 ms",
    }
    assert "+125%" in page
    assert "0% before" in page
    assert "700 tokens in, 180 out" in page


def test_the_chart_has_a_table_with_the_same_numbers(panel_admin: Browser) -> None:
    add_calls(panel_admin.app, 7, created_at=datetime.now(UTC) - timedelta(hours=2))
    page = panel_admin.get("/admin/").text
    assert page.count('class="hit"') == 24
    rows = re.findall(r'<th scope="row">[^<]+</th><td class="number">(\d+)</td>', page)
    assert len(rows) == 24
    assert sum(map(int, rows)) == 7


def test_a_range_is_kept_from_page_to_page(panel_anywhere: Flask) -> None:
    now, browser = datetime.now(UTC), Browser(panel_anywhere, "admin")
    for days, cost in ((0, 1), (5, 10), (20, 100), (60, 1000)):
        add_calls(panel_anywhere, 1, created_at=now - timedelta(days=days), cost_nanousd=cost * 10**9, model=f"m{days}")
    for name, cost_shown, bars in (("24h", "$1", 24), ("7d", "$11", 7), ("30d", "$111", 30), ("90d", "$1,111", 90)):
        for page in (browser.get(f"/admin/?range={name}").text, browser.get("/admin/").text):
            assert f'figure-value">{cost_shown}.00<' in page
            assert page.count('class="hit"') == bars
            assert re.search(r"\?range=" + name + '" aria-current="true"', page)
    assert browser.get("/admin/?range=1y").text.count('class="hit"') == 90
    assert Browser(panel_anywhere, "admin").get("/admin/").text.count('class="hit"') == 24


def test_dates_are_whole_days_with_their_last(panel_anywhere: Flask) -> None:
    browser, today = Browser(panel_anywhere, "admin"), datetime.now(UTC).date()
    noon = datetime(today.year, today.month, today.day, 12, tzinfo=UTC)
    for days in (2, 3, 4, 5):
        add_calls(panel_anywhere, days, created_at=noon - timedelta(days=days), cost_nanousd=10**9)
    first, last = today - timedelta(days=4), today - timedelta(days=3)
    page = browser.get(f"/admin/?from={first}&to={last}").text
    assert 'figure-value">$7.00<' in page
    assert page.count('class="hit"') == 2
    assert f"{first} \N{EN DASH} {last}" in page
    assert f"since={first}T00:00&amp;until={last + timedelta(days=1)}T00:00" in page.replace("%3A", ":")
    assert "+40%" in page  # 7 calls after the 5 of the day before them, and none earlier
    one = browser.get(f"/admin/?from={last}&to={last}").text
    assert 'figure-value">$3.00<' in one
    assert one.count('class="hit"') == 24
    for query in ("from=yesterday", f"from={last}&to={first}", "from=1999-01-01&to=1999-01-02", "from=2001-01-01"):
        wrong = browser.get(f"/admin/?{query}").text
        assert "Dates are written like 2026-05-31" in wrong
        assert 'figure-value">$3.00<' in wrong  # what was chosen before


def test_more_models_than_colours_are_drawn_as_others(panel_anywhere: Flask) -> None:
    for place in range(9):
        add_calls(panel_anywhere, 1, cost_nanousd=(9 - place) * 10**9, model=f"model-{place}", key_id=place % 2 + 1)
    page = Browser(panel_anywhere, "admin").get("/admin/").text
    legend = page.split('class="series"')[1].split("</ul>")[0]
    assert re.findall(r">(model-\d|all others)</", legend) == [*(f"model-{place}" for place in range(6)), "all others"]
    assert "$6.00" in legend.split("all others")[1]  # 3 + 2 + 1
    ranks = page.split("Top models")[1].split("</ol>")[0]
    assert re.findall(r">(model-\d)</a>", ranks) == [f"model-{place}" for place in range(5)]
    assert "$25.00" in page.split("Top keys")[1].split("</ol>")[0]
    assert page.split("Top users")[1].split("</ol>")[0].count("<li>") == 1


def test_free_calls_are_charted_by_their_number(panel_admin: Browser) -> None:
    assert "No call in this time" in panel_admin.get("/admin/").text
    add_calls(panel_admin.app, 3, cost_nanousd=0)
    page = panel_admin.get("/admin/").text
    assert "Calls per hour" in page
    assert "3 calls" in page.split("Top models")[1].split("</ol>")[0]


def test_calls_that_are_not_added_up_yet_are_told_of(panel_anywhere: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    add_calls(panel_anywhere, 5)
    browser = Browser(panel_anywhere, "admin")
    assert "still being added up" not in browser.get("/admin/").text
    monkeypatch.setattr(activity, "MOST_ROWS", 4)
    assert "About 5 calls are still being added up" in browser.get("/admin/").text


def test_how_providers_fare_is_on_the_first_page(panel_admin: Browser) -> None:
    app = panel_admin.app
    here = app.extensions["gateway"]
    bad, quiet = add_provider(app, "acme"), add_provider(app, "quiet")
    add_model(app, [bad], "fast")
    add_model(app, [quiet], "other")
    here.catalog.refresh()
    add_calls(app, 3)
    add_calls(app, 1, outcome="upstream_error")
    (deployment,) = here.catalog.snapshot().models["fast"].deployments
    here.health.failed(deployment, UpstreamRefused("overloaded", status=503, retry_after_s=300))
    card = panel_admin.get("/admin/").text.split("Providers</h2>")[1].split("</section>")[0]
    acme = card.split("<strong>acme</strong>")[1].split("</a>")[0]
    assert "4 calls · 25% failed" in acme
    assert "left alone" in acme
    assert "overloaded" in acme
    assert "enabled" in card.split("<strong>quiet</strong>")[1].split("</a>")[0]


@pytest.mark.parametrize(
    ("most", "top"), [(0, 4), (3, 4), (4, 4), (5, 6), (11, 12), (99, 100), (108, 120), (31, 40), (1999, 2000)]
)
def test_the_top_of_the_chart_is_round_and_even(most: int, top: int) -> None:
    assert nice_top(most) == top
    assert top % 2 == 0


def test_bars_stay_within_the_chart() -> None:
    sums = {name: Sums(calls=5, cost_nanousd=37_000_000 * place) for place, name in enumerate("abcdefghij", 1)}
    ranking = sorted(sums.items(), key=lambda pair: -pair[1].cost_nanousd)
    chart = stacked([(hour * 3600, sums if hour % 3 else {}) for hour in range(24)], ranking)
    assert [series.name for series in chart.series] == [*"jihgfe", None]
    assert sum(series.value for series in chart.series) == sum(bar.value for bar in chart.bars) == 16 * 55 * 37_000_000
    for series in chart.series:
        for x, y, height in re.findall(r"M(\d+) ([\d.]+)h10v([\d.]+)h-10z", series.path):
            assert 0 <= float(y) <= float(y) + float(height) <= 100.01
            assert int(x) + 10 <= chart.width
    assert [round(x) for x, _start in chart.ticks] == [2, 18, 35, 52, 69, 86]


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
    card = page.split("Budgets near their end")[1].split("</section>")[0]
    assert re.findall(r"details/\?id=\d+\">([^<]+)</a>", card) == ["research", "fast", "ana"]
    assert "1,200 tokens" in card


def test_without_such_budgets_the_first_page_says_so(panel_admin: Browser) -> None:
    add_budget(panel_admin.app, "user", 1)
    assert "None is past its share to warn at." in panel_admin.get("/admin/").text
