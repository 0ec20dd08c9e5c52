"""The policy of a key, user, team or model, chosen in its own form."""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from flask import flash
from sqlalchemy import Row, select
from wtforms import SelectField

from models import ApiKey, Model, Team, User
from models_policies import Policy, PolicyBinding
from routes.admin.forms import PanelForm, options
from routes.admin.guard import actor
from routes.admin.texts import gettext, lazy_gettext
from services import bindings
from utils.extensions import db

_ = lazy_gettext

MOST_OFFERED: Final = 1_000
SCOPES: Final = {ApiKey: "key", User: "user", Team: "team", Model: "model"}
Form = TypeVar("Form", bound="PolicyChoice")


class PolicyChoice(PanelForm):
    """Which policy applies."""

    policy = SelectField(
        _("Policy"), default="", description=_("It applies besides those of every call and of other layers.")
    )


def offer(form: Form) -> Form:
    """The form, with the policies to choose from."""
    # What it has, or is to have, comes first: so it is among those that are offered, however many there are.
    is_other = Policy.uuid.not_in([form.policy.object_data, form.policy.data or ""])
    ranked = select(Policy.uuid, Policy.name).order_by(is_other, Policy.name).limit(MOST_OFFERED)
    found = sorted(db.session.execute(ranked).tuples(), key=lambda one: one[1].lower())
    form.policy.choices = options({"": _("None"), **dict(found)})
    return form


def policy_of(row: Any) -> Row[Any] | None:
    """Number, UUID and name of the policy that it has."""
    query = select(Policy.id, Policy.uuid, Policy.name).join(PolicyBinding)
    return db.session.execute(query.filter_by(**_place(row))).one_or_none()


def chosen(row: Any) -> str:
    """What the form of it starts with."""
    found = policy_of(row)
    return "" if found is None else str(found.uuid)


def keep(row: Any, form: PolicyChoice) -> None:
    """Store what the form says, and tell which policy lost it; the row has its number.

    Raises:
        FieldsInvalid: the policy was deleted meanwhile.
    """
    place = _place(row)
    end = place["scope"], place["scope_id"]
    tell(bindings.bind(db.session(), actor(), end, form.policy.data, "policy"))


def tell(losers: Sequence[str]) -> None:
    """Say which policies lost something by what is stored now."""
    if losers:
        said = gettext("Each has one policy at most, so this was taken from: %(names)s.", names=", ".join(losers))
        flash(said, "warning")


def _place(row: Any) -> dict[str, Any]:
    return {"scope": SCOPES[type(row)], "scope_id": row.id}
