"""Values that admins keep in the gateway, some of them secret: the page beside `/api/v1/admin/config`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from flask import abort, flash, request
from sqlalchemy.orm import Session
from wtforms import BooleanField, TextAreaField
from wtforms.validators import InputRequired, Length, Regexp, ValidationError

from models import SystemConfig
from routes.admin import bulk
from routes.admin.forms import PanelForm, SecretField, TextField
from routes.admin.guard import actor, go
from routes.admin.tables import Table
from routes.admin.texts import gettext, lazy_gettext
from services import systemconfig
from utils.extensions import db, gateway

_ = lazy_gettext

KEPT: Final = _("Left empty, a secret stays what it is.")


class ConfigForm(PanelForm):
    """What may be changed of one."""

    value = TextAreaField(_("Value"), [Length(0, systemconfig.MAX_VALUE)])
    secret = SecretField(_("Secret value"), [Length(0, systemconfig.MAX_VALUE)], description=KEPT)
    is_secret = BooleanField(_("Secret: sealed, and never shown again"))
    description = TextField(_("Description"), [Length(0, systemconfig.MAX_DESCRIPTION)])

    was_secret = False  # before this edit

    def validate_secret(self, field: Any) -> None:
        """A new secret has a value."""
        if self.is_secret.data and not self.was_secret and not field.data:
            raise ValidationError(gettext("A secret needs a value."))

    def validate_value(self, field: Any) -> None:
        """Only what can be stored."""
        if field.data and "\0" in field.data:
            raise ValidationError(gettext("Only characters that can be seen, please."))

    def given(self) -> dict[str, Any]:
        """The members as services/systemconfig.py takes them."""
        value = self.secret.data if self.is_secret.data else self.value.data
        return {"value": value or "", "is_secret": self.is_secret.data, "description": self.description.data or ""}


class NewConfigForm(ConfigForm):
    """The same with its key."""

    key = TextField(
        _("Key"),
        [
            InputRequired(),
            Regexp(
                f"{systemconfig.KEY.pattern}$", message=_("1 to 100 letters, digits, dots, dashes and underscores.")
            ),
        ],
    )

    def given(self) -> dict[str, Any]:
        """See ConfigForm."""
        return {"key": self.key.data, **super().given()}


class Configs(Table):
    """The values."""

    model_class = SystemConfig
    icon, singular, resource = "sliders", "Configuration value", systemconfig.RESOURCE
    column_list = ("key", "value", "description", "updated_by", "updated_at")
    column_labels: ClassVar[dict[str, Any]] = {
        "key": _("Key"),
        "value": _("Value"),
        "description": _("Description"),
        "updated_by": _("Changed by"),
        "updated_at": _("Changed"),
    }
    column_sortable_list: ClassVar[list[Any]] = ["key", "updated_at"]
    column_default_sort = "key"
    column_searchable_list = ("key", "description")
    many = (bulk.delete(_("Programs that read them over the API no longer find them.")),)
    exported = ("key", "value", "is_secret", "description", "updated_by", "updated_at")
    exported_as: ClassVar[Mapping[str, Any]] = {"value": ("value", "is_secret")}
    list_template = "admin/configs/list.html"
    create_template = "admin/configs/create.html"
    edit_template = "admin/configs/edit.html"
    details_template = "admin/configs/details.html"

    def row(self) -> Any:
        """The value with the key that was asked for."""
        key = request.values.get("id", "")
        found = db.session.get(SystemConfig, key) if systemconfig.KEY.fullmatch(key) else None
        if found is None:
            abort(404)
        return found

    def record(self, row: SystemConfig, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported; a secret is masked."""
        return {"value": systemconfig.MASK if row.is_secret else row.value}

    def title(self, row: SystemConfig) -> str:
        """Its key."""
        return row.key

    def create_form(self, obj: Any = None) -> NewConfigForm:
        """See Flask-Admin."""
        return NewConfigForm(self.given())

    def edit_form(self, obj: Any = None) -> ConfigForm:
        """See Flask-Admin."""
        form = ConfigForm(self.given(), value=obj.value, is_secret=obj.is_secret, description=obj.description)
        form.was_secret = obj.is_secret
        return form

    def create(self, form: Any) -> Any:
        """Store a new one."""
        row = systemconfig.create(db.session(), gateway().sealer, actor(), form.given())
        return self._stored(row)

    def update(self, form: Any, row: SystemConfig) -> Any:
        """Store what changed; an empty secret keeps the one there is."""
        systemconfig.change(db.session(), gateway().sealer, actor(), row, form.given())
        return self._stored(row)

    def _stored(self, row: SystemConfig) -> Any:
        db.session.commit()
        flash(gettext("%(name)s was saved.", name=row.key), "success")
        return go(".details_view", id=row.key)

    def details(self, row: SystemConfig) -> Mapping[str, Any]:
        """See Table."""
        return {"why_kept": self.why_kept(row)}

    def consequences(self, row: SystemConfig) -> list[str]:
        """Who reads it will miss it."""
        return [gettext("Programs that read it over the API no longer find it.")]

    def note_deletion(self, session: Session, row: SystemConfig) -> None:
        """The entry is written with the deletion."""

    def delete(self, session: Session, row: SystemConfig) -> None:
        """See Table."""
        systemconfig.remove(session, actor(), row)

    def describe(self, row: SystemConfig) -> dict[str, Any]:
        """See Table; the moment stands for the value, which the audit log does not have."""
        return {**systemconfig.described(row), "updated_at": row.updated_at.isoformat()}
