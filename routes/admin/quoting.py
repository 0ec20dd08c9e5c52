"""Texts in a field that holds many: one that begins with a quote is a JSON string, so every text can be written."""

import json
import re
from typing import Any, Final

from wtforms import Field
from wtforms.widgets import TextInput

from routes.admin.access import LinesField
from routes.admin.texts import gettext, lazy_gettext
from services.dialects import dialogs_fields as fields
from services.errors import InvalidRequest

_ = lazy_gettext

QUOTE: Final = '"'
WORD: Final = re.compile(r'\s*("(?:[^"\\]|\\.)*"(?=\s*(?:,|$))|[^,]*)(?:,|$)')


def shown(text: str) -> str:
    """The text as `read` takes it: in quotes where it would not be the same without."""
    is_plain = text.isprintable() and text == text.strip() and not text.startswith(QUOTE)
    return text if is_plain else quoted(text)


def quoted(text: str) -> str:
    """The text in quotes, with only characters that can be seen."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def read(typed: str) -> str:
    """What somebody wrote.

    Raises:
        InvalidRequest: it begins with a quote and is no JSON string.
    """
    if not typed.startswith(QUOTE):
        return typed
    try:
        return str(json.loads(typed))
    except ValueError as exc:
        raise InvalidRequest("This is no text in quotes.") from exc


class StopsField(LinesField):
    """The texts at which an answer ends."""

    def __init__(self, **more: Any) -> None:
        about = _("Texts at which the answer ends, one a line; in quotes where spaces around it belong to it.")
        problem = _("This is no text in quotes.")
        super().__init__(_("Stop at"), read, shown, problem=problem, most=fields.MAX_STOPS, description=about, **more)


class WordsField(Field):  # type: ignore[misc, unused-ignore]  # the package ships no types
    """Texts between commas; None when left empty. One with a comma stands in quotes."""

    widget = TextInput()
    data: list[str] | None

    def __init__(self, label: Any, *, most: int, longest: int, **more: Any) -> None:
        super().__init__(label, **more)
        self._most, self._longest = most, longest

    def _value(self) -> str:
        if self.raw_data:
            return str(self.raw_data[0])
        return ", ".join(quoted(word) if "," in word else shown(word) for word in self.data or ())

    def process_formdata(self, valuelist: list[str]) -> None:
        """See WTForms."""
        if not valuelist:
            return
        self.data = None
        if not valuelist[0].isprintable():
            raise ValueError(gettext("Only characters that can be seen, please."))
        typed = filter(None, (found[1].strip() for found in WORD.finditer(valuelist[0])))
        try:
            words = [read(word) for word in typed]
        except InvalidRequest as exc:
            raise ValueError(gettext("This is no text in quotes.")) from exc
        if len(words) > self._most or any(len(word) > self._longest for word in words):
            raise ValueError(
                gettext("At most %(count)s choices of %(chars)s characters.", count=self._most, chars=self._longest)
            )
        self.data = words or None
