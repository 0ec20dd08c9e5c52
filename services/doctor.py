"""What `flask doctor` looks at: a table of checks, each of which finds out how one thing is and how to mend it.

The checks stand in doctor_host.py (the machine and the settings), doctor_books.py (the database and what is in it)
and doctor_alerts.py. They change nothing, and start nothing that goes on.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from services import doctor_alerts
from services import doctor_books as books
from services import doctor_host as host
from services.checkup import BAD, OK, WARN, Check, Patient, Result

STATES: Final = (OK, WARN, BAD)  # the later counts
NOTHING, DATABASE, TABLES = "", "database", "migrations"  # what a check needs: nothing, or that one to be not bad

# In the order in which they are looked at and shown.
TABLE: Final[tuple[tuple[str, str, Check], ...]] = (
    ("settings", NOTHING, host.settings),
    ("secrets", NOTHING, host.secrets),
    ("proxy", NOTHING, host.proxy),
    ("certificate", NOTHING, host.certificate),
    ("folder", NOTHING, host.folder),
    ("disk", NOTHING, host.disk),
    ("files", NOTHING, host.files),
    (DATABASE, NOTHING, books.database),
    (TABLES, DATABASE, books.migrations),
    ("clock", TABLES, books.clocks),
    ("admin", TABLES, books.admin),
    ("providers", TABLES, books.providers),
    ("spool", TABLES, books.spool),
    ("holds", TABLES, books.holds),
    ("audit", TABLES, books.audit),
    ("alerts", TABLES, doctor_alerts.alerts),
    ("valkey", NOTHING, host.valkey),
)


@dataclass(frozen=True, slots=True)
class Line:
    """What one check found."""

    check: str
    result: Result


def examine(patient: Patient, table: Iterable[tuple[str, str, Check]] = TABLE) -> Iterator[Line]:
    """Every check in turn. One that cannot look says so, and the others go on."""
    lost: set[str] = set()
    for name, needs, check in table:
        if needs in lost:
            found = [Result(WARN, f"not looked at, because of `{needs}` above")]
            lost.add(name)
        else:
            found = list(_looked(patient, check))
        if any(one.state == BAD for one in found):
            lost.add(name)
        yield from (Line(name, one) for one in found)


def worst(lines: Iterable[Line]) -> str:
    """The state of the whole."""
    return max((line.result.state for line in lines), key=STATES.index, default=OK)


def _looked(patient: Patient, check: Check) -> Iterator[Result]:
    try:
        yield from check(patient)
    except Exception as exc:  # noqa: BLE001 - whatever is wrong with it is what the operator wants to know
        reason = str(getattr(exc, "orig", None) or exc).partition("\n")[0]
        yield Result(BAD, f"this cannot be looked at: {reason or type(exc).__name__}", "Mend what the message names.")
