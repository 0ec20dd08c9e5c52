"""A brake on guessing that all workers share: every try is counted before it is looked at.

The first tries are free, then each one doubles the wait. One account is braked per address, and more gently
from anywhere, so that an attacker cannot lock its owner out.
"""

import hashlib
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine, text

from services.errors import TooManyAttempts
from utils import clock

FORGET_MS: Final = 86_400_000
# One statement both asks and counts, so that parallel tries cannot slip through together.
COUNT: Final = text("""
INSERT INTO sign_in_failures (subject, failures, blocked_until_at) VALUES (:subject, 1, :now)
ON CONFLICT (subject) DO UPDATE SET
  failures = CASE WHEN sign_in_failures.blocked_until_at < :now - :forget THEN 1 ELSE sign_in_failures.failures + 1 END,
  blocked_until_at = :now + CASE
    WHEN sign_in_failures.blocked_until_at < :now - :forget OR sign_in_failures.failures < :free THEN 0
    WHEN sign_in_failures.failures - :free > 20 THEN :longest
    WHEN (1000 << (sign_in_failures.failures - :free)) > :longest THEN :longest
    ELSE 1000 << (sign_in_failures.failures - :free) END
WHERE sign_in_failures.blocked_until_at <= :now RETURNING failures""")
BLOCKED: Final = text("SELECT blocked_until_at FROM sign_in_failures WHERE subject = :subject")
USE_UP: Final = text("""
INSERT INTO sign_in_failures (subject, failures, blocked_until_at) VALUES (:subject, 1, :now)
ON CONFLICT (subject) DO NOTHING RETURNING failures""")
FORGIVE: Final = text("DELETE FROM sign_in_failures WHERE subject = :subject")
FORGET: Final = text("DELETE FROM sign_in_failures WHERE blocked_until_at < :before")


@dataclass(frozen=True, slots=True)
class Brake:
    """How many tries are free, and the longest wait after that."""

    free: int
    longest_ms: int


PER_ADDRESS: Final = Brake(5, 900_000)
ANYWHERE: Final = Brake(30, 60_000)
REGISTRATION: Final = Brake(20, 900_000)


class Throttle:
    """Counts tries in the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def sign_in(self, account: str, address: str, *, step: str = "sign-in") -> None:
        """Count a try to sign in, or to pass another step of it.

        Raises:
            TooManyAttempts: with the seconds to wait; the password must not be looked at.
        """
        self._count(_subject(step, account, network_of(address)), PER_ADDRESS)
        self._count(_subject(step, account), ANYWHERE)

    def signed_in(self, account: str, address: str, *, step: str = "sign-in") -> None:
        """The try was good: forget the ones before it."""
        with self._engine.begin() as connection:
            for subject in (_subject(step, account, network_of(address)), _subject(step, account)):
                connection.execute(FORGIVE, {"subject": subject})

    def arrival(self, address: str) -> None:
        """Count somebody who comes back from an OpenID provider.

        Raises:
            TooManyAttempts: with the seconds to wait; the provider must not be asked.
        """
        self._count(_subject("openid", network_of(address)), PER_ADDRESS)

    def arrived(self, address: str) -> None:
        """It was somebody: forget the tries before."""
        with self._engine.begin() as connection:
            connection.execute(FORGIVE, {"subject": _subject("openid", network_of(address))})

    def is_first_use(self, what: str) -> bool:
        """Whether nobody, in any worker, has used this up before; it is remembered for a day."""
        with self._engine.begin() as connection:
            values = {"subject": _subject("used", what), "now": clock.now_ms()}
            return connection.execute(USE_UP, values).first() is not None

    def admit_secret(self, name: str, address: str, is_right: Callable[[], bool]) -> bool:
        """Whether a secret that programs send with every request is right; only wrong ones cost a write.

        Once somebody has guessed wrongly from an address, its tries are counted before they are looked at.

        Raises:
            TooManyAttempts: with the seconds to wait; the secret was not looked at.
        """
        subject = _subject(name, network_of(address))
        with self._engine.connect() as connection:
            is_suspect = connection.execute(BLOCKED, {"subject": subject}).first() is not None
        if is_suspect:
            self._count(subject, PER_ADDRESS)
        if not is_right():
            if not is_suspect:
                self._count(subject, PER_ADDRESS)
            return False
        if is_suspect:
            with self._engine.begin() as connection:
                connection.execute(FORGIVE, {"subject": subject})
        return True

    def registration(self, address: str) -> None:
        """Count a new account from an address.

        Raises:
            TooManyAttempts: with the seconds to wait.
        """
        self._count(_subject("register", network_of(address)), REGISTRATION)

    def forget_old(self) -> None:
        """Remove what has not been tried for a day."""
        with self._engine.begin() as connection:
            connection.execute(FORGET, {"before": clock.now_ms() - FORGET_MS})

    def _count(self, subject: str, brake: Brake) -> None:
        now_ms = clock.now_ms()
        values = {
            "subject": subject,
            "now": now_ms,
            "forget": FORGET_MS,
            "free": brake.free,
            "longest": brake.longest_ms,
        }
        with self._engine.begin() as connection:
            if connection.execute(COUNT, values).first() is not None:
                return
            until_ms = connection.execute(BLOCKED, {"subject": subject}).scalar() or now_ms
        wait_s = max(1, -(-(until_ms - now_ms) // 1000))
        raise TooManyAttempts(f"Too many tries; please wait {wait_s} s.", retry_after_s=wait_s)


def network_of(address: str) -> str:
    """Who an address stands for: one IPv6 customer has 2**64 of them."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)  # noqa: PLR2004 - the two versions of IP


def _subject(*parts: str) -> str:
    """A digest: what people typed as their name is not kept."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()
