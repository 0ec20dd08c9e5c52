"""What mends a refusal at once: a counter begins anew, a model is allowed, a balance is topped up.

Each asks first, is one transaction with its audit entry, and leads back to the page it came from. What needs a figure
or a choice (limits, budgets, dates) is changed in its own form; revocations are lifted on the key's page.
"""

from typing import Any, Final

from flask import abort, flash, request
from wtforms.validators import InputRequired, Length, ValidationError

from models import ApiKey, Limit, Team, User
from routes.admin import amounts
from routes.admin.forms import PanelForm, TextField
from routes.admin.guard import actor, came_from, expose, go_back
from routes.admin.tables import MAX_ID, Log
from routes.admin.texts import gettext, lazy_gettext
from routes.admin.verdicts import SETTINGS
from services import audit, balances, limits
from services.accounts import ERASED
from services.errors import InvalidRequest
from utils.extensions import db, gateway

_ = lazy_gettext

OWNERS: Final = {"key": ApiKey, "user": User, "team": Team}
LONGEST_COUNTER: Final = 120
HERE: Final = ".index_view"
TOP_UP: Final = "admin/blocked/top_up.html"


class TopUp(PanelForm):
    """How much to give."""

    tokens = TextField(_("Tokens to add"), [InputRequired(), Length(1, 13)])
    reason = TextField(_("Reason, for the ledger"), [Length(0, 200)])

    def validate_tokens(self, field: Any) -> None:
        """A whole number."""
        text = amounts.plain("tokens", field.data or "")
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= balances.MAX_AMOUNT):
            raise ValidationError(gettext("This is not a whole number."))

    def number(self) -> int:
        """The amount."""
        return int(amounts.plain("tokens", self.tokens.data or ""))


class Mending(Log):
    """The forms of the page about refusals."""

    @expose("/reset/", methods=("GET", "POST"))
    def reset_view(self) -> Any:
        """Asks, then begins a counter of requests anew."""
        counter = request.args.get("counter", "")[:LONGEST_COUNTER]
        row = self._limit_of(counter)
        if row is None and not counter.startswith(tuple(SETTINGS)):
            abort(404)
        reason = self._why_not_reset(row)
        if request.method == "GET":
            return self.render("admin/blocked/reset.html", why_kept=reason, counter=counter, back=came_from(HERE))
        self.refuse(reason)
        before = limits.reset(db.session(), actor(), counter)
        db.session.commit()
        flash(gettext("The counter begins anew; %(count)s had been counted.", count=before), "success")
        return go_back(HERE)

    @expose("/allow/", methods=("GET", "POST"))
    def allow_view(self) -> Any:
        """Asks, then puts a model on the list of a key, user or team."""
        scope, model = self.argument("scope"), self.argument("model")
        row = self._owner(scope)
        if row is None or not model:
            abort(404)
        reason = _why_not_allowed(row, model)
        name = str(getattr(row, "name", None) or row)
        if request.method == "GET":
            return self.render(
                "admin/blocked/allow.html", why_kept=reason, name=name, model=model, back=came_from(HERE)
            )
        self.refuse(reason)
        before = {"allowed_models": row.allowed_models}
        row.allowed_models = [*row.allowed_models, model]
        details = audit.differences(before, {"allowed_models": row.allowed_models})
        audit.note(db.session(), actor(), f"{scope}_update", scope, row.id, details)
        db.session.commit()
        self.settled()
        flash(gettext("%(name)s may use %(model)s now.", name=name, model=model), "success")
        return go_back(HERE)

    @expose("/top-up/", methods=("GET", "POST"))
    def top_up_view(self) -> Any:
        """Asks how much, then tops up a user's balance."""
        given = request.args.get("user", type=int) or 0
        row = db.session.get(User, given) if 0 < given <= MAX_ID else None
        if row is None or row.username.startswith(ERASED):
            abort(404)
        form = TopUp(self.given())
        return self.answer_form(form, lambda: self._top_up(form, row), TOP_UP, row=row, back=came_from(HERE))

    def _top_up(self, form: TopUp, row: User) -> Any:
        tokens, reason = form.number(), form.reason.data or None
        try:
            balances.move(db.session(), row.id, tokens, actor(), reason)
        except InvalidRequest as exc:
            exc.param = "tokens"
            raise
        audit.note(db.session(), actor(), "token_topup", "token", row.id, {"tokens": tokens, "reason": reason})
        name = row.username
        db.session.commit()
        self.settled()
        flash(gettext("%(name)s has %(count)s tokens more.", name=name, count=tokens), "success")
        return go_back(HERE)

    @staticmethod
    def _limit_of(counter: str) -> Limit | None:
        """The limit whose counter that is; None = it is one of the settings, or there is none."""
        number = counter.partition("/")[0]
        is_number = number.isascii() and number.isdigit() and int(number) <= MAX_ID
        return db.session.get(Limit, int(number)) if is_number and counter.isprintable() else None

    @staticmethod
    def _why_not_reset(row: Limit | None) -> str | None:
        if gateway().remote is not None:
            return gettext("It is counted in Valkey or Redis, where it ends by itself. Raise the limit instead.")
        if row is not None and row.unit != "requests":
            return gettext("Only requests can be counted anew: calls under way give back to the others.")
        return None

    @staticmethod
    def _owner(scope: str) -> Any:
        table, given = OWNERS.get(scope), request.args.get("owner", type=int) or 0
        return db.session.get(table, given) if table is not None and 0 < given <= MAX_ID else None


def _why_not_allowed(row: Any, model: str) -> str | None:
    if isinstance(row, ApiKey) and row.kind == "environment":
        return gettext("This key comes from the setting API_AUTH_TOKENS; change it there.")
    if isinstance(row, User) and row.username.startswith(ERASED):
        return gettext("This account was erased; it stays for the books only.")
    if row.allowed_models is None or model in row.allowed_models:
        return gettext("It may use this model already.")
    return None
