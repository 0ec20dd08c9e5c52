"""API keys: making them (the secret is on one page, once), what they may do, and revoking them.

A key is never deleted: what it did stays explained by its row. Keys of the setting API_AUTH_TOKENS follow the setting.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from flask import request
from flask import session as browser
from sqlalchemy import and_, or_, select
from sqlalchemy.orm import joinedload
from wtforms import RadioField, SelectField
from wtforms.validators import InputRequired, Length, ValidationError

from models import ApiKey, Budget, Model, User
from routes.admin.forms import (
    PERIOD_NAMES,
    ModelsField,
    MomentField,
    PanelForm,
    TextField,
    UsdField,
    in_the_future,
    options,
)
from routes.admin.guard import actor, expose, go
from routes.admin.tables import Choice, Table
from routes.admin.texts import N_, gettext, lazy_gettext
from services import budgets, reports
from services.audit import moment
from services.errors import InvalidRequest
from utils.extensions import db, gateway

_ = lazy_gettext

NEW_KEY: Final = "new_key"  # in the cookie, sealed, from making a key to showing it
LATEST_CALLS: Final = 10
OFFERED_USERS: Final = 200  # names that the browser suggests; any other can be typed
SCOPES: Final = {"all": _("Every model, also future ones"), "some": _("Only these:")}
STATES: Final = {"active": _("Active"), "expired": _("Expired"), "revoked": _("Revoked")}


class KeyForm(PanelForm):
    """What can be changed of a key at any time."""

    name = TextField(
        _("Name"), [InputRequired(), Length(1, 255)], description=_("What it is for, such as an app or a team.")
    )
    scope = RadioField(_("Allowed models"), choices=options(SCOPES), default="all")
    allowed_models = ModelsField(_("Allowed models"))
    expires_at = MomentField(_("Expires (UTC)"), description=_("Leave empty for a key that does not expire."))

    def validate_allowed_models(self, field: Any) -> None:
        """A key that may use nothing is a mistake."""
        if self.scope.data == "some" and not field.data:
            raise ValidationError(gettext("Choose at least one model."))

    def models(self) -> list[str] | None:
        """The allowed models; None = all."""
        return sorted(self.allowed_models.data) if self.scope.data == "some" else None


class NewKey(KeyForm):
    """A new key."""

    owner = TextField(
        _("Owner"), [InputRequired(), Length(1, 150)], description=_("The user whose usage it counts as.")
    )
    budget = UsdField(_("Budget in USD"), description=_("Leave empty for none. Calls that do not fit are refused."))
    period = SelectField(_("Budget period"), choices=options(PERIOD_NAMES), default="month")
    expires_at = MomentField(_("Expires (UTC)"), description=_("Leave empty for a key that does not expire."))

    def validate_expires_at(self, field: Any) -> None:
        """A key that is dead at birth is a mistake."""
        in_the_future(self, field)


class Revocation(PanelForm):
    """Why a key is voided."""

    reason = TextField(
        _("Reason"), [Length(0, 255)], description=_("Whoever still uses the key reads it in the error message.")
    )


class Keys(Table):
    """The keys."""

    model_class = ApiKey
    can_delete = False
    delete_view = None  # type: ignore[assignment]
    icon, singular, resource = "key", "API key", "key"
    column_list = ("name", "user", "state", "allowed_models", "budget", "last_used_at", "expires_at")
    column_labels: ClassVar[dict[str, Any]] = {
        "name": _("Key"),
        "user": _("Owner"),
        "state": _("State"),
        "allowed_models": _("Models"),
        "budget": _("Budget"),
        "last_used_at": _("Last used"),
        "expires_at": _("Expires"),
    }
    column_sortable_list: ClassVar[list[Any]] = []
    column_default_sort = ("id", True)
    column_searchable_list = ("name", "hint")
    list_template = "admin/keys/list.html"
    create_template = "admin/keys/create.html"
    edit_template = "admin/keys/edit.html"
    details_template = "admin/keys/details.html"
    choices = (Choice("state", _("State"), list(STATES.items())),)

    def get_query(self) -> Any:
        """The rows of the list, narrowed, with their owners."""
        return self._narrowed(super().get_query()).options(joinedload(ApiKey.user))

    def get_count_query(self) -> Any:
        """How many they are."""
        return self._narrowed(super().get_count_query())

    def _narrowed(self, query: Any) -> Any:
        now, state = datetime.now(UTC), self.chosen("state")
        if state == "revoked":
            return query.filter(ApiKey.revoked_at.is_not(None))
        if state == "expired":
            return query.filter(ApiKey.revoked_at.is_(None), ApiKey.expires_at <= now)
        if state == "active":
            return query.filter(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now))
        return query

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """The tightest budget of each key, and whose owners have one."""
        of_key = and_(Budget.scope == "key", Budget.scope_id.in_([row.id for row in rows]))
        of_owner = and_(Budget.scope == "user", Budget.scope_id.in_([row.user_id for row in rows]))
        found = db.session.scalars(select(Budget).where(or_(of_key, of_owner))).all()
        states = budgets.states(gateway().engine, [budget for budget in found if budget.scope == "key"])
        states.sort(key=budgets.share)
        return {
            "budgets": {state.budget.scope_id: state for state in states},
            "limited_owners": {budget.scope_id for budget in found if budget.scope == "user"},
        }

    def details(self, row: ApiKey) -> Mapping[str, Any]:
        """Budgets and the latest calls."""
        engine = gateway().engine
        found = db.session.scalars(select(Budget).where(Budget.scope == "key", Budget.scope_id == row.id)).all()
        return {
            "budgets": budgets.states(engine, found),
            "is_owner_limited": row.user_id in self.extras([row])["limited_owners"],
            "calls": reports.latest_calls(engine, LATEST_CALLS, key_id=row.id),
            "names": reports.Names({row.user_id: row.user.username}, {row.id: (row.name, row.hint)}),
            "why_kept": self._why_not_revoked(row),
        }

    def create_form(self, obj: Any = None) -> NewKey:
        """See Flask-Admin."""
        form = NewKey(self.given(), owner=self.argument("owner"))
        form.allowed_models.offer(_model_names())
        return form

    def edit_form(self, obj: Any = None) -> KeyForm:
        """See Flask-Admin."""
        form = KeyForm(self.given(), obj=obj, scope="all" if obj.allowed_models is None else "some")
        form.allowed_models.offer(_model_names())
        return form

    @expose("/new/", methods=("GET", "POST"))
    def create_view(self) -> Any:
        """The form of a new key; the page after it shows the secret, once."""
        form = self.create_form()
        owners = db.session.scalars(select(User.username).order_by(User.username).limit(OFFERED_USERS)).all()
        return self.answer_form(form, lambda: self.create(form), self.create_template, owners=owners)

    def create(self, form: Any) -> Any:
        """Make the key and its budget in one transaction."""
        session = db.session()
        owner = session.scalar(select(User).where(User.username == form.owner.data))
        if owner is None:
            raise InvalidRequest(N_("There is no user of that name."), param="owner")
        issued = gateway().keys.issue(
            session, owner.id, form.name.data, allowed_models=form.models(), expires_at=form.expires_at.data
        )
        if form.budget.data is not None:
            budget = Budget(scope="key", scope_id=issued.id, unit="usd", period=form.period.data)
            budgets.change(session, actor(), budget, form.budget.data, "UTC")
        row = session.get_one(ApiKey, issued.id)
        self.store("key_create", row, None)
        browser[NEW_KEY] = gateway().sealer.seal(issued.secret).decode()
        return go(".created_view", id=row.id)

    @expose("/created/")
    def created_view(self) -> Any:
        """The new key, once: reloading shows that it is gone, and makes no second one."""
        row, sealed = self.row(), browser.pop(NEW_KEY, "")
        secret = gateway().sealer.open(sealed.encode()) if sealed else ""
        if gateway().keys.digest(secret) != row.digest:
            return go(".details_view", id=row.id)
        model = next(iter(row.allowed_models or ()), None) or _some_model()
        return self.render("admin/keys/created.html", row=row, secret=secret, model=model, base_url=base_url())

    def update(self, form: Any, row: ApiKey) -> Any:
        """Store name, models and expiry."""
        before = self.describe(row)
        row.name, row.allowed_models, row.expires_at = form.name.data, form.models(), form.expires_at.data
        self.store("key_update", row, before)
        return go(".details_view", id=row.id)

    @expose("/revoke/", methods=("GET", "POST"))
    def revoke_view(self) -> Any:
        """Asks for a reason, then voids the key for good."""
        row = self.row()
        reason = self._why_not_revoked(row)
        if request.method == "POST":
            self.refuse(reason)
        form = Revocation(self.given())
        return self.answer_form(
            form, lambda: self._revoke(form, row), "admin/keys/revoke.html", row=row, why_kept=reason
        )

    def _revoke(self, form: Revocation, row: ApiKey) -> Any:
        before = self.describe(row)
        gateway().keys.revoke(db.session(), row.id, form.reason.data)
        db.session.refresh(row)
        self.store("key_revoke", row, before)
        return go(".details_view", id=row.id)

    def why_fixed(self, row: ApiKey) -> str | None:
        """Some keys are somebody else's to change."""
        if row.kind == "environment":
            return gettext("This key comes from the setting API_AUTH_TOKENS; change it there.")
        if row.revoked_at is not None:
            return gettext("This key was revoked; make a new one.")
        return None

    def _why_not_revoked(self, row: ApiKey) -> str | None:
        return self.why_fixed(row)

    def describe(self, row: ApiKey) -> dict[str, Any]:
        """See Table."""
        return {
            "name": row.name,
            "hint": row.hint,
            "user_id": row.user_id,
            "allowed_models": row.allowed_models,
            "expires_at": moment(row.expires_at),
            "revoked_at": moment(row.revoked_at),
            "revoked_reason": row.revoked_reason,
        }


def base_url() -> str:
    """Where callers send their requests."""
    return (gateway().config.public_url or request.host_url).rstrip("/")


def state_of(row: ApiKey) -> str:
    """One of STATES."""
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= datetime.now(UTC) else "active"


def _model_names() -> list[str]:
    return list(db.session.scalars(select(Model.name)))


def _some_model() -> str:
    """A model for the examples: one that costs something to run is more useful than an echo."""
    names = gateway().catalog.snapshot().models
    return next((name for name in names if names[name].owned_by != "tollhouse"), next(iter(names), "MODEL"))
