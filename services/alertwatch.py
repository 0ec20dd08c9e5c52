"""Looks for what operators should be told of, beside the calls: no call waits for it or does anything for it.

Every worker looks every LOOK_S at what it alone knows, its providers' circuits and its spool; one of all workers looks
at the database. Nobody needs to remember what was told: the key of an alert is its memory (services/alerts.py).

A budget is `used up` when all of it is spent, or when it refused a call and is past its share to warn at: the last
amount of a budget is too small for any call, so it is never spent to the end. Periods of seconds and minutes are
rather limits, and nobody is told of them.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Engine,
    Select,
    String,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from models import ApiKey, Budget, BudgetWindow, Refusal, Setting, UsageRecord, User
from models_alerts import Alert
from services import alerts, owners, periods
from services.alerts import Noticed
from services.health import ACCOUNT, Down
from services.reports import FINE, request_ids_from
from utils import clock

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
KEYS_S: Final = 60.0
MOST: Final = 200  # alerts of one kind and look; the next look goes on
MOST_CALLS: Final = 5000  # of the error rate's window, the newest
REFUSED_S: Final = 60  # so far back refusals count
MOST_REFUSED: Final = 500  # budgets that refused lately
SHORT: Final = ("second", "minute")  # periods that nobody is told of
WARN_PERCENT: Final = 80  # of a budget that warns nobody itself: from there a refusal means that it is used up
SERVER_ERROR, TOO_MANY = 500, 429
TURN: Final = "alerts.looked"  # the setting that says when somebody last looked at the database
AHEAD_MS: Final = 60_000  # so much later than now nobody can have looked: the clock was set back


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on something is worth telling; 0 = never."""

    key_days: int
    error_rate: float  # share of calls, 0 to 1
    error_calls: int  # fewer calls make no rate
    error_window_s: float
    spool_s: float
    repeat_s: float  # what lasts is told again after that


class AlertWatch:
    """See the module. `down` tells of circuits, `waiting` of calls that are not booked, `place` of this host."""

    def __init__(
        self,
        engine: Engine,
        thresholds: Thresholds,
        *,
        down: Callable[[], Sequence[Down]],
        waiting: Callable[[], int],
        place: Callable[[], str],
    ) -> None:
        self._engine, self._thresholds = engine, thresholds
        self._down, self._waiting, self._place = down, waiting, place
        self._seen_down: set[tuple[str, int]] = set()
        self._stuck_since_s: float | None = None
        self._keys_due_s = 0.0

    def look(self) -> int:
        """Look once; returns how many alerts are new."""
        told = sum(self._tell_lasting(noticed) for noticed in (*self._providers(), *self._spool()))
        if self._is_our_turn():
            told += sum(alerts.tell(self._engine, noticed) is not None for noticed in self._of_database())
            told += sum(self._tell_lasting(noticed) for noticed in self._errors())
        return told

    def _of_database(self) -> Iterator[Noticed]:
        yield from budgets_of(self._engine)
        if self._thresholds.key_days and clock.monotonic_s() >= self._keys_due_s:
            found = keys_of(self._engine, self._thresholds.key_days)
            self._keys_due_s = clock.monotonic_s() + (KEYS_S if len(found) < MOST else 0.0)
            yield from found

    def _tell_lasting(self, noticed: Noticed) -> bool:
        """Tell what lasts, unless that was done within `repeat_s`.

        The number of the alert before is the period: of workers that see the same one last, one is the first.
        """
        last = alerts.latest(self._engine, noticed.event, noticed.subject)
        if last is not None and clock.now() - last[1] < timedelta(seconds=self._thresholds.repeat_s):
            return False
        period = f"after {last[0] if last is not None else 0}"
        fresh = Noticed(noticed.event, noticed.subject, period, noticed.facts)
        return alerts.tell(self._engine, fresh) is not None

    def _providers(self) -> list[Noticed]:
        """Circuits that were open at the last look too: what one call mends is no news."""
        down = {one.name: one for one in self._down()}
        lasting = [one for name, one in down.items() if name in self._seen_down]
        self._seen_down = set(down)
        return [_of_circuit(one) for one in lasting]

    def _spool(self) -> list[Noticed]:
        waiting, now_s = self._waiting(), clock.monotonic_s()
        if not waiting:
            self._stuck_since_s = None
            return []
        if self._stuck_since_s is None:
            self._stuck_since_s = now_s
        lasts_s = now_s - self._stuck_since_s
        if not self._thresholds.spool_s or lasts_s < self._thresholds.spool_s:
            return []
        place = self._place()
        facts = {"waiting": waiting, "seconds": round(lasts_s), "place": place}
        return [Noticed("spool.stuck", f"spool {place}", "", facts)]

    def _errors(self) -> list[Noticed]:
        wanted = self._thresholds
        if not wanted.error_rate:
            return []
        with self._engine.connect() as connection:
            rows = connection.execute(_rates(wanted.error_window_s)).all()
        return [
            Noticed(
                "errors.high",
                f"model {model}",
                "",
                {
                    "model": model,
                    "calls": calls,
                    "failed": failed,
                    "percent": failed * 100 // calls,
                    "window_s": round(wanted.error_window_s),
                },
            )
            for model, calls, failed in rows
            if calls >= wanted.error_calls and failed >= wanted.error_rate * calls
        ]

    def _is_our_turn(self) -> bool:
        """Whether this worker looks at the database now: the first one after LOOK_S does, for all."""
        now_ms = clock.now_ms()
        now, long_ago, ahead = (f"{now_ms + more_ms:015d}" for more_ms in (0, -round(LOOK_S * 900), AHEAD_MS))
        with Session(self._engine) as session:
            value = session.scalar(select(Setting.value).where(Setting.key == TURN))
        if value is not None and long_ago < value <= ahead:
            return False
        with Session(self._engine) as session, session.begin():
            if value is None:
                kind = sqlite if self._engine.dialect.name == "sqlite" else postgresql
                first = kind.insert(Setting).values(key=TURN, value=now, updated_at=clock.now())
                made = session.execute(first.on_conflict_do_nothing().returning(Setting.key))
                return made.first() is not None  # a count of rows need not be known
            taken = (
                update(Setting)
                .where(Setting.key == TURN, or_(Setting.value <= long_ago, Setting.value > ahead))
                .values(value=now)
            )
            done = session.execute(taken.execution_options(synchronize_session=False))
            return bool(done.rowcount)  # type: ignore[attr-defined]  # the same


def budgets_of(engine: Engine) -> list[Noticed]:
    """Budgets and balances of which nobody was told yet that they are nearly, or altogether, used up."""
    now_s = clock.now_s()
    with Session(engine) as session:
        kinds = session.execute(select(Budget.period, Budget.timezone).distinct().where(Budget.period.not_in(SHORT)))
        starts = [(period, zone, periods.start_s(period, zone, now_s)) for period, zone in kinds]
        rows = session.execute(_used(starts, _refusing(session))).all()
        called = owners.names(session, [(row.scope, row.scope_id) for row, *_rest in rows])
        keys = {row.scope_id for row, *_rest in rows if row.scope == "key"}
        of_keys = dict(session.execute(select(ApiKey.id, ApiKey.user_id).where(ApiKey.id.in_(keys))).tuples().all())
        return [
            _of_budget(row, spent, start, owners.label(row, called), is_over=is_over, user_id=_about(row, of_keys))
            for row, spent, start, is_over in rows
        ]


def keys_of(engine: Engine, days: int) -> list[Noticed]:
    """Working keys that expire within so many days, of those that were made to live longer than that."""
    now, ahead = clock.now(), timedelta(days=days)
    expires, made = (type_coerce(column, BigInteger) for column in (ApiKey.expires_at, ApiKey.created_at))
    query = (
        select(ApiKey.id, ApiKey.name, ApiKey.hint, ApiKey.expires_at, ApiKey.user_id, User.username)
        .join(User, User.id == ApiKey.user_id)
        .where(
            ApiKey.expires_at > now,
            ApiKey.expires_at <= now + ahead,
            expires - made > round(ahead.total_seconds() * 1000),
            ApiKey.revoked_at.is_(None),
            User.is_active,
            ~_is_told(literal("key.expiring"), literal("key ") + cast(ApiKey.id, String), cast(expires, String)),
        )
        .order_by(ApiKey.expires_at, ApiKey.id)
        .limit(MOST)
    )
    with engine.connect() as connection:
        return [
            Noticed(
                "key.expiring",
                f"key {row.id}",
                str(round(row.expires_at.timestamp() * 1000)),
                {
                    "key_id": row.id,
                    "name": row.name,
                    "hint": row.hint,
                    "user": row.username,
                    "expires_at": row.expires_at.isoformat(timespec="seconds"),
                },
                row.user_id,
            )
            for row in connection.execute(query)
        ]


def _used(starts: Sequence[tuple[str, str, int]], refusing: Sequence[int]) -> Select[Any]:
    """Budgets with what is spent, their window, and whether they are used up; only those that somebody must hear of."""
    spent, limit = BudgetWindow.spent_amount, Budget.limit_amount
    share = func.coalesce(Budget.warn_percent, WARN_PERCENT)
    is_near = spent * 100 >= limit * share
    has_refused = and_(is_near, Budget.id.in_(refusing)) if refusing else false()
    is_over = or_(spent >= limit, has_refused)
    subject = literal("budget ") + cast(Budget.id, String)
    period = cast(BudgetWindow.period_start, String) + "/" + cast(limit, String)
    told_over = _is_told(_event("exhausted"), subject, period)
    told_near = _is_told(case((Budget.is_prepaid, "balance.low"), else_="budget.warning"), subject, period)
    is_new_warning = and_(~is_over, is_near, Budget.warn_percent.is_not(None), ~told_near)
    is_now = tuple_(Budget.period, Budget.timezone, BudgetWindow.period_start).in_(starts)
    return (
        select(Budget, spent, BudgetWindow.period_start, is_over)
        .join(BudgetWindow, BudgetWindow.budget_id == Budget.id)
        .where(is_now, limit > 0, ~told_over, or_(is_over, is_new_warning))
        .order_by(Budget.id)
        .limit(MOST)
    )


def _event(what: str) -> ColumnElement[str]:
    return case((Budget.is_prepaid, f"balance.{what}"), else_=f"budget.{what}")


def _is_told(event: ColumnElement[str], subject: ColumnElement[str], period: ColumnElement[str]) -> ColumnElement[bool]:
    return select(Alert.id).where(Alert.event == event, Alert.subject == subject, Alert.period == period).exists()


def _refusing(session: Session) -> list[int]:
    """The budgets that refused a call lately."""
    since = request_ids_from(clock.now_ms() - REFUSED_S * 1000)
    wanted = (Refusal.request_id >= since, Refusal.kind == "budget", Refusal.rule.startswith("budget "))
    rules = session.scalars(select(Refusal.rule).where(*wanted).distinct().limit(MOST_REFUSED))
    numbers = [(rule or "").removeprefix("budget ") for rule in rules]
    return [int(number) for number in numbers if number.isascii() and number.isdigit()]


def _of_budget(row: Budget, spent: int, start: int, owner: str, *, is_over: bool, user_id: int | None) -> Noticed:
    kind, what = ("balance", "low") if row.is_prepaid else ("budget", "warning")
    limit = row.limit_amount
    facts = {
        "budget_id": row.id,
        "owner": owner,
        "scope": row.scope,
        "scope_id": row.scope_id,
        "unit": row.unit,
        "period": row.period,
        "spent_amount": spent,
        "limit_amount": limit,
        "spent": alerts.shown_amount(row.unit, spent),
        "limit": alerts.shown_amount(row.unit, limit),
        "left": f"{max(0, limit - spent):,}",
        "percent": spent * 100 // limit,
    }
    event = f"{kind}.{'exhausted' if is_over else what}"
    return Noticed(event, f"budget {row.id}", f"{start}/{limit}", facts, user_id)


def _about(row: Budget, of_keys: dict[int, int]) -> int | None:
    """Which person a budget tells of."""
    return {"user": row.scope_id, "key": of_keys.get(row.scope_id)}.get(row.scope)


def _of_circuit(one: Down) -> Noticed:
    kind, number = one.name
    what = "all its models" if kind == ACCOUNT else one.model
    facts = {"provider": one.provider, "what": what, "error": one.error, "failures_in_a_row": one.failures}
    return Noticed("provider.down", f"{kind} {number}", "", facts)


def _rates(window_s: float) -> Select[Any]:
    """Calls and failed calls of each model in the window. What is the caller's own fault is no failure."""
    since = request_ids_from(clock.now_ms() - round(window_s * 1000))
    usage = UsageRecord
    some = select(usage.model, usage.outcome, usage.status).where(usage.request_id >= since)
    newest = some.order_by(usage.request_id.desc()).limit(MOST_CALLS).subquery()
    is_fault = or_(newest.c.status >= SERVER_ERROR, newest.c.status == TOO_MANY)
    is_failed = and_(newest.c.outcome.not_in(FINE), is_fault)
    failed = func.sum(case((is_failed, 1), else_=0))
    return select(newest.c.model, func.count(), failed).group_by(newest.c.model).order_by(newest.c.model)
