"""Stored prompts over HTTP: made, versioned, labelled, used by calls, seen by nobody who may not, raced for."""

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.orm import Session

from models import User
from models_prompts import PromptLabel, PromptVersion
from tests.helpers import assert_books_agree, chat, last, with_upstream
from tests.routes.test_dialogs import NOBODYS, admin_of, ask, engine, person

PROMPTS = "/api/v1/prompts"
CHAT = "/v1/chat/completions"
GREETING = {
    "name": "greeting",
    "messages": [
        {"role": "system", "content": "You greet in {{language}}."},
        {"role": "user", "content": "Greet {{name}}."},
    ],
    "variables": [
        {"name": "name", "max_chars": 40},
        {"name": "language", "type": "enum", "options": ["English", "Portuguese"], "default": "English"},
    ],
    "model": "fast",
    "parameters": {"temperature": 0.5, "max_tokens": 50, "stop_sequences": ["END"]},
}


@pytest.fixture
def spoken(app, upstream):
    return with_upstream(app, upstream)


@pytest.fixture
def boss(spoken):
    return admin_of(spoken)


def make(app, headers, **members):
    answer = ask(app, "POST", PROMPTS, GREETING | members, headers)
    assert answer.status_code == 201, answer.text
    return f"{PROMPTS}/{answer.json['id']}"


def public(app, boss, **members):
    return make(app, boss, owner="everyone", **members)


def another(app, path, headers, **members):
    answer = ask(app, "POST", f"{path}/versions", members, headers)
    assert answer.status_code == 201, answer.text
    return answer.json


def use(app, reference, headers, variables=None, **more):
    body = {"prompt_id": reference, "variables": {"name": "Ana"} if variables is None else variables, **more}
    return ask(app, "POST", CHAT, body, headers, buffered=True)


def test_a_call_is_made_from_a_prompt(spoken, upstream, boss):
    public(spoken, boss)
    _number, maria = person(spoken, "maria")
    answer = use(spoken, "greeting", maria, {"name": "Ana {{}}", "language": "Portuguese"})
    assert (answer.status_code, answer.headers["x-gateway-prompt"]) == (200, "greeting@1")
    assert upstream.served[-1].body == {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You greet in Portuguese."},
            {"role": "user", "content": "Greet Ana {{}}."},
        ],
        "temperature": 0.5,
        "max_tokens": 50,
        "stop": ["END"],
    }
    with Session(engine(spoken)) as session:
        assert last(engine(spoken)).prompt_version_id == session.scalars(select(PromptVersion.id)).one()
    assert_books_agree(engine(spoken))


def test_what_a_call_says_itself_goes_before_the_prompt(spoken, upstream, boss):
    public(spoken, boss)
    _number, maria = person(spoken, "maria")
    more = {"messages": [{"role": "user", "content": "Shorter."}], "temperature": 1.5, "max_completion_tokens": 7}
    assert use(spoken, "greeting@1", maria, **more, stop=None, user="u1").status_code == 200
    sent = upstream.served[-1].body
    assert [message["content"] for message in sent["messages"]] == ["You greet in English.", "Greet Ana.", "Shorter."]
    assert (sent["temperature"], sent["max_completion_tokens"], sent["user"]) == (1.5, 7, "u1")
    assert "max_tokens" not in sent
    answer = use(spoken, "greeting", maria, model="none")
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "model_not_found")


def test_a_streamed_call_says_its_prompt_too(spoken, boss):
    public(spoken, boss)
    answer = use(spoken, "greeting", person(spoken, "maria")[1], stream=True)
    assert (answer.headers["x-gateway-prompt"], answer.text.endswith("data: [DONE]\n\n")) == ("greeting@1", True)
    assert last(engine(spoken)).prompt_version_id is not None


def test_which_version_a_call_means(spoken, boss):
    path = public(spoken, boss)
    _number, maria = person(spoken, "maria")
    for text in ("Two {{name}}", "Three {{name}}"):
        another(spoken, path, boss, copy_of=1, messages=[{"role": "user", "content": text}])

    def met(reference):
        return use(spoken, reference, maria).headers.get("x-gateway-prompt")

    assert met("greeting") == "greeting@3", "the newest, while nothing is in production"
    for label, number in (("production", 2), ("staging", 3)):
        assert ask(spoken, "PUT", f"{path}/labels/{label}", {"version": number}, boss).status_code == 200
    uuid = path.rsplit("/", 1)[1]
    for reference, number in (("greeting", 2), ("greeting@staging", 3), ("greeting@1", 1), (uuid, 2), (f"{uuid}@3", 3)):
        assert met(reference) == f"greeting@{number}", reference
    assert ask(spoken, "PUT", f"{path}/labels/production", {"version": 1}, boss).json["labels"]["production"] == 1
    assert met("greeting") == "greeting@1", "rolled back"
    assert ask(spoken, "DELETE", f"{path}/labels/staging", headers=boss).status_code == 204
    assert use(spoken, "greeting@staging", maria).status_code == 404


@pytest.mark.parametrize(
    "reference",
    ["nobody", "greeting@9", "greeting@0", "greeting@x", "greeting@", "greeting@1@1", NOBODYS, "@", "é", "a\0"],
)
def test_a_prompt_that_is_not_there(spoken, boss, reference):
    public(spoken, boss)
    answer = use(spoken, reference, boss)
    error = answer.json["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, "prompt_not_found", "prompt_id")


@pytest.mark.parametrize("reference", [1, "", "x" * 142, ["greeting"], {"id": "greeting"}, True])
def test_what_is_no_name_of_a_prompt(spoken, boss, reference):
    answer = use(spoken, reference, boss)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "prompt_id")


def test_values_that_cannot_be_are_named(spoken, upstream, boss):
    public(spoken, boss)
    answer = use(spoken, "greeting", boss, {"language": "Latin", "other": 1})
    error = answer.json["error"]
    assert (answer.status_code, error["code"], error["param"]) == (422, "variables_invalid", "variables.name")
    for said in (
        "`variables.name` is required",
        "`variables.language` must be one of",
        "`variables.other` is not known",
    ):
        assert said in error["message"]
    assert use(spoken, "greeting", boss, ["Ana"]).status_code == 400
    assert upstream.served == []


def test_a_prompt_without_a_model_needs_one(spoken, boss):
    public(spoken, boss, model=None)
    assert use(spoken, "greeting", boss).json["error"]["param"] == "model"
    assert use(spoken, "greeting", boss, model="fast").status_code == 200


@pytest.mark.parametrize("messages", ["x", [1], [{"role": "user"}], [{"role": "robot", "content": "x"}]])
def test_messages_that_are_appended_are_checked(spoken, boss, messages):
    public(spoken, boss)
    answer = use(spoken, "greeting", boss, messages=messages)
    assert (answer.status_code, answer.json["error"]["param"].split(".")[0]) == (400, "messages")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {**chat(), "max_tokens": 5, "prompt_id": "greeting"}),
        ("/v1/responses", {"model": "fast", "input": "x", "prompt_id": "greeting"}),
    ],
)
def test_other_surfaces_refuse_it_clearly(spoken, upstream, boss, path, body):
    answer = ask(spoken, "POST", path, body, boss)
    assert answer.status_code == 400
    assert "`POST /v1/chat/completions` alone" in answer.json["error"]["message"]
    assert upstream.served == []


def test_lists_of_models_and_the_bound_are_those_of_the_whole_request(spoken, boss):
    public(spoken, boss, messages=[{"role": "user", "content": "long " * 1000 + "{{name}}"}])
    number, maria = person(spoken, "maria")
    told = ask(spoken, "POST", "/v1/explain", {"prompt_id": "greeting", "variables": {"name": "Ana"}}, maria).json
    assert told["hold"]["input_tokens"] > 5000
    with Session(engine(spoken)) as session, session.begin():
        session.execute(update(User).where(User.id == number).values(allowed_models=["other"]))
    spoken.extensions["gateway"].catalog.refresh()
    assert use(spoken, "greeting", maria).status_code == 403


def test_a_call_with_a_known_prompt_costs_no_query(spoken, boss):
    public(spoken, boss)
    _number, maria = person(spoken, "maria")
    use(spoken, "greeting", maria)
    asked = []
    event.listen(engine(spoken), "before_cursor_execute", lambda *given: asked.append(given[2]))
    use(spoken, "greeting", maria)
    assert not [statement for statement in asked if "prompt" in statement and "SELECT" in statement]


def test_a_label_that_is_moved_behind_our_back_counts_at_the_next_snapshot(spoken, boss):
    path = public(spoken, boss)
    another(spoken, path, boss, copy_of=1)
    ask(spoken, "PUT", f"{path}/labels/production", {"version": 1}, boss)
    assert use(spoken, "greeting", boss).headers["x-gateway-prompt"] == "greeting@1"
    with Session(engine(spoken)) as session, session.begin():
        session.execute(update(PromptLabel).values(number=2))
    spoken.extensions["gateway"].catalog.refresh()  # what each worker does by itself, every second
    assert use(spoken, "greeting", boss).headers["x-gateway-prompt"] == "greeting@2"


def test_a_deleted_prompt_is_gone_and_its_usage_stays(spoken, boss):
    path = public(spoken, boss)
    use(spoken, "greeting", boss)
    number = last(engine(spoken)).prompt_version_id
    assert ask(spoken, "DELETE", path, headers=boss).status_code == 204
    assert use(spoken, "greeting", boss).status_code == 404
    assert last(engine(spoken)).prompt_version_id == number
    path = public(spoken, boss)
    assert ask(spoken, "GET", f"{path}/usage", headers=boss).json["versions"] == [], "numbers are not used again"
    with Session(engine(spoken)) as session:
        assert session.scalars(select(PromptVersion.id)).one() > number
