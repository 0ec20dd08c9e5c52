"""What the pages of the portal share: who is asking, what applies to them, and how forms are answered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from flask import request
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from models import ApiKey, Budget, Limit, User
from routes import wording
from routes.admin import drafts
from routes.admin.forms import PERIOD_NAMES, UNIT_NAMES
from routes.admin.guard import PersonalView, admin
from routes.admin.limits import what_of
from routes.admin.texts import gettext, lazy_gettext
from services import budgets, limits, ownkeys, portalpolicy, rights
from services.accounts import Person
from services.budgets import State as BudgetState
from services.errors import GatewayError
from services.keys import caller_of
from services.limits import State as LimitState
from services.portalpolicy import Policy
from services.types import Caller, PublicModel
from utils.extensions import db, gateway

_ = lazy_gettext

LAYERS: Final = ("key", "user", "team", "model")  # in the order in which a person meets them
OWN_LAYERS: Final = {"key": _("Key"), "user": _("You"), "team": _("Team"), "model": _("Model")}
MAX_ID: Final = 2**63 - 1

Names = dict[tuple[str, int], str]


class PortalView(PersonalView):
    """A page of the portal. Admins and auditors reach it by the tabs of the portal, so their menu stays short."""

    icon = "person-circle"
    is_own = True

    @staticmethod
    def is_for(found: Person) -> bool:
        """Whether the person's menu has the view."""
        return not rights.has(found.role, rights.READ)

    @staticmethod
    def is_tab_of(found: Person) -> bool:
        """Whether the person's tabs of the portal have it."""
        return True

    def answer_form(self, form: Any, change: Callable[[], Any], template: str, **values: Any) -> Any:
        """The page of a form, or what `change` answers once the input is good."""
        if request.method == "POST" and form.validate():
            try:
                return change()
            except GatewayError as exc:
                db.session.rollback()
                form.refuse(exc)
        status = HTTPStatus.UNPROCESSABLE_ENTITY if form.errors else HTTPStatus.OK
        return self.render(template, form=form, **values), status


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What limits a person, by layer, as it stands now."""

    budgets: list[BudgetState]
    limits: list[LimitState]
    names: Names

    @property
    def balance(self) -> BudgetState | None:
        """The prepaid tokens, where the person has a balance."""
        return next((state for state in self.budgets if state.budget.is_prepaid), None)


def number() -> int:
    """The number in the address or form; 0 = none that a row can have."""
    given = request.values.get("id", type=int) or 0
    return given if 0 < given <= MAX_ID else 0


def given() -> Any:
    """What was sent, or typed before a session ended; None when a form is only asked for: its defaults apply."""
    return request.form if request.method == "POST" else drafts.typed()


def me() -> User:
    """The row of whoever is signed in, with the team, in one statement."""
    query = select(User).options(joinedload(User.team)).where(User.id == admin().user_id)
    return db.session.scalars(query).one()


def caller(user: User) -> Caller:
    """The same person as calls know them."""
    return caller_of(db.session(), user)


def policy() -> Policy:
    """What people may do by themselves."""
    return portalpolicy.read(db.session())


def models_of(user: User) -> dict[str, PublicModel]:
    """The models that the person may use and that somebody serves, by name."""
    lists = [row.allowed_models for row in (user, user.team) if row is not None and row.allowed_models is not None]
    found = gateway().catalog.snapshot().models
    served = {name: model for name, model in sorted(found.items()) if model.deployments}
    return {name: model for name, model in served.items() if all(name in allowed for allowed in lists)}


def ceilings_of(user: User, keys: Sequence[ApiKey]) -> Ceilings:
    """Every budget and limit of the person, the team, the working keys, and the models they may use."""
    names: Names = {("key", key.id): key.name for key in keys if ownkeys.is_working(key)}
    names[("user", user.id)] = ""
    if user.team is not None:
        names[("team", user.team.id)] = user.team.name
    names |= {("model", one.id): one.name for one in models_of(user).values() if one.budgets or one.limits}
    return standing(names)


def standing(names: Names) -> Ceilings:
    """The budgets and limits of these, in four statements."""
    session, engine = db.session(), gateway().engine

    def order(row: Budget | Limit) -> tuple[int, int, int]:
        return LAYERS.index(row.scope), row.scope_id, row.id

    return Ceilings(
        budgets.states(engine, sorted(budgets.of(session, names), key=order)),
        limits.states(engine, sorted(limits.of(session, names), key=order), gateway().remote),
        names,
    )


def what(row: Any) -> str:
    """What a budget, limit or request is about: its unit and period."""
    if isinstance(row, Limit) or getattr(row, "kind", "") == "limit":
        return str(what_of(row))
    if getattr(row, "is_prepaid", False) or getattr(row, "kind", "") == "balance":
        return gettext("Balance")
    return f"{UNIT_NAMES[row.unit]} {str(PERIOD_NAMES[row.period]).lower()}"


def whose(row: Any, names: Mapping[tuple[str, int], str]) -> str:
    """On which layer it is, with the name of the key, team or model."""
    name = names.get((row.scope, row.scope_id))
    layer = str(OWN_LAYERS[row.scope])
    return f"{layer} {name}" if name else layer


def problem(exc: GatewayError) -> str:
    """What a service refused, for a message on the next page."""
    return wording.say(str(exc))
