"""What one person used in the last 30 days, by day, model and key: one statement along one index."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Engine, case, func, select, type_coerce
from sqlalchemy.orm import Session

from models import UsageRecord
from services.activity import Sums
from services.reports import FINE, request_ids_from
from utils import clock

DAY_MS: Final = 86_400_000
DAYS: Final = 30
WEEK: Final = 7
MAX_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Use:
    """The sums of 30 days that end today, UTC. `by_key` has None for calls of a browser or a token."""

    days: tuple[tuple[date, Sums], ...]  # oldest first, every day of them
    by_model: tuple[tuple[str, Sums], ...]  # the dearest first
    by_key: tuple[tuple[int | None, Sums], ...]
    by_user: tuple[tuple[int, Sums], ...]

    @property
    def today(self) -> Sums:
        """Of this day."""
        return self.days[-1][1]

    @property
    def week(self) -> Sums:
        """Of seven days."""
        return _sum(sums for _day, sums in self.days[-WEEK:])

    @property
    def month(self) -> Sums:
        """Of all 30."""
        return _sum(sums for _day, sums in self.days)


def of_user(engine: Engine, user_id: int) -> Use:
    """What a person used."""
    return _of(engine, [UsageRecord.user_id == user_id])


def of_members(engine: Engine, team_id: int, user_ids: list[int]) -> Use:
    """What these used while they were in the team: the rows that are the team's."""
    return _of(engine, [UsageRecord.user_id.in_(user_ids), UsageRecord.team_id == team_id])


def find_call(session: Session, user_id: int, call_id: int) -> UsageRecord | None:
    """One call of the person; of somebody else there is none."""
    mine = (UsageRecord.id == min(max(call_id, 0), MAX_ID), UsageRecord.user_id == user_id)
    return session.scalar(select(UsageRecord).where(*mine))


def _of(engine: Engine, whose: list[ColumnElement[bool]]) -> Use:
    usage, first_ms = UsageRecord, (clock.now_ms() // DAY_MS - DAYS + 1) * DAY_MS
    day = type_coerce(usage.created_at, BigInteger) // DAY_MS
    query = (
        select(
            *(day, usage.model, usage.key_id, usage.user_id, func.count()),
            func.sum(case((usage.outcome.in_(FINE), 0), else_=1)),
            *(func.sum(func.coalesce(one, 0)) for one in (usage.input_tokens, usage.output_tokens, usage.cost_nanousd)),
        )
        .where(*whose, usage.request_id >= request_ids_from(first_ms))
        .group_by(day, usage.model, usage.key_id, usage.user_id)
    )
    days = {first_ms // DAY_MS + place: Sums() for place in range(DAYS)}
    models: dict[str, Sums] = {}
    keys: dict[int | None, Sums] = {}
    users: dict[int, Sums] = {}
    with engine.connect() as connection:
        for number, model, key, user, *figures in connection.execute(query):
            sums = Sums(*map(int, figures))
            if number in days:
                days[number] += sums
            models[model] = models.get(model, Sums()) + sums
            keys[key] = keys.get(key, Sums()) + sums
            users[user] = users.get(user, Sums()) + sums
    begin = datetime.fromtimestamp(first_ms / 1000, UTC).date()
    return Use(
        tuple((begin + timedelta(days=place), sums) for place, sums in enumerate(days.values())),
        _dearest(models),
        _dearest(keys),
        _dearest(users),
    )


def _dearest(found: dict[Any, Sums]) -> tuple[tuple[Any, Sums], ...]:
    return tuple(sorted(found.items(), key=lambda one: (-one[1].cost_nanousd, -one[1].tokens, str(one[0]))))


def _sum(parts: Iterable[Sums]) -> Sums:
    total = Sums()
    for part in parts:
        total += part
    return total
