"""Guards of routes."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

from flask import request

from utils import native
from utils.extensions import LOCALE, gateway, this_request

if TYPE_CHECKING:
    from services.audit import Actor
    from services.types import Caller

CALLER: Final = "tollhouse.caller"  # in the WSGI environment, where routes/early.py has asked already
WHO: Final = "tollhouse.who"  # there too: the ids of the user and the key whose request it is, for the log
P = ParamSpec("P")
T = TypeVar("T")


def require_api_key(view: "Callable[Concatenate[Caller, P], T]") -> Callable[P, T]:
    """The view's first argument is who calls; without a good credential that may do this, it is not reached.

    Raises:
        AuthenticationFailed, PermissionDenied: rendered in the dialect of the route's surface.
    """

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        asked, callers = this_request(), gateway().callers
        caller = asked.environ.get(CALLER)
        if caller is None:
            native.give_way()  # a refusal waits for nothing, and a flood of them must not keep others waiting
            caller = callers.identify(asked.headers)
        _speak(caller)
        callers.check_access(caller, asked.method, asked.path, asked.remote_addr or "")
        return view(caller, *args, **kwargs)

    return guarded


def require_admin(view: "Callable[Concatenate[Actor, P], T]") -> Callable[P, T]:
    """The view's first argument is the admin or program that manages, as the audit log names it; auditors may read.

    Raises:
        AuthenticationFailed, PermissionDenied, TooManyAttempts: see services/admins.py.
    """

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        native.give_way()
        actor = gateway().admins.admit(request.headers, request.remote_addr or "", request.method)
        request.environ[WHO] = actor.user_id, None
        return view(actor, *args, **kwargs)

    return guarded


def require_admin_token(view: "Callable[Concatenate[Caller, P], T]") -> Callable[P, T]:
    """The view's first argument is an admin who has signed in, or an auditor where the view only reads.

    Anybody else does not reach it, with a key or without.

    Raises:
        AuthenticationFailed, PermissionDenied: rendered in the dialect of the route's surface.
    """

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        native.give_way()
        return view(_speak(gateway().callers.identify_admin(request.headers, request.method)), *args, **kwargs)

    return guarded


def require_team_token(view: "Callable[Concatenate[Caller, P], T]") -> Callable[P, T]:
    """The same for views about one team, which the admins of that team reach as well; services/members.py looks whose.

    Raises:
        AuthenticationFailed, PermissionDenied: rendered in the dialect of the route's surface.
    """

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        native.give_way()
        return view(_speak(gateway().callers.identify_team_admin(request.headers, request.method)), *args, **kwargs)

    return guarded


def require_token(view: "Callable[Concatenate[Caller, P], T]") -> Callable[P, T]:
    """The view's first argument is a person who has signed in; it is about themselves, so no list of paths counts.

    Raises:
        AuthenticationFailed, PermissionDenied: rendered in the dialect of the route's surface.
    """

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        native.give_way()
        return view(_speak(gateway().callers.identify_person(request.headers)), *args, **kwargs)

    return guarded


def _speak(caller: "Caller") -> "Caller":
    """Answer in the language that the caller chose, if any, and note in the log who it is."""
    environ = this_request().environ
    environ[WHO] = caller.user_id, caller.key_id
    if caller.locale:
        environ[LOCALE] = caller.locale
    return caller
