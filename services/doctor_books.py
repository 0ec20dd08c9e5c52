"""Checks of the database and of what is in it: see doctor.py."""

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from alembic.script import ScriptDirectory
from sqlalchemy import ColumnElement, Connection, and_, func, inspect, not_, or_, select, text
from sqlalchemy.orm import InstrumentedAttribute

from config import MIN_PASSWORD, ROOT, Config
from models import AuditEntry, AuditHead, Hold, Lease, LimitLease, UsageRecord, User
from services.checkup import BAD, OK, WARN, Patient, Result, or_ok
from services.passwords import Passwords
from services.spool import read_notes, workers
from utils import clock
from utils.settings import is_loopback, is_weak

REVISION: Final = text("SELECT version_num FROM alembic_version")
ASKED: Final = ("server_version_num", "fsync", "full_page_writes", "synchronous_commit", "max_connections")
OLDEST: Final = 14  # of Postgres, that gets corrections
RESERVED: Final = 5  # connections that Postgres keeps for others, and for an operator
UNSAFE: Final = {  # settings of Postgres that must not be `off`, and what else may happen
    "fsync": "a power cut can destroy the database",
    "full_page_writes": "a power cut can destroy the database",
    "synchronous_commit": "a crash loses calls that were booked",
}
APART_S: Final = 2.0  # that much two clocks may differ
FAR_S: Final = 60.0  # and that much makes periods and expiry wrong
POOLED: Final = "If its pool_mode is `transaction`, set DB_POOLING=transaction; if it is `session`, all is well."
AHEAD: Final = timedelta(seconds=60)
ASKED_TOGETHER: Final = 500
ALIVE: Final = "Start the gateway: a worker books them within seconds; see its log if they stay."


def database(patient: Patient) -> list[Result]:
    """Kind and version, and what makes it less safe than it should be."""
    with patient.here.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            version, mode = (
                connection.exec_driver_sql(q).scalar() for q in ("SELECT sqlite_version()", "PRAGMA journal_mode")
            )
            return [Result(OK, f"SQLite {version} ({mode}), from {patient.here.config.database[1]}")]
        values = {name: str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in ASKED}
        is_pooled = _is_pooled(connection)
    return postgres(values, patient.here.config, is_pooled=is_pooled)


def _is_pooled(connection: Connection) -> bool:
    """Whether a pooler answers: it makes up a process id for its clients, who do not have a server of their own."""
    server = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    driver: Any = connection.connection.driver_connection
    return bool(server != driver.info.backend_pid)


def postgres(values: Mapping[str, str], config: Config, *, is_pooled: bool = False) -> list[Result]:
    """What these settings of a server mean."""
    major, found = int(values["server_version_num"]) // 10_000, []
    if is_pooled and config.db_pooling == "session":
        found.append(Result(WARN, "a pooler stands before Postgres", POOLED))
    if major < OLDEST:
        said = f"Postgres {major} gets no corrections any more"
        found.append(Result(WARN, said, f"Move to Postgres {OLDEST} or newer."))
    for name, what in UNSAFE.items():
        if values[name] == "off":
            found.append(Result(WARN, f"Postgres has {name} = off: {what}", f"Set {name} = on in postgresql.conf."))
    most, each = int(values["max_connections"]) - RESERVED, 2 * config.db_pool_size + config.db_max_overflow
    if config.web_concurrency * each > most:
        said = f"{config.web_concurrency} workers may open {each} connections each, and Postgres allows {most} in all"
        found.append(Result(WARN, said, "Raise max_connections, or lower DB_POOL_SIZE and DB_MAX_OVERFLOW."))
    return or_ok(found, f"Postgres {major}, from {config.database[1]}")


def migrations(patient: Patient) -> list[Result]:
    """Whether the tables are those of this version."""
    scripts = ScriptDirectory(str(ROOT / "migrations"))
    newest = scripts.get_current_head()
    with patient.here.engine.connect() as connection:
        has_any = inspect(connection).has_table("alembic_version")
        revision = connection.execute(REVISION).scalar() if has_any else None
    if revision is None:
        return [Result(BAD, "the database is empty", "`flask prepare`, which the gateway's start does too.")]
    if revision == newest:
        return [Result(OK, f"up to date at {revision}")]
    if revision not in {script.revision for script in scripts.walk_revisions()}:
        said = f"the database is at {revision}, which this version does not know"
        return [Result(BAD, said, "Install the version that made it, or restore a backup of this one.")]
    return [Result(BAD, f"the database is at {revision}, this version needs {newest}", "`flask db upgrade`")]


def clocks(patient: Patient) -> list[Result]:
    """The host's clock beside the database's, and beside the newest call: periods and expiry go by it."""
    mend = "Have both set by NTP: `timedatectl set-ntp true`."
    with patient.here.engine.connect() as connection:
        newest = connection.scalar(select(UsageRecord.created_at).order_by(UsageRecord.id.desc()).limit(1))
        apart_s = _apart_s(connection)
    found = []
    if abs(apart_s) > APART_S:
        said = f"the clocks of this host and of the database are {abs(apart_s):,.1f} s apart"
        found.append(Result(BAD if abs(apart_s) > FAR_S else WARN, said, mend))
    if newest is not None and newest - clock.now() > AHEAD:
        said = (
            f"the newest call began at {newest:%Y-%m-%d %H:%M:%S} UTC, and here it is {clock.now():%Y-%m-%d %H:%M:%S}"
        )
        found.append(Result(BAD, said, mend))
    return or_ok(found, f"{clock.now():%Y-%m-%d %H:%M:%S} UTC, as the database has it")


def admin(patient: Patient) -> list[Result]:
    """Whether the first admin still has the first password, and whether there is an admin at all."""
    config = patient.here.config
    can_sign_in = (User.role == "admin", User.is_active, User.password_hash.is_not(None))
    with patient.here.engine.connect() as connection:
        count = connection.scalar(select(func.count()).select_from(User).where(*can_sign_in))
        first = select(User.password_hash, User.must_change_password)
        row = connection.execute(
            first.where(*can_sign_in, User.username == config.default_admin_username)
        ).one_or_none()
    if not count:
        return [Result(WARN, "there is no admin with a password", "`flask create-admin NAME`")]
    given, name = config.default_admin_password, config.default_admin_username
    if row is not None and given and Passwords().check(row.password_hash, given):
        state = BAD if is_weak(given, MIN_PASSWORD) and not is_loopback(config.host) else WARN
        said = f"`{name}` still has the password of DEFAULT_ADMIN_PASSWORD"
        return [Result(state, said, "Change it in the panel, and take the setting away.")]
    if row is not None and row.must_change_password:
        return [Result(WARN, f"`{name}` has not changed a password that must be changed", "Sign in to the panel.")]
    return [Result(OK, f"{count} can sign in" + (", not with DEFAULT_ADMIN_PASSWORD" if given else ""))]


def providers(patient: Patient) -> list[Result]:
    """Whether those that are enabled answer, as `flask providers check` finds."""
    checks, found = patient.here.checks, []
    for line in (line for line in checks.providers() if line.is_enabled):
        finding = checks.look(line.id)
        mend = "" if finding.is_good else f"Mend that in the panel; `flask providers check {line.name}` tries again."
        found.append(Result(OK if finding.is_good else BAD, f"`{line.name}`: {patient.words(finding)}", mend))
    none = "No provider is enabled, so nothing can be called."
    return found or [Result(WARN, none, "Add one in the panel, or by TOLLHOUSE_CONFIG.")]


def spool(patient: Patient) -> list[Result]:
    """Calls that only the spool has: the database did not take them, or their worker died first."""
    folder = patient.here.config.instance_path / "spool"
    waiting: dict[bool, set[str]] = {True: set(), False: set()}
    for owner, is_alive in workers(folder)[1].items():
        waiting[is_alive] |= read_notes(folder / f"{owner}.jsonl").settlements.keys()
    with patient.here.engine.connect() as connection:
        left = {is_alive: len(found) - _booked(connection, found) for is_alive, found in waiting.items()}
    found = []
    if left[True]:
        mend = "Look for `settlement` in the gateway's log: the database was away, or refuses them."
        found.append(Result(WARN, f"{left[True]:,} calls wait for the database", mend))
    if left[False]:
        found.append(Result(WARN, f"{left[False]:,} calls of workers that are gone wait to be booked", ALIVE))
    return or_ok(found, "no call waits in it")


def holds(patient: Patient) -> list[Result]:
    """What is held for calls that nobody finishes: of dead workers of this host, and of all past their time."""
    place, living = workers(patient.here.config.instance_path / "spool")
    alive = [owner for owner, is_alive in living.items() if is_alive]
    with patient.here.engine.connect() as connection:
        total = connection.scalar(select(func.count()).select_from(Hold)) or 0
        gone = [Hold.deadline_at < clock.now(), *_left_by(Hold.owner, place, alive)]
        lost = connection.scalar(select(func.count()).select_from(Hold).where(or_(*gone))) or 0
        shares = sum(_leases(connection, table, place, alive) for table in (Lease, LimitLease))
    found = []
    if lost:
        found.append(Result(WARN, f"{lost:,} of {total:,} holds are of calls whose worker is gone", ALIVE))
    if shares:
        found.append(
            Result(WARN, f"{shares:,} leases are of workers that are gone", ALIVE.replace("books", "takes back"))
        )
    return or_ok(found, f"{total:,} calls are under way, each with a worker")


def audit(patient: Patient) -> list[Result]:
    """Whether the chain has its end; following all of it is the work of `flask audit verify`."""
    last = select(AuditEntry.sequence, AuditEntry.digest).where(AuditEntry.sequence.is_not(None))
    with patient.here.engine.connect() as connection:
        head = connection.execute(select(AuditHead.entry_id, AuditHead.digest)).one_or_none()
        entry = connection.execute(last.order_by(AuditEntry.sequence.desc()).limit(1)).one_or_none()
    mend = "`flask audit verify` finds the place; restore a backup, and find out who changed the database."
    if head is None:
        return [Result(BAD, "the row that says where the chain ends is missing, so no change can be noted", mend)]
    if tuple(head) != (tuple(entry) if entry is not None else (0, "")):
        return [Result(BAD, f"the chain should end with entry {head.entry_id:,}, and does not", mend)]
    return [Result(OK, f"the chain ends with entry {head.entry_id:,}")]


def _apart_s(connection: Connection) -> float:
    """How far the database's clock goes before this host's; a SQLite file has none."""
    if connection.dialect.name == "sqlite":
        return 0.0
    before_s = clock.now_s()
    theirs = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8").scalar_one()
    return float(theirs) - (before_s + clock.now_s()) / 2


def _booked(connection: Connection, request_ids: Collection[str]) -> int:
    """How many of them have their usage row: lines stay in a spool for a while after that."""
    wanted, count = sorted(request_ids), 0
    for start in range(0, len(wanted), ASKED_TOGETHER):
        some = wanted[start : start + ASKED_TOGETHER]
        count += connection.scalar(select(func.count(UsageRecord.id)).where(UsageRecord.request_id.in_(some))) or 0
    return count


def _left_by(owner: InstrumentedAttribute[str], place: str, alive: list[str]) -> Iterator[ColumnElement[bool]]:
    """Those of workers of this host that do not live."""
    if place:
        yield and_(owner.startswith(f"{place}.", autoescape=True), not_(owner.in_(alive)))


def _leases(connection: Connection, table: Any, place: str, alive: list[str]) -> int:
    gone = list(_left_by(table.owner, place, alive))
    return connection.scalar(select(func.count()).select_from(table).where(*gone)) or 0 if gone else 0
