"""Routes: paths of one's own, with the places where their calls are tried.

Stored by services/callroutes.py, as by the API, so the form says no more than that takes.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from flask import flash
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload
from wtforms import BooleanField, FieldList, FormField, IntegerField, SelectField, SelectMultipleField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Length, NumberRange, Optional, ValidationError

from models import ApiKey, Model, Provider, Route
from routes import wording
from routes.admin.forms import PanelForm, TextField, options
from routes.admin.guard import actor, go
from routes.admin.tables import Table
from routes.admin.texts import gettext, lazy_gettext
from services import callroutes
from services.errors import FieldsInvalid, InvalidRequest
from services.steps import CONSTANT
from utils.extensions import db, gateway

_ = lazy_gettext

OFFERED_KEYS: Final = 300  # the newest; others stay chosen where they are
OFFERED_MODELS: Final = 500
LONGEST_JSON: Final = 4000
STRATEGIES: Final = {callroutes.EXPONENTIAL: _("Twice as long each time"), CONSTANT: _("The same each time")}


class StepForm(PanelForm):
    """A place where a call is tried. One without a model does not count."""

    provider = SelectField(_("Provider"))
    model = TextField(_("Model"), [Length(0, 200)])
    retries = IntegerField(_("Repeats"), [Optional(), NumberRange(0, callroutes.MAX_RETRIES)])
    timeout = TextField(_("Timeout"), [Length(0, 20)])
    pause = TextField(_("Pause"), [Length(0, 20)])
    more = TextAreaField(
        _("More, as JSON"),
        [Length(0, LONGEST_JSON)],
        description=_("As in the API, such as %(example)s.", example='{"requestParams": {"temperature": 0.2}}'),
    )

    def validate_more(self, field: Any) -> None:
        """An object, or nothing."""
        if not field.data or not field.data.strip():
            return
        try:
            found = json.loads(field.data)
        except ValueError as exc:
            raise ValidationError(gettext("This is not JSON.")) from exc
        if not isinstance(found, dict):
            raise ValidationError(gettext("This must be an object."))

    def given(self) -> dict[str, Any]:
        """The step as the API takes it."""
        step = {"provider": self.provider.data, "model": self.model.data, "retries": self.retries.data}
        step |= {"timeout": self.timeout.data, "retryInterval": self.pause.data}
        more = json.loads(self.more.data) if (self.more.data or "").strip() else {}
        return {name: value for name, value in step.items() if value not in (None, "")} | more


class KeysField(SelectMultipleField):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """Some of the keys that are offered, by their UUIDs."""

    def pre_validate(self, form: Any) -> None:
        """See WTForms."""
        if not {*(self.data or ())} <= {choice.value for choice in self.choices}:
            raise ValidationError(gettext("One of these keys does not exist."))


class RouteForm(PanelForm):
    """A route."""

    name = TextField(_("Name"), [InputRequired(), Length(1, 255)])
    path = TextField(
        _("Path"),
        [InputRequired(), Length(1, callroutes.MAX_PATH)],
        description=_("Below /api/routes, such as /support/chat."),
    )
    keys = KeysField(_("Keys that may call it"))
    steps = FieldList(FormField(StepForm), min_entries=1, max_entries=callroutes.MAX_STEPS)
    strategy = SelectField(_("Pause before a repeat"), choices=options(STRATEGIES), default=callroutes.EXPONENTIAL)
    has_cache = BooleanField(_("Answers may be cached"))
    ttl = TextField(_("Keep them for"), [Length(0, 20)], description=_("Such as 5s or 168h."))

    def validate_keys(self, field: Any) -> None:
        """A route that nobody may call is a mistake."""
        if not field.data:
            raise ValidationError(gettext("Choose at least one key."))

    def validate_steps(self, field: Any) -> None:
        """At least one."""
        if not any(entry.model.data for entry in field):
            raise ValidationError(gettext("A route needs a step."))

    def given(self) -> dict[str, Any]:
        """The body as the API takes it."""
        return {
            "name": self.name.data,
            "path": self.path.data,
            "keyIds": self.keys.data,
            "steps": [entry.form.given() for entry in self.steps if entry.model.data],
            "cacheConfig": {"enabled": self.has_cache.data, "ttl": self.ttl.data or ""},
            "retryStrategy": self.strategy.data,
        }

    def refuse(self, exc: Any) -> None:
        """Show what the service said at the field, or above the form where a step is meant."""
        if not isinstance(exc, FieldsInvalid):
            super().refuse(InvalidRequest(str(exc), param="path" if exc.code == "duplicate_route" else exc.param))
            return
        places = {"keyIds": "keys", "name": "name", "path": "path"}
        for member, problem in exc.details.items():
            if (place := places.get(member)) is not None:
                self[place].errors = [*self[place].errors, wording.say(f"`{place}` {problem}.")]
            else:
                self.form_errors.append(wording.say(f"`{member}` {problem}."))


class Routes(Table):
    """The routes."""

    model_class = Route
    icon, singular, resource = "signpost-split", "Route", "route"
    column_list = ("name", "path", "steps", "keys", "updated_at")
    column_labels: ClassVar[dict[str, Any]] = {
        "name": _("Route"),
        "path": _("Path"),
        "steps": _("Steps"),
        "keys": _("Keys that may call it"),
        "updated_at": _("Changed"),
    }
    column_sortable_list: ClassVar[list[Any]] = ["name", "path"]
    column_default_sort = "path"
    column_searchable_list = ("name", "path")
    exported = ("id", "uuid", "name", "path", "steps", "key_ids", "updated_at")
    list_template = "admin/routes/list.html"
    create_template = edit_template = "admin/routes/form.html"
    details_template = "admin/routes/details.html"

    def details(self, row: Route) -> Mapping[str, Any]:
        """Its keys by name."""
        keys = select(ApiKey).where(ApiKey.id.in_(row.key_ids)).options(joinedload(ApiKey.user)).order_by(ApiKey.name)
        return {
            "keys": db.session.scalars(keys).all(),
            "view": gateway().call_routes.get(row.uuid),
            "strategies": STRATEGIES,
            "why_kept": self.why_kept(row),
        }

    def create_form(self, obj: Any = None) -> RouteForm:
        """See Flask-Admin."""
        return _offer(RouteForm(self.given()))

    def edit_form(self, obj: Any = None) -> RouteForm:
        """See Flask-Admin."""
        given, view = self.given(), gateway().call_routes.get(obj.uuid)
        data = {"name": view["name"], "path": view["path"], "keys": view["keyIds"], "strategy": view["retryStrategy"]}
        data |= {"has_cache": view["cacheConfig"]["enabled"], "ttl": view["cacheConfig"]["ttl"]}
        form = RouteForm(given, data=data | {"steps": [_step(step) for step in view["steps"]]})
        if given is None and len(form.steps) < callroutes.MAX_STEPS:
            form.steps.append_entry()  # an empty row, so that one more can be added without JavaScript
        return _offer(form, obj.key_ids)

    def answer_form(self, form: Any, change: Any, template: str, **values: Any) -> Any:
        """See Table; with the names of models for the browser to suggest."""
        names = list(db.session.scalars(select(Model.name).order_by(Model.name).limit(OFFERED_MODELS)))
        return super().answer_form(form, change, template, names=names, **values)

    def create(self, form: Any) -> Any:
        """Store a new one."""
        body = form.given()
        db.session.rollback()  # the service has a transaction of its own
        view = gateway().call_routes.create(actor(), body).view
        return self._saved(view["id"], view["name"])

    def update(self, form: Any, row: Route) -> Any:
        """Store what changed."""
        body, uuid = form.given(), row.uuid
        db.session.rollback()  # the service has a transaction of its own
        view = gateway().call_routes.update(actor(), uuid, body).view
        return self._saved(uuid, view["name"])

    def _saved(self, uuid: str, name: str) -> Any:
        number = db.session.scalars(select(Route.id).where(Route.uuid == uuid)).one()
        flash(gettext("%(name)s was saved.", name=name), "success")
        return go(".details_view", id=number)

    def note_deletion(self, session: Session, row: Route) -> None:
        """The service that deletes writes the entry."""

    def delete(self, session: Session, row: Route) -> None:
        """See services/callroutes.py."""
        uuid = row.uuid
        session.rollback()  # the service has a transaction of its own
        gateway().call_routes.delete(actor(), uuid)

    def consequences(self, row: Route) -> list[str]:
        """Who calls it."""
        return [gettext("Calls to its path are refused from then on; those under way go on.")]

    def title(self, row: Route) -> str:
        """See Table."""
        return row.name

    def describe(self, row: Route) -> dict[str, Any]:
        """See Table."""
        return gateway().call_routes.get(row.uuid)


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step as its form shows it."""
    more = {name: step[name] for name in ("params", "requestParams") if step[name]}
    return {
        "provider": step["provider"],
        "model": step["model"],
        "retries": step["retries"] or None,
        "timeout": step["timeout"],
        "pause": step["retryInterval"],
        "more": json.dumps(more, ensure_ascii=False) if more else "",
    }


def _offer(form: RouteForm, chosen: list[int] | None = None) -> RouteForm:
    """The form, with the providers and keys to choose from."""
    names = list(db.session.scalars(select(Provider.name).order_by(Provider.name)))
    for entry in form.steps:
        kept = [entry.provider.object_data] if entry.provider.object_data else []
        entry.provider.choices = options({name: name for name in dict.fromkeys([*names, *kept])})
    keys = select(ApiKey).where(ApiKey.uuid.is_not(None)).options(joinedload(ApiKey.user)).order_by(ApiKey.id.desc())
    rows = [
        *db.session.scalars(keys.where(ApiKey.id.in_(chosen or []))),
        *db.session.scalars(keys.where(ApiKey.revoked_at.is_(None)).limit(OFFERED_KEYS)),
    ]
    found = {row.uuid: (row.name, row.user.username, row.hint) for row in rows}
    form.keys.choices = [SelectChoice(uuid, label) for uuid, label in found.items()]
    return form
