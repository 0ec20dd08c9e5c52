"""Translation in templates: as Flask-Babel's, without asking for the request's context several times a word.

A page has hundreds of words, and a list those of each of its rows; they were a fifth of the time a page took.
"""

from typing import Any, Final

from babel import Locale
from flask import Flask, has_request_context, request
from flask_babel import get_locale, get_translations
from markupsafe import Markup

KEPT: Final = "tollhouse.babel_locale"  # in the WSGI environment
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


def locale() -> Locale | None:
    """That of the request, kept beside it: Flask-Babel looks for the context six times before it says so."""
    kept: Locale | None = request.environ.get(KEPT) if has_request_context() else None
    if kept is None:
        kept = get_locale()
        if has_request_context():
            request.environ[KEPT] = kept
    return kept


def _catalogue() -> Any:
    found_locale = locale()
    key = (found_locale.language, found_locale.territory) if found_locale else None
    found = _catalogues.get(key)
    if found is None:
        found = _catalogues[key] = get_translations()
    return found
