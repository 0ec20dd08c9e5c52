"""Tokens that somebody else signed: an issuer whose keys are public, or a back end that shares a secret with us.

What a token may be is fixed here before anything in it is believed: the algorithm by the kind of key, the key by the
settings. Headers that bring a key or an address of one are not read. Everything wrong gives the same answer.
"""

import base64
import binascii
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import jwt
from jwt.types import Options

from models import User
from services.catalog import Catalog
from services.errors import AuthenticationFailed
from services.jwks import KeySet
from services.keys import caller_of
from services.outsiders import BACK_END, Claimed, Outsiders, is_subject
from services.types import Caller
from utils import jsonx

log = logging.getLogger(__name__)

REFUSED: Final = "Could not validate credentials"
SHARED: Final = "HS256"
PUBLISHED: Final = ("RS256", "ES256")
MIN_SECRET: Final = 32  # characters
LEEWAY_S: Final = 10  # clocks of two hosts differ
TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})  # not those of logging out, or of other events
USES: Final = frozenset({"access", "bearer"})  # of `token_type`: a back end's tokens for refreshing live for months
OURS: Final = "tv"  # a claim that only tokens of our own have
SUBJECTS: Final = ("user_id", "sub")  # the first one that is there
ADMINS: Final = ("is_admin", "is_staff")
NAMES: Final = ("preferred_username", "username", "email")


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe. Empty = nobody; `issuer` and `audience`: what tokens must say, empty = anything."""

    shared_secret: str = ""
    key_set: KeySet | None = None
    issuer: str = ""
    audience: str = ""
    name: str = ""  # of the issuer with the public keys, in our tables


@dataclass(frozen=True, slots=True)
class Vouched(Caller):
    """A caller with a token of somebody else, and from when on such tokens count."""

    void_until_ms: int = 0


class Outside:
    """See the module."""

    def __init__(self, catalog: Catalog, outsiders: Outsiders, trust: Trust) -> None:
        self._catalog, self._outsiders, self._trust = catalog, outsiders, trust
        self._is_shared = len(trust.shared_secret) >= MIN_SECRET
        self._is_on = self._is_shared or trust.key_set is not None
        demanded = {"iss": trust.issuer, "aud": trust.audience}
        self._options: Options = {
            "require": ["exp", "iat", *(name for name, value in demanded.items() if value)],
            "verify_aud": bool(trust.audience),
            "verify_sub": False,  # both may be numbers: the subject is looked at by `claimed`
            "verify_jti": False,
        }

    def takes(self, token: str) -> bool:
        """Whether the token would have to be somebody else's; nothing in it is believed for that."""
        if not self._is_on:
            return False
        return _part(token, 0).get("alg") != SHARED or (self._is_shared and OURS not in _part(token, 1))

    def caller_of(self, token: str) -> Caller:
        """Who signed in elsewhere for this token.

        Raises:
            AuthenticationFailed: forged, expired, for somebody else, of nobody we know, or void since that user was
                signed out; always in the same words.
        """
        try:
            claims, issuer = self._verified(token)
            who = claimed(claims, issuer)
            issued_ms = int(claims["iat"]) * 1000
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as exc:
            log.debug("outside token refused: %s", exc)
            raise AuthenticationFailed(REFUSED) from exc
        name = "\0".join(("outside", str(who.is_admin), who.issuer, who.subject))
        found = self._catalog.caller(name, lambda: self._find(who))
        if not isinstance(found, Vouched) or issued_ms <= found.void_until_ms:
            raise AuthenticationFailed(REFUSED)
        return found

    def _verified(self, token: str) -> tuple[dict[str, Any], str]:
        """The claims of a good token, and whose they are.

        Raises:
            PyJWTError, ValueError, TypeError, OverflowError: it is not good.
        """
        header = _part(token, 0)
        algorithm = header.get("alg")
        if "crit" in header or str(header.get("typ", "")).lower() not in TYPES:
            raise ValueError("it has a meaning that is not known here")
        key, issuer = self._key(algorithm, header.get("kid"))
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[str(algorithm)],
            audience=self._trust.audience or None,
            issuer=self._trust.issuer or None,
            leeway=LEEWAY_S,
            options=self._options,
        )
        if str(claims.get("token_type", "access")).lower() not in USES:
            raise ValueError("it is for something else, such as for getting new ones")
        if OURS in claims:
            raise ValueError("it says that it is one of ours")
        return claims, issuer

    def _key(self, algorithm: object, name: object) -> tuple[Any, str]:
        """What checks signatures by this algorithm, and whose they are.

        Raises:
            ValueError: nothing does.
        """
        if algorithm == SHARED and self._is_shared:
            return self._trust.shared_secret, BACK_END
        if algorithm in PUBLISHED and self._trust.key_set is not None and (name is None or isinstance(name, str)):
            key = self._trust.key_set.find(str(algorithm), name)
            if key is not None:
                return key, self._trust.name
        raise ValueError("no key for it")

    def _find(self, who: Claimed) -> Caller | None:
        with self._outsiders.user(who) as (session, user):
            if user is None or not user.is_active:
                return None
            known = caller_of(session, user)
            return _vouched(known, user, who)


def claimed(claims: Mapping[str, Any], issuer: str) -> Claimed:
    """Who the claims speak of.

    Raises:
        ValueError: nobody that can be stored.
    """
    subject = next((claims[name] for name in SUBJECTS if name in claims), None)
    if isinstance(subject, int) and not isinstance(subject, bool):
        subject = str(subject)
    if not isinstance(subject, str) or not is_subject(subject):
        raise ValueError("it says not for whom it is")
    names = tuple(claims[name] for name in NAMES if isinstance(claims.get(name), str))
    return Claimed(issuer, subject, names, any(claims.get(name) is True for name in ADMINS))


def _vouched(known: Caller, user: User, who: Claimed) -> Vouched:
    """An admin here is one with such a token only if the token says so too."""
    values = {one.name: getattr(known, one.name) for one in fields(known)}
    until_ms = 0 if user.signed_out_at is None else int(user.signed_out_at.timestamp() * 1000)
    vouched = Vouched(**values, void_until_ms=until_ms)
    return vouched if who.is_admin or known.role != "admin" else replace(vouched, role="user")


def _part(token: str, place: int) -> dict[str, Any]:
    """A part of a token, as it says; empty where it is none. Only for choosing who checks it, and how."""
    text = token.split(".")[place]
    try:
        found = jsonx.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (jsonx.BadJson, binascii.Error, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
