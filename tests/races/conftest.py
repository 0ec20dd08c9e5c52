"""Crowds of callers, and how large they are: short in the suite, full size with TOLLHOUSE_SOAK=1 (`make soak`)."""

import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from services import ledger
from tests.fakes.served import Served

SOAK = bool(os.environ.get("TOLLHOUSE_SOAK"))


def crowd(size: int, numbers: Iterable[int], work: Callable[[int], Any]) -> list[Any]:
    """Do the work for all numbers in `size` threads that start together; returns the results as they came.

    Raises: what the work raised first.
    """
    start, guard, left, results, failed = threading.Barrier(size), threading.Lock(), iter(numbers), [], []

    def run() -> None:
        start.wait()
        while not failed:
            with guard:
                number = next(left, None)
            if number is None:
                return
            try:
                results.append(work(number))
            except BaseException as exc:  # noqa: BLE001 - also what `pytest.fail` raises; it is raised again below
                failed.append(exc)

    threads = [threading.Thread(target=run) for _ in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return results


def ask(served: Served, body: dict[str, Any], token: str, timeout: float = 60.0) -> tuple[int, str]:
    """One call on a connection of its own, read to its end: status and text; (0, reason) if the line broke."""
    connection = http.client.HTTPConnection(served.host, served.port, timeout=timeout)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException) as exc:
        return 0, repr(exc)
    finally:
        connection.close()


def is_busy(answer: tuple[int, str]) -> bool:
    """Whether it is to be sent again: its worker, or every connection to the database, had its hands full."""
    status, text = answer
    if status != 503:
        return False
    assert json.loads(text)["error"]["code"] in {"accounting_unavailable", "overloaded"}, text
    return True


def wait_until_clean(engine: Engine, within_s: float) -> float:
    """Until the books agree, no call is open and nothing is leased; returns how many seconds that took."""
    start = time.monotonic()
    while (report := ledger.verify(engine)).open_holds or count_leases(engine):
        if time.monotonic() - start > within_s:
            break
        time.sleep(0.2)
    assert (report.differences, report.open_holds) == ((), 0)
    return time.monotonic() - start


def count_leases(engine: Engine) -> int:
    """How many shares of budgets workers have."""
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM leases")).scalar_one())


@pytest.fixture
def engine(app: Flask) -> Engine:
    """The books, seen from outside the gateway."""
    here: Engine = app.extensions["gateway"].engine
    return here
