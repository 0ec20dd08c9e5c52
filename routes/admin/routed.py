"""How calls of a model find their way, as the panel's form for models has it."""

from typing import Any, Final

from wtforms import BooleanField, FloatField, IntegerField, SelectField
from wtforms.validators import Length, NumberRange, Optional

from models import Model
from routes.admin import prices
from routes.admin.forms import TextField, options
from routes.admin.texts import lazy_gettext
from services import modelnames
from services.routing import LATENCY, WEIGHT
from utils.extensions import db

_ = lazy_gettext

LONGEST_S: Final = 86_400
LONGEST_CACHE_S: Final = 2_592_000  # 30 days
PLAIN: Final = ("retries", "first_byte_s", "silence_s", "total_s", "cache_s")  # fields of the form and of the row alike
NAMES: Final = ("context_fallbacks", "content_fallbacks")
WAIT: Final = [Optional(), NumberRange(0.1, LONGEST_S)]


class RoutingFields(prices.PriceFields):
    """What a model's form says about routing. Empty is as in the settings."""

    aliases = TextField(
        _("Aliases"), [Length(0, 1000)], description=_("Other names that callers may use, separated by commas.")
    )
    strategy = SelectField(
        _("Among equal priorities"),
        choices=options({WEIGHT: _("By weight"), LATENCY: _("The one that answered soonest lately")}),
        default=WEIGHT,
    )
    retries = IntegerField(_("Repeats after the first round"), [Optional(), NumberRange(0, 10)])
    first_byte_s = FloatField(_("Longest wait for the first byte, seconds"), WAIT)
    silence_s = FloatField(_("Longest silence in an answer, seconds"), WAIT)
    total_s = FloatField(_("Longest call in all, seconds"), WAIT)
    context_fallbacks = TextField(
        _("Fallbacks for what is too long"), [Length(0, 1000)], description=_("Models with a larger context window.")
    )
    cache_s = IntegerField(
        _("Keep answers, seconds"),
        [Optional(), NumberRange(1, LONGEST_CACHE_S)],
        description=_("So long an equal call of the same key gets the same answer at no cost. Empty: never."),
    )
    cache_shared = BooleanField(
        _("Share answers between keys"),
        description=_("Then whoever may use the model gets answers that others' calls made."),
    )
    content_fallbacks = TextField(
        _("Fallbacks for what a content policy refuses"),
        [Length(0, 1000)],
        description=_("Models of another provider."),
    )

    def names_in(self, field: str) -> list[str]:
        """The names in a field in order, each once."""
        given = (self[field].data or "").split(",")
        return list(dict.fromkeys(name.strip() for name in given if name.strip()))


def fields_of(row: Model) -> dict[str, Any]:
    """A stored model's routing as the form shows it."""
    routing = row.routing or {}
    shown = {name: routing.get(name) for name in PLAIN} | {"strategy": routing.get("strategy", WEIGHT)}
    shown["cache_shared"] = routing.get("cache_shared", False)
    return shown | {"aliases": ", ".join(row.aliases or ()), **{n: ", ".join(routing.get(n, ())) for n in NAMES}}


def set_routing(row: Model, form: RoutingFields) -> None:
    """Put what the form says into the row.

    Raises:
        InvalidRequest: an alias is taken, or a fallback is no other model.
    """
    known = modelnames.known(db.session())
    modelnames.check_aliases(known, row.name, form.names_in("aliases"))
    for field in NAMES:
        modelnames.check_fallbacks(known, row.name, form.names_in(field), field)
    routing = {name: form[name].data for name in PLAIN if form[name].data is not None}
    routing |= {name: found for name in NAMES if (found := form.names_in(name))}
    if form.strategy.data != WEIGHT:
        routing["strategy"] = form.strategy.data
    if form.cache_shared.data:
        routing["cache_shared"] = True
    row.aliases, row.routing = form.names_in("aliases") or None, routing or None
