"""The second step of signing in, and the page on which people set up, and switch off, their own second factor.

Before the second step there is no session, only a note in the signed cookie of whose step is due; it is good for five
minutes.
"""

from http import HTTPStatus
from typing import Any, Final

from flask import flash, redirect, render_template, request, session, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from routes import auth, wording
from routes.admin.guard import go, person
from routes.admin.signin import HOME, WAITING, bp, let_in, local_path
from routes.admin.texts import gettext
from services.accounts import Person
from services.errors import AuthenticationFailed, GatewayError, TooManyAttempts
from utils import clock
from utils.extensions import gateway

PATIENCE_S: Final = 300.0
PIXELS: Final = 5  # of one square of the QR code


@bp.route("/login/code", methods=["GET", "POST"])
def code() -> Any:
    """Asks for a code after the password."""
    waiting = session.get(WAITING)
    found = gateway().accounts.person(waiting["user"]) if waiting else None
    if waiting is None or found is None or clock.now_s() - waiting["since"] > PATIENCE_S:
        session.pop(WAITING, None)
        if request.method == "POST":
            flash(gettext("That took too long. Please sign in again."), "danger")
        return go("signin.login")
    if request.method == "GET":
        return render_template("admin/code.html")
    try:
        how = gateway().second_factors.check(found.user_id, request.form.get("code", ""), auth.address())
    except GatewayError as exc:
        who = auth.actor(found.username, found.user_id)
        gateway().audit.note(who, "login_failed", "user", found.username, {"reason": exc.code})
        return _problem("admin/code.html", exc)
    if how == "recovery":
        left = gateway().second_factors.standing(found.user_id).recovery_left
        response = let_in(found, local_path(waiting["target"]), f"{waiting['how']}, recovery code")
        flash(gettext("You used a recovery code; %(count)s are left.", count=left), "success")
        return response
    return let_in(found, local_path(waiting["target"]), f"{waiting['how']}, code")


@bp.get("/account")
def account() -> Any:
    """How one signs in: password, provider, second factor."""
    found = person()
    if found is None:
        return redirect(url_for("signin.login", next=request.path))
    here = gateway()
    identity = here.identities.linked(found.user_id, here.openid.issuer) if here.openid is not None else None
    return render_template(
        "admin/account.html",
        person=found,
        identity=identity,
        has_password=here.accounts.has_password(found.user_id),
        standing=here.second_factors.standing(found.user_id),
    )


@bp.get("/second-factor")
def second_factor() -> Any:
    """Whether one has a second factor; the QR code of one that is being set up."""
    found = person()
    if found is None:
        return redirect(url_for("signin.login", next=request.path))
    return _page(found)


@bp.post("/second-factor/begin")
def begin_second_factor() -> AnyResponse:
    """Make a secret to set one up with."""
    found = person()
    if found is None:
        return go("signin.login")
    try:
        gateway().second_factors.begin(found.user_id)
    except GatewayError as exc:
        flash(wording.say(str(exc)), "danger")
    return go("signin.second_factor")


@bp.post("/second-factor/confirm")
def confirm_second_factor() -> Any:
    """A first code proves that the app has the secret; answers with the recovery codes, this once."""
    found = person()
    if found is None:
        return go("signin.login")
    who = auth.actor(found.username, found.user_id)
    try:
        codes = gateway().second_factors.confirm(who, found.user_id, request.form.get("code", ""), auth.address())
    except GatewayError as exc:
        return _page(found, exc)
    return render_template("admin/recovery.html", codes=codes)


@bp.post("/second-factor/off")
def end_second_factor() -> Any:
    """Switch one's own off, with the password and a code."""
    found = person()
    if found is None:
        return go("signin.login")
    try:
        check_password(found)
        who = auth.actor(found.username, found.user_id)
        gateway().second_factors.switch_off(who, found.user_id, request.form.get("code", ""), auth.address())
    except GatewayError as exc:
        return _page(found, exc)
    flash(gettext("Your second factor is off."), "success")
    return go("signin.second_factor")


def check_password(found: Person) -> None:
    """That the form has the password of whoever is signed in; accounts without one have nothing to show.

    Raises:
        AuthenticationFailed, TooManyAttempts: it has not; tries are counted as those to sign in.
    """
    if not gateway().accounts.has_password(found.user_id):
        return
    given = request.form.get("password", "")
    try:
        gateway().accounts.sign_in(found.username, given or "-", auth.address())
    except AuthenticationFailed as exc:
        raise AuthenticationFailed("This is not your current password.", code=exc.code) from exc


def _page(found: Person, problem: GatewayError | None = None) -> Any:
    factors = gateway().second_factors
    offer = factors.offer(found.user_id, found.username)
    values = {
        "person": found,
        "standing": factors.standing(found.user_id),
        "is_required": factors.is_required(found.role),
        "has_password": gateway().accounts.has_password(found.user_id),
        "offer": offer,
        "picture": _drawn(offer.uri) if offer is not None else None,
        "home": HOME,
    }
    if problem is None:
        return render_template("admin/second_factor.html", **values)
    return _problem("admin/second_factor.html", problem, **values)


def _problem(template: str, exc: GatewayError, **values: Any) -> Any:
    """The page with what is wrong; with 401, or how long to wait."""
    if isinstance(exc, TooManyAttempts):
        wait_s = exc.retry_after_s or 1
        said = gettext("Too many tries. Please wait %(seconds)s s.", seconds=wait_s)
        page = render_template(template, problem=said, **values)
        return page, HTTPStatus.TOO_MANY_REQUESTS, {"retry-after": str(wait_s)}
    return render_template(template, problem=wording.say(str(exc)), **values), exc.status


def _drawn(uri: str) -> Markup:
    """The QR code of an address, as a drawing in the page."""
    import segno  # noqa: PLC0415 - few workers ever need it

    drawing = segno.make(uri, error="m", micro=False).svg_inline(scale=PIXELS, border=3, light="#fff")
    return Markup(drawing)  # noqa: S704 - squares, drawn here
