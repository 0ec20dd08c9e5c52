"""Teams: groups of users that share budgets, limits and a list of models. A user is in one team at a time."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from wtforms.validators import InputRequired, Length

from models import Limit, Team, User
from routes.admin import bound, bulk, owned
from routes.admin.access import LinesField, ModelsForm, offer_models, scope_of
from routes.admin.forms import TextField
from routes.admin.guard import go
from routes.admin.tables import Table
from routes.admin.texts import N_, gettext, lazy_gettext
from services import budgets, limits, reports, teams
from services.errors import InvalidRequest
from utils import money
from utils.extensions import db, gateway

_ = lazy_gettext

LATEST_CALLS: Final = 10
SHOWN_MEMBERS: Final = 100
MOST_MEMBERS: Final = 5000


class TeamForm(bound.PolicyChoice, ModelsForm):
    """What a team is made of."""

    name = TextField(_("Name"), [InputRequired(), Length(1, 150)])
    members = LinesField(
        _("Members"),
        most=MOST_MEMBERS,
        description=_("User names, one a line. A user is in one team: naming one here takes them out of another."),
    )


class Teams(Table):
    """The teams."""

    model_class = Team
    icon, singular, resource = "people-fill", "Team", "team"
    column_list = ("name", "members", "allowed_models", "budget", "limits")
    column_labels: ClassVar[dict[str, Any]] = {
        "name": _("Team"),
        "members": _("Members"),
        "allowed_models": _("Models"),
        "budget": _("Budget"),
        "limits": _("Limits"),
    }
    column_sortable_list: ClassVar[list[Any]] = ["name"]
    column_default_sort = "name"
    column_searchable_list = ("name",)
    many = (
        bulk.delete(
            _("Members stay, without a team."),
            _("Their budgets and limits are removed; calls under way are still settled."),
            _("Their usage stays, under the number of the team."),
        ),
    )
    exported = ("id", "name", "members", "allowed_models", "budget_unit", "budget_limit", "budget_spent", "limits")
    exported_as: ClassVar[Mapping[str, Any]] = {"budget": ("budget_unit", "budget_limit", "budget_spent")}
    list_template = "admin/teams/list.html"
    create_template = "admin/teams/create.html"
    edit_template = "admin/teams/edit.html"
    details_template = "admin/teams/details.html"

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """How many members each has, its tightest budget and its limits."""
        numbers = [row.id for row in rows]
        counted = select(User.team_id, func.count()).where(User.team_id.in_(numbers)).group_by(User.team_id)
        of_teams = [("team", number) for number in numbers]
        states = budgets.states(gateway().engine, budgets.of(db.session(), of_teams))
        states.sort(key=budgets.share)
        found: dict[int, list[Limit]] = {}
        for limit in limits.of(db.session(), of_teams):
            found.setdefault(limit.scope_id, []).append(limit)
        return {
            "counts": dict(db.session.execute(counted).tuples().all()),
            "budgets": {state.budget.scope_id: state for state in states},
            "limits": found,
        }

    def record(self, row: Team, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        state, found = extras["budgets"].get(row.id), {"members": extras["counts"].get(row.id, 0)}
        found["limits"] = [f"{one.limit_amount} {one.unit} {one.period}" for one in extras["limits"].get(row.id, ())]
        if state is None:
            return found | {"budget_unit": None, "budget_limit": None, "budget_spent": None}
        unit, amounts = state.budget.unit, (state.budget.limit_amount, state.spent)
        limit, spent = (f"{money.usd(amount):f}" if unit == "usd" else amount for amount in amounts)
        return found | {"budget_unit": unit, "budget_limit": limit, "budget_spent": spent}

    def details(self, row: Team) -> Mapping[str, Any]:
        """Members, budgets, limits and the latest calls."""
        engine = gateway().engine
        members = select(User).where(User.team_id == row.id)
        latest = reports.latest_calls(engine, LATEST_CALLS, team_id=row.id)
        return {
            "members": db.session.scalars(members.order_by(User.username).limit(SHOWN_MEMBERS)).all(),
            "member_count": db.session.scalar(select(func.count()).where(User.team_id == row.id)),
            "ceilings": owned.ceilings_of({("team", row.id): row.name}),
            "calls": latest,
            "names": reports.names(engine, [call.user_id for call in latest], [call.key_id for call in latest]),
            "why_kept": self.why_kept(row),
            "policy": bound.policy_of(row),
        }

    def create_form(self, obj: Any = None) -> TeamForm:
        """See Flask-Admin."""
        return bound.offer(offer_models(TeamForm(self.given())))

    def edit_form(self, obj: Any = None) -> TeamForm:
        """See Flask-Admin."""
        own = {"scope": scope_of(obj), "members": _members(obj), "policy": bound.chosen(obj)}
        return bound.offer(offer_models(TeamForm(self.given(), obj=obj, **own)))

    def create(self, form: Any) -> Any:
        """Store a new team with its members."""
        row = Team()
        return self._store(form, row, "team_create", None)

    def update(self, form: Any, row: Team) -> Any:
        """Store name, models and members."""
        return self._store(form, row, "team_update", self.describe(row))

    def _store(self, form: Any, row: Team, action: str, before: dict[str, Any] | None) -> Any:
        session = db.session()
        members = _users(form.members.data or [])
        taken = session.scalar(select(Team.id).where(Team.name == form.name.data))
        if taken is not None and taken != row.id:
            raise InvalidRequest(N_("There is a team of that name already."), param="name")
        row.name, row.allowed_models = form.name.data, form.models()
        session.add(row)
        session.flush()
        session.execute(update(User).where(User.team_id == row.id, User.id.not_in(members)).values(team_id=None))
        joins = User.id.in_(members), User.team_id.is_distinct_from(row.id)
        session.execute(update(User).where(*joins).values(team_id=row.id))
        bound.keep(row, form)
        self.store(action, row, before)
        return go(".details_view", id=row.id)

    def consequences(self, row: Team) -> list[str]:
        """What happens to what it has."""
        count = db.session.scalar(select(func.count()).where(User.team_id == row.id))
        return [
            gettext("Members that stay, without a team: %(count)s.", count=count),
            gettext("Its budgets and limits are removed; calls under way are still settled."),
            gettext("Its usage stays, under the number of the team."),
        ]

    def delete(self, session: Session, row: Team) -> None:
        """The team with its budgets and limits."""
        teams.remove(session, row.id)

    def describe(self, row: Team) -> dict[str, Any]:
        """See Table."""
        own = {"name": row.name, "allowed_models": row.allowed_models, "policy": bound.chosen(row)}
        return own | {"members": _members(row)}


def _members(row: Team) -> list[str]:
    query = select(User.username).where(User.team_id == row.id).order_by(User.username)
    return list(db.session.scalars(query))


def _users(names: Iterable[str]) -> list[int]:
    """The numbers of these users.

    Raises:
        InvalidRequest: there is no user of one of these names.
    """
    wanted = set(names)
    rows = db.session.execute(select(User.username, User.id).where(User.username.in_(wanted))).tuples().all()
    unknown = sorted(wanted - {name for name, _number in rows})
    if unknown:
        message = gettext("There is no user of these names: %(names)s.", names=", ".join(unknown[:5]))
        raise InvalidRequest(message, param="members")
    return [number for _name, number in rows]
