"""A stored prompt through gunicorn: tried in the playground with a real browser, and called by OpenAI's SDK."""

from collections.abc import Callable
from typing import Any

import openai

from tests.admin.conftest import PASSWORD, add_limit, user_of
from tests.admin.test_playground_browser import World, start, worker  # noqa: F401 - fixtures
from tests.conftest import TOKEN
from tests.routes.test_prompts import GREETING, PROMPTS


def test_a_prompt_is_tried_and_called(start: Callable[..., World]) -> None:  # noqa: F811 - the fixture
    world = start()
    app, page = world.app, world.page
    signed_in = app.test_client().post("/login", json={"username": "admin", "password": PASSWORD})
    admin = {"Authorization": f"Bearer {signed_in.json['access_token']}"}
    made = app.test_client().post(PROMPTS, json=GREETING | {"owner": "everyone"}, headers=admin)
    assert made.status_code == 201, made.text
    page.wait_for_timeout(2000)  # in which every worker sees it
    page.goto(f"/portal/prompts/details/?id={made.json['id']}")
    page.get_by_role("link", name="Try it").click()
    page.fill("#variable-name", "Ana")
    page.select_option("#variable-language", "Portuguese")
    page.click("#send")
    world.done()
    (sent,) = world.upstream.served
    assert [one["content"] for one in sent.body["messages"]] == ["You greet in Portuguese.", "Greet Ana."]
    with openai.OpenAI(base_url=f"{world.served.url}/v1", api_key=TOKEN, max_retries=0) as client:
        asked = {"prompt_id": "greeting@1", "variables": {"name": "Eva"}}
        told = client.chat.completions.with_raw_response.create(model="fast", messages=[], extra_body=asked)
    assert told.headers["x-gateway-prompt"] == "greeting@1"
    assert world.upstream.served[-1].body["messages"][1]["content"] == "Greet Eva."
    world.rows(2)


def make(world: World, **members: Any) -> str:
    """The id of a prompt for everybody."""
    signed_in = world.app.test_client().post("/login", json={"username": "admin", "password": PASSWORD})
    admin = {"Authorization": f"Bearer {signed_in.json['access_token']}"}
    body = {**GREETING, "owner": "everyone", **members}
    made = world.app.test_client().post(PROMPTS, json=body, headers=admin)
    assert made.status_code == 201, made.text
    return str(made.json["id"])


def test_a_complete_prompt_needs_no_message(start: Callable[..., World]) -> None:  # noqa: F811 - the fixture
    world = start()
    page = world.page
    world.say("Before")
    world.done()
    make(world, variables=[], messages=[{"role": "user", "content": "Hello."}])
    make(world, name="rules", variables=[], messages=[{"role": "system", "content": "Be kind."}])
    page.goto("/playground/?prompt=greeting@1")
    page.locator("#prompt-facts").get_by_text("greeting@1").wait_for()
    page.click("#send")
    world.done(2)
    sent = [one["content"] for one in world.upstream.served[-1].body["messages"]]
    assert (sent[:2], len(sent)) == (["Hello.", "Before"], 3)
    page.goto("/playground/?prompt=rules")
    page.locator("#prompt-facts").get_by_text("rules@1").wait_for()
    page.click("#send")
    page.locator("#note").get_by_text("Write a message first.").wait_for()
    world.rows(2)


def test_values_that_the_prompt_refuses_are_not_sent(start: Callable[..., World]) -> None:  # noqa: F811 - the fixture
    world = start()
    page = world.page
    more = [{"name": "age", "type": "integer", "is_required": False}]
    make(world, variables=[*GREETING["variables"], *more])
    page.goto("/playground/?prompt=greeting@1")
    page.locator("#variable-name").wait_for()
    for field, typed, told in (
        ("name", "", "Fill in name first"),
        ("name", "a" * 41, "name may have 40 characters"),
        ("age", "1.5", "age is not a number that fits"),
    ):
        page.fill(f"#variable-{field}", typed)
        world.say("Stay here")
        page.locator("#note").get_by_text(told).wait_for()
        assert page.locator(f"#variable-{field}.is-invalid").count() == 1
        assert page.locator("#prompt").input_value() == "Stay here"
        assert page.locator(".play-turn").count() == 0
        page.fill(f"#variable-{field}", "Ana" if field == "name" else "")
    world.say("Stay here")
    world.done()
    assert page.locator("#prompt").input_value() == ""


def test_a_prompt_survives_a_reload(start: Callable[..., World]) -> None:  # noqa: F811 - the fixture
    world = start()
    page, uuid = world.page, make(world)
    for reference in ("greeting@1", f"{uuid}@1"):
        page.goto(f"/playground/?prompt={reference}")
        page.fill("#variable-name", "Ana")
        page.select_option("#model", "other")
        page.wait_for_timeout(500)
        page.reload()
        page.locator("#variable-name").wait_for()
        assert page.locator("#variable-name").input_value() == "Ana"
        assert page.locator("#stored").input_value() == reference
        assert page.locator("#stored option:checked").inner_text() == "greeting@1"
        assert page.locator("#model").input_value() == "other"


def test_a_call_that_was_never_made_is_not_offered_to_be_opened(
    start: Callable[..., World],  # noqa: F811 - the fixture
) -> None:
    world = start("admin")
    page = world.page
    add_limit(world.app, "user", user_of(world.app, "admin").id, 1)
    page.wait_for_timeout(1200)
    world.say("Once")
    world.done()
    assert page.get_by_role("link", name="Open the call").count() == 1
    world.say("Twice")
    page.get_by_role("alert").filter(has_text="the limit is 1").wait_for()
    assert page.get_by_role("link", name="Open the call").count() == 1
