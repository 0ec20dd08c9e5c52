"""Answers that are kept to be given again: claimed by the call that makes one, then filled by it, or given up.

A claim is a row that only one call in all workers and hosts can make. It has a lease, which its worker renews for as
long as it lives; who finds a claim whose lease is over may take it. A body is sealed together with the digest of its
row, so one that was changed, or moved from another row, does not open and counts as missing.
"""

import base64
import binascii
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from services.books import kept_statements as sql
from services.books.base import Books, BooksUnavailable, Transaction
from services.credentials import SealBroken, Sealer
from utils import clock, jsonx, native

log = logging.getLogger(__name__)

CACHE, REPEAT = "cache", "repeat"  # kinds
OPEN, DONE, LOST = "open", "done", "lost"  # states
LEASE_S: Final = 15.0
RENEW_S: Final = 4.0
LOOKS_S: Final = (0.02, 0.5)  # how long a call that waits for another one waits before its first look, and at most
FRESH_S: Final = 1.0  # how long an answer in the memory is given without a look at its row, as with other changes
MOST_OPENED: Final = 256  # answers that a worker has in its memory, each of LARGE_BYTES at most
LARGE_BYTES: Final = 65_536  # a body that is sealed and opened beside the event loop


@dataclass(frozen=True, slots=True)
class Claim:
    """What a row says before there is an answer."""

    digest: str
    kind: str
    user_id: int
    request_id: str
    ttl_s: float
    asked: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was given: one part, or each event of a stream."""

    parts: tuple[bytes, ...]
    is_stream: bool
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    cost_nanousd: int = 0

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(map(len, self.parts))


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was found; times in milliseconds since 1970."""

    digest: str
    request_id: str
    state: str
    lease_ms: int
    asked: str | None
    status: int | None
    content_type: str | None
    headers: str | None
    is_stream: bool | None
    cost_nanousd: int
    created_ms: int
    expires_ms: int
    body: bytes | None
    answer: Answer | None = None  # of a row that was opened before
    seen_s: float = 0.0  # when it was found to be there still

    @property
    def is_over(self) -> bool:
        """Whether it was kept long enough."""
        return self.expires_ms <= clock.now_ms()

    @property
    def is_dead(self) -> bool:
        """Whether it is the claim of a worker that renews it no more."""
        return self.state == OPEN and self.lease_ms <= clock.now_ms()


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept, in bytes, and how many calls of this worker may wait for others."""

    answer_bytes: int
    store_bytes: int
    waiting: int


class Shelf:
    """The rows. Every method may raise BooksUnavailable."""

    def __init__(self, books: Books, sealer: Sealer, bounds: Bounds) -> None:
        self._books, self._sealer, self.bounds = books, sealer, bounds
        self._opened: OrderedDict[str, Row] = OrderedDict()  # of late, so that they are opened once
        self._claims: dict[str, Claim] = {}  # by the request that has it: those of this worker
        self._waiting = 0
        self._guard = threading.Lock()

    def look(self, digest: str) -> Row | None:
        """The row; None = there is none, or it was kept long enough."""
        known = self._opened.get(digest)
        if known is not None:
            if clock.monotonic_s() - known.seen_s < FRESH_S and not known.is_over:
                return known
            if self._books.read(sql.SAME, (digest, known.request_id, known.created_ms, clock.now_ms())):
                self._opened[digest] = known = replace(known, seen_s=clock.monotonic_s())
                return known
            self._opened.pop(digest, None)
        rows = self._books.read(sql.LOOK, (digest,))
        found = Row(digest, *rows[0]) if rows else None
        return None if found is None or found.is_over else found

    def claim(self, claim: Claim, over: str = "") -> bool:
        """Take the row for a call, if nobody has it; `over`: the request of a dead claim that may be taken over."""
        now_ms = clock.now_ms()
        values = (*self._head(claim, OPEN, now_ms), *((None,) * 5), now_ms, now_ms, over)
        self._claims[claim.request_id] = claim  # before, so that it is renewed from the start
        is_taken = False
        try:
            is_taken = self._books.transact(lambda books: bool(books.execute(sql.CLAIM, values).fetchall()))
        finally:
            if not is_taken:
                self._claims.pop(claim.request_id, None)
        return is_taken

    def fill(self, claim: Claim, answer: Answer) -> bool:
        """Keep the answer; False = another call has the row by now."""
        now_ms, body = clock.now_ms(), self._sealed(claim.digest, answer)
        values = (
            *self._head(claim, DONE, now_ms, size=len(body), cost=answer.cost_nanousd),
            answer.status,
            answer.content_type,
            jsonx.dumps(dict(answer.headers)).decode(),
            answer.is_stream,
            body,
        )
        is_kept = self._books.transact(lambda books: bool(books.execute(sql.FILL, values).fetchall()))
        self._opened.pop(claim.digest, None)
        self._claims.pop(claim.request_id, None)
        return is_kept

    def release(self, claim: Claim) -> None:
        """Give up a claim: there is nothing to keep. Never raises; what the database does not take, its lease ends."""
        self._end(claim, sql.RELEASE)

    def lose(self, claim: Claim) -> None:
        """The call was made and its answer cannot be kept, so that nobody makes it again. Never raises."""
        self._end(claim, sql.LOSE)

    def opened(self, row: Row) -> Answer | None:
        """The answer in a row; None = it does not open, or was not sealed for this row."""
        if row.answer is not None:
            return row.answer
        if row.state != DONE or row.body is None or row.content_type is None:
            return None
        try:
            parts = native.run(self._parts, row) if len(row.body) > LARGE_BYTES else self._parts(row)
        except (SealBroken, jsonx.BadJson, ValueError, TypeError, binascii.Error) as exc:
            log.warning("a kept answer cannot be read, which is ignored: %s", type(exc).__name__)
            return None
        headers = jsonx.loads(row.headers or "{}")
        answer = Answer(
            parts, bool(row.is_stream), row.content_type, headers, row.status or 200, cost_nanousd=row.cost_nanousd
        )
        if answer.size <= LARGE_BYTES:
            self._opened[row.digest] = replace(row, body=None, answer=answer, seen_s=clock.monotonic_s())
            if len(self._opened) > MOST_OPENED:
                self._opened.popitem(last=False)
        return answer

    def follow(self, row: Row, wait_s: float, is_left: Callable[[], bool] = lambda: False) -> Row | None:
        """Wait for the call that has the claim; the row as it is then, None = it was given up.

        It comes back as it went if too many wait already, the time is over, or `is_left` says that nobody waits.
        """
        end_s, pause_s = clock.monotonic_s() + wait_s, LOOKS_S[0]
        latest: Row | None = row
        with self._place() as has_place:
            while has_place and clock.monotonic_s() < end_s and not is_left():
                clock.sleep(pause_s)
                pause_s = min(pause_s * 1.5, LOOKS_S[1])
                latest = self.look(row.digest)
                if latest is None or latest.state != OPEN or latest.request_id != row.request_id or latest.is_dead:
                    break
        return latest

    def booked(self, request_id: str) -> tuple[bool, str | None]:
        """Of a call that had a claim: whether it is still held, and what its usage row says it ended with."""
        held = self._books.read(sql.HELD, (request_id,))
        outcome = self._books.read(sql.OUTCOME, (request_id,))
        return bool(held[0][0]), outcome[0][0] if outcome else None

    def renew(self) -> None:
        """Say that the calls that have claims here are still made."""
        claims = list(self._claims.values())
        until_ms = clock.now_ms() + round(LEASE_S * 1000)

        def work(books: Transaction) -> None:
            for claim in claims:
                books.execute(sql.RENEW, (until_ms, claim.digest, claim.request_id))

        if claims:
            self._books.transact(work)

    def shrink(self) -> int:
        """Remove the oldest answers, those of the cache first, until the rest has room; returns how many."""
        removed, rows = 0, [("", 0)]
        size = int(self._books.read(sql.SIZE)[0][0])
        while size > self.bounds.store_bytes and rows:
            rows = self._books.read(sql.OLDEST)
            chosen = list(_until(rows, size - self.bounds.store_bytes))
            self._books.transact(partial(_remove, [name for name, _size in chosen]))
            removed, size = removed + len(chosen), size - sum(one for _name, one in chosen)
        return removed

    def _end(self, claim: Claim, statement: str) -> None:
        if self._claims.pop(claim.request_id, None) is None:
            return
        try:
            self._books.transact(lambda books: books.execute(statement, (claim.digest, claim.request_id)))
        except BooksUnavailable as exc:
            log.warning("a claim was left to its lease request_id=%s: %s", claim.request_id, exc)

    @contextmanager
    def _place(self) -> Iterator[bool]:
        with self._guard:
            has_place = self._waiting < self.bounds.waiting
            self._waiting += has_place
        try:
            yield has_place
        finally:
            with self._guard:
                self._waiting -= has_place

    def _head(self, claim: Claim, state: str, now_ms: int, *, size: int = 0, cost: int = 0) -> tuple[Any, ...]:
        lease_ms, until_ms = now_ms + round(LEASE_S * 1000), now_ms + round(claim.ttl_s * 1000)
        whose = (claim.digest, claim.kind, claim.user_id, claim.request_id, state, lease_ms, claim.asked)
        return (*whose, size, cost, now_ms, until_ms)

    def _sealed(self, digest: str, answer: Answer) -> bytes:
        return native.run(self._seal, digest, answer) if answer.size > LARGE_BYTES else self._seal(digest, answer)

    def _seal(self, digest: str, answer: Answer) -> bytes:
        try:
            told, parts = "utf-8", [part.decode() for part in answer.parts]
        except UnicodeDecodeError:
            told, parts = "base64", [base64.b64encode(part).decode() for part in answer.parts]
        return self._sealer.seal(jsonx.dumps([digest, told, parts]).decode())

    def _parts(self, row: Row) -> tuple[bytes, ...]:
        assert row.body is not None  # noqa: S101 - `opened` looked
        digest, told, parts = jsonx.loads(self._sealer.open(row.body))
        if digest != row.digest:
            raise ValueError("sealed for another row")
        return tuple(base64.b64decode(part) if told == "base64" else part.encode() for part in parts)


def _remove(digests: Sequence[str], books: Transaction) -> None:
    for digest in digests:
        books.execute(sql.REMOVE, (digest,))


def _until(rows: Sequence[tuple[str, int]], wanted: int) -> Iterator[tuple[str, int]]:
    """As many rows, from the first, as have that many bytes together."""
    for name, size in rows:
        if wanted <= 0:
            return
        wanted -= size
        yield name, size
