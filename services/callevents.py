"""Calls as events of the key management API, with what its clients call their members.

A text (request, response, metadata) is Base64 of what is stored, as the gateway that this API comes from writes it;
None = nothing is stored, or whoever asks may not read what others said.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Engine, exists, select
from sqlalchemy.orm import Session

from models import ApiKey, StoredBody, User
from services import eventrows, fields, matching, pages, policynames, rights
from services.audit import Actor, note
from services.bodies import Bodies
from services.errors import FieldsInvalid, InvalidRequest, TooMuch
from services.eventrows import Order
from services.fields import Parse
from services.marks import ALLOWED, BLOCKED, REDACTED, WARNED
from services.matching import Wanted
from services.reporting import NAMES, SECONDS, SPAN, key_uuids, user_names
from services.rollups import snapshot
from utils import clock, jsonx, money

MOST_AT_ONCE: Final = 10_000  # events of the older list, which has no pages
MOST_SEARCHED: Final = 2_000  # the newest calls with stored texts, of which a search opens every one
MOST_TEXT: Final = 32 * 1024 * 1024  # bytes of texts in one answer that is no stream
FEW: Final = 20  # calls whose texts are read at once; each may be large
MANY: Final = 1_000  # calls of which it is asked at once whether there are texts
MAX_SEARCH: Final = 1_000  # characters
MAX_STATUS: Final = 599
METHOD: Final = "POST"  # nothing else is booked
ACTIONS: Final = (WARNED, ALLOWED, BLOCKED, REDACTED)
MEMBERS: Final = (  # of an event, in their order
    *("id", "created_at", "tags", "key_id", "cost_in_usd", "provider", "model", "status"),
    *("prompt_token_count", "completion_token_count", "latency_in_ms", "path", "method", "custom_id"),
    *("request", "response", "userId", "action", "policyId", "routeId", "correlationId", "metadata"),
)


def _action(value: Any) -> str:
    if not isinstance(value, str) or value not in ACTIONS:
        raise fields.Unfit(f"may be {', '.join(ACTIONS)}")
    return value


LISTED: Final[Mapping[str, Parse]] = {
    "userId": fields.text(fields.MAX_NAME),
    "customId": fields.text(fields.MAX_NAME),
    "keyIds": NAMES,
    **SPAN,
}
SEARCH: Final[Mapping[str, Parse]] = {
    "start": SECONDS,
    "end": SECONDS,
    **dict.fromkeys(("userIds", "customIds", "keyIds", "tags", "policyIds"), NAMES),
    "actions": fields.entries(_action),
    "limit": fields.whole(0, pages.MOST),
    "offset": fields.whole(0, pages.FARTHEST),
    "requestContent": fields.text(MAX_SEARCH),
    "responseContent": fields.text(MAX_SEARCH),
    "costOrder": fields.order,
    "dateOrder": fields.order,
    "returnCount": fields.flag,
    "status": fields.whole(0, MAX_STATUS),
}
Event = dict[str, Any]
Texts = tuple[str | None, str | None]  # of the request and of the response
NO_TEXTS: Final[Texts] = (None, None)


@dataclass(frozen=True, slots=True)
class Found:
    """Events, and how many there are in all if somebody asked; `is_cut`: a search for texts did not get to all."""

    events: list[Event]
    count: int = 0
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What a search says."""

    wanted: Wanted
    order: Order
    limit: int  # 0 = as many as there may be
    offset: int
    has_count: bool
    texts: dict[str, str]  # what to look for, in `request` and `response`


@dataclass(slots=True)
class Reader:
    """Whether texts may be shown, and which were."""

    may_read: bool
    left: int = MOST_TEXT
    shown: list[str] = field(default_factory=list)  # request ids


@dataclass(frozen=True, slots=True)
class Names:
    """What the numbers of rows mean."""

    tags: dict[int, list[str] | None]
    keys: dict[int, str]
    users: dict[int, str]
    policies: dict[int, str]


class CallEvents:
    """See the module."""

    def __init__(self, engine: Engine, bodies: Bodies) -> None:
        self._engine, self._bodies = engine, bodies

    def listed(self, actor: Actor, given: Mapping[str, Any]) -> list[Event]:
        """All events of a custom id, of a user, or of keys in a time, the latest first; the end is included.

        Raises:
            InvalidRequest: none of the three, or keys without a time.
            FieldsInvalid: a member that cannot be.
            TooMuch: they are more than MOST_AT_ONCE.
        """
        values = fields.read(LISTED, given).values
        if not any(values.get(name) for name in ("customId", "userId", "keyIds")):
            raise InvalidRequest(
                "customId, userId and keyIds are empty. one of them is required for retrieving events.",
                code="no_filters_empty",
            )
        for name in ("start", "end"):
            if values.get("keyIds") and name not in values:
                raise InvalidRequest(
                    f"{name} query param is not provided", param=name, code=f"query_param_{name}_missing"
                )
        start, end = values.get("start", 0), values.get("end", int(fields.LATEST.timestamp()))
        matching.check_span(start, end + 1)
        asked = {
            "keyIds": values.get("keyIds", []),
            "customIds": [values["customId"]] if values.get("customId") else [],
            "userIds": [values["userId"]] if values.get("userId") else [],
        }
        wanted = self._wanted(asked | {"start": start, "end": end + 1})
        with snapshot(self._engine) as connection:
            rows = eventrows.page(connection, wanted, Order(), MOST_AT_ONCE + 1, 0)
        if len(rows) > MOST_AT_ONCE:
            raise TooMuch(
                f"These are more than {MOST_AT_ONCE:,} events; give start and end, or use POST /api/v2/events, "
                "which has pages and streams."
            )
        return self._told(actor, rows)

    def search(self, actor: Actor, body: Mapping[str, Any]) -> Found:
        """A page of the events that meet all that the body names, the latest first unless it says otherwise.

        Raises:
            FieldsInvalid, InvalidRequest: what the body says cannot be.
            TooMuch: too many to count, to sort by cost or to look through.
        """
        asked = self._asked(body)
        if asked.texts:
            return self._by_text(actor, asked)
        with snapshot(self._engine) as connection:
            count = eventrows.count(connection, asked.wanted) if asked.has_count else 0
            limit = asked.limit or pages.MOST
            rows = eventrows.page(connection, asked.wanted, asked.order, limit, asked.offset)
        return Found(self._told(actor, rows), count)

    def stream(self, actor: Actor, body: Mapping[str, Any]) -> Iterator[Event]:
        """Every event that meets all that the body names, a few at a time, from `offset` on, `limit` at most if given.

        Raises:
            As `search`, before the first event; besides, there is no order by cost and no search for texts.
        """
        asked = self._asked(body)
        wrong = {"costOrder": asked.order.by_cost, "requestContent": bool(asked.texts)}
        if refused := [name for name, is_asked in wrong.items() if is_asked]:
            raise FieldsInvalid(dict.fromkeys(refused, "is not for a stream, which runs by date"))
        with Session(self._engine) as session, session.begin():
            may_read = _may_read(session, actor)
            if may_read:
                note(session, actor, "content_read", "usage", None, _span(asked.wanted) | {"is_stream": True})
        return self._streamed(asked, may_read=may_read)

    def _streamed(self, asked: Asked, *, may_read: bool) -> Iterator[Event]:
        after, to_skip, left = None, asked.offset, asked.limit
        while True:
            with snapshot(self._engine) as connection:
                rows = eventrows.every(connection, asked.wanted, asked.order, after)
            if not rows:
                return
            after, wanted = rows[-1].request_id, rows[to_skip:]
            to_skip = max(0, to_skip - len(rows))
            for place in range(0, len(wanted), FEW):
                some = wanted[place : place + FEW]
                with Session(self._engine) as session:
                    told = self._views(session, some, Reader(may_read))
                for event in told:
                    yield event
                    left -= 1
                    if left == 0:
                        return

    def _by_text(self, actor: Actor, asked: Asked) -> Found:
        """The events in whose stored texts something stands, of the newest (or oldest) MOST_SEARCHED that have any."""
        if asked.order.by_cost:
            raise FieldsInvalid({"costOrder": "does not go with a search for texts"})
        matched, looked = [], 0
        with Session(self._engine) as session:
            if not _may_read(session, actor):
                return Found([])
            for row in eventrows.with_texts(session.connection(), asked.wanted, asked.order, MOST_SEARCHED):
                looked += 1
                sealed = {"request": row.stored_request, "response": row.stored_response}
                if all(needle in self._plain(sealed[name]) for name, needle in asked.texts.items()):
                    matched.append(row)
        page = matched[asked.offset : asked.offset + (asked.limit or pages.MOST)]
        return Found(self._told(actor, page), len(matched) if asked.has_count else 0, looked == MOST_SEARCHED)

    def _told(self, actor: Actor, rows: Sequence[Any]) -> list[Event]:
        """The events, with an entry in the audit log if texts are among them."""
        with Session(self._engine) as session, session.begin():
            reader = Reader(_may_read(session, actor))
            told = self._views(session, rows, reader)
            if reader.shown:
                span = {"first": reader.shown[-1], "last": reader.shown[0], "calls": len(reader.shown)}
                note(session, actor, "content_read", "usage", None, span)
        return told

    def _views(self, session: Session, rows: Sequence[Any], reader: Reader) -> list[Event]:
        if not rows:
            return []
        columns = dict(zip(eventrows.SHOWN, zip(*rows, strict=True), strict=False))  # texts may follow
        keys, users, policies = (set(columns[name]) - {None} for name in ("key_id", "user_id", "policy_id"))
        tags = select(ApiKey.id, ApiKey.tags).where(matching.among(ApiKey.id, keys))
        names = Names(
            dict(session.execute(tags).tuples().all()),
            key_uuids(session, keys),
            user_names(session, users),
            policynames.uuids(session, policies),
        )
        texts = self._texts(session, columns["request_id"], reader)
        return [_event(row, names, said) for row, said in zip(rows, texts, strict=True)]

    def _texts(self, session: Session, numbers: Sequence[str], reader: Reader) -> Iterator[Texts]:
        """Those of each, read a few at a time, until the answer has as many bytes as it may."""
        held = _held(session, numbers) if reader.may_read else []
        places, found = {number: place for place, number in enumerate(held)}, {}
        for number in numbers:
            told = NO_TEXTS
            place = places.get(number)
            if place is not None and reader.left:
                if place % FEW == 0:
                    some = StoredBody.request_id.in_(held[place : place + FEW])
                    query = select(StoredBody.request_id, StoredBody.request, StoredBody.response).where(some)
                    found = {stored.request_id: stored for stored in session.execute(query)}
                stored = found.get(number)
                told = self._opened(getattr(stored, "request", None)), self._opened(getattr(stored, "response", None))
                size = sum(len(text) for text in told if text is not None)
                if size > reader.left:
                    reader.left, told = 0, NO_TEXTS
                elif size:
                    reader.left -= size
                    reader.shown.append(number)
            yield told

    def _opened(self, sealed: bytes | None) -> str | None:
        return None if sealed is None else base64.b64encode(self._plain(sealed).encode()).decode()

    def _plain(self, sealed: bytes | None) -> str:
        """What was said, as text; JSON as it is written."""
        stored = self._bodies.opened(sealed) or {}
        said = stored.get("body", "")
        return said if isinstance(said, str) else jsonx.dumps(said).decode()

    def _asked(self, body: Mapping[str, Any]) -> Asked:
        values = fields.read(SEARCH, body, ("start", "end")).values
        matching.check_span(values["start"], values["end"])
        if values.get("costOrder") and values.get("dateOrder"):
            raise InvalidRequest("cost order and date order cannot be both present", param="costOrder")
        direction = values.get("costOrder") or values.get("dateOrder")
        texts = {name: values.get(f"{name}Content", "") for name in ("request", "response")}
        return Asked(
            self._wanted(values),
            Order(by_cost=bool(values.get("costOrder")), is_rising=direction == "asc"),
            values.get("limit", 0),
            values.get("offset", 0),
            values.get("returnCount", False),
            {name: text for name, text in texts.items() if text},
        )

    def _wanted(self, values: Mapping[str, Any]) -> Wanted:
        with Session(self._engine) as session:
            wanted = Wanted(
                values["start"] * 1000,
                values["end"] * 1000,
                matching.key_numbers(session, values.get("keyIds", ()), values.get("tags", ())),
                matching.user_numbers(session, values.get("userIds", ())),
                tuple(values.get("customIds", ())) or None,
            )
            policies = policynames.numbers(session, values.get("policyIds", ()))
        return replace(
            wanted,
            status=values.get("status") or None,
            actions=frozenset(values.get("actions", ())) or None,
            policies=policies if values.get("policyIds") else None,
        )


def _event(row: Sequence[Any], names: Names, texts: Texts) -> Event:
    # By their places: ten thousand rows asked for each by its name take as long as all the rest.
    created_ms, request_id, key_id, user_id, cost_nanousd, provider, model, status, *more = row
    input_tokens, output_tokens, duration_ms, path, custom_id, metadata, action, policy_id, route_id, *_texts = more
    return {
        "id": request_id,
        "created_at": created_ms // 1000,
        "tags": names.tags.get(key_id) or [],
        "key_id": names.keys.get(key_id, ""),
        "cost_in_usd": money.usd(cost_nanousd),
        "provider": provider or "",
        "model": model or "",
        "status": status,
        "prompt_token_count": input_tokens or 0,
        "completion_token_count": output_tokens or 0,
        "latency_in_ms": duration_ms,
        "path": path or "",
        "method": METHOD,
        "custom_id": custom_id or "",
        "request": texts[0],
        "response": texts[1],
        "userId": names.users.get(user_id, ""),
        "action": action or ALLOWED,
        "policyId": names.policies.get(policy_id, ""),
        "routeId": route_id or "",
        "correlationId": request_id,
        "metadata": None if metadata is None else base64.b64encode(metadata.encode()).decode(),
    }


def _held(session: Session, numbers: Sequence[str]) -> list[str]:
    """Of these calls, in their order, those whose texts are stored."""
    between = StoredBody.request_id.between(min(numbers, default=""), max(numbers, default=""))
    if not session.scalar(select(exists().where(between))):
        return []
    found: set[str] = set()
    for place in range(0, len(numbers), MANY):
        some = StoredBody.request_id.in_(numbers[place : place + MANY])
        found |= set(session.scalars(select(StoredBody.request_id).where(some, StoredBody.expires_at > clock.now())))
    return [number for number in numbers if number in found]


def _may_read(session: Session, actor: Actor) -> bool:
    """Whether whoever asks may read what others said: programs that manage, and people with the right."""
    if actor.user_id is None:
        return True
    return rights.has(session.scalar(select(User.role).where(User.id == actor.user_id)) or "", rights.CONTENT)


def _span(wanted: Wanted) -> dict[str, int]:
    return {"start": wanted.start_ms // 1000, "end": wanted.end_ms // 1000}
