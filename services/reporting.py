"""Reports of the key management API: what calls came to over time, the dearest keys, and who used a key.

Amounts are exact USD. A key or user that was deleted is called `#` and its number.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, distinct, func, select
from sqlalchemy.orm import Session

from models import ApiKey, UsageRecord, User
from models_books import NAMED
from models_rollups import OwnerSpan
from services import datapoints, fields, keyviews, matching, pages
from services.activity import Sums
from services.datapoints import MOST_POINTS, Point
from services.errors import NotFound, TooMuch
from services.fields import Parse
from services.keymanagement import LONGEST_ID
from services.matching import Wanted
from services.rollups import DAY, DAY_S, OWNERS, added_up, rows, snapshot
from utils import money

MOST_NAMES: Final = 10_000  # ids of an answer
NANO_PER_MICRO: Final = 1000
LONGEST_STEP: Final = 400 * 366 * DAY_S
BY: Final = {"model": "model", "keyId": "key_id", "userId": "user_id", "customId": "custom_id"}  # and columns
SECONDS: Final = fields.whole(1, int(fields.LATEST.timestamp()))
NAMES: Final = fields.entries(fields.text(fields.MAX_NAME, is_required=True), pages.MOST)


def _filter(value: Any) -> str:
    if not isinstance(value, str) or value not in BY:
        raise fields.Unfit(f"may be {', '.join(BY)}")
    return value


SPAN: Final[Mapping[str, Parse]] = {"start": SECONDS, "end": SECONDS}
BY_DAY: Final[Mapping[str, Parse]] = {**SPAN, **dict.fromkeys(("keyIds", "tags", "customIds", "userIds"), NAMES)}
EVENTS: Final[Mapping[str, Parse]] = {
    **BY_DAY,
    "increment": fields.whole(1, LONGEST_STEP),
    "filters": fields.entries(_filter),
}
TOP: Final[Mapping[str, Parse]] = {
    **SPAN,
    **dict.fromkeys(("keyIds", "tags"), NAMES),
    "name": fields.text(fields.MAX_NAME),
    "revoked": fields.flag,
    "order": fields.order,
    "limit": fields.whole(0, MOST_POINTS),
    "offset": fields.whole(0, pages.FARTHEST),
}
ONLY: Final = ("keyIds", "tags", "name", "revoked")  # members by which keys are picked


class Reporting:
    """See the module."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def events(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A data point for each increment of the time, or for each value of the `filters` in it.

        Raises:
            FieldsInvalid: a member that cannot be.
            TooMuch: too many data points, or too many calls to read.
            AccountingUnavailable: the sums are far behind.
        """
        values = fields.read(EVENTS, body, ("start", "end", "increment")).values
        matching.check_span(values["start"], values["end"])
        spans = range(values["start"], values["end"], values["increment"])
        if len(spans) > MOST_POINTS:
            raise TooMuch(
                f"These are {len(spans):,} data points, and {MOST_POINTS:,} are the most; ask for longer ones."
            )
        return self._report(values, values["increment"], values.get("filters", ()), spans)

    def events_by_day(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A data point for each key and whole UTC day that begins in the time.

        Raises:
            As `events`.
        """
        values = fields.read(BY_DAY, body, ("start", "end")).values
        matching.check_span(values["start"], values["end"])
        days = {name: -(-values[name] // DAY_S) * DAY_S for name in ("start", "end")}
        if days["start"] == days["end"]:
            return _answer([], [0.0, 0.0])
        return self._report(values | days, DAY_S, ("keyId",), ())

    def top_keys(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What each key cost in the time, the dearest first; with those that were made then and not used.

        Raises:
            As `events`.
        """
        values = fields.read(TOP, body, ("start", "end")).values
        start, end = values["start"], values["end"]
        matching.check_span(start, end)
        with Session(self._engine) as session:
            picked = keyviews.conditions(session, {name: values[name] for name in ONLY if name in values})
            fresh = self._made(session, picked, start, end)
            keys = (
                tuple(_few(session.scalars(select(ApiKey.id).where(*picked).limit(MOST_POINTS + 1))))
                if picked
                else None
            )
        wanted = Wanted(start * 1000, end * 1000, keys)
        with snapshot(self._engine) as connection:
            found = datapoints.points(connection, wanted, end - start, ("key_id",))
        costs = dict.fromkeys(fresh, 0) | {point.by[0]: point.sums.cost_nanousd for point in found if point.by[0]}
        sign = 1 if values.get("order") == "asc" else -1
        ranked = sorted(costs.items(), key=lambda one: (sign * one[1], one[0]))
        offset, limit = values.get("offset", 0), values.get("limit") or MOST_POINTS
        page = ranked[offset : offset + limit]
        if len(ranked) > MOST_POINTS and not values.get("limit"):
            raise TooMuch(f"These are {len(ranked):,} keys, and {MOST_POINTS:,} are the most; give a limit.")
        with Session(self._engine) as session:
            called = key_uuids(session, {key for key, _cost in page})
        return {"dataPoints": [{"keyId": called[key], "costInUsd": money.usd(cost)} for key, cost in page]}

    def key(self, key_id: str) -> dict[str, Any]:
        """What a key has cost in all, in millionths of a USD, rounded half up.

        Raises:
            NotFound: there is none (code `key_not_found`).
        """
        number = self._number(key_id)
        total = self._of_key(number, "cost_nanousd")
        cost = sum(total.values())
        return {"id": key_id.lower(), "costInMicroDollars": (cost + NANO_PER_MICRO // 2) // NANO_PER_MICRO}

    def user_ids(self, key_id: str) -> list[str]:
        """The users that a key has been used by, in the order of their names.

        Raises:
            NotFound: there is no such key.
        """
        found = [user for user, calls in self._of_key(self._number(key_id), "calls").items() if calls > 0]
        with Session(self._engine) as session:
            return sorted(user_names(session, found).values())[:MOST_NAMES]

    def custom_ids(self, key_id: str) -> list[str]:
        """The names that callers gave to calls of a key, the first of them in their order.

        Raises:
            NotFound: there is no such key.
        """
        usage = UsageRecord
        query = select(distinct(usage.custom_id)).where(NAMED, usage.key_id == self._number(key_id))
        with self._engine.connect() as connection:
            return list(connection.scalars(query.order_by(usage.custom_id).limit(MOST_NAMES)))

    def _report(
        self, values: Mapping[str, Any], step_s: int, by: Collection[str], spans: Iterable[int]
    ) -> dict[str, Any]:
        """Data points and percentiles; of spans without a call one with nothing."""
        with Session(self._engine) as session:
            wanted = Wanted(
                values["start"] * 1000,
                values["end"] * 1000,
                matching.key_numbers(session, values.get("keyIds", ()), values.get("tags", ())),
                matching.user_numbers(session, values.get("userIds", ())),
                tuple(values.get("customIds", ())) or None,
            )
        columns = [BY[name] for name in by]
        with snapshot(self._engine) as connection:
            found = datapoints.points(connection, wanted, step_s, columns)
            delays = datapoints.percentiles_ms(connection, wanted, 0.5, 0.99)
        seen = {point.start_s for point in found}
        nothing = tuple(datapoints.EMPTY[name] for name in columns)
        found += [Point(start, nothing, Sums()) for start in spans if start not in seen]
        if len(found) > MOST_POINTS:
            raise TooMuch(f"There are more than {MOST_POINTS:,} data points; {matching.NARROWER}, or for longer spans.")
        with Session(self._engine) as session:
            shown = _shown(session, sorted(found, key=lambda point: point.start_s), columns)
        return _answer(shown, delays)

    def _made(self, session: Session, picked: list[ColumnElement[bool]], start: int, end: int) -> list[int]:
        """The keys that were made in that time."""
        made = (ApiKey.created_at >= fields.moment(start), ApiKey.created_at < fields.moment(end))
        return _few(session.scalars(select(ApiKey.id).where(*picked, *made).limit(MOST_POINTS + 1)))

    def _number(self, key_id: str) -> int:
        is_id = key_id.isascii() and key_id.isprintable() and len(key_id) == LONGEST_ID
        with Session(self._engine) as session:
            found = session.scalar(select(ApiKey.id).where(ApiKey.uuid == key_id.lower())) if is_id else None
        if found is None:
            raise NotFound(f"There is no key `{key_id[:LONGEST_ID]}`.", param="keyId", code="key_not_found")
        return found

    def _of_key(self, number: int, figure: str) -> dict[int, int]:
        """A sum of all calls of a key, by user; from the days of the roll-ups and the rows after them."""
        totals: dict[int, int] = {}
        with snapshot(self._engine) as connection:
            newer = added_up(OWNERS, rows(datapoints.behind(connection), None, UsageRecord.key_id == number), DAY)
            days = OwnerSpan.__table__.select().where(OwnerSpan.span_hours == DAY)
            for source in (days.subquery(), *(one.subquery() for one in newer)):
                query = select(source.c.user_id, func.sum(source.c[figure])).where(source.c.key_id == number)
                for user, amount in connection.execute(query.group_by(source.c.user_id)):
                    totals[user] = totals.get(user, 0) + int(amount)
        return totals


def key_uuids(session: Session, numbers: Collection[int]) -> dict[int, str]:
    """What keys are called where they are managed."""
    query = select(ApiKey.id, ApiKey.uuid).where(matching.among(ApiKey.id, numbers))
    return _called(numbers, session.execute(query).tuples().all() if numbers else ())


def user_names(session: Session, numbers: Collection[int]) -> dict[int, str]:
    """What users are called there."""
    query = select(User.id, User.username).where(matching.among(User.id, numbers))
    return _called(numbers, session.execute(query).tuples().all() if numbers else ())


def _called(numbers: Iterable[int], found: Iterable[tuple[int, str]]) -> dict[int, str]:
    return {number: f"#{number}" for number in numbers} | dict(found)


def _few(numbers: Iterable[int]) -> list[int]:
    found = list(numbers)
    if len(found) > MOST_POINTS:
        raise TooMuch(f"These are more than {MOST_POINTS:,} keys; name some of them, or more tags.")
    return found


def _shown(session: Session, found: list[Point], columns: list[str]) -> list[dict[str, Any]]:
    told = [dict(zip(columns, point.by, strict=True)) for point in found]
    keys = key_uuids(session, {one["key_id"] for one in told if one.get("key_id")})
    users = user_names(session, {one["user_id"] for one in told if one.get("user_id")})
    return [
        {
            "timeStamp": point.start_s,
            "numberOfRequests": point.sums.calls,
            "costInUsd": money.usd(point.sums.cost_nanousd),
            "latencyInMs": point.sums.duration_ms,
            "promptTokenCount": point.sums.input_tokens,
            "completionTokenCount": point.sums.output_tokens,
            "successCount": point.sums.calls - point.sums.failed,
            "model": by.get("model", ""),
            "keyId": keys.get(by.get("key_id", 0), ""),
            "customId": by.get("custom_id", ""),
            "userId": users.get(by.get("user_id", 0), ""),
        }
        for point, by in zip(found, told, strict=True)
    ]


def _answer(shown: list[dict[str, Any]], delays: list[float]) -> dict[str, Any]:
    return {"dataPoints": shown, "latencyInMsMedian": delays[0], "latencyInMs99th": delays[1]}
