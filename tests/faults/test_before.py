"""What fails before the first word of an answer, on every route and wire: an error, or another provider's answer."""

import json

import pytest

from tests.fakes.upstream import Plan
from tests.faults.routes import CELLS, IDS, error_of, is_whole
from tests.faults.world import NOBODY, SECRET, tried

ERROR = json.dumps(
    {"type": "error", "error": {"message": f"no {SECRET}", "type": "fake", "code": "fake", "status": "FAKE"}}
)
HTML = {"body": "<html>nginx</html>", "headers": {"content-type": "text/html"}}
EVENTS = {"content-type": "text/event-stream"}
LATER = "Mon, 21 Oct 2999 07:28:00 GMT"


def refused(status, **headers):
    return {
        "status": status,
        "body": ERROR,
        "headers": {name.replace("_", "-"): text for name, text in headers.items()},
    }


ANY = {  # the plan of the provider, the caller's status, and whether another provider may help
    "500": (refused(500), 502, True),
    "503": (refused(503), 503, True),
    "529": (refused(529), 503, True),
    "504": (refused(504), 504, True),
    "429": (refused(429), 429, True),
    "429 for 2 s": (refused(429, retry_after="2"), 429, True),
    "429 until a date": (refused(429, retry_after=LATER), 429, True),
    "401": (refused(401), 502, True),
    "402": (refused(402), 502, True),
    "403": (refused(403), 502, True),
    "400": (refused(400), 400, False),
    "404": (refused(404), 404, False),
    "413": (refused(413), 413, False),
    "422": (refused(422), 422, False),
    "HTML with status 200": (HTML, 502, True),
    "HTML with status 500": (HTML | {"status": 500}, 502, True),
    "compressed": ({"headers": {"content-encoding": "gzip"}}, 502, True),
    "a redirect": ({"status": 307, "headers": {"location": "http://169.254.169.254/"}}, 502, True),
    "too many headers": ({"headers": {"x-big": "y" * 70_000}}, 502, True),
    "closed without an answer": ({"status": 0}, 502, True),
    "reset without an answer": ({"status": 0, "then": "reset"}, 502, True),
}
WHOLE = {
    "no object": ({"body": "[]"}, 502, True),
    "another object": ({"body": "{}"}, 502, True),
    "cut JSON": ({"body": '{"choices": ['}, 502, True),
    "an error with status 200": ({"body": ERROR}, 502, True),
    "half an answer": ({"then": "cut"}, 502, True),
    "half an answer and a reset": ({"then": "reset"}, 502, True),
    "too large": ({"body": '{"x": "' + "y" * 300_000 + '"}'}, 502, True),
}
STREAMED = {
    "an error event": ({"script": [f"event: error\ndata: {ERROR}\n\n"]}, 502, True),
    "an event that is no JSON": ({"script": ["data: {oops\n\n"]}, 502, True),
    "an event that is a number": ({"script": ["data: 7\n\n"]}, 502, True),
    "nothing at all": ({"script": []}, 502, True),
    "a comment and the end": ({"script": [": hello\n\n"]}, 502, True),
    "half an event": ({"script": ['data: {"cho'], "then": "cut"}, 502, True),
    "a connection that is reset": ({"script": [], "then": "reset"}, 502, True),
    "an answer that is no stream": ({"body": '{"choices": []}'}, 502, True),
    "an event without an end": ({"script": ["data: " + "y" * 300_000]}, 502, True),
}
KINDS = {"500", "429", "401", "400", "HTML with status 200", "closed without an answer", "an error event"}
KINDS |= {"nothing at all", "half an answer", "an error with status 200"}  # one of each kind


def cells(*names):
    """Every fault at every route that can have it, or those of these names."""
    return [
        pytest.param(route, wire, *fault, id=f"{IDS[route.name, wire]}-{name}")
        for route, wire in CELLS
        for name, fault in {**ANY, **({} if route.is_binary else STREAMED if route.is_stream else WHOLE)}.items()
        if not names or name in names
    ]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """What is too large is so soon."""
    monkeypatch.setattr("services.pipeline.MAX_ANSWER_BYTES", 100_000)
    monkeypatch.setattr("utils.sse.MAX_EVENT_BYTES", 100_000)


def failed(world, route, answer, status):
    """The error in the caller's form, and a row that costs nothing."""
    assert answer.status_code == status, answer.text
    message = error_of(route, answer)
    assert message
    assert SECRET not in answer.text
    row = world.row(answer)
    outcome = "upstream_timeout" if status == 504 else "upstream_error"
    assert (row.state, row.outcome, row.status, row.cost_nanousd) == ("void", outcome, status, 0)
    assert (row.input_tokens or 0, row.output_tokens or 0) == (0, 0)
    assert SECRET not in (row.error or "")
    return row


def answered(world, route, answer, attempts=2):
    """Another provider's answer, charged once."""
    assert answer.status_code == 200, answer.text
    assert route.is_binary or not route.is_stream or is_whole(route, answer.text)
    row = world.row(answer)
    assert (row.outcome, len(tried(row))) == ("ok", attempts)
    assert row.state in ("measured", "estimated")
    assert row.cost_nanousd > 0
    return row


def asked_once(world, plan):
    """An idle connection that is closed at once was not asked; a new one is."""
    was_idle = plan.get("status") == 0 and world.upstream.connections
    return len(world.upstream.served) in ((1, 2) if was_idle else (1,))


@pytest.mark.parametrize(("route", "wire", "plan", "status", "is_helped"), cells())
def test_alone(world, route, wire, plan, status, is_helped):
    world.upstream.default = Plan(**plan)
    answer = world.ask(route, wire, wire)
    row = failed(world, route, answer, status)
    assert len(tried(row)) == 1
    assert asked_once(world, plan)
    wait = {"2": "2", LATER: "86400"}.get(plan.get("headers", {}).get("retry-after"))
    assert answer.headers.get("retry-after") == wait


@pytest.mark.parametrize(("route", "wire", "plan", "status", "is_helped"), cells(*KINDS))
def test_with_another_provider(world, route, wire, plan, status, is_helped):
    world.upstream.default = Plan(**plan)
    answer = world.ask(route, f"{wire}-spare", wire)
    if is_helped or route.name.startswith("route"):  # a route goes on whatever went wrong
        row = answered(world, route, answer)
        assert row.provider == f"{wire} spare"
    else:
        failed(world, route, answer, status)
    assert asked_once(world, plan)
    assert len(world.spare.served) == int(answer.status_code == 200)


@pytest.fixture(scope="module")
def nowhere(shared):
    return {
        (wire, name): shared.nowhere(wire, name, url)
        for wire in ("openai", "responses", "anthropic", "gemini")
        for name, url in NOBODY.items()
    }


@pytest.mark.parametrize("name", NOBODY)
@pytest.mark.parametrize(("route", "wire"), CELLS, ids=IDS.values())
def test_nobody_is_there(world, nowhere, route, wire, name):
    model = nowhere[wire, name]
    answer = world.ask(route, model, wire)
    row = failed(world, route, answer, 502)
    assert tried(row) == ["upstream_unreachable"]
    assert not any(address in answer.text for address in ("127.0.0.1", "no-such-host", "169.254"))
    answered(world, route, world.ask(route, f"{model}-spare", wire))


@pytest.mark.parametrize(("route", "wire"), CELLS, ids=IDS.values())
def test_who_says_when_is_not_asked_before(world, route, wire):
    world.upstream.will(**refused(429, retry_after="30"))
    failed(world, route, world.ask(route, wire, wire), 429)
    answer = world.ask(route, wire, wire)
    assert answer.status_code == 429
    assert error_of(route, answer)
    assert 28 <= int(answer.headers["retry-after"]) <= 30
    assert len(world.upstream.served) == 1
    assert world.row(answer).state == "void"


@pytest.mark.parametrize(("route", "wire"), CELLS, ids=IDS.values())
def test_all_are_down(world, route, wire):
    world.upstream.default = world.spare.default = Plan(status=500, body=ERROR)
    answers = [world.ask(route, f"{wire}-spare", wire) for _ in range(30)]
    assert {answer.status_code for answer in answers} <= {502, 503}
    assert all(error_of(route, answer) for answer in answers)
    assert answers[-1].status_code == 503
    assert answers[-1].headers["retry-after"]
    assert len(world.upstream.served) + len(world.spare.served) <= 1.2 * 30 + 1
    assert {world.row(answer).state for answer in answers} == {"void"}


@pytest.mark.parametrize(("route", "wire"), CELLS, ids=IDS.values())
def test_flapping_with_a_healthy_peer(world, route, wire):
    statuses = []
    for number in range(16):
        world.upstream.default = Plan(status=500, body=ERROR) if number % 2 else Plan()
        statuses.append(world.ask(route, f"{wire}-spare", wire).status_code)
    assert statuses == [200] * 16
    assert len(world.spare.served) >= 3
