"""People: registering, signing in, tokens, browser sessions."""

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from config import MIN_PASSWORD
from models import ApiKey, User, WebSession
from services import audit, balances, invitations
from services.audit import Actor
from services.catalog import Catalog
from services.errors import AuthenticationFailed, InvalidRequest
from services.keys import Keys, caller_of
from services.passwords import Passwords, check_new
from services.throttle import Throttle
from services.types import Caller
from utils import clock
from utils.settings import is_weak

NAME: Final = re.compile(r"[^\s/\\<>\"'`\x00-\x1f\x7f]{1,150}")
SERVICE_ACCOUNT: Final = "api-tokens"  # the owner of the keys in API_AUTH_TOKENS
KEY_OWNER: Final = "key-management"  # the owner of keys that are made for nobody in particular
RESERVED: Final = frozenset(
    {"me", "all", "create", "password", "usage", SERVICE_ACCOUNT, KEY_OWNER}
)  # they are paths or accounts of ours
ERASED: Final = "erased-"  # how the names of erased accounts begin; see services/erasure.py
DEFAULT_KEY: Final = "default"
IDLE: Final = timedelta(minutes=30)
LONGEST: Final = timedelta(hours=12)
SEEN_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say about people."""

    secret_keys: tuple[str, ...]  # the first one signs
    algorithm: str
    audience: str
    issuer: str
    token_minutes: int
    initial_token_balance: int | None
    default_token_limit: int | None
    keeps_default_key: bool
    is_strict: bool


@dataclass(frozen=True, slots=True)
class Person:
    """A user who gave the right password, or whose session is good."""

    user_id: int
    username: str
    role: str
    must_change_password: bool
    locale: str | None


class Accounts:
    """See the module."""

    def __init__(self, engine: Engine, catalog: Catalog, keys: Keys, rules: Rules) -> None:
        self._engine, self._catalog, self._keys, self._rules = engine, catalog, keys, rules
        self._passwords, self._throttle, self._is_strict = Passwords(), Throttle(engine), rules.is_strict

    def register(self, username: object, password: object, address: str, invitation: object = None) -> str:
        """A new account for a stranger, with prepaid tokens; returns its default API key.

        An `invitation` is used up, but not by a registration that fails; it gives the account a role and a team.

        Raises:
            InvalidRequest: a bad name, a taken one (code `user_exists`), or a bad password.
            PermissionDenied: the invitation is not good.
            TooManyAttempts: too many accounts from this address.
        """
        name, good = check_name(username), check_new(password)
        self._throttle.registration(address)
        code = None
        if invitation is not None:
            code, role = invitations.check(self._engine, invitation)
            self.check_strength(role, good)
        hashed = self._passwords.hash(good)
        with self._adding() as session:
            invited = invitations.take(session, code) if code is not None else None
            columns = invitations.columns(session, invited) if invited is not None else {}
            user_id = _add(session, User(username=name, password_hash=hashed, **columns))
            if invited is not None:
                invited.used_by = user_id
            balances.start(session, user_id, self._rules.initial_token_balance, self._rules.default_token_limit)
            return self._keys.issue(
                session, user_id, DEFAULT_KEY, kind="default", keep_copy=self._rules.keeps_default_key
            ).secret

    def create(
        self,
        username: object,
        password: str | None,
        *,
        role: str = "user",
        must_change_password: bool = False,
        by: Actor | None = None,
        **columns: Any,
    ) -> int:
        """A new user without limits; without a password nobody can sign in as it. Returns the id.

        `by`: who did it, for the audit log; None = whoever calls writes that. `columns`: what else the row says, such
        as its team.

        Raises:
            InvalidRequest: a bad name, or a taken one (code `user_exists`).
        """
        name = check_name(username)
        hashed = self._passwords.hash(password) if password is not None else None
        with self._adding() as session:
            known = {"password_hash": hashed, "role": role, "must_change_password": must_change_password}
            user_id = _add(session, User(username=name, **known, **columns))
            if by is not None:
                audit.note(session, by, "user_create", "user", user_id, {"after": {"role": role, **columns}})
            return user_id

    def check_strength(self, role: str, password: str) -> None:
        """Whether that may be an admin's password; staging and production want more of one.

        Raises:
            InvalidRequest: it is well-known or too short for that.
        """
        if role == "admin" and self._is_strict and is_weak(password, MIN_PASSWORD):
            why = f"The password of an admin needs {MIN_PASSWORD} characters or more, and must not be well-known."
            raise InvalidRequest(why, param="password")

    def sign_in(self, username: object, password: object, address: str) -> Person:
        """The person with this name and password.

        Raises:
            AuthenticationFailed: in the same words and time whether the name exists or not.
            TooManyAttempts: wait first.
        """
        if not isinstance(username, str) or not isinstance(password, str) or not username or not password:
            raise InvalidRequest("Invalid login data.", param="username", code="invalid_login_data")
        self._throttle.sign_in(username, address)
        with Session(self._engine) as session:
            is_name = username.isprintable()  # Postgres refuses to look for a NUL
            user = session.scalar(select(User).where(User.username == username)) if is_name else None
        is_right = self._passwords.check(user.password_hash if user else None, password)
        if user is None or not is_right or not _is_open(user):
            raise AuthenticationFailed("Incorrect username or password", code="invalid_credentials")
        self._throttle.signed_in(username, address)
        return _person(user)

    def is_known(self, username: object) -> bool:
        """Whether somebody of that name signs in with a password here, or is an account of the gateway's own."""
        if not isinstance(username, str) or not username.isprintable() or username in (SERVICE_ACCOUNT, KEY_OWNER):
            return True
        with Session(self._engine) as session:
            return session.scalar(select(User.password_hash).where(User.username == username)) is not None

    def forgive(self, username: str, address: str) -> None:
        """Somebody else says that the password was right: forget the tries before it."""
        self._throttle.signed_in(username, address)

    def set_password(self, user_id: int, password: object, *, keep_session: str | None = None) -> None:
        """A new password; it ends every token and every session but `keep_session`.

        Raises:
            InvalidRequest: too short or too long.
        """
        hashed = self._passwords.hash(check_new(password))
        with Session(self._engine) as session, session.begin():
            session.execute(
                update(User)
                .where(User.id == user_id)
                .values(password_hash=hashed, must_change_password=False, **voided())
            )
            session.execute(
                delete(WebSession).where(
                    WebSession.user_id == user_id, WebSession.digest != digest_of(keep_session or "")
                )
            )

    def is_password(self, user_id: int, password: object) -> bool:
        """Whether that is the user's password now."""
        with Session(self._engine) as session:
            stored = session.scalar(select(User.password_hash).where(User.id == user_id))
        return isinstance(password, str) and self._passwords.check(stored, password)

    def has_password(self, user_id: int) -> bool:
        """Whether there is a password to sign in with."""
        with Session(self._engine) as session:
            return session.scalar(select(User.password_hash).where(User.id == user_id)) is not None

    def person(self, user_id: int) -> Person | None:
        """The person with this number, if the account may be used now."""
        with Session(self._engine) as session:
            user = session.get(User, user_id)
            return _person(user) if user is not None and _is_open(user) else None

    def default_key(self, person: Person) -> str | None:
        """The key that `/login` returns: always the same one, made at the first sign-in if need be.

        None when copies are not kept, when the key was revoked, or while a weak first password still stands.
        """
        if not self._rules.keeps_default_key or person.must_change_password:
            return None
        with Session(self._engine) as session, session.begin():
            # Serialises two first sign-ins, so that they do not both make a key.
            session.execute(update(User).where(User.id == person.user_id).values(locale=User.locale))
            key = session.scalar(
                select(ApiKey)
                .where(ApiKey.user_id == person.user_id, ApiKey.kind == "default")
                .order_by(ApiKey.id.desc())
                .limit(1)
            )
            if key is None:
                issued = self._keys.issue(session, person.user_id, DEFAULT_KEY, kind="default", keep_copy=True)
                details = {"after": {"name": DEFAULT_KEY, "hint": issued.hint, "user_id": person.user_id}}
                audit.note(session, Actor(person.username, person.user_id), "key_create", "key", issued.id, details)
                return issued.secret
            return self._keys.unseal(key.sealed) if key.sealed is not None and key.revoked_at is None else None

    def token(self, person: Person) -> str:
        """A signed token for the person, good for `token_minutes`."""
        now = datetime.fromtimestamp(clock.now_s(), UTC)
        with Session(self._engine) as session:
            version = session.scalar(select(User.token_version).where(User.id == person.user_id))
        claims = {
            "sub": person.username,
            "uid": person.user_id,
            "tv": version,
            "is_admin": person.role == "admin",
            "iat": now,
            "exp": now + timedelta(minutes=self._rules.token_minutes),
            "aud": self._rules.audience,
            "iss": self._rules.issuer,
            "jti": secrets.token_hex(16),
        }
        return jwt.encode(claims, self._rules.secret_keys[0], self._rules.algorithm)

    def caller_of(self, token: str) -> Caller:
        """Who signed in for this token.

        Raises:
            AuthenticationFailed: forged, expired, meant for somebody else, or void since the password changed.
        """
        try:
            claims = self._claims(token)
        except jwt.InvalidTokenError as exc:
            raise AuthenticationFailed("Could not validate credentials") from exc
        name = f"token {claims.get('uid')} {claims.get('tv')}"
        found = self._catalog.caller(name, lambda: self._find(claims.get("uid"), claims.get("tv")))
        if not isinstance(found, Caller):
            raise AuthenticationFailed("Could not validate credentials")
        return found

    def _claims(self, token: str) -> dict[str, Any]:
        """What a token says that one of the keys has signed."""
        for left, key in reversed(list(enumerate(reversed(self._rules.secret_keys)))):
            try:
                return jwt.decode(
                    token,
                    key,
                    algorithms=[self._rules.algorithm],
                    audience=self._rules.audience,
                    issuer=self._rules.issuer,
                    options={"require": ["exp", "iat", "sub", "aud", "iss", "jti"]},
                )
            except jwt.InvalidSignatureError:
                if not left:
                    raise
        raise jwt.InvalidTokenError("there is no key")

    def caller(self, person: Person) -> Caller:
        """The person as who asks, with the lists, budgets and limits of this moment.

        Raises:
            AuthenticationFailed: the account is gone, disabled or has expired.
        """
        with Session(self._engine) as session:
            user = session.get(User, person.user_id)
            if user is None or not _is_open(user):
                raise AuthenticationFailed("Could not validate credentials")
            return caller_of(session, user)

    def tokens_used(self, user_id: int) -> int:
        """All tokens a user has ever used."""
        with Session(self._engine) as session:
            return session.scalar(select(User.tokens_used).where(User.id == user_id)) or 0

    def begin_session(self, user_id: int, address: str, user_agent: str) -> str:
        """A browser has signed in; returns the secret its cookie carries."""
        token = secrets.token_urlsafe(32)
        with Session(self._engine) as session, session.begin():
            session.add(
                WebSession(
                    digest=digest_of(token), user_id=user_id, ip_address=address[:45], user_agent=user_agent[:255]
                )
            )
        return token

    def person_of_session(self, token: str) -> Person | None:
        """Whose session that is; None when it ended, was idle too long, or its user was disabled."""
        now = datetime.fromtimestamp(clock.now_s(), UTC)
        with Session(self._engine) as session, session.begin():
            row = session.execute(
                select(WebSession, User).join(User).where(WebSession.digest == digest_of(token))
            ).first()
            if row is None:
                return None
            browser, user = row
            if not _is_open(user) or now - browser.seen_at > IDLE or now - browser.created_at > LONGEST:
                session.delete(browser)
                return None
            if now - browser.seen_at > SEEN_EVERY:
                browser.seen_at = now
            return _person(user)

    def end_session(self, token: str) -> None:
        """Sign the browser out; its cookie is worth nothing from now on."""
        with Session(self._engine) as session, session.begin():
            session.execute(delete(WebSession).where(WebSession.digest == digest_of(token)))

    def tidy(self) -> None:
        """Remove sessions that ended by themselves and tries nobody remembers."""
        with Session(self._engine) as session, session.begin():
            session.execute(
                delete(WebSession).where(WebSession.seen_at < datetime.fromtimestamp(clock.now_s(), UTC) - IDLE)
            )
        self._throttle.forget_old()

    @contextmanager
    def _adding(self) -> Iterator[Session]:
        try:
            with Session(self._engine) as session, session.begin():
                yield session
        except IntegrityError as exc:
            raise InvalidRequest("Username already exists.", param="username", code="user_exists") from exc

    def _find(self, user_id: Any, token_version: Any) -> Caller | None:
        if not isinstance(user_id, int) or not isinstance(token_version, int):
            return None
        with Session(self._engine) as session:
            user = session.get(User, user_id)
            if user is None or not user.is_active or user.token_version != token_version:
                return None
            return caller_of(session, user)


def voided() -> dict[str, Any]:
    """The columns of a user from whom every token is taken, our own and those of an outside issuer."""
    return {"token_version": User.token_version + 1, "signed_out_at": clock.now()}


def check_name(username: object) -> str:
    """A user name that may be given.

    Raises:
        InvalidRequest: empty, too long, with spaces or control characters, or one of ours.
    """
    if not isinstance(username, str) or not NAME.fullmatch(username) or not username.isprintable():
        raise InvalidRequest(
            "A user name has 1 to 150 characters, without spaces, quotes, slashes or angle brackets.", param="username"
        )
    if username.lower() in RESERVED or username.lower().startswith(ERASED):
        raise InvalidRequest(f"The user name `{username}` is reserved.", param="username")
    return username


def _is_open(user: User) -> bool:
    """Whether the account may be used now."""
    return user.is_active and (user.expires_at is None or user.expires_at > clock.now())


def _add(session: Session, user: User) -> int:
    session.add(user)
    session.flush()
    return user.id


def _person(user: User) -> Person:
    return Person(user.id, user.username, user.role, user.must_change_password, user.locale)


def digest_of(token: str) -> str:
    """Under what a browser session is stored."""
    return hashlib.sha256(token.encode()).hexdigest()
