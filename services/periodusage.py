"""What one user used in a span of days, by kind of token."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from sqlalchemy import Engine, func, select

from models import UsageRecord
from services.errors import InvalidRequest
from services.reports import request_ids_from

DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
ONE_DAY: Final = timedelta(days=1)
LATEST: Final = date(9999, 12, 30)


@dataclass(frozen=True, slots=True)
class Span:
    """From the first day to the last, both included, in UTC; None = open on that side."""

    first: date | None
    last: date | None


@dataclass(frozen=True, slots=True)
class Kinds:
    """Tokens; those read from a cache are part of the prompt, as everywhere in the books."""

    prompt: int
    completion: int
    cached: int


def span(start: str | None, end: str | None) -> Span:
    """The days that a request names as YYYY-MM-DD or as a moment in ISO 8601, of which the day counts.

    Raises:
        InvalidRequest: one is no date, or the end comes before the start.
    """
    found = Span(_day("start_date", start), _day("end_date", end))
    if found.first is not None and found.last is not None and found.last < found.first:
        raise InvalidRequest("`end_date` is before `start_date`.", param="end_date")
    return found


def of_user(engine: Engine, user_id: int, days: Span) -> Kinds:
    """The sums, from one index that has them all: the rows themselves are not read."""
    usage = UsageRecord
    columns = (usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens)
    query = select(*(func.coalesce(func.sum(column), 0) for column in columns)).where(usage.user_id == user_id)
    if days.first is not None:
        query = query.where(usage.request_id >= _from(days.first))
    if days.last is not None:
        query = query.where(usage.request_id < _from(days.last + ONE_DAY))
    with engine.connect() as connection:
        return Kinds(*map(int, connection.execute(query).one()))


def _from(day: date) -> str:
    """The smallest request id of a day: ids begin with their moment."""
    return request_ids_from(int(datetime.combine(day, time(), UTC).timestamp() * 1000))


def _day(name: str, given: str | None) -> date | None:
    if not given:
        return None
    try:
        if DAY.fullmatch(given):
            found = date.fromisoformat(given)
        else:
            moment = datetime.fromisoformat(given)
            found = (moment.replace(tzinfo=moment.tzinfo or UTC)).astimezone(UTC).date()
    except (ValueError, OverflowError) as exc:
        raise InvalidRequest("`start_date` and `end_date` are days such as 2026-01-31.", param=name) from exc
    if found > LATEST:
        raise InvalidRequest("`start_date` and `end_date` are days such as 2026-01-31.", param=name)
    return found
