"""What must stay quick or whole while something is wrong: the list of models, and logs that are rotated."""

import http.client
import json
import signal
import time

from tests.degraded.conftest import SOAK, figure, part_of
from tests.helpers import AUTH, add_model, add_provider
from tests.races.conftest import crowd

LINES = 5_000 if SOAK else 400


def timed(count, work):
    """Seconds of so many runs."""
    took = []
    for _ in range(count):
        began = time.monotonic()
        work()
        took.append(time.monotonic() - began)
    return took


def test_models_are_listed_while_their_provider_is_down(lite):
    """F51: from what is known, without asking anybody."""
    add_model(lite, add_provider(lite, "http://127.0.0.1:1/v1", discover=True))
    client = lite.test_client()
    lite.extensions["gateway"].discovery.ask_due(0)

    def get():
        answer = client.get("/v1/models", headers=AUTH)
        assert (answer.status_code, "fast" in answer.get_data(as_text=True)) == (200, True)

    took = timed(50, get)
    figure("F51", p50_ms=f"{part_of(took, 0.5) * 1000:.1f}", p99_ms=f"{part_of(took, 0.99) * 1000:.1f}")


def test_no_line_is_lost_while_logs_are_rotated(serve):
    """F40: four processes write to one standard error; its file is renamed meanwhile, and the server told."""
    served = serve(WEB_CONCURRENCY="4", LOG_FORMAT="json")
    sent, whole = [], served.log.with_suffix(".old")

    def call(number):
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        connection.request("GET", "/v1/models", headers=AUTH)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        sent.append(answer.status)
        if number == LINES // 2:
            served.log.rename(whole)
            served.log = whole
            served.process.send_signal(signal.SIGUSR1)

    crowd(8, range(LINES), call)
    assert len(served.workers()) == 4
    served.stop()
    lines = [json.loads(line) for line in served.output().splitlines() if line.startswith("{")]
    found = [line["request_id"] for line in lines if "/v1/models" in json.dumps(line) and "request_id" in line]
    assert sent == [200] * LINES
    assert len(set(found)) == len(found) == LINES
    figure("F40", lines=LINES, lost=0, torn=0)
