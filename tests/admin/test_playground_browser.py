"""The playground through gunicorn with a real browser, in front of the fake upstream."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from models import UsageRecord
from tests.admin.conftest import Browser, add_limit, add_user, rows_of
from tests.admin.test_browser import WATCH
from tests.fakes.served import Served
from tests.fakes.upstream import Upstream
from tests.helpers import add_model, add_provider, assert_books_agree

SOON_S = 10.0  # a browser shares the machine; what programs are promised is in tests/served/test_departures.py
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class World:
    """A served gateway, its upstream, and ana's page."""

    def __init__(self, app: Flask, served: Served, upstream: Upstream, page: Any) -> None:
        self.app, self.served, self.upstream, self.page = app, served, upstream, page

    def say(self, text: str) -> None:
        self.page.fill("#prompt", text)
        self.page.keyboard.press("Control+Enter")

    def done(self, count: int = 1) -> None:
        """So many answers have their figures."""
        self.page.locator(".play-side:not(.is-open) .play-figures span").filter(has_text="in all").nth(
            count - 1
        ).wait_for()

    def rows(self, count: int) -> list[UsageRecord]:
        end = time.monotonic() + 30
        while len(found := rows_of(self.app, UsageRecord)) < count and time.monotonic() < end:
            time.sleep(0.05)
        assert len(found) == count
        return found


@pytest.fixture(params=["gevent", "gthread"])
def worker(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(
    panel_app: Flask, serve: Callable[..., Served], upstream: Upstream, panel_chromium: Any
) -> Iterator[Callable[..., World]]:
    """Serves the app, and opens the page as ana or somebody else."""
    provider = add_provider(panel_app, upstream)
    for name in ("fast", "other"):
        add_model(panel_app, provider, name)
    add_user(panel_app, "ana")
    contexts = []

    def begin(who: str = "ana", path: str = "/playground/?model=fast", **environ: str) -> World:
        served = serve(**environ)
        browser = Browser(panel_app, who)
        browser.get("/admin/")
        cookie = browser.client.get_cookie("admin_session")
        assert cookie is not None
        context = panel_chromium.new_context(base_url=served.url, viewport={"width": 1440, "height": 900})
        context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": served.url}])
        context.add_init_script(WATCH)
        page = context.new_page()
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.goto(path)
        contexts.append((context, page))
        return World(panel_app, served, upstream, page)

    yield begin
    for context, page in contexts:
        assert page.problems == []
        assert page.evaluate("window.__reports") == []
        context.close()


def test_an_answer_streams_and_stopping_ends_the_upstream(start: Callable[..., World], worker: str) -> None:
    world = start(WORKER_CLASS=worker)
    page = world.page
    world.say("Hello there")
    world.done()
    assert page.locator(".md").inner_text().startswith("word0 word1 word2")
    figures = page.locator(".play-figures").inner_text()
    assert "2 in" in figures
    assert "5 out" in figures
    assert "$0.000003" in figures
    world.say('Now slowly {{"words": 500, "every_s": 0.05}}')
    page.locator(".md").nth(1).filter(has_text="word3").wait_for()
    page.keyboard.press("Escape")
    left_at = time.monotonic()
    served = world.upstream.wait_for(2)[1]
    while served.peer_left_at is None and time.monotonic() < left_at + SOON_S:
        time.sleep(0.01)
    assert served.peer_left_at is not None
    assert served.peer_left_at - left_at < SOON_S
    world.done(2)
    assert page.locator(".play-figures").nth(1).get_by_text("stopped").count() == 1
    rows = world.rows(2)
    assert [(row.outcome, row.key_id) for row in rows] == [("ok", None), ("client_gone", None)]
    assert page.locator("#told").inner_text() == "stopped"
    assert [one["role"] for one in served.body["messages"]] == ["user", "assistant", "user"]
    assert_books_agree(world.app.extensions["gateway"].engine)


def test_parameters_tools_and_their_results(start: Callable[..., World]) -> None:
    world = start(path="/playground/?model=echo-tool-call")
    page = world.page
    page.fill("#system", "Be brief.")
    page.fill("#temperature", "0.5")
    page.fill("#stop", "END")
    page.locator("#is_json").check()
    page.get_by_text("Tools", exact=True).first.click()
    page.fill("#tools", "[{")
    assert "Tools must be a JSON list" in page.locator("#tools-problem").inner_text()
    page.get_by_role("button", name="Insert an example").click()
    assert page.locator("#tools-problem").inner_text() == ""
    world.say("What is the weather?")
    world.done()
    call = page.locator(".play-call")
    assert "get_weather" in call.inner_text()
    page.locator("#model").select_option("echo-json")
    call.get_by_label("Result of the tool").fill("12 degrees")
    page.get_by_role("button", name="Send the results").click()
    world.done(2)
    page.locator("#raw").check()
    sent = json.loads(page.locator(".play-raw").nth(1).inner_text())
    roles = [one["role"] for one in sent["messages"]]
    assert roles == ["system", "user", "assistant", "tool"]
    assert sent["messages"][3]["content"] == "12 degrees"
    assert sent["messages"][3]["tool_call_id"] == sent["messages"][2]["tool_calls"][0]["id"]
    assert (sent["temperature"], sent["stop"], sent["response_format"]) == (0.5, ["END"], {"type": "json_object"})
    assert "top_p" not in sent
    assert "seed" not in sent


def test_pictures_are_sent_and_checked(start: Callable[..., World], tmp_path: Path) -> None:
    world = start()
    page = world.page
    page.set_input_files("#file", {"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"x"})
    assert "a.pdf is no picture" in page.locator("#note").inner_text()
    page.set_input_files("#file", {"name": "big.png", "mimeType": "image/png", "buffer": b"x" * 6_000_000})
    assert "big.png has 5.7 MB" in page.locator("#note").inner_text()
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": PICTURE})
    page.locator(".play-image img").wait_for()
    assert not page.locator("#note").is_visible()
    world.say("What is it?")
    world.done()
    text, picture = world.upstream.served[-1].body["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is it?"}
    assert base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,")) == PICTURE


def test_errors_are_sentences(start: Callable[..., World]) -> None:
    world = start()
    page = world.page
    world.say('Break {{"words": 9, "cut_after": 3}}')
    page.get_by_role("alert").wait_for()
    assert "word2" in page.locator(".md").inner_text()
    add_limit(world.app, "user", rows_of(world.app, UsageRecord)[-1].user_id, 1)
    time.sleep(1.2)
    world.say("Once")
    world.done(2)
    world.say("Twice")
    refused = page.get_by_role("alert").filter(has_text="the limit is 1")
    refused.wait_for()
    assert "Try again in" in refused.inner_text()
    page.context.clear_cookies()
    world.say("And signed out")
    page.get_by_role("alert").filter(has_text="Your session has ended.").wait_for()
    assert "And signed out" in page.locator("#turns").inner_text()


def test_two_models_side_by_side_edit_resend_and_reload(start: Callable[..., World]) -> None:
    world = start()
    page = world.page
    page.get_by_role("button", name="Compare").click()
    page.locator("#second").select_option("other")
    world.say("Both of you")
    world.done(2)
    sides = page.locator(".play-sides .play-side")
    assert sides.locator("h3").all_inner_texts() == ["fast", "other"]
    assert sorted(row.model for row in world.rows(2)) == ["fast", "other"]
    page.reload()
    assert page.locator(".play-sides .play-side").count() == 2
    assert page.locator("#second").input_value() == "other"
    assert "in all" in page.locator(".play-figures").first.inner_text()
    page.get_by_role("button", name="Compare").click()
    page.locator(".play-user").get_by_role("button", name="Edit").click()
    page.get_by_label("Edit").fill("Only you")
    page.get_by_role("button", name="Save and send").click()
    page.locator(".play-turn").nth(1).locator(".play-side").wait_for()
    world.done()
    world.rows(3)
    assert world.upstream.served[-1].body["messages"] == [{"role": "user", "content": "Only you"}]
    page.get_by_role("button", name="Delete").last.click()
    assert page.locator(".play-turn").count() == 1
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Clear the conversation").click()
    page.get_by_role("heading", name="Try a model").wait_for()
    page.reload()
    assert page.locator(".play-turn").count() == 0


@pytest.mark.parametrize(("field", "name"), [("tools", "Tools"), ("other", "Other members")])
def test_what_cannot_be_sent_stays_in_the_box(start: Callable[..., World], field: str, name: str) -> None:
    world = start()
    page = world.page
    page.get_by_text(name, exact=True).first.click()
    page.fill(f"#{field}", "[{")
    page.get_by_text(name, exact=True).first.click()
    world.say("Hello there")
    page.locator("#note").get_by_text(f"{name} must be").wait_for()
    assert page.locator("#prompt").input_value() == "Hello there"
    assert page.locator(".play-turn").count() == 0
    assert page.locator(f"#{field}").is_visible()
    page.fill(f"#{field}", "")
    page.locator("#prompt").press("Control+Enter")
    world.done()
    assert page.locator("#prompt").input_value() == ""
    assert not page.locator("#note").is_visible()
    page.fill(f"#{field}", "[{")
    page.locator(".play-user").get_by_role("button", name="Send from here").click()
    page.locator("#note").get_by_text(f"{name} must be").wait_for()
    assert page.locator(".play-turn").count() == 2, "the answer is kept"


def test_clearing_asks_first_by_keyboard_too(start: Callable[..., World]) -> None:
    world = start()
    page = world.page
    world.say("Hello there")
    world.done()
    clear = page.get_by_role("button", name="Clear", exact=True)
    clear.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Clear this conversation?")
    dialog.wait_for()
    page.keyboard.press("Enter")  # on Cancel, which has the focus
    assert not dialog.is_visible()
    assert page.locator(".play-turn").count() == 2
    assert page.evaluate("document.activeElement.id") == "clear"
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.locator(".play-turn").count() == 2
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Clear the conversation").press("Enter")
    page.get_by_role("heading", name="Try a model").wait_for()
    assert page.locator(".play-turn").count() == 0
    assert page.evaluate("document.activeElement.id") == "prompt"


def test_code_is_exactly_what_was_sent(start: Callable[..., World]) -> None:
    world = start()
    page = world.page
    page.fill("#max_tokens", "50")
    world.say('It\'s "quoted" $HOME `x` é 😀\nnext')
    world.done()
    page.locator(".play-figures").get_by_role("button", name="View code").click()
    shown = {}
    for name in ("curl", "Python", "Node"):
        page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()
        shown[name] = page.locator("#code-text").inner_text()
        assert "TOLLHOUSE_API_KEY" in shown[name]
        assert f"{world.served.url}/v1" in shown[name]
    sent = json.loads(shown["curl"].split("<<'JSON'\n")[1].split("\nJSON")[0])
    assert sent == {
        "model": "fast",
        "messages": [{"role": "user", "content": 'It\'s "quoted" $HOME `x` é 😀\nnext'}],
        "stream": True,
        "max_tokens": 50,
    }
    scope: dict[str, Any] = {}
    literal = shown["Python"].split("body = ")[1].split("\nanswer = ")[0]
    exec(f"body = {literal}", scope)
    assert scope["body"] == sent


def test_a_call_from_before_is_loaded_and_kept(start: Callable[..., World]) -> None:
    world = start("admin")
    world.say("Hello there")
    world.done()
    row = world.rows(1)[0]
    world.page.goto(f"/playground/?call={row.request_id}")
    assert "no key was used" in world.page.locator("#note").inner_text()
    assert world.page.locator("#model").input_value() == "fast"
    assert world.page.locator(".play-turn").count() == 0
    world.say("Again")
    world.done()
    world.page.get_by_role("button", name="Continue as dialog").click()
    world.page.get_by_text("Kept as the dialog “Again”").wait_for()
    world.page.get_by_role("link", name="Open the call").click()
    assert "/admin/usage/details/?id=" in world.page.url


def test_a_body_that_the_server_finds_too_large_is_said_in_the_conversation(start: Callable[..., World]) -> None:
    world = start(MAX_BODY_BYTES="40000")
    page = world.page

    def loosen(route: Any) -> None:
        """A page of before the setting was lowered: it lets more through."""
        loaded = route.fetch()
        route.fulfill(response=loaded, body=loaded.text().replace("40000", "90000"))

    page.route(lambda url: url.partition("?")[0].endswith("/playground/"), loosen)
    page.goto("/playground/?model=fast")
    world.say("x" * 50_000)
    page.get_by_role("alert").filter(has_text="The request body is too large.").wait_for()
    assert world.upstream.served == []
