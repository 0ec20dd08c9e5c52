"""Figures over UDP, to a real socket, from two workers under gunicorn."""

import re
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import TOKEN
from tests.helpers import chat
from tests.races.conftest import ask

CALLS = 60
TAGGED = re.compile(r"tollhouse\.(\w+):(-?\d+(?:\.\d+)?)\|([ch])(?:\|#([\w.:,/<>-]+))?")
DOTTED = re.compile(r"tollhouse\.(\w+(?:\.[\w-]+)*):(-?\d+(?:\.\d+)?)\|(c|ms)")


@pytest.fixture
def agent():
    """What listens; `lines(n)` waits for so much of the counter `wanted` and gives all that came."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.bind(("127.0.0.1", 0))
        line.settimeout(0.2)
        yield line


def heard(line, until, within_s=15.0):
    """Every line that comes until that is satisfied, and then for a second more."""
    found, end, is_done = [], time.monotonic() + within_s, False
    while time.monotonic() < end:
        try:
            packet = line.recv(65536)
            assert len(packet) <= 1432
            found += packet.decode().split("\n")
        except TimeoutError:
            pass
        if not is_done and until(found):
            is_done, end = True, time.monotonic() + 1.5
    return found


def send(served, count):
    with ThreadPoolExecutor(4) as pool:
        return set(pool.map(lambda _: ask(served, chat(model="echo"), TOKEN)[0], range(count)))


def total(lines, form, start):
    return sum(float(form.fullmatch(line)[2]) for line in lines if line.startswith(start))


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"])
def test_datadog_gets_every_call_once_with_tags(serve, agent, worker_class):
    place = f"datadog://127.0.0.1:{agent.getsockname()[1]}"
    served = serve(STATS_PROVIDER=place, WEB_CONCURRENCY="2", WORKER_CLASS=worker_class)
    assert len(served.workers()) == 2
    assert send(served, CALLS) == {200}
    start = "tollhouse.llm_requests_total:"
    lines = heard(agent, lambda found: total(found, TAGGED, start) >= CALLS)
    parts = [TAGGED.fullmatch(line) for line in lines]
    assert all(parts), [line for line in lines if not TAGGED.fullmatch(line)]
    assert total(lines, TAGGED, start) == CALLS
    (tags,) = {part[4] for part in parts if part[1] == "llm_requests_total"}
    assert tags == "provider:echo,model:echo,status:ok"
    kinds = Counter((part[1], part[3]) for part in parts)
    assert kinds["llm_request_duration_seconds", "h"] == CALLS
    assert kinds["http_request_duration_seconds", "h"] >= CALLS
    assert kinds["gen_ai_client_token_usage", "h"] == 2 * CALLS
    assert "tollhouse.errors_total" not in "".join(lines)


def test_statsd_gets_names_without_tags_and_the_last_second_when_the_server_ends(serve, agent):
    served = serve(STATS_PROVIDER=f"127.0.0.1:{agent.getsockname()[1]}", WEB_CONCURRENCY="2")
    assert send(served, 20) == {200}
    assert ask(served, chat(model="echo"), "wrong")[0] == 401
    assert served.stop() == 0
    lines = heard(agent, bool, within_s=2.0)
    parts = [DOTTED.fullmatch(line) for line in lines]
    assert all(parts), lines
    assert total(lines, DOTTED, "tollhouse.llm_requests_total.echo.echo.ok:") == 20
    assert total(lines, DOTTED, "tollhouse.http_requests_total.POST._v1_chat_completions.200:") == 20
    assert total(lines, DOTTED, "tollhouse.errors_total.") == 1
    times = [float(part[2]) for part in parts if part[1] == "llm_request_duration_ms.echo.echo"]
    assert len(times) == 20
    assert all(0 <= time < 60_000 for time in times)


@pytest.mark.parametrize("place", ["datadog://127.0.0.1:9", "statsd://no-such-host.invalid:8125"])
def test_calls_do_not_care_whether_anybody_listens(serve, place):
    served = serve(STATS_PROVIDER=place)
    for _ in range(2):
        assert send(served, 20) == {200}
        time.sleep(1.2)
    said = served.output()
    assert "Traceback" not in said
    assert said.count("figures were not sent") == ("invalid" in place), "a warning a minute"
    assert served.stop() == 0
