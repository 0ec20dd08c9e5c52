"""Top-up codes: making them, shown once, and voiding those that nobody redeemed; see services/topups.py."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from flask import abort, request
from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import Session
from wtforms import IntegerField, SelectField
from wtforms.validators import InputRequired, Length, NumberRange, ValidationError

from models import TopUpCode, User
from routes.admin import amounts
from routes.admin.forms import UNIT_NAMES, PanelForm, TextField, options
from routes.admin.guard import actor
from routes.admin.show_amounts import text_of
from routes.admin.tables import Choice, Table
from routes.admin.texts import N_, gettext, lazy_gettext
from services import budgets, topups
from utils import clock
from utils.extensions import db, gateway

_ = lazy_gettext

STATES: Final = {"open": _("Open"), "redeemed": _("Redeemed"), "expired": _("Expired"), "voided": _("Voided")}
TONES: Final = {"open": "good", "redeemed": "quiet", "expired": "warn", "voided": "quiet"}


class CodesForm(PanelForm):
    """What codes give, and how many there are."""

    unit = SelectField(_("Gives"), choices=options(UNIT_NAMES), default="tokens")
    amount = TextField(
        _("Amount of each"),
        [InputRequired(), Length(1, 50)],
        description=_("Tokens go to the balance, USD raise the total budget of whoever redeems it."),
    )
    count = IntegerField(_("Codes"), [InputRequired(), NumberRange(1, topups.MOST_CODES)], default=1)
    days = IntegerField(
        _("Days"),
        [InputRequired(), NumberRange(1, topups.MOST_DAYS)],
        default=topups.DAYS,
        description=_("After them a code gives nothing any more."),
    )
    note = TextField(_("Note"), [Length(0, topups.MAX_NOTE)], description=_("For admins, such as whom they are for."))

    def validate_amount(self, field: Any) -> None:
        """An amount in the unit."""
        if problem := amounts.problem(self.unit.data, field.data):
            raise ValidationError(problem)


class TopUpCodes(Table):
    """The codes, newest first."""

    model_class = TopUpCode
    icon, singular, resource = "gift", N_("Top-up code"), topups.RESOURCE
    can_edit = can_view_details = False
    edit_view = details_view = None  # type: ignore[assignment]  # Flask-Admin offers no page whose view is None
    column_list = ("hint", "state", "amount", "note", "created_by", "created_at", "expires_at")
    column_labels: ClassVar[dict[str, Any]] = {
        "hint": _("Code"),
        "state": _("State"),
        "amount": _("Gives"),
        "note": _("Note"),
        "created_by": _("Made by"),
        "created_at": _("Created"),
        "expires_at": _("Expires"),
    }
    column_sortable_list: ClassVar[list[Any]] = ["created_at", "expires_at"]
    column_default_sort = ("created_at", True)
    column_searchable_list = ("hint", "note", "created_by")
    exported = (
        *("hint", "unit", "amount", "note", "created_by", "created_at", "expires_at", "used_at", "used_by"),
        "voided_at",
    )
    list_template = "admin/topups/list.html"
    create_template = "admin/topups/create.html"
    choices = (Choice("state", _("State"), list(STATES.items())),)

    def row(self) -> Any:
        """The code with the id that was asked for."""
        found = db.session.get(TopUpCode, request.values.get("id", "")[: topups.MAX_CODE].replace("\0", ""))
        if found is None:
            abort(404)
        return found

    def title(self, row: TopUpCode) -> str:
        """The beginning of the code."""
        return row.hint

    def narrowed(self, query: Any) -> Any:
        """See Table."""
        return query.filter(_in_state(self.chosen("state"), clock.now()))

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """Who redeemed which."""
        users = select(User.id, User.username).where(User.id.in_([row.used_by for row in rows if row.used_by]))
        now = clock.now()
        return {
            "users": dict(db.session.execute(users).tuples().all()),
            "state_of": lambda row: topups.state(row, now),
            "states": STATES,
            "tones": TONES,
        }

    def create_form(self, obj: Any = None) -> CodesForm:
        """See Flask-Admin."""
        return CodesForm(self.given())

    def create(self, form: Any) -> Any:
        """Make them; they are on this answer and nowhere else."""
        amount = budgets.parse_limit(form.unit.data, amounts.plain(form.unit.data, form.amount.data))
        said = {"count": form.count.data, "days": form.days.data, "note": form.note.data or ""}
        codes = topups.make(gateway().engine, actor(), unit=form.unit.data, amount=amount, **said)
        gives = text_of(form.unit.data, amount)
        return self.render("admin/topups/created.html", codes=codes, gives=gives, base_url=request.host_url.rstrip("/"))

    def why_kept(self, row: TopUpCode) -> str | None:
        """Only an open one can be voided."""
        if topups.state(row, clock.now()) in ("redeemed", "voided"):
            return gettext("This code was redeemed or voided already.")
        return None

    def consequences(self, row: TopUpCode) -> list[str]:
        """What it means for whoever has the code."""
        return [gettext("Nobody can redeem it any more; it stays in this list.")]

    def note_deletion(self, session: Session, row: TopUpCode) -> None:
        """The service notes it, with the change."""

    def delete(self, session: Session, row: TopUpCode) -> None:
        """Void it: what was made stays to be seen."""
        topups.void(session, actor(), row)

    def describe(self, row: TopUpCode) -> dict[str, Any]:
        """See Table."""
        return {"unit": row.unit, "amount": row.amount, "note": row.note}

    def settled(self) -> None:
        """No worker keeps codes."""


def _in_state(state: str, now: datetime) -> ColumnElement[bool]:
    is_used, is_void = TopUpCode.used_at.is_not(None), TopUpCode.voided_at.is_not(None)
    is_over = TopUpCode.expires_at <= now
    return {
        "redeemed": is_used,
        "voided": is_void,
        "expired": ~is_used & ~is_void & is_over,
        "open": ~is_used & ~is_void & ~is_over,
    }.get(state, true())
