"""How fast the reports and lists of events are over millions of usage rows.

Run from the root of the project, in a virtual environment with requirements-dev:

    PYTHONPATH=.:bench python bench/reports.py sqlite --rows 10000000 --folder /tmp/reports
    PYTHONPATH=.:bench python bench/reports.py postgres --rows 10000000 --folder /tmp/reports

It makes and fills a database as overview.py does, and asks each request so many times through the WSGI app.
"""

import argparse
import gc
import statistics
import time
from typing import Any

from flask import Flask
from overview import DAYS, fill, make_app, run
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ApiKey

DAY, HOUR = 86_400, 3_600
NOTES = "UPDATE usage SET custom_id = 'name-' || (id % 1000) WHERE id % 50 = 0"  # two of a hundred calls have a name


def main() -> None:
    """Make, fill, measure, remove."""
    run(__doc__, measure, times=20)


def measure(url: str, given: argparse.Namespace) -> None:
    """Everything on one database."""
    app = make_app(url, given.folder)
    engine = app.extensions["gateway"].engine
    fill(app, given.rows)
    with engine.begin() as connection:
        connection.exec_driver_sql(NOTES.replace("%", "%%") if engine.dialect.name == "postgresql" else NOTES)
    gc.collect()
    gc.freeze()  # as gunicorn.conf.py does before it forks
    print(f"\n{'request':44} {'status':>6} {'p50, ms':>8} {'p95, ms':>8} {'most':>8} {'kB':>6}")
    with Session(engine) as session:
        key = session.scalars(select(ApiKey.uuid).where(ApiKey.id == 7)).one()
    for name, method, path, body in requests(key):
        line(app, name, method, path, body, given.times)
    app.extensions["gateway"].close()


def requests(key: str) -> list[tuple[str, str, str, Any]]:
    """What is asked, in the order of docs/reports.md."""
    now = int(time.time())
    today = now // DAY * DAY + DAY
    events, listed = "/api/reporting/events", "/api/v2/events"
    whole = {"start": today - DAYS * DAY, "end": today}
    ragged = {"start": now - 30 * DAY - 17, "end": now - 17}
    recent = {"start": now - DAY - 17, "end": now - 17}
    return [
        ("all days, by model", "POST", events, whole | {"increment": DAY, "filters": ["model"]}),
        ("all hours of 30 days", "POST", events, {"start": today - 30 * DAY, "end": today, "increment": HOUR}),
        ("30 days from now, by model", "POST", events, ragged | {"increment": DAY, "filters": ["model"]}),
        (
            "a week, by key",
            "POST",
            events,
            {"start": today - 7 * DAY, "end": today, "increment": DAY, "filters": ["keyId"]},
        ),
        ("all days of a key", "POST", events, whole | {"increment": DAY, "keyIds": [key]}),
        ("a day from now, by custom id", "POST", events, recent | {"increment": DAY, "filters": ["customId"]}),
        (
            "30 days of a key, by model",
            "POST",
            events,
            ragged | {"increment": DAY, "keyIds": [key], "filters": ["model"]},
        ),
        ("a custom id", "POST", events, whole | {"increment": DAY, "customIds": ["name-50"]}),
        ("a week by day", "POST", "/api/reporting/events-by-day", {"start": today - 7 * DAY, "end": today}),
        ("top keys of 30 days", "POST", "/api/reporting/top-keys", ragged | {"limit": 10}),
        ("one key", "GET", f"/api/reporting/keys/{key}", None),
        ("user ids", "GET", f"/api/reporting/user-ids?keyId={key}", None),
        ("custom ids", "GET", f"/api/reporting/custom-ids?keyId={key}", None),
        ("events of a custom id", "GET", "/api/events?customId=name-50", None),
        ("events, the latest 100", "POST", listed, whole | {"limit": 100}),
        ("events, 100 after 100,000", "POST", listed, whole | {"limit": 100, "offset": 100_000}),
        ("events of a key, the latest 100", "POST", listed, whole | {"limit": 100, "keyIds": [key]}),
        ("events of a user, the latest 100", "POST", listed, whole | {"limit": 100, "userIds": ["user-7"]}),
        ("events of a day, the dearest 100", "POST", listed, recent | {"limit": 100, "costOrder": "desc"}),
        ("events of a key, counted", "POST", listed, whole | {"limit": 10, "keyIds": [key], "returnCount": True}),
        ("events of a day by status, counted", "POST", listed, recent | {"status": 404, "returnCount": True}),
        ("too much: every call, counted", "POST", listed, whole | {"returnCount": True}),
    ]


def line(app: Flask, name: str, method: str, path: str, body: Any, times: int) -> None:
    """Ask so many times and print what it took."""
    client, spent_ms = app.test_client(), []
    for _time in range(times + 2):  # the first two warm up
        start = time.perf_counter()
        answer = client.open(path, method=method, json=body)
        spent_ms.append((time.perf_counter() - start) * 1000)
    ranked = statistics.quantiles(spent_ms[2:], n=20)
    figures = " ".join(f"{figure:8.1f}" for figure in (ranked[9], ranked[18], max(spent_ms[2:])))
    print(f"{name:44} {answer.status_code:6} {figures} {len(answer.data) / 1000:6.0f}", flush=True)


if __name__ == "__main__":
    main()
