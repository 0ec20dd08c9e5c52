"""The parameters of a call, in the forms of agents and of stored prompts."""

from typing import Any, Final

from wtforms import FloatField, IntegerField
from wtforms.validators import NumberRange, Optional

from routes.admin.forms import MAX_TOKENS, PanelForm
from routes.admin.quoting import StopsField
from routes.admin.texts import lazy_gettext

_ = lazy_gettext

NUMBERS: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "max_tokens")


class ParametersForm(PanelForm):
    """One that is empty is left to the call, the dialog or the model."""

    temperature = FloatField(_("Temperature, 0 to 1"), [Optional(), NumberRange(0, 1)])
    top_p = FloatField(_("Top p, 0 to 1"), [Optional(), NumberRange(0, 1)])
    presence_penalty = FloatField(_("Presence penalty, -2 to 2"), [Optional(), NumberRange(-2, 2)])
    frequency_penalty = FloatField(_("Frequency penalty, -2 to 2"), [Optional(), NumberRange(-2, 2)])
    max_tokens = IntegerField(_("Most output tokens of a call"), [Optional(), NumberRange(1, MAX_TOKENS)])
    stop_sequences = StopsField()

    def parameters(self) -> dict[str, Any]:
        """Those that are given, as the API takes them."""
        found = {name: self[name].data for name in NUMBERS if self[name].data is not None}
        return found | ({"stop_sequences": self.stop_sequences.data} if self.stop_sequences.data else {})
