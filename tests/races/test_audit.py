"""Many processes write the audit log at once, each with a change of the same rows: one chain, whole, nobody stuck."""

import multiprocessing
import threading
from collections import Counter

from sqlalchemy import create_engine, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import AuditEntry, AuditHead, Team, User
from services import audit, chain
from services.audit import Actor
from tests.races.conftest import SOAK, crowd

PROCESSES, THREADS = 3, 4
ENTRIES = 400 if SOAK else 15  # of each thread
TEAMS = 3


def write(url, process):
    """Entries of one process. Half of its threads note before they change: who took the head then would be stuck."""
    engine = create_engine(url, connect_args={"timeout": 60} if url.startswith("sqlite") else {})
    threads = [threading.Thread(target=_write, args=(engine, f"{process}-{number}")) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()


def _write(engine, name):
    actor, notes_first = Actor(name), name.endswith(("0", "2"))
    for number in range(ENTRIES):
        while True:
            try:
                with Session(engine) as session, session.begin():
                    if notes_first:
                        audit.note(session, actor, "first", "team", number)
                    team = (Team.name == f"team {number % TEAMS}", {"allowed_models": [name]})
                    session.execute(update(Team).where(team[0]).values(team[1]))
                    audit.note(session, actor, "then", "team", number, {"n": number})
                break
            except OperationalError as exc:  # SQLite was busy; a deadlock would be an error of this kind too
                if "deadlock" in str(exc):
                    raise


def test_everybodys_entries_are_in_one_chain(app):
    engine = app.extensions["gateway"].engine
    with Session(engine) as session, session.begin():
        session.add_all([Team(name=f"team {number}") for number in range(TEAMS)])
        before = session.get_one(AuditHead, 1).entry_id
    url = engine.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(url, number)) for number in range(PROCESSES)]
    for writer in writers:
        writer.start()
    reports = []
    while any(writer.is_alive() for writer in writers):
        reports.append(chain.verify(engine))
        writers[0].join(0.05)
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * PROCESSES
    assert {report.broken for report in reports} == {None}, "looking while others write finds nothing wrong"
    report = chain.verify(engine)
    assert (report.broken, report.entries) == (None, before + PROCESSES * ENTRIES * (THREADS + THREADS // 2))
    with Session(engine) as session:
        rows = session.scalars(select(AuditEntry).where(AuditEntry.sequence > before).order_by(AuditEntry.id)).all()
    assert [row.sequence for row in rows] == list(range(before + 1, report.entries + 1)), "in the order of their ids"
    whose = Counter(row.actor for row in rows)
    assert set(whose.values()) == {ENTRIES, 2 * ENTRIES}
    print(f"{report.entries} entries, looked at {len(reports)} times meanwhile")


def test_reloads_and_changes_do_not_wait_for_each_other_for_ever(app):
    """Both end with the log's end and the catalogue's version; taken the other way round, two of them were stuck."""
    here = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        session.add_all([User(username=f"user{number}") for number in range(8)])

    def work(number):
        if number % 2:
            here.catalog.reload(Actor("t"))
        else:
            here.people.change(Actor("t"), f"user{number % 8}", {"allowed_models": [str(number)]})

    crowd(8, range(400 if SOAK else 80), work)
    assert chain.verify(here.engine).broken is None
