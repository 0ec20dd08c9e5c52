"""Answers of the Responses API that are kept, so that a call can go on from one whatever provider made it.

An answer belongs to a user: any of that user's keys may read, continue or delete it, and to everybody else there is
none. A conversation is a chain of answers, each with the input sent for it alone; whoever goes on from its end keeps
the whole of it for another RESPONSES_RETENTION_DAYS. What is said is sealed with ENCRYPTION_KEYS.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, bindparam, text

from services.credentials import Sealer
from services.dialects import responses as dialect
from services.dialects.responses_fields import kind_of
from services.errors import BodyTooLarge, InvalidRequest, NotFound
from services.types import Call, Chat
from utils import clock, jsonx, native

log = logging.getLogger(__name__)

DAY_MS: Final = 86_400_000
LONGEST: Final = 1000  # answers in a conversation, and items that a request may name
MOST_BYTES: Final = 64 * 1024 * 1024  # of a conversation, as it is stored
LARGE_BYTES: Final = 256 * 1024  # sealing that much would hold up the other calls of a worker
BATCH: Final = 500
MOST_ITEMS: Final = 100  # on one page
ID: Final = re.compile(r"[\w-]{1,200}", re.ASCII)
KEPT: Final = frozenset({"completed", "incomplete"})
NAMES: Final = {"function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}

CHAIN: Final = """
WITH RECURSIVE chain (id, previous_id, place, bytes) AS (
  SELECT id, previous_id, 1, length(sealed) FROM stored_responses
  WHERE id = :id AND user_id = :user AND expires_at > :now
  UNION ALL
  SELECT earlier.id, earlier.previous_id, chain.place + 1, chain.bytes + length(earlier.sealed)
  FROM stored_responses earlier JOIN chain ON earlier.id = chain.previous_id
  WHERE earlier.user_id = :user AND earlier.expires_at > :now AND chain.place < :longest AND chain.bytes < :most)
"""
READ: Final = text(f"""{CHAIN}
SELECT found.id, found.previous_id, found.sealed, chain.place, chain.bytes
FROM chain JOIN stored_responses found ON found.id = chain.id ORDER BY chain.place DESC""")  # noqa: S608 - constants
PROLONG: Final = text(f"""{CHAIN}
UPDATE stored_responses SET expires_at = :until WHERE expires_at < :soon AND id IN (SELECT id FROM chain)""")  # noqa: S608 - made of constants
ONE: Final = text("""
SELECT id, previous_id, sealed FROM stored_responses WHERE id = :id AND user_id = :user AND expires_at > :now""")
NAMED: Final = text("""
SELECT DISTINCT found.id, found.previous_id, found.sealed
FROM stored_items item JOIN stored_responses found ON found.id = item.response_id
WHERE item.user_id = :user AND found.user_id = :user AND item.id IN :ids AND found.expires_at > :now""").bindparams(
    bindparam("ids", expanding=True)
)
KEEP: Final = text("""
INSERT INTO stored_responses (id, user_id, key_id, previous_id, model, created_at, expires_at, sealed)
VALUES (:id, :user, :key, :previous, :model, :now, :until, :sealed)""")
KEEP_ITEM: Final = text("""
INSERT INTO stored_items (user_id, id, response_id) VALUES (:user, :id, :response) ON CONFLICT DO NOTHING""")
DELETE: Final = text("DELETE FROM stored_responses WHERE id = :id AND user_id = :user RETURNING id")
ENDED: Final = text("SELECT id FROM stored_responses WHERE expires_at <= :now LIMIT :most")
FORGET: Final = tuple(
    text(statement).bindparams(bindparam("ids", expanding=True))
    for statement in (
        "DELETE FROM stored_items WHERE response_id IN :ids",
        "DELETE FROM stored_responses WHERE id IN :ids",
    )
)


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer as it was given, and the items that were sent for it."""

    response: Chat
    given: list[Chat]
    previous_id: str | None
    size: int  # bytes of JSON


class Responses:
    """The answers in the database."""

    def __init__(self, engine: Engine, sealer: Sealer, *, retention_days: int) -> None:
        self._engine, self._sealer, self._kept_ms = engine, sealer, retention_days * DAY_MS

    def admit(self, call: Call) -> None:
        """Make the call whole: with what was said before, and with the items that it names.

        Raises:
            NotFound: the caller's user has no such answer or item.
            BodyTooLarge: the conversation has become too long.
        """
        reply = call.reply
        assert reply is not None  # noqa: S101 - every call of this dialect has one
        reply.head["store"] = reply.head["store"] and self._kept_ms > 0
        reply.keep = self.keep
        previous_id, names = reply.head["previous_response_id"], dialect.references(call)
        if previous_id is None and not names:
            return
        if len(names) > LONGEST:
            raise InvalidRequest(f"`input` may name {LONGEST} items at most.", param="input")
        chain = self._past(call.caller.user_id, previous_id) if previous_id is not None else []
        items = [item for stored in chain for item in (*stored.given, *stored.response["output"])]
        named = self._named(call.caller.user_id, names)
        size = sum(stored.size for stored in chain) + sum(len(jsonx.dumps(item)) for item in named.values())
        dialect.resolve(call, items, named, size)

    def keep(self, call: Call) -> None:
        """Store the answer, where it may be stored; if that fails, its caller has it all the same."""
        try:
            self._keep(call)
        except Exception as exc:  # noqa: BLE001 - the database may be away
            log.warning("an answer was not stored request_id=%s: %s: %s", call.id, type(exc).__name__, exc)

    def find(self, user_id: int, name: str) -> Stored:
        """An answer of this user.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        if ID.fullmatch(name):
            with self._engine.connect() as connection:
                row = connection.execute(ONE, {"id": name, "user": user_id, "now": clock.now_ms()}).first()
            if row is not None:
                return self._opened(row.sealed, row.previous_id)
        raise _missing(name, "response_id")

    def delete(self, user_id: int, name: str) -> None:
        """Remove an answer of this user; a conversation that went through it cannot be continued.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        with self._engine.begin() as connection:
            if not ID.fullmatch(name) or connection.execute(DELETE, {"id": name, "user": user_id}).first() is None:
                raise _missing(name, "response_id")
            connection.execute(FORGET[0], {"ids": [name]})

    def input_items(self, user_id: int, name: str) -> list[Chat]:
        """All that was said before an answer of this user, oldest first, each item with an id.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        chain = self._chain(user_id, name) if ID.fullmatch(name) else []
        if not chain:
            raise _missing(name, "response_id")
        *earlier, last = chain
        items = [item for stored in earlier for item in (*_numbered(stored), *stored.response["output"])]
        return items + _numbered(last)

    def forget_ended(self) -> None:
        """Remove what has been kept long enough."""
        while True:
            with self._engine.begin() as connection:
                found = connection.execute(ENDED, {"now": clock.now_ms(), "most": BATCH}).scalars().all()
                for statement in FORGET if found else ():
                    connection.execute(statement, {"ids": found})
            if len(found) < BATCH:
                return

    def _keep(self, call: Call) -> None:
        reply, caller = call.reply, call.caller
        if reply is None or not reply.head["store"] or reply.whole is None or reply.whole["status"] not in KEPT:
            return
        now_ms, previous_id = clock.now_ms(), reply.head["previous_response_id"]
        until_ms = now_ms + self._kept_ms
        said = jsonx.dumps({"response": reply.whole, "input": reply.given}).decode()
        row = {
            "id": reply.head["id"],
            "user": caller.user_id,
            "key": caller.key_id,
            "previous": previous_id,
            "model": call.model.name if call.model is not None else "",
            "now": now_ms,
            "until": until_ms,
            "sealed": native.run(self._sealer.seal, said) if len(said) > LARGE_BYTES else self._sealer.seal(said),
        }
        names = [item["id"] for item in reply.whole["output"] if ID.fullmatch(str(item.get("id")))]
        with self._engine.begin() as connection:
            connection.execute(KEEP, row)
            if names:
                items = [{"user": caller.user_id, "id": name, "response": row["id"]} for name in names]
                connection.execute(KEEP_ITEM, items)
            if previous_id is not None:
                values = _chain_values(caller.user_id, previous_id)
                connection.execute(PROLONG, values | {"until": until_ms, "soon": until_ms - DAY_MS})

    def _past(self, user_id: int, name: str) -> list[Stored]:
        """The conversation that ends with this answer, oldest first."""
        chain = self._chain(user_id, name) if ID.fullmatch(name) else []
        if not chain:
            raise _missing(name, "previous_response_id", code="previous_response_not_found")
        if chain[0].previous_id is not None:
            missing = chain[0].previous_id
            raise _missing(missing, "previous_response_id", code="previous_response_not_found")
        return chain

    def _chain(self, user_id: int, name: str) -> list[Stored]:
        """The answers before this one and itself, as far back as they go, oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(READ, _chain_values(user_id, name)).all()
        if rows and rows[0].previous_id is not None and (rows[0].place >= LONGEST or rows[0].bytes >= MOST_BYTES):
            raise BodyTooLarge(
                f"The conversation before `{name}` is too long to go on with: {LONGEST} answers or {MOST_BYTES} bytes.",
                param="previous_response_id",
            )
        return [self._opened(row.sealed, row.previous_id) for row in rows]

    def _named(self, user_id: int, names: Sequence[str]) -> dict[str, Chat]:
        """Items of earlier answers by their ids, as far as this user has them."""
        wanted = {name for name in names if ID.fullmatch(name)}
        if not wanted:
            return {}
        with self._engine.connect() as connection:
            values = {"user": user_id, "ids": sorted(wanted), "now": clock.now_ms()}
            rows = connection.execute(NAMED, values).all()
        outputs = [self._opened(row.sealed, row.previous_id).response["output"] for row in rows]
        return {item["id"]: item for output in outputs for item in output if item.get("id") in wanted}

    def _opened(self, sealed: bytes, previous_id: str | None) -> Stored:
        plain = native.run(self._sealer.open, sealed) if len(sealed) > LARGE_BYTES else self._sealer.open(sealed)
        said = jsonx.loads(plain)
        return Stored(said["response"], said["input"], previous_id, len(plain))


def page(items: Sequence[Chat], *, limit: int, after: str | None, is_rising: bool) -> dict[str, Any]:
    """One page of a list of items, as the API shows it.

    Raises:
        InvalidRequest: `after` is none of them.
    """
    ordered = list(items) if is_rising else list(reversed(items))
    if after is not None:
        names = [item.get("id") for item in ordered]
        if after not in names:
            raise InvalidRequest(f"There is no item `{after}` in this list.", param="after")
        ordered = ordered[names.index(after) + 1 :]
    shown = ordered[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else "",
        "last_id": shown[-1]["id"] if shown else "",
        "has_more": len(ordered) > limit,
    }


def _chain_values(user_id: int, name: str) -> dict[str, Any]:
    return {"id": name, "user": user_id, "now": clock.now_ms(), "longest": LONGEST, "most": MOST_BYTES}


def _missing(name: str, param: str, code: str | None = None) -> NotFound:
    return NotFound(
        f"There is no response `{name[:100]}`; it was not stored, was deleted, or has ended.", param=param, code=code
    )


def _numbered(stored: Stored) -> list[Chat]:
    """The input sent for an answer, in full form: ids that stay the same, contents as parts."""
    stem = str(stored.response["id"]).removeprefix("resp_")
    return [_shown(item, f"{stem}_i{index}") for index, item in enumerate(stored.given)]


def _shown(item: Chat, stem: str) -> Chat:
    kind = kind_of(item)
    shown = {"id": f"{NAMES.get(kind, 'msg')}_{stem}", "type": kind, "status": "completed"}
    shown |= {name: value for name, value in item.items() if value is not None}
    if kind == "reasoning":
        del shown["status"]
        shown.setdefault("summary", [])
    content = shown.get("content")
    if kind == "message" and isinstance(content, str):
        is_ours = shown["role"] == "assistant"
        part = {"type": "output_text", "text": content, "annotations": [], "logprobs": []}
        shown["content"] = [part if is_ours else {"type": "input_text", "text": content}]
    return shown
