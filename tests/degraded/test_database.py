"""A database that is down, slow, locked or out of connections, under a crowd of callers."""

import os
import signal
import sqlite3
import threading
import time

import psycopg
import pytest
import requests
from sqlalchemy.engine import make_url

from tests.conftest import TOKEN
from tests.degraded.conftest import Crowd, figure, part_of
from tests.fakes.line import Line
from tests.fakes.served import Served
from tests.helpers import chat, rows
from tests.races.conftest import ask, wait_until_clean

SOON_S = 60.0  # the machine may be busy; what it really took is printed


class Unready(Served):
    """One that the constructor does not wait for."""

    def _wait(self):
        pass

    def wait_for(self, text):
        end = time.monotonic() + SOON_S
        while text not in self.output():
            assert time.monotonic() < end, self.output()
            time.sleep(0.05)

    def wait_until_ready(self):
        super()._wait()


STREAM = 'one two {{"words": 60, "every_s": 0.05}}'
pytestmark = pytest.mark.timeout(300)


def streams(served, count):
    """So many streams of three seconds that are under way; their answers come into the list."""
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(served, chat(STREAM, stream=True, max_tokens=80), TOKEN)))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    return threads, answers


def wait_for_model(served):
    """Until every worker knows the model that was made after their start."""
    end, told = time.monotonic() + SOON_S, 0
    while told < 12 and time.monotonic() < end:
        answer = requests.get(f"{served.url}/v1/models", headers={"authorization": f"Bearer {TOKEN}"}, timeout=30)
        told = told + 1 if '"fast"' in answer.text else 0
        time.sleep(0.05)
    assert told == 12


def reach(upstream, count):
    """Wait until so many calls have come to the provider."""
    end = time.monotonic() + SOON_S
    while len(upstream.served) < count and time.monotonic() < end:
        time.sleep(0.01)
    assert len(upstream.served) >= count, "too few calls came to the provider"


def wait_until_booked(engine, count):
    """Until so many calls have their row, none more and none twice, and the books agree."""
    end = time.monotonic() + SOON_S
    while len(rows(engine)) < count and time.monotonic() < end:
        time.sleep(0.1)
    wait_until_clean(engine, SOON_S)
    assert len(rows(engine)) == count


def started_first(environ, server):
    """A gateway that was started before its database, and how long after that it was ready."""
    served = Unready(environ)
    served.wait_for("waiting for the database")
    server.start()
    back = time.monotonic()
    served.wait_until_ready()
    return served, time.monotonic() - back


def test_a_database_that_dies_and_a_start_before_it_is_there(mortal_postgres, books_of, environ, upstream):
    environ |= {"DATABASE_URL": mortal_postgres.url, "WEB_CONCURRENCY": "2"}
    served = Served(environ)
    engine = books_of(mortal_postgres.url)
    wait_for_model(served)
    try:
        # F25: it dies under calls
        threads, answers = streams(served, 20)
        reach(upstream, 20)
        mortal_postgres.kill()
        refused = [ask(served, chat(), TOKEN) for _ in range(5)]
        assert [status for status, _text in refused] == [503] * 5
        assert all("accounting_unavailable" in text for _status, text in refused)
        assert requests.get(f"{served.url}/health/live", timeout=30).ok
        for thread in threads:
            thread.join()
        assert [(status, text.endswith("data: [DONE]\n\n")) for status, text in answers] == [(200, True)] * 20
        mortal_postgres.start()
        back = time.monotonic()
        wait_until_booked(engine, 20)
        drained_s = time.monotonic() - back
        assert [row.state for row in rows(engine)] == ["measured"] * 20
        assert ask(served, chat(), TOKEN)[0] == 200
        figure("F25", lost=0, streams_cut=0, drained_s=f"{drained_s:.1f}")

        # F52: everything dies at once, and starts again
        threads, answers = streams(served, 20)
        reach(upstream, 41)
        time.sleep(1.0)  # until then Postgres may forget a hold, and with its worker nobody else knows of the call
        os.killpg(served.process.pid, signal.SIGKILL)
        served.process.wait()
        mortal_postgres.kill()
        for thread in threads:
            thread.join()
        assert not any(text.endswith("data: [DONE]\n\n") for _status, text in answers), "no end that was none"

        # F24: the gateway starts first
        served, ready_s = started_first(environ, mortal_postgres)
        back = time.monotonic()
        wait_until_booked(engine, 41)
        clean_s = time.monotonic() - back
        figure("F24", ready_s_after_the_database=f"{ready_s:.1f}")
        figure("F52", lost=0, clean_s_after_ready=f"{clean_s:.1f}")
    finally:
        served.stop()


@pytest.fixture
def lined(request, serve, templates, books_of, postgres_server):
    """A gateway with one worker whose Postgres is at the end of a line."""
    from tests.conftest import _create_database

    url = make_url(_create_database(postgres_server, "t_lined", templates("postgres")))
    line = Line(url.port)
    direct = url.render_as_string(hide_password=False)
    engine = books_of(direct)
    served = serve(DATABASE_URL=url.set(port=line.port).render_as_string(hide_password=False), WEB_CONCURRENCY="2")
    yield served, line, engine, direct
    served.stop()
    line.stop()
    engine.dispose()
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("DROP DATABASE t_lined WITH (FORCE)")


def admit_again(served):
    """Until calls are taken again; how long that took."""
    began = time.monotonic()
    while ask(served, chat(), TOKEN)[0] != 200:
        assert time.monotonic() - began < SOON_S
    return time.monotonic() - began


def longest_sign_of_life(served):
    """How long a sign of life and the page of sign-in took together at most, asked ten times in some seconds."""
    took = []
    for _ in range(10):
        began = time.monotonic()
        assert requests.get(f"{served.url}/health/live", timeout=30).ok
        assert requests.get(f"{served.url}/admin/login", timeout=30).status_code in {200, 503}
        took.append(time.monotonic() - began)
        time.sleep(0.3)
    return max(took)


def test_a_database_that_is_slow_or_mute(lined, upstream):
    served, line, engine, _direct = lined
    assert ask(served, chat(), TOKEN)[0] == 200
    # F26: two seconds for each statement, under a crowd
    line.delay_s = 2.0
    crowd = Crowd(served, 24, {})
    alive_s = longest_sign_of_life(served)
    line.delay_s = 0.0
    crowd.stop()
    assert set(crowd.statuses()) <= {200, 503}
    assert admit_again(served) < SOON_S
    figure("F26 slow", answers=crowd.statuses(), refusals_p99_s=f"{part_of(crowd.seconds(503), 0.99):.2f}",
           sign_in_page_worst_s=f"{alive_s:.2f}")  # fmt: skip
    # … and not a word, then every connection is cut
    line.freeze()
    crowd = Crowd(served, 12, {})
    time.sleep(6)
    line.cut()
    line.thaw()
    crowd.stop()
    assert set(crowd.statuses()) <= {200, 503}
    back_s = admit_again(served)
    wait_until_clean(engine, SOON_S)
    assert len([row for row in rows(engine) if row.state != "void"]) == len(upstream.served)
    figure("F26 mute", answers=crowd.statuses(), refusals_p99_s=f"{part_of(crowd.seconds(503), 0.99):.2f}",
           admitted_again_s=f"{back_s:.2f}")  # fmt: skip


FEW = 5  # connections for both workers together, which would use up to forty


@pytest.fixture
def few(serve, templates, books_of, postgres_server):
    """A gateway whose Postgres lets its role have few connections."""
    from tests.conftest import _create_database

    url = make_url(_create_database(postgres_server, "t_few", templates("postgres")))
    engine = books_of(url.render_as_string(hide_password=False))
    with engine.begin() as connection:
        for statement in (
            f"CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT {FEW}",
            "GRANT ALL ON SCHEMA public TO few",
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO few",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO few",
        ):
            connection.exec_driver_sql(statement)
    own = url.set(username="few", password="few")
    served = serve(DATABASE_URL=own.render_as_string(hide_password=False), WEB_CONCURRENCY="2")
    yield served, engine
    served.stop()
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP OWNED BY few")
        connection.exec_driver_sql("DROP ROLE few")
    engine.dispose()
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("DROP DATABASE t_few WITH (FORCE)")


def test_a_database_with_few_connections(few, upstream):
    served, engine = few
    crowd = Crowd(served, 24, {})
    alive_s = longest_sign_of_life(served)
    crowd.stop()
    assert set(crowd.statuses()) <= {200, 503}
    admit_again(served)
    wait_until_clean(engine, SOON_S)
    assert len([row for row in rows(engine) if row.state != "void"]) == len(upstream.served)
    figure("F26 few connections", answers=crowd.statuses(), sign_in_page_worst_s=f"{alive_s:.2f}",
           refusals_p99_s=f"{part_of(crowd.seconds(503) or [0], 0.99):.2f}")  # fmt: skip


def test_a_table_that_somebody_locks(lined, upstream):
    served, _line, engine, direct = lined
    with psycopg.connect(direct) as other:
        other.execute("LOCK TABLE holds, usage IN ACCESS EXCLUSIVE MODE")
        crowd = Crowd(served, 12, {})
        time.sleep(5)
        assert requests.get(f"{served.url}/v1/models", headers={"authorization": f"Bearer {TOKEN}"}, timeout=30).ok
    crowd.stop()
    assert 503 in crowd.statuses()
    assert set(crowd.statuses()) <= {200, 503}
    admit_again(served)
    wait_until_clean(engine, SOON_S)
    assert len([row for row in rows(engine) if row.state != "void"]) == len(upstream.served)
    figure("F27 Postgres", answers=crowd.statuses(), refusals_p99_s=f"{part_of(crowd.seconds(503), 0.99):.2f}", lost=0)


def test_a_file_that_somebody_locks(serve, books_of, sqlite_database, upstream):
    engine = books_of(sqlite_database)
    served = serve(WEB_CONCURRENCY="2")
    threads, answers = streams(served, 10)
    reach(upstream, 10)
    outsider = sqlite3.connect(make_url(sqlite_database).database, isolation_level=None)
    outsider.execute("BEGIN IMMEDIATE")
    crowd = Crowd(served, 12, {})
    time.sleep(5)
    assert requests.get(f"{served.url}/v1/models", headers={"authorization": f"Bearer {TOKEN}"}, timeout=30).ok
    for thread in threads:
        thread.join()
    outsider.rollback()
    outsider.close()
    crowd.stop()
    assert [(status, text.endswith("data: [DONE]\n\n")) for status, text in answers] == [(200, True)] * 10
    assert 503 in crowd.statuses()
    assert set(crowd.statuses()) <= {200, 503}
    admit_again(served)
    wait_until_clean(engine, SOON_S)
    assert len([row for row in rows(engine) if row.state != "void"]) == len(upstream.served)
    figure("F27 SQLite", answers=crowd.statuses(), refusals_p99_s=f"{part_of(crowd.seconds(503), 0.99):.2f}", lost=0)
