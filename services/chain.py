"""The chain through the audit log: the digest of an entry covers the one before it.

So nobody changes an entry, takes one out or puts one in without breaking what follows, and the head of the chain (one
row) tells when entries are cut off at its end. Entries wait in their session until it commits. Then, as the last thing
of the transaction, they take the head, get their numbers and digests, and are inserted: the head is held for a moment
only and after every other row, so that no two transactions wait for each other. Entries from before there was a chain
stay outside.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, event, func, insert, not_, select, true, update
from sqlalchemy.orm import Session, SessionTransaction

from models import AuditEntry, AuditHead
from services.errors import AccountingUnavailable

PENDING: Final = "tollhouse.audit"  # in `Session.info`: [(the savepoint it was noted in, the entry's columns), …]
HEAD: Final = 1  # the number of the one row
COVERED: Final = (  # what a digest speaks of, besides the digest before
    *("sequence", "created_at", "user_id", "actor", "action", "resource_type", "resource_id", "details"),
    *("ip_address", "user_agent"),
)
STREAMED: Final = {"yield_per": 1000}  # rows that reading holds at once
CHANGED, MISSING, INSERTED, CUT = "changed", "missing", "inserted", "cut off at the end"
WORDS: Final = {  # of one entry, of several
    CHANGED: ("Entry {first} was changed, or the one before it.",),
    MISSING: ("Entry {first} is missing.", "Entries {first} to {last} are missing."),
    INSERTED: ("Entry {first} was inserted.",),
    CUT: ("Entry {first} was cut off at the end.", "Entries {first} to {last} were cut off at the end."),
}
NO_HEAD: Final = "The row that says where the chain ends is missing."


@dataclass(frozen=True, slots=True)
class Break:
    """The first place where the chain does not hold; `first` and `last` are numbers of entries."""

    kind: str
    first: int
    last: int
    words: str


@dataclass(frozen=True, slots=True)
class Report:
    """What following the chain found."""

    entries: int  # with a number, as far as they were read
    outside: int  # from before there was a chain
    end: tuple[int, str]  # the number and digest of the last entry that holds
    broken: Break | None = None


def add(session: Session, entry: dict[str, Any]) -> None:
    """Have this entry (its columns without `sequence` and `digest`) inserted when the session commits."""
    if PENDING not in session.info:
        session.info[PENDING] = []
        event.listen(session, "before_commit", _link)
        event.listen(session, "after_soft_rollback", _undo)
        event.listen(session, "after_transaction_end", _forget)
    session.info[PENDING].append((session.get_nested_transaction(), entry))


def digest_of(before: str, entry: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of the digest before and the entry as JSON: sorted members, no spaces, ASCII, milliseconds."""
    covered = {name: entry[name] for name in COVERED}
    covered["created_at"] = round(entry["created_at"].timestamp() * 1000)
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def _link(session: Session) -> None:
    """Number, digest and insert what waits; the database keeps others from the head until the commit."""
    entries = [entry for _within, entry in session.info[PENDING]]
    if not entries or session.in_nested_transaction():  # a savepoint may still be undone
        return
    session.flush()
    head = update(AuditHead).where(AuditHead.id == HEAD).execution_options(synchronize_session=False)
    taken = head.values(entry_id=AuditHead.entry_id + len(entries)).returning(AuditHead.entry_id, AuditHead.digest)
    found = session.execute(taken).one_or_none()
    if found is None:
        raise AccountingUnavailable("The audit log has lost its end, so that nothing can be changed. " + NO_HEAD)
    last, digest = found
    for number, entry in enumerate(entries, last - len(entries) + 1):
        entry["sequence"] = number
        entry["digest"] = digest = digest_of(digest, entry)
    session.execute(insert(AuditEntry), entries)
    session.execute(head.values(digest=digest))
    session.info[PENDING].clear()


def _undo(session: Session, ended: SessionTransaction) -> None:
    """A savepoint was undone, and with it what was noted within it."""
    kept = [(within, entry) for within, entry in session.info[PENDING] if not _is_within(within, ended)]
    session.info[PENDING][:] = kept


def _is_within(savepoint: SessionTransaction | None, ended: SessionTransaction) -> bool:
    while savepoint is not None and savepoint is not ended:
        savepoint = savepoint.parent
    return savepoint is ended


def _forget(session: Session, ended: SessionTransaction) -> None:
    """The transaction is over, however it ended: what it did not write never happened."""
    if ended.parent is None:
        session.info[PENDING].clear()


def verify(engine: Engine, known: tuple[int, str] | None = None) -> Report:
    """Follow the whole chain as of now, entry by entry, up to the first that breaks it.

    `known`: number and digest of an entry that somebody kept elsewhere. Whoever can write every row of the database
    can make a new chain that holds; what was kept elsewhere gives them away.
    """
    with _reading(engine) as connection:
        head = connection.execute(select(AuditHead.entry_id, AuditHead.digest)).one_or_none()
        begins = connection.execute(select(func.min(AuditEntry.id)).where(AuditEntry.sequence.is_not(None))).scalar()
        is_stray, is_older = AuditEntry.sequence.is_(None), AuditEntry.id < begins if begins is not None else true()
        count = connection.execute(select(func.count(AuditEntry.id)).where(is_stray, is_older)).scalar_one()
        report = _follow(connection, count, head, known)
        late = connection.execute(select(func.min(AuditEntry.id)).where(is_stray, not_(is_older))).scalar()
    if report.broken is None and late is not None:
        words = f"The entry with the id {late} was inserted, outside the chain."
        return Report(report.entries, count, report.end, Break(INSERTED, late, late, words))
    return report


def read(engine: Engine, since: datetime | None = None, until: datetime | None = None) -> Iterator[dict[str, Any]]:
    """Every entry from `since` on and before `until`, oldest first, with its place in the chain."""
    spans = [AuditEntry.created_at >= since if since else None, AuditEntry.created_at < until if until else None]
    query = select(AuditEntry.__table__).where(*(span for span in spans if span is not None)).order_by(AuditEntry.id)
    with _reading(engine) as connection, connection.execute(query, execution_options=STREAMED) as rows:
        for row in rows:
            yield dict(row._mapping)  # noqa: SLF001 - that is how a row becomes a dict


def _follow(
    connection: Connection, outside: int, head: Row[tuple[int, str]] | None, known: tuple[int, str] | None
) -> Report:
    table = AuditEntry.__table__
    query = select(table).where(table.c.sequence.is_not(None)).order_by(table.c.sequence, table.c.id)
    last, digest = 0, ""
    with connection.execute(query, execution_options=STREAMED) as rows:
        for row in rows:
            broken = _break_at(row, (last, digest), head, known)
            if broken is not None:
                return Report(last, outside, (last, digest), broken)
            last, digest = row.sequence, row.digest
    return Report(last, outside, (last, digest), _break_at_end((last, digest), head, known))


def _break_at(
    row: Any, before: tuple[int, str], head: Row[tuple[int, str]] | None, known: tuple[int, str] | None
) -> Break | None:
    """What is wrong with an entry that comes after `before`."""
    due = before[0] + 1
    if row.sequence < due or (head is not None and row.sequence > head.entry_id):
        return _broken(INSERTED, row.sequence, row.sequence)
    if row.sequence > due:
        return _broken(MISSING, due, row.sequence - 1)
    is_whole = row.digest == digest_of(before[1], row._mapping)  # noqa: SLF001 - see `read`
    is_known = known is None or known[0] != row.sequence or known[1] == row.digest
    return None if is_whole and is_known else _broken(CHANGED, due, due)


def _break_at_end(
    end: tuple[int, str], head: Row[tuple[int, str]] | None, known: tuple[int, str] | None
) -> Break | None:
    if head is None:
        return Break(CUT, end[0], end[0], NO_HEAD)
    last = max(head.entry_id, known[0] if known is not None else 0)
    if last > end[0]:
        return _broken(CUT, end[0] + 1, last)
    return None if head.digest == end[1] else _broken(CHANGED, end[0], end[0])


def _broken(kind: str, first: int, last: int) -> Break:
    return Break(kind, first, last, WORDS[kind][first < last].format(first=f"{first:,}", last=f"{last:,}"))


@contextmanager
def _reading(engine: Engine) -> Iterator[Connection]:
    """A connection on which all statements see the same moment, however many entries are added meanwhile."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        else:
            connection.exec_driver_sql("BEGIN")  # SQLite's driver begins with the first change only
        yield connection
