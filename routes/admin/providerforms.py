"""The form of a provider. Which settings it asks for is said by the kinds, which vendors it offers by their rows."""

from collections.abc import Mapping
from typing import Any, Final

from wtforms import BooleanField, FloatField, IntegerField, SelectField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Length, NumberRange, Optional, ValidationError

from models import Provider
from routes.admin.forms import PanelForm, SecretField, TextField, options
from routes.admin.texts import gettext, lazy_gettext
from services.addresses import is_forbidden
from services.errors import UpstreamError
from services.providers import common
from services.providers.kinds import KINDS, Setting
from services.providers.vendors import VENDORS, name_at
from services.transport import origin_of

_ = lazy_gettext

LONGEST_CREDENTIAL: Final = 4096
LONGEST_SETTING: Final = 500
COMPATIBLE: Final = "openai"  # the kind that vendors are of


class _ProviderForm(PanelForm):
    """What all kinds have."""

    kind = SelectField(_("Kind"), choices=options({name: _(kind.label) for name, kind in KINDS.items()}))
    name = TextField(_("Name"), [InputRequired(), Length(1, 100)])
    vendor = SelectField(
        _("Vendor"),
        choices=[
            SelectChoice("", _("OpenAI, or any other")),
            *(SelectChoice(name, _(one.label), {"data-url": one.base_url}) for name, one in VENDORS.items()),
        ],
        description=_("Fills in the base URL. What it does differently is known by its address, or else by this."),
        default="",
    )
    base_url = TextField(
        _("Base URL"),
        [Length(0, 500)],
        description=_("As the vendor's own SDK takes it, for example https://api.openai.com/v1. Empty: the usual one."),
    )
    credential = SecretField(_("API key of the provider"), [Length(0, LONGEST_CREDENTIAL)])
    no_credential = BooleanField(_("Remove the stored key"))
    discover = BooleanField(_("Offer every model that it lists"))
    is_enabled = BooleanField(_("Enabled"), default=True)
    operations = TextField(
        _("What it offers"),
        [Length(0, LONGEST_SETTING)],
        description=_("Names between commas, such as chat, embedding. Empty: all that its kind has."),
    )
    on_disconnect = SelectField(
        _("When a caller leaves"),
        choices=options({common.CANCEL: _("Cancel the call"), common.DRAIN: _("Read the answer to its end")}),
        default=common.CANCEL,
        description=_("For providers that bill what was begun: the books then have its real usage."),
    )
    drain_max_s = FloatField(
        _("Read on for at most, seconds"),
        [Optional(), NumberRange(0.1, common.MOST_S)],
        description=_("Empty: %(usual)s.", usual=f"{common.USUAL_S:g}"),
    )
    drain_max_streams = IntegerField(
        _("Read on at once in each worker, at most"),
        [Optional(), NumberRange(1, common.MOST_STREAMS)],
        description=_("Empty: %(usual)s.", usual=common.USUAL_STREAMS),
    )

    def validate_operations(self, _field: Any) -> None:
        """Each must be known, or it would be left out without a word."""
        if unknown := [name for name in operations_in(self) if name not in common.OPERATIONS]:
            raise ValidationError(
                gettext("`%(name)s` is none of %(names)s.", name=unknown[0], names=", ".join(common.OPERATIONS))
            )

    def settings_of(self, kind: str) -> list[tuple[Setting, Any]]:
        """The settings of a kind, each with its field."""
        return [(setting, self[f"{kind}_{setting.name}"]) for setting in KINDS[kind].settings]

    def validate_vendor(self, field: Any) -> None:
        """A vendor of another kind is none; what the form offers first is not to be taken away."""
        if self.kind.data != COMPATIBLE:
            field.data = ""

    def validate_base_url(self, field: Any) -> None:
        """The address must be one that calls can go to; without one, it is the usual one."""
        kind = KINDS.get(self.kind.data)
        if kind is None or kind.is_local:  # a kind there is not has an error of its own
            return
        vendor = VENDORS.get(self.vendor.data) if self.kind.data == COMPATIBLE else None
        field.data = kind.address(field.data or (vendor.base_url if vendor is not None else ""))
        try:
            origin = origin_of(field.data or "")
        except UpstreamError as exc:
            raise ValidationError(gettext("This must read http(s)://host[:port][/path] and nothing else.")) from exc
        if is_forbidden(origin.host):
            raise ValidationError(gettext("Nothing is ever called there: it is link-local, metadata or reserved."))

    def validate_credential(self, field: Any) -> None:
        """It goes into a header."""
        if field.data and not (field.data.isascii() and field.data.isprintable()):
            raise ValidationError(gettext("An API key has only ASCII letters, digits and signs."))


def _field(setting: Setting) -> Any:
    label, text = _(setting.label), _(setting.help) if setting.help else ""
    if setting.is_flag:
        return BooleanField(label, description=text, default=setting.default)
    if setting.otherwise:
        choices = {"": _(setting.otherwise), "true": _("Yes"), "false": _("No")}
        return SelectField(label, choices=options(choices), description=text, default="")
    return TextField(label, [Length(0, LONGEST_SETTING)], description=text)


ProviderForm: Any = type(
    "ProviderForm",
    (_ProviderForm,),
    {f"{name}_{setting.name}": _field(setting) for name, kind in KINDS.items() for setting in kind.settings},
)


def shown(row: Provider) -> dict[str, Any]:
    """What the form of a row begins with."""
    data = {name: getattr(row, name) for name in ("kind", "name", "base_url", "discover", "is_enabled")}
    data["vendor"] = vendor_of(row)
    data |= {name: row.settings[name] for name in common.NAMES if row.settings.get(name) is not None}
    data["operations"] = ", ".join(map(str, row.settings.get("operations") or ()))
    for setting in KINDS[row.kind].settings if row.kind in KINDS else ():
        data[f"{row.kind}_{setting.name}"] = _as_field(setting, row.settings)
    return data


def vendor_of(row: Provider) -> str:
    """Which vendor's row speaks for a provider; empty = none."""
    if row.kind != COMPATIBLE:
        return ""
    named = str(row.settings.get("vendor") or name_at(row.base_url))
    return named if named in VENDORS else ""


def settings_from(form: Any, kept: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a form gives; those it does not ask for stay, but for those of the kind that it was before."""
    kind, asked = form.kind.data, {setting.name for one in KINDS.values() for setting in one.settings}
    found = {name: value for name, value in kept.items() if name not in {*asked, *common.NAMES, "vendor"}}
    found |= _common(form)
    if kind == COMPATIBLE and form.vendor.data and not name_at(form.base_url.data or ""):
        found["vendor"] = form.vendor.data
    for setting, field in form.settings_of(kind):
        if field.data == _as_field(setting, kept):
            found |= {setting.name: kept[setting.name]} if setting.name in kept else {}
        elif field.data or setting.is_flag:
            found[setting.name] = field.data
    return found


def operations_in(form: Any) -> list[str]:
    """The names in the field, each once."""
    given = (form.operations.data or "").split(",")
    return list(dict.fromkeys(name.strip() for name in given if name.strip()))


def _common(form: Any) -> dict[str, Any]:
    """The settings that every kind has, where they are not the usual ones."""
    found: dict[str, Any] = {"operations": names} if (names := operations_in(form)) else {}
    if form.on_disconnect.data != common.CANCEL:
        found["on_disconnect"] = form.on_disconnect.data
    limits = {name: form[name].data for name in ("drain_max_s", "drain_max_streams")}
    return found | {name: value for name, value in limits.items() if value is not None}


def _as_field(setting: Setting, settings: Mapping[str, Any]) -> Any:
    """A setting as its field has it; a list, which only a file can give, is shown as a text."""
    value = settings.get(setting.name)
    if setting.is_flag:
        return setting.default if value is None else bool(value)
    if setting.otherwise and value is not None:
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
