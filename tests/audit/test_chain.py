"""The chain through the audit log: it is written with the change, holds, and breaks wherever somebody tampers."""

import hashlib
import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.orm import Session

from models import AuditEntry, AuditHead, Team
from services import audit, chain
from services.audit import Actor
from services.errors import AccountingUnavailable
from utils.extensions import db

MARIA = Actor("maria", 7, "127.0.0.1", "tests")
ODD = 'a\n"ü\U0001f600 \u202e'
DROPS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_log'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE tgrelid = 'audit_log'::regclass AND NOT tgisinternal",
}


@pytest.fixture
def engine(gateway):
    return gateway.engine


def note(engine, *names, **details):
    with Session(engine) as session, session.begin():
        for name in names:
            audit.note(session, MARIA, name, "user", 1, details)


def entries(engine):
    with Session(engine) as session:
        return session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()


def end(engine):
    with Session(engine) as session:
        head = session.get_one(AuditHead, 1)
        return head.entry_id, head.digest


@pytest.fixture
def ten(engine):
    """Entries 1 to 10, and no more triggers that would keep anybody from tampering with them."""
    start = end(engine)[0]
    for number in range(start + 1, 11):
        note(engine, f"change_{number}", before=number, after={"x": [number, None, 1.5, ODD]})
    assert chain.verify(engine).entries == 10
    with engine.begin() as connection:
        for (name,) in connection.execute(text(DROPS[engine.dialect.name])).all():
            table = " ON audit_log" if engine.dialect.name == "postgresql" else ""
            connection.execute(text(f"DROP TRIGGER {name}{table}"))
    return engine


def broken(engine, known=None):
    found = chain.verify(engine, known).broken
    assert found is not None, "nobody noticed"
    return found.kind, found.first, found.last


def tamper(engine, *statements):
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(statement if not isinstance(statement, str) else text(statement))


def test_entries_are_chained_in_the_order_of_their_commits(engine):
    start, _digest = end(engine)
    note(engine, "one", "two", text=ODD)
    note(engine, "three")
    found = [entry for entry in entries(engine) if entry.sequence and entry.sequence > start]
    assert [(entry.action, entry.sequence) for entry in found] == [
        ("one", start + 1),
        ("two", start + 2),
        ("three", start + 3),
    ]
    assert found[1].digest == chain.digest_of(found[0].digest, vars(found[1]))
    report = chain.verify(engine)
    assert (report.entries, report.end, report.broken) == (start + 3, (start + 3, found[2].digest), None)
    assert end(engine) == report.end


def test_the_digest_is_what_its_documentation_says():
    entry = dict.fromkeys(chain.COVERED) | {"sequence": 3, "created_at": datetime(2026, 1, 2, tzinfo=UTC)}
    entry |= {"actor": "ü", "details": {"b": 1, "a": [2.5]}}
    text = (
        '{"action":null,"actor":"\\u00fc","created_at":1767312000000,"details":{"a":[2.5],"b":1},"ip_address":null,'
        '"resource_id":null,"resource_type":null,"sequence":3,"user_agent":null,"user_id":null}'
    )
    assert chain.digest_of("ab", entry) == hashlib.sha256(f"ab\n{text}".encode()).hexdigest()


def test_what_is_rolled_back_leaves_no_entry_and_no_gap(engine):
    before = end(engine)
    with Session(engine) as session:
        session.add(Team(name="gone"))
        audit.note(session, MARIA, "team_create", "team", 1)
        session.rollback()
        audit.note(session, MARIA, "closed", "team", 1)
    assert end(engine) == before
    with Session(engine) as session:
        audit.note(session, MARIA, "kept", "team", 1)
        session.commit()
        session.commit()
    assert (end(engine)[0], entries(engine)[-1].action) == (before[0] + 1, "kept")
    assert chain.verify(engine).broken is None


def test_a_savepoint_takes_its_entries_with_it(engine):
    before = end(engine)[0]
    with Session(engine) as session, session.begin():
        audit.note(session, MARIA, "outer", "team", 1)
        with session.begin_nested():
            audit.note(session, MARIA, "inner", "team", 1)
        undone = session.begin_nested()
        audit.note(session, MARIA, "undone", "team", 1)
        with session.begin_nested():
            audit.note(session, MARIA, "deeper", "team", 1)
        undone.rollback()
    assert [entry.action for entry in entries(engine) if (entry.sequence or 0) > before] == ["outer", "inner"]
    assert chain.verify(engine).broken is None


def test_the_session_of_the_panel_chains_too(app):
    engine = app.extensions["gateway"].engine
    before = end(engine)[0]
    with app.app_context():
        audit.note(db.session(), MARIA, "by the panel", "team", 1)
        db.session.commit()
        audit.note(db.session(), MARIA, "left behind", "team", 1)
    assert end(engine)[0] == before + 1
    assert chain.verify(engine).broken is None


def test_a_change_without_its_entry_is_no_change(ten):
    tamper(ten, delete(AuditHead))
    with Session(ten) as session:
        session.add(Team(name="unseen"))
        audit.note(session, MARIA, "team_create", "team", 1)
        with pytest.raises(AccountingUnavailable, match="lost its end"):
            session.commit()
    with Session(ten) as session:
        assert session.scalars(select(Team)).all() == []
    assert broken(ten) == (chain.CUT, 10, 10)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("actor", "somebody else"),
        ("user_id", 8),
        ("action", "nothing"),
        ("resource_type", "team"),
        ("resource_id", "2"),
        ("ip_address", None),
        ("user_agent", "x"),
        ("details", {"after": {"x": []}}),
        ("created_at", datetime(2020, 1, 1, tzinfo=UTC)),
        ("digest", "0" * 64),
    ],
)
def test_a_changed_entry_is_found(ten, column, value):
    tamper(ten, update(AuditEntry).where(AuditEntry.sequence == 5).values({column: value}))
    assert broken(ten) == (chain.CHANGED, 5, 5)
    assert chain.verify(ten).entries == 4


def test_a_changed_entry_with_a_fitting_digest_breaks_the_next(ten):
    with Session(ten) as session:
        before, changed = (
            session.scalars(select(AuditEntry).where(AuditEntry.sequence == number)).one() for number in (4, 5)
        )
        values = {name: getattr(changed, name) for name in chain.COVERED} | {"actor": "somebody else"}
    forged = chain.digest_of(before.digest, values)
    tamper(ten, update(AuditEntry).where(AuditEntry.sequence == 5).values(actor="somebody else", digest=forged))
    assert broken(ten) == (chain.CHANGED, 6, 6)


def test_a_missing_entry_is_found(ten):
    tamper(ten, delete(AuditEntry).where(AuditEntry.sequence.in_([5, 6])))
    assert broken(ten) == (chain.MISSING, 5, 6)


def test_a_missing_beginning_is_found(ten):
    tamper(ten, delete(AuditEntry).where(AuditEntry.sequence < 4))
    assert broken(ten) == (chain.MISSING, 1, 3)


def test_a_cut_off_end_is_found(ten):
    tamper(ten, delete(AuditEntry).where(AuditEntry.sequence > 7))
    assert broken(ten) == (chain.CUT, 8, 10)


def test_an_emptied_log_is_found(ten):
    tamper(ten, delete(AuditEntry))
    assert broken(ten) == (chain.CUT, 1, 10)


def test_an_inserted_entry_is_found(ten):
    row = {"created_at": datetime.now(UTC), "actor": "x", "action": "x", "resource_type": "x", "details": {}}
    tamper(ten, insert(AuditEntry).values(row))
    kind, number, _last = broken(ten)
    assert (kind, number) == (chain.INSERTED, entries(ten)[-1].id), "outside the chain"


def test_an_inserted_entry_with_a_number_is_found(ten):
    row = {"created_at": datetime.now(UTC), "actor": "x", "action": "x", "resource_type": "x", "details": {}}
    tamper(ten, insert(AuditEntry).values(**row, sequence=11, digest="0" * 64))
    assert broken(ten) == (chain.INSERTED, 11, 11), "after the end"
    tamper(ten, delete(AuditEntry).where(AuditEntry.sequence == 11), "DROP INDEX uq_audit_log_sequence")
    tamper(ten, insert(AuditEntry).values(**row, sequence=5, digest="0" * 64))
    assert broken(ten) == (chain.INSERTED, 5, 5), "in between, beside another"


def test_a_changed_head_is_found(ten):
    tamper(ten, update(AuditHead).values(digest="0" * 64))
    assert broken(ten) == (chain.CHANGED, 10, 10)


def test_a_chain_made_anew_holds_but_for_what_was_kept_elsewhere(ten):
    known = end(ten)
    with Session(ten) as session, session.begin():
        digest = ""
        for row in session.scalars(select(AuditEntry).order_by(AuditEntry.sequence)):
            row.actor = "nobody"
            row.digest = digest = chain.digest_of(digest, {name: getattr(row, name) for name in chain.COVERED})
        session.execute(update(AuditHead).values(digest=digest))
    assert chain.verify(ten).broken is None
    assert broken(ten, known) == (chain.CHANGED, 10, 10)
    assert broken(ten, (12, known[1])) == (chain.CUT, 11, 12)


def test_entries_from_before_the_chain_stay_outside(ten):
    before = min(entry.id for entry in entries(ten)) - 1
    row = {"created_at": datetime.now(UTC), "actor": "x", "action": "x", "resource_type": "x", "details": {}}
    tamper(ten, insert(AuditEntry).values(id=before, **row))
    report = chain.verify(ten)
    assert (report.entries, report.outside, report.broken) == (10, 1, None)


def test_the_commands_say_what_they_found(app, ten):
    def run(*arguments):
        done = app.test_cli_runner().invoke(args=["audit", *arguments])
        return done.exit_code, done.output

    number, digest = end(ten)
    assert run("verify") == (0, f"10 entries, and the chain holds.\nIt ends with 10:{digest}\n")
    assert run("verify", "--known", f"{number}:{digest}")[0] == 0
    assert run("verify", "--known", f"9:{digest}")[0] == 1
    assert run("verify", "--known", "nonsense")[0] == 78
    status, said = run("export")
    lines = [json.loads(line) for line in said.splitlines()]
    assert (status, [line["sequence"] for line in lines]) == (0, list(range(1, 11)))
    assert lines[-1] | {"id": 0, "created_at": ""} == {
        "id": 0,
        "created_at": "",
        "user_id": 7,
        "actor": "maria",
        "action": "change_10",
        "resource_type": "user",
        "resource_id": "1",
        "details": {"before": 10, "after": {"x": [10, None, 1.5, ODD]}},
        "ip_address": "127.0.0.1",
        "user_agent": "tests",
        "sequence": 10,
        "digest": digest,
    }
    assert run("export", "--from", "2100-01-01") == (0, "")
    assert len(run("export", "--to", "2100-01-01")[1].splitlines()) == 10
    tamper(ten, delete(AuditEntry).where(AuditEntry.sequence == 3))
    assert run("verify") == (1, "Entry 3 is missing. Entries before it that hold: 2.\n")
