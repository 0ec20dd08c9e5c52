"""The playground's routes: what the page offers, calls on one's own account, refusals in words, replay, dialogs."""

import json
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from models import AuditEntry, Dialog, Message, Provider, UsageRecord, User
from tests.admin.conftest import Browser, add_budget, add_limit, add_team, add_user, row_of, rows_of, spend, statements
from tests.fakes.upstream import Upstream
from tests.helpers import RATES, add_model, add_provider, assert_books_agree, chat, with_upstream

CHAT = "/playground/chat"


@pytest.fixture
def spoken(panel_anywhere: Flask, upstream: Upstream) -> Flask:
    """An app with the model `fast` and the person ana."""
    with_upstream(panel_anywhere, upstream)
    add_user(panel_anywhere, "ana")
    return panel_anywhere


def number(app: Flask, name: str = "ana") -> int:
    return next(int(row.id) for row in rows_of(app, User) if row.username == name)


class Player(Browser):
    """A browser with the page open: its calls carry the token of the page."""

    def ask(self, body: Any = None, path: str = CHAT, **headers: str) -> TestResponse:
        token = self.token()
        given = {"x-csrftoken": token, **headers}
        return self.client.post(path, json=chat() if body is None else body, headers=given)

    def refusal(self, body: Any = None) -> tuple[int, dict[str, Any]]:
        answer = self.ask(body)
        return answer.status_code, (answer.json or {})["error"]


def events(answer: TestResponse) -> list[tuple[str, Any]]:
    """The events of a stream, with their names."""
    found = []
    text = answer.text
    answer.close()
    for event in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in event.splitlines() if not line.startswith(":"))
        if "data" in lines:
            found.append((lines.get("event", ""), lines["data"]))
    return [(name, data if data == "[DONE]" else json.loads(data)) for name, data in found]


def setup_of(answer: TestResponse) -> dict[str, Any]:
    """What the page tells its script."""
    from html import unescape

    text = answer.text.split('data-setup="', 1)[1].split('"', 1)[0]
    found: dict[str, Any] = json.loads(unescape(text))
    return found


def test_a_stream_ends_with_its_figures_and_is_booked_on_the_person(spoken: Flask) -> None:
    answer = Player(spoken, "ana").ask(chat(stream=True))
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    *said, (name, figures) = events(answer)
    assert said[-1] == ("", "[DONE]")
    assert "".join(
        one["choices"][0]["delta"].get("content", "") for _name, one in said[:-1] if one["choices"]
    ).startswith("word0 word1")
    row = rows_of(spoken, UsageRecord)[-1]
    assert name == "figures"
    assert (row.user_id, row.key_id, row.operation, row.outcome) == (number(spoken), None, "chat", "ok")
    assert figures["request_id"] == row.request_id == answer.headers["x-request-id"]
    assert (figures["input_tokens"], figures["output_tokens"]) == (row.input_tokens, row.output_tokens) == (2, 5)
    assert figures["cost_nanousd"] == row.cost_nanousd == 2 * 150 + 5 * 600
    assert_books_agree(spoken.extensions["gateway"].engine)


def test_a_whole_answer_and_unknown_members_are_as_in_v1(spoken: Flask, upstream: Upstream) -> None:
    answer = Player(spoken, "ana").ask(chat(some_new_member={"a": 1}, seed=7))
    assert answer.json
    assert answer.json["choices"][0]["message"]["content"].startswith("word0")
    sent = upstream.served[-1].body
    assert (sent["some_new_member"], sent["seed"]) == ({"a": 1}, 7)
    status, error = Player(spoken, "ana").refusal(chat(temperature="warm"))
    assert (status, error["param"]) == (400, "temperature")


@pytest.mark.parametrize("scope", ["user", "team", "model"])
def test_budgets_hold(spoken: Flask, scope: str) -> None:
    player = Player(spoken, "ana")
    team = add_team(spoken, "crew", (number(spoken),))
    from models import Model

    model = next(row.id for row in rows_of(spoken, Model) if row.name == "fast")
    budget = add_budget(spoken, scope, {"user": number(spoken), "team": team, "model": model}[scope], 1_000_000)
    spend(spoken, budget, 1_000_000)
    spoken.extensions["gateway"].catalog.refresh()
    status, error = player.refusal()
    assert status == 429
    assert "limit $0.001, spent $0.001" in error["message"]
    assert "It resets at" in error["message"]
    assert rows_of(spoken, UsageRecord) == []


@pytest.mark.parametrize("scope", ["user", "team", "model"])
def test_limits_hold(spoken: Flask, scope: str) -> None:
    player = Player(spoken, "ana")
    team = add_team(spoken, "crew", (number(spoken),))
    from models import Model

    model = next(row.id for row in rows_of(spoken, Model) if row.name == "fast")
    add_limit(spoken, scope, {"user": number(spoken), "team": team, "model": model}[scope], 1)
    spoken.extensions["gateway"].catalog.refresh()
    assert player.ask().status_code == 200
    status, error = player.refusal()
    assert status == 429
    assert "the limit is 1" in error["message"]
    assert error["retry_after_s"] >= 1


def test_a_balance_that_is_spent_refuses(spoken: Flask) -> None:
    budget = add_budget(spoken, "user", number(spoken), 10, unit="tokens", period="total", is_prepaid=True)
    spend(spoken, budget, 10, period="total", start=0)
    status, error = Player(spoken, "ana").refusal()
    assert (status, error["code"]) == (402, "budget_exceeded")


def test_lists_of_models_and_paths_hold(spoken: Flask) -> None:
    here, player = spoken.extensions["gateway"], Player(spoken, "ana")
    for columns, words in (
        ({"allowed_models": ["echo"]}, "may not use model `fast`; allowed: `echo`"),
        (
            {"allowed_models": None, "allowed_paths": [{"path": "/v1/embeddings"}]},
            "may not use `POST /v1/chat/completions`",
        ),
    ):
        with Session(here.engine) as session, session.begin():
            session.execute(update(User).where(User.username == "ana").values(**columns))
        status, error = player.refusal()
        assert (status, words in error["message"]) == (403, True), error


def test_only_models_that_one_may_use_are_offered(spoken: Flask) -> None:
    browser = Player(spoken, "ana")
    assert "fast" in [one["name"] for one in setup_of(browser.get("/playground/"))["models"]]
    with Session(spoken.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(User).where(User.username == "ana").values(allowed_models=["echo"]))
    page = setup_of(browser.get("/playground/?model=fast&agent=code_assistant"))
    assert [one["name"] for one in page["models"]] == ["echo"]
    assert (page["model"], page["agent"], page["may_explore"]) == ("fast", "code_assistant", False)
    assert {"temperature": 0.2, "max_tokens": 4096} in [one["members"] for one in page["agents"]]


def test_a_disabled_user_and_an_ended_session_stop_at_once(spoken: Flask) -> None:
    player, other = Player(spoken, "ana"), Player(spoken, "ana")
    assert player.ask().status_code == other.ask().status_code == 200
    token = player.token()
    with player.client.session_transaction("/admin/") as cookie:
        spoken.extensions["gateway"].accounts.end_session(cookie["_user_id"])
    ended = player.client.post(CHAT, json=chat(), headers={"x-csrftoken": token})
    assert (ended.status_code, "/admin/login" in ended.location) == (302, True)
    token = other.token()
    with Session(spoken.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(User).where(User.username == "ana").values(is_active=False))
    assert other.client.post(CHAT, json=chat(), headers={"x-csrftoken": token}).status_code == 302
    assert len(rows_of(spoken, UsageRecord)) == 2


def test_other_sites_cannot_call_it(spoken: Flask) -> None:
    player = Player(spoken, "ana")
    token = player.token()
    own = {"x-csrftoken": token}
    for headers in ({}, {"x-csrftoken": "wrong"}):
        assert player.client.post(CHAT, json=chat(), headers=headers).status_code == 400
    for headers in ({"origin": "https://evil.test"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}):
        assert player.client.post(CHAT, json=chat(), headers=own | headers).status_code == 403
    plain = player.client.post(CHAT, data=json.dumps(chat()), content_type="text/plain", headers=own)
    assert (plain.status_code, "application/json" in plain.text) == (400, True)
    assert rows_of(spoken, UsageRecord) == []
    assert "access-control-allow-origin" not in player.ask(origin="http://localhost").headers


def test_bodies_are_bounded(panel_app: Flask) -> None:
    panel_app.config["MAX_CONTENT_LENGTH"] = 2000
    refused = Player(panel_app, "admin").ask(chat("x" * 3000, "echo"))
    assert (refused.status_code, refused.mimetype) == (413, "application/json")
    error = refused.get_json()["error"]
    assert (error["code"], error["message"]) == ("request_too_large", "The request body is too large.")
    assert rows_of(panel_app, UsageRecord) == []


def test_errors_are_in_the_language_of_the_person(spoken: Flask, upstream: Upstream) -> None:
    add_user(spoken, "bia", locale="pt_BR")
    add_limit(spoken, "user", number(spoken, "bia"), 1)
    player = Player(spoken, "bia")
    upstream.will(words=9, cut_after=3)
    *_said, (_name, broken), (last, figures) = events(player.ask(chat(stream=True)))
    english = [data for _n, data in events(_cut(spoken, upstream)) if isinstance(data, dict) and "error" in data]
    assert broken["error"]["message"] != english[0]["error"]["message"]
    assert (last, figures["outcome"]) == ("figures", "upstream_cut")
    _status, error = player.refusal()
    assert "o limite é 1" in error["message"]


def _cut(app: Flask, upstream: Upstream) -> TestResponse:
    upstream.will(words=9, cut_after=3)
    return Player(app, "ana").ask(chat(stream=True))


def test_what_a_provider_refuses_is_told(spoken: Flask, upstream: Upstream) -> None:
    upstream.will(status=400)
    status, error = Player(spoken, "ana").refusal()
    assert (status, error["message"]) == (400, "status 400")


def test_figures_of_ones_own_calls_alone(spoken: Flask) -> None:
    add_user(spoken, "ben")
    player = Player(spoken, "ana")
    name = player.ask().headers["x-request-id"]
    told = player.get(f"/playground/figures?call={name}")
    assert told.json
    assert (told.json["input_tokens"], told.json["outcome"]) == (2, "ok")
    assert Player(spoken, "ben").get(f"/playground/figures?call={name}").status_code == 404
    assert Player(spoken, "admin").get(f"/playground/figures?call={name}").status_code == 404
    for wrong in ("%00", "x" * 200, ""):
        assert player.get(f"/playground/figures?call={wrong}").status_code == 404


def test_a_call_is_opened_in_the_explorer_by_who_may_see_it(spoken: Flask) -> None:
    player = Player(spoken, "ana")
    name = player.ask().headers["x-request-id"]
    assert player.get(f"/playground/explorer?call={name}").status_code == 403
    admin = Browser(spoken, "admin")
    row = rows_of(spoken, UsageRecord)[-1]
    assert admin.get(f"/playground/explorer?call={name}").location == f"/admin/usage/details/?id={row.id}"
    assert admin.get("/playground/explorer?call=none").status_code == 404


def test_without_javascript_a_form_sends_one_prompt(spoken: Flask) -> None:
    browser = Browser(spoken, "ana")
    page = browser.post("/playground/", {"model": "fast", "system": "Be brief.", "prompt": "<b>Hello</b>"})
    assert page.status_code == 200
    assert '<pre class="body-text" tabindex="0" id="plain-answer">word0 word1' in page.text
    assert "&lt;b&gt;Hello&lt;/b&gt;" in page.text
    assert rows_of(spoken, UsageRecord)[-1].user_id == number(spoken)
    nothing = browser.post("/playground/", {"model": "fast", "prompt": " "})
    assert (nothing.status_code, "Write a message first." in nothing.text) == (400, True)
    add_limit(spoken, "user", number(spoken), 1)
    refused = [browser.post("/playground/", {"model": "fast", "prompt": "Hi"}) for _time in range(2)][-1]
    assert (refused.status_code, "the limit is 1" in refused.text) == (429, True)


def test_a_conversation_is_kept_as_a_dialog(spoken: Flask) -> None:
    player = Player(spoken, "ana")
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    body = {"title": "Hi", "model_name": "fast", "system_prompt": "Be brief.", "messages": said}
    assert player.ask(body, "/playground/dialog").status_code == 201
    (dialog,) = rows_of(spoken, Dialog)
    assert (dialog.user_id, dialog.title, dialog.system_prompt) == (number(spoken), "Hi", "Be brief.")
    with Session(spoken.extensions["gateway"].engine) as session:
        assert [(row.role, row.content) for row in session.query(Message).order_by(Message.number)] == [
            (one["role"], one["content"]) for one in said
        ]
    assert [row.actor for row in rows_of(spoken, AuditEntry) if row.action == "import_dialogs"] == ["ana"]
    wrong = player.ask({"messages": [{"role": "robot"}]}, "/playground/dialog")
    assert wrong.status_code == 400
    assert len(rows_of(spoken, Dialog)) == 1


def test_the_page_needs_few_statements(spoken: Flask) -> None:
    for place in range(20):
        add_model(spoken, add_provider(spoken, "http://127.0.0.1:9/v1", f"more-{place}"), f"more-{place}")
    browser = Browser(spoken, "ana")
    browser.get("/playground/")
    with statements(spoken) as seen:
        assert browser.get("/playground/").status_code == 200
    assert len(seen) <= 12


def test_auditors_and_team_admins_play_on_their_own_account(spoken: Flask) -> None:
    for role in ("auditor", "team_admin"):
        who = add_user(spoken, role.replace("_", "-"), role=role)
        assert Player(spoken, role.replace("_", "-")).ask().status_code == 200
        assert row_of(spoken, UsageRecord, rows_of(spoken, UsageRecord)[-1].id).user_id == who


def test_only_models_that_chat_are_offered_and_one_that_answers_is_chosen(spoken: Flask, upstream: Upstream) -> None:
    provider = add_provider(spoken, upstream, "acme")
    kinds = ("text-embedding-3-small", "whisper-1", "gpt-image-1", "rerank-v3.5", "omni-moderation-latest")
    for name in kinds:
        add_model(spoken, provider, name, upstream_model=name)
    add_model(spoken, provider, "a-picture", price={**RATES, "image_nanousd": 40_000_000})
    add_model(spoken, provider, "a-mystery", price=None)
    vectors = add_provider(spoken, upstream, "vectors", settings={"operations": ["embedding"]})
    add_model(spoken, vectors, "a-vector")
    setup = setup_of(Player(spoken, "ana").get("/playground/"))
    offered = {one["name"] for one in setup["models"]}
    assert offered.isdisjoint({*kinds, "a-picture", "a-vector", "echo-embedding"})
    assert {"a-mystery", "echo", "fast"} <= offered
    assert setup["best"] == "fast", "neither the first, which has no price, nor one that is built in"
    asked = setup_of(Player(spoken, "ana").get("/playground/?model=whisper-1"))
    assert "whisper-1" in [one["name"] for one in asked["models"]], "it was asked for by its name"
    with Session(spoken.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(Provider).values(is_enabled=False).where(Provider.kind == "openai"))
    spoken.extensions["gateway"].catalog.refresh()
    assert setup_of(Player(spoken, "ana").get("/playground/"))["best"] == "echo"
