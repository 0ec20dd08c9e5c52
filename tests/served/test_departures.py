"""Callers who leave, on every route and wire: the provider hears of it at once, and the row has what it should."""

import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import pytest
import requests

from app import create_app
from models import UsageRecord
from services import token_counter
from tests.conftest import PASSWORD, SECRETS, make_config
from tests.fakes.served import Served
from tests.fakes.upstream import Plan, Upstream
from tests.faults.routes import CELLS, TEXT
from tests.faults.streams import WIRES, Told
from tests.faults.test_within import CHAT_INPUT, INPUTS
from tests.faults.world import SECRET, World
from tests.helpers import AUTH
from utils.extensions import db

SOON_S = 10.0  # at most a second on a machine with time; who is not told hears of it after 25 s, or never
PATIENCE_S = 30.0
FINAL = Told(70, 9, cached=40, thought=4)
EARLY = Told(70, 1, cached=40)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, templates):
    """A gateway under gunicorn, and the same database in this process to look into it."""
    folder = tmp_path_factory.mktemp("departures")
    shutil.copy(templates("sqlite"), folder / "tollhouse.db")
    url = f"sqlite:///{folder}/tollhouse.db"
    app = create_app(make_config(folder, DATABASE_URL=url, DEFAULT_ADMIN_PASSWORD=PASSWORD))
    upstream, spare = Upstream().start(), Upstream().start()
    made = World(app, upstream, spare)
    environ = {"ENVIRONMENT": "test", "INSTANCE_PATH": str(folder), "DATABASE_URL": url, **SECRETS}
    made.served = Served({**environ, "DEFAULT_ADMIN_PASSWORD": PASSWORD, "WEB_CONCURRENCY": "1"})
    yield made
    made.served.stop()
    said = made.served.output()
    upstream.stop()
    spare.stop()
    made.settled()
    app.extensions["gateway"].close()
    with app.app_context():
        db.engine.dispose()
    assert "Traceback" not in said
    assert SECRET not in said


@pytest.fixture
def world(shared):
    """The same with a provider that answers."""
    shared.upstream.default = Plan()
    return shared


@pytest.fixture(autouse=True)
def _forgotten(world):
    world.forget()


def send(world, route, wire, mark):
    """A request on a connection of its own; its row and what comes upstream have the mark."""
    path, body = route.sent(wire, wire, f"{TEXT} {mark}")
    files = {"file": route.upload} if route.upload else None
    made = requests.Request(
        "POST",
        world.served.url + path,
        headers={"Authorization": f"Bearer {world.key['key']}", "X-CUSTOM-EVENT-ID": mark},
        **({"data": body, "files": files} if files else {"json": body}),
    ).prepare()
    line = socket.create_connection(("127.0.0.1", world.served.port))
    head = [f"POST {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in made.headers.items())]
    line.sendall("\r\n".join([*head, "", ""]).encode() + made.body)
    return line


def read_until(line, text):
    data = b""
    line.settimeout(PATIENCE_S)
    while text not in data:
        more = line.recv(65536)
        assert more, data
        data += more


def came(world, mark, within_s=PATIENCE_S):
    """The request with this mark, once it came upstream."""
    end_s = monotonic() + within_s
    while monotonic() < end_s:
        for served in list(world.upstream.served):
            if f"{mark} " in f"{json.dumps(served.body, default=str)} ".replace('"', " "):
                return served
        sleep(0.01)
    raise AssertionError(f"{mark} never came")


def row_of(world, mark, within_s=5.0):
    end_s = monotonic() + within_s
    while monotonic() < end_s:
        with world.here.engine.connect() as connection:
            query = UsageRecord.__table__.select().where(UsageRecord.custom_id == mark)
            found = connection.execute(query).mappings().all()
        if found:
            (row,) = found
            return row
        sleep(0.02)
    raise AssertionError(f"{mark} was never booked")


def leave(world, route, wire, mark, until):
    """Send, read until a text (None: until it came upstream), leave; how long the provider was kept in the dark."""
    line = send(world, route, wire, mark)
    served = came(world, mark)
    if until is not None:
        read_until(line, until)
    sleep(0.1)  # what was sent with it arrives too
    line.close()
    left_s = monotonic()
    while served.peer_left_at is None and monotonic() < left_s + 5:
        sleep(0.005)
    assert served.peer_left_at is not None, "the provider was never told"
    return served.peer_left_at - left_s


def at_once(jobs):
    """What each job gave, or the error that it raised."""

    def one(job):
        try:
            return job()
        except (AssertionError, OSError) as exc:  # the test says which
            return exc

    with ThreadPoolExecutor(6) as pool:
        return list(pool.map(one, jobs))


MOMENTS = {  # the provider's plan for a stream and for a whole answer
    "before the first byte": (Plan(first_s=30), Plan(first_s=30)),
    "in the middle, flowing": (Plan(words=500, every_s=0.05), Plan(piece=1, piece_s=0.05)),
    "in the middle, silent": (Plan(words=500, mute_after=2), Plan(then="mute")),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("is_stream", [True, False], ids=["streamed", "whole"])
def test_the_provider_hears_of_it_soon(world, moment, is_stream):
    plan = MOMENTS[moment][0 if is_stream else 1]
    world.upstream.default = plan
    cells = [(route, wire) for route, wire in CELLS if route.is_stream == is_stream]
    begins = is_stream and moment != "before the first byte"
    text = {True: b"\xff\xfb", False: b"word1 "}
    marks = [f"m{list(MOMENTS).index(moment)}{is_stream:d}n{number}" for number in range(len(cells))]
    took = at_once(
        [
            lambda route=route, wire=wire, mark=mark: leave(
                world, route, wire, mark, text[route.is_binary] if begins else None
            )
            for (route, wire), mark in zip(cells, marks, strict=True)
        ]
    )
    for (route, wire), mark, took_s in zip(cells, marks, took, strict=True):
        assert isinstance(took_s, float), (route.name, wire, took_s)
        assert took_s < SOON_S, (route.name, wire)
        row = row_of(world, mark)
        found = row["outcome"], row["state"], row["status"]
        assert found == ("client_gone", "estimated", 200 if begins else 499), (route.name, wire)
        assert (row["output_tokens"] > 0) == begins, (route.name, wire)
        assert json.loads(row["attempts"])[-1][1] == "client_gone"
        if begins and wire in INPUTS:
            assert row["input_tokens"] == 4, "as the provider said: three words and the mark"
        assert row["input_tokens"] > 0
    world.settled()


def test_who_leaves_says_nothing_of_the_provider(world):
    """Ten failures in a row would shut everybody out."""
    route = next(route for route, _wire in CELLS if route.name == "chat")
    path, body = route.sent("openai", "openai")
    headers = {"Authorization": f"Bearer {world.key['key']}"}

    def call():
        return requests.post(world.served.url + path, json=body, headers=headers, timeout=30).status_code

    assert call() == 200, "whatever failed before is forgotten"
    world.upstream.default = Plan(first_s=30)
    took = at_once([lambda mark=f"gone{n}x": leave(world, route, "openai", mark, None) for n in range(12)])
    assert all(isinstance(took_s, float) for took_s in took), took
    health = requests.get(f"{world.served.url}/health/providers", headers=AUTH, timeout=5).json()
    shown = next(model["deployments"][0] for model in health["models"] if model["model"] == "openai")
    assert shown["failures_in_a_row"] == 0
    world.upstream.default = Plan()
    assert call() == 200


def words(wire):
    return [wire.word(number) for number in range(3)]


USAGES = {  # what was sent until then, whether words came, and what is booked: state, input, output (None: counted)
    "before anything": (lambda w: [w.opening()], False, ("estimated", None, 0)),
    "before the first word, after a report": (lambda w: [w.opening(EARLY)], False, ("measured", 70, 1)),
    "after some words": (lambda w: [w.opening(), *words(w)], True, ("estimated", None, None)),
    "after a report and some words": (lambda w: [w.opening(EARLY), *words(w)], True, ("estimated", 70, None)),
    "after the finish": (lambda w: [w.opening(), *words(w), w.finish()], True, ("estimated", None, None)),
    "after the usage": (lambda w: [w.opening(), *words(w), w.finish(), w.usage(FINAL)], True, ("measured", 70, 9)),
}
STREAMS = [(route, wire) for route, wire in CELLS if route.is_stream and route.operation == "chat" and wire in WIRES]


@pytest.mark.parametrize("case", USAGES)
def test_what_is_booked_for_who_leaves(world, case):
    events, has_words, (state, given, output) = USAGES[case]
    delivered = token_counter.count_tokens("word0 word1 word2 ", "gpt-4o-mini")
    for wire in WIRES:
        world.forget()
        world.upstream.default = Plan(script=events(WIRES[wire]), then="mute")
        routes = [route for route, one in STREAMS if one == wire]
        marks = [f"u{list(USAGES).index(case)}{wire}{number}" for number in range(len(routes))]
        until = b"word2 " if has_words else None
        took = at_once(
            [
                lambda route=route, mark=mark, wire=wire, until=until: leave(world, route, wire, mark, until)
                for route, mark in zip(routes, marks, strict=True)
            ]
        )
        for route, mark, took_s in zip(routes, marks, took, strict=True):
            assert isinstance(took_s, float), (route.name, wire, took_s)
            row = row_of(world, mark)
            asked = CHAT_INPUT + token_counter.count_tokens(f"{TEXT} {mark}", "gpt-4o") - 3
            expected = state, asked if given is None else given, delivered if output is None else output
            assert (row["state"], row["input_tokens"], row["output_tokens"]) == expected, (route.name, wire)
            assert row["outcome"] == "client_gone"
    world.settled()


def test_a_sound_that_breaks_off_is_no_fault_of_ours(world):
    """The connection is closed without the last chunk, and the log has a line and no traceback."""
    route = next(route for route, _wire in CELLS if route.is_binary)
    world.upstream.default = Plan(words=50, cut_after=3)
    with send(world, route, "openai", "sound") as line:
        line.settimeout(PATIENCE_S)
        said = b""
        while more := line.recv(65536):
            said += more
    assert b" 200 " in said
    assert not said.endswith(b"0\r\n\r\n")
    assert row_of(world, "sound")["outcome"] == "upstream_cut"
    assert "Traceback" not in world.served.output()
