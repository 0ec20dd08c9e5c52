"""Translation in templates: as Flask-Babel's, without asking for the request's context several times a word.

A page has hundreds of words, and a list those of each of its rows; they were a fifth of the time a page took.
"""

from typing import Any, Final

from flask import Flask
from flask_babel import get_locale, get_translations
from markupsafe import Markup

_catalogues: Final[dict[tuple[str, str | None] | None, Any]] = {}  # by language and territory


def register(app: Flask) -> None:
    """Let the templates of an app that has Flask-Babel translate by these."""
    app.jinja_env.globals.update({"_": translate, "gettext": translate, "ngettext": translate_count})


def translate(text: str, /, **values: Any) -> Markup:
    """The text in the language of the request, with the values in place of its `%(name)s`, escaped."""
    found = Markup(_catalogue().ugettext(str(text)))  # noqa: S704 - a text of ours; what it is filled with is escaped
    return found % values if values else found


def translate_count(one: str, many: str, /, num: int, **values: Any) -> Markup:
    """The same for a text that has two forms, of which the number decides."""
    found = Markup(_catalogue().ungettext(one, many, num))  # noqa: S704 - as above
    return found % {"num": num, **values}


def _catalogue() -> Any:
    locale = get_locale()
    key = (locale.language, locale.territory) if locale else None
    found = _catalogues.get(key)
    if found is None:
        found = _catalogues[key] = get_translations()
    return found
