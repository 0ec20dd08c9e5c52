"""What the panel's forms share: their language, their fields, and how they show what a service refused.

A form names every field it takes, so a column that is not in it cannot be set from outside.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from flask_babel import ngettext
from wtforms import DateTimeLocalField, Field, Form, PasswordField, SelectMultipleField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import EqualTo, InputRequired, Length, Optional, ValidationError
from wtforms.widgets import TextInput

from routes import wording
from routes.admin.amounts import plain, usd_problem
from routes.admin.texts import gettext, lazy_gettext
from services.errors import FieldsInvalid, GatewayError
from services.passwords import MAX_CHARS, MIN_CHARS
from services.periods import PERIODS
from services.providers.kinds import KINDS
from services.rights import ROLES
from utils import money

_ = lazy_gettext

MAX_TOKENS: Final = 2**40
LONGEST_TEXT: Final = 500
KIND_NAMES: Final = {name: _(kind.name) for name, kind in KINDS.items()}
ROLE_NAMES: Final = {"user": _("User"), "team_admin": _("Team admin"), "auditor": _("Auditor"), "admin": _("Admin")}

assert set(ROLE_NAMES) == set(ROLES)  # noqa: S101 - a new role needs a name
UNIT_NAMES: Final = {"usd": "USD", "tokens": _("Tokens")}
PERIOD_NAMES: Final = {
    "total": _("In total"),
    "second": _("Per second"),
    "minute": _("Per minute"),
    "hour": _("Per hour"),
    "day": _("Per day"),
    "week": _("Per week"),
    "month": _("Per month"),
}
assert tuple(PERIOD_NAMES) == PERIODS  # noqa: S101 - a new period needs a name


def options(names: Mapping[Any, Any]) -> list[SelectChoice]:
    """The choices of a field: values with what people read."""
    return [SelectChoice(value, label) for value, label in names.items()]


class _Translations:
    """WTForms' own messages, through our catalogue."""

    gettext = staticmethod(gettext)
    ngettext = staticmethod(ngettext)


class PanelForm(Form):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """Base of all forms. The CSRF token is checked for the whole app, so it is no field here."""

    class Meta:
        """See WTForms."""

        def get_translations(self, form: Form) -> _Translations:
            """Who translates the messages."""
            return _Translations()

    def refuse(self, exc: GatewayError) -> None:
        """Show what a service said, at the fields it was about."""
        said = {exc.param or "": str(exc)}
        if isinstance(exc, FieldsInvalid):
            said = {name: f"`{name}` {problem}." for name, problem in exc.details.items()}
        for name, text in said.items():
            field = self._fields.get(name)
            (self.form_errors if field is None else field.errors).append(wording.say(text))


class TextField(StringField):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """One line of text, without spaces around it and without characters nobody can see."""

    def process_formdata(self, valuelist: list[str]) -> None:
        """See WTForms."""
        if valuelist:
            self.data = valuelist[0].strip()

    def pre_validate(self, form: Form) -> None:
        """See WTForms."""
        if self.data and not self.data.isprintable():
            raise ValidationError(gettext("Only characters that can be seen, please."))


class SecretField(PasswordField):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """A secret somebody types. It is never sent back to the browser."""

    def pre_validate(self, form: Form) -> None:
        """See WTForms."""
        if self.data and "\0" in self.data:
            raise ValidationError(gettext("Only characters that can be seen, please."))


class UsdField(Field):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """An amount of money: USD for people, nano-USD in `data`, None when left empty."""

    widget = TextInput()

    def _value(self) -> str:
        if self.raw_data:
            return str(self.raw_data[0])
        return "" if self.data is None else f"{money.usd(self.data).normalize():f}"

    def process_formdata(self, valuelist: list[str]) -> None:
        """See WTForms."""
        text = plain("usd", valuelist[0]) if valuelist else ""
        self.data = None
        if problem := usd_problem(text) if text else None:
            raise ValueError(problem)
        if text:
            self.data = money.nanousd(text)


class MomentField(DateTimeLocalField):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """A moment in UTC, None when left empty."""

    def __init__(self, label: Any, **options: Any) -> None:
        formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"]
        super().__init__(label, validators=[Optional()], format=formats, **options)

    data: datetime | None

    def process_formdata(self, valuelist: list[str]) -> None:
        """See WTForms."""
        super().process_formdata(valuelist)
        if self.data is not None:
            self.data = self.data.replace(tzinfo=UTC)


class ModelsField(SelectMultipleField):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """Some of the public models. Names that are gone meanwhile may stay chosen."""

    def offer(self, names: list[str]) -> None:
        """Set what can be chosen."""
        self.choices = [SelectChoice(name) for name in sorted({*names, *(self.object_data or ())})]

    def pre_validate(self, form: Form) -> None:
        """See WTForms."""
        if not {*(self.data or ())} <= {choice.value for choice in self.choices}:
            raise ValidationError(gettext("One of these models does not exist."))


class PasswordChange(PanelForm):
    """A person's own new password."""

    current = SecretField(_("Current password"), [InputRequired()])
    new = SecretField(
        _("New password"),
        [InputRequired(), Length(MIN_CHARS, MAX_CHARS)],
        description=_("At least %(count)s characters.", count=MIN_CHARS),
    )
    again = SecretField(
        _("New password again"), [InputRequired(), EqualTo("new", _("The two new passwords are not the same."))]
    )


def in_the_future(form: Form, field: Field) -> None:
    """A validator: the moment has not passed.

    Raises:
        ValidationError: it has.
    """
    if field.data is not None and field.data <= datetime.now(UTC):
        raise ValidationError(gettext("This moment has passed."))
