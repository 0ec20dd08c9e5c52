"""Limits: how many requests, tokens or concurrent calls users, keys, teams, models and addresses may have."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from sqlalchemy.orm import Session
from wtforms import RadioField, SelectField
from wtforms.validators import InputRequired, Length, ValidationError

from models import Limit
from routes.admin import bulk, owned
from routes.admin.forms import PERIOD_NAMES, PanelForm, TextField, options
from routes.admin.guard import actor, expose, go_back
from routes.admin.owned import OWNER_HELP, SCOPE_NAMES, OwnedForm, OwnedTable
from routes.admin.tables import Choice
from routes.admin.texts import N_, gettext, lazy_gettext
from services import counting, limits
from services.errors import InvalidRequest
from services.types import LimitRef
from utils.extensions import db, gateway

_ = lazy_gettext

ADDRESS: Final = "address"
UNIT_NAMES: Final = {"requests": _("Requests"), "tokens": _("Tokens"), "concurrent": _("Calls at once")}
LAYER_NAMES: Final = SCOPE_NAMES | {ADDRESS: _("Client address")}
SPAN_NAMES: Final = {name: PERIOD_NAMES[name] for name in counting.PERIODS if name != counting.NONE}


class AmountForm(PanelForm):
    """What can be changed of a limit."""

    amount = TextField(
        _("At most"), [InputRequired(), Length(1, 15)], description=_("0 refuses everything that it counts.")
    )

    def validate_amount(self, field: Any) -> None:
        """A whole number."""
        try:
            limits.parse_amount(field.data)
        except InvalidRequest as exc:
            raise ValidationError(gettext("This is not a whole number.")) from exc

    def number(self) -> int:
        """The amount."""
        return limits.parse_amount(self.amount.data)


class NewLimit(AmountForm, OwnedForm):
    """A new limit."""

    scope = RadioField(_("For"), choices=options(LAYER_NAMES), default="user")
    owner = TextField(_("Name"), [Length(0, 200)], description=OWNER_HELP)
    unit = SelectField(_("Counts"), choices=options(UNIT_NAMES), default="requests")
    period = SelectField(_("Period"), choices=options(SPAN_NAMES), default="minute")

    def validate_owner(self, field: Any) -> None:
        """Addresses have no name."""
        if self.scope.data != ADDRESS and not field.data:
            raise ValidationError(gettext("This field is required."))

    def whose(self) -> int:
        """The number of the owner; 0 for addresses.

        Raises:
            InvalidRequest: there is none of that name.
        """
        return 0 if self.scope.data == ADDRESS else self.scope_id()

    def span(self) -> str:
        """The period; calls at once have none."""
        return counting.NONE if self.unit.data == counting.CONCURRENT else str(self.period.data)


class Limits(OwnedTable):
    """The limits."""

    model_class = Limit
    icon, singular, resource = "stopwatch", "Limit", "limit"
    column_list = ("owner", "layer", "what", "used", "left", "resets")
    column_labels: ClassVar[dict[str, Any]] = {
        "owner": _("For"),
        "layer": _("Layer"),
        "what": _("Counts"),
        "used": _("Used now"),
        "left": _("Left"),
        "resets": _("Resets"),
    }
    many = (
        bulk.delete(
            _("Calls are no longer counted against them."),
            _("Other limits and budgets go on."),
            label=_("Remove"),
            done=_("Limits that were removed: %(count)s."),
        ),
    )
    exported = ("id", "scope", "owner", "unit", "period", "limit_amount", "used", "left", "resets_at")
    exported_as: ClassVar[Mapping[str, Any]] = {
        "layer": ("scope",),
        "what": ("unit", "period"),
        "used": ("limit_amount", "used"),
        "resets": ("resets_at",),
    }
    list_template = "admin/limits/list.html"
    create_template = "admin/limits/create.html"
    edit_template = "admin/limits/edit.html"
    choices = (
        Choice("scope", _("For"), list(LAYER_NAMES.items())),
        Choice("unit", _("Counts"), list(UNIT_NAMES.items())),
        Choice("period", _("Period"), list(SPAN_NAMES.items())),
    )

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """What is used of each, whose they are, and those that the settings give."""
        states = limits.states(gateway().engine, rows, gateway().remote)
        return {
            "states": {state.limit.id: state for state in states},
            "names": owned.names_of(rows),
            "everywhere": gateway().layers.everywhere,
        }

    def create_form(self, obj: Any = None) -> NewLimit:
        """See Flask-Admin."""
        scope = self.argument("scope") if self.argument("scope") in LAYER_NAMES else "user"
        return NewLimit(self.given(), scope=scope, owner=self.argument("owner"))

    def edit_form(self, obj: Any = None) -> AmountForm:
        """See Flask-Admin."""
        return AmountForm(self.given(), amount=str(obj.limit_amount))

    @expose("/new/", methods=("GET", "POST"))
    def create_view(self) -> Any:
        """The form of a new limit."""
        form = self.create_form()
        return self.answer_form(form, lambda: self.create(form), self.create_template, owners=owned.suggestions())

    @expose("/edit/", methods=("GET", "POST"))
    def edit_view(self) -> Any:
        """The form of a limit, with where it stands."""
        row = self.row()
        self.refuse(self.why_fixed(row))
        state = limits.states(gateway().engine, [row], gateway().remote)[0]
        return self.answer_edit(self.edit_form(obj=row), row, state=state, names=owned.names_of([row]))

    def create(self, form: Any) -> Any:
        """Store a new limit; one that is there already is to be edited instead."""
        scope, scope_id, unit, period = form.scope.data, form.whose(), form.unit.data, form.span()
        if limits.find(db.session(), scope, scope_id, unit, period) is not None:
            raise InvalidRequest(N_("There is such a limit already; edit that one."), param="unit")
        return self._store(form, Limit(scope=scope, scope_id=scope_id, unit=unit, period=period))

    def update(self, form: Any, row: Limit) -> Any:
        """Store the amount."""
        return self._store(form, row)

    def _store(self, form: Any, row: Limit) -> Any:
        before = row.limit_amount
        limits.change(db.session(), actor(), row, form.number())
        if before is not None:
            self.offer_undo("amount", row, {"limit_amount": before})
        db.session.commit()
        self.settled()
        return go_back(".index_view")

    def consequences(self, row: Limit) -> list[str]:
        """What it means."""
        return [gettext("Calls are no longer counted against it."), gettext("Other limits and budgets go on.")]

    def note_deletion(self, session: Session, row: Limit) -> None:
        """The service does."""

    def delete(self, session: Session, row: Limit) -> None:
        """The limit; calls under way end as if it were there."""
        limits.delete(session, actor(), row)

    def titled(self, row: Limit, names: owned.Owners) -> str:
        """See OwnedTable."""
        whose = str(LAYER_NAMES[row.scope])
        if row.scope != ADDRESS:
            whose = f"{whose} {owned.name_of(row, names)}"
        return f"{whose}: {what_of(row)}"

    def record(self, row: Limit, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        state = extras["states"][row.id]
        return {
            "owner": "" if row.scope == ADDRESS else owned.name_of(row, extras["names"]),
            "used": state.used,
            "left": None if state.used is None else max(row.limit_amount - state.used, 0),
            "resets_at": state.resets_s and datetime.fromtimestamp(state.resets_s, UTC),
        }

    def undo_amount(self, row: Limit, before: Mapping[str, Any]) -> None:
        """Put the amount back."""
        limits.change(db.session(), actor(), row, before["limit_amount"])

    def describe(self, row: Limit) -> dict[str, Any]:
        """See Table."""
        names = ("scope", "scope_id", "unit", "period", "limit_amount")
        return {name: getattr(row, name) for name in names}


def what_of(row: Limit | LimitRef) -> str:
    """What a limit counts, and over which time."""
    if row.unit == counting.CONCURRENT:
        return str(UNIT_NAMES[row.unit])
    if isinstance(row, LimitRef) and row.seconds:
        span = gettext("per %(count)s s", count=row.seconds)
    else:
        span = str(SPAN_NAMES[row.period])
    return f"{UNIT_NAMES[row.unit]} {span[:1].lower()}{span[1:]}"
