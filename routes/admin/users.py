"""People and service accounts: making them, their role, their password, and taking them away."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, TypeVar

from flask import flash, request
from sqlalchemy import ColumnElement, and_, func, select, true, update
from sqlalchemy.orm import Session, joinedload
from wtforms import BooleanField, RadioField, SelectField
from wtforms.validators import InputRequired, Length, Regexp, ValidationError

from models import ApiKey, Team, User
from routes.admin import access, bound, bulk, owned
from routes.admin.access import AccessForm, NewAccessForm
from routes.admin.bound import PolicyChoice
from routes.admin.forms import ROLE_NAMES, PanelForm, SecretField, TextField, options
from routes.admin.guard import actor, admin, expose, go
from routes.admin.tables import Choice, Table
from routes.admin.texts import gettext, lazy_gettext
from services import audit, people, removal, reports, walks
from services.accounts import ERASED, NAME, RESERVED, SERVICE_ACCOUNT
from services.passwords import MAX_CHARS, MIN_CHARS
from utils import ids, money
from utils.extensions import db, gateway

_ = lazy_gettext

Form = TypeVar("Form", "NewUser", "EditUser")

GENERATED_CHARS: Final = 20
LATEST_CALLS: Final = 10
STATES: Final = {"active": _("Active"), "expired": _("Expired"), "disabled": _("Disabled")}
PASSWORD_MODES: Final = {"generate": _("Generate one and show it once"), "choose": _("Set it here")}


class PasswordForm(PanelForm):
    """A password that an admin gives to somebody."""

    password_mode = RadioField(_("Password"), choices=options(PASSWORD_MODES), default="generate")
    password = SecretField(_("The password"))
    must_change = BooleanField(_("Must be changed at the first sign-in to this panel"), default=True)

    def validate_password(self, field: Any) -> None:
        """Only a chosen password is looked at."""
        if self.password_mode.data == "choose":
            Length(MIN_CHARS, MAX_CHARS)(self, field)

    def chosen(self) -> str:
        """The password to set."""
        return self.password.data if self.password_mode.data == "choose" else ids.random_base62(GENERATED_CHARS)


class NewUser(PasswordForm, PolicyChoice, NewAccessForm):
    """A new account."""

    username = TextField(
        _("User name"),
        [
            InputRequired(),
            Length(1, 150),
            Regexp(NAME, message=_("No spaces, quotes, slashes or angle brackets, please.")),
        ],
    )
    role = SelectField(_("Role"), choices=options(ROLE_NAMES), default="user")
    team = SelectField(_("Team"), default="")
    password_mode = RadioField(
        _("Password"),
        choices=options(PASSWORD_MODES | {"none": _("None: a service account that only has API keys")}),
        default="generate",
    )

    def validate_username(self, field: Any) -> None:
        """Some names are paths or accounts of ours."""
        if field.data.lower() in RESERVED:
            raise ValidationError(gettext("This name is reserved."))


class EditUser(PolicyChoice, AccessForm):
    """What an admin may change of somebody else."""

    role = SelectField(_("Role"), choices=options(ROLE_NAMES))
    team = SelectField(_("Team"))
    is_active = BooleanField(_("Active: may sign in and use API keys"))
    disabled_reason = TextField(
        _("Reason"), [Length(0, 255)], description=_("Whoever still uses a key of the user reads it.")
    )


class EraseForm(PanelForm):
    """The name of an account, repeated."""

    username = TextField(_("User name"), [InputRequired()], description=_("Repeat the name of the account."))


class Users(Table):
    """The accounts."""

    model_class = User
    icon, singular, resource = "people", "User", "user"
    beside = (joinedload(User.team),)
    column_list = (
        "username",
        "role",
        "is_active",
        "team",
        "keys",
        "balance",
        "tokens_used",
        "spent_nanousd",
        "created_at",
    )
    column_labels: ClassVar[dict[str, Any]] = {
        "username": _("User"),
        "role": _("Role"),
        "is_active": _("State"),
        "team": _("Team"),
        "keys": _("API keys"),
        "balance": _("Balance"),
        "tokens_used": _("Tokens used"),
        "spent_nanousd": _("Spent"),
        "created_at": _("Created"),
    }
    column_sortable_list: ClassVar[list[Any]] = ["username", ("created_at", "id")]
    column_default_sort = "username"
    column_searchable_list = ("username",)
    many = (
        *bulk.switches(
            off=[_("All sessions end and all API keys are refused within two seconds."), _("Nothing is deleted.")],
            on=[_("They sign in again, and their API keys work again.")],
            asks_reason=True,
        ),
        bulk.delete(
            _("Working API keys stop at once; budgets and limits are removed."),
            _("Usage and ledger entries stay, under the number of the account."),
        ),
    )
    switched = ("is_active", "disabled_reason")
    exported = (
        *("id", "username", "role", "state", "disabled_reason", "team", "tags", "keys", "tokens_used", "spent_usd"),
        *("allowed_models", "expires_at", "created_at"),
    )
    exported_as: ClassVar[Mapping[str, Any]] = {
        "is_active": ("state", "disabled_reason"),
        "spent_nanousd": ("spent_usd",),
    }
    list_template = "admin/users/list.html"
    create_template = "admin/users/create.html"
    edit_template = "admin/users/edit.html"
    details_template = "admin/users/details.html"
    texts = ("team", "tag")
    choices = (Choice("role", _("Role"), list(ROLE_NAMES.items())), Choice("state", _("State"), list(STATES.items())))

    def get_query(self) -> Any:
        """The rows of the list, with their teams."""
        return super().get_query().options(joinedload(User.team))

    def narrowed(self, query: Any) -> Any:
        """See Table."""
        if role := self.chosen("role"):
            query = query.filter(User.role == role)
        if team := self.argument("team"):
            query = query.filter(User.team_id == select(Team.id).where(Team.name == team).scalar_subquery())
        return query.filter(_in_state(self.chosen("state")), access.is_tagged(User.tags, self.argument("tag")))

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """How many working keys each of them has, and where each stands in tokens."""
        counted = (
            select(ApiKey.user_id, func.count())
            .where(ApiKey.user_id.in_([row.id for row in rows]), ApiKey.revoked_at.is_(None))
            .group_by(ApiKey.user_id)
        )
        tokens = walks.tokens_of(db.session(), [row.id for row in rows])
        return {"key_counts": dict(db.session.execute(counted).tuples().all()), "tokens": tokens}

    def record(self, row: User, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        return {
            "state": state_of(row),
            "team": row.team.name if row.team else None,
            "keys": extras["key_counts"].get(row.id, 0),
            "spent_usd": f"{money.usd(row.spent_nanousd):f}",
        }

    def switch_off(self, row: User, reason: str) -> None:
        """See Table."""
        self.change(row, {"is_active": False, "disabled_reason": reason or None})

    def switch_on(self, row: User, reason: str) -> None:
        """See Table."""
        self.change(row, {"is_active": True, "disabled_reason": None})

    def change(self, row: User, values: Mapping[str, Any]) -> None:
        """See Table; whoever is disabled is signed out."""
        super().change(row, values)
        people.check_admin_left(db.session())
        if not row.is_active:
            people.sign_out(db.session(), row.id)

    def details(self, row: User) -> Mapping[str, Any]:
        """Keys, what limits the user on every layer, and the latest calls."""
        engine, layers = gateway().engine, {("user", row.id): row.username}
        if row.team is not None:
            layers["team", row.team.id] = row.team.name
        keys = db.session.scalars(select(ApiKey).where(ApiKey.user_id == row.id).order_by(ApiKey.id.desc()).limit(100))
        provider = gateway().openid
        is_linked = provider is not None and gateway().identities.linked(row.id, provider.issuer) is not None
        latest = reports.latest_calls(engine, LATEST_CALLS, user_id=row.id)
        return {
            "keys": keys.all(),
            "ceilings": owned.ceilings_of(layers),
            "everywhere": gateway().layers.everywhere,
            "calls": latest,
            "names": replace(reports.names(engine, (), [call.key_id for call in latest]), users={row.id: row.username}),
            "why_kept": self.why_kept(row),
            "is_linked": is_linked,
            "has_second_factor": gateway().second_factors.is_set(row.id),
            "policy": bound.policy_of(row),
        }

    def create_form(self, obj: Any = None) -> NewUser:
        """See Flask-Admin."""
        return _offer(NewUser(self.given(), team=self.argument("team")))

    def edit_form(self, obj: Any = None) -> EditUser:
        """See Flask-Admin."""
        own = {name: getattr(obj, name) for name in ("role", "is_active", "disabled_reason")}
        form = _offer(
            EditUser(self.given(), **own, **access.shown(obj), team=str(obj.team_id or ""), policy=bound.chosen(obj))
        )
        if obj.username == SERVICE_ACCOUNT:
            del form.role
        return form

    def create(self, form: Any) -> Any:
        """Make the account; a password made up here is on this answer and nowhere else."""
        password = None if form.password_mode.data == "none" else form.chosen()
        must_change = bool(password) and form.must_change.data
        columns = {**form.access(datetime.now(UTC)), "team_id": int(form.team.data) if form.team.data else None}
        made = gateway().accounts.create(
            form.username.data, password, role=form.role.data, must_change_password=must_change, **columns
        )
        row = db.session.get_one(User, made)
        bound.keep(row, form)
        self.store("user_create", row, None)
        return self._shown_once(row, password if form.password_mode.data == "generate" else None, is_new=True)

    def update(self, form: Any, row: User) -> Any:
        """Store role, state, team and what the user may do."""
        before, was_active = self.describe(row), row.is_active
        if "role" in form:
            row.role = form.role.data
        for name, value in form.access(row.created_at).items():
            setattr(row, name, value)
        row.team_id = int(form.team.data) if form.team.data else None
        row.is_active = form.is_active.data
        row.disabled_reason = None if row.is_active else form.disabled_reason.data or None
        db.session.flush()
        people.check_admin_left(db.session())
        if was_active and not row.is_active:
            people.sign_out(db.session(), row.id)
        bound.keep(row, form)
        self.store("user_update", row, before)
        return go(".details_view", id=row.id)

    @expose("/password/", methods=("GET", "POST"))
    def password_view(self) -> Any:
        """A new password for somebody who forgot theirs; it ends all their sessions and tokens."""
        row = self.row()
        self.refuse(self._why_no_password(row))
        form = PasswordForm(self.given())
        return self.answer_form(form, lambda: self._reset(form, row), "admin/users/password.html", row=row)

    def _reset(self, form: PasswordForm, row: User) -> Any:
        password = form.chosen()
        gateway().accounts.set_password(row.id, password)
        if form.must_change.data:
            db.session.execute(update(User).where(User.id == row.id).values(must_change_password=True))
        audit.note(db.session(), actor(), "password_reset", "user", row.id, {"must_change": form.must_change.data})
        db.session.commit()
        return self._shown_once(row, password if form.password_mode.data == "generate" else None, is_new=False)

    @expose("/erase/", methods=("GET", "POST"))
    def erase_view(self) -> Any:
        """Asks for the name, then erases the account."""
        row = self.row()
        self.refuse(self.why_kept(row))
        form = EraseForm(self.given())
        return self.answer_form(form, lambda: self._erase(form, row), "admin/users/erase.html", row=row)

    def _erase(self, form: EraseForm, row: User) -> Any:
        number, name = row.id, form.username.data
        db.session.rollback()  # it has transactions of its own
        gateway().erasure.erase(actor(), number, name)
        db.session.expire_all()
        flash(gettext("%(name)s was erased.", name=name), "success")
        return go(".details_view", id=number)

    @expose("/second-factor/", methods=("GET", "POST"))
    def second_factor_view(self) -> Any:
        """Asks, then takes away the second factor of somebody who lost it; ends their sessions and tokens."""
        row = self.row()
        reason = self._why_no_reset(row)
        if request.method == "GET":
            return self.render("admin/users/second_factor.html", row=row, why_kept=reason)
        self.refuse(reason)
        gateway().second_factors.reset(actor(), row.id)
        flash(gettext("%(name)s signs in without a second factor now.", name=row.username), "success")
        return go(".details_view", id=row.id)

    def _why_no_reset(self, row: User) -> str | None:
        if row.id == admin().user_id:
            return gettext("You switch your own off under “Your sign-in”, with a code.")
        if not gateway().second_factors.is_set(row.id):
            return gettext("There is no second factor.")
        return None

    def _shown_once(self, row: User, password: str | None, *, is_new: bool) -> Any:
        return self.render("admin/users/done.html", row=row, password=password, is_new=is_new)

    def why_fixed(self, row: User) -> str | None:
        """Nobody changes their own role or state: the last admin could lock everybody out."""
        if row.id == admin().user_id:
            return gettext("You cannot change your own role or state; another admin can.")
        return gettext(people.ERASED_ALREADY) if row.username.startswith(ERASED) else None

    def why_kept(self, row: User) -> str | None:
        """Neither oneself nor the account of the fixed tokens is deleted."""
        if row.username == SERVICE_ACCOUNT:
            return gettext("This account belongs to the fixed tokens of the setting API_AUTH_TOKENS.")
        if row.id == admin().user_id:
            return gettext("You cannot delete yourself.")
        return None

    def _why_no_password(self, row: User) -> str | None:
        if row.username == SERVICE_ACCOUNT:
            return gettext("This account belongs to the fixed tokens of the setting API_AUTH_TOKENS.")
        if row.id == admin().user_id:
            return gettext("Change your own password in the menu at the top right.")
        return gettext(people.ERASED_ALREADY) if row.username.startswith(ERASED) else None

    def consequences(self, row: User) -> list[str]:
        """What goes with the account."""
        keys = db.session.scalar(select(func.count()).where(ApiKey.user_id == row.id, ApiKey.revoked_at.is_(None)))
        return [
            gettext("Working API keys that stop at once: %(count)s.", count=keys),
            gettext("Its budgets and limits are removed."),
            gettext("Its usage and ledger entries stay, under the number of the account."),
        ]

    def delete(self, session: Session, row: User) -> None:
        """The account with all that is its own."""
        removal.user(session, row.id)
        people.check_admin_left(session)

    def describe(self, row: User) -> dict[str, Any]:
        """See Table."""
        return {
            "username": row.username,
            "role": row.role,
            "is_active": row.is_active,
            "disabled_reason": row.disabled_reason,
            "can_sign_in": row.password_hash is not None,
            "team_id": row.team_id,
            "policy": bound.chosen(row),
            **access.described(row),
        }


def state_of(row: User) -> str:
    """One of STATES."""
    return "disabled" if not row.is_active else "expired" if access.is_over(row) else "active"


def _in_state(state: str) -> ColumnElement[bool]:
    is_over = access.has_ended(User.expires_at)
    return {
        "disabled": ~User.is_active,
        "expired": and_(User.is_active, is_over),
        "active": and_(User.is_active, ~is_over),
    }.get(state, true())


def _offer(form: Form) -> Form:
    teams = db.session.execute(select(Team.id, Team.name).order_by(Team.name)).tuples().all()
    form.team.choices = options({"": _("None"), **{str(number): name for number, name in teams}})
    return bound.offer(access.offer_models(form))
