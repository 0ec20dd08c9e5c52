"""Signing in with a name and a password that somebody else keeps: a back end that answers who that is.

Whoever has a password here is asked for that one, and it is sent to nobody. Every other name and password goes to the
back end; only people whom it calls staff get in. What it answers is believed in one form alone, and told to nobody.
"""

import logging
from typing import Any, Final
from urllib.parse import urlsplit

from services.accounts import Accounts, Person
from services.errors import AuthenticationFailed, InvalidRequest, UpstreamError
from services.outsiders import BACK_END, Claimed, Outsiders, is_subject
from services.transport import Transport
from utils import jsonx

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 5.0
MAX_BYTES: Final = 65_536
MAX_PAGES: Final = 200
LISTS: Final = ("results", "users")  # where an answer that is an object has its users
NUMBERS, NAMES = ("user_id", "id"), ("username", "name", "email")  # of one of them
OK: Final = 200
WRONG: Final = frozenset({400, 401, 403})  # what services answer to a wrong password
INCORRECT: Final = "Incorrect username or password"
NOT_STAFF: Final = "Your account may not sign in here: the login service does not call you staff."
STRANGER: Final = "The login service knows you, but no account here is linked with yours; ask an admin."
DISABLED: Final = "This account is disabled here; ask an admin."
AWAY: Final = "The login service does not answer as it should; please try again later."


class BackEnd:
    """A service that takes `{"username", "password"}` and answers `{"access", "is_staff", "user_id"}`."""

    def __init__(self, transport: Transport, url: str, users_url: str) -> None:
        self._transport, self._url, self._users_url = transport, url, users_url

    @property
    def has_list(self) -> bool:
        """Whether it can be asked for its users."""
        return bool(self._users_url)

    def ask(self, username: str, password: str) -> tuple[Claimed, str]:
        """Who has this name and password there, and the token that it gives them.

        Raises:
            AuthenticationFailed: nobody.
            UpstreamError: it is away, or says something else.
        """
        body = jsonx.dumps({"username": username, "password": password})
        try:
            status, answer = self._transport.post(self._url, body, timeout_s=TIMEOUT_S)
        except UpstreamError as exc:
            log.warning("the login service was not reached: %s", exc)
            raise UpstreamError(AWAY, code="login_service_away") from exc
        if status in WRONG:
            raise AuthenticationFailed(INCORRECT, code="invalid_credentials")
        found = _told(answer) if status == OK else None
        if found is None:
            log.warning("the login service answered %s, %s bytes that say nothing", status, len(answer))
            raise UpstreamError(AWAY, code="login_service_away")
        subject, is_staff, access = found
        return Claimed(BACK_END, subject, (username,), is_staff), access

    def users(self, access: str) -> list[Claimed]:
        """Everybody it has, for somebody with this token; pages of its own address are followed.

        Raises:
            UpstreamError: it is away, or says something else.
        """
        found: list[Claimed] = []
        url: Any = self._users_url
        for _page in range(MAX_PAGES):
            body = self._transport.get(url, timeout_s=TIMEOUT_S, headers={"authorization": f"Bearer {access}"})
            rows, url = _page_of(body)
            found += rows
            if url is None:
                return found
            if not isinstance(url, str) or urlsplit(url)[:2] != urlsplit(self._users_url)[:2]:
                break  # the token is for nobody else
        raise UpstreamError("The list of users goes on elsewhere, or has no end.", code="login_service_away")


class SignIns:
    """Signs people in: with a password of ours, else with one of the back end's, where there is one."""

    def __init__(self, accounts: Accounts, outsiders: Outsiders, back_end: BackEnd | None) -> None:
        self._accounts, self._outsiders, self._back_end = accounts, outsiders, back_end

    def sign_in(self, username: object, password: object, address: str) -> Person:
        """The person with this name and password.

        Raises:
            AuthenticationFailed: nobody, or somebody who may not sign in; its `code` says which.
            TooManyAttempts: wait first; tries with the back end count as others do.
            UpstreamError: the back end does not answer as it should.
        """
        try:
            return self._accounts.sign_in(username, password, address)
        except AuthenticationFailed:
            if self._back_end is None or self._accounts.is_known(username):
                raise
        name = str(username)
        who, _access = self._back_end.ask(name, str(password))
        self._accounts.forgive(name, address)
        if not who.is_admin:
            raise AuthenticationFailed(NOT_STAFF, code="not_staff")
        number = self._outsiders.enter(who)
        if number is None:
            raise AuthenticationFailed(STRANGER, code="identity_unknown")
        person = self._accounts.person(number)
        if person is None:
            raise AuthenticationFailed(DISABLED, code="account_disabled")
        return person

    def pull(self, username: str, password: str) -> tuple[int, int]:
        """Make an account for everybody whom the back end lists for this person: how many are new, of how many.

        Raises:
            InvalidRequest: there is no back end, or its list has no address.
            AuthenticationFailed, UpstreamError: see `sign_in`.
        """
        if self._back_end is None or not self._back_end.has_list:
            raise InvalidRequest("Set AUTH_BACKEND=http, BACKEND_AUTH_URL and BACKEND_USERS_URL first.")
        _who, access = self._back_end.ask(username, password)
        listed = self._back_end.users(access)
        return sum(self._outsiders.admit(who) for who in listed), len(listed)


def _page_of(body: bytes) -> tuple[list[Claimed], Any]:
    """The users of a page, and the address of the next one; None = it is the last.

    Raises:
        UpstreamError: it is no list of users.
    """
    try:
        found: Any = jsonx.loads(body)
    except jsonx.BadJson as exc:
        raise UpstreamError("The list of users is no JSON.") from exc
    after = found.get("next") if isinstance(found, dict) else None
    rows = next((found[name] for name in LISTS if name in found), None) if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UpstreamError("The list of users is no list of objects.")
    users = [_listed(row) for row in rows]
    if None in users:
        raise UpstreamError("The list of users has somebody without a number.")
    return [user for user in users if user is not None], after


def _listed(row: dict[str, Any]) -> Claimed | None:
    subject = next((_subject(row[name]) for name in NUMBERS if name in row), "")
    names = tuple(row[name] for name in NAMES if isinstance(row.get(name), str))
    return Claimed(BACK_END, subject, names, row.get("is_staff") is True) if subject else None


def _subject(number: object) -> str:
    """A number as it is stored; empty = it is none."""
    subject = str(number) if isinstance(number, int | str) and not isinstance(number, bool) else ""
    return subject if is_subject(subject) else ""


def _told(answer: bytes) -> tuple[str, bool, str] | None:
    """Subject, whether it is staff, and token of an answer; None = it is none of ours."""
    try:
        found: Any = jsonx.loads(answer) if len(answer) <= MAX_BYTES else None
    except jsonx.BadJson:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("access"), str):
        return None
    subject, is_staff = _subject(found.get("user_id")), found.get("is_staff")
    if not subject or not isinstance(is_staff, bool):
        return None
    return subject, is_staff, found["access"]
