"""The management of stored prompts: who sees and changes which, versions, differences, audit, races, what goes."""

import threading

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models_prompts import Prompt, PromptLabel, PromptVersion
from services import promptrows, removal, teams
from services.audit import Actor
from tests.admin.conftest import add_team
from tests.helpers import last, with_upstream
from tests.routes.test_dialogs import NOBODYS, admin_of, ask, audited, engine, person
from tests.routes.test_prompts import GREETING, PROMPTS, another, make, public, use


@pytest.fixture
def spoken(app, upstream):
    return with_upstream(app, upstream)


@pytest.fixture
def boss(spoken):
    return admin_of(spoken)


def test_ones_own_prompt_goes_before_the_teams_and_everybodys(spoken, boss):
    number, maria = person(spoken, "maria")
    add_team(spoken, "red", (number,))
    public(spoken, boss)
    assert make(spoken, boss, owner="team", team="red", parameters={})
    made = {one["owner"]: one for one in ask(spoken, "GET", PROMPTS, headers=maria).json}
    assert {kind: one["may_change"] for kind, one in made.items()} == {"everyone": False, "team": False}
    own = make(spoken, maria)
    another(spoken, own, maria, copy_of=1)
    assert use(spoken, "greeting", maria).headers["x-gateway-prompt"] == "greeting@2"
    assert use(spoken, "greeting", boss).headers["x-gateway-prompt"] == "greeting@1"
    assert ask(spoken, "DELETE", own, headers=maria).status_code == 204
    uuid = made["team"]["id"]
    assert use(spoken, uuid, maria).status_code == 200
    assert use(spoken, uuid, boss).status_code == 404, "an admin is in no team, and calls for nobody else"


def test_prompts_of_others_are_none(spoken, boss):
    inside, maria = person(spoken, "maria")
    _outside, bruno = person(spoken, "bruno")
    add_team(spoken, "red", (inside,))
    hidden = (make(spoken, maria), make(spoken, boss, owner="team", team="red", name="other"))
    label = {"version": 1}
    tries = [
        *[("GET", end, None) for end in ("", "/versions", "/versions/1", "/diff?from=1&to=1", "/usage")],
        *[("POST", "/versions", {"copy_of": 1}), ("POST", "/render", {"variables": {"name": "x"}})],
        *[("PATCH", "", {"description": "x"}), ("PUT", "/labels/a", label), ("DELETE", "/labels/a", None)],
        ("DELETE", "", None),
    ]
    for method, end, body in tries:
        answers = [ask(spoken, method, f"{path}{end}", body, bruno) for path in (*hidden, f"{PROMPTS}/{NOBODYS}")]
        told = {(answer.status_code, answer.json["message"]) for answer in answers}
        assert told == {(404, promptrows.MISSING)}, (method, end)
    assert ask(spoken, "GET", PROMPTS, headers=bruno).json == []
    for path in hidden:
        assert use(spoken, path.rsplit("/", 1)[1], bruno).status_code == 404


def test_who_may_use_a_prompt_may_not_change_it(spoken, boss):
    path = public(spoken, boss)
    _number, maria = person(spoken, "maria")
    for method, end, body in (
        ("PATCH", "", {"description": "x"}),
        ("POST", "/versions", {"copy_of": 1}),
        ("PUT", "/labels/a", {"version": 1}),
        ("DELETE", "/labels/a", None),
        ("DELETE", "", None),
        ("GET", "/usage", None),
    ):
        answer = ask(spoken, method, f"{path}{end}", body, maria)
        assert (answer.status_code, answer.json["message"]) == (403, promptrows.NOT_YOURS), (method, end)
    assert ask(spoken, "POST", PROMPTS, GREETING | {"name": "x", "owner": "everyone"}, maria).status_code == 403
    team = {"name": "x", "owner": "team"}
    assert ask(spoken, "POST", PROMPTS, GREETING | team, maria).status_code == 404


def test_versions_differ_line_by_line(spoken, boss):
    path = make(spoken, boss)
    another(
        spoken,
        path,
        boss,
        copy_of=1,
        messages=[GREETING["messages"][0], {"role": "user", "content": "Greet\n{{name}}."}],
        note="Shorter",
    )
    told = ask(spoken, "GET", f"{path}/diff?from=1&to=2", headers=boss).json
    assert told["lines"][:2] == ["--- greeting@1", "+++ greeting@2"]
    assert [line for line in told["lines"][3:] if line[0] in "+-"] == ["-Greet {{name}}.", "+Greet", "+{{name}}."]
    assert ask(spoken, "GET", f"{path}/diff?from=1&to=1", headers=boss).json["lines"] == []
    assert ask(spoken, "GET", f"{path}/diff?from=1&to=3", headers=boss).status_code == 404
    assert ask(spoken, "GET", f"{path}/diff?from=1", headers=boss).json["details"]["param"] == "to"
    long = another(spoken, path, boss, copy_of=1, messages=[{"role": "user", "content": "\n" * 1000 + "x"}])
    assert ask(spoken, "GET", f"{path}/diff?from=1&to={long['version']}", headers=boss).status_code == 400
    listed = ask(spoken, "GET", f"{path}/versions", headers=boss).json
    assert [(one["version"], one["note"], one["author"]) for one in listed[1:]] == [
        (2, "Shorter", "admin"),
        (1, "", "admin"),
    ]


def test_what_would_be_sent_costs_nothing(spoken, upstream, boss):
    path = make(spoken, boss)
    body = {"version": 1, "variables": {"name": "{{language}} {{7*7}}"}, "top_p": 1}
    told = ask(spoken, "POST", f"{path}/render", body, boss).json
    assert told["prompt"] == "greeting@1"
    assert told["request"]["messages"][1]["content"] == "Greet {{language}} {{7*7}}."
    assert (told["request"]["model"], told["request"]["top_p"], upstream.served) == ("fast", 1, [])
    assert ask(spoken, "POST", f"{path}/render", {}, boss).status_code == 422
    assert (
        ask(spoken, "POST", f"{path}/render", {"version": "x", "variables": {"name": "Ana"}}, boss).status_code == 404
    )


def test_usage_and_cost_of_each_version(spoken, boss):
    path = public(spoken, boss)
    another(spoken, path, boss, copy_of=1)
    for number in (1, 2, 2):
        use(spoken, f"greeting@{number}", boss)
    told = ask(spoken, "GET", f"{path}/usage", headers=boss).json
    row = last(engine(spoken))
    assert [(one["version"], one["calls"], one["failed"]) for one in told["versions"]] == [(2, 2, 0), (1, 1, 0)]
    assert told["versions"][0]["cost_nanousd"] == 2 * row.cost_nanousd > 0
    assert told["versions"][0]["input_tokens"] == 2 * row.input_tokens


def test_every_change_is_audited_without_its_texts(spoken, boss):
    path = make(spoken, boss)
    another(spoken, path, boss, copy_of=1)
    ask(spoken, "PATCH", path, {"description": "For mails"}, boss)
    ask(spoken, "PUT", f"{path}/labels/production", {"version": 1}, boss)
    ask(spoken, "DELETE", f"{path}/labels/production", headers=boss)
    ask(spoken, "DELETE", path, headers=boss)
    actions = ("prompt_create", "prompt_version", "prompt_update", "prompt_label", "prompt_delete")
    entries = audited(spoken, *actions)
    assert [entry[0] for entry in entries] == [*actions[:4], "prompt_label", "prompt_delete"]
    assert entries[3][2] == {"name": "greeting", "before": {"production": None}, "after": {"production": 1}}
    assert "Greet" not in str(entries)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "ção"}, "name"),
        ({"name": "a@1"}, "name"),
        ({"name": NOBODYS}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 100_001}]}, "messages"),
        ({"messages": [{"role": "user", "content": "{{"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "{{other}}"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x"}] * 51}, "messages"),
        ({"variables": [{"name": "ção"}]}, "variables"),
        ({"variables": [{"name": "a", "type": "code"}]}, "variables"),
        ({"variables": [{"name": f"a{number}"} for number in range(51)]}, "variables"),
        ({"parameters": {"temperature": 1.1}}, "parameters"),
        ({"parameters": {"tools": []}}, "parameters"),
        ({"model": ""}, "model"),
        ({"prompt": "x"}, "prompt"),
        ({"owner": "me"}, "owner"),
    ],
)
def test_what_a_prompt_cannot_be(spoken, boss, members, param):
    answer = ask(spoken, "POST", PROMPTS, GREETING | members, boss)
    assert (answer.status_code, answer.json["details"]["param"]) == (400, param)


def test_a_model_that_is_not_there_and_a_name_that_is_taken(spoken, boss):
    path = make(spoken, boss)
    assert ask(spoken, "POST", PROMPTS, GREETING | {"model": "none", "name": "x"}, boss).status_code == 404
    assert ask(spoken, "POST", PROMPTS, GREETING, boss).status_code == 409
    make(spoken, boss, name="other")
    assert ask(spoken, "PATCH", path, {"name": "other"}, boss).status_code == 409
    for label in ("Production", "1", "a@b", "x" * 41, "é"):
        assert ask(spoken, "PUT", f"{path}/labels/{label}", {"version": 1}, boss).status_code == 400, label
    assert ask(spoken, "PUT", f"{path}/labels/x", {"version": 2}, boss).status_code == 404


def test_there_are_so_many(spoken, boss, monkeypatch):
    for name in ("MOST", "MOST_VERSIONS", "MOST_LABELS"):
        monkeypatch.setattr(promptrows, name, 1)
    path = make(spoken, boss)
    assert ask(spoken, "PUT", f"{path}/labels/a", {"version": 1}, boss).status_code == 200
    for method, place, body in (
        ("POST", PROMPTS, GREETING | {"name": "x"}),
        ("POST", f"{path}/versions", {"copy_of": 1}),
        ("PUT", f"{path}/labels/b", {"version": 1}),
    ):
        assert ask(spoken, method, place, body, boss).status_code == 409, place


def at_once(count, work):
    """What the work answers to each number, all at the same moment."""
    barrier, found = threading.Barrier(count), {}

    def run(number):
        barrier.wait()
        found[number] = work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(count)]


def test_versions_and_labels_that_are_made_at_once(spoken, boss):
    path = make(spoken, boss)
    made = at_once(6, lambda _number: ask(spoken, "POST", f"{path}/versions", {"copy_of": 1}, boss))
    assert sorted(answer.json["version"] for answer in made) == [2, 3, 4, 5, 6, 7]
    body = [{"version": number + 1} for number in range(6)]
    moved = at_once(6, lambda number: ask(spoken, "PUT", f"{path}/labels/production", body[number], boss))
    assert {answer.status_code for answer in moved} == {200}
    label = ask(spoken, "GET", path, headers=boss).json["labels"]["production"]
    chain = [entry[2] for entry in audited(spoken, "prompt_label")]
    assert [entry["before"]["production"] for entry in chain[1:]] == [
        entry["after"]["production"] for entry in chain[:-1]
    ]
    assert chain[-1]["after"]["production"] == label
    names = at_once(4, lambda _number: ask(spoken, "POST", PROMPTS, GREETING | {"name": "same"}, boss))
    assert sorted(answer.status_code for answer in names) == [201, 409, 409, 409]


def test_what_goes_with_a_user_and_a_team(spoken, boss):
    number, maria = person(spoken, "maria")
    team = add_team(spoken, "red", (number,))
    make(spoken, boss)
    for members in ({}, {"owner": "team", "team": "red"}):
        make(spoken, maria if not members else boss, name="other", **members)
    with Session(engine(spoken)) as session, session.begin():
        removal.user(session, number)
        teams.remove(session, team)
        for table, left in ((Prompt, 1), (PromptVersion, 1), (PromptLabel, 0)):
            assert len(session.scalars(select(table)).all()) == left, table


def test_an_erased_person_leaves_no_prompt_and_no_name(spoken, boss):
    number, maria = person(spoken, "maria")
    make(spoken, maria)
    here = spoken.extensions["gateway"]
    lines = b"".join(here.takeout.lines(number))
    assert lines.count(b'"section":"prompts"') == lines.count(b'"section":"prompt_versions"') == 1
    with Session(engine(spoken)) as session, session.begin():
        session.add(PromptVersion(prompt_id=99, number=1, messages=[], author="maria"))
    here.erasure.erase(Actor("admin", 1), number, "maria")
    with Session(engine(spoken)) as session:
        assert session.scalars(select(Prompt)).all() == []
        assert session.scalars(select(PromptVersion.author)).all() == [f"erased-{number}"]
