"""Prometheus' figures over several workers, one of which is killed, and over a stop of the whole server."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import TOKEN
from tests.helpers import chat
from tests.races.conftest import ask

SECRET = "scraper-0123456789abcdef"
CALLS, WORKERS = 200, 3


def counted(served):
    """Calls by how they ended, as any worker tells it."""
    answer = requests.get(f"{served.url}/metrics", headers={"authorization": f"Bearer {SECRET}"}, timeout=30)
    assert answer.status_code == 200
    return sum(
        sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == "llm_requests_total" and sample.labels["status"] == "ok"
    )


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"])
def test_all_workers_are_one(app, sqlite_database, serve, worker_class):
    del app
    served = serve(
        DATABASE_URL=sqlite_database, WORKER_CLASS=worker_class, WEB_CONCURRENCY=str(WORKERS), METRICS_TOKEN=SECRET
    )
    body = chat(model="echo")

    def send(_number):
        return ask(served, body, TOKEN)[0]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(send, range(CALLS))) == {200}
    time.sleep(1.6)  # every worker writes once a second
    assert {counted(served) for _ in range(10)} == {CALLS}
    os.kill(served.workers()[0], signal.SIGKILL)
    time.sleep(1.0)
    assert {counted(served) for _ in range(10)} == {CALLS}
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(send, range(20))) == {200}
    time.sleep(1.6)
    assert {counted(served) for _ in range(10)} == {CALLS + 20}
