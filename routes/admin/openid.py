"""Signing in with an OpenID provider, and linking an account that is here with one.

`state`, `nonce` and the PKCE verifier wait in the signed cookie of the browser that began, for ten minutes; a `state`
is used up in the database when somebody comes back with it, so that neither an old address nor an old cookie helps.
"""

from http import HTTPStatus
from typing import Any, Final

from flask import flash, redirect, render_template, request, session, url_for

from routes import auth, wording
from routes.admin.guard import go, is_held_up, person
from routes.admin.secondfactor import check_password
from routes.admin.signin import bp, enter, local_path
from routes.admin.texts import gettext
from services.accounts import Person
from services.errors import AuthenticationFailed, GatewayError
from services.identities import DISABLED
from services.openid import Known
from services.throttle import Throttle
from utils import clock
from utils.extensions import gateway

BEGUN: Final = "begun"  # in the cookie: sign-ins under way, by their state
CLAIMED: Final = "claimed"  # there too: an identity that is about to be linked
PATIENCE_S: Final = 600.0
MOST: Final = 3  # sign-ins under way in one browser; more would not fit into its cookie
OVER: Final = "This sign-in was begun in another browser, took too long, or was used already. Please begin again."


def name() -> str:
    """What the provider is called; empty = there is none."""
    return gateway().config.oidc_name if gateway().openid is not None else ""


@bp.get("/openid/start")
def openid_start() -> Any:
    """Send the browser to the provider: to sign in, or with `link` to say who the signed-in person is there."""
    provider, found = gateway().openid, person()
    if provider is None:
        return go("signin.login")
    wants_link = "link" in request.args
    if wants_link and found is None:
        return redirect(url_for("signin.login", next=url_for("signin.account")))
    target = local_path(request.args.get("next", ""))
    if found is not None and (not wants_link or is_held_up(found)):
        return redirect(target)
    back = _callback()
    try:
        begun = provider.begin(back)
    except GatewayError as exc:
        return _problem(exc, target)
    note = {"nonce": begun.nonce, "verifier": begun.verifier, "since": clock.now_s(), "target": target, "back": back}
    waiting = {**session.get(BEGUN, {}), begun.state: note | ({"link": found.user_id} if wants_link and found else {})}
    session[BEGUN] = dict(sorted(waiting.items(), key=lambda item: float(item[1]["since"]))[-MOST:])
    return redirect(begun.url)


@bp.get("/openid/callback")
def openid_callback() -> Any:
    """Where the provider sends people back to."""
    provider, throttle = gateway().openid, Throttle(gateway().engine)
    if provider is None:
        return go("signin.login")
    state = request.args.get("state", "")
    note = _taken(state)
    if note is None or not throttle.is_first_use(f"openid state {state}"):
        return _problem(AuthenticationFailed(OVER, code="state"), url_for("admin.index"), note)
    try:
        throttle.arrival(auth.address())
        known = provider.finish(request.args.to_dict(), note["nonce"], note["verifier"], note["back"])
        if "link" in note:
            return _ask_to_link(note["link"], known)
        found = _entered(known)
    except GatewayError as exc:
        return _problem(exc, note["target"], note)
    throttle.arrived(auth.address())
    return enter(found, local_path(note["target"]), "openid")


@bp.route("/openid/link", methods=["GET", "POST"])
def openid_link() -> Any:
    """Asks whether the identity is to be linked with one's account, then does it."""
    found, claimed, provider = person(), session.get(CLAIMED), gateway().openid
    if found is None:
        return go("signin.login")
    if provider is None or claimed is None or _is_over(claimed) or claimed["user"] != found.user_id:
        return go("signin.account")
    if is_held_up(found):
        return go("signin.second_factor")
    problem, status = "", HTTPStatus.OK
    if request.method == "POST":
        who = auth.actor(found.username, found.user_id)
        try:
            check_password(found)
            gateway().identities.link(who, found.user_id, provider.issuer, claimed["subject"])
        except GatewayError as exc:
            problem, status = wording.say(str(exc)), HTTPStatus(exc.status)
        else:
            session.pop(CLAIMED)
            flash(gettext("You can sign in with %(name)s from now on.", name=name()), "success")
            return go("signin.account")
    has_password = gateway().accounts.has_password(found.user_id)
    page = render_template("admin/link.html", claimed=claimed, has_password=has_password, problem=problem)
    return page, status


@bp.post("/openid/unlink")
def openid_unlink() -> Any:
    """Sign in with the password only from now on."""
    found, provider = person(), gateway().openid
    if found is None or provider is None:
        return go("signin.account" if found is not None else "signin.login")
    try:
        gateway().identities.unlink(auth.actor(found.username, found.user_id), found.user_id, provider.issuer)
    except GatewayError as exc:
        flash(wording.say(str(exc)), "danger")
    else:
        flash(gettext("The link is gone."), "success")
    return go("signin.account")


@bp.get("/signed-out")
def signed_out() -> Any:
    """Goes on to the provider's own sign-out, where it has one; a form could not, as the policy keeps forms here."""
    provider = gateway().openid
    back = _callback().removesuffix(url_for("signin.openid_callback")) + url_for("signin.login")
    place = provider.leave(back) if provider is not None and person() is None else None
    if place is None:
        return go("signin.login")
    return render_template("admin/signed_out.html", place=place), HTTPStatus.OK, {"refresh": f"0;url={place}"}


def _callback() -> str:
    """Our address as the provider knows it."""
    config = gateway().config
    base = config.public_url.rstrip("/") or request.host_url.rstrip("/")
    return config.oidc_redirect_url or base + url_for("signin.openid_callback")


def _taken(state: str) -> dict[str, Any] | None:
    """What this browser noted when it began, once."""
    waiting = dict(session.get(BEGUN, {}))
    note: dict[str, Any] | None = waiting.pop(state, None)
    session[BEGUN] = {key: other for key, other in waiting.items() if not _is_over(other)}
    return note if note is not None and not _is_over(note) else None


def _is_over(note: dict[str, Any]) -> bool:
    return clock.now_s() - float(note["since"]) > PATIENCE_S


def _entered(known: Known) -> Person:
    """The person here.

    Raises:
        AuthenticationFailed: there is none, or the account may not be used now.
    """
    number = gateway().identities.enter(auth.actor("openid"), known)
    found = gateway().accounts.person(number)
    if found is None:
        raise AuthenticationFailed(DISABLED, code="account_disabled")
    return found


def _ask_to_link(user_id: int, known: Known) -> Any:
    """Whoever is signed in confirms it on a page of ours: the provider may have been told to vouch for another."""
    found = person()
    if found is None or found.user_id != user_id:
        raise AuthenticationFailed(OVER, code="state")
    session[CLAIMED] = {"subject": known.subject, "name": known.name[:200], "user": user_id, "since": clock.now_s()}
    return go("signin.openid_link")


def _problem(exc: GatewayError, target: str, note: dict[str, Any] | None = None) -> Any:
    """Why not, on the page where one can try again."""
    who = person()
    if note is not None:  # whatever else any site can make a browser ask for is not worth an entry
        actor = auth.actor(who.username, who.user_id) if who is not None else auth.actor("openid")
        gateway().audit.note(actor, "login_failed", "user", None, {"with": "openid", "reason": exc.code})
    if note is not None and "link" in note and who is not None:
        flash(wording.say(str(exc)), "danger")
        return go("signin.account")
    wait_s = exc.retry_after_s
    headers = {"retry-after": str(wait_s)} if wait_s is not None else {}
    said = gettext("Too many tries. Please wait %(seconds)s s.", seconds=wait_s) if wait_s else wording.say(str(exc))
    return render_template("admin/login.html", target=local_path(target), problem=said), exc.status, headers
