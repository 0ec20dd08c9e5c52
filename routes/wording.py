"""What services say, in the language of the request.

Services know no language and write their numbers and names into their texts. A text is looked up as it is, then by
its shape: the catalogue's texts with places such as `%(name)s` are compared with it, and what stands in the places is
put into the translation. What the catalogue does not know stays as it is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from flask_babel import format_decimal, get_locale, get_translations, gettext

from services.errors import FieldsInvalid, GatewayError

PLACE: Final = re.compile(r"%\((\w+)\)s")
BESIDE: Final = re.compile(r"(%\(\w+\)s)(?:%\(\w+\)s)+")
COUNT: Final = re.compile(r"\d{1,3}(?:,\d{3})+")  # as services write large numbers
MAX_CHARS: Final = 2000  # a longer text is somebody else's, such as a provider's
PARTS: Final = frozenset(  # places for texts of their own; a name that somebody gave is never translated
    {
        "again",
        "by_number",
        "call",
        "exc",
        "finest",
        "found",
        "how",
        "kind",
        "last",
        "needed",
        "never",
        "period",
        "problem",
    }
    | {"problem", "reason", "scope", "scope3", "sources", "span", "value", "what", "whose", "why"}
)
NEEDED: Final = frozenset({"problem"})  # half a sentence: without its translation the other half is not used either


@dataclass(frozen=True, slots=True)
class Shape:
    """A text with places: what stands between them, and what they are called."""

    text: str
    between: tuple[str, ...]  # one more than places
    places: tuple[str, ...]
    nothing: dict[str, str]  # what stands in the places that nobody fills

    def read(self, said: str) -> dict[str, str] | None:
        """What stands in the places of a text that was said; None: it has another shape."""
        first, last = self.between[0], self.between[-1]
        if len(said) < len(first) + len(last) or not said.startswith(first) or not said.endswith(last):
            return None
        found: dict[str, str] = {}
        at, end = len(first), len(said) - len(last)
        for place, after in zip(self.places[:-1], self.between[1:-1], strict=True):
            stop = said.find(after, at, end)
            if stop < 0:
                return None
            found[place] = said[at:stop]
            at = stop + len(after)
        return found | {self.places[-1]: said[at:end]}


def say(text: str) -> str:
    """The text in the language of the request."""
    exact = str(gettext(text)) if text else ""  # for no text at all, the catalogue answers with its own head
    if exact != text or len(text) > MAX_CHARS:
        return exact
    for shape in _shapes(str(get_locale())):
        values = shape.read(text)
        if values is None:
            continue
        told = {place: _value(place, value) for place, value in values.items()}
        if all(told[place] is not None for place in values):
            return str(gettext(shape.text)) % (shape.nothing | told)
    return text


def details(exc: GatewayError) -> dict[str, Any]:
    """The details of an error; where they are reasons, in the language of the request."""
    if not isinstance(exc, FieldsInvalid):
        return dict(exc.details)
    return {member: say(reason) for member, reason in exc.details.items()}


def _value(place: str, value: str) -> str | None:
    """What to put into a place; None: the text needs a translation of it, and there is none."""
    if place in PARTS:
        said = say(value)
        if said == value and place in NEEDED:
            return None
        value = said
    return COUNT.sub(lambda match: str(format_decimal(int(match[0].replace(",", "")))), value)


@cache
def _shapes(locale: str) -> tuple[Shape, ...]:
    """The catalogue's texts with places, those that say the most first."""
    found = sorted(map(_shape, _texts()), key=lambda shape: -sum(map(len, shape.between)))
    return tuple(shape for shape in found if shape.places)


def _texts() -> Iterator[str]:
    catalogue: dict[Any, Any] = getattr(get_translations(), "_catalog", {})  # it has no public list; English has none
    return (text for text in catalogue if isinstance(text, str) and "%(" in text)


def _shape(text: str) -> Shape:
    """Of places side by side the first one takes all that stands there, and the others nothing."""
    pieces = PLACE.split(BESIDE.sub(r"\1", text))
    between = tuple(piece.replace("%%", "%") for piece in pieces[::2])
    return Shape(text, between, tuple(pieces[1::2]), dict.fromkeys(PLACE.findall(text), ""))
