"""Asking for more of a budget, limit or balance, and what became of it; see services/raises.py."""

from typing import Any

from flask import flash, request
from wtforms import SelectField, TextAreaField
from wtforms.validators import InputRequired, Length

from models import User
from routes.admin import amounts
from routes.admin.forms import PanelForm, TextField, options
from routes.admin.guard import actor, admin, expose, go
from routes.admin.portal import base
from routes.admin.portal.base import Ceilings, PortalView
from routes.admin.show_amounts import amount_text
from routes.admin.texts import gettext, lazy_gettext
from services import budgets, ownkeys, raises
from services.errors import GatewayError
from services.raises import Target
from utils.extensions import db, gateway

_ = lazy_gettext

BALANCE = "balance-0"


class Asking(PanelForm):
    """What somebody wants more of."""

    target = SelectField(_("More of"))
    amount = TextField(
        _("Wanted"),
        [InputRequired(), Length(1, 50)],
        description=_("The new limit, in USD or as a whole number; of a balance, so many tokens more."),
    )
    reason = TextAreaField(
        _("Reason"),
        [InputRequired(), Length(1, raises.MAX_TEXT)],
        description=_("Whoever decides reads it: what you need it for, and until when."),
    )


class Requests(PortalView):
    """One's own requests."""

    icon = "hand-index-thumb"

    @expose("/")
    def index_view(self) -> Any:
        """All of them with their state."""
        user = base.me()
        keys = ownkeys.listed(db.session(), user.id)
        names = {("key", key.id): key.name for key in keys} | {("user", user.id): ""}
        if user.team is not None:
            names["team", user.team.id] = user.team.name
        return self.render(
            "admin/portal/requests/list.html",
            rows=raises.of_user(db.session(), user.id),
            names=names,
            policy=base.policy(),
            what=base.what,
            whose=base.whose,
        )

    @expose("/new/", methods=("GET", "POST"))
    def create_view(self) -> Any:
        """The form of a request; `target` in the address chooses what it is about."""
        user = base.me()
        found = base.ceilings_of(user, ownkeys.listed(db.session(), user.id))
        form, units = Asking(base.given(), target=request.args.get("target", "")), _units(found)
        form.target.choices = options(_targets(found))
        return self.answer_form(
            form, lambda: self._ask(form, user, units), "admin/portal/requests/create.html", policy=base.policy()
        )

    def _ask(self, form: Asking, user: User, units: dict[str, str]) -> Any:
        kind, _dash, number = form.target.data.partition("-")
        unit = units[form.target.data]
        if problem := amounts.problem(unit, form.amount.data):
            form.amount.errors = [*form.amount.errors, problem]
            return self.render("admin/portal/requests/create.html", form=form, policy=base.policy()), 422
        wanted, caller = budgets.parse_limit(unit, amounts.plain(unit, form.amount.data)), base.caller(user)
        db.session.rollback()
        raises.ask(gateway().engine, actor(), caller, Target(kind, int(number)), wanted, form.reason.data)
        flash(gettext("Your request was sent. You see here what becomes of it."), "success")
        return go(".index_view")

    @expose("/withdraw/", methods=("POST",))
    def withdraw_view(self) -> Any:
        """Take an open request back."""
        try:
            raises.withdraw(gateway().engine, actor(), admin().user_id, base.number())
        except GatewayError as exc:
            if exc.status == 404:  # noqa: PLR2004 - of others there is none
                raise
            flash(base.problem(exc), "danger")
        else:
            flash(gettext("Your request was withdrawn."), "success")
        return go(".index_view")


def _targets(found: Ceilings) -> dict[str, str]:
    """What can be asked for, with where it stands."""
    mine = [state.budget for state in found.budgets if state.budget.scope != "model" and not state.budget.is_prepaid]
    choices = {
        f"budget-{row.id}": f"{base.what(row)} · {base.whose(row, found.names)} · {amount_text(row)}" for row in mine
    }
    for state in found.limits:
        row = state.limit
        if row.scope != "model":
            choices[f"limit-{row.id}"] = f"{base.what(row)} · {base.whose(row, found.names)} · {amount_text(row)}"
    has_balance = any(state.budget.is_prepaid for state in found.budgets)
    return choices | ({BALANCE: gettext("Balance: tokens on top of what you have")} if has_balance else {})


def _units(found: Ceilings) -> dict[str, str]:
    """In what each counts: USD, or whole numbers."""
    units = {f"budget-{state.budget.id}": state.budget.unit for state in found.budgets}
    return units | {f"limit-{state.limit.id}": "tokens" for state in found.limits} | {BALANCE: "tokens"}
