"""What the forms of users, keys and teams share: which models and paths they may use, from where, and until when."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, and_, func, select, true
from sqlalchemy.orm import InstrumentedAttribute
from wtforms import Field, RadioField
from wtforms.validators import Length, ValidationError
from wtforms.widgets import TextArea, TextInput

from models import ApiKey, Model, Team, User
from routes.admin.forms import ModelsField, MomentField, PanelForm, TextField, in_the_future, options
from routes.admin.texts import gettext, lazy_gettext
from services import restrictions
from services.audit import moment
from services.errors import InvalidRequest
from utils.extensions import db, gateway

_ = lazy_gettext

Form = TypeVar("Form", bound="ModelsForm")

MAX_LINES: Final = 200
MAX_TAGS: Final = 50
LONGEST_TAG: Final = 60
TAG: Final = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*(?=,|$)|([^,]*))(?:,|$)')  # in quotes, as in CSV, or plain
SCOPES: Final = {"all": _("Every model, also future ones"), "some": _("Only these:")}


class LinesField(Field):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """Some entries, one a line; None when left empty. `read` makes an entry of a line and `show` a line of an entry."""

    widget = TextArea()
    data: list[Any] | None

    def __init__(
        self,
        label: Any,
        read: Callable[[str], Any] = str,
        show: Callable[[Any], str] = str,
        *,
        problem: Any = "",
        most: int = MAX_LINES,
        **more: Any,
    ) -> None:
        super().__init__(label, **more)
        self._read, self._show, self._problem, self._most = read, show, problem, most

    def _value(self) -> str:
        if self.raw_data:
            return str(self.raw_data[0])
        return "\n".join(self._show(entry) for entry in self.data or ())

    def process_formdata(self, valuelist: list[str]) -> None:
        """See WTForms."""
        if not valuelist:
            return
        self.data = None
        lines = [line.strip() for line in valuelist[0].splitlines() if line.strip()]
        if len(lines) > self._most:
            raise ValueError(gettext("There are too many lines; %(count)s is the most.", count=self._most))
        found: list[Any] = []
        for line in lines:
            entry = self._entry(line)
            if entry not in found:
                found.append(entry)
        self.data = found or None

    def _entry(self, line: str) -> Any:
        if not line.isprintable():
            raise ValueError(gettext("Only characters that can be seen, please."))
        try:
            return self._read(line)
        except InvalidRequest as exc:
            raise ValueError(f"{line[:60]}: {self._problem}") from exc


class TagsField(Field):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """Words between commas, as in CSV: one with a comma stands in quotes. None when left empty."""

    widget = TextInput()
    data: list[str] | None

    def _value(self) -> str:
        return str(self.raw_data[0]) if self.raw_data else ", ".join(map(_quoted, self.data or ()))

    def process_formdata(self, valuelist: list[str]) -> None:
        """See WTForms."""
        if not valuelist:
            return
        given = (found[2] or (found[1] or "").replace('""', '"') for found in TAG.finditer(valuelist[0]))
        words = dict.fromkeys(word.strip() for word in given if word.strip())
        self.data = list(words) or None
        if not all(word.isprintable() for word in words):
            raise ValueError(gettext("Only characters that can be seen, please."))
        if len(words) > MAX_TAGS or any(len(word) > LONGEST_TAG for word in words):
            raise ValueError(
                gettext("At most %(count)s tags of %(chars)s characters.", count=MAX_TAGS, chars=LONGEST_TAG)
            )


def _quoted(tag: str) -> str:
    """The tag as TagsField reads it."""
    return '"' + tag.replace('"', '""') + '"' if "," in tag or tag.startswith('"') else tag


class ModelsForm(PanelForm):
    """Which models may be used."""

    scope = RadioField(_("Allowed models"), choices=options(SCOPES), default="all")
    allowed_models = ModelsField(_("Allowed models"))

    def validate_allowed_models(self, field: Any) -> None:
        """Somebody who may use nothing is a mistake."""
        if self.scope.data == "some" and not field.data:
            raise ValidationError(gettext("Choose at least one model."))

    def models(self) -> list[str] | None:
        """The allowed models; None = all."""
        return sorted(self.allowed_models.data) if self.scope.data == "some" else None


class AccessForm(ModelsForm):
    """Which models and paths, until when, and under which tags."""

    allowed_paths = LinesField(
        _("Allowed paths"),
        restrictions.path_rule,
        restrictions.show_path,
        problem=_("not a path such as POST /v1/chat/completions"),
        description=_(
            "One a line; without a method for all of them, with /* at the end for everything below. Empty: every path."
        ),
    )
    tags = TagsField(_("Tags"), description=_("Words to find it by, between commas; one with a comma in quotes."))
    expires_at = MomentField(_("Expires (UTC)"), description=_("Leave both empty for no end."))
    ttl = TextField(_("Or so long after it was made"), [Length(0, 40)], description=_("Such as 30d or 36h30m."))

    def validate_ttl(self, field: Any) -> None:
        """A time, instead of a moment."""
        if not field.data:
            return
        if self.expires_at.data is not None:
            raise ValidationError(gettext("Give a moment or a time, not both."))
        try:
            restrictions.ttl(field.data)
        except InvalidRequest as exc:
            raise ValidationError(gettext("This is not a time such as 30d or 36h30m.")) from exc

    def access(self, made_at: datetime) -> dict[str, Any]:
        """The columns of a row that was made at that moment."""
        ttl = self.ttl.data or None
        return {
            "allowed_models": self.models(),
            "allowed_paths": self.allowed_paths.data,
            "tags": self.tags.data,
            "ttl": ttl,
            "expires_at": made_at + restrictions.ttl(ttl) if ttl else self.expires_at.data,
        }


class NewAccessForm(AccessForm):
    """The same of somebody who is new."""

    def validate_expires_at(self, field: Any) -> None:
        """Dead at birth is a mistake."""
        in_the_future(self, field)


def offer_models(form: Form) -> Form:
    """The form, with all models to choose from."""
    form.allowed_models.offer(list(db.session.scalars(select(Model.name))))
    return form


def scope_of(row: Team | User | ApiKey) -> str:
    """One of SCOPES."""
    return "all" if row.allowed_models is None else "some"


def shown(row: User | ApiKey) -> dict[str, Any]:
    """What the form shows of a row. A time it was given goes before the moment that it led to."""
    names = ("allowed_models", "allowed_paths", "tags", "ttl")
    return {name: getattr(row, name) for name in names} | {
        "scope": scope_of(row),
        "expires_at": None if row.ttl else row.expires_at,
    }


def described(row: User | ApiKey) -> dict[str, Any]:
    """The same for the audit log."""
    names = ("allowed_models", "allowed_paths", "tags", "ttl")
    return {name: getattr(row, name) for name in names} | {"expires_at": moment(row.expires_at)}


def has_ended(expires_at: InstrumentedAttribute[datetime | None]) -> ColumnElement[bool]:
    """Whether the moment has passed, as a condition."""
    return and_(expires_at.is_not(None), expires_at <= datetime.now(UTC))


def is_tagged(tags: InstrumentedAttribute[list[str] | None], tag: str) -> ColumnElement[bool]:
    """Whether one of the tags is that one; each database has a function of its own for the items of a list."""
    if not tag:
        return true()
    is_sqlite = gateway().engine.dialect.name == "sqlite"
    items = (func.json_each if is_sqlite else func.json_array_elements_text)(tags).table_valued("value")
    return select(items.c.value).where(items.c.value == tag).exists()


def is_over(row: User | ApiKey) -> bool:
    """Whether its time is over."""
    return row.expires_at is not None and row.expires_at <= datetime.now(UTC)
