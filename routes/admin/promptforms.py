"""The forms of stored prompts. What somebody left as it was stays exactly as it is stored.

A browser ends lines in its own way and takes them out of short fields, so a text is compared with what a browser makes
of the stored one.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from wtforms import FieldList, FormField, IntegerField, SelectField, TextAreaField
from wtforms.validators import InputRequired, Length, NumberRange, Optional, ValidationError

from routes import wording
from routes.admin.forms import PanelForm, TextField, options
from routes.admin.parameters import ParametersForm
from routes.admin.quoting import WordsField
from routes.admin.texts import gettext, lazy_gettext
from services import promptfields, promptrows, templating
from services.dialects import dialogs_fields as fields
from services.errors import GatewayError
from utils import jsonx

_ = lazy_gettext

ROLE_NAMES: Final = {"system": _("System"), "developer": _("Developer"), "user": _("User"), "assistant": _("Assistant")}
TYPE_NAMES: Final = {
    "string": _("Text"),
    "integer": _("Whole number"),
    "number": _("Number"),
    "boolean": _("Yes or no"),
    "json": "JSON",
    "enum": _("One of some"),
}
OWNER_NAMES: Final = {promptrows.USER: _("Only you"), promptrows.TEAM: _("A team"), promptrows.EVERYONE: _("Everybody")}
YES_NO: Final = {"yes": _("Required"), "no": _("May be empty")}
TEXTS: Final = ("string", "enum")  # types whose default is written as it is
PARTS: Final = {"options": "allowed", "max_chars": "most", "is_required": "needed"}  # fields, by member of the API
LEADS: Final = {"messages": "content", "variables": "name"}  # where it is marked what is about a whole row


class MessageForm(PanelForm):
    """A message of a template. One without text does not count."""

    role = SelectField(_("Role"), choices=options(ROLE_NAMES), default="user")
    content = TextAreaField(_("Text"), [Length(0, promptfields.MAX_TEMPLATE)])

    def given(self, stored: Mapping[str, Any] | None) -> dict[str, Any]:
        """The message as the API takes it; `stored`: what its row began with."""
        typed, was = _lines(self.content.data), stored["content"] if stored is not None else ""
        return {"role": self.role.data, "content": was if typed == _lines(was) else typed}


class VariableForm(PanelForm):
    """A value that a call brings. A row without anything in it does not count."""

    name = TextField(_("Name"), [Length(0, 64)])
    type = SelectField(_("Type"), choices=options(TYPE_NAMES), default="string")
    needed = SelectField(_("Needed"), choices=options(YES_NO), default="yes")
    default = TextAreaField(_("Otherwise"), [Length(0, promptfields.MAX_TEMPLATE)])
    most = IntegerField(_("Most characters"), [Optional(), NumberRange(1, promptfields.MAX_VALUE)])
    allowed = WordsField(
        _("Choices, by commas"),
        most=promptfields.MAX_OPTIONS,
        longest=promptfields.MAX_OPTION,
        description=_("One with a comma in quotes."),
    )
    description = TextField(_("Description"), [Length(0, fields.MAX_DESCRIPTION)])

    def validate_name(self, field: Any) -> None:
        """Without one, what else was typed would be lost."""
        if not field.data and self._has_more():
            raise ValidationError(gettext("Give the variable a name, or remove it."))
        if field.data and not templating.NAME.fullmatch(field.data):
            raise ValidationError(gettext("A letter or _, and then at most 63 letters, digits and _."))

    def _has_more(self) -> bool:
        typed = (self.default, self.most, self.allowed, self.description)
        is_chosen = (self.type.data, self.needed.data) != (self.type.default, self.needed.default)
        return is_chosen or any(field.data not in (None, "") or field.errors for field in typed)

    def given(self, stored: Mapping[str, Any] | None) -> dict[str, Any]:
        """The variable as the API takes it; `stored`: what its row began with."""
        default = self._default(stored)
        was = stored["description"] if stored is not None else ""
        is_as_it_was = _line(self.description.data) == _line(was)
        return {
            "name": self.name.data,
            "type": self.type.data,
            "is_required": self.needed.data == "yes" and default is None,
            "default": default,
            "max_chars": self.most.data,
            "options": self.allowed.data,
            "description": was if is_as_it_was else self.description.data,
        }

    def _default(self, stored: Mapping[str, Any] | None) -> Any:
        typed, is_text = _lines(self.default.data), self.type.data in TEXTS
        if stored is not None and self.type.data == stored["type"] and typed == _lines(_typed(stored)):
            return stored["default"] if typed or self.needed.data == "no" else None
        if is_text:
            return typed or None
        return _value(typed.strip()) if typed.strip() else None


class VersionForm(ParametersForm):
    """What a version says."""

    # One row more than the service takes, so that it says so: what is beyond the most here is dropped unsaid.
    messages = FieldList(FormField(MessageForm), min_entries=1, max_entries=promptfields.MAX_MESSAGES + 1)
    variables = FieldList(FormField(VariableForm), min_entries=1, max_entries=promptfields.MAX_VARIABLES + 1)
    model = TextField(_("Model"), [Length(0, fields.MAX_MODEL)], description=_("Empty: the one that the call names."))
    note = TextField(_("What is new"), [Length(0, promptfields.MAX_NOTE)])

    def validate_variables(self, field: Any) -> None:
        """A name that two of them have is marked at the second."""
        names = set()
        for one in self._variables():
            if one.form.name.data in names:
                one.form.name.errors = [*one.form.name.errors, gettext("Another variable has this name.")]
                raise ValidationError(gettext("Another variable has this name."))
            names.add(one.form.name.data)

    def _messages(self) -> list[Any]:
        return [one for one in self.messages if (one.form.content.data or "").strip()]

    def _variables(self) -> list[Any]:
        return [one for one in self.variables if one.form.name.data]

    def said(self, source: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The members of a version as the API takes them; `source`: the version that the form began with."""
        began = source or {"messages": (), "variables": ()}
        return {
            "messages": [one.form.given(_row(one, began["messages"])) for one in self._messages()],
            "variables": [one.form.given(_row(one, began["variables"])) for one in self._variables()],
            "model": self.model.data or None,
            "parameters": self.parameters(),
            "note": self.note.data or None,
        }

    def refuse(self, exc: GatewayError) -> None:
        """What is about a part of a list stands at its field."""
        member, _dot, rest = (exc.param or "").partition(".")
        if member == "parameters":  # the fields of the numbers know their ranges
            exc.param = "stop_sequences"
        if member not in ("messages", "variables"):
            super().refuse(exc)
            return
        entries = self._messages() if member == "messages" else self._variables()
        index, _dot, part = rest.partition(".")
        form = (entries[int(index)] if index.isdigit() and int(index) < len(entries) else self[member][0]).form
        field = form._fields.get(PARTS.get(part, part)) or form[LEADS[member]]
        field.errors = [*field.errors, wording.say(str(exc))]
        self[member].errors = [*self[member].errors, field.errors]


class PromptForm(VersionForm):
    """A new prompt."""

    name = TextField(_("Name"), [InputRequired(), Length(1, 100)], description=_("Calls name it, such as greeting."))
    description = TextField(_("Description"), [Length(0, fields.MAX_DESCRIPTION)])
    owner = SelectField(_("Who may use it"))
    team = TextField(_("Team"), [Length(0, 150)], description=_("Empty: your own."))


class NameForm(PanelForm):
    """What can be changed of a prompt."""

    name = TextField(_("Name"), [InputRequired(), Length(1, 100)])
    description = TextField(_("Description"), [Length(0, fields.MAX_DESCRIPTION)])


class LabelForm(PanelForm):
    """Where a label shall point."""

    label = TextField(
        _("Label"), [InputRequired(), Length(1, 40)], description=_("Such as production, staging or a name of yours.")
    )
    version = SelectField(_("Version"), coerce=int)


def _row(entry: Any, stored: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """What the row of a form began with."""
    place = int(entry.name.rpartition("-")[2])  # it stays, whichever rows are removed
    return stored[place] if place < len(stored) else None


def _lines(text: str | None) -> str:
    """The text as a large field sends it."""
    return (text or "").replace("\r\n", "\n").replace("\r", "\n")


def _line(text: str | None) -> str:
    """The text as a field of one line sends it."""
    return (text or "").replace("\r", "").replace("\n", "").strip()


def _value(text: str) -> Any:
    """What somebody typed as a value that is no text."""
    try:
        return jsonx.loads(text.encode())
    except jsonx.BadJson:
        return text  # the service says what it should be


def data(version: dict[str, Any]) -> dict[str, Any]:
    """A version as its form shows it."""
    variables = [
        {
            "name": one["name"],
            "type": one["type"],
            "needed": "yes" if one["is_required"] else "no",
            "default": _typed(one),
            "most": one["max_chars"],
            "allowed": one["options"],
            "description": one["description"],
        }
        for one in version["variables"]
    ]
    return {"messages": version["messages"], "variables": variables, "model": version["model"], **version["parameters"]}


def _typed(variable: Mapping[str, Any]) -> str:
    value = variable["default"]
    if value is None:
        return ""
    return str(value) if variable["type"] in TEXTS else json.dumps(value, ensure_ascii=False)
