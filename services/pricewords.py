"""How people write prices down: in the configuration file, in CSV, on the command line, in the panel.

USD per million tokens (or per thousand) under the names of FIELDS, with tiers as `200000: input=2.5 output=15`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation, Overflow
from typing import Any, Final

from services.errors import InvalidRequest
from services.pricing import FREE
from services.types import Price, Rates, Tier
from utils import money

KINDS: Final = {  # what people call a kind of tokens: the rate in a price
    "input": "input_rate",
    "output": "output_rate",
    "cached_input": "cache_read_rate",
    "cache_write": "cache_creation_rate",
    "cache_write_1h": "cache_creation_1h_rate",
    "input_audio": "input_audio_rate",
    "output_audio": "output_audio_rate",
    "reasoning": "reasoning_rate",
}
MILLION, THOUSAND = "_per_million", "_per_1k"
FIELDS: Final = {  # name: what it sets in a price, and nano-USD for each USD of it
    **{f"{kind}{MILLION}": (rate, money.NANO_PER_USD) for kind, rate in KINDS.items()},
    **{f"{kind}{THOUSAND}": (rate, money.NANO_PER_USD * 1000) for kind, rate in KINDS.items()},
    "per_request": ("request_nanousd", money.NANO_PER_USD),
    "per_image": ("image_nanousd", money.NANO_PER_USD),
}
MOST: Final = 1_000_000 * money.NANO_PER_USD  # nano-USD: a dollar for each token
MOST_INPUT: Final = 2**31  # tokens, for tiers
ABOVE: Final = "above"
TIER: Final = re.compile(r"\s*(\d+)\s*:((?:[\s,]*\w+=[^\s,=;]+)+)\s*", re.ASCII)
AMOUNT: Final = re.compile(r"(\w+)=([^\s,]+)", re.ASCII)


def read(
    given: Mapping[str, Any], *, source: str, tiers: Sequence[Mapping[str, Any]] = (), is_free: bool = False
) -> Price:
    """The price that these fields say; one that is None or empty says nothing. Each tier has `above` and its fields.

    Raises:
        InvalidRequest: an amount that cannot be, nothing said of input or output, or a price of zero.
    """
    amounts = _amounts(given)
    if is_free:
        if amounts or tiers:
            raise InvalidRequest("A free model has no rates.", param="free")
        return replace(FREE, source=source)
    if not {"input_rate", "output_rate"} <= amounts.keys():
        raise InvalidRequest("Say what input and what output cost, or that the model is free.", param="input")
    return check(add_tiers(Price(**amounts, source=source), tiers))


def add_tiers(price: Price, tiers: Iterable[Mapping[str, Any]]) -> Price:
    """The price with these tiers; what a tier does not say is as below it all.

    Raises:
        InvalidRequest: an amount that cannot be, a tier that says nothing, or two that begin at the same place.
    """
    rates = {name: getattr(price, name) for name in KINDS.values()}
    made = []
    for tier in tiers:
        above, amounts = tier[ABOVE], _amounts({name: value for name, value in tier.items() if name != ABOVE})
        if not 0 < above <= MOST_INPUT:
            raise InvalidRequest(f"A tier cannot begin above {above} tokens.", param="tiers")
        if not amounts or amounts.keys() - rates.keys():
            raise InvalidRequest("A tier says what tokens cost, and nothing else.", param="tiers")
        made.append(Tier(**rates | amounts, above=above))
    if len({tier.above for tier in made}) < len(made):
        raise InvalidRequest("Two tiers begin at the same place.", param="tiers")
    return replace(price, tiers=tuple(sorted(made, key=lambda tier: tier.above)))


def check(price: Price) -> Price:
    """The price, if it may be stored: free only where that was said, and costing nothing where it is free.

    Raises:
        InvalidRequest: it may not.
    """
    every: list[Rates] = [price, *price.tiers]
    is_zero = not any(getattr(rates, name) for rates in every for name in KINDS.values())
    is_zero = is_zero and not price.request_nanousd and not price.image_nanousd
    if is_zero and not price.is_free:
        raise InvalidRequest("A price of zero must be said in words: mark the model as free.", param="input")
    return price


def read_tiers(text: str) -> list[dict[str, Any]]:
    """Tiers written as `200000: input=2.5 output=15; …`, USD per million tokens, for `add_tiers`.

    Raises:
        InvalidRequest: they are written in another way.
    """
    found = []
    for part in filter(str.strip, re.split(r"[;\n]", text)):
        match = TIER.fullmatch(part)
        amounts = AMOUNT.findall(match[2]) if match else []
        kinds = {kind for kind, _amount in amounts}
        if match is None or len(match[1]) > len(str(MOST_INPUT)) or len(kinds & KINDS.keys()) < len(amounts):
            raise InvalidRequest(
                f"`{part.strip()[:100]}` is no tier. Write one as `200000: input=2.5 output=15`, with the kinds "
                f"{', '.join(KINDS)}.",
                param="tiers",
            )
        found.append({ABOVE: int(match[1])} | {f"{kind}{MILLION}": amount for kind, amount in amounts})
    return found


def show_tiers(price: Price) -> str:
    """Tiers as `read_tiers` reads them: what differs from the rates below them all."""
    return "; ".join(
        f"{tier.above}: "
        + " ".join(
            f"{kind}={money.usd(getattr(tier, name)).normalize():f}"
            for kind, name in KINDS.items()
            if getattr(tier, name) != getattr(price, name)
        )
        for tier in price.tiers
    )


def show(price: Price | None) -> str:
    """A price in a line of text, USD per million tokens and what it costs besides."""
    if price is None:
        return "unknown"
    if price.is_free:
        return "free"
    said = [
        f"{kind} {money.show_usd(getattr(price, name))}"
        for kind, name in KINDS.items()
        if getattr(price, name) is not None
    ]
    said += [
        f"each {what} {money.show_usd(amount)}"
        for what, amount in (("request", price.request_nanousd), ("image", price.image_nanousd))
        if amount
    ]
    return ", ".join(said) + (f" (above {show_tiers(price)})" if price.tiers else "")


def _amounts(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or value == "":
            continue
        sets, scale = FIELDS[name]
        if sets in found:
            raise InvalidRequest(f"`{name}` says again what was said before.", param=name)
        found[sets] = _amount(name, value, scale)
    return found


def _amount(name: str, value: Any, scale: int) -> int:
    shown = f"`{name}`: `{str(value)[:40]}`"
    try:
        usd = Decimal(str(value).strip().removeprefix("$"))
        exact = usd * scale
    except InvalidOperation as exc:
        raise InvalidRequest(f"{shown} is not an amount in USD.", param=name) from exc
    except Overflow as exc:
        raise InvalidRequest(f"{shown} is out of range.", param=name) from exc
    if not exact.is_finite() or exact > MOST:
        raise InvalidRequest(f"{shown} is out of range.", param=name)
    if usd < 0:
        raise InvalidRequest(f"`{name}` cannot be negative.", param=name)
    if exact != int(exact) or (usd and not exact):
        raise InvalidRequest(f"{shown} is finer than a nano-USD per million tokens.", param=name)
    return int(exact)
