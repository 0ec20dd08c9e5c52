"""What pages about budgets and limits share: whose they are, what they are called, where they stand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from sqlalchemy import select
from wtforms import RadioField
from wtforms.validators import InputRequired, Length

from models import ApiKey, Budget, Limit, Model, RaiseRequest, Team, User
from routes.admin.forms import PanelForm, TextField, options
from routes.admin.tables import Table
from routes.admin.texts import N_, gettext, lazy_gettext
from services import budgets, limits, owners
from services.errors import GatewayError, InvalidRequest
from utils.extensions import db, gateway

_ = lazy_gettext

SCOPE_NAMES: Final = {"user": _("User"), "key": _("API key"), "team": _("Team"), "model": _("Model")}
PAGES: Final = {"user": "users", "key": "keys", "team": "teams", "model": "models"}  # where an owner's details are
OFFERED: Final = 200  # names of each kind that the browser suggests; any other can be typed
OWNER_HELP: Final = _("Of the user, team or model. A key is named by its number, UUID or hint.")

Owners = dict[tuple[str, int], str]


class OwnedForm(PanelForm):
    """Whose a new budget or limit is."""

    scope = RadioField(_("For"), choices=options(SCOPE_NAMES), default="user")
    owner = TextField(_("Name"), [InputRequired(), Length(1, 200)], description=OWNER_HELP)

    def scope_id(self) -> int:
        """The number of the owner.

        Raises:
            InvalidRequest: there is none of that name, or several keys have the hint.
        """
        try:
            return owners.find(db.session(), self.scope.data, self.owner.data)
        except GatewayError as exc:
            message = N_("There is nothing of that name.")
            if exc.code == owners.AMBIGUOUS:
                message = N_("Several keys have this hint. Give the key's number or UUID.")
            raise InvalidRequest(message, param="owner") from exc


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The budgets and limits of some owners, as they stand, and what the owners are called."""

    budgets: list[budgets.State]
    limits: list[limits.State]
    names: Owners


def number_of(scope: str, given: str) -> int | None:
    """The number of an owner; None = there is none, or two keys share the hint."""
    try:
        return owners.find(db.session(), scope, given)
    except GatewayError:
        return None


def names_of(rows: Iterable[Budget | Limit | RaiseRequest]) -> Owners:
    """What the owners are called, in a statement for each kind of them."""
    return _names((row.scope, row.scope_id) for row in rows)


def name_of(row: Budget | Limit, names: Owners) -> str:
    """What the owner of one is called; its number when it is gone."""
    return names.get((row.scope, row.scope_id), f"#{row.scope_id}")


def ceilings_of(names: Owners) -> Ceilings:
    """All budgets and limits that apply to something with these owners, those of the first owner first.

    `names`: the owners with what they are called; pages have them at hand.
    """
    session, engine, owned = db.session(), gateway().engine, tuple(names)
    place = {owner: number for number, owner in enumerate(owned)}

    def order(row: Budget | Limit) -> tuple[int, int]:
        return place[row.scope, row.scope_id], row.id

    return Ceilings(
        budgets.states(engine, sorted(budgets.of(session, owned), key=order)),
        limits.states(engine, sorted(limits.of(session, owned), key=order), gateway().remote),
        names,
    )


def _names(wanted: Iterable[tuple[str, int]]) -> Owners:
    """Keys by the name that people gave them; a hint tells nobody anything."""
    pairs = set(wanted)
    found = owners.names(db.session(), [pair for pair in pairs if pair[0] != "key"])
    keys = [number for scope, number in pairs if scope == "key"]
    rows = db.session.execute(select(ApiKey.id, ApiKey.name).where(ApiKey.id.in_(keys))) if keys else ()
    return found | {("key", number): name for number, name in rows}


def suggestions() -> list[tuple[str, Any]]:
    """Names that the browser may suggest, with the kind of what they name."""
    found: list[tuple[str, Any]] = []
    for scope, name in (("user", User.username), ("team", Team.name), ("model", Model.name)):
        rows = db.session.scalars(select(name).order_by(name).limit(OFFERED))
        found += [(called, SCOPE_NAMES[scope]) for called in rows]
    return found


class OwnedTable(Table):
    """A table of budgets or limits, without a page for each."""

    column_sortable_list: ClassVar[list[Any]] = []
    column_default_sort = ("id", True)
    details_view = None  # type: ignore[assignment]  # Flask-Admin offers no page whose view is None
    can_view_details = False

    def called(self, row: Any) -> str:
        """See Table."""
        return f"{gettext(self.singular)} {row.id}"

    def titles(self, rows: Sequence[Any]) -> dict[Any, str]:
        """See Table."""
        names = names_of(rows)
        return {row.id: self.titled(row, names) for row in rows}

    def title(self, row: Any) -> str:
        """See Table."""
        return self.titled(row, names_of([row]))

    def titled(self, row: Any, names: Owners) -> str:
        """What people call the row, given what the owners are called."""
        raise NotImplementedError  # each page has its own

    def narrowed(self, query: Any) -> Any:
        """See Table."""
        for name in ("scope", "unit", "period"):
            if value := self.chosen(name):
                query = query.filter(getattr(self.model_class, name) == value)
        return query
