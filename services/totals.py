"""A key's total cost limit, the one budget that ends its key: read from the refusal that it caused."""

from typing import Final

from services.errors import BudgetExceeded

TOTAL: Final = {"scope": "key", "unit": "usd", "period": "total", "is_prepaid": False}


def is_reached(exc: BudgetExceeded) -> bool:
    """Whether that limit refused the call by what is spent; money held by calls under way may come back."""
    found = exc.details
    return found.items() >= TOTAL.items() and found["spent"] + found["needed"] > found["limit"]


def is_used_up(exc: BudgetExceeded) -> bool:
    """Whether it would refuse a small call too, so that the key is of no further use; see Plan.least."""
    return is_reached(exc) and exc.details["spent"] + exc.details["least"] > exc.details["limit"]
