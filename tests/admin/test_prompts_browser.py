"""A stored prompt through gunicorn: tried in the playground with a real browser, and called by OpenAI's SDK."""

from collections.abc import Callable

import openai

from tests.admin.conftest import PASSWORD
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
