"""The form of a policy, by domain: personal data, expressions, words, size, what a model judges, and whom it is for."""

from collections.abc import Mapping
from typing import Any, Final

from wtforms import BooleanField, FieldList, FormField, IntegerField, RadioField, SelectField, TextAreaField
from wtforms.validators import InputRequired, Length, NumberRange, Optional, ValidationError

from routes import wording
from routes.admin import policywords
from routes.admin.access import LinesField, TagsField
from routes.admin.forms import PanelForm, TextField, options
from routes.admin.texts import gettext, lazy_gettext
from services import fields, policyfields
from services.errors import FieldsInvalid
from services.guards import rules
from services.policies.kinds import KINDS

_ = lazy_gettext

NONE: Final = ""
ACTION_NAMES: Final = {
    rules.ALLOW: _("Allow"),
    rules.WARN: _("Warn"),
    rules.REDACT: _("Redact"),
    rules.BLOCK: _("Block"),
}
JUDGED_NAMES: Final = {name: ACTION_NAMES[name] for name in (rules.BLOCK, rules.WARN, rules.ALLOW)}
FAILURE_NAMES: Final = {"block": _("The call is refused"), "allow": _("The call goes on")}
LISTS: Final = {"patterns": "regexConfig", "words": "wordConfig", "judges": "customConfig"}  # fields, by member
ENDS: Final = ("keys", "users", "teams", "models")
KIND: Final = "kind_"


class KeptField(TextAreaField):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """A text as it is, with the spaces around it; browsers write each end of a line as CRLF."""

    def process_formdata(self, valuelist: list[str]) -> None:
        """See WTForms."""
        if valuelist:
            given = _lines(valuelist[0])
            stored = self.object_data if isinstance(self.object_data, str) else ""
            self.data = stored if _lines(stored) == given else given


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


class RuleForm(PanelForm):
    """A rule. One without a definition does not count."""

    name = TextField(_("Name"), [Length(0, fields.MAX_NAME)])
    definition = KeptField(_("Expression"), [Length(0, policyfields.MAX_DEFINITION)])
    action = SelectField(_("Action"), choices=options(ACTION_NAMES), default=rules.BLOCK)

    def given(self) -> dict[str, Any]:
        """The rule as the API takes it."""
        found = {name: field.data for name, field in self._fields.items()}
        return {name: value for name, value in found.items() if value}


class WordForm(RuleForm):
    """A word or phrase."""

    definition = KeptField(_("Word or phrase"), [Length(0, policyfields.MAX_DEFINITION)])


class JudgeForm(RuleForm):
    """What a model is asked."""

    definition = KeptField(_("What is not allowed"), [Length(0, policyfields.MAX_QUESTION)])
    action = SelectField(_("Action"), choices=options(JUDGED_NAMES), default=rules.BLOCK)
    model = TextField(_("Model"), [Length(0, fields.MAX_MODEL)])


class PolicyForm(PanelForm):
    """A policy; the kinds of personal data are added below."""

    name = TextField(_("Name"), [InputRequired(), Length(1, fields.MAX_NAME)])
    tags = TagsField(_("Tags"), description=_("Words to find it by, between commas; one with a comma in quotes."))
    enabled = BooleanField(_("Enabled"), default=True)
    dry_run = BooleanField(_("Dry run: decide and note, but change nothing"))
    on_requests = BooleanField(_("Requests"), default=True)
    on_answers = BooleanField(_("Answers"))
    others = SelectField(
        _("All other kinds"),
        choices=options({NONE: _("Do nothing"), **{name: ACTION_NAMES[name] for name in rules.ACTIONS[1:]}}),
        default=NONE,
    )
    patterns = FieldList(FormField(RuleForm), max_entries=policyfields.MAX_RULES)
    words = FieldList(FormField(WordForm), max_entries=policyfields.MAX_RULES)
    judges = FieldList(FormField(JudgeForm), max_entries=policyfields.MAX_RULES)
    failure = RadioField(_("If the model does not answer"), choices=options(FAILURE_NAMES), default="block")
    chars = IntegerField(_("Characters of a request at most"), [Optional(), NumberRange(1, policyfields.MOST_CHARS)])
    size_action = SelectField(_("Action"), choices=options(JUDGED_NAMES), default=rules.BLOCK)
    everyone = BooleanField(_("Every call"))
    keys = LinesField(_("Keys"), description=_("One a line: its UUID, number or hint."))
    users = LinesField(_("Users"), description=_("One name a line."))
    teams = LinesField(_("Teams"), description=_("One name a line."))
    models = LinesField(_("Models"), description=_("One name a line."))

    def validate_on_answers(self, field: Any) -> None:
        """One that looks at nothing is a mistake."""
        if not field.data and not self.on_requests.data:
            raise ValidationError(gettext("Choose requests, answers or both."))

    def kinds(self) -> dict[Any, list[Any]]:
        """The fields of the kinds, by group."""
        found: dict[Any, list[Any]] = {}
        for name, kind in KINDS.items():
            found.setdefault(policywords.GROUPS.get(kind.group, kind.group), []).append(self[KIND + name])
        return found

    def given(self) -> dict[str, Any]:
        """The body as the API takes it."""
        places = {"requests": self.on_requests.data, "answers": self.on_answers.data}
        chosen = {name: self[KIND + name].data for name in KINDS} | {rules.ALL: self.others.data}
        return {
            "name": self.name.data,
            "tags": self.tags.data or [],
            "config": {"rules": {name: action for name, action in chosen.items() if action}},
            **{
                member: {"rules": [entry.form.given() for entry in self[name] if entry.definition.data]}
                for name, member in LISTS.items()
            },
            "sizeConfig": {"maxCharacters": self.chars.data or 0, "action": self.size_action.data},
            "onJudgeFailure": self.failure.data,
            "appliesTo": [name for name, is_so in places.items() if is_so],
            "enabled": self.enabled.data,
            "dryRun": self.dry_run.data,
            "everyone": self.everyone.data,
            "boundTo": {name: self[name].data or [] for name in ENDS},
        }

    def refuse(self, exc: Any) -> None:
        """Show what the service said at its field, or above the form."""
        if not isinstance(exc, FieldsInvalid):
            super().refuse(exc)
            return
        for member, problem in exc.details.items():
            field = self._meant(member)
            said = wording.say(f"`{member}` {problem}.") if not problem.endswith(".") else wording.say(problem)
            self.form_errors.append(said)  # a form within a list does not tell its list
            if field is not None:
                field.errors = [*field.errors, said]

    def _meant(self, member: str) -> Any:
        """The field of a member such as `regexConfig.rules.1.definition`; rows that do not count are passed over."""
        place, *path = member.split(".")
        if place == "boundTo":
            return self[path[0]] if path and path[0] in ENDS else None
        name = next((name for name, one in LISTS.items() if one == place), None)
        if name is None or len(path) < len(("rules", "0", "definition")) or not path[1].isdigit():
            return {"name": self.name, "sizeConfig": self.chars}.get(place)
        rows = [entry for entry in self[name] if entry.definition.data]
        return rows[int(path[1])].form[path[2]] if int(path[1]) < len(rows) and path[2] in rows[0].form else None


for _name in KINDS:
    _choices = options({NONE: _("As all others"), **ACTION_NAMES})
    setattr(PolicyForm, KIND + _name, SelectField(policywords.title(_name), choices=_choices, default=NONE))


def values(view: Mapping[str, Any]) -> dict[str, Any]:
    """What the form of a policy starts with."""
    chosen = view["config"]["rules"]
    return {
        "name": view["name"],
        "tags": view["tags"],
        "enabled": view["enabled"],
        "dry_run": view["dryRun"],
        "on_requests": "requests" in view["appliesTo"],
        "on_answers": "answers" in view["appliesTo"],
        "others": chosen.get(rules.ALL, NONE) if chosen.get(rules.ALL) != rules.ALLOW else NONE,
        **{KIND + name: chosen.get(name, NONE) for name in KINDS},
        **{name: view[member]["rules"] for name, member in LISTS.items()},
        "failure": view["onJudgeFailure"],
        "chars": view["sizeConfig"].get("maxCharacters"),
        "size_action": view["sizeConfig"].get("action", rules.BLOCK),
        "everyone": view["everyone"],
        **{name: view["boundTo"][name] for name in ENDS},
    }
