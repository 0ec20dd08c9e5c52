"""API keys of ours: making, recognising, revoking. The key itself is shown once and never stored.

A key is `sk-th-` + 43 random base62 characters (256 bits) + 6 characters of CRC-32, so that junk is refused
without asking the database. What is stored is its HMAC-SHA-256 under a pepper kept outside the database: a
fast digest, since nobody guesses 256 random bits, and a stolen database opens nothing.
"""

import hashlib
import hmac
import ipaddress
import threading
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, Select, delete, select, update
from sqlalchemy.orm import Session, joinedload

from models import ApiKey, RetiredSecret, Team, User
from services import audit, budgets, limits, peppers
from services.credentials import Sealer
from services.errors import Conflict, InvalidRequest
from services.types import Caller, Network, PathRule, Timeouts
from utils import clock, ids

PREFIX: Final = "sk-th-"
RANDOM_CHARS: Final = 43
CHECK_CHARS: Final = 6
KEY_CHARS: Final = len(PREFIX) + RANDOM_CHARS + CHECK_CHARS
HINT_CHARS: Final = 4
USED_UP: Final = "The total cost limit has been reached"


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key; `secret` exists only here."""

    id: int
    secret: str
    hint: str


class Void(str):
    """Why a key that is known opens nothing, and whose it is; `rule` names what stands in its way."""

    __slots__ = ("key_id", "rule", "team_id", "user_id")
    key_id: int
    user_id: int
    team_id: int | None
    rule: str

    def __new__(cls, why: str, key: ApiKey, rule: str) -> "Void":
        """The text, with the key it speaks of."""
        self = super().__new__(cls, why)
        self.key_id, self.user_id, self.team_id, self.rule = key.id, key.user_id, key.user.team_id, rule
        return self


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

    def __init__(self, engine: Engine, pepper: Sequence[str], sealer: Sealer) -> None:
        self._engine, self._sealer = engine, sealer
        # Copied for each digest: half the cost. New digests are made by the first.
        self._macs = tuple(hmac.new(one.encode(), digestmod=hashlib.sha256) for one in pepper)
        self.pepper = _digest(self._macs[0], "which pepper")[:16]
        self._used: dict[int, int] = {}
        self._guard = threading.Lock()

    def digest(self, secret: str) -> str:
        """The digest under which a key is stored and found."""
        return _digest(self._macs[0], secret)

    def former_digests(self, secret: str) -> tuple[str, ...]:
        """Those that earlier peppers made of it."""
        return tuple(_digest(mac, secret) for mac in self._macs[1:])

    def is_of(self, secret: str, row: ApiKey) -> bool:
        """Whether the secret is the one of a key."""
        return row.digest in (self.digest(secret), *self.former_digests(secret))

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
        """Make a key for a user. Of a default key a sealed copy may be kept, for `/login` to return.

        Raises:
            Conflict: the secret was another key's and still opens that one.
            IntegrityError: the secret is another key's.
        """
        is_new = secret is None
        secret = secret or new_secret()
        if not is_new:
            peppers.move(session, self.former_digests(secret), self.digest(secret), self.pepper)
        row = ApiKey(
            user_id=user_id,
            name=name,
            kind=kind,
            digest=self.digest(secret),
            pepper=self.pepper,
            hint=hint(secret),
            sealed=self._sealer.seal(secret) if keep_copy else None,
            allowed_models=allowed_models,
            expires_at=expires_at,
        )
        session.add(row)
        session.flush()
        if not is_new:
            self._claim(session, row.digest)
        return IssuedKey(row.id, secret, row.hint)

    def _claim(self, session: Session, digest: str) -> None:
        """After the insert: whoever retires this digest at the same moment has then either been seen or failed."""
        retired = session.get(RetiredSecret, digest)
        if retired is not None and retired.expires_at > clock.now():
            why = "This secret opens another key until the end of its rotation."
            raise Conflict(why, param="key", code="duplicate_key")
        if retired is not None:
            session.delete(retired)
            session.flush()

    def unseal(self, sealed: bytes) -> str:
        """A key of which a copy was kept.

        Raises:
            SealBroken: see credentials.
        """
        return self._sealer.open(sealed)

    def rotate(self, session: Session, row: ApiKey, grace: timedelta, secret: str | None = None) -> IssuedKey:
        """Give a key a new secret; the one before goes on opening it for as long as `grace`.

        Without grace, those before it stop as well.

        Raises:
            InvalidRequest: it got one at the same moment, which nobody would know if this one took its place.
        """
        secret, former, pepper = secret or new_secret(), row.digest, row.pepper
        fresh: dict[str, str | bytes] = {"digest": self.digest(secret), "pepper": self.pepper, "hint": hint(secret)}
        if row.sealed is not None:
            fresh["sealed"] = self._sealer.seal(secret)
        found = session.scalars(
            update(ApiKey).where(ApiKey.id == row.id, ApiKey.digest == former).values(fresh).returning(ApiKey.id)
        ).all()
        if not found:
            raise InvalidRequest("The key was rotated at the same moment. Please look again.")
        if grace:
            session.add(RetiredSecret(digest=former, pepper=pepper, key_id=row.id, expires_at=clock.now() + grace))
        else:
            session.execute(delete(RetiredSecret).where(RetiredSecret.key_id == row.id))
        session.flush()
        session.refresh(row)
        return IssuedKey(row.id, secret, row.hint)

    def revoke(self, session: Session, key_id: int, reason: str) -> bool:
        """Void a key, in all workers within two seconds; False = it was void before, or is gone."""
        revoked = session.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
            .values(revoked_at=datetime.now(UTC), revoked_reason=reason)
            .returning(ApiKey.id)
        )
        return revoked.first() is not None

    def revoke_used_up(self, key_id: int) -> None:
        """Void a key that has spent its total cost limit, once, however many calls find that out."""
        with Session(self._engine) as session, session.begin():
            if self.revoke(session, key_id, USED_UP):
                changed = {"before": {"revoked_reason": None}, "after": {"revoked_reason": USED_UP}}
                audit.note(session, audit.Actor(audit.SYSTEM), "key_revoke", "key", key_id, changed)

    def lift(self, session: Session, key_id: int) -> None:
        """Let a revoked key work again, with its secret of then and those that are still retiring."""
        session.execute(update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=None, revoked_reason=None))

    def find(self, digest: str, *former: str) -> Caller | str | None:
        """Whose key that is; a text = why it is refused; None = no such key. A retired secret opens until its time.

        `former`: what earlier peppers make of the same secret; a key that stands under one of them moves.
        """
        if former:
            peppers.move_found(self._engine, former, digest, self.pepper)
        with Session(self._engine) as session:
            row = session.execute(_by_digest((digest, *former))).first()
            if row is None:
                return None
            key, until = row
            if key.revoked_at is not None:
                said = f"the key `{key.hint}` was revoked" + (f": {key.revoked_reason}" if key.revoked_reason else "")
                return Void(said, key, f"key {key.id}")
            if not key.user.is_active:
                reason = key.user.disabled_reason
                said = "the user of this key is disabled" + (f": {reason}" if reason else "")
                return Void(said, key, f"user {key.user_id}")
            return caller_of(session, key.user, key, until)

    def find_numbered(self, user_id: int, key_id: int | None) -> Caller | str | None:
        """The same by number, for what goes on after its caller has left; without a key: who had signed in."""
        with Session(self._engine) as session:
            if key_id is None:
                user = session.get(User, user_id)
                return caller_of(session, user) if user is not None and user.is_active else None
            digest = session.scalar(select(ApiKey.digest).where(ApiKey.id == key_id))
        return None if digest is None else self.find(digest)

    def mark_used(self, key_id: int) -> None:
        """Note the use; written by `flush_used`, not now."""
        self._used[key_id] = clock.now_ms()

    def forget_retired(self) -> None:
        """Remove retired secrets whose time is over."""
        with Session(self._engine) as session, session.begin():
            session.execute(delete(RetiredSecret).where(RetiredSecret.expires_at < datetime.now(UTC)))

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


def _digest(mac: "hmac.HMAC", secret: str) -> str:
    copy = mac.copy()
    copy.update(secret.encode("utf-8", "surrogateescape"))
    return copy.hexdigest()


def _by_digest(digests: Sequence[str]) -> Select[Any]:
    """The key with that secret, or with it as a retired one, which has an end: one look for both."""
    mine = RetiredSecret.digest.in_(digests)
    retired = select(RetiredSecret.key_id).where(mine).limit(1).scalar_subquery()
    until = select(RetiredSecret.expires_at).where(mine).limit(1).scalar_subquery()
    return (
        select(ApiKey, until)
        .options(joinedload(ApiKey.user).joinedload(User.team))
        .where(ApiKey.digest.in_(digests) | (ApiKey.id == retired))
    )


def caller_of(session: Session, user: User, key: ApiKey | None = None, until: datetime | None = None) -> Caller:
    """What is known of a user, or of one who comes with a key, and all that applies to them.

    `until`: when the secret they came with stops opening the key.
    """
    owned = [("user", user.id)]
    if user.team_id is not None:
        owned.append(("team", user.team_id))
    if key is not None:
        owned.append(("key", key.id))
    rules: list[tuple[str, User | ApiKey]] = [(f"user `{user.username}`", user)]
    if key is not None:
        rules.insert(0, (f"key `{key.hint}`", key))
    moments = (until, user.expires_at, key.expires_at if key is not None else None)
    ends = [moment for moment in moments if moment is not None]
    return Caller(
        user_id=user.id,
        username=user.username,
        role=user.role,
        key_id=key.id if key is not None else None,
        key_hint=key.hint if key is not None else None,
        allowed_models=_allowed([user.team, user, key]),
        expires_at_s=min(ends).timestamp() if ends else None,
        budgets=budgets.refs(session, owned),
        limits=limits.refs(session, owned),
        team_id=user.team_id,
        team=user.team.name if user.team is not None else None,
        allowed_paths=tuple((whose, _paths(row)) for whose, row in rules if row.allowed_paths is not None),
        allowed_ips=_networks(key.allowed_ips) if key is not None else None,
        providers=frozenset(key.provider_ids) if key is not None and key.provider_ids is not None else None,
        keeps_request=key is not None and key.should_log_request,
        keeps_response=key is not None and key.should_log_response,
        timeouts=Timeouts(**((key.timeouts if key is not None else None) or {})),
        locale=user.locale,
    )


def _allowed(rows: Iterable[Team | User | ApiKey | None]) -> frozenset[str] | None:
    """The models that all of them allow; None = each allows all."""
    lists = [frozenset(row.allowed_models) for row in rows if row is not None and row.allowed_models is not None]
    return frozenset.intersection(*lists) if lists else None


def _paths(row: User | ApiKey) -> tuple[PathRule, ...]:
    return tuple(PathRule(rule["path"], rule.get("method", "").upper()) for rule in row.allowed_paths or ())


def _networks(texts: list[str] | None) -> tuple[Network, ...] | None:
    return None if texts is None else tuple(ipaddress.ip_network(text, strict=False) for text in texts)
