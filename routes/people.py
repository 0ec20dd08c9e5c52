"""`/users` and `/usage`: oneself, one's usage and password, and what admins do with users."""

from typing import Any, Final

from flask import Blueprint, Response, request
from flask_babel import gettext

from routes import asked, auth, bodies, render, serving
from services import fields, people, periodusage, rights
from services.errors import AuthenticationFailed, InvalidRequest, PermissionDenied
from services.passwords import check_new
from services.types import Caller
from utils.decorators import require_admin_token, require_api_key, require_token
from utils.extensions import gateway

bp = Blueprint("people", __name__)

FLAGS: Final = {"true": True, "false": False, "1": True, "0": False}  # as forms have them
PASSWORDS: Final = ("password", "current_password", "new_password")


@bp.get("/users/me")
@require_api_key
def me(caller: Caller) -> Response:
    """Who one is; of the default key only its hint."""
    headers = serving.counted(caller)
    hint = people.hint_of(gateway().engine, caller.user_id)
    language = {"language": people.tag(caller.locale)}
    return render.answer(people.short(caller.username, hint, caller.role) | language, headers=headers)


@bp.patch("/users/me")
@require_token
def change_me(caller: Caller) -> Response:
    """Choose the language that one is answered in, whatever a request asks for; null: the one of each request."""
    given = bodies.members()
    if "language" not in given:
        raise InvalidRequest("The body must have a `language`: en, pt-BR or null.", param="language")
    chosen = fields.read({"language": people.locale}, given).values.get("language")
    gateway().people.speak(auth.actor(caller.username, caller.user_id), caller.user_id, chosen)
    return render.answer({"username": caller.username, "language": people.tag(chosen)})


@bp.get("/users/usage/<username>")
@bp.get("/usage/<username>")
@require_api_key
def usage(caller: Caller, username: str) -> Response:
    """The tokens of oneself, or of anybody for who sees everything, signed in; `start_date` and `end_date` are days."""
    headers = serving.counted(caller)
    is_own = username == caller.username
    if not is_own and (caller.key_id is not None or not rights.has(caller.role, rights.READ)):
        raise PermissionDenied("Only admins see what others use, with the token of /login.")
    given = {name: request.args.get(name) or None for name in ("start_date", "end_date")}
    days = periodusage.span(given["start_date"], given["end_date"])
    number = caller.user_id if is_own else people.number_of(gateway().engine, username)
    used = periodusage.of_user(gateway().engine, number, days)
    kinds = {"PROMPT": used.prompt, "COMPLETION": used.completion, "CACHED": used.cached}
    return render.answer({"username": username, "current_usage": kinds, "period": given}, headers=headers)


@bp.post("/users/password")
@require_token
def password(caller: Caller) -> Response:
    """A new password for oneself; it ends every token and browser session, that of this request too."""
    given = _body()
    current, new = given.get("current_password"), given.get("new_password")
    if not isinstance(current, str) or not current:
        raise InvalidRequest("The body must have `current_password` and `new_password`.", param="current_password")
    good = check_new(new)
    accounts = gateway().accounts
    by = auth.actor(caller.username, caller.user_id)
    try:
        accounts.sign_in(caller.username, current, auth.address())  # counts as a try, so it cannot be guessed
    except AuthenticationFailed as exc:
        gateway().audit.note(by, "login_failed", "user", None, {"reason": "password change"})
        raise InvalidRequest(
            "Invalid current password", param="current_password", code="invalid_current_password"
        ) from exc
    accounts.set_password(caller.user_id, good)
    gateway().audit.note(by, "password_change", "user", caller.username)
    gateway().catalog.refresh()
    return render.answer({"message": gettext("Password updated successfully")}, headers=auth.NO_STORE)


@bp.post("/users/create")
@require_admin_token
def create(caller: Caller) -> Response:
    """A new user: username, password, is_admin; also role, team, allowed_models."""
    body = _body()
    by = auth.actor(caller.username, caller.user_id)
    made = gateway().people.create(by, body)
    return render.answer({"message": gettext("User %(name)s created successfully", name=made)})


@bp.get("/users/all")
@require_admin_token
def everybody(_caller: Caller) -> Response:
    """All users by name: everybody, or `limit` of them from `offset` on; a header says how many there are."""
    limit = asked.whole("limit", None, least=1, most=asked.MAX_LIMIT)
    skip = asked.whole("offset", 0, most=asked.MAX_SKIP) or 0
    found, total = people.listed(gateway().engine, skip=skip, limit=limit)
    return render.answer(found, headers={"x-total-count": str(total)})


@bp.get("/users/<username>")
@require_admin_token
def show(_caller: Caller, username: str) -> Response:
    """One user with role, state, team and the models it may use."""
    return render.answer(people.shown(gateway().engine, username))


@bp.patch("/users/<username>")
@require_admin_token
def change(caller: Caller, username: str) -> Response:
    """Change role, state, team, or the models a user may use."""
    by = auth.actor(caller.username, caller.user_id)
    return render.answer(gateway().people.change(by, username, _body()))


@bp.delete("/users/<username>")
@require_admin_token
def delete(caller: Caller, username: str) -> Response:
    """Remove a user."""
    gateway().people.delete(auth.actor(caller.username, caller.user_id), username)
    return render.answer({"message": gettext("User %(name)s deleted successfully", name=username)})


def _body() -> dict[str, Any]:
    """The members of the body, with the words of forms for true and false as such.

    Raises:
        InvalidRequest: no object and no form, or a password in the query.
    """
    if any(name in request.args for name in PASSWORDS):
        raise InvalidRequest("Passwords are taken from the body only, as JSON or a form: a query ends up in logs.")
    given = auth.fields()
    for name in ("is_admin", "is_active") if request.form else ():
        if name in given:
            given[name] = FLAGS.get(str(given[name]).lower(), given[name])
    return given
