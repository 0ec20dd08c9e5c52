"""Errors of the key management API: `type`, `title`, `status`, `detail`, `instance`, as its clients know them.

They are also problem bodies of RFC 9457; `errors` is an extension that gives the reason for each bad member.
"""

from http import HTTPStatus
from typing import Any, Final, NamedTuple

from flask import request

from services.errors import FieldsInvalid, GatewayError

MAX_INSTANCE: Final = 200
SERVER_ERROR: Final = 500


class Attempt(NamedTuple):
    """What a request wanted: how its errors are called."""

    failure: str  # the type, when the fault is ours
    failed: str  # and its title
    invalid: str  # the title of what was wrong with the body
    refusal: str = "/errors/validation"  # and its type


_KEYS: Final = {
    "GET": Attempt("/errors/getting-keys", "getting keys errored out", "get keys request validation failed"),
    "PATCH": Attempt("/errors/key-manager", "update key error", "key validation failed"),
    "DELETE": Attempt("/errors/key-manager", "key deletion error", "key validation failed"),
    "": Attempt("/errors/key-manager", "key creation error", "key validation failed"),
}
_USERS: Final = {
    "GET": Attempt("/errors/getting-users", "getting users errored out", "get users request validation failed"),
    "PATCH": Attempt("/errors/user-manager", "update user error", "update user validation failed"),
    "DELETE": Attempt("/errors/user-manager", "user deletion error", "user validation failed"),
    "": Attempt("/errors/user-manager", "user creation error", "create user validation failed"),
}
_SETTINGS: Final = {
    "GET": Attempt("/errors/getting-provider-settings", "getting provider settings errored out", "bad query param"),
    "PATCH": Attempt("/errors/provider-settings-manager", "update provider setting error", "setting validation failed"),
    "": Attempt("/errors/provider-settings-manager", "provider setting creation error", "setting validation failed"),
}
_ROUTES: Final = {
    "GET": Attempt("/errors/route-manager", "getting a route error", "route validation failed"),
    "PATCH": Attempt("/errors/route-manager", "updating a route error", "route validation failed"),
    "DELETE": Attempt("/errors/route-manager", "deleting a route error", "route validation failed"),
    "": Attempt("/errors/route-manager", "creating a route error", "route validation failed"),
}
_POLICIES: Final = {
    "GET": Attempt("/errors/getting-policies", "getting policies failed", "policy validation failed"),
    "PATCH": Attempt("/errors/policie/updates", "update a policy failed", "policy validation failed"),
    "DELETE": Attempt("/errors/policy-manager", "deleting a policy failed", "policy validation failed"),
    "": Attempt("/errors/policy-manager", "creating a policy failed", "policy validation failed"),
}
_REPORTS: Final = {
    "": Attempt(
        *("/errors/event-reporting-manager", "event reporting error", "invalid reporting request"),
        refusal="/errors/invalid-reporting-request",
    )
}
_EVENTS: Final = {"": Attempt("/errors/event-manager", "getting events error", "get events request validation failed")}
REPORTS: Final = "/api/reporting"
EVENTS: Final = ("/api/events", "/api/v2/events")
SETTINGS: Final = "/api/provider-settings"
POLICIES: Final = "/api/policies"
ROUTES: Final = "/api/routes"
SEARCHES: Final = "/api/v2/key-management"
USERS: Final = "/api/users"
NAMED: Final = {  # by the code of an error; others are named after their code and their status
    "json_unmarshal": ("/errors/json-unmarshal", "json unmarshaller error"),
    "request_too_large": ("/errors/request-body-read", "request body reader error"),
    "missing_query_tag": ("/errors/missing-query-tag", "tag is empty"),
    "missing_param_id": ("/errors/missing-param-id", "id is empty"),
    "missing_user_id": ("/errors/missing-user-id", "missing user id"),
    "missing_key_id": ("/errors/missing-key-id", "key id query param is missing"),
    "no_filters_empty": ("/errors/no-filters-empty", "none of customId, keyIds and userId is specified"),
    "query_param_start_missing": ("/errors/query-param-start-missing", "query param start is missing"),
    "query_param_end_missing": ("/errors/query-param-end-missing", "query param end is missing"),
    "bad_start_query_param": ("/errors/bad-start-query-param", "start query cannot be parsed"),
    "bad_end_query_param": ("/errors/bad-end-query-param", "end query cannot be parsed"),
    "bad_filters": ("/errors/bad-filters", "bad query param"),
    "setting_not_found": ("/errors/provider-setting-not-found", "provider setting is not found"),
    "key_not_found": ("/errors/key-not-found", "key is not found"),
    "policy_not_found": ("/errors/policy-not-found", "policy is not found"),
    "route_not_found": ("/errors/route-not-found", "route is not found"),
    "duplicate_route": ("/errors/duplicate-route", "route is a duplicate"),
    "user_not_found": ("/errors/user-not-found", "user is not found"),
    "duplicate_key": ("/errors/duplicate-key", "key is a duplicate"),
    "duplicate_setting": ("/errors/duplicate-provider-setting", "provider setting is a duplicate"),
    "duplicate_user": ("/errors/duplicate-user", "user is a duplicate"),
}


def body(exc: GatewayError) -> dict[str, Any]:
    """The body of an error."""
    kind, title = _name(exc)
    found = {
        "type": kind,
        "title": title,
        "status": exc.status,
        "detail": str(exc),
        "instance": request.path[:MAX_INSTANCE],
    }
    return found | {"errors": exc.details} if isinstance(exc, FieldsInvalid) else found


def is_call() -> bool:
    """Whether the request is a call by a route's path, and not about routes."""
    return request.method == "POST" and request.path.startswith(f"{ROUTES}/")


def _name(exc: GatewayError) -> tuple[str, str]:
    code, attempt = exc.code or "", _attempt()
    if exc.status >= SERVER_ERROR:
        return attempt.failure, attempt.failed
    if code == "validation_error":
        return attempt.refusal, attempt.invalid
    return NAMED.get(code) or (f"/errors/{code.replace('_', '-')}", HTTPStatus(exc.status).phrase.lower())


def _attempt() -> Attempt:
    method = "GET" if request.path.startswith(SEARCHES) or request.method == "HEAD" else request.method
    tables = {USERS: _USERS, SETTINGS: _SETTINGS, ROUTES: _ROUTES, POLICIES: _POLICIES, REPORTS: _REPORTS}
    tables |= dict.fromkeys(EVENTS, _EVENTS)
    table = next((table for start, table in tables.items() if request.path.startswith(start)), _KEYS)
    return table.get(method, table[""])
