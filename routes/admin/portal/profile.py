"""Oneself: how one signs in, in which browsers, what is kept, and the end of the account."""

import re
from typing import Any, Final

from flask import Response, abort, flash, request
from flask import session as browser
from flask_login import logout_user
from wtforms.validators import InputRequired, Length

from routes.admin import openid, signin
from routes.admin.forms import PanelForm, SecretField, TextField
from routes.admin.guard import actor, admin, expose, go
from routes.admin.portal import base
from routes.admin.portal.base import PortalView
from routes.admin.secondfactor import check_password
from routes.admin.texts import gettext, lazy_gettext
from services import ownsessions
from services.errors import GatewayError
from utils.extensions import db, gateway

_ = lazy_gettext

LINES: Final = "application/x-ndjson"
# What a browser calls itself, the more particular before what it also claims to be.
BROWSERS: Final = (
    *(("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari")),
    ("curl", "curl"),
)
SYSTEMS: Final = (
    *(("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("Windows", "Windows")),
    *(("Mac OS X", "macOS"), ("CrOS", "ChromeOS"), ("Linux", "Linux")),
)


class Farewell(PanelForm):
    """What deleting one's own account takes."""

    username = TextField(_("Your user name"), [InputRequired(), Length(1, 150)])
    password = SecretField(_("Current password"))


class Profile(PortalView):
    """Whoever is signed in."""

    icon = "person-gear"

    @expose("/")
    def index_view(self) -> Any:
        """Name, role, team, language, ways to sign in, browsers."""
        user, here = base.me(), gateway()
        identity = here.identities.linked(user.id, here.openid.issuer) if here.openid is not None else None
        return self.render(
            "admin/portal/profile.html",
            user=user,
            sessions=ownsessions.listed(here.engine, user.id, _token()),
            standing=here.second_factors.standing(user.id),
            identity=identity,
            policy=base.policy(),
            named=named,
            languages=signin.LANGUAGES,
            openid_name=openid.name(),
        )

    @expose("/sessions/end/", methods=("POST",))
    def end_view(self) -> Any:
        """Sign one browser out, or all others."""
        engine, who = gateway().engine, admin().user_id
        if request.form.get("session") == "others":
            count = ownsessions.end_others(engine, actor(), who, _token())
            flash(gettext("%(count)s other browsers were signed out.", count=count), "success")
            return go(".index_view")
        ownsessions.end(engine, actor(), who, request.form.get("session", ""))
        flash(gettext("The browser was signed out."), "success")
        return go(".index_view")

    @expose("/tokens/end/", methods=("POST",))
    def end_tokens_view(self) -> Any:
        """Void the tokens of programs that signed in with the password."""
        ownsessions.end_tokens(gateway().engine, gateway().catalog, actor(), admin().user_id)
        flash(gettext("All tokens have ended. Programs must sign in again."), "success")
        return go(".index_view")

    @expose("/export/", methods=("POST",))
    def export_view(self) -> Any:
        """All that is kept of the person, as JSON Lines, piece by piece."""
        who = admin()
        gateway().audit.note(actor(), "user_export", "user", who.user_id)
        headers = {"content-disposition": 'attachment; filename="export.jsonl"'}
        return Response(gateway().takeout.lines(who.user_id), mimetype=LINES, headers=headers)

    @expose("/delete/", methods=("GET", "POST"))
    def delete_view(self) -> Any:
        """Asks for name and password, then erases the account, where the policy lets people do that."""
        policy, form = base.policy(), Farewell(base.given())
        if request.method == "POST" and not policy.may_delete_account:
            abort(403, gettext("Accounts are deleted by admins here; ask one."))
        return self.answer_form(
            form,
            lambda: self._delete(form),
            "admin/portal/delete.html",
            policy=policy,
            has_password=gateway().accounts.has_password(admin().user_id),
        )

    def _delete(self, form: Farewell) -> Any:
        who = admin()
        db.session.rollback()
        try:
            check_password(who)
        except GatewayError as exc:
            exc.param = "password"
            raise
        gateway().erasure.erase(actor(), who.user_id, form.username.data, is_own=True)
        logout_user()
        browser.clear()
        return go("signin.login")


def named(user_agent: str) -> str:
    """A browser as people know it: its name and system, else the beginning of what it calls itself."""
    name, system = (
        next((said for mark, said in names if re.search(re.escape(mark), user_agent)), "")
        for names in (BROWSERS, SYSTEMS)
    )
    return " · ".join(part for part in (name, system) if part) or user_agent[:60] or gettext("Unknown browser")


def _token() -> str:
    """The token of this browser's session."""
    return str(browser.get("_user_id", ""))
