"""Passwords: bcrypt, off the event loop, one at a time per process, since each takes a quarter of a second of CPU."""

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from services.errors import InvalidRequest, TooManyAttempts
from utils import native
from utils.extensions import bcrypt

T = TypeVar("T")

MIN_CHARS: Final = 8
MAX_CHARS: Final = 1024  # bcrypt is given a digest, so its own limit of 72 bytes does not matter
WAITING_MAX: Final = 16


class Passwords:
    """Hashes and checks passwords."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._waiting = 0
        self._nobody = ""

    def hash(self, password: str) -> str:
        """The stored form of a password.

        Raises:
            TooManyAttempts: too many wait already.
        """
        return self._in_turn(lambda: str(bcrypt.generate_password_hash(password).decode()))

    def check(self, stored: str | None, password: str) -> bool:
        """Whether the password is right. Takes as long for nobody (`stored` None) as for somebody.

        Raises:
            TooManyAttempts: too many wait already.
        """
        if stored is None and not self._nobody:
            self._nobody = self.hash("a password nobody has")
        is_right = self._in_turn(lambda: bcrypt.check_password_hash(stored or self._nobody, password))
        return stored is not None and bool(is_right)

    def _in_turn(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise TooManyAttempts("Too many people are signing in; please try again in a few seconds.", retry_after_s=5)
        self._waiting += 1
        try:
            with self._turn:
                return native.run(work)
        finally:
            self._waiting -= 1


def check_new(password: object) -> str:
    """A password that may be set.

    Raises:
        InvalidRequest: no text, too short or too long.
    """
    if not isinstance(password, str) or not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise InvalidRequest(f"A password needs {MIN_CHARS} to {MAX_CHARS} characters.", param="password")
    return password
