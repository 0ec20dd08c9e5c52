"""Requests of people for more: the queue in which admins approve or decline them; see services/raises.py."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from flask import flash
from sqlalchemy import select
from wtforms import RadioField, TextAreaField
from wtforms.validators import Length, ValidationError

from models import Budget, Limit, RaiseRequest, User
from routes.admin import amounts, owned
from routes.admin.forms import PanelForm, TextField, options
from routes.admin.guard import actor, admin, expose, go
from routes.admin.portal import base
from routes.admin.show_amounts import typed
from routes.admin.tables import Choice, Table
from routes.admin.texts import gettext, lazy_gettext
from services import budgets, limits, raises
from services.keys import caller_of
from utils.extensions import db, gateway

_ = lazy_gettext

STATES: Final = {"open": _("Open"), "approved": _("Approved"), "declined": _("Declined"), "withdrawn": _("Withdrawn")}
TONES: Final = {"open": "warn", "approved": "good", "declined": "bad", "withdrawn": "quiet"}
DECISIONS: Final = {"approve": _("Approve"), "decline": _("Decline")}


class Decision(PanelForm):
    """What becomes of a request."""

    decision = RadioField(_("Decision"), choices=options(DECISIONS), default="approve")
    amount = TextField(_("Amount"), [Length(0, 50)], description=_("As it was asked for; change it to give another."))
    answer = TextAreaField(
        _("Answer"), [Length(0, raises.MAX_TEXT)], description=_("The person reads it. Declining needs a reason.")
    )

    unit_of_row = "usd"  # set by the view

    def validate_amount(self, field: Any) -> None:
        """An amount in the unit of what is asked for."""
        if self.decision.data != "approve":
            return
        if problem := amounts.problem(self.unit_of_row, field.data or ""):
            raise ValidationError(problem)

    def given(self) -> int:
        """The amount in nano-USD or whole numbers."""
        return budgets.parse_limit(self.unit_of_row, amounts.plain(self.unit_of_row, self.amount.data or ""))


class Raisings(Table):
    """The queue, newest first."""

    model_class = RaiseRequest
    icon, singular, resource = "hand-index-thumb", "Request", raises.RESOURCE
    can_create = can_edit = can_delete = False
    create_view = edit_view = delete_view = None  # type: ignore[assignment]  # Flask-Admin offers no page whose view is None
    column_list = ("user_id", "state", "kind", "wanted_amount", "reason", "created_at")
    column_labels: ClassVar[dict[str, Any]] = {
        "user_id": _("Who"),
        "state": _("State"),
        "kind": _("More of"),
        "wanted_amount": _("Wanted"),
        "reason": _("Reason"),
        "created_at": _("Asked"),
    }
    column_sortable_list: ClassVar[list[Any]] = []
    column_default_sort = ("id", True)
    exported = (
        *("id", "user", "kind", "scope", "scope_id", "unit", "period", "seen_amount", "wanted_amount", "state"),
        *("reason", "decided_amount", "decided_by", "decided_at", "answer", "created_at"),
    )
    list_template = "admin/requests/list.html"
    details_template = "admin/requests/details.html"
    choices = (Choice("state", _("State"), list(STATES.items())),)

    def badge(self) -> int:
        """How many wait for a decision; the sidebar shows it."""
        return raises.count_open(gateway().engine)

    def narrowed(self, query: Any) -> Any:
        """See Table."""
        state = self.chosen("state")
        return query.filter(RaiseRequest.state == state) if state else query

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """Who asks, and for what."""
        users = select(User.id, User.username).where(User.id.in_({row.user_id for row in rows}))
        return {
            "users": dict(db.session.execute(users).tuples().all()),
            "names": owned.names_of(rows),
            "what": base.what,
            "states": STATES,
            "tones": TONES,
        }

    def details(self, row: RaiseRequest) -> Mapping[str, Any]:
        """Where it stands now, and the form to decide it."""
        form = Decision(amount=typed(row), decision="approve")
        return self._parts(row) | {"form": form}

    @expose("/decide/", methods=("GET", "POST"))
    def decide_view(self) -> Any:
        """Approve or decline, with words."""
        row = self.row()
        form = Decision(self.given(), amount=typed(row))
        form.unit_of_row = "usd" if row.unit == "usd" else "tokens"
        parts = self._parts(row)
        return self.answer_form(
            form, lambda: self._decide(form, parts["number"]), self.details_template, row=row, why_fixed=None, **parts
        )

    def _decide(self, form: Decision, number: int) -> Any:
        user = db.session.get_one(User, admin().user_id)
        who, here = caller_of(db.session(), user), gateway()
        db.session.rollback()
        answer = form.answer.data or ""
        if form.decision.data == "approve":
            here.raises.approve(who, actor(), number, form.given(), answer)
            flash(gettext("The request was approved."), "success")
        else:
            here.raises.decline(who, actor(), number, answer)
            flash(gettext("The request was declined."), "success")
        return go(".index_view", state="open")

    def _parts(self, row: RaiseRequest) -> dict[str, Any]:
        session, engine = db.session(), gateway().engine
        kinds: dict[str, Any] = {"budget": Budget, "balance": Budget, "limit": Limit}
        kind = kinds[row.kind]
        wanted = [
            kind.scope == row.scope,
            kind.scope_id == row.scope_id,
            kind.unit == row.unit,
            kind.period == row.period,
        ]
        if kind is Budget:
            wanted.append(Budget.is_prepaid == (row.kind == "balance"))
        found = session.scalars(select(kind).where(*wanted)).all()
        found_limits = limits.states(engine, found, gateway().remote) if kind is Limit else []
        return {
            "number": row.id,
            "asker": session.get(User, row.user_id),
            "names": owned.names_of([row]),
            "budgets": budgets.states(engine, found) if kind is Budget else [],
            "limits": found_limits,
            "what": base.what,
            "states": STATES,
            "tones": TONES,
        }

    def title(self, row: RaiseRequest) -> str:
        """Its number."""
        return gettext("Request %(number)s", number=row.id)

    def record(self, row: RaiseRequest, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        return {"user": extras["users"].get(row.user_id, f"#{row.user_id}")}

    def describe(self, row: RaiseRequest) -> dict[str, Any]:
        """See Table."""
        return {"state": row.state}
