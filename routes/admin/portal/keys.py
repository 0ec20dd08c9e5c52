"""One's own API keys, within what the policy of the portal allows; see services/ownkeys.py."""

from datetime import datetime, timedelta
from typing import Any, Final

from flask import flash, request
from flask import session as browser
from wtforms import IntegerField, SelectField
from wtforms.validators import InputRequired, Length, NumberRange, Optional

from models import ApiKey, User
from routes.admin.access import ModelsForm
from routes.admin.forms import PERIOD_NAMES, TextField, UsdField, options
from routes.admin.guard import actor, admin, expose, go
from routes.admin.keyforms import Rotation
from routes.admin.limits import SPAN_NAMES
from routes.admin.portal import base
from routes.admin.portal.base import PortalView
from routes.admin.secrets import NEW_KEY, base_url, example, retired_of
from routes.admin.texts import gettext, lazy_gettext
from services import limits, ownkeys, reports
from services.errors import GatewayError
from services.keys import IssuedKey
from services.portalpolicy import Policy
from utils import clock
from utils.extensions import db, gateway

_ = lazy_gettext

LATEST_CALLS: Final = 10
NEVER: Final = "never"
LONGEST: Final = "longest"
LIVES: Final = {  # days
    "7": _("7 days"),
    "30": _("30 days"),
    "90": _("90 days"),
    "365": _("A year"),
}


class OwnKey(ModelsForm):
    """A new key of one's own."""

    name = TextField(
        _("Name"), [InputRequired(), Length(1, 255)], description=_("What it is for, such as an app or a device.")
    )
    lives = SelectField(_("Ends after"), description=_("Then it opens nothing any more; the name stays in the list."))
    budget = UsdField(_("Budget in USD"), description=_("Leave empty for none. Your own budgets hold in any case."))
    period = SelectField(_("Budget period"), choices=options(PERIOD_NAMES), default="month")
    requests = IntegerField(_("Requests at most"), [Optional(), NumberRange(0, limits.MAX_AMOUNT)])
    requests_period = SelectField(_("Request limit period"), choices=options(SPAN_NAMES), default="minute")

    def wish(self, policy: Policy) -> ownkeys.Wish:
        """What the form says."""
        return ownkeys.Wish(
            self.name.data,
            self.models(),
            self._ends(policy),
            self.budget.data,
            self.period.data,
            self.requests.data,
            self.requests_period.data,
        )

    def _ends(self, policy: Policy) -> datetime | None:
        if self.lives.data == NEVER:
            return None
        longest = policy.longest if self.lives.data == LONGEST else timedelta(days=int(self.lives.data))
        return None if longest is None else clock.now() + longest


class OwnKeys(PortalView):
    """The keys of whoever is signed in."""

    icon = "key"

    @expose("/")
    def index_view(self) -> Any:
        """All of them, and what the policy allows."""
        rows = ownkeys.listed(db.session(), admin().user_id)
        working = sum(ownkeys.is_working(row) for row in rows)
        policy = base.policy()
        return self.render(
            "admin/portal/keys/list.html", rows=rows, policy=policy, working=working, why_not=_why_not(policy, working)
        )

    @expose("/details/")
    def details_view(self) -> Any:
        """One of them: what limits it, and its latest calls."""
        user = base.me()
        row = ownkeys.find(db.session(), user.id, base.number())
        names = {("key", row.id): row.name}
        return self.render(
            "admin/portal/keys/details.html",
            row=row,
            ceilings=base.standing(names),
            retired=retired_of(row),
            calls=reports.latest_calls(gateway().engine, LATEST_CALLS, key_id=row.id),
            key_names={row.id: row.name},
            what=base.what,
            whose=base.whose,
        )

    @expose("/new/", methods=("GET", "POST"))
    def create_view(self) -> Any:
        """The form of a new key, or why there is none."""
        user, policy = base.me(), base.policy()
        form = _form(user, policy)
        why_not = _why_not(policy, ownkeys.count_working(db.session(), user.id))
        return self.answer_form(
            form, lambda: self._create(form, user, policy), "admin/portal/keys/create.html", why_not=why_not
        )

    def _create(self, form: OwnKey, user: User, policy: Policy) -> Any:
        return self._show_once(gateway().own_keys.create(actor(), base.caller(user), form.wish(policy)))

    def _show_once(self, issued: IssuedKey) -> Any:
        browser[NEW_KEY] = gateway().sealer.seal(issued.secret).decode()
        return go(".created_view", id=issued.id)

    @expose("/created/")
    def created_view(self) -> Any:
        """A new secret, once: reloading shows that it is gone."""
        user = base.me()
        row, sealed = ownkeys.find(db.session(), user.id, base.number()), browser.pop(NEW_KEY, "")
        secret = gateway().sealer.open(sealed.encode()) if sealed else ""
        if not gateway().keys.is_of(secret, row):
            return go(".details_view", id=row.id)
        models = base.models_of(user)
        only = row.allowed_models
        allowed = {name: model for name, model in models.items() if only is None or name in only}
        return self.render(
            "admin/keys/created.html",
            row=row,
            secret=secret,
            model=example(allowed) or "MODEL",
            base_url=base_url(),
            retired=retired_of(row),
        )

    @expose("/rotate/", methods=("GET", "POST"))
    def rotate_view(self) -> Any:
        """Asks for how long the secret goes on working, then replaces it."""
        row, form = self._row(), Rotation(base.given())
        return self.answer_form(
            form, lambda: self._rotate(row, form), "admin/portal/keys/rotate.html", row=row, why_kept=_why_dead(row)
        )

    def _rotate(self, row: ApiKey, form: Rotation) -> Any:
        return self._show_once(gateway().own_keys.rotate(actor(), admin().user_id, row.id, form.time()))

    @expose("/revoke/", methods=("GET", "POST"))
    def revoke_view(self) -> Any:
        """Asks, then voids the key."""
        row = self._row()
        if request.method == "GET":
            return self.render("admin/portal/keys/revoke.html", row=row, why_kept=_why_fixed(row))
        return self._done(
            lambda: gateway().own_keys.revoke(actor(), admin().user_id, row.id),
            gettext("%(name)s was revoked.", name=row.name),
        )

    @expose("/delete/", methods=("GET", "POST"))
    def delete_view(self) -> Any:
        """Asks, then removes the key."""
        row = self._row()
        if request.method == "GET":
            return self.render("admin/portal/keys/delete.html", row=row, why_kept=_why_fixed(row))
        said = gettext("%(name)s was deleted.", name=row.name)
        return self._done(lambda: gateway().own_keys.delete(actor(), admin().user_id, row.id), said)

    def _row(self) -> ApiKey:
        return ownkeys.find(db.session(), admin().user_id, base.number())

    def _done(self, change: Any, said: str) -> Any:
        db.session.rollback()  # the services change rows in a transaction of their own
        try:
            change()
        except GatewayError as exc:
            flash(base.problem(exc), "danger")
        else:
            flash(said, "success")
        return go(".index_view")


def _form(user: User, policy: Policy) -> OwnKey:
    form = OwnKey(base.given())
    form.allowed_models.offer(list(base.models_of(user)))
    lives = {days: label for days, label in LIVES.items() if _fits(int(days), policy)}
    if policy.longest is not None:
        lives[LONGEST] = gettext("As long as allowed: %(time)s", time=policy.longest_text)
    else:
        lives[NEVER] = gettext("Never")
    form.lives.choices = options(lives)
    if form.lives.data is None:
        form.lives.data = "90" if "90" in lives else next(reversed(lives))
    return form


def _fits(days: int, policy: Policy) -> bool:
    return policy.longest is None or timedelta(days=days) < policy.longest


def _why_not(policy: Policy, working: int) -> str | None:
    """Why no key can be made now; None = one can."""
    unread = [name for name in policy.unread if name.startswith("portal.keys")]
    if unread:
        return gettext("An admin set %(name)s to something that cannot be read; ask one to mend it.", name=unread[0])
    if not policy.may_make_keys:
        return gettext("Keys are made by admins here; ask one for a key.")
    if working >= policy.most_keys:
        return gettext("You may have %(count)s working keys; end one first.", count=policy.most_keys)
    return None


def _why_fixed(row: ApiKey) -> str | None:
    if row.kind == "environment":
        return gettext("This key comes from the setting API_AUTH_TOKENS; change it there.")
    return None


def _why_dead(row: ApiKey) -> str | None:
    if not ownkeys.is_working(row):
        return gettext("This key was revoked or has expired; a new secret would open nothing.")
    return _why_fixed(row)
