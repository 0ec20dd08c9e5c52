"""Signing in and out with a browser, one's own password, and how the panel looks to oneself.

The cookie carries nothing but the token of a session that the database knows: signing out, a new password or a
disabled account ends it at once, whoever keeps a copy of the cookie.
"""

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, session, url_for
from flask_login import login_user, logout_user
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from routes import auth, wording
from routes.admin import drafts, forms
from routes.admin.guard import SignedIn, go, person
from routes.admin.texts import gettext
from services.accounts import Person
from services.errors import AuthenticationFailed, GatewayError, TooManyAttempts
from utils import clock
from utils.decorators import WHO
from utils.extensions import PAGES, gateway, login_manager

bp = Blueprint("signin", __name__, url_prefix="/admin")

HOME: Final = "admin.index"
THEMES: Final = ("auto", "light", "dark")
THEME_COOKIE: Final = "tollhouse_theme"
LANGUAGES: Final = {"en": "English", "pt_BR": "Português"}
YEAR_S: Final = 365 * 86_400
WAITING: Final = "waiting"  # in the cookie: whose second step is due
OPENID: Final = "openid"  # there too: that the provider has a session as well
OWN_PAGES: Final = ("signin.password", "signin.account", "signin.second_factor")


@login_manager.user_loader  # type: ignore[untyped-decorator, unused-ignore]  # the package ships no types
def load(token: str) -> SignedIn | None:
    """Whose browser session that is."""
    found = gateway().accounts.person_of_session(token)
    if found is not None:
        request.environ[WHO] = found.user_id, None
    return SignedIn(found, token) if found is not None else None


@bp.route("/login", methods=["GET", "POST"])
def login() -> Any:
    """The sign-in page."""
    target = local_path(request.values.get("next", ""))
    if request.method == "GET":
        return redirect(target) if person() is not None else render_template("admin/login.html", target=target)
    name, password = request.form.get("username", "").strip(), request.form.get("password", "")
    problem, status, wait_s = "", HTTPStatus.UNAUTHORIZED, None
    try:
        found = gateway().sign_ins.sign_in(name, password, auth.address())
    except TooManyAttempts as exc:
        wait_s = exc.retry_after_s or 1
        status, problem = (
            HTTPStatus.TOO_MANY_REQUESTS,
            gettext("Too many tries. Please wait %(seconds)s s.", seconds=wait_s),
        )
    except GatewayError as exc:
        problem = wording.say(str(exc))
    else:
        return enter(found, target)
    gateway().audit.note(auth.actor(name), "login_failed", "user", None, {"reason": status.phrase})
    headers = {"retry-after": str(wait_s)} if wait_s is not None else {}
    page = render_template("admin/login.html", target=target, username=name, problem=problem)
    return page, status, headers


def enter(found: Person, target: str, how: str = "password") -> AnyResponse:
    """Somebody has shown who they are: in, or to the second step, before which there is no session."""
    if not gateway().second_factors.is_set(found.user_id):
        return let_in(found, target, how)
    session.clear()
    session[WAITING] = {"user": found.user_id, "since": clock.now_s(), "target": target, "how": how}
    # A form that waits to come back is too long for a cookie or an address: the page carries it on.
    return current_app.make_response(render_template("admin/code.html")) if _draft() else go("signin.code")


def let_in(found: Person, target: str, how: str) -> AnyResponse:
    """A session for somebody who has shown all that is asked for."""
    who = auth.actor(found.username, found.user_id)
    details = {"with": how} if how != "password" else None
    gateway().audit.note(who, "login_success", "user", found.username, details)
    _begin(found.user_id)
    if how.startswith("openid"):
        session[OPENID] = True
    if draft := _draft():
        return current_app.make_response(render_template("admin/resume.html", target=target, draft=draft))
    return redirect(target, 303)


@bp.post("/logout")
def logout() -> AnyResponse:
    """Sign this browser out."""
    found, is_by_provider = person(), bool(session.get(OPENID)) and gateway().openid is not None
    if found is not None:
        gateway().audit.note(auth.actor(found.username, found.user_id), "logout", "user", found.username)
        gateway().accounts.end_session(str(session.get("_user_id", "")))
        logout_user()
    session.clear()
    return go("signin.signed_out" if is_by_provider else "signin.login")


@bp.route("/password", methods=["GET", "POST"])
def password() -> Any:
    """A new password for oneself; every other browser is signed out."""
    found = person()
    if found is None:
        return redirect(url_for("signin.login"))
    form = forms.PasswordChange(request.form if request.method == "POST" else None)
    if request.method == "POST" and form.validate():
        accounts = gateway().accounts
        try:
            accounts.sign_in(
                found.username, form.current.data, auth.address()
            )  # counts as a try, so it cannot be guessed
            accounts.set_password(found.user_id, form.new.data)
        except AuthenticationFailed:
            form.current.errors.append(gettext("This is not your current password."))
        except GatewayError as exc:
            form.form_errors.append(wording.say(str(exc)))
        else:
            gateway().audit.note(auth.actor(found.username, found.user_id), "password_change", "user", found.username)
            _begin(found.user_id)
            flash(gettext("Your password was changed. All other browsers were signed out."), "success")
            return go(HOME)
    status = HTTPStatus.UNPROCESSABLE_ENTITY if form.errors else HTTPStatus.OK
    return render_template("admin/password.html", form=form, person=found), status


@bp.post("/preferences")
def preferences() -> AnyResponse:
    """Colours (kept in this browser) or language (kept with the person)."""
    found = person()
    if found is None:
        return go("signin.login")
    answer = redirect(local_path(request.form.get("next", "")), 303)
    language, theme = request.form.get("language"), request.form.get("theme")
    if language in LANGUAGES:
        gateway().people.speak(auth.actor(found.username, found.user_id), found.user_id, language)
    if theme in THEMES:
        answer.set_cookie(THEME_COOKIE, theme, max_age=YEAR_S, path="/", samesite="Lax", secure=request.is_secure)
    return answer


@bp.route("/<path:missing>", methods=["GET", "POST"])
def nowhere(missing: str) -> Any:
    """Whatever is no page: strangers learn nothing from it."""
    return abort(404) if person() is not None else redirect(url_for("signin.login"))


def theme() -> str:
    """The colours that this browser asked for."""
    chosen = request.cookies.get(THEME_COOKIE, "auto")
    return chosen if chosen in THEMES else "auto"


def local_path(target: str) -> str:
    r"""The target if it is one of our pages, else the first one.

    Nothing else will do: browsers read `//host`, `/\host` and a tab after the slash as another site.
    """
    home = url_for(HOME)
    if not target.startswith(tuple(f"{page}/" for page in PAGES)) or "\\" in target or not target.isprintable():
        return home
    adapter = current_app.create_url_adapter(request)
    try:
        endpoint, _values = adapter.match(urlsplit(target).path, method="GET") if adapter else (HOME, {})
    except HTTPException:
        return home
    return target if not endpoint.startswith(f"{bp.name}.") or endpoint in OWN_PAGES else home


def _draft() -> str:
    """What was typed into a form before a session ended, sealed; empty = nothing."""
    return request.form.get(drafts.FIELD, "")


def _begin(user_id: int) -> None:
    """A fresh session in a fresh cookie: nothing from before signing in survives."""
    session.clear()
    token = gateway().accounts.begin_session(user_id, auth.address(), request.headers.get("user-agent", ""))
    found = gateway().accounts.person_of_session(token)
    if found is None:
        abort(403)
    login_user(SignedIn(found, token))
