"""Amounts as plain text, for choices of forms and for messages."""

from typing import Any

from flask_babel import format_decimal

from routes.admin.texts import ngettext
from utils import money


def amount_text(row: Any) -> str:
    """The limit of a budget or limit in words."""
    return text_of(row.unit, row.limit_amount)


def text_of(unit: str, amount: int) -> str:
    """An amount in nano-USD, tokens, requests or calls."""
    if unit == "usd":
        return money.show_usd(amount)
    number = str(format_decimal(amount))
    return ngettext("%(count)s token", "%(count)s tokens", amount, count=number) if unit == "tokens" else number


def typed(row: Any) -> str:
    """What a request wants, as people type it."""
    return f"{money.usd(row.wanted_amount).normalize():f}" if row.unit == "usd" else str(row.wanted_amount)
