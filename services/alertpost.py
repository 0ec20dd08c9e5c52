"""Sends what services/alerts.py wrote: every worker looks for deliveries that are due and claims one at a time.

A claim is the statement that counts the attempt and puts the next one off by LEASE_S; of two workers one gets it. A
worker that dies in between leaves a row that is due again after LEASE_S, so a receiver may get an alert twice, never
not at all; it tells repeats by their id. Each target has a thread (under gevent: greenlet) of its own while it has
something to get, so that one that hangs keeps nobody else waiting.

Webhooks are signed as Standard Webhooks says (standardwebhooks.com): HMAC-SHA-256 of `id.timestamp.body`.
"""

import base64
import hashlib
import hmac
import logging
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from models_alerts import Alert, AlertDelivery, AlertTarget
from services import alerts, mail
from services.addresses import AddressRules
from services.alerttargets import PREFIX
from services.credentials import SealBroken, Sealer
from services.errors import UpstreamError
from services.settlement import clean
from utils import clock, ids, jsonx

if TYPE_CHECKING:
    from services.fetch import Fetcher

log = logging.getLogger(__name__)

# Before the attempts after the first: 11 attempts in just under a day.
PAUSES_S: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800)
JITTER: Final = 0.2  # of a pause, more or less, so that many do not come back at once
LEASE_S: Final = 60  # longer than an attempt takes
CONNECT_S: Final = 5.0
ANSWER_S: Final = 10.0
MOST_AT_ONCE: Final = 8  # targets of a worker
BATCH: Final = 50
MAX_SAID: Final = 200  # characters of an answer that are kept
MAX_ERROR: Final = 500
REDIRECTS: Final = range(300, 400)
FIXES: Final[Mapping[int, str]] = {
    400: "the receiver does not understand it: see the form of alerts in docs/alerts.md",
    401: "the receiver wants to know who sends: check the secret, or what the address carries",
    403: "the receiver does not let it in: check the secret, or what the address carries",
    404: "there is nothing at this address: check its path",
    405: "this address takes no POST: check its path",
    410: "the receiver is gone for good: enter another address, or disable the target",
    413: "the receiver takes no such bodies; those of alerts are below 4 KB",
    429: "the receiver is asked too often",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt; `error` is empty where it was taken."""

    error: str = ""
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """All that one attempt needs, so that no row is held while a target is asked."""

    delivery_id: int
    kind: str
    sealed_address: bytes
    secrets: tuple[bytes, ...]
    code: str
    event: str
    facts: Mapping[str, Any]
    told_at: str


class AlertPost:
    """See the module. Nothing has a thread or a connection before something is due."""

    def __init__(self, engine: Engine, sealer: Sealer, rules: AddressRules, server: mail.Server) -> None:
        self._engine, self._sealer, self._rules, self.server = engine, sealer, rules, server
        self._busy: set[int] = set()
        self._guard, self._ending = threading.Lock(), threading.Event()

    def send_due(self) -> None:
        """Begin to send to every target that has something due and is not at it already."""
        for target in self._due():
            with self._guard:
                if target in self._busy or len(self._busy) >= MOST_AT_ONCE:
                    continue
                self._busy.add(target)
            threading.Thread(target=self._serve, args=(target,), name="alerts", daemon=True).start()

    def send_all(self) -> int:
        """Send all that is due, here and now; returns how many attempts that took."""
        return sum(self._send_to(target) for target in self._due())

    def test(self, target_id: int, by: str) -> Outcome:
        """Send a test to one target now, whether it is enabled or not; it is tried once, and can be seen afterwards."""
        with Session(self._engine) as session:
            name = session.scalar(select(AlertTarget.name).where(AlertTarget.id == target_id)) or "?"
        noticed = alerts.Noticed(alerts.TEST, f"target {target_id}", ids.random_base62(24), {"target": name, "by": by})
        later = clock.now() + timedelta(seconds=LEASE_S)  # it is ours
        number = alerts.tell(self._engine, noticed, only=target_id, next_at=later)
        with Session(self._engine) as session:
            mine = select(AlertDelivery.id).where(AlertDelivery.alert_id == number)
            delivery_id = session.scalars(mine).one()
        parcel = self._parcel(delivery_id)
        outcome = self._attempt(parcel) if parcel is not None else Outcome("the target is gone")
        self._note(delivery_id, 1, outcome, is_last=True)
        return outcome

    def close(self) -> None:
        """Begin no other attempt; what waits is for other workers, or the next start."""
        self._ending.set()

    def _due(self) -> list[int]:
        """The targets for which something is due, the longest waiting first. Those that are disabled wait."""
        query = (
            select(AlertDelivery.target_id)
            .join(AlertTarget, AlertTarget.id == AlertDelivery.target_id)
            .where(AlertDelivery.state == "waiting", AlertDelivery.next_at <= clock.now(), AlertTarget.is_enabled)
            .order_by(AlertDelivery.next_at)
            .limit(BATCH)
        )
        with self._engine.connect() as connection:
            return list(dict.fromkeys(connection.scalars(query)))

    def _serve(self, target: int) -> None:
        try:
            self._send_to(target)
        except SQLAlchemyError as exc:
            log.warning("alerts wait, the database does not answer: %s", type(exc).__name__)
        except Exception:
            log.exception("alerts were not sent target=%s", target)  # they stay, and are tried again
        finally:
            with self._guard:
                self._busy.discard(target)

    def _send_to(self, target: int) -> int:
        """Send what is due for one target, in order, up to the first that fails: the others would fail as well."""
        count = 0
        while not self._ending.is_set() and (claimed := self._claim(target)) is not None:
            delivery_id, attempts = claimed
            parcel = self._parcel(delivery_id)
            if parcel is None:
                self._drop(delivery_id)
                continue
            outcome = self._attempt(parcel)
            self._note(delivery_id, attempts, outcome, is_last=parcel.event == alerts.TEST)
            count += 1
            if outcome.error:
                break
        return count

    def _claim(self, target: int) -> tuple[int, int] | None:
        """The delivery to send next and the number of this attempt; None = nothing is due, or others have it."""
        now = clock.now()
        is_due = (AlertDelivery.state == "waiting", AlertDelivery.next_at <= now)
        first = select(AlertDelivery.id).where(*is_due, AlertDelivery.target_id == target).order_by(AlertDelivery.id)
        with Session(self._engine) as session:
            number = session.scalar(first.limit(1))
        if number is None:
            return None
        taken = (
            update(AlertDelivery)
            .where(AlertDelivery.id == number, *is_due)
            .values(attempts=AlertDelivery.attempts + 1, next_at=now + timedelta(seconds=LEASE_S))
            .returning(AlertDelivery.attempts)
        )
        with Session(self._engine) as session, session.begin():
            attempts = session.scalar(taken.execution_options(synchronize_session=False))
        return None if attempts is None else (number, attempts)

    def _parcel(self, delivery_id: int) -> Parcel | None:
        """What to send; None = the alert or its target is gone."""
        query = select(Alert, AlertTarget).join(AlertDelivery, AlertDelivery.alert_id == Alert.id)
        query = query.join(AlertTarget, AlertTarget.id == AlertDelivery.target_id)
        with Session(self._engine) as session:
            found = session.execute(query.where(AlertDelivery.id == delivery_id)).one_or_none()
            if found is None:
                return None
            alert, target = found[0], found[1]
            is_former = target.former_until_at is not None and target.former_until_at > clock.now()
            sealed = (target.secret, target.former_secret if is_former else None)
            return Parcel(
                delivery_id,
                target.kind,
                target.sealed_address,
                tuple(one for one in sealed if one is not None),
                alert.code,
                alert.event,
                alert.facts,
                alert.created_at.isoformat(timespec="milliseconds"),
            )

    def _drop(self, delivery_id: int) -> None:
        """Its alert or target is gone."""
        with Session(self._engine) as session, session.begin():
            session.execute(delete(AlertDelivery).where(AlertDelivery.id == delivery_id))

    def _attempt(self, parcel: Parcel) -> Outcome:
        try:
            address = self._sealer.open(parcel.sealed_address)
            secrets = [self._sealer.open(secret) for secret in parcel.secrets]
        except SealBroken:
            return Outcome(
                "the address was sealed with a key that is not in ENCRYPTION_KEYS: add it, or enter the address anew"
            )
        if parcel.kind == "email":
            return self._mail(parcel, address)
        return self._post(parcel, address, secrets)

    def _mail(self, parcel: Parcel, address: str) -> Outcome:
        said = alerts.sentence(parcel.event, parcel.facts)
        lines = [said, "", f"event: {parcel.event}", f"time: {parcel.told_at}", f"id: {parcel.code}"]
        lines += [f"{name}: {clean(str(value))}" for name, value in parcel.facts.items()]
        try:
            mail.send(self.server, address, f"[Tollhouse] {said}", "\n".join(lines) + "\n", parcel.code)
        except mail.MailFailed as exc:
            return Outcome(str(exc))
        return Outcome()

    def _post(self, parcel: Parcel, address: str, secrets: list[str]) -> Outcome:
        body = body_of(parcel)
        headers = headers_of(parcel.code, int(clock.now_s()), body, secrets)
        fetcher, began_s = _fetcher(self._rules), clock.monotonic_s()
        try:
            answer = fetcher.hand_over(address, headers, body, (CONNECT_S, ANSWER_S), MAX_SAID)
        except UpstreamError as exc:
            return Outcome(_unreached(exc, clock.monotonic_s() - began_s))
        finally:
            fetcher.close()
        return judged(answer.status, answer.host, answer.said)

    def _note(self, delivery_id: int, attempts: int, outcome: Outcome, *, is_last: bool) -> None:
        """Store what became of an attempt. It may have been sent again by hand meanwhile: then that goes on."""
        now = clock.now()
        values: dict[str, Any] = {"status": outcome.status, "error": outcome.error[:MAX_ERROR] or None}
        if not outcome.error:
            values |= {"state": "sent", "sent_at": now}
        elif is_last or attempts > len(PAUSES_S):
            values |= {"state": "failed"}
        else:
            values |= {"next_at": now + timedelta(seconds=pause_s(attempts))}
        if is_last:
            values |= {"attempts": attempts}
        mine = update(AlertDelivery).where(AlertDelivery.id == delivery_id, AlertDelivery.state == "waiting")
        with Session(self._engine) as session, session.begin():
            session.execute(mine.values(values).execution_options(synchronize_session=False))
        if outcome.error:
            log.warning("an alert was not taken delivery=%s attempt=%s: %s", delivery_id, attempts, outcome.error)


def pause_s(attempts: int) -> float:
    """How long to wait after so many attempts."""
    wanted = PAUSES_S[min(attempts, len(PAUSES_S)) - 1]
    return wanted * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - it hides nothing


def body_of(parcel: Parcel) -> bytes:
    """What a webhook gets; the same for every attempt."""
    told = {
        "type": parcel.event,
        "timestamp": parcel.told_at,
        "id": parcel.code,
        "text": alerts.sentence(parcel.event, parcel.facts),
        "data": parcel.facts,
    }
    return jsonx.dumps(told)


def headers_of(code: str, moment_s: int, body: bytes, secrets: list[str]) -> dict[str, str]:
    """The headers of Standard Webhooks: id, time of this attempt, and a signature for each secret."""
    return {
        "content-type": "application/json",
        "webhook-id": code,
        "webhook-timestamp": str(moment_s),
        "webhook-signature": " ".join(f"v1,{sign(secret, code, moment_s, body)}" for secret in secrets),
    }


def sign(secret: str, code: str, moment_s: int, body: bytes) -> str:
    """HMAC-SHA-256 of `<id>.<time>.<body>`, in base64."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return base64.b64encode(hmac.new(key, f"{code}.{moment_s}.".encode() + body, hashlib.sha256).digest()).decode()


def judged(status: int, leads_to: str, said: str) -> Outcome:
    """What an answer means: 2xx took it, everything else says what to mend. `leads_to`: the host of a redirect."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Outcome(status=status)
    if status in REDIRECTS:
        where = f" to {clean(leads_to)[:100]}" if leads_to else ""
        fix = f"it leads on{where}, and redirects are not followed: enter the address where it ends"
    else:
        other = "the receiver failed" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "the receiver refused it"
        fix = FIXES.get(status, other)
    words = f". It said: {clean(said)[:MAX_SAID]}" if said.strip() and status not in REDIRECTS else ""
    return Outcome(f"the answer was {status}: {fix}{words}", status)


def _unreached(exc: UpstreamError, took_s: float) -> str:
    """Why there was no answer; the rule about private addresses says its own fix."""
    if took_s >= ANSWER_S:
        return f"no answer within {ANSWER_S:.0f} s: the receiver should answer at once and do its work afterwards"
    return f"{exc}: check the address, and that this host may reach it"


def _fetcher(rules: AddressRules) -> "Fetcher":
    from services.fetch import Fetcher  # noqa: PLC0415 - 6 MB that most workers never need

    return Fetcher(rules)
