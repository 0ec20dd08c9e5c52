"""Calls with an `Idempotency-Key`: made and charged once, however often they are sent.

The first call claims the key, every other one with it gets the same answer, at once or when it is there. Only good
answers are kept: a refusal or a failure gives the key back, so that sending the call again can succeed. When the
worker that made the call dies, the call may be made again once the books say that the first one came to nothing whole
(`recovered`); when they say that it was booked in full, its answer is lost and nobody is charged a second time.
"""

import hashlib
import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from services import kept
from services.books.base import BooksUnavailable
from services.errors import AccountingUnavailable, InvalidRequest, RepeatDiffers, RepeatLost, RepeatRuns
from services.kept import Answer, Claim, Row, Shelf
from services.recorded import Parts, Recorded
from services.stream import Streamed
from services.types import Call
from utils import clock

log = logging.getLogger(__name__)

HEADER: Final = "Idempotency-Key"
MOST_CHARS: Final = 255
AGAIN_S: Final = 2  # when to ask again for a call that is still made
LOOK_S: Final = 0.25  # between two looks at what became of a call whose worker died
UNKNOWN_S: Final = 10.0  # a dead call of which the books know nothing may still be in the journal of its worker
UNBOOKED: Final = "Calls with an Idempotency-Key cannot be told apart at the moment, so none are admitted."


@dataclass(frozen=True, slots=True)
class Repeat:
    """An answer that was given before."""

    request_id: str  # of the call that it was given to
    answer: Answer


class Repeats:
    """See the module. `secret`: from which the digests are made."""

    def __init__(self, shelf: Shelf, secret: str, *, wait_s: float, kept_s: float) -> None:
        self._shelf, self._wait_s, self._kept_s = shelf, wait_s, kept_s
        self._secret = hashlib.sha256(f"repeats {secret}".encode()).digest()

    def begin(self, call: Call, key: str) -> Claim | Repeat:
        """The claim of a call that is to be made, or the answer to the one that was made.

        Raises:
            InvalidRequest: no such key can be.
            RepeatDiffers: the key came with another request.
            RepeatRuns: the first call is under way, and goes on for longer than a call may wait.
            RepeatLost: the first call was booked, and its answer is not there.
            AccountingUnavailable: the database does not answer.
        """
        if not (0 < len(key) <= MOST_CHARS and key.isascii() and key.isprintable()):
            raise InvalidRequest(f"The header {HEADER} may have {MOST_CHARS} printable ASCII characters.", param=HEADER)
        whose = f"{call.caller.user_id} {call.caller.key_id} {key}"
        digest = hmac.new(self._secret, whose.encode(), hashlib.sha256).hexdigest()
        claim = Claim(digest, kept.REPEAT, call.caller.user_id, call.id, self._kept_s, call.fingerprint)
        try:
            return self._begin(claim)
        except BooksUnavailable as exc:
            raise AccountingUnavailable(UNBOOKED) from exc

    def keep(
        self, claim: Claim, call: Call, answer: "bytes | Streamed", about: Mapping[str, str]
    ) -> "bytes | Streamed":
        """The answer, kept or on its way to be. `about`: its headers that are given again.

        A stream is read to its end even if its caller leaves, and kept for when they come again.
        """

        def ended(parts: Parts | None) -> None:
            self._fill(claim, call, parts, about, is_stream=not isinstance(answer, bytes))

        if isinstance(answer, bytes):
            ended((answer,))
            return answer
        return Recorded(call, answer, self._shelf.bounds.answer_bytes, ended, reads_on=True)

    def give_up(self, claim: Claim) -> None:
        """The call was refused or has failed, and may be sent again."""
        self._shelf.release(claim)

    def _begin(self, claim: Claim) -> Claim | Repeat:
        end_s = clock.monotonic_s() + self._wait_s
        row = self._shelf.look(claim.digest)
        while True:
            if row is None:
                if self._shelf.claim(claim):
                    return claim
                row = self._shelf.look(claim.digest)
                continue
            if row.asked != claim.asked:
                raise RepeatDiffers(
                    f"The {HEADER} was sent before with another request; give each request one of its own.",
                    param=HEADER,
                )
            if row.state != kept.OPEN:
                return self._found(row)
            if row.is_dead:
                if self._take_over(claim, row):
                    return claim
                clock.sleep(LOOK_S)
            before, row = row, self._shelf.follow(row, end_s - clock.monotonic_s())
            is_late = row is before or clock.monotonic_s() >= end_s  # it is the same where too many wait
            if row is not None and row.state == kept.OPEN and is_late:
                raise RepeatRuns(f"The first call with this {HEADER} is still under way.", retry_after_s=AGAIN_S)

    def _found(self, row: Row) -> Repeat:
        answer = self._shelf.opened(row)
        if answer is None:
            _refuse(row)
        return Repeat(row.request_id, answer)

    def _take_over(self, claim: Claim, row: Row) -> bool:
        """Whether the call of a dead worker is made anew by this claim.

        Raises:
            RepeatLost: it was booked in full.
        """
        is_held, outcome = self._shelf.booked(row.request_id)
        if outcome == "ok":
            _refuse(row)
        is_over = outcome is not None or row.lease_ms + UNKNOWN_S * 1000 < clock.now_ms()
        return not is_held and is_over and self._shelf.claim(claim, row.request_id)

    def _fill(
        self, claim: Claim, call: Call, parts: Parts | None, about: Mapping[str, str], *, is_stream: bool
    ) -> None:
        if parts is None and call.outcome != "ok":
            self._shelf.release(claim)
            return
        try:
            answer = Answer(parts or (), is_stream, call.content_type, about, cost_nanousd=call.cost_nanousd)
            if parts is None or answer.size > self._shelf.bounds.answer_bytes:
                self._shelf.lose(claim)
            else:
                self._shelf.fill(claim, answer)
        except BooksUnavailable as exc:
            log.warning("an answer was not kept for repeats request_id=%s: %s", call.id, exc)
            self._shelf.lose(claim)


def _refuse(row: Row) -> NoReturn:
    raise RepeatLost(
        f"The call with this {HEADER} was made and booked as {row.request_id}, and its answer was not kept. "
        "With another one the call is made, and booked, once more."
    )
