"""Budgets: ceilings of users, keys, teams and models, and what is gone of them. What is spent is the books' affair."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from zoneinfo import available_timezones

from sqlalchemy import delete
from sqlalchemy.orm import Session
from wtforms import IntegerField, SelectField
from wtforms.validators import InputRequired, Length, NumberRange, Optional, ValidationError

from models import Budget
from routes.admin import amounts, bulk, owned
from routes.admin.forms import PERIOD_NAMES, UNIT_NAMES, PanelForm, TextField, options
from routes.admin.guard import actor, expose, go_back
from routes.admin.owned import SCOPE_NAMES, OwnedForm, OwnedTable
from routes.admin.tables import Choice
from routes.admin.texts import N_, gettext, lazy_gettext
from services import budgets
from services.errors import InvalidRequest
from utils import money
from utils.extensions import db, gateway

_ = lazy_gettext

LEVEL_NAMES: Final = {"ok": _("OK"), "warning": _("Nearly spent"), "exhausted": _("Used up")}


class BalanceForm(PanelForm):
    """What can be changed of a balance, which has no periods."""

    limit = TextField(_("Limit"), [InputRequired(), Length(1, 50)])
    warn_percent = IntegerField(
        _("Warn at (%)"),
        [Optional(), NumberRange(1, 100)],
        default=budgets.WARN_PERCENT,
        description=_("From this share on, calls carry a warning. Leave empty for none."),
    )

    unit_of_row = "usd"  # set by the view where the row has the unit

    def unit_now(self) -> str:
        """In what the limit counts."""
        return self.unit_of_row

    def validate_limit(self, field: Any) -> None:
        """An amount in the budget's unit."""
        if problem := amounts.problem(self.unit_now(), field.data):
            raise ValidationError(problem)

    def amount(self) -> int:
        """The limit in the budget's unit."""
        return budgets.parse_limit(self.unit_now(), amounts.plain(self.unit_now(), self.limit.data))


class LimitForm(BalanceForm):
    """What can be changed of a budget."""

    timezone = TextField(
        _("Time zone"),
        [InputRequired(), Length(1, 60)],
        default=budgets.UTC,
        description=_(
            "Where days, weeks and months begin, such as America/Sao_Paulo. "
            "It stays while something is spent in a period."
        ),
    )

    def validate_timezone(self, field: Any) -> None:
        """A name of the time zone database."""
        if field.data not in available_timezones():
            raise ValidationError(gettext("There is no time zone of that name."))


class NewBudget(OwnedForm, LimitForm):
    """A new budget."""

    unit = SelectField(_("Counts"), choices=options(UNIT_NAMES), default="usd")
    period = SelectField(_("Period"), choices=options(PERIOD_NAMES), default="month")

    def unit_now(self) -> str:
        """In what the limit counts."""
        return str(self.unit.data)


class Budgets(OwnedTable):
    """The ceilings."""

    model_class = Budget
    icon, singular, resource = "piggy-bank", "Budget", "budget"
    column_list = ("owner", "period", "gone", "left", "state", "resets")
    column_labels: ClassVar[dict[str, Any]] = {
        "owner": _("For"),
        "period": _("Period"),
        "gone": _("Spent and held"),
        "left": _("Left"),
        "state": _("State"),
        "resets": _("Resets"),
    }
    many = (
        bulk.delete(
            _("Calls are no longer measured against them."),
            _("What was spent stays in the ledger."),
            label=_("Remove"),
            done=_("Budgets that were removed: %(count)s."),
        ),
    )
    exported = (
        *("id", "scope", "owner", "unit", "period", "limit", "spent", "held", "left", "state", "resets_at"),
        *("timezone", "warn_percent", "is_prepaid"),
    )
    exported_as: ClassVar[Mapping[str, Any]] = {
        "owner": ("scope", "owner"),
        "gone": ("unit", "limit", "spent", "held"),
        "resets": ("resets_at",),
    }
    list_template = "admin/budgets/list.html"
    create_template = "admin/budgets/create.html"
    edit_template = "admin/budgets/edit.html"
    choices = (
        Choice("scope", _("For"), list(SCOPE_NAMES.items())),
        Choice("unit", _("Counts"), list(UNIT_NAMES.items())),
        Choice("period", _("Period"), list(PERIOD_NAMES.items())),
    )

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """What is gone of each, and whose they are."""
        states = budgets.states(gateway().engine, rows)
        return {"states": {state.budget.id: state for state in states}, "names": owned.names_of(rows)}

    def create_form(self, obj: Any = None) -> NewBudget:
        """See Flask-Admin."""
        scope = self.argument("scope") if self.argument("scope") in SCOPE_NAMES else "user"
        return NewBudget(self.given(), scope=scope, owner=self.argument("owner"))

    def edit_form(self, obj: Any = None) -> BalanceForm:
        """See Flask-Admin."""
        shown = f"{money.usd(obj.limit_amount).normalize():f}" if obj.unit == "usd" else str(obj.limit_amount)
        kind = BalanceForm if obj.is_prepaid else LimitForm
        form = kind(self.given(), limit=shown, timezone=obj.timezone, warn_percent=obj.warn_percent)
        form.unit_of_row = obj.unit
        return form

    @expose("/new/", methods=("GET", "POST"))
    def create_view(self) -> Any:
        """The form of a new budget."""
        form = self.create_form()
        return self.answer_form(form, lambda: self.create(form), self.create_template, owners=owned.suggestions())

    @expose("/edit/", methods=("GET", "POST"))
    def edit_view(self) -> Any:
        """The form of a budget, with where it stands."""
        row = self.row()
        self.refuse(self.why_fixed(row))
        form = self.edit_form(obj=row)
        state = budgets.states(gateway().engine, [row])[0]
        return self.answer_edit(form, row, state=state, names=owned.names_of([row]))

    def create(self, form: Any) -> Any:
        """Store a new budget; one that is there already is to be edited instead."""
        scope, scope_id = form.scope.data, form.scope_id()
        if budgets.find(db.session(), scope, scope_id, form.unit.data, form.period.data) is not None:
            raise InvalidRequest(N_("There is such a budget already; edit that one."), param="period")
        row = Budget(scope=scope, scope_id=scope_id, unit=form.unit.data, period=form.period.data)
        return self._store(form, row)

    def update(self, form: Any, row: Budget) -> Any:
        """Store limit, time zone and when to warn."""
        if not row.is_prepaid:
            return self._store(form, row)
        before = row.limit_amount
        try:
            return self._store(form, row)
        except InvalidRequest as exc:
            exc.param = "limit"
            if "deductible" not in exc.details:
                raise
            least = before - exc.details["deductible"]
            message = gettext("It cannot be less than %(least)s tokens, which are spent or held by calls.", least=least)
            raise InvalidRequest(message, param="limit") from exc

    def _store(self, form: Any, row: Budget) -> Any:
        before = {name: getattr(row, name) for name in ("limit_amount", "timezone", "warn_percent")}
        row.warn_percent = form.warn_percent.data
        timezone = form.timezone.data if "timezone" in form else row.timezone
        budgets.change(db.session(), actor(), row, form.amount(), timezone)
        if before["limit_amount"] is not None and not row.is_prepaid:
            self.offer_undo("amount", row, before)
        db.session.commit()
        self.settled()
        return go_back(".index_view")

    def why_kept(self, row: Budget) -> str | None:
        """A balance is a sum of movements, which go on."""
        fixed = self.why_fixed(row)
        return gettext("A balance stays with its user. Change its limit instead.") if row.is_prepaid else fixed

    def consequences(self, row: Budget) -> list[str]:
        """What it means."""
        return [gettext("Calls are no longer measured against it."), gettext("What was spent stays in the ledger.")]

    def delete(self, session: Session, row: Budget) -> None:
        """The budget. Its windows stay: they are sums of the ledger, which proves them."""
        session.execute(delete(Budget).where(Budget.id == row.id))

    def titled(self, row: Budget, names: owned.Owners) -> str:
        """See OwnedTable."""
        return f"{SCOPE_NAMES[row.scope]} {owned.name_of(row, names)}, {PERIOD_NAMES[row.period]}"

    def record(self, row: Budget, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported. Amounts are USD or tokens, as `unit` says."""
        state = extras["states"][row.id]
        amounts = {"limit": row.limit_amount, "spent": state.spent, "held": state.held}
        amounts["left"] = row.limit_amount - state.spent - state.held
        is_usd = row.unit == "usd"
        return {
            **{name: f"{money.usd(amount):f}" if is_usd else amount for name, amount in amounts.items()},
            "owner": owned.name_of(row, extras["names"]),
            "state": budgets.level(state),
            "resets_at": state.ends_s and datetime.fromtimestamp(state.ends_s, UTC),
        }

    def undo_amount(self, row: Budget, before: Mapping[str, Any]) -> None:
        """Put back limit, time zone and when to warn."""
        row.warn_percent = before["warn_percent"]
        budgets.change(db.session(), actor(), row, before["limit_amount"], before["timezone"])

    def describe(self, row: Budget) -> dict[str, Any]:
        """See Table."""
        return {
            "scope": row.scope,
            "scope_id": row.scope_id,
            "unit": row.unit,
            "period": row.period,
            "limit_amount": row.limit_amount,
            "timezone": row.timezone,
            "warn_percent": row.warn_percent,
            "is_prepaid": row.is_prepaid,
        }
