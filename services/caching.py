"""The exact cache: a call that was answered before, for the same caller and in the same words, is answered the same.

Off unless its model or its route says for how long. What must agree for a hit: see `Cache._digest`. Of equal calls
that come at the same time one is made, and the others wait for its answer (services/kept.py); if it comes to nothing
they go on by themselves. A hit asks nobody and takes nothing from a budget; it counts against limits of requests and
leaves a usage row that says what it saved.
"""

import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from services import kept
from services.accounting import Accounting
from services.books.base import BooksUnavailable
from services.errors import NotCached
from services.kept import Answer, Claim, Row, Shelf
from services.recorded import Parts, Recorded, Replayed
from services.stream import Streamed
from services.types import Call, PublicModel
from utils import clock, jsonx, money

log = logging.getLogger(__name__)

HIT, MISS, BYPASS = "hit", "miss", "bypass"
GOOD: Final = 200
AGE: Final = re.compile(r"[0-9]{1,9}")
NEVER: Final = "The caller wants an answer of the cache alone (only-if-cached), and there is none."


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller's `Cache-Control` says."""

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age_s: int | None = None


@dataclass(slots=True)
class Caching:
    """A call's part in the cache. `told`: hit, miss or bypass; None where the cache is off for it."""

    wish: Wish
    told: str | None = None
    age_s: int = 0
    claim: Claim | None = None  # what its answer is kept as


@dataclass(frozen=True, slots=True)
class Figures:
    """What the cache did since this server began."""

    asked: int  # calls that might have been answered from it
    hits: int
    saved_nanousd: int


def figures(sums: Mapping[str, Mapping[tuple[str, ...], float]], model: str | None = None) -> Figures:
    """Of one model or of all, from the sums of services/metrics.py."""
    asked = {labels: count for labels, count in sums["cache_lookups_total"].items() if model in {None, labels[0]}}
    hits = sum(count for labels, count in asked.items() if labels[1] == HIT)
    misses = sum(count for labels, count in asked.items() if labels[1] == MISS)
    saved = sum(usd for labels, usd in sums["cache_saved_usd_total"].items() if model in {None, labels[0]})
    return Figures(round(hits + misses), round(hits), round(saved * money.NANO_PER_USD))


def wish_of(header: str | None) -> Wish:
    """The directives of the header that mean something here; others, and what cannot be read, are passed over."""
    found: dict[str, Any] = {}
    for part in (header or "").lower().split(","):
        name, _, value = part.strip().partition("=")
        if name in ("no-store", "no-cache", "only-if-cached"):
            found[name.replace("-", "_")] = True
        elif name == "max-age" and AGE.fullmatch(value):
            found["max_age_s"] = int(value)
    return Wish(**found)


def policy_version(call: Call) -> str:
    """What changes whenever other rules apply to what the caller may say and hear."""
    return "" if call.guard is None else call.guard.version


class Cache:
    """See the module. `secret`: from which the digests are made; `looked_up`: see Metrics."""

    def __init__(
        self,
        shelf: Shelf,
        accounting: Accounting,
        secret: str,
        *,
        wait_s: float,
        default_output_tokens: int,
        looked_up: Callable[..., None],
    ) -> None:
        self._shelf, self._accounting, self._looked_up = shelf, accounting, looked_up
        self._wait_s, self._default_output_tokens = wait_s, default_output_tokens
        self._mac = hmac.new(hashlib.sha256(f"cache {secret}".encode()).digest(), digestmod=hashlib.sha256)

    def answer(self, call: Call, finish: Callable[[Call], None]) -> "bytes | Streamed | None":
        """A kept answer, booked by `finish`; None = the call is made, and `keep` is given its answer.

        Raises:
            NotCached: there is none, and the caller wants no other.
            RateLimited, AccountingUnavailable: see Accounting.reserve_nothing.
        """
        caching = call.caching
        if caching is None or call.model is None:
            return None
        wish, ttl_s = caching.wish, _ttl_s(call, call.model)
        found: tuple[Row, Answer] | None = None
        is_own = call.guard is not None and call.guard.has_hidden  # what was taken out of it is put into its answer
        if ttl_s and call.reply is None:  # an answer of the Responses API has an id and a past of its own
            caching.told = BYPASS if wish.no_store or wish.no_cache or is_own else MISS
            try:
                found = None if wish.no_store or is_own else self._find(call, call.model, caching, ttl_s)
            except BooksUnavailable as exc:
                caching.told = BYPASS
                log.warning("the cache does not answer: %s", exc)
        if found is None and wish.only_if_cached:
            raise NotCached(NEVER)
        if found is not None:
            return self._hit(call, caching, found, finish)
        if caching.told is not None:
            self._looked_up(call.model.name, caching.told)
        return None

    def keep(self, call: Call, answer: "bytes | Streamed") -> "bytes | Streamed":
        """The answer of a call that was made: kept, or on its way to be, if it is one to keep."""
        if call.caching is None or call.caching.claim is None:
            return answer
        if isinstance(answer, bytes):
            self._fill(call, call.caching.claim, (answer,) if call.outcome == "ok" else None)
            return answer
        ended = partial(self._fill, call, call.caching.claim)
        return Recorded(call, answer, self._shelf.bounds.answer_bytes, ended, reads_on=False)

    def give_up(self, call: Call) -> None:
        """The call has failed: others need not wait for it."""
        if call.caching is not None and call.caching.claim is not None:
            self._shelf.release(call.caching.claim)

    def _find(self, call: Call, model: PublicModel, caching: Caching, ttl_s: float) -> tuple[Row, Answer] | None:
        """What is kept for the call, perhaps after waiting for an equal one; else the call has a claim, if it can."""
        digest, wish = self._digest(call, model), caching.wish
        claim = Claim(digest, kept.CACHE, call.caller.user_id, call.id, ttl_s)
        if wish.no_cache:
            caching.claim = claim
            return None
        row = self._shelf.look(digest)
        found = self._fitting(row, wish)
        if found is not None or wish.only_if_cached:
            return found
        caching.claim = claim
        if (row is None or row.is_dead) and self._shelf.claim(claim, row.request_id if row else ""):
            return None
        row = row or self._shelf.look(digest)  # somebody else was first
        if row is not None and row.state == kept.OPEN:
            row = self._shelf.follow(row, self._wait_s)
            found = self._fitting(row, wish)
        return found

    def _fitting(self, row: Row | None, wish: Wish) -> tuple[Row, Answer] | None:
        if row is None or (wish.max_age_s is not None and _age_s(row) > wish.max_age_s):
            return None
        answer = self._shelf.opened(row)
        return None if answer is None else (row, answer)

    def _hit(
        self, call: Call, caching: Caching, found: tuple[Row, Answer], finish: Callable[[Call], None]
    ) -> "bytes | Streamed":
        row, answer = found
        self._accounting.reserve_nothing(call)
        caching.told, caching.age_s, caching.claim = HIT, _age_s(row), None
        call.marks.saved_nanousd = answer.cost_nanousd
        call.upstream_headers, call.content_type, call.is_stream = answer.headers, answer.content_type, answer.is_stream
        call.first_byte_s, call.outcome = clock.monotonic_s(), "ok"
        finish(call)
        assert call.model is not None  # noqa: S101 - `answer` looked
        self._looked_up(call.model.name, HIT, answer.cost_nanousd)
        if call.record is not None:
            call.record.answered(call, b"".join(answer.parts))
        return Replayed(answer.parts) if answer.is_stream else answer.parts[0]

    def _fill(self, call: Call, claim: Claim, parts: Parts | None) -> None:
        """Keep an answer that is whole and good, or give up the claim."""
        try:
            if parts is not None and sum(map(len, parts)) <= self._shelf.bounds.answer_bytes and self._is_good(call):
                cost, headers = call.cost_nanousd, call.upstream_headers
                answer = Answer(parts, call.is_stream, call.content_type, headers, cost_nanousd=cost)
                self._shelf.fill(claim, answer)
        except BooksUnavailable as exc:
            log.warning("an answer was not cached request_id=%s: %s", call.id, exc)
        finally:
            self._shelf.release(claim)

    def _is_good(self, call: Call) -> bool:
        """Whether the answer is what anybody who asks the same would get: not from a fallback, not cut by a budget."""
        model, served = call.model, call.deployment
        if model is None or served is None or call.is_overrun or call.status != GOOD:
            return False
        most = model.max_output_tokens or self._default_output_tokens
        return call.max_output_tokens in {None, most} and (call.route is not None or served.model_id == model.id)

    def _digest(self, call: Call, model: PublicModel) -> str:
        """Of all that the answer depends on: whose it is, the rules, where the call goes, and every member as sent."""
        caller, route = call.caller, call.route
        is_shared = model.routing.cache_shared and route is None
        places = sorted(
            (one.id, one.upstream.id, one.upstream.kind, one.upstream.base_url, one.model, dict(one.upstream.settings))
            for one in call.candidates
            if route is not None or one.model_id == model.id
        )
        asked = [
            None if is_shared else [caller.user_id, caller.key_id, caller.team_id],
            policy_version(call),
            [model.id, model.name, places],
            route and [route.uuid, [[sorted(step.ids), dict(step.params)] for step in route.steps]],
            [call.dialect, call.operation, call.is_stream, call.wants_usage, call.marks.path],
            call.body if call.native is None else call.native,
            call.forwarded,
            [(one.name, one.filename, one.content_type, hashlib.sha256(one.data).hexdigest()) for one in call.uploads],
        ]
        mac = self._mac.copy()
        mac.update(jsonx.canonical(asked))
        return mac.hexdigest()


def _ttl_s(call: Call, model: PublicModel) -> float | None:
    own = None if call.route is None else call.route.cache_s
    return own or model.routing.cache_s


def _age_s(row: Row) -> int:
    return max(0, clock.now_ms() - row.created_ms) // 1000
