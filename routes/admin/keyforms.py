"""The forms of API keys."""

from datetime import timedelta
from typing import Any, Final

from wtforms import BooleanField, FloatField, IntegerField, SelectField
from wtforms.validators import InputRequired, Length, NumberRange, Optional

from models import ApiKey
from routes.admin.access import AccessForm, LinesField, NewAccessForm, shown
from routes.admin.bound import PolicyChoice
from routes.admin.forms import PERIOD_NAMES, PanelForm, TextField, UsdField, options
from routes.admin.limits import SPAN_NAMES
from routes.admin.routed import WAIT
from routes.admin.texts import lazy_gettext
from services import fields, limits, restrictions

_ = lazy_gettext

GRACES: Final = {  # hours
    "0": _("Not at all: every former secret stops at once"),
    "1": _("An hour"),
    "24": _("A day"),
    "168": _("A week"),
    "720": _("30 days"),
}
OWN_FIELDS: Final = ("name", "allowed_ips", "should_log_request", "should_log_response")


class KeyForm(PolicyChoice, AccessForm):
    """What can be changed of a key at any time."""

    name = TextField(
        _("Name"), [InputRequired(), Length(1, 255)], description=_("What it is for, such as an app or a team.")
    )
    allowed_ips = LinesField(
        _("Allowed client addresses"),
        restrictions.network,
        problem=_("not an address or a network such as 10.0.0.0/8"),
        description=_("One address or network (CIDR) a line. Empty: from everywhere."),
    )
    should_log_request = BooleanField(_("Keep the texts of requests"))
    should_log_response = BooleanField(_("Keep the texts of answers"))
    first_byte_s = FloatField(_("Longest wait for the first byte, seconds"), WAIT)
    silence_s = FloatField(_("Longest silence in an answer, seconds"), WAIT)
    total_s = FloatField(_("Longest call in all, seconds"), WAIT)

    def fill(self, row: ApiKey) -> None:
        """Set what the form says on a row that is there already, or has just been made."""
        own = {name: self[name].data for name in OWN_FIELDS}
        for name, value in (self.access(row.created_at) | own).items():
            setattr(row, name, value)
        waits = {name: self[name].data for name in fields.TIMEOUTS}
        row.timeouts = {name: value for name, value in waits.items() if value is not None} or None


class NewKey(KeyForm, NewAccessForm):
    """A new key, with a budget and limits of its own if wanted."""

    owner = TextField(
        _("Owner"), [InputRequired(), Length(1, 150)], description=_("The user whose usage it counts as.")
    )
    budget = UsdField(_("Budget in USD"), description=_("Leave empty for none. Calls that do not fit are refused."))
    period = SelectField(_("Budget period"), choices=options(PERIOD_NAMES), default="month")
    token_budget = IntegerField(_("Budget in tokens"), [Optional(), NumberRange(0, limits.MAX_AMOUNT)])
    token_period = SelectField(_("Token budget period"), choices=options(PERIOD_NAMES), default="month")
    requests = IntegerField(_("Requests at most"), [Optional(), NumberRange(0, limits.MAX_AMOUNT)])
    requests_period = SelectField(_("Request limit period"), choices=options(SPAN_NAMES), default="minute")
    concurrent = IntegerField(_("Calls at once"), [Optional(), NumberRange(0, limits.MAX_AMOUNT)])

    def budgets(self) -> list[tuple[str, str, int]]:
        """Unit, period and amount of each budget that is wanted."""
        wanted = (
            ("usd", self.period.data, self.budget.data),
            ("tokens", self.token_period.data, self.token_budget.data),
        )
        return [(unit, period, amount) for unit, period, amount in wanted if amount is not None]

    def limits(self) -> list[tuple[str, str, int]]:
        """The same of each limit."""
        wanted = (
            ("requests", self.requests_period.data, self.requests.data),
            ("concurrent", "none", self.concurrent.data),
        )
        return [(unit, period, amount) for unit, period, amount in wanted if amount is not None]


class Revocation(PanelForm):
    """Why a key is voided."""

    reason = TextField(
        _("Reason"), [Length(0, 255)], description=_("Whoever still uses the key reads it in the error message.")
    )


class Rotation(PanelForm):
    """How long the secret before goes on opening a key that gets a new one."""

    grace = SelectField(_("The former secret goes on working for"), choices=options(GRACES), default="24")

    def time(self) -> timedelta:
        """The same as a time."""
        return timedelta(hours=int(self.grace.data))


def values(row: ApiKey) -> dict[str, Any]:
    """What the form of a key starts with."""
    return shown(row) | {name: getattr(row, name) for name in OWN_FIELDS} | (row.timeouts or {})
