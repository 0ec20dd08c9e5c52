"""Sealing anew, with the newest of ENCRYPTION_KEYS, everything that an older one sealed.

Rows are taken in small transactions, each guarded by what it had: a row that somebody changes meanwhile is theirs.
What is sealed with the newest key is left as it is, so that a run which was ended is simply begun again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Engine, LargeBinary, Table, func, select, update
from sqlalchemy.orm import Session

from models import ApiKey, Provider
from services import audit, peppers
from services.credentials import SealBroken, Sealer
from services.keys import Keys
from utils.progress import Tell, silent

BATCH: Final = 100  # rows of a transaction; those of stored texts may be large


@dataclass(slots=True)
class Sealed:
    """One column: how much is sealed in it, how much of that was or would be sealed anew, what no key opens."""

    column: str
    found: int = 0
    renewed: int = 0
    broken: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What a run found. `keys_left`: secrets that open under an earlier pepper alone."""

    columns: tuple[Sealed, ...]
    keys_left: int


@dataclass(frozen=True, slots=True)
class How:
    """How the work is done."""

    batch: int = BATCH  # rows at once
    dry_run: bool = False  # only count
    tell: Tell = silent


def columns() -> list[tuple[Table, Column[Any]]]:
    """All columns of sealed values: there are no other bytes in the database."""
    tables = Provider.metadata.sorted_tables
    return [(table, column) for table in tables for column in table.columns if isinstance(column.type, LargeBinary)]


def rotate(engine: Engine, sealer: Sealer, keys: Keys, actor: audit.Actor, how: How = How()) -> Report:
    """Seal everything anew and move the keys that can be moved."""
    counted = _Counted(how.tell, 0 if how.tell is silent else sum(_count(engine, where) for where in columns()))
    found = tuple(_column(engine, sealer, where, how, counted) for where in columns())
    if not how.dry_run:
        _move_kept(engine, sealer, keys, how.batch)
    with Session(engine) as session, session.begin():
        details = {column.column: column.renewed for column in found if column.renewed}
        if details and not how.dry_run:
            audit.note(session, actor, "secrets_rotate", "system", None, details)
        return Report(found, peppers.count_left(session, keys.pepper))


class _Counted:
    """Rows of all columns, on their way."""

    def __init__(self, tell: Tell, whole: int) -> None:
        self._tell, self._whole, self._done = tell, whole, 0

    def add(self, rows: int) -> None:
        """So many more are done."""
        self._done += rows
        self._tell(self._done, self._whole)


def _count(engine: Engine, where: tuple[Table, Column[Any]]) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count(where[1]))).scalar_one()


def _column(engine: Engine, sealer: Sealer, where: tuple[Table, Column[Any]], how: How, counted: _Counted) -> Sealed:
    table, column = where
    told = Sealed(f"{table.name}.{column.name}")
    for rows in _batches(engine, where, how.batch):
        fresh = {}
        for number, sealed in rows:
            told.found += 1
            try:
                renewed = sealer.renewed(sealed)
            except SealBroken:
                told.broken += 1
                continue
            if renewed is not None:
                fresh[number] = (sealed, renewed)
        told.renewed += len(fresh)
        if fresh and not how.dry_run:
            _store(engine, where, fresh)
        counted.add(len(rows))
    return told


def _batches(engine: Engine, where: tuple[Table, Column[Any]], batch: int) -> Iterator[list[tuple[Any, bytes]]]:
    table, column = where
    (key,) = table.primary_key.columns
    query, last = select(key, column).where(column.is_not(None)).order_by(key).limit(batch), None
    while True:
        with engine.connect() as connection:
            rows = [(row[0], row[1]) for row in connection.execute(query if last is None else query.where(key > last))]
        if not rows:
            return
        yield rows
        last = rows[-1][0]


def _store(engine: Engine, where: tuple[Table, Column[Any]], fresh: dict[Any, tuple[bytes, bytes]]) -> None:
    table, column = where
    (key,) = table.primary_key.columns
    same = {"updated_at": table.c.updated_at} if "updated_at" in table.c else {}  # nobody changed the row
    with engine.begin() as connection:
        for number, (sealed, renewed) in fresh.items():
            mine = (key == number, column == sealed)
            connection.execute(update(table).where(*mine).values({column.name: renewed, **same}))


def _move_kept(engine: Engine, sealer: Sealer, keys: Keys, batch: int) -> None:
    """Move the keys of which a sealed copy is kept from their earlier pepper."""
    last = 0
    while True:
        left = (ApiKey.sealed.is_not(None), ApiKey.pepper.is_distinct_from(keys.pepper), ApiKey.id > last)
        with Session(engine) as session, session.begin():
            query = select(ApiKey.id, ApiKey.sealed).where(*left).order_by(ApiKey.id).limit(batch)
            rows = session.execute(query).tuples().all()
            for number, sealed in rows:
                _move(session, sealer, keys, sealed or b"")
                last = number
        if not rows:
            return


def _move(session: Session, sealer: Sealer, keys: Keys, sealed: bytes) -> None:
    try:
        secret = sealer.open(sealed)
    except SealBroken:
        return  # it was counted with its column
    peppers.move(session, keys.former_digests(secret), keys.digest(secret), keys.pepper)
