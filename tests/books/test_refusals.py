"""Settlements that something refuses: they are kept, they are booked later, and they hold nobody else up."""

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from models import Hold
from services import spool as spools
from services.accounting import Accounting
from services.books.base import BooksRefused, BooksUnavailable
from services.dialects import openai
from services.spool import Spool
from services.types import Demand
from tests.books.test_accounting import DEMAND, accounting, books, budget, call, ended, spool  # noqa: F401 - fixtures
from tests.calls import MODEL
from tests.helpers import AUTH, assert_books_agree, chat, last, open_holds, rows, with_upstream

REFUSED = {"state": "nonsense"}  # no database takes it


@pytest.mark.parametrize(
    "error", [RuntimeError("odd"), KeyError("x"), BooksRefused("no"), BooksUnavailable("gone")], ids=repr
)
def test_whatever_the_books_raise_a_settlement_is_kept_and_booked_later(gateway, accounting, books, budget, error):  # noqa: F811 - a fixture
    one = call(gateway, 1, budget)
    accounting.reserve(one, DEMAND)
    books.error = error
    accounting.settle(ended(one))
    assert list(gateway.spool.peek(gateway.spool.owner).settlements) == [one.id]
    books.error = None
    assert accounting.replay() == 0
    assert (last(gateway.engine).output_tokens, last(gateway.engine).state) == (5, "measured")
    assert gateway.spool.peek(gateway.spool.owner).settlements.keys() <= {one.id}
    assert_books_agree(gateway.engine)


def test_an_unexpected_error_in_the_replay_holds_up_no_other_settlement(gateway, accounting, books, monkeypatch):  # noqa: F811 - a fixture
    calls = [call(gateway, number) for number in range(3)]
    for one in calls:
        accounting.reserve(one, DEMAND)
    books.error = BooksUnavailable("gone")
    for one in calls:
        accounting.settle(ended(one))
    books.error = None
    settle = gateway.books.settle

    def picky(settlement):
        if settlement.request_id == calls[0].id:
            raise RuntimeError("odd")
        return settle(settlement)

    monkeypatch.setattr(gateway.books, "settle", picky)
    assert accounting.replay() == 1
    monkeypatch.undo()
    assert len(rows(gateway.engine)) == 2
    assert accounting.replay() == 0
    assert_books_agree(gateway.engine)


def test_a_refused_settlement_holds_up_no_other_in_the_replay(gateway, accounting, books):  # noqa: F811 - a fixture
    bad, *good = [call(gateway, number) for number in range(4)]
    for one in (bad, *good):
        accounting.reserve(one, DEMAND)
    books.error = BooksUnavailable("gone")
    accounting.settle(replace(ended(bad), **REFUSED))
    for one in good:
        accounting.settle(ended(one))
    books.error = None
    assert accounting.replay() == 1
    assert {row.request_id for row in rows(gateway.engine)} == {one.id for one in good}
    assert list(gateway.spool.peek(gateway.spool.owner).settlements)[:1] == [bad.id], "it is kept for a person to see"


def test_a_refused_settlement_of_a_dead_worker_holds_up_no_other(gateway, accounting):  # noqa: F811 - a fixture
    """Neither those of the same worker, whatever their order, nor those of the next."""
    workers = [Spool(gateway.config.instance_path / "spool") for _ in range(2)]
    workers.sort(key=lambda worker: worker.owner)
    calls = [call(gateway, number) for number in range(4)]
    kept, bad, unbooked, other = calls
    for one, worker in zip(calls, (workers[0], workers[0], workers[0], workers[1]), strict=True):
        Accounting(gateway.books, worker, hold_s=3600).reserve(one, DEMAND)
    workers[0].keep(bad.id, replace(ended(bad), **REFUSED))
    workers[0].keep(kept.id, ended(kept))
    for worker in workers:
        os.close(worker._life)  # what the operating system does for the dead
    accounting.sweep()
    found = {row.request_id: row for row in rows(gateway.engine)}
    assert {one.id for one in (kept, unbooked, other)} <= found.keys()
    assert found[kept.id].state == "measured"
    assert (workers[0]._folder / f"{workers[0]._owner}.jsonl").exists(), "the figures stay for a person to see"
    assert not (workers[1]._folder / f"{workers[1]._owner}.jsonl").exists()
    assert open_holds(gateway.engine) == 0
    for worker in workers:
        os.close(worker._file)


def test_what_a_dead_worker_kept_waits_for_a_database_that_is_away(gateway, accounting, books):  # noqa: F811 - a fixture
    dead, one = Spool(gateway.config.instance_path / "spool"), call(gateway)
    Accounting(gateway.books, dead, hold_s=3600).reserve(one, DEMAND)
    dead.keep(one.id, ended(one))
    os.close(dead._life)
    books.error = BooksUnavailable("gone")
    with pytest.raises(BooksUnavailable):
        accounting.sweep()
    books.error = None
    accounting.sweep()
    assert last(gateway.engine).state == "measured"
    assert_books_agree(gateway.engine)
    os.close(dead._file)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(
            '["settle","req_x",{"request_id":"req_x","a_member_of_another_version":1}]', id="of another version"
        ),
        pytest.param('["settle","req_x",7]', id="no settlement"),
    ],
)
def test_a_record_that_cannot_be_read_holds_up_nobody(gateway, accounting, line):  # noqa: F811 - a fixture
    workers = sorted((Spool(gateway.config.instance_path / "spool") for _ in range(2)), key=lambda worker: worker.owner)
    for number, worker in enumerate(workers):
        Accounting(gateway.books, worker, hold_s=3600).reserve(call(gateway, number), DEMAND)
        with (worker._folder / f"{worker._owner}.jsonl").open("a") as journal:
            journal.write(line + "\n")
        os.close(worker._life)
    accounting.sweep()
    assert (len(rows(gateway.engine)), open_holds(gateway.engine)) == (2, 0)
    assert all((worker._folder / f"{worker._owner}.jsonl").exists() for worker in workers)
    for worker in workers:
        os.close(worker._file)


@pytest.mark.parametrize("is_overdue", [False, True], ids=["of a dead worker", "past its deadline"])
def test_a_hold_that_cannot_be_read_holds_up_no_other(gateway, accounting, session, tmp_path, is_overdue):  # noqa: F811 - a fixture
    dead = Spool(tmp_path / "elsewhere" if is_overdue else gateway.config.instance_path / "spool")
    theirs = Accounting(gateway.books, dead, hold_s=-1 if is_overdue else 3600)
    for number in range(4):
        theirs.reserve(call(gateway, number), DEMAND)
    session.execute(update(Hold).where(Hold.request_id == f"req_{1:032}").values(call="{}"))
    session.commit()
    os.close(dead._life)
    accounting.sweep()
    assert (len(rows(gateway.engine)), open_holds(gateway.engine)) == (3, 1)
    os.close(dead._file)


@pytest.fixture
def standby(make_app, templates, postgres_server, upstream):
    """An app whose one connection to Postgres can be made read-only, as a standby is after a failover."""
    from tests.conftest import _create_database

    app = with_upstream(
        make_app(_create_database(postgres_server, "t_standby", templates("postgres")), DB_POOL_SIZE="1"), upstream
    )
    gateway = app.extensions["gateway"]

    def switch(state):
        with gateway.books._connected() as connection:
            connection.execute(f"SET default_transaction_read_only = {state}".encode())

    app.switch = switch
    return app


def test_a_postgres_that_became_read_only_admits_nothing_and_loses_nothing(standby):
    gateway, client = standby.extensions["gateway"], standby.test_client()
    one = call(gateway, 1)
    gateway.accounting.reserve(one, DEMAND)
    standby.switch("on")
    gateway.accounting.settle(ended(one))
    with pytest.raises(BooksUnavailable, match="read-only"):
        gateway.books.settle(ended(one))
    with pytest.raises(BooksUnavailable, match="read-only"):
        gateway.books.add_tokens(1, 5, actor="tests", reason="none")
    response = client.post("/v1/chat/completions", json=chat(), headers=AUTH)
    assert (response.status_code, response.json["error"]["code"]) == (503, "accounting_unavailable")
    assert gateway.accounting.replay() == 1
    standby.switch("off")
    assert gateway.accounting.replay() == 0
    assert client.post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 200
    assert [row.state for row in rows(gateway.engine)] == ["measured"] * 2
    assert_books_agree(gateway.engine)


def test_after_a_crash_a_picture_is_booked_within_its_bound_not_by_its_bytes(gateway, accounting, budget):  # noqa: F811 - a fixture
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5_000_000}}
    body = {"model": "fast", "messages": [{"role": "user", "content": [picture]}]}
    dead = Spool(gateway.config.instance_path / "spool")
    one = call(gateway, 1, body=body, body_bytes=5_000_200)
    demand = openai.demand(one, MODEL, 4096)
    Accounting(gateway.books, dead, hold_s=3600).reserve(one, demand)
    dead.sent(one.id, {"provider": "fake", "model": "gpt-4o-mini", "price": None})
    os.close(dead._life)
    assert accounting.sweep() == 1
    assert last(gateway.engine).input_tokens <= demand.input_tokens < 100_000
    os.close(dead._file)


def test_after_a_crash_a_small_prompt_is_booked_by_its_bytes(gateway, accounting):  # noqa: F811 - a fixture
    dead = Spool(gateway.config.instance_path / "spool")
    one = call(gateway, 1, body_bytes=400)
    Accounting(gateway.books, dead, hold_s=3600).reserve(one, Demand(400, 1, 20, 4096))
    dead.sent(one.id, {"provider": "fake", "model": "gpt-4o-mini", "price": None})
    os.close(dead._life)
    assert accounting.sweep() == 1
    assert last(gateway.engine).input_tokens == 100
    os.close(dead._file)


def open_in(folder):
    """The open files of this process in a folder."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [link for link in links if str(link.readlink()).startswith(str(folder))]


@pytest.mark.parametrize("how", ["refused", "torn", "unsynced"])
def test_compacting_on_a_full_disk_leaks_no_files_and_is_not_tried_each_time(spool, monkeypatch, how):  # noqa: F811 - a fixture
    monkeypatch.setattr(spools, "COMPACT_BYTES", 2000)
    spool.sent("req_open", {"provider": "fake"})
    for number in range(40):
        spool.sent(f"req_{number}", {"provider": "x" * 50})
    write, sync, tries = os.write, os.fdatasync, []

    def full(file, data):
        if file == spool._file:
            return write(file, data)
        tries.append(file)
        if how == "refused":
            raise OSError(28, "No space left on device")
        return write(file, data if how == "unsynced" else data[:10])

    def unsynced(file):
        if how == "unsynced":
            raise OSError(28, "No space left on device")
        sync(file)

    before = len(open_in(spool._folder))
    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(os, "fdatasync", unsynced)
    for number in range(30):
        spool.forget(f"req_{number}")
    assert len(open_in(spool._folder)) == before
    assert len(tries) == 1
    monkeypatch.undo()
    monkeypatch.setattr(spools, "COMPACT_BYTES", 2000)
    spool.progress("req_open", 7)
    notes = spool.peek(spool.owner)
    assert (notes.sent["req_open"], notes.progress) == ({"provider": "fake"}, {"req_open": 7})


def test_two_first_calls_of_a_worker_have_one_owner(tmp_path):
    """Else a hold stands under one name and what is known of its call under another."""
    spool, owners = Spool(tmp_path / "spool"), []  # noqa: F811 - a fixture
    threads = [threading.Thread(target=lambda: owners.append(spool.owner)) for _ in range(4)]
    with spool._guard:
        for thread in threads:
            thread.start()
        time.sleep(0.1)  # all have seen that nothing is open, and wait
    for thread in threads:
        thread.join()
    assert len(set(owners)) == 1
    assert [path.stem for path in (tmp_path / "spool").glob("*.jsonl")] == owners[:1]
    spool.close()
