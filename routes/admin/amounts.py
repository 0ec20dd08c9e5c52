"""Amounts as people type them, in their language, as the plain text that is counted with."""

import re
from decimal import Decimal
from typing import Final

from flask_babel import get_locale

from routes.admin.texts import gettext
from utils import money

SPACES: Final = re.compile(r"\s+")
GROUPED: Final = {",": re.compile(r"\d{1,3}(,\d{3})+"), ".": re.compile(r"\d{1,3}(\.\d{3})+")}
OTHER: Final = {",": ".", ".": ","}


def plain(unit: str, text: str) -> str:
    """The amount with a point for the decimals, if any, and nothing between its thousands.

    What can be read in two ways, such as `2,50` in English, is left as it is, for `problem` to refuse.
    """
    bare = SPACES.sub("", text).removeprefix("US").removeprefix("$")
    return _usd(bare) if unit == "usd" else _whole(bare)


def problem(unit: str, text: str) -> str | None:
    """What is wrong with an amount as somebody typed it; None = nothing."""
    found = plain(unit, text)
    return usd_problem(found) if unit == "usd" else tokens_problem(found)


def usd_problem(text: str) -> str | None:
    """What is wrong with an amount in USD as people write it; None = nothing."""
    try:
        amount = Decimal(text)
    except ArithmeticError:
        return gettext("This is not an amount in USD, such as 2.50.")
    if amount.is_nan():
        return gettext("This is not an amount in USD, such as 2.50.")
    if amount < 0:
        return gettext("This cannot be negative.")
    if not amount.is_finite() or amount > money.usd(money.MAX_NANOUSD):
        return gettext("This is more than can be counted.")
    if amount != money.usd(money.nanousd(amount)):
        return gettext("Nine decimals are the finest that counts.")
    return None


def tokens_problem(text: str) -> str | None:
    """The same of a number of tokens."""
    if text.startswith("-") and text[1:].isascii() and text[1:].isdigit():
        return gettext("This cannot be negative.")
    if not (text.isascii() and text.isdigit()):
        return gettext("This is not a number of tokens.")
    return gettext("This is more than can be counted.") if int(text) > money.MAX_NANOUSD else None


def _whole(text: str) -> str:
    """There are no decimals, so both signs can only stand between thousands."""
    return re.sub(r"[.,]", "", text) if any(form.fullmatch(text) for form in GROUPED.values()) else text


def _usd(text: str) -> str:
    if "," in text and "." in text:  # the last one is that of the decimals
        sign = max(OTHER, key=text.rindex)
        whole, _sign, decimals = text.rpartition(sign)
        return f"{whole.replace(OTHER[sign], '')}.{decimals}" if GROUPED[OTHER[sign]].fullmatch(whole) else text
    if "," not in text:
        return text
    locale = get_locale()
    if locale is not None and locale.number_symbols["latn"]["decimal"] == ",":
        return text.replace(",", ".") if text.count(",") == 1 else text
    return text.replace(",", "") if GROUPED[","].fullmatch(text) else text
