"""What operators are told of: one row for each thing that was noticed, and one for each target that is to hear of it.

Both are written in one transaction before anything is sent (services/alertpost.py sends), so that a crash loses
nothing. The key (event, subject, period) makes every alert one of its kind, whichever worker notices it first:

event                period                                   so it is told
budget.*, balance.*  start of the window / limit              once for a window, and again when the limit was changed
key.expiring         the moment of expiry                     once, and again when that was moved
provider.down, errors.high, spool.stuck
                     the number of the alert before           as long as it lasts, every ALERT_REPEAT
test                 random                                   whenever somebody asks
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine, Insert, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from models_alerts import Alert, AlertDelivery, AlertTarget
from services.settlement import clean
from utils import clock, ids, money

TEST: Final = "test"
EVENTS: Final[Mapping[str, str]] = {  # what can be noticed, and how it is said
    "budget.warning": "{owner}: {spent} of {limit} is spent ({percent} %, budget per {period})",
    "budget.exhausted": "{owner}: the budget of {limit} per {period} is used up, calls are refused",
    "balance.low": "{owner}: {left} tokens of the balance are left",
    "balance.exhausted": "{owner}: the balance is used up, calls are refused",
    "key.expiring": "key {name} of {user} expires at {expires_at}",
    "provider.down": "provider {provider} fails ({what}): {error}",
    "errors.high": "model {model}: {failed} of the last {calls} calls failed ({percent} %)",
    "spool.stuck": "{waiting} calls wait to be booked on {place}, the oldest for {seconds} s",
    TEST: "a test of target {target}, sent by {by}",
}
OFFERED: Final = tuple(event for event in EVENTS if event != TEST)  # to choose from


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something to tell, as whoever notices it hands it over. `user_id`: whom it is about, where it is about one."""

    event: str
    subject: str
    period: str
    facts: Mapping[str, Any]
    user_id: int | None = None


def sentence(event: str, facts: Mapping[str, Any]) -> str:
    """What happened, in one line of plain text."""
    return clean(EVENTS[event].format_map(_Missing(facts)))


def tell(engine: Engine, noticed: Noticed, *, only: int | None = None, next_at: datetime | None = None) -> int | None:
    """Write an alert with its deliveries; returns its number, or None where it was told already.

    It goes to every enabled target that wants the event; `only`: to this one whatever it wants. `next_at`: see
    AlertDelivery, by default now.
    """
    now = clock.now()
    row = {
        "code": f"alert_{ids.random_base62(24)}",
        "event": noticed.event,
        "subject": clean(noticed.subject)[:220],
        "period": noticed.period[:80],
        "user_id": noticed.user_id,
        "facts": dict(noticed.facts),
        "created_at": now,
    }
    with Session(engine) as session, session.begin():
        number: int | None = session.scalar(_once(session, row))
        if number is None:
            return None
        targets = [only] if only is not None else _listeners(session, noticed.event)
        fresh = {"alert_id": number, "state": "waiting", "attempts": 0, "next_at": next_at or now, "created_at": now}
        if targets:
            session.execute(insert(AlertDelivery), [{**fresh, "target_id": target} for target in targets])
        return number


def latest(engine: Engine, event: str, subject: str) -> tuple[int, datetime] | None:
    """Number and moment of the last alert of this kind; None = there was none."""
    query = select(Alert.id, Alert.created_at).where(Alert.event == event, Alert.subject == clean(subject)[:220])
    with engine.connect() as connection:
        row = connection.execute(query.order_by(Alert.id.desc()).limit(1)).one_or_none()
    return None if row is None else (row[0], row[1])


def shown_amount(unit: str, amount: int) -> str:
    """An amount of a budget for people."""
    return money.show_usd(amount) if unit == "usd" else f"{amount:,} tokens"


def _once(session: Session, row: Mapping[str, Any]) -> Any:
    """Inserts the row unless its like is there, and gives its number."""
    kind = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    made: Insert = kind.insert(Alert).values(row).on_conflict_do_nothing(index_elements=["event", "subject", "period"])
    return made.returning(Alert.id)


def _listeners(session: Session, event: str) -> Sequence[int]:
    """The enabled targets that want it; there are few, so the lists of events are read here."""
    rows = session.execute(select(AlertTarget.id, AlertTarget.events).where(AlertTarget.is_enabled))
    return [number for number, events in rows.tuples() if events is None or event in events]


class _Missing(dict[str, Any]):
    """A fact that an alert of another version lacks."""

    def __missing__(self, name: str) -> str:
        return "?"
