"""Money is an integer of nano-USD; a rate is nano-USD per million tokens. No floats, ever."""

from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Final

NANO_PER_USD: Final = 10**9
MAX_NANOUSD: Final = 2**62  # about 4.6 billion USD; sums of two still fit a signed 64-bit column


def nanousd(usd: Decimal | int | str) -> int:
    """An amount in USD as nano-USD, rounded half up.

    Raises:
        ValueError: not a finite number, or beyond what a 64-bit column can hold.
    """
    try:
        amount = (Decimal(usd) * NANO_PER_USD).to_integral_value(ROUND_HALF_UP)
    except InvalidOperation as exc:
        raise ValueError(f"`{usd}` is not an amount of money") from exc
    if not amount.is_finite() or abs(amount) > MAX_NANOUSD:
        raise ValueError(f"`{usd}` is out of range for an amount of money")
    return int(amount)


def usd(amount_nanousd: int) -> Decimal:
    """Nano-USD as exact USD."""
    return Decimal(amount_nanousd) / NANO_PER_USD


def usd_per_1k(rate: int) -> Decimal:
    """A rate (nano-USD per million tokens) as exact USD per thousand tokens; per million it is `usd(rate)`."""
    return usd(rate) / 1000


def show_usd(amount_nanousd: int) -> str:
    """For people: cents for whole dollars, more digits for small amounts, never scientific.

    0 -> "$0.00", 1_234_500_000 -> "$1.2345", 25 -> "$0.000000025".
    """
    sign = "-" if amount_nanousd < 0 else ""
    whole, fraction = divmod(abs(amount_nanousd), NANO_PER_USD)
    digits = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{digits}"
