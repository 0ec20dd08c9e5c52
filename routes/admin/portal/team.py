"""A team as its own admin manages it: members, their keys and budgets, what they used, what they ask for.

services/members.py and services/raises.py say who may what; this only shows it. Whoever leads no team is told so, and
things of another team are not there.
"""

from collections.abc import Callable
from typing import Any, Final

from flask import abort, flash, request
from wtforms import SelectField
from wtforms.validators import InputRequired, Length

from models import RaiseRequest, User
from routes.admin import amounts
from routes.admin.forms import PERIOD_NAMES, UNIT_NAMES, PanelForm, TextField, options
from routes.admin.guard import actor, expose, go
from routes.admin.portal import base
from routes.admin.portal.base import PortalView
from routes.admin.secrets import base_url
from routes.admin.show_amounts import typed
from routes.admin.texts import gettext, lazy_gettext
from services import budgets, ownuse, raises, rights
from services.accounts import Person
from services.errors import FieldsInvalid, GatewayError
from services.types import Caller
from utils import money
from utils.extensions import db, gateway

_ = lazy_gettext

ROWS: Final = 200  # members or keys of a page
NOT_FOUND: Final = 404


class NewMember(PanelForm):
    """A member that calls with keys."""

    username = TextField(
        _("Name"),
        [InputRequired(), Length(1, 150)],
        description=_("Members made here call with keys; they cannot sign in."),
    )


class MemberBudget(PanelForm):
    """A budget of a member."""

    unit = SelectField(_("Counts"), choices=options(UNIT_NAMES), default="usd")
    period = SelectField(_("Period"), choices=options(PERIOD_NAMES), default="month")
    limit = TextField(_("Limit"), [Length(0, 50)], description=_("Empty takes the budget away."))


class MemberKey(PanelForm):
    """A key of a member."""

    name = TextField(_("Name"), [InputRequired(), Length(1, 255)])


class TeamPages(PortalView):
    """The team of whoever is signed in and leads it."""

    icon = "people"

    @staticmethod
    def is_for(found: Person) -> bool:
        """Team admins have it."""
        return rights.has(found.role, rights.TEAM)

    @staticmethod
    def is_tab_of(found: Person) -> bool:
        """See `is_for`."""
        return rights.has(found.role, rights.TEAM)

    @expose("/")
    def index_view(self) -> Any:
        """The members, and what they used."""
        user, caller = self._who()
        members = gateway().members.members(caller, user.team_id or 0, skip=0, limit=ROWS)
        use = ownuse.of_members(gateway().engine, user.team_id or 0, [row["user_id"] for row in members])
        return self.render(
            "admin/portal/team/members.html",
            team=user.team,
            members=members,
            used=dict(use.by_user),
            use=use,
            form=NewMember(),
        )

    @expose("/add/", methods=("POST",))
    def add_view(self) -> Any:
        """A new member."""
        user, caller = self._who()
        name = request.form.get("username", "").strip()
        said = gettext("%(name)s was added.", name=name)
        return self._change(
            lambda: gateway().members.add(caller, actor(), user.team_id or 0, {"username": name}), said, ".index_view"
        )

    @expose("/member/")
    def member_view(self) -> Any:
        """One member: budgets, and what can be done."""
        user, caller = self._who()
        row = self._member(user)
        states = budgets.states(gateway().engine, budgets.of(db.session(), [("user", row.id)]))
        may_manage = row.role == "user"
        return self.render(
            "admin/portal/team/member.html",
            team=user.team,
            row=row,
            states=states,
            may_manage=may_manage,
            may_issue=may_manage or row.id == caller.user_id,
            budget=MemberBudget(),
            key=MemberKey(),
            what=base.what,
        )

    @expose("/member/state/", methods=("POST",))
    def state_view(self) -> Any:
        """Disable a member, or let it work again."""
        user, caller = self._who()
        row = self._member(user)
        wanted: dict[str, Any] = {"is_active": True}
        said = gettext("%(name)s works again.", name=row.username)
        if request.form.get("is_active") != "yes":
            wanted = {"is_active": False, "disabled_reason": request.form.get("reason", "").strip()[:255]}
            said = gettext("%(name)s is disabled.", name=row.username)
        whose = (user.team_id or 0, row.id)
        return self._change(
            lambda: gateway().members.change(caller, actor(), whose, wanted), said, ".member_view", id=row.id
        )

    @expose("/member/budget/", methods=("POST",))
    def budget_view(self) -> Any:
        """Set a budget of a member, or take it away."""
        user, caller = self._who()
        row, form = self._member(user), MemberBudget(request.form)
        text = amounts.plain(form.unit.data, form.limit.data or "")
        problem = amounts.problem(form.unit.data, text) if text else None
        if not form.validate() or problem:
            flash(problem or gettext("Please look at the marked fields."), "danger")
            return go(".member_view", id=row.id)
        given = {"unit": form.unit.data, "period": form.period.data, "limit": text or None}
        whose, said = (user.team_id or 0, row.id), gettext("The budget was saved.")
        return self._change(
            lambda: gateway().members.set_budget(caller, actor(), whose, given), said, ".member_view", id=row.id
        )

    @expose("/keys/")
    def keys_view(self) -> Any:
        """The keys of the members."""
        user, caller = self._who()
        rows = gateway().members.keys(caller, user.team_id or 0, skip=0, limit=ROWS)
        return self.render("admin/portal/team/keys.html", team=user.team, rows=rows)

    @expose("/keys/new/", methods=("POST",))
    def issue_view(self) -> Any:
        """A new key for a member; its secret is on this answer and nowhere else."""
        user, caller = self._who()
        row, name = self._member(user), request.form.get("name", "")
        whose = (user.team_id or 0, row.id)
        db.session.rollback()
        try:
            made = gateway().members.issue(caller, actor(), whose, {"name": name})
        except GatewayError as exc:
            flash(_said(exc), "danger")
            return go(".member_view", id=whose[1])
        return self.render("admin/portal/team/created.html", made=made, base_url=base_url())

    @expose("/keys/revoke/", methods=("GET", "POST"))
    def revoke_view(self) -> Any:
        """Asks, then voids a key of a member."""
        user, caller = self._who()
        if request.method == "GET":
            keys = gateway().members.keys(caller, user.team_id or 0, skip=0, limit=ROWS)
            row = next((key for key in keys if key["id"] == base.number()), None) or abort(404)
            return self.render("admin/portal/team/revoke.html", row=row)
        whose, said = (user.team_id or 0, base.number()), gettext("The key was revoked.")
        reason = request.form.get("reason", "").strip()[:255] or "by the team's admin"
        return self._change(lambda: gateway().members.revoke(caller, actor(), whose, reason), said, ".keys_view")

    @expose("/budgets/")
    def budgets_view(self) -> Any:
        """What the team as a whole may use, and its members."""
        user, caller = self._who()
        names = {("team", user.team_id or 0): user.team.name if user.team is not None else ""}
        return self.render(
            "admin/portal/team/budgets.html",
            team=user.team,
            ceilings=base.standing(names),
            rows=[one for one in gateway().members.budgets(caller, user.team_id or 0) if one["scope"] == "user"],
            what=base.what,
            whose=base.whose,
            nanousd=money.nanousd,
        )

    @expose("/requests/")
    def requests_view(self) -> Any:
        """What members ask for."""
        user, caller = self._who()
        rows = raises.open_of_team(db.session(), user.team_id or 0)
        return self.render(
            "admin/portal/team/requests.html",
            team=user.team,
            rows=[(row, who, raises.may_decide(caller, row, who.role)) for row, who in rows],
            typed=typed,
            what=base.what,
        )

    @expose("/requests/decide/", methods=("POST",))
    def decide_view(self) -> Any:
        """Approve or decline the request of a member."""
        _user, caller = self._who()
        answer, number = request.form.get("answer", ""), base.number()
        if request.form.get("decision") != "approve":
            said = gettext("The request was declined.")
            return self._change(
                lambda: gateway().raises.decline(caller, actor(), number, answer), said, ".requests_view"
            )
        row = db.session.get(RaiseRequest, number)
        unit = "usd" if row is not None and row.unit == "usd" else "tokens"
        text = amounts.plain(unit, request.form.get("amount", ""))
        said = gettext("The request was approved.")
        return self._change(
            lambda: gateway().raises.approve(caller, actor(), number, budgets.parse_limit(unit, text), answer),
            said,
            ".requests_view",
        )

    def _who(self) -> tuple[User, Caller]:
        """The team's admin; everybody else is told that this is not for them."""
        user = base.me()
        if not rights.has(user.role, rights.TEAM):
            abort(403, gettext("Only the admins of a team see this."))
        if user.team is None:
            abort(403, gettext("You lead no team yet; ask an admin to put you into one."))
        return user, base.caller(user)

    def _member(self, user: User) -> User:
        """The member that the request is about; of another team there is none."""
        row = db.session.get(User, base.number())
        if row is None or row.team_id != user.team_id:
            abort(NOT_FOUND)
        return row

    def _change(self, change: Callable[[], Any], said: str, endpoint: str, **values: object) -> Any:
        """Do it, say so, and show the page again; what does not exist for this person answers 404."""
        db.session.rollback()  # the services change rows in transactions of their own
        try:
            change()
        except GatewayError as exc:
            if exc.status == NOT_FOUND:
                raise
            flash(_said(exc), "danger")
        else:
            flash(said, "success")
        return go(endpoint, **values)


def _said(exc: GatewayError) -> str:
    """What a service refused; of several members the reasons."""
    if isinstance(exc, FieldsInvalid):
        return "; ".join(str(reason) for reason in exc.details.values())
    return base.problem(exc)
