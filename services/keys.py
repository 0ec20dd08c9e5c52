"""API keys of ours: making, recognising, revoking. The key itself is shown once and never stored.

A key is `sk-th-` + 43 random base62 characters (256 bits) + 6 characters of CRC-32, so that junk is refused
without asking the database. What is stored is its HMAC-SHA-256 under a pepper kept outside the database: a
fast digest, since nobody guesses 256 random bits, and a stolen database opens nothing.
"""

import hashlib
import hmac
import threading
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from models import ApiKey, Budget, User
from services.credentials import Sealer
from services.types import BudgetRef, Caller
from utils import clock, ids

PREFIX: Final = "sk-th-"
RANDOM_CHARS: Final = 43
CHECK_CHARS: Final = 6
KEY_CHARS: Final = len(PREFIX) + RANDOM_CHARS + CHECK_CHARS
HINT_CHARS: Final = 4


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key; `secret` exists only here."""

    id: int
    secret: str
    hint: str


def new_secret() -> str:
    """A key nobody has seen yet."""
    random = ids.random_base62(RANDOM_CHARS)
    return PREFIX + random + checksum(random)


def checksum(random: str) -> str:
    """The last characters of a key, from the random ones."""
    return ids.base62(zlib.crc32(random.encode("ascii")), CHECK_CHARS)


def is_well_formed(secret: str) -> bool:
    """Whether the text can be a key of ours; costs no look-up."""
    if len(secret) != KEY_CHARS or not secret.startswith(PREFIX) or not secret.isascii():
        return False
    return secret[-CHECK_CHARS:] == checksum(secret[len(PREFIX) : -CHECK_CHARS])


def hint(secret: str) -> str:
    """What may be shown of a key. Short secrets (fixed tokens) show less."""
    if len(secret) < KEY_CHARS:
        return f"{secret[:2]}…"
    return f"{secret[: len(PREFIX) + HINT_CHARS]}…{secret[-HINT_CHARS:]}"


class Keys:
    """Keys in the database. Reading uses the digest's unique index; secrets are never compared one by one."""

    def __init__(self, engine: Engine, pepper: str, sealer: Sealer) -> None:
        self._engine, self._sealer = engine, sealer
        self._mac = hmac.new(pepper.encode(), digestmod=hashlib.sha256)  # copied for each digest: half the cost
        self._used: dict[int, int] = {}
        self._guard = threading.Lock()

    def digest(self, secret: str) -> str:
        """The digest under which a key is stored and found."""
        mac = self._mac.copy()
        mac.update(secret.encode("utf-8", "surrogateescape"))
        return mac.hexdigest()

    def issue(  # noqa: PLR0913 - what a key is made of
        self,
        session: Session,
        user_id: int,
        name: str,
        *,
        kind: str = "standard",
        secret: str | None = None,
        allowed_models: list[str] | None = None,
        expires_at: datetime | None = None,
        keep_copy: bool = False,
    ) -> IssuedKey:
        """Make a key for a user. Of a default key a sealed copy may be kept, for `/login` to return."""
        secret = secret or new_secret()
        row = ApiKey(
            user_id=user_id,
            name=name,
            kind=kind,
            digest=self.digest(secret),
            hint=hint(secret),
            sealed=self._sealer.seal(secret) if keep_copy else None,
            allowed_models=allowed_models,
            expires_at=expires_at,
        )
        session.add(row)
        session.flush()
        return IssuedKey(row.id, secret, row.hint)

    def unseal(self, sealed: bytes) -> str:
        """A key of which a copy was kept.

        Raises:
            SealBroken: see credentials.
        """
        return self._sealer.open(sealed)

    def revoke(self, session: Session, key_id: int, reason: str) -> None:
        """Void a key, in all workers within two seconds."""
        session.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
            .values(revoked_at=datetime.now(UTC), revoked_reason=reason)
        )

    def find(self, digest: str) -> Caller | str | None:
        """Whose key that is; a text = why it is refused; None = no such key."""
        with Session(self._engine) as session:
            row = session.execute(select(ApiKey, User).join(User).where(ApiKey.digest == digest)).first()
            if row is None:
                return None
            key, user = row
            if key.revoked_at is not None:
                return f"the key `{key.hint}` was revoked" + (f": {key.revoked_reason}" if key.revoked_reason else "")
            if not user.is_active:
                return "the user of this key is disabled"
            return Caller(
                user_id=user.id,
                username=user.username,
                role=user.role,
                key_id=key.id,
                key_hint=key.hint,
                allowed_models=frozenset(key.allowed_models) if key.allowed_models is not None else None,
                expires_at_s=key.expires_at.timestamp() if key.expires_at else None,
                budgets=budgets_of(session, user.id, key.id),
            )

    def mark_used(self, key_id: int) -> None:
        """Note the use; written by `flush_used`, not now."""
        self._used[key_id] = clock.now_ms()

    def flush_used(self) -> None:
        """Write the moments of last use that came together since the last time."""
        with self._guard:
            used, self._used = self._used, {}
        if not used:
            return
        with Session(self._engine) as session, session.begin():
            for key_id, used_ms in sorted(used.items()):
                moment = datetime.fromtimestamp(used_ms / 1000, UTC)
                # With updated_at as it was: nobody changed the key.
                session.execute(
                    update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=moment, updated_at=ApiKey.updated_at)
                )


def budgets_of(session: Session, user_id: int, key_id: int | None) -> tuple[BudgetRef, ...]:
    """Every budget a call of this user through this key counts against, in id order."""
    applies = (Budget.scope == "user") & (Budget.scope_id == user_id)
    if key_id is not None:
        applies |= (Budget.scope == "key") & (Budget.scope_id == key_id)
    rows = session.scalars(select(Budget).where(applies).order_by(Budget.id))
    return tuple(BudgetRef(row.id, row.scope, row.unit, row.period, row.timezone, row.is_prepaid) for row in rows)
