"""The second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for the day it is lost.

A code opens once, whichever worker sees it first. The secret is sealed with ENCRYPTION_KEYS; of recovery codes only
digests are kept. Every try is counted, apart from those of passwords: whoever knows the password must not try on.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from models import SecondFactor
from services import audit, people
from services.accounts import Person
from services.credentials import SealBroken, Sealer
from services.errors import AuthenticationFailed, GatewayError, InvalidRequest, PermissionDenied
from services.throttle import Throttle
from utils import clock, ids

STEP_S: Final = 30
WINDOW: Final = (-1, 0, 1)  # steps that a device's clock may be off
RECOVERY_CODES: Final = 10
STEP: Final = "second-factor"  # of signing in, for the throttle
CODE: Final = re.compile(r"[0-9]{6}", re.ASCII)
ISSUER: Final = "Tollhouse"
WRONG: Final = "This code is wrong, or was used already."
MISSING: Final = "This account has a second factor: send a code of the authenticator app, or a recovery code, as `otp`."
REQUIRED: Final = "A second factor is required: sign in to the panel with a browser and set one up."
UNREADABLE: Final = "Your second factor cannot be read any more; use a recovery code, or ask an admin to reset it."


@dataclass(frozen=True, slots=True)
class Standing:
    """How somebody stands with it. `confirmed_at` None: not in use."""

    confirmed_at: datetime | None
    recovery_left: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A secret for an authenticator app: as text, and as the address that its QR code has."""

    secret: str
    uri: str


class SecondFactors:
    """See the module. `required`: of whom one is demanded, as REQUIRE_SECOND_FACTOR says."""

    def __init__(self, engine: Engine, sealer: Sealer, throttle: Throttle, *, required: str) -> None:
        self._engine, self._sealer, self._throttle, self._required = engine, sealer, throttle, required

    def standing(self, user_id: int) -> Standing:
        """What there is."""
        with Session(self._engine) as session:
            row = session.get(SecondFactor, user_id)
        if row is None or row.confirmed_at is None:
            return Standing(None, 0)
        return Standing(row.confirmed_at, len(row.recovery or ()))

    def is_set(self, user_id: int) -> bool:
        """Whether signing in takes a code."""
        return self.standing(user_id).confirmed_at is not None

    def is_required(self, role: str) -> bool:
        """Whether somebody of that role must have one."""
        return self._required == "all" or (self._required == "admins" and role == "admin")

    def is_missing(self, person: Person) -> bool:
        """Whether the person must set one up before anything else."""
        return self.is_required(person.role) and not self.is_set(person.user_id)

    def begin(self, user_id: int) -> None:
        """Make a secret; it opens nothing, and nothing asks for it, before it is confirmed.

        Raises:
            InvalidRequest: there is a second factor already.
        """
        import pyotp  # noqa: PLC0415 - few workers ever need it

        with Session(self._engine) as session, session.begin():
            row = session.get(SecondFactor, user_id)
            if row is not None and row.confirmed_at is not None:
                raise InvalidRequest("There is a second factor already; switch it off first.", code="second_factor_set")
            sealed = self._sealer.seal(pyotp.random_base32())
            session.merge(SecondFactor(user_id=user_id, sealed=sealed, confirmed_at=None, last_step=0, recovery=None))

    def offer(self, user_id: int, username: str) -> Offer | None:
        """The secret that waits to be confirmed; a confirmed one is never shown again."""
        import pyotp  # noqa: PLC0415 - loaded with the first code

        with Session(self._engine) as session:
            row = session.get(SecondFactor, user_id)
        if row is None or row.confirmed_at is not None:
            return None
        try:
            secret = self._sealer.open(row.sealed)
        except SealBroken:
            return None
        return Offer(secret, pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name=ISSUER))

    def confirm(self, actor: audit.Actor, user_id: int, code: str, address: str) -> list[str]:
        """Put the secret in use, now that an app gives its codes; returns the recovery codes, which exist only here.

        Raises:
            AuthenticationFailed: the code is wrong.
            InvalidRequest: nothing waits to be confirmed.
            TooManyAttempts: wait first.
        """
        self._throttle.sign_in(str(user_id), address, step=STEP)
        codes = [ids.random_code() for _ in range(RECOVERY_CODES)]
        with Session(self._engine) as session, session.begin():
            row = _locked(session, user_id)
            if row is None or row.confirmed_at is not None:
                raise InvalidRequest("Nothing waits to be confirmed; please begin again.", code="second_factor_gone")
            if not self._is_code(row, code):
                raise AuthenticationFailed(WRONG, code="otp_invalid")
            row.confirmed_at, row.recovery = clock.now(), [_digest(one) for one in codes]
            audit.note(session, actor, "second_factor_on", "user", user_id)
        self._throttle.signed_in(str(user_id), address, step=STEP)
        return codes

    def check(self, user_id: int, code: object, address: str) -> str:
        """Use up a code of the app (answers `totp`) or a recovery code (`recovery`).

        Raises:
            AuthenticationFailed: it is neither, or was used before (code `otp_invalid`).
            TooManyAttempts: wait first.
        """
        self._throttle.sign_in(str(user_id), address, step=STEP)
        with Session(self._engine) as session, session.begin():
            how = self._use(session, user_id, code)
        self._throttle.signed_in(str(user_id), address, step=STEP)
        return how

    def admit(self, person: Person, code: object, address: str) -> str | None:
        """The same for programs that have given a password; None = there is nothing to check.

        Raises:
            AuthenticationFailed: as `check`, or no code was sent (code `otp_required`).
            PermissionDenied: there must be a second factor, and is none.
        """
        if self.is_set(person.user_id):
            if code is None or code == "":
                raise AuthenticationFailed(MISSING, code="otp_required")
            return self.check(person.user_id, code, address)
        if self.is_required(person.role):
            raise PermissionDenied(REQUIRED, code="second_factor_required")
        return None

    def switch_off(self, actor: audit.Actor, user_id: int, code: object, address: str) -> None:
        """Do without from now on; the caller has checked the password.

        Raises:
            AuthenticationFailed, TooManyAttempts: as `check`.
        """
        self._throttle.sign_in(str(user_id), address, step=STEP)
        with Session(self._engine) as session, session.begin():
            self._use(session, user_id, code)
            session.execute(delete(SecondFactor).where(SecondFactor.user_id == user_id))
            audit.note(session, actor, "second_factor_off", "user", user_id)
        self._throttle.signed_in(str(user_id), address, step=STEP)

    def reset(self, actor: audit.Actor, user_id: int) -> bool:
        """Take away somebody's second factor, who is signed out everywhere; whether there was one."""
        with Session(self._engine) as session, session.begin():
            wanted = delete(SecondFactor).where(SecondFactor.user_id == user_id).returning(SecondFactor.user_id)
            if session.execute(wanted).first() is None:
                return False
            people.sign_out(session, user_id)
            audit.note(session, actor, "second_factor_reset", "user", user_id)
            return True

    def _use(self, session: Session, user_id: int, code: object) -> str:
        """Which kind of code it was, within the caller's transaction; of many at once, one can use it."""
        row = _locked(session, user_id)
        if row is None or row.confirmed_at is None or not isinstance(code, str):
            raise AuthenticationFailed(WRONG, code="otp_invalid")
        digest = _digest(code)
        if digest in (row.recovery or ()):
            row.recovery = [one for one in row.recovery or () if one != digest]
            return "recovery"
        if self._is_code(row, code):
            return "totp"
        raise AuthenticationFailed(WRONG, code="otp_invalid")

    def _is_code(self, row: SecondFactor, code: str) -> bool:
        """Whether it is a code of now that was not used; it is used from now on.

        Raises:
            GatewayError: the secret was sealed with a key that is gone.
        """
        import pyotp  # noqa: PLC0415 - loaded with the first code

        given = re.sub(r"[\s-]", "", code)
        if not CODE.fullmatch(given):
            return False
        try:
            codes = pyotp.TOTP(self._sealer.open(row.sealed))
        except SealBroken as exc:
            raise GatewayError(UNREADABLE, code="second_factor_unreadable") from exc
        now = int(clock.now_s()) // STEP_S
        for step in (now + off for off in WINDOW):
            if step > row.last_step and hmac.compare_digest(codes.generate_otp(step), given):
                row.last_step = step
                return True
        return False


def _locked(session: Session, user_id: int) -> SecondFactor | None:
    """The row, which nobody else reads to change it until the end of the transaction."""
    lock = update(SecondFactor).where(SecondFactor.user_id == user_id).values(last_step=SecondFactor.last_step)
    session.execute(lock.execution_options(synchronize_session=False))
    return session.scalar(select(SecondFactor).where(SecondFactor.user_id == user_id))


def _digest(code: str) -> str:
    """Of a recovery code, however it was typed; nobody reverses one of its 79 random bits."""
    return hashlib.sha256(re.sub(r"[\s-]", "", code).lower().encode("utf-8", "replace")).hexdigest()
