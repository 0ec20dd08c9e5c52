"""The first steps of a new gateway: a page that says what is done, leads to the right forms and notices the first call.

What is done is read from the tables. A cookie hides the steps on the overview; this page stays in the sidebar.
"""

from typing import Any, Final

from flask import abort, jsonify, request, session, url_for
from sqlalchemy import select

from models import Provider
from routes.admin.guard import SecureView, expose, go, may_change
from routes.admin.secrets import base_url, first_model
from services import firststeps
from utils.extensions import db, gateway

COOKIE: Final = "tollhouse_steps"
HIDDEN: Final = "hidden"
YEAR_S: Final = 365 * 86_400
UNDER_WAY: Final = "steps"  # in the browser's session: pages offer the way back
WAYS: Final = {  # where each step is done
    "password": "signin.password",
    "provider": "providers.create_view",
    "model": "models.offers_view",
    "model_by_hand": "models.create_view",
    "key": "keys.create_view",
}


class FirstSteps(SecureView):
    """The page, and what it asks while it is open."""

    icon = "list-check"

    @expose("/")
    def index_view(self) -> Any:
        """What is done and what comes next."""
        return self.render("admin/first_steps.html")

    @expose("/state")
    def state_view(self) -> Any:
        """How many steps are done, for the page to notice when that changes."""
        return jsonify(done=_progress().done)

    @expose("/go")
    def go_view(self) -> Any:
        """To the form of a step; from then on pages offer the way back here."""
        step = request.args.get("step", "")
        if step not in WAYS:
            abort(404)
        session[UNDER_WAY] = True
        values = {"provider": _own_provider()} if step == "model" else {}
        return go(WAYS[step], **{name: value for name, value in values.items() if value})

    @expose("/hide", methods=("POST",))
    def hide_view(self) -> Any:
        """Hide the steps on the overview, or show them there again."""
        session.pop(UNDER_WAY, None)
        is_hidden = request.form.get("show") != "yes"
        answer = go("admin.index" if is_hidden else ".index_view")
        if is_hidden:
            secure = request.is_secure
            answer.set_cookie(
                COOKIE, HIDDEN, max_age=YEAR_S, path="/admin", httponly=True, samesite="Lax", secure=secure
            )
        else:
            answer.delete_cookie(COOKIE, path="/admin")
        return answer


def found(*, always: bool = False) -> dict[str, Any] | None:
    """What the steps' part of a page shows; None where they are hidden, done, or not for the person."""
    if not always and (request.cookies.get(COOKIE) == HIDDEN or not may_change()):
        return None
    here = _progress()
    if here.is_complete:
        session.pop(UNDER_WAY, None)
        if not always:
            return None
    model = first_model(None)
    return {
        "progress": here,
        "all": firststeps.STEPS,
        "model": model or "MODEL",
        "base_url": base_url(),
        "is_hidden": request.cookies.get(COOKIE) == HIDDEN,
    }


def _progress() -> firststeps.Progress:
    config = gateway().config
    printed_for = None if config.default_admin_password else config.default_admin_username
    return firststeps.progress(gateway().engine, printed_for)


def way_back() -> str | None:
    """The address of the steps for somebody who came from there."""
    return url_for("steps.index_view") if session.get(UNDER_WAY) and request.blueprint != "steps" else None


def _own_provider() -> int | None:
    """The newest provider that is not built in."""
    own = select(Provider.id).where(Provider.kind != firststeps.BUILT_IN).order_by(Provider.id.desc()).limit(1)
    return db.session.scalar(own)
