"""Who may use the management APIs: an admin with a token of `/login`, or a program that knows ADMIN_PASS.

An API key never opens them, whoever it belongs to. Where nobody has set ADMIN_PASS, development and test also let in
who asks on this machine, from a program and not through a proxy, so that a first try needs no secret.
"""

import hmac
import ipaddress
from typing import Final

from services import rights
from services.audit import Actor, Audit
from services.callers import MAX_TOKEN, Callers, Headers, is_token
from services.errors import AuthenticationFailed, PermissionDenied
from services.throttle import Throttle

# They cannot be user names, which have no spaces.
PROGRAM: Final = "setting ADMIN_PASS"
NEIGHBOUR: Final = "this machine"
# Each says that somebody else is behind the connection: a page in a browser, or a client of a proxy.
BEHIND: Final = ("origin", "sec-fetch-site", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


class Admins:
    """See the module."""

    def __init__(self, callers: Callers, throttle: Throttle, audit: Audit, *, admin_pass: str, is_strict: bool) -> None:
        self._callers, self._throttle, self._audit = callers, throttle, audit
        self._admin_pass, self._is_open = admin_pass.encode(), not admin_pass and not is_strict

    def admit(self, headers: Headers, address: str, method: str) -> Actor:
        """Who manages, for the audit log; a person needs the right to requests of that method.

        Raises:
            AuthenticationFailed: no credential, or one that opens nothing here.
            PermissionDenied: a user without the right, which only admins have, and auditors that of reading.
            TooManyAttempts: ADMIN_PASS was guessed wrongly too often from there.
        """
        agent = headers.get("user-agent", "") or None
        if given := headers.get("authorization", ""):
            return self._by_token(given, address, agent, rights.needed(method))
        if self._admin_pass and (given := headers.get("x-api-key", "")):
            return self._by_pass(given, address, agent)
        if self._is_open and _is_near(headers, address):
            return Actor(NEIGHBOUR, None, address, agent)
        raise AuthenticationFailed(
            "Send an admin's token from /login as `Authorization: Bearer TOKEN`, or the value of the setting "
            "ADMIN_PASS as `X-API-KEY`.",
            code="admin_required",
        )

    def _by_token(self, given: str, address: str, agent: str | None, needed: str) -> Actor:
        scheme, _, token = given.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or len(token) > MAX_TOKEN or not is_token(token):
            raise AuthenticationFailed(
                "This needs an admin's token from /login as `Authorization: Bearer TOKEN`; an API key is not enough.",
                code="admin_required",
            )
        caller = self._callers.of(token)
        if not rights.has(caller.role, needed):
            raise PermissionDenied(f"`{caller.username}` is no admin.", code="admin_required")
        return Actor(caller.username, caller.user_id, address, agent)

    def _by_pass(self, given: str, address: str, agent: str | None) -> Actor:
        sent = given.encode("latin-1", "replace")  # as headers are decoded
        actor = Actor(PROGRAM, None, address, agent)
        if self._throttle.admit_secret("admin pass", address, lambda: hmac.compare_digest(sent, self._admin_pass)):
            return actor
        self._audit.note(actor, "login_failed", "token")
        raise AuthenticationFailed("The X-API-KEY is not the value of ADMIN_PASS.", code="admin_required")


def _is_near(headers: Headers, address: str) -> bool:
    """Whether a program on this machine asks under a name of this machine, which no page of a stranger can."""
    if not _is_loopback(address) or any(headers.get(name, "") for name in BEHIND):
        return False
    host = headers.get("host", "").lower()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name == "localhost" or _is_loopback(name)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
