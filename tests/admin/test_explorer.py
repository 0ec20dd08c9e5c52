"""The explorer: new calls as they come, one call beside the list, how it went, what its budgets had."""

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert
from sqlalchemy.orm import Session

from models import LedgerEntry, UsageRecord
from models_prompts import Prompt, PromptVersion
from routes.admin import usage
from routes.admin.show import DASH
from routes.admin.timeline import bars_of
from services import reports
from tests.admin.conftest import Browser, add_calls, add_key, add_user, row_of, rows_of, statements
from tests.admin.roles import left_the_drawer, until
from utils import clock

CALL = re.compile(r'data-call="(\d+)"')
TRACE = {
    "began": [12, 1203],
    "budgets": [[7, "key", "usd", "month", False, 5_000_000_000, 1_000_000_000, 3_000_000]],
    "limits": [["9", "user", "requests", "minute", 12, 9]],
}


def newer(browser: Browser, after: int | str, query: str = "") -> tuple[list[int], int, bool]:
    """The numbers of the rows, where to go on, and whether there were more."""
    answer = browser.get(f"/admin/usage/newer/?after={after}&{query}")
    assert answer.status_code == 200
    found = re.search(r'data-newest="(\d+)"( data-more)?', answer.text)
    assert found is not None
    return [int(number) for number in CALL.findall(answer.text)], int(found[1]), bool(found[2])


def ids(app: Flask) -> list[int]:
    return [row.id for row in rows_of(app, UsageRecord)]


def test_new_calls_come_once_with_the_filters_of_the_list(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    user = add_user(app, "ana")
    add_calls(app, 30)
    first = panel_anywhere_admin.get("/admin/usage/").text
    (start,) = re.findall(r'data-newest="(\d+)"', first)
    assert int(start) == max(ids(app))
    known = set(ids(app))
    add_calls(app, 3, user_id=user, model="slow")
    add_calls(app, 2)
    fresh = sorted(set(ids(app)) - known, reverse=True)
    rows, newest, has_more = newer(panel_anywhere_admin, start)
    assert [number for number in rows if number not in known] == fresh
    assert (newest, has_more) == (max(fresh), False)
    for query in ("user=ana", "model=slow", "user=ana&span=1h"):
        assert len(newer(panel_anywhere_admin, start, query)[0]) == 3, query
    for query in ("user=nobody", "key=99", "model=slow&outcome=upstream_cut", "until=2020-01-01T00:00"):
        assert newer(panel_anywhere_admin, start, query)[0] == [], query


def test_a_call_that_began_long_ago_and_ends_now_is_new(panel_admin: Browser) -> None:
    from datetime import UTC, datetime, timedelta

    add_calls(panel_admin.app, 25)
    start = max(ids(panel_admin.app))
    add_calls(panel_admin.app, 1, created_at=datetime.now(UTC) - timedelta(minutes=20))
    assert max(newer(panel_admin, start)[0]) == start + 1


def test_a_burst_brings_a_bounded_number_and_says_so(panel_admin: Browser) -> None:
    add_calls(panel_admin.app, 1)
    start = max(ids(panel_admin.app))
    add_calls(panel_admin.app, 3 * usage.LIVE_ROWS)
    rows, newest, has_more = newer(panel_admin, start)
    assert (len(rows), newest, has_more) == (usage.LIVE_ROWS, max(ids(panel_admin.app)), True)
    assert max(rows) == newest, "the newest ones"


@pytest.mark.parametrize("after", ["", "x", "-1", "9" * 30, "%00", "1.5"])
def test_without_a_place_to_begin_it_only_says_where_it_is(panel_admin: Browser, after: str) -> None:
    add_calls(panel_admin.app, 2)
    assert newer(panel_admin, after) == ([], max(ids(panel_admin.app)), False)


def test_looking_for_new_calls_costs_few_statements_and_an_index(panel_anywhere_admin: Browser) -> None:
    add_calls(panel_anywhere_admin.app, 40)
    path = f"/admin/usage/newer/?after={max(ids(panel_anywhere_admin.app)) - 3}&model=fast"
    panel_anywhere_admin.get(path)
    with statements(panel_anywhere_admin.app) as seen:
        panel_anywhere_admin.get(path)
    assert len(seen) <= 7
    assert "count(" not in " ".join(one for one in seen if "raise_requests" not in one).lower()


def test_filters_by_provider_and_request_id(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    user = add_user(app, "ana")
    add_calls(app, 3)
    (wanted,) = add_calls(app, 1, provider="backup", user_id=user)

    def found(query: str) -> int:
        return len(CALL.findall(panel_anywhere_admin.get(f"/admin/usage/?{query}").text))

    assert [found(one) for one in ("provider=backup", f"request_id={wanted}", f"request_id={wanted}&user=ana")] == [
        1
    ] * 3
    assert [found(one) for one in ("provider=back", "request_id=req_", f"request_id={wanted}&user=admin")] == [0] * 3


def test_the_page_of_a_call_has_its_timeline_and_what_its_budgets_had(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    attempts = json.dumps([["acme", "upstream_timeout"], ["backup", "ok"]])
    (request_id,) = add_calls(
        app, 1, attempts=attempts, trace=json.dumps(TRACE), first_byte_ms=1834, duration_ms=4310, is_stream=True
    )
    entry = {"created_at": clock.now(), "kind": "charge", "account": "budget", "request_id": request_id}
    with Session(panel_anywhere_admin.gateway.engine) as session, session.begin():
        charges = [{"account_id": 7, "amount_nanousd": 27_000}, {"account_id": 8, "amount_nanousd": 27_000}]
        session.execute(insert(LedgerEntry), [entry | charge for charge in charges])
    path = f"/admin/usage/details/?id={ids(app)[-1]}"
    answer = panel_anywhere_admin.get(path)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text)).replace(DASH, "-")
    for words in (
        "Before it was sent 12 ms",
        "1. acme upstream_timeout 1.19 s",
        "2. backup ok 631 ms",
        "The answer, streamed 2.48 s",
        "API key USD per month $5.00 $4.00 $0.003 $0.000027",
        "A budget USD - - - $0.000027",
        "User Requests per minute 12 9 - -",
    ):
        assert words in text, words
    assert request_id in answer.text
    with statements(app) as seen:
        panel_anywhere_admin.get(path)
    assert len(seen) <= 12


def test_a_call_of_before_says_that_nothing_was_noted(panel_admin: Browser) -> None:
    add_calls(panel_admin.app, 1)
    page = panel_admin.get(f"/admin/usage/details/?id={ids(panel_admin.app)[0]}").text
    assert "was not noted of this call" in page
    assert "None applied to this call" in page


def test_the_page_of_a_call_leads_to_its_prompt_and_batch_and_says_when_nobody_was_asked(panel_admin: Browser) -> None:
    app = panel_admin.app
    with Session(panel_admin.gateway.engine) as session, session.begin():
        prompt = Prompt(user_id=1, team_id=0, name="greeting", description="", newest=3)
        session.add(prompt)
        session.flush()
        version = PromptVersion(prompt_id=prompt.id, number=3, messages=[], author="admin")
        session.add(version)
        session.flush()
        number, uuid = version.id, prompt.uuid
    add_calls(app, 1, prompt_version_id=number, batch_id=17, saved_nanousd=5)
    page = panel_admin.get(f"/admin/usage/details/?id={ids(app)[0]}").text
    assert f'href="/portal/prompts/details/?id={uuid}&amp;version=3">greeting@3' in page
    assert 'href="/admin/batches/details/?id=17"' in page
    assert "nobody was asked" in page
    assert "was not noted" not in page


def test_the_playground_is_offered_once_it_is_there(panel_admin: Browser) -> None:
    add_calls(panel_admin.app, 1)
    row = rows_of(panel_admin.app, UsageRecord)[0]
    path = f"/admin/usage/details/?id={row.id}"
    is_there = usage.PLAYGROUND in panel_admin.app.view_functions
    assert ("Replay in the playground" in panel_admin.get(path).text) == is_there
    with panel_admin.app.test_request_context():
        assert usage.link_if("no.such_endpoint") is None
        assert usage.link_if("usage.details_view", id=5) == "/admin/usage/details/?id=5"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"first_byte_ms": 10, "is_stream": True}, [("queue", 0, 10), ("answer", 10, 100)]),
        ({"first_byte_ms": None}, [("whole", 0, 100)]),
        ({"trace": '{"began": [5]}'}, [("queue", 0, 5), ("attempt", 5, 100)]),
        ({"trace": '{"began": [5, 9]}'}, [("whole", 0, 100)]),  # of other attempts
        ({"duration_ms": 0}, [("whole", 0, 0)]),
        ({"trace": '{"began": [500]}'}, [("queue", 0, 500), ("attempt", 500, 500)]),
        ({"first_byte_ms": 500, "is_stream": True}, [("queue", 0, 100), ("answer", 100, 100)]),
        ({"attempts": None, "trace": None}, [("whole", 0, 100)]),
    ],
)
def test_bars(columns: dict[str, Any], expected: list[tuple[str, int, int]]) -> None:
    values = {"first_byte_ms": None, "duration_ms": 100, "is_stream": False, "trace": None, "attempts": '[["a", "ok"]]'}
    bars = bars_of(SimpleNamespace(**values | columns))
    assert [(bar.kind, bar.start_ms, bar.end_ms) for bar in bars] == expected
    for bar in bars:
        assert 0 <= bar.left <= 1000
        assert 0 < bar.wide <= 1000
        assert bar.left + bar.wide <= 1000.1


# In a real browser


@pytest.fixture
def opened(panel_chromium: Any, panel_served: str, panel_app: Flask) -> Iterator[Any]:
    """The list of 25 calls in a browser."""
    user = add_user(panel_app, "ana")
    add_calls(panel_app, 25, user_id=user, key_id=add_key(panel_app, user))
    context = panel_chromium.new_context(base_url=panel_served, viewport={"width": 1440, "height": 900})
    browser = Browser(panel_app, "admin")
    browser.get("/admin/")
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": panel_served}])
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto("/admin/usage/")
    yield page
    assert page.problems == []
    context.close()


def test_a_call_opens_beside_the_list_by_keyboard_and_gives_focus_back(opened: Any, panel_app: Flask) -> None:
    links = opened.locator("tbody [data-drawer]")
    links.nth(1).focus()
    opened.keyboard.press("Enter")
    drawer = opened.locator("#drawer")
    drawer.locator("[data-drawer-part]").wait_for()
    first = row_of(panel_app, UsageRecord, int(links.nth(1).get_attribute("data-call")))
    assert drawer.locator("#request-id").inner_text() == first.request_id
    assert drawer.get_by_role("heading", level=2).first.inner_text().startswith("Call of ")
    opened.keyboard.press("ArrowDown")
    second = row_of(panel_app, UsageRecord, int(links.nth(2).get_attribute("data-call")))
    drawer.locator(f"#request-id:text-is('{second.request_id}')").wait_for()
    assert opened.url.endswith("/admin/usage/")
    opened.keyboard.press("Escape")
    assert not drawer.is_visible()
    assert opened.evaluate("document.activeElement.dataset.call") == str(second.id)


def test_back_closes_the_drawer_and_stays_on_the_list(opened: Any) -> None:
    place = opened.url
    for _time in range(2):
        opened.locator("tbody [data-drawer]").first.click()
        drawer = opened.get_by_role("dialog")
        drawer.locator("[data-drawer-part]").wait_for()
        opened.keyboard.press("ArrowDown")
        opened.go_back()
        drawer.wait_for(state="hidden")
        assert opened.url == place
    opened.locator("tbody [data-drawer]").first.click()
    drawer.get_by_role("button", name="Close").click()
    left_the_drawer(opened)  # closing leaves no entry behind
    opened.locator("tbody [data-drawer]").first.click()
    opened.reload()
    opened.locator("tbody [data-drawer]").first.click()
    drawer.get_by_role("button", name="Close").click()
    drawer.wait_for(state="hidden")
    assert opened.url == place


def test_a_drawer_that_is_opened_again_at_once_stays_open(opened: Any) -> None:
    """A browser steps back a while after it was told to."""
    opened.locator("tbody [data-drawer]").first.click()
    drawer = opened.get_by_role("dialog")
    drawer.locator("[data-drawer-part]").wait_for()
    opened.evaluate(
        """() => {
          window.__steps = 0;
          addEventListener("popstate", () => { window.__steps += 1; });
          document.querySelector("[data-drawer-close]").click();
          document.getElementById("drawer").addEventListener(
            "close", () => document.querySelector("tbody [data-drawer]").click(), { once: true });
        }"""
    )
    until(opened, "window.__steps === 1")
    drawer.locator("[data-drawer-part]").wait_for()
    assert drawer.is_visible()
    opened.go_back()
    drawer.wait_for(state="hidden")


def test_the_drawer_closes_by_its_button_and_opens_as_a_page(opened: Any) -> None:
    opened.locator("tbody [data-drawer]").first.click()
    drawer = opened.get_by_role("dialog")
    drawer.locator("[data-drawer-part]").wait_for()
    drawer.get_by_role("button", name="Close").click()
    assert not drawer.is_visible()
    opened.locator("tbody [data-drawer]").first.click()
    drawer.locator("[data-drawer-part]").wait_for()
    drawer.get_by_role("link", name="Open as a page").click()
    opened.wait_for_url("**/admin/usage/details/**")
    assert opened.locator("#drawer").count() == 0


def test_a_drawer_that_gets_no_call_opens_the_page_instead(opened: Any, panel_app: Flask) -> None:
    from sqlalchemy import delete

    number = int(opened.locator("tbody [data-drawer]").first.get_attribute("data-call"))
    with Session(panel_app.extensions["gateway"].engine) as session, session.begin():
        session.execute(delete(UsageRecord).where(UsageRecord.id == number))
    opened.locator("tbody [data-drawer]").first.click()
    opened.get_by_text("There is nothing here").wait_for()


def test_new_calls_come_in_while_live_and_stop_when_it_is_off(opened: Any, panel_app: Flask) -> None:
    switch = opened.get_by_role("button", name="Live")
    rows = opened.locator("tbody tr")
    before = rows.count()
    assert not opened.get_by_role("link", name="Newer calls").is_visible()
    switch.click()
    assert switch.get_attribute("aria-pressed") == "true"
    (request_id,) = add_calls(panel_app, 1, custom_id="just-now")
    opened.get_by_text("just-now").wait_for(timeout=60_000)
    assert rows.count() == before + 1
    assert "just-now" in rows.first.inner_text()
    assert opened.locator("[data-live-said]").inner_text() == "One new call"
    switch.click()
    assert switch.get_attribute("aria-pressed") == "false"
    add_calls(panel_app, 1, custom_id="too-late")
    opened.wait_for_timeout(3000)
    assert opened.get_by_text("too-late").count() == 0
    assert request_id


def test_live_says_when_the_server_does_not_answer_and_goes_on_when_it_does(opened: Any, panel_app: Flask) -> None:
    opened.route("**/admin/usage/newer/**", lambda route: route.abort())
    opened.get_by_role("button", name="Live").click()
    opened.get_by_text("Paused: the server does not answer").wait_for(timeout=60_000)
    opened.unroute("**/admin/usage/newer/**")
    add_calls(panel_app, 1, custom_id="after-all")
    opened.get_by_text("after-all").wait_for(timeout=60_000)
    assert not opened.get_by_text("Paused: the server does not answer").is_visible()


def test_live_says_when_the_session_has_ended_and_goes_on_after_signing_in(opened: Any, panel_app: Flask) -> None:
    cookies = opened.context.cookies()
    opened.context.clear_cookies()
    opened.get_by_role("button", name="Live").click()
    note = opened.locator("[data-live-note]")
    note.get_by_text("Your session has ended.").wait_for(timeout=60_000)
    assert "does not answer" not in note.inner_text()
    link = note.get_by_role("link", name="Sign in again")
    assert link.get_attribute("href").startswith("/admin/login")
    opened.context.add_cookies(cookies)
    add_calls(panel_app, 1, custom_id="after-all")
    opened.get_by_text("after-all").wait_for(timeout=60_000)
    assert not note.is_visible()


def test_without_javascript_a_link_brings_newer_calls(panel_chromium: Any, panel_served: str, panel_app: Flask) -> None:
    context = panel_chromium.new_context(base_url=panel_served, java_script_enabled=False)
    browser = Browser(panel_app, "admin")
    browser.get("/admin/")
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": panel_served}])
    page = context.new_page()
    add_calls(panel_app, 1)
    page.goto("/admin/usage/?model=fast")
    add_calls(panel_app, 1, custom_id="newer")
    assert not page.get_by_role("button", name="Live").is_visible()
    page.get_by_role("link", name="Newer calls").click()
    page.get_by_text("newer", exact=True).wait_for()
    page.locator("tbody [data-drawer]").first.click()
    page.wait_for_url("**/admin/usage/details/**")
    context.close()


def test_walks_of_new_calls_begin_after_the_row(panel_anywhere: Flask) -> None:
    add_calls(panel_anywhere, 5)
    engine, numbers = panel_anywhere.extensions["gateway"].engine, ids(panel_anywhere)
    walk = reports.live_walk(reports.UsageFilter(model="fast"), numbers[1], numbers[3])
    assert [row.id for row in reports.read_page(engine, walk, size=10).rows] == [numbers[3], numbers[2]]
