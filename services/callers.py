"""Who is calling: one resolver for every kind of credential and every header it may come in."""

import re
from datetime import UTC, datetime
from typing import Final, Protocol

from services import access, keys, rights
from services.accounts import Accounts
from services.catalog import Catalog
from services.errors import AuthenticationFailed, PermissionDenied
from services.keys import Keys
from services.outside import Outside
from services.types import Caller
from utils import clock

ALLOWED: Final = re.compile(r"[A-Za-z0-9_\-.]+")
KEY_HEADERS: Final = ("x-api-key", "api-key")  # Anthropic's and Azure's SDKs
MAX_CHARS: Final = 4096
MAX_TOKEN: Final = 8000  # characters; servers take no longer headers
MIN_STRICT: Final = 16


class Headers(Protocol):
    """The headers of a request, whatever the server keeps them in; names are not case-sensitive."""

    def get(self, key: str, default: str, /) -> str:
        """One header."""
        ...


class Callers:
    """Turns request headers into a Caller."""

    def __init__(self, catalog: Catalog, keys_: Keys, accounts: Accounts, outside: Outside, *, is_strict: bool) -> None:
        self._catalog, self._keys, self._is_strict = catalog, keys_, is_strict
        self._accounts, self._outside = accounts, outside

    def identify(self, headers: Headers) -> Caller:
        """Who sent a request with these headers.

        Raises:
            AuthenticationFailed: its `code` says what is wrong with the credential.
        """
        return self.of(self._credential(headers))

    def check_access(self, caller: Caller, method: str, path: str, address: str) -> None:
        """Whether the caller may send this request from there: see services/access.py.

        Raises:
            PermissionDenied: a list of paths or addresses does not have it.
        """
        try:
            access.check(caller, method, path, address)
        except PermissionDenied as exc:
            exc.refuse(caller)
            raise

    def identify_admin(self, headers: Headers, method: str) -> Caller:
        """The admin who sent a request with these headers and a token of `/login`, or an auditor who only reads.

        Raises:
            AuthenticationFailed: see `identify`.
            PermissionDenied: anybody else, or somebody with an API key, which programs have.
        """
        return self._identify(headers, rights.needed(method))

    def identify_team_admin(self, headers: Headers, method: str) -> Caller:
        """The same, or the admin of some team; whose team that is the view has to look.

        Raises:
            AuthenticationFailed, PermissionDenied: see `identify_admin`.
        """
        return self._identify(headers, rights.needed(method), rights.TEAM)

    def _identify(self, headers: Headers, *needed: str) -> Caller:
        found = self.identify(headers)
        if not any(rights.has(found.role, right) for right in needed):
            raise PermissionDenied("Only admins may do this.")
        if found.key_id is not None:
            raise PermissionDenied("An API key may not do this: send the token that /login gives an admin.")
        return found

    def identify_person(self, headers: Headers) -> Caller:
        """The person who sent a request with these headers and a token of `/login`.

        Raises:
            AuthenticationFailed: see `identify`.
            PermissionDenied: an API key, which programs have.
        """
        found = self.identify(headers)
        if found.key_id is not None:
            raise PermissionDenied("An API key may not do this: send the token that /login gives.")
        return found

    def of(self, credential: str) -> Caller:
        """Whose credential that is.

        Raises:
            AuthenticationFailed: see `identify`.
        """
        return self._checked(self._by_token(credential) if is_token(credential) else self._by_key(credential))

    def again(self, user_id: int, key_id: int | None) -> Caller:
        """Who once came with that key, or signed in without one, as of now.

        Raises:
            AuthenticationFailed: the key or the user is gone, or void.
        """
        found = self._catalog.caller(f"again {user_id} {key_id}", lambda: self._keys.find_numbered(user_id, key_id))
        return self._checked(_open(found))

    def _checked(self, found: Caller) -> Caller:
        """The caller, whose time is not over."""
        if found.expires_at_s is not None and found.expires_at_s <= clock.now_s():
            what = "API key" if found.key_id is not None else f"account `{found.username}`"
            day = f"{datetime.fromtimestamp(found.expires_at_s, UTC):%Y-%m-%d %H:%M} UTC"
            expired = AuthenticationFailed(f"The {what} is not valid: it expired on {day}.", code="key_expired")
            if found.key_id is not None:
                expired.refuse(found)
            raise expired
        if found.key_id is not None:
            self._keys.mark_used(found.key_id)
        return found

    def _by_token(self, token: str) -> Caller:
        return (self._outside if self._outside.takes(token) else self._accounts).caller_of(token)

    def _by_key(self, credential: str) -> Caller:
        if credential.startswith(keys.PREFIX) and not keys.is_well_formed(credential):
            raise AuthenticationFailed("The API key is not valid: it was cut or mistyped.")
        digest = self._keys.digest(credential)
        found = self._catalog.caller(digest, lambda: self._keys.find(digest, *self._keys.former_digests(credential)))
        return _open(found)

    def _credential(self, headers: Headers) -> str:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            key = next((key for name in KEY_HEADERS if (key := headers.get(name, ""))), "")
            if not key and scheme:
                raise AuthenticationFailed(
                    "The Authorization header must read `Bearer YOUR_API_KEY`.", code="invalid_auth_format"
                )
            if not key:
                raise AuthenticationFailed(
                    "No API key was given: send it as `Authorization: Bearer YOUR_API_KEY`.", code="missing_api_key"
                )
            given = key
        credential = given.strip()
        most = MAX_TOKEN if is_token(credential) else MAX_CHARS
        if len(credential) > most or not ALLOWED.fullmatch(credential):
            raise AuthenticationFailed("The API key has characters that no key has.", code="invalid_key_format")
        if self._is_strict and len(credential) < MIN_STRICT:
            raise AuthenticationFailed("The API key is too short to be one.", code="invalid_key_length")
        return credential


def _open(found: Caller | str | None) -> Caller:
    """The caller that was found, unless there is none or it is refused."""
    if found is None:
        raise AuthenticationFailed("The API key is not valid.")
    if isinstance(found, str):
        void = AuthenticationFailed(f"The API key is not valid: {found}.", code="key_revoked")
        if isinstance(found, keys.Void):
            void.refuse(found, rule=found.rule)
        raise void
    return found


def is_token(credential: str) -> bool:
    """Whether it looks like a signed token, a JWT."""
    return credential.startswith("eyJ") and credential.count(".") == 2  # noqa: PLR2004 - it has three parts
