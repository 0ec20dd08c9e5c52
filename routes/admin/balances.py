"""Prepaid tokens: where users stand, and every movement. Changes go through services/balances.py, as those of the API.

A balance belongs to a user for good: it can be emptied, and is never deleted.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from flask import abort, flash
from sqlalchemy import select
from wtforms import IntegerField
from wtforms.validators import InputRequired, Length, NumberRange, Optional

from models import LedgerEntry, User
from routes.admin.forms import PanelForm, TextField
from routes.admin.guard import actor, expose, go
from routes.admin.owned import number_of
from routes.admin.tables import Log, Table
from routes.admin.texts import N_, gettext, lazy_gettext
from services import balances, reports, walks
from services.errors import InvalidRequest
from utils.extensions import db, gateway

_ = lazy_gettext

OFFERED_USERS = 200  # names that the browser suggests; any other can be typed
MOST = balances.MAX_AMOUNT
NOBODY = -1  # an id that no row has


class LimitForm(PanelForm):
    """What both forms ask for."""

    limit = IntegerField(
        _("Limit (null=unlimited)"),
        [Optional(), NumberRange(0, MOST)],
        description=_("How many tokens the user may ever use, prepaid or not. Empty means null: unlimited."),
    )
    reason = TextField(
        _("Reason"), [Length(0, balances.MAX_REASON)], description=_("It stands with the transaction for good.")
    )


class NewBalance(LimitForm):
    """Tokens for somebody who was not limited by any."""

    user = TextField(_("User"), [InputRequired(), Length(1, 150)])
    amount = IntegerField(
        _("Balance, tokens"),
        [Optional(), NumberRange(1, MOST)],
        description=_("What the user may spend until it is topped up. Empty: no balance, only the limit."),
    )


class BalanceForm(LimitForm):
    """More or fewer tokens for somebody who has some."""

    amount = IntegerField(
        _("Add or deduct, tokens"),
        [Optional(), NumberRange(-MOST, MOST)],
        description=_("Such as 5000, or -5000 to deduct. Empty: the balance stays."),
    )


class Balances(Table):
    """The users whose tokens are limited, and where they stand."""

    model_class = User
    icon, singular, resource = "coin", "Token balance", "token"
    details_view = delete_view = None  # type: ignore[assignment]  # Flask-Admin offers no page whose view is None
    can_view_details = can_delete = False
    column_list = ("user", "balance", "held", "used", "limit", "updated_at")
    column_labels: ClassVar[dict[str, Any]] = {
        "user": _("User"),
        "balance": _("Balance"),
        "held": _("Held by calls"),
        "used": _("Tokens used"),
        "limit": _("Limit (null=unlimited)"),
        "updated_at": _("Changed"),
    }
    column_sortable_list: ClassVar[list[Any]] = []
    column_default_sort = "username"
    column_searchable_list = ("username",)
    exported = ("id", "username", "balance", "held", "tokens_used", "limit")
    list_template = "admin/balances/list.html"
    create_template = "admin/balances/create.html"
    edit_template = "admin/balances/edit.html"

    def narrowed(self, query: Any) -> Any:
        """See Table."""
        return query.filter(walks.has_tokens())

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """Where each of them stands."""
        return {"tokens": walks.tokens_of(db.session(), [row.id for row in rows])}

    def record(self, row: User, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        found = extras["tokens"][row.id]
        return {"balance": found.balance, "held": found.held, "limit": found.limit}

    def create_form(self, obj: Any = None) -> NewBalance:
        """See Flask-Admin."""
        return NewBalance(self.given(), user=self.argument("user"))

    def edit_form(self, obj: Any = None) -> BalanceForm:
        """See Flask-Admin."""
        return BalanceForm(self.given(), limit=self._standing(obj).limit)

    @expose("/new/", methods=("GET", "POST"))
    def create_view(self) -> Any:
        """The form of a first balance."""
        form = self.create_form()
        users = db.session.scalars(select(User.username).order_by(User.username).limit(OFFERED_USERS)).all()
        return self.answer_form(form, lambda: self.create(form), self.create_template, users=users)

    @expose("/edit/", methods=("GET", "POST"))
    def edit_view(self) -> Any:
        """The form of a balance; 404 for users who have none."""
        row = self.row()
        standing = self._standing(row)
        return self.answer_edit(self.edit_form(obj=row), row, standing=standing)

    def create(self, form: Any) -> Any:
        """Give tokens, a limit or both."""
        user_id = number_of("user", form.user.data)
        if user_id is None:
            raise InvalidRequest(N_("There is no user of that name."), param="user")
        if form.amount.data is None and form.limit.data is None:
            raise InvalidRequest(N_("Give a balance, a limit or both."), param="amount")
        return self._change(form, user_id, form.user.data, is_new=True)

    def update(self, form: Any, row: User) -> Any:
        """Move the balance, set the limit."""
        return self._change(form, row.id, row.username)

    def _change(self, form: Any, user_id: int, name: str, *, is_new: bool = False) -> Any:
        db.session.rollback()  # the service has a transaction of its own
        engine, amount, limit = gateway().engine, form.amount.data or None, form.limit.data
        balances.change(engine, user_id, amount, limit, actor(), form.reason.data, is_new=is_new)
        self.settled()
        flash(gettext("%(name)s was saved.", name=f"{name} (#{user_id})"), "success")
        return go(".index_view")

    def _standing(self, row: User) -> walks.TokensOf:
        found = walks.tokens_of(db.session(), [row.id]).get(row.id)
        if found is None:
            abort(404)
        return found

    def title(self, row: User) -> str:
        """See Table."""
        return f"{row.username} (#{row.id})"

    def describe(self, row: User) -> dict[str, Any]:
        """What a form shows to be changed; calls move the balance all the time, and that disturbs nobody."""
        return {"user_id": row.id, "limit": self._standing(row).limit}


class Transactions(Log):
    """Every movement of prepaid tokens, from the ledger."""

    model_class = LedgerEntry
    icon, singular, resource = "arrow-left-right", "Token transaction", "token"
    details_view = None  # type: ignore[assignment]  # Flask-Admin offers no page whose view is None
    can_view_details = False
    column_list = ("created_at", "user", "amount_tokens", "reason", "note", "request_id", "actor")
    column_labels: ClassVar[dict[str, Any]] = {
        "created_at": _("Time"),
        "user": _("User"),
        "amount_tokens": _("Tokens"),
        "reason": _("Reason"),
        "note": _("Note"),
        "request_id": _("Call"),
        "actor": _("Who"),
    }
    column_searchable_list = ("reason",)  # what is searched in truth is in services/walks.py
    exported = ("id", "created_at", "kind", "user", "amount_tokens", "reason", "request_id", "actor")
    list_template = "admin/transactions/list.html"
    texts = ("user",)

    def walk(self) -> reports.Walk:
        """See Log."""
        user = self.argument("user")
        user_id = (number_of("user", user) or NOBODY) if user else None
        return walks.transactions(user_id, self.argument("search"))

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """Whose they are; what was used or deducted is negative."""
        owners = walks.owners_of(gateway().engine, {row.account_id for row in rows})
        return {
            "owners": owners,
            "names": reports.names(gateway().engine, owners.values(), ()),
            "codes": balances.REASONS,
            "signs": balances.SIGNS,
        }

    def record(self, row: Any, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported. Amounts have the sign of the list."""
        whose = extras["names"].users.get(extras["owners"].get(row.account_id, 0))
        return {"user": whose, "amount_tokens": balances.SIGNS.get(row.kind, -1) * row.amount_tokens}
