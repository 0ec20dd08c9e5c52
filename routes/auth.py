"""`/register` and `/login`, for people's programs; the browser's own sign-in is in routes/admin."""

from typing import Any

from flask import Blueprint, Response, request
from flask_babel import gettext

from routes import render
from services.audit import Actor
from services.errors import AuthenticationFailed, InvalidRequest, PermissionDenied
from utils import jsonx
from utils.extensions import gateway

bp = Blueprint("auth", __name__)

MAX_BODY_BYTES = 65_536
NO_STORE = {"cache-control": "no-store"}


@bp.post("/register")
def register() -> Response:
    """A new account and its API key, where registration is open or an `invitation` is sent."""
    if gateway().config.registration_mode == "closed":
        raise PermissionDenied("Registration is closed; ask an admin for an account.", code="registration_closed")
    given = fields()
    invitation = given.get("invitation")
    if not invitation and gateway().config.registration_mode == "invite":
        raise PermissionDenied(
            "Registration needs an `invitation`; ask an admin for one.", param="invitation", code="invitation_required"
        )
    if not given.get("username") or not given.get("password"):
        raise InvalidRequest("Invalid registration data")
    api_key = gateway().accounts.register(given["username"], given["password"], address(), invitation or None)
    gateway().audit.note(actor(str(given["username"])), "user_register", "user", given["username"])
    return render.answer({"message": gettext("User registered successfully"), "api_key": api_key}, 201, NO_STORE)


@bp.post("/login")
def login() -> Response:
    """A token and the user's default API key for a name and a password, as JSON or as a form."""
    given = fields()
    if not given.get("username") or not given.get("password"):
        raise InvalidRequest("Invalid login data")
    accounts = gateway().accounts
    try:
        person = gateway().sign_ins.sign_in(given["username"], given["password"], address())
    except AuthenticationFailed:
        gateway().audit.note(actor(str(given["username"])), "login_failed", "user")
        raise
    gateway().audit.note(actor(person.username, person.user_id), "login_success", "user", person.username)
    return render.answer(
        {
            "access_token": accounts.token(person),
            "token_type": "bearer",
            "expires_in": gateway().config.access_token_minutes * 60,
            "api_key": accounts.default_key(person),
            "message": gettext("Login successful"),
        },
        headers=NO_STORE,
    )


def address() -> str:
    """Where the request came from; behind proxies only as far as TRUSTED_PROXIES goes."""
    return request.remote_addr or ""


def actor(name: str, user_id: int | None = None) -> Actor:
    """Who acts in this request, for the audit log."""
    return Actor(name, user_id, address(), request.headers.get("user-agent"))


def fields() -> dict[str, Any]:
    """The members of a JSON object or the fields of a form; never of the query, which ends up in logs."""
    request.max_content_length = MAX_BODY_BYTES  # nobody has signed in yet
    if request.mimetype in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return request.form.to_dict()
    try:
        given = jsonx.loads(request.get_data())
    except jsonx.BadJson as exc:
        raise InvalidRequest("The body must be a JSON object or a form.") from exc
    if not isinstance(given, dict):
        raise InvalidRequest("The body must be a JSON object or a form.")
    return given
