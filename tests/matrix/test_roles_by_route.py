"""Every caller against every method of every rule: tests/matrix/routes.txt says who may, and what others are told."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.matrix.policies import MAY, POLICIES, STATUS, expected
from tests.matrix.world import FAR, MISSING, World
from utils.extensions import PAGES

TABLE = Path(__file__).with_name("routes.txt")
PLACE = re.compile(r"<(?:(\w+):)?(\w+)>")
TRIVIAL = {"HEAD", "OPTIONS"}
SAFE = {"GET"}
OF_A_REQUEST = re.compile(rb"req_[0-9a-f]+")


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    method: str
    rule: str
    policy: str
    status: int
    places: dict[str, str] = field(default_factory=dict)
    query: str = ""
    body: str = ""

    @property
    def is_panel(self) -> bool:
        return self.rule.startswith(PAGES)

    @property
    def is_file(self) -> bool:
        return "static/" in self.rule or "/assets/" in self.rule


def read(text: str) -> Iterator[Row]:
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        words, brace, body = line.partition(" {")
        method, rule, policy, status, *more = words.split()
        places = dict(one.split("=") for one in more if not one.startswith("?"))
        query = next((one[1:] for one in more if one.startswith("?")), "")
        yield Row(method, rule, policy, int(status), places, query, brace.strip() + body)


ROWS = list(read(TABLE.read_text(encoding="utf-8")))


def rules(app: Flask) -> set[tuple[str, str]]:
    return {(method, rule.rule) for rule in app.url_map.iter_rules() for method in (rule.methods or set()) - TRIVIAL}


@pytest.fixture
def world(sqlite_database, make_app):
    """ADMIN_PASS is set, or programs on this machine would need nothing for the management API."""
    app = make_app(sqlite_database, ADMIN_PASS="a-pass-of-the-matrix")
    app.config["WTF_CSRF_ENABLED"] = False  # forms without their token are tests/admin/test_access.py's
    return World(app)


class Things:
    """The path, query and body of a row, with things that are used again until somebody may have changed them."""

    def __init__(self, world: World, row: Row) -> None:
        self._world, self._row = world, row
        self.renew()

    def renew(self) -> None:
        row, world = self._row, self._world
        self.found = {name: str(world.places[row.places.get(name, name)]()) for _kind, name in PLACE.findall(row.rule)}
        view = row.rule.split("/")[2] if row.is_panel else ""
        has_id = row.rule.count("/") > 3 or row.rule.endswith(("refresh/", "test/"))
        self.id = str(world.ids[view]()) if view in world.ids and has_id else ""

    def send(self, caller: str, *, is_missing: bool = False) -> TestResponse:
        row, world = self._row, self._world
        options: dict[str, Any] = {"query_string": row.query}
        if row.is_panel:
            options = {"query_string": dict(parse_qsl(row.query)) | ({"id": self.id} if self.id else {})}
            if row.method != "GET":
                options["data"] = {"id": self.id}
            return world.browse(caller, row.method, self.path(is_missing=is_missing), **options)
        if row.method not in SAFE:
            options["json"] = json.loads((row.body or "{}").replace("$word", world.word()))
        return world.send(caller, row.method, self.path(is_missing=is_missing), **options)

    def path(self, *, is_missing: bool) -> str:
        """The path to the thing, or to one that is not there."""

        def part(match: re.Match[str]) -> str:
            kind, name = match.groups()
            return (str(FAR) if kind == "int" else MISSING) if is_missing else self.found[name]

        return PLACE.sub(part, self._row.rule)

    def plain(self, answer: TestResponse) -> tuple[int, bytes, list[str]]:
        """What an answer says, without what tells one request from another."""
        body = OF_A_REQUEST.sub(b"", answer.data)
        for name in (*self.found.values(), MISSING, str(FAR)):
            body = body.replace(name.encode(), b"*")
        return answer.status_code, body, sorted(name.lower() for name, _value in answer.headers)


def is_right(row: Row, letter: str, answer: TestResponse) -> bool:
    is_sent_to_sign_in = urlsplit(answer.location or "").path == "/admin/login"
    if letter == MAY:
        return answer.status_code == row.status and (not is_sent_to_sign_in or row.policy == "panel-open")
    return answer.status_code in STATUS[letter] and is_sent_to_sign_in is (letter == "s")


def wrong(world: World, row: Row) -> Iterator[str]:
    """What the table does not say of a row."""
    things = Things(world, row)
    letters = expected(row.policy)
    for caller, letter in sorted(letters.items(), key=lambda item: item[1] == MAY):  # who may comes last
        answer = things.send(caller)
        if not is_right(row, letter, answer):
            yield f"{row.method} {row.rule}: {caller} got {answer.status_code}, not {row.policy} {row.status}"
        if not (row.is_panel or row.is_file) and "x-request-id" not in answer.headers:
            yield f"{row.method} {row.rule}: {caller} got no x-request-id"
        if letter == "n" and things.found:
            nowhere = things.send(caller, is_missing=True)
            if things.plain(answer) != things.plain(nowhere):
                yield f"{row.method} {row.rule}: {caller} can tell it from what is not there: {answer.text}"
        answer.close()
        if letter == MAY and row.method not in SAFE:
            things.renew()


def test_every_caller_gets_what_the_table_says(world):
    assert [line for row in ROWS for line in wrong(world, row)] == []


def test_every_rule_has_a_line(lite):
    known, there = [(row.method, row.rule) for row in ROWS], rules(lite)
    assert there - set(known) == set(), f"add a line for each to {TABLE}"
    assert set(known) - there == set(), f"{TABLE} has lines of rules that are gone"
    assert len(known) == len(set(known)), f"{TABLE} has a rule twice"
    assert {row.policy for row in ROWS} == set(POLICIES)


def test_a_rule_without_a_line_is_seen(lite):
    lite.add_url_rule("/new", "new", lambda: "x", methods=["GET", "POST"])
    assert rules(lite) - {(row.method, row.rule) for row in ROWS} == {("GET", "/new"), ("POST", "/new")}


def test_an_open_route_and_a_telling_404_are_seen(world):
    """The judge himself: a route that lets everybody in, and one that says more of what is there."""
    world.app.add_url_rule("/open", "open", lambda: "x")
    world.app.add_url_rule("/telling/<int:team_id>", "telling", lambda team_id: (f"{team_id != FAR}", 404))
    found = [line for line in wrong(world, Row("GET", "/open", "admin-reads", 200)) if " 200" in line]
    assert len(found) == 11
    telling = list(wrong(world, Row("GET", "/telling/<int:team_id>", "own", 404)))
    assert len([line for line in telling if "can tell" in line]) == 10
