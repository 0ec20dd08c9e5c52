"""Redeeming a top-up code; see services/topups.py."""

from typing import Any, Final

from flask import flash
from wtforms.validators import InputRequired, Length

from routes import auth
from routes.admin.forms import PanelForm, TextField
from routes.admin.guard import actor, admin, expose, go
from routes.admin.portal import base
from routes.admin.portal.base import PortalView
from routes.admin.show_amounts import text_of
from routes.admin.texts import gettext, lazy_gettext
from services import topups
from utils.extensions import db, gateway

_ = lazy_gettext

SHOWN: Final = 10


class Redeeming(PanelForm):
    """A code."""

    code = TextField(_("Code"), [InputRequired(), Length(1, topups.MAX_CODE)])


class TopUp(PortalView):
    """Where codes are redeemed."""

    icon = "gift"

    @expose("/", methods=("GET", "POST"))
    def index_view(self) -> Any:
        """The form, what one has now, and the codes that one redeemed."""
        form = Redeeming(base.given())
        names = {("user", admin().user_id): ""}
        found = base.standing(names)
        total = [state for state in found.budgets if state.budget.unit == "usd" and state.budget.period == "total"]
        redeemed = topups.newest(db.session(), admin().user_id, SHOWN)
        return self.answer_form(
            form,
            lambda: self._redeem(form),
            "admin/portal/topup.html",
            balance=found.balance,
            total=next(iter(total), None),
            redeemed=redeemed,
        )

    def _redeem(self, form: Redeeming) -> Any:
        db.session.rollback()
        got = gateway().top_ups.redeem(actor(), admin().user_id, form.code.data, auth.address())
        flash(gettext("You got %(amount)s.", amount=text_of(got.unit, got.amount)), "success")
        return go(".index_view")
