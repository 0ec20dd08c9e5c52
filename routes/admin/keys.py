"""API keys: making them (the secret is on one page, once), what they may do, and what limits them.

A key that is revoked stays, and explains what it did; one that is deleted leaves its number in the books. Keys of the
setting API_AUTH_TOKENS follow the setting.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from flask import request
from sqlalchemy import ColumnElement, and_, or_, select, true
from sqlalchemy.orm import Session, joinedload
from werkzeug.datastructures import MultiDict

from models import ApiKey, Budget, Limit, Provider, Team, User
from routes.admin import access, bound, bulk, keyforms, owned
from routes.admin.guard import actor, admin, expose, go
from routes.admin.keyforms import KeyForm, NewKey
from routes.admin.secrets import MARK_CHARS, SecretPages, retired_of
from routes.admin.tables import Choice
from routes.admin.texts import N_, gettext, lazy_gettext
from services import budgets, limits, removal, reports
from services.audit import moment
from services.errors import InvalidRequest
from utils import money
from utils.extensions import db, gateway

_ = lazy_gettext

LATEST_CALLS: Final = 10
OFFERED_USERS: Final = 200  # names that the browser suggests; any other can be typed
STATES: Final = {
    "active": _("Active"),
    "expired": _("Expired"),
    "disabled": _("Owner inactive"),
    "revoked": _("Revoked"),
}


class Keys(SecretPages):
    """The keys."""

    model_class = ApiKey
    icon, singular, resource = "key", "API key", "key"
    column_list = ("name", "user", "state", "allowed_models", "budget", "last_used_at")
    column_labels: ClassVar[dict[str, Any]] = {
        "name": _("Key"),
        "user": _("Owner"),
        "state": _("State"),
        "allowed_models": _("Models"),
        "budget": _("Budget"),
        "last_used_at": _("Last used"),
    }
    column_sortable_list: ClassVar[list[Any]] = []
    column_default_sort = ("id", True)
    column_searchable_list = ("name", "hint", "uuid")
    many = (
        bulk.Action(
            "revoke",
            _("Revoke"),
            _("Keys that were revoked: %(count)s."),
            run="revoke_one",
            why_not="why_fixed",
            consequences=(
                _("They stop working everywhere within two seconds, and so do their former secrets."),
                _("They stay in the list, with what they did."),
            ),
            icon="slash-circle",
            is_danger=True,
            asks_reason=True,
            undo="lift",
        ),
        bulk.delete(
            _("They stop working everywhere within two seconds, and so do their former secrets."),
            _("Their budgets and limits are removed; calls under way are still settled."),
            _("Their usage stays, under the number of the key."),
        ),
    )
    exported = (
        *("id", "name", "hint", "kind", "user", "state", "allowed_models", "tags", "budget_unit", "budget_limit"),
        *("budget_spent", "expires_at", "revoked_at", "revoked_reason", "last_used_at", "created_at"),
    )
    exported_as: ClassVar[Mapping[str, Any]] = {
        "name": ("name", "hint"),
        "state": ("state", "expires_at", "revoked_at", "revoked_reason"),
        "budget": ("budget_unit", "budget_limit", "budget_spent"),
    }
    list_template = "admin/keys/list.html"
    create_template = "admin/keys/create.html"
    edit_template = "admin/keys/edit.html"
    details_template = "admin/keys/details.html"
    texts = ("owner", "team", "tag")
    choices = (Choice("state", _("State"), list(STATES.items())),)

    def get_query(self) -> Any:
        """The rows of the list, with their owners."""
        return super().get_query().options(joinedload(ApiKey.user))

    def narrowed(self, query: Any) -> Any:
        """See Table."""
        return query.filter(
            _in_state(self.chosen("state")),
            _of_owner(self.argument("owner"), self.argument("team")),
            access.is_tagged(ApiKey.tags, self.argument("tag")),
        )

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """The tightest budget of each key, and whose owners or teams have one."""
        of_key = and_(Budget.scope == "key", Budget.scope_id.in_([row.id for row in rows]))
        of_owner = and_(Budget.scope == "user", Budget.scope_id.in_([row.user_id for row in rows]))
        of_team = and_(Budget.scope == "team", Budget.scope_id.in_([row.user.team_id for row in rows]))
        found = db.session.scalars(select(Budget).where(or_(of_key, of_owner, of_team))).all()
        states = budgets.states(gateway().engine, [budget for budget in found if budget.scope == "key"])
        states.sort(key=budgets.share)
        return {
            "budgets": {state.budget.scope_id: state for state in states},
            "limited": {(budget.scope, budget.scope_id) for budget in found},
        }

    def record(self, row: ApiKey, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        found = {"user": row.user.username, "state": state_of(row)}
        if (state := extras["budgets"].get(row.id)) is None:
            return found | {"budget_unit": None, "budget_limit": None, "budget_spent": None}
        unit, amounts = state.budget.unit, (state.budget.limit_amount, state.spent)
        limit, spent = (f"{money.usd(amount):f}" if unit == "usd" else amount for amount in amounts)
        return found | {"budget_unit": unit, "budget_limit": limit, "budget_spent": spent}

    def why_locked(self, row: ApiKey) -> str | None:
        """See Table: keys of the setting."""
        return self.why_fixed(row) if row.kind == "environment" else None

    def details(self, row: ApiKey) -> Mapping[str, Any]:
        """What limits it on every layer, the secrets it had before, and the latest calls."""
        engine, team = gateway().engine, row.user.team
        layers = {("key", row.id): row.name, ("user", row.user_id): row.user.username}
        if team is not None:
            layers["team", team.id] = team.name
        return {
            "ceilings": owned.ceilings_of(layers),
            "everywhere": gateway().layers.everywhere,
            "retired": retired_of(row),
            "mark_chars": MARK_CHARS,
            "calls": reports.latest_calls(engine, LATEST_CALLS, key_id=row.id),
            "names": reports.Names({row.user_id: row.user.username}, {row.id: (row.name, row.hint)}),
            "why_not_lifted": self.why_not_lifted(row),
            "why_kept": self.why_kept(row),
            "providers": _providers(row),
            "policy": bound.policy_of(row),
        }

    def create_form(self, obj: Any = None) -> NewKey:
        """See Flask-Admin. One click makes a key of nothing but its name and owner."""
        given = self.given()
        if given is not None and given.get("with") == "defaults":
            given = MultiDict({name: given.get(name, "") for name in ("name", "owner")})
        form = NewKey(given, owner=self.argument("owner") or admin().username, name=_("New key"))
        return bound.offer(access.offer_models(form))

    def edit_form(self, obj: Any = None) -> KeyForm:
        """See Flask-Admin."""
        form = KeyForm(self.given(), **keyforms.values(obj), policy=bound.chosen(obj))
        return bound.offer(access.offer_models(form))

    @expose("/new/", methods=("GET", "POST"))
    def create_view(self) -> Any:
        """The form of a new key; the page after it shows the secret, once."""
        form = self.create_form()
        owners = db.session.scalars(select(User.username).order_by(User.username).limit(OFFERED_USERS)).all()
        if request.form.get("with") == "review" and form.validate():
            return self.render(self.create_template, form=form, owners=owners, is_reviewed=True)
        return self.answer_form(form, lambda: self.create(form), self.create_template, owners=owners)

    def create(self, form: Any) -> Any:
        """Make the key with its budgets and limits in one transaction."""
        session = db.session()
        owner = session.scalar(select(User).where(User.username == form.owner.data))
        if owner is None:
            raise InvalidRequest(N_("There is no user of that name."), param="owner")
        issued = gateway().keys.issue(session, owner.id, form.name.data)
        row = session.get_one(ApiKey, issued.id)
        form.fill(row)
        for unit, period, amount in form.budgets():
            budget = Budget(scope="key", scope_id=row.id, unit=unit, period=period)
            budgets.change(session, actor(), budget, amount, "UTC")
        for unit, period, amount in form.limits():
            limits.change(session, actor(), Limit(scope="key", scope_id=row.id, unit=unit, period=period), amount)
        bound.keep(row, form)
        self.store("key_create", row, None)
        return self.show_once(issued)

    def update(self, form: Any, row: ApiKey) -> Any:
        """Store what it is called and what it may do."""
        before = self.describe(row)
        form.fill(row)
        bound.keep(row, form)
        self.store("key_update", row, before)
        return go(".details_view", id=row.id)

    def why_fixed(self, row: ApiKey) -> str | None:
        """Some keys are somebody else's to change."""
        if row.kind == "environment":
            return gettext("This key comes from the setting API_AUTH_TOKENS; change it there.")
        if row.revoked_at is not None:
            return gettext("This key is revoked. Lift that to change it, or make a new one.")
        return None

    def why_kept(self, row: ApiKey) -> str | None:
        """Keys of a setting come back with the next start."""
        return self.why_fixed(row) if row.kind == "environment" else None

    def consequences(self, row: ApiKey) -> list[str]:
        """What happens to what it has."""
        return [
            gettext("It stops working everywhere within two seconds, and so do its former secrets."),
            gettext("Its budgets and limits are removed; calls under way are still settled."),
            gettext("Its usage stays, under the number of the key."),
        ]

    def delete(self, session: Session, row: ApiKey) -> None:
        """See services/removal.py."""
        removal.key(session, row.id)

    def title(self, row: ApiKey) -> str:
        """See Table."""
        return row.name

    def describe(self, row: ApiKey) -> dict[str, Any]:
        """See Table."""
        names = ("name", "hint", "user_id", "allowed_ips", "should_log_request", "should_log_response", "timeouts")
        return {
            **{name: getattr(row, name) for name in names},
            **access.described(row),
            "policy": bound.chosen(row),
            "revoked_at": moment(row.revoked_at),
            "revoked_reason": row.revoked_reason,
        }


def state_of(row: ApiKey) -> str:
    """One of STATES."""
    if row.revoked_at is not None:
        return "revoked"
    if access.is_over(row):
        return "expired"
    return "active" if row.user.is_active and not access.is_over(row.user) else "disabled"


def _providers(row: ApiKey) -> list[Provider] | None:
    """The provider accounts that it is bound to; None = it may reach all."""
    if row.provider_ids is None:
        return None
    return list(db.session.scalars(select(Provider).where(Provider.id.in_(row.provider_ids)).order_by(Provider.name)))


def _in_state(state: str) -> ColumnElement[bool]:
    is_over, is_revoked = access.has_ended(ApiKey.expires_at), ApiKey.revoked_at.is_not(None)
    may_call = ApiKey.user_id.in_(select(User.id).where(User.is_active, ~access.has_ended(User.expires_at)))
    return {
        "revoked": is_revoked,
        "expired": and_(~is_revoked, is_over),
        "disabled": and_(~is_revoked, ~is_over, ~may_call),
        "active": and_(~is_revoked, ~is_over, may_call),
    }.get(state, true())


def _of_owner(name: str, team: str) -> ColumnElement[bool]:
    users = select(User.id)
    if name:
        users = users.where(User.username == name)
    if team:
        users = users.where(User.team_id == select(Team.id).where(Team.name == team).scalar_subquery())
    return ApiKey.user_id.in_(users) if name or team else true()
