"""Agents over `/api/v1`: presets, one's own, and whose parameters count in a call."""

import pytest

from services import agents
from tests.helpers import AUTH, add_model, add_provider, with_upstream
from tests.routes.test_dialogs import DIALOGS, ask, make, person, say, stream

AGENTS = "/api/v1/agents"
PRESETS = {
    "default": {"temperature": 0.7},
    "code_assistant": {"temperature": 0.2, "max_tokens": 4096},
    "creative_writer": {"temperature": 0.9},
}
TUNED = ("temperature", "max_tokens", "top_p", "presence_penalty", "frequency_penalty", "stop")


@pytest.fixture
def spoken(app, upstream):
    return with_upstream(app, upstream)


@pytest.fixture
def small(lite, upstream):
    return with_upstream(lite, upstream)


def new(app, headers=AUTH, **members):
    return ask(app, "POST", AGENTS, {"name": "mine"} | members, headers)


def test_presets_come_first_then_ones_own(spoken):
    _number, maria = person(spoken, "maria")
    for name in ("zeta", "alpha"):
        assert new(spoken, maria, name=name).status_code == 201
    listed = ask(spoken, "GET", AGENTS, headers=maria).json
    assert {one["name"]: one["config"] for one in listed[:3]} == PRESETS
    assert all(one["is_preset"] and one["description"] for one in listed[:3])
    assert [(one["name"], one["is_preset"]) for one in listed[3:]] == [("alpha", False), ("zeta", False)]
    assert len(ask(spoken, "GET", AGENTS).json) == 3
    assert ask(spoken, "GET", f"{AGENTS}/default").json == next(one for one in listed if one["name"] == "default")


def test_an_agent_is_made_changed_and_deleted(spoken):
    members = {
        "description": "Short answers.",
        "system_prompt": "Be brief.",
        "model_name": "fast",
        "config": {"temperature": 0.1, "stop_sequences": ["END"]},
    }
    made = new(spoken, **members)
    assert (made.status_code, {name: made.json[name] for name in members}) == (201, members)
    path = f"{AGENTS}/{made.json['id']}"
    assert ask(spoken, "GET", path).json == made.json
    changed = ask(spoken, "PATCH", path, {"name": "briefly", "model_name": None}).json
    assert (changed["name"], changed["model_name"], changed["config"]) == ("briefly", None, members["config"])
    assert ask(spoken, "PATCH", path, {}).json["name"] == "briefly"
    assert ask(spoken, "DELETE", path).status_code == 204
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        assert ask(spoken, method, path, body).status_code == 404


def test_agents_of_others_are_none(spoken):
    path, (_number, maria) = f"{AGENTS}/{new(spoken).json['id']}", person(spoken, "maria")
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        for place in (path, f"{AGENTS}/00000000-0000-4000-8000-000000000000", f"{AGENTS}/%00"):
            answer = ask(spoken, method, place, body, maria)
            assert (answer.status_code, answer.json["message"]) == (404, "There is no agent of this id.")
    assert new(spoken, maria).status_code == 201, "a name is taken for its owner alone"
    answer = say(spoken, make(spoken, maria), headers=maria, agent_config={"agent_type": "yours"})
    assert "Available types: default, code_assistant, creative_writer, mine" in answer.json["message"]


def test_names_that_are_taken(spoken):
    other = new(spoken, name="other").json["id"]
    assert new(spoken).status_code == 201
    for answer in (
        new(spoken),
        new(spoken, name="default"),
        ask(spoken, "PATCH", f"{AGENTS}/{other}", {"name": "mine"}),
    ):
        assert (answer.status_code, answer.json["code"]) == (409, "CONFLICT")
    assert ask(spoken, "PATCH", f"{AGENTS}/{other}", {"name": "default"}).status_code == 409
    for method, body in (("PATCH", {"name": "x"}), ("DELETE", None)):
        assert ask(spoken, method, f"{AGENTS}/default", body).status_code == 409


def test_a_user_has_so_many_agents(small, monkeypatch):
    monkeypatch.setattr(agents, "MOST", 1)
    assert [new(small, name=name).status_code for name in ("a", "b")] == [201, 409]
    assert len(ask(small, "GET", AGENTS).json) == 4


@pytest.mark.parametrize(
    "config",
    [
        {"temperature": 1.01},
        {"temperature": -0.1},
        {"temperature": True},
        {"temperature": "0.5"},
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"max_tokens": 2**31},
        {"max_tokens": 2**70},
        {"top_p": 1.1},
        {"presence_penalty": -2.1},
        {"frequency_penalty": 2.1},
        {"stop_sequences": "END"},
        {"stop_sequences": [""]},
        {"stop_sequences": ["a\0"]},
        {"stop_sequences": ["x"] * 17},
        {"n": 2},
        {"stream": False},
    ],
)
def test_parameters_out_of_their_ranges_are_refused(small, upstream, config):
    dialog = make(small)
    for answer in (
        new(small, config=config),
        ask(small, "POST", DIALOGS, {"model_name": "fast", "agent_config": config}),
        say(small, dialog, agent_config=config),
    ):
        assert (answer.status_code, answer.json["code"]) == (400, "VALIDATION_ERROR"), answer.text
        assert next(iter(config)) in answer.json["message"]
    assert upstream.served == []


def test_the_ends_of_the_ranges_are_taken(small):
    for end, sign in ((0, -2), (1, 2)):
        config = {"temperature": end, "top_p": end, "presence_penalty": sign, "frequency_penalty": sign}
        assert new(small, name=f"a{end}", config=config | {"max_tokens": 1}).status_code == 201


@pytest.mark.parametrize(
    "members",
    [
        {"name": None},
        {"name": " "},
        {"name": "x" * 101},
        {"config": []},
        {"user_id": 1},
        {"is_preset": True},
        {"id": "x"},
    ],
)
def test_agents_that_cannot_be(small, members):
    assert new(small, **members).status_code == 400


def test_an_output_limit_must_fit_into_the_model(small, upstream):
    add_model(small, add_provider(small, upstream, "other"), "tiny", context_window=100)
    for answer in (
        new(small, model_name="tiny", config={"max_tokens": 101}),
        ask(small, "POST", DIALOGS, {"model_name": "tiny", "agent_config": {"max_tokens": 101}}),
        say(small, make(small), model_name="tiny", agent_config={"max_tokens": 101}),
    ):
        assert (answer.status_code, "has 100 tokens" in answer.json["message"]) == (400, True)
    fits = new(small, model_name="tiny", config={"max_tokens": 100}).json["id"]
    assert ask(small, "PATCH", f"{AGENTS}/{fits}", {"config": {"max_tokens": 101}}).status_code == 400
    assert new(small, name="n", model_name="none").status_code == 404


def test_the_request_goes_before_the_agent_the_agent_before_the_dialog_the_dialog_before_the_default(spoken, upstream):
    new(spoken, config={"top_p": 0.3, "max_tokens": 30}, system_prompt="I am the agent.")
    own = {"agent_type": "mine", "top_p": 0.9, "max_tokens": 90, "presence_penalty": 0.5}
    dialog = make(spoken, agent_config=own, system_prompt="I am the dialog.")
    stream(spoken, dialog, agent_config={"max_tokens": 3, "stop_sequences": ["END"]})
    sent = upstream.served[-1].body
    assert {name: sent[name] for name in TUNED if name in sent} == {
        "max_tokens": 3,
        "stop": ["END"],
        "top_p": 0.3,
        "presence_penalty": 0.5,
        "temperature": 0.7,
    }
    assert sent["messages"][0] == {"role": "system", "content": "I am the agent."}
    say(spoken, dialog, agent_config={"agent_type": "code_assistant"})
    sent = upstream.served[-1].body
    assert {name: sent[name] for name in TUNED if name in sent} == {
        "temperature": 0.2,
        "max_tokens": 4096,
        "top_p": 0.9,
        "presence_penalty": 0.5,
    }
    assert sent["messages"][0] == {"role": "system", "content": "I am the dialog."}
    say(spoken, dialog, agent_config={"temperature": None})
    assert "temperature" not in upstream.served[-1].body, "null leaves it to the model"


def test_whose_model_answers(spoken, upstream):
    for name in ("second", "third"):
        add_model(spoken, add_provider(spoken, upstream, f"of {name}"), name, upstream_model=f"up-{name}")
    new(spoken, model_name="second")
    dialog = make(spoken, agent_config={"agent_type": "mine"})
    say(spoken, dialog)
    say(spoken, dialog, model_name="third")
    say(spoken, dialog, agent_config={"agent_type": "default"})
    assert [one.body["model"] for one in upstream.served] == ["up-second", "up-third", "gpt-4o-mini"]


def test_a_change_of_an_agent_counts_at_once_and_one_that_is_gone_is_named(spoken, upstream):
    path = f"{AGENTS}/{new(spoken, config={'top_p': 0.3}).json['id']}"
    dialog = make(spoken, agent_config={"agent_type": "mine"})
    ask(spoken, "PATCH", path, {"config": {"top_p": 0.4}})
    say(spoken, dialog)
    assert upstream.served[-1].body["top_p"] == 0.4
    ask(spoken, "DELETE", path)
    gone = say(spoken, dialog)
    assert (gone.status_code, gone.json["message"]) == (
        400,
        "Unknown agent type 'mine'. Available types: default, code_assistant, creative_writer",
    )
    assert ask(spoken, "POST", DIALOGS, {"model_name": "fast", "agent_config": {"agent_type": "x"}}).status_code == 400
    found = ask(spoken, "GET", f"{DIALOGS}/{dialog}").json
    assert found["message_count"] == 2
    assert say(spoken, dialog, agent_config={"agent_type": "default"}).status_code == 201, "the dialog is free"
