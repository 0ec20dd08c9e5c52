"""Roll-ups: what is added up, with the rows that came after, is what the usage rows say; whatever happens meanwhile."""

import math
import random
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import BigInteger, Engine, delete, insert, literal_column, select, update
from sqlalchemy.orm import Session

import config as settings
from models import UsageRecord
from models_rollups import ModelSpan, OwnerSpan, RollupState, UsageChange
from services import activity, delays, rollupproof, rollups
from services.activity import Period, Sums
from services.rollups import DAY, DAY_S, HOUR, HOUR_S, Rollups
from tests.admin.conftest import add_calls
from tests.admin.test_browser import PAYLOADS
from utils import clock

HOSTILE = [*PAYLOADS, "", "'; DROP TABLE usage;--", "\u202egnp.exe", "𝕞𝕠𝕕𝕖𝕝" * 40, "a\tb\nc", "Fast", "fast", "fast "]
OUTCOMES = ["ok"] * 6 + ["client_gone", "upstream_error", "refused"]


@pytest.fixture(autouse=True)
def _quick_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollups, "CHUNK", 40)
    monkeypatch.setattr(rollups, "PAUSE_S", 0)
    monkeypatch.setattr(rollupproof, "PAUSE_S", 0)


def engine_of(app: Flask) -> Engine:
    found: Engine = app.extensions["gateway"].engine
    return found


def usage(dice: random.Random, now: datetime, **columns: Any) -> dict[str, Any]:
    """A usage row of the last four days."""
    began = now - timedelta(milliseconds=dice.randrange(4 * DAY_S * 1000))
    return {
        "request_id": f"req_{round(began.timestamp() * 1000):012x}{dice.randrange(16**20):020x}",
        "created_at": began,
        "user_id": dice.randrange(1, 4),
        "key_id": dice.choice([None, 1, 2, 3]),
        "team_id": dice.choice([None, 7]),
        "model": dice.choice(HOSTILE)[:200],
        "provider": dice.choice([None, "", "acme", PAYLOADS[0]]),
        "operation": "chat",
        "is_stream": dice.random() < 0.5,
        "status": 200,
        "outcome": dice.choice(OUTCOMES),
        "state": "measured",
        "is_overrun": False,
        "input_tokens": dice.choice([None, 0, 100, 2**33]),
        "output_tokens": dice.choice([None, 5]),
        "cost_nanousd": dice.randrange(10**12),
        "first_byte_ms": dice.choice([None, 3, 250]),
        "duration_ms": dice.randrange(100_000),
    } | columns


def fill(app: Flask, count: int, seed: int = 1, **columns: Any) -> None:
    dice, now = random.Random(seed), datetime.now(UTC)
    with engine_of(app).begin() as connection:
        connection.execute(insert(UsageRecord), [usage(dice, now, **columns) for _place in range(count)])


def lately(days: int = 5) -> Period:
    now_s = clock.now_s()
    today = int(now_s) // DAY_S * DAY_S
    return Period.of(today - (days - 1) * DAY_S, today + DAY_S, DAY, now_s)


def directly(app: Flask, period: Period) -> dict[str, Any]:
    """The same as `activity`, from the usage rows one by one."""
    found: dict[str, Any] = {name: defaultdict(Sums) for name in ("models", "users", "keys", "slots")}
    found["now"] = found["before"] = Sums()
    with Session(engine_of(app)) as session:
        for row in session.scalars(select(UsageRecord)):
            failed = int(row.outcome not in ("ok", "client_gone"))
            tokens = row.input_tokens or 0, row.output_tokens or 0
            sums = Sums(1, failed, *tokens, row.cost_nanousd, row.duration_ms)
            began_s = row.created_at.timestamp()
            if period.start_s <= began_s < period.end_s:
                found["now"] += sums
                found["models"][row.model] += sums
                found["users"][row.user_id] += sums
                found["slots"][int(began_s) // (period.hours * HOUR_S) * period.hours * HOUR_S, row.model] += sums
                if row.key_id is not None:
                    found["keys"][row.key_id] += sums
            elif period.before_s <= began_s < period.before_end_s:
                found["before"] += sums
    return found


def assert_exact(app: Flask, period: Period | None = None) -> None:
    period = period or lately()
    seen, wanted = activity.activity(engine_of(app), period), directly(app, period)
    assert (seen.now, seen.before) == (wanted["now"], wanted["before"])
    assert dict(seen.models) == wanted["models"]
    assert dict(seen.users) == wanted["users"]
    assert dict(seen.keys) == wanted["keys"]
    slots = {(start, model): sums for start, models in seen.slots for model, sums in models.items() if sums.calls}
    assert slots == wanted["slots"]
    assert seen.behind == 0


def assert_proven(app: Flask) -> None:
    assert rollupproof.verify(engine_of(app)).differences == ()


def folded(app: Flask) -> int:
    with engine_of(app).connect() as connection:
        return connection.scalar(select(RollupState.folded_id)) or 0


def test_what_is_added_up_and_what_came_after_are_what_the_rows_say(panel_anywhere: Flask) -> None:
    fill(panel_anywhere, 170)
    assert_exact(panel_anywhere)  # nothing is added up yet
    worker = Rollups(engine_of(panel_anywhere))
    assert worker.fold() == 170
    assert worker.fold() == 0
    assert_exact(panel_anywhere)
    fill(panel_anywhere, 60, seed=2)
    assert_exact(panel_anywhere)
    hour = int(clock.now_s()) // HOUR_S * HOUR_S
    for hours in (1, 24, 30, 60):
        start = hour - (hours - 1) * HOUR_S
        assert_exact(panel_anywhere, Period.of(start, hour + HOUR_S, HOUR, clock.now_s()))
    report = rollupproof.verify(engine_of(panel_anywhere))
    assert (report.usage_rows, report.later_rows, report.differences) == (230, 60, ())


def test_a_period_is_compared_with_as_much_of_the_one_before(panel_anywhere: Flask) -> None:
    fill(panel_anywhere, 150)
    Rollups(engine_of(panel_anywhere)).fold()
    fill(panel_anywhere, 30, seed=2)
    for days in (1, 2):
        assert_exact(panel_anywhere, lately(days))
    period = lately(2)
    assert period.before_end_s == (int(clock.now_s()) // HOUR_S + 1) * HOUR_S - 2 * DAY_S


def test_rows_that_are_written_anew_are_counted_as_they_are(panel_anywhere: Flask) -> None:
    fill(panel_anywhere, 50)
    worker, engine = Rollups(engine_of(panel_anywhere)), engine_of(panel_anywhere)
    worker.fold()
    for cost, model in ((5, "fast"), (7, "other")):  # before and after it is added up, and twice
        fill(panel_anywhere, 3, seed=cost)
        with engine.begin() as connection:
            is_some = UsageRecord.id.in_([3, 4, 51, 52])
            connection.execute(update(UsageRecord).where(is_some).values(cost_nanousd=cost, outcome="ok"))
            connection.execute(update(UsageRecord).where(UsageRecord.id == 4).values(model=model, is_stream=True))
        assert_exact(panel_anywhere)
        assert_proven(panel_anywhere)
    worker.fold()
    assert_exact(panel_anywhere)
    assert_proven(panel_anywhere)
    with engine.connect() as connection:
        assert connection.scalar(select(UsageChange.id).limit(1)) is None


def test_what_no_roll_up_holds_leaves_no_note(panel_anywhere: Flask) -> None:
    """Erasing what people wrote about their calls changes no sum."""
    fill(panel_anywhere, 5)
    with engine_of(panel_anywhere).begin() as connection:
        connection.execute(update(UsageRecord).values(custom_id=None, client_metadata=None, error="gone"))
        assert connection.scalar(select(UsageChange.id).limit(1)) is None


def test_a_worker_that_dies_leaves_nothing_half_done(panel_anywhere: Flask) -> None:
    fill(panel_anywhere, 130)
    script = """
import os, signal, sys
from sqlalchemy import create_engine, event
from services import rollups
engine, inserts = create_engine(sys.argv[1]), []
@event.listens_for(engine, "before_cursor_execute")
def dying(connection, cursor, statement, *rest):
    if statement.startswith("INSERT"):
        inserts.append(statement)
    if len(inserts) == 12:  # in the middle of the second chunk
        os.kill(os.getpid(), signal.SIGKILL)
rollups.CHUNK = 40
rollups.Rollups(engine).fold()
"""
    url = engine_of(panel_anywhere).url.render_as_string(hide_password=False)
    done = subprocess.run([sys.executable, "-c", script, url], cwd=settings.ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert folded(panel_anywhere) == 40
    assert_exact(panel_anywhere)
    assert_proven(panel_anywhere)
    assert Rollups(engine_of(panel_anywhere)).fold() == 90
    assert_proven(panel_anywhere)


def test_calls_are_settled_while_two_workers_add_up(panel_anywhere: Flask) -> None:
    engine, stop = engine_of(panel_anywhere), threading.Event()
    problems: list[Exception] = []

    def again(work: Any) -> None:
        try:
            while not stop.is_set():
                work()
        except Exception as exc:  # noqa: BLE001 - told below, in the thread of the test
            problems.append(exc)

    jobs = [Rollups(engine).fold, Rollups(engine).fold, lambda: activity.activity(engine, lately())]
    threads = [threading.Thread(target=again, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for seed in range(40):
        fill(panel_anywhere, 12, seed=seed)
        with engine.begin() as connection:
            connection.execute(update(UsageRecord).where(UsageRecord.id == 1 + seed * 9).values(cost_nanousd=seed))
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert_exact(panel_anywhere)
    assert_proven(panel_anywhere)
    Rollups(engine).fold()
    assert folded(panel_anywhere) > 0
    assert_exact(panel_anywhere)
    assert_proven(panel_anywhere)


@pytest.mark.parametrize("database", ["postgres"], indirect=True)  # SQLite has one writer at a time
def test_a_row_that_turns_up_after_newer_ones_is_not_missed(panel_anywhere: Flask) -> None:
    engine = engine_of(panel_anywhere)
    worker, others, dice = Rollups(engine), Rollups(engine), random.Random(1)
    slow = engine.connect()
    slow.execute(insert(UsageRecord), [usage(dice, datetime.now(UTC))])  # has its number, and cannot be seen
    fill(panel_anywhere, 10)
    for _turn in range(3):
        assert worker.fold() == others.fold() == 0
    slow.commit()
    slow.execute(insert(UsageRecord), [usage(dice, datetime.now(UTC))])
    fill(panel_anywhere, 5, seed=2)
    assert worker.fold() == 11  # what was there when the first one still wrote, and not what came with the second
    assert_exact(panel_anywhere)
    slow.rollback()
    slow.close()
    assert worker.fold() + others.fold() == 5
    assert_exact(panel_anywhere)
    assert_proven(panel_anywhere)


def test_delays_fall_into_the_same_buckets_in_the_database(panel_anywhere: Flask) -> None:
    edges = {edge + off for power in range(1, 26) for edge in (2**power, 3 * 2**power) for off in (-1, 0, 1)}
    with engine_of(panel_anywhere).connect() as connection:
        for delay in sorted({0, 1, 2**31 - 1, *edges}):
            query = select(rollups.bucket(literal_column(str(delay), BigInteger)))
            assert connection.scalar(query) == delays.bucket_of(delay), delay


@pytest.mark.parametrize("part", [0.5, 0.95])
def test_percentiles_are_those_of_the_rows(panel_anywhere: Flask, part: float) -> None:
    fill(panel_anywhere, 130)
    Rollups(engine_of(panel_anywhere)).fold()
    fill(panel_anywhere, 30, seed=2)
    seen = activity.activity(engine_of(panel_anywhere), lately())
    with Session(engine_of(panel_anywhere)) as session:
        answered = [row for row in session.scalars(select(UsageRecord)) if row.outcome in ("ok", "client_gone")]
    first = [row.first_byte_ms for row in answered if row.is_stream and row.first_byte_ms is not None]
    for metric, found in (("duration", [row.duration_ms for row in answered]), ("first_byte", first)):
        exact = sorted(found)[math.ceil(part * len(found)) - 1]
        near = delays.percentile_ms(seen.delays[activity.NOW, metric], part)
        assert near == pytest.approx(exact, rel=delays.ERROR)


def test_sums_stay_when_usage_rows_are_removed(panel_anywhere: Flask) -> None:
    fill(panel_anywhere, 120)
    engine = engine_of(panel_anywhere)
    Rollups(engine).fold()
    before = activity.activity(engine, lately())
    gone = datetime.now(UTC) - timedelta(hours=50)
    with engine.begin() as connection:
        connection.execute(delete(UsageRecord).where(UsageRecord.created_at < gone))
    assert activity.activity(engine, lately()).now == before.now
    assert_proven(panel_anywhere)  # of the days that are whole
    rollupproof.rebuild(engine)
    assert activity.activity(engine, lately()).now == before.now
    fill(panel_anywhere, 20, seed=3)
    Rollups(engine).fold()
    assert activity.activity(engine, lately()).now.calls == before.now.calls + 20


def test_a_difference_is_told_and_mended(panel_anywhere: Flask) -> None:
    fill(panel_anywhere, 90)
    engine = engine_of(panel_anywhere)
    Rollups(engine).fold()
    fill(panel_anywhere, 5, seed=2)
    with engine.begin() as connection:
        spans = ModelSpan.__table__
        newest = select(spans.c.span_start).order_by(spans.c.span_start.desc()).limit(1).scalar_subquery()
        connection.execute(update(ModelSpan).where(ModelSpan.span_start == newest).values(calls=ModelSpan.calls + 1))
        connection.execute(delete(OwnerSpan).where(OwnerSpan.user_id == 2))
        connection.execute(update(UsageRecord).where(UsageRecord.id == 7).values(cost_nanousd=1))
    runner = panel_anywhere.test_cli_runner()
    told = runner.invoke(args=["rollups", "verify"])
    assert told.exit_code == 1
    assert "usage_by_model, hours" in told.output
    assert "usage_by_owner, days" in told.output
    assert "calls 0 instead of" in told.output
    with Session(engine) as session:
        days = len({moment.date() for moment in session.scalars(select(UsageRecord.created_at))})  # 4 after midnight
    mended = runner.invoke(args=["rollups", "rebuild"])
    assert (mended.exit_code, mended.output) == (0, f"The roll-ups of {days} days were made anew.\n"), mended.output
    proven = runner.invoke(args=["rollups", "verify"])
    assert proven.exit_code == 0, proven.output
    assert f"0 differences in {days} days with 95 usage rows; the last 5 are not" in proven.output
    assert_exact(panel_anywhere)


def test_without_a_row_there_is_nothing_to_prove(panel_anywhere: Flask) -> None:
    engine = engine_of(panel_anywhere)
    assert Rollups(engine).fold() == 0
    assert rollupproof.verify(engine) == rollupproof.Report(0, 0, 0, ())
    assert rollupproof.rebuild(engine) == 0
    assert_exact(panel_anywhere)


def test_hours_that_no_page_needs_are_removed_and_their_days_kept(panel_anywhere: Flask) -> None:
    add_calls(panel_anywhere, 3, created_at=datetime.now(UTC) - timedelta(days=9), key_id=1)
    add_calls(panel_anywhere, 2, key_id=1)
    Rollups(engine_of(panel_anywhere)).fold()
    with Session(engine_of(panel_anywhere)) as session:
        spans = session.execute(select(OwnerSpan.span_hours, OwnerSpan.calls).order_by(OwnerSpan.span_start)).all()
        assert sorted(spans) == [(HOUR, 2), (DAY, 2), (DAY, 3)]
        assert len(session.scalars(select(ModelSpan).where(ModelSpan.span_hours == HOUR)).all()) == 2
    assert_exact(panel_anywhere, lately(30))


def test_hours_that_would_be_removed_at_once_are_never_written(
    panel_anywhere: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_calls(panel_anywhere, 3, created_at=datetime.now(UTC) - timedelta(days=9), key_id=1)
    monkeypatch.setattr(Rollups, "_forget_hours", lambda _self: None)
    Rollups(engine_of(panel_anywhere)).fold()
    with Session(engine_of(panel_anywhere)) as session:
        assert session.execute(select(OwnerSpan.span_hours, OwnerSpan.calls)).all() == [(DAY, 3)]


def test_a_page_adds_up_only_so_many_rows_itself(panel_anywhere: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(panel_anywhere, 30)
    monkeypatch.setattr(activity, "MOST_ROWS", 20)
    found = activity.activity(engine_of(panel_anywhere), lately())
    assert (found.now, found.behind) == (Sums(), 30)
    Rollups(engine_of(panel_anywhere)).fold()
    assert_exact(panel_anywhere)
