"""Reading files of prices: others' catalogues as JSON, and CSV that names our models. Every mistake has its line."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from pydantic import ValidationError

from models import Provider
from services import prices, pricewords
from services.errors import InvalidRequest
from services.pricebook import Find, Line, PriceFileError
from services.pricing import PER_MILLION
from services.types import Price, Tier
from utils import money

MODEL, PROVIDER, VALID_FROM, TIERS, FREE = "model", "provider", "valid_from", "tiers", "free"
COLUMNS: Final = (MODEL, PROVIDER, VALID_FROM, *pricewords.FIELDS, TIERS, FREE)
YES_OR_NO: Final = {"": False, "false": False, "no": False, "0": False, "true": True, "yes": True, "1": True}
COSTS: Final = {  # USD per token by LiteLLM's names: ours
    "input_cost_per_token": "input_rate",
    "output_cost_per_token": "output_rate",
    "cache_read_input_token_cost": "cache_read_rate",
    "cache_creation_input_token_cost": "cache_creation_rate",
    "cache_creation_input_token_cost_above_1hr": "cache_creation_1h_rate",
    "input_cost_per_audio_token": "input_audio_rate",
    "output_cost_per_audio_token": "output_audio_rate",
    "output_cost_per_reasoning_token": "reasoning_rate",
}
ABOVE: Final = re.compile(r"(\w+)_above_(\d{1,7})(k?)_tokens", re.ASCII)
REQUEST: Final = "input_cost_per_request"
UNTOLD: Final = {
    "input_cost_per_image_token": "input_cost_per_token",
    "output_cost_per_image_token": "output_cost_per_token",
}
MODES: Final = (None, "chat", "completion", "responses", "embedding")  # what is charged by tokens alone
VENDORS: Final = {  # the catalogue's name of a provider: LiteLLM's, where they differ
    "openai": ("openai", "text-completion-openai"),
    "google": ("gemini",),
    "x-ai": ("xai",),
    "together": ("together_ai",),
    "fireworks": ("fireworks_ai", "fireworks_ai-embedding-models"),
    "moonshotai": ("moonshot",),
    "cohere": ("cohere", "cohere_chat"),
    "aws": ("bedrock", "bedrock_converse"),
}


def read_csv(text: str, source: str) -> list[Line]:
    """The prices of a CSV file with the columns of COLUMNS, of which only `model` must be there.

    Raises:
        PriceFileError: with every mistake found.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    problems: list[str] = []
    found: dict[tuple[str, str, datetime | None], Line] = {}
    try:
        names = [name.strip() for name in next(reader, [])]
        problems += _bad_columns(names)
        for row in [] if problems else reader:
            if not any(map(str.strip, row)):
                continue
            try:
                line = _line(reader.line_num, names, [cell.strip() for cell in row], source)
            except InvalidRequest as exc:
                problems.append(f"line {reader.line_num}: {exc}")
                continue
            if (first := found.setdefault((line.model, line.provider, line.valid_from), line)) is not line:
                problems.append(f"line {line.number}: `{line.model}` stands in line {first.number} already")
    except csv.Error as exc:
        problems.append(f"line {reader.line_num}: {exc}")
    if problems:
        raise PriceFileError(problems)
    return list(found.values())


def read_litellm(text: str, source: str) -> Find:
    """LiteLLM's map of models: an object whose members have `litellm_provider` and costs in USD per token.

    Entries that are not charged by tokens, or cost nothing, are left out.

    Raises:
        PriceFileError: with every mistake found.
    """
    content = _json(text)
    if not isinstance(content, dict):
        raise PriceFileError(["line 1: this is not LiteLLM's format, which is an object with a member for each model"])
    found: dict[tuple[str, str], Price] = {}
    problems = []
    for name, entry in content.items():
        if name == "sample_spec":
            continue
        try:
            price = _litellm_price(entry, source)
        except InvalidRequest as exc:
            problems.append(f"line {_line_of(text, name)}: `{name}`: {exc}")
            continue
        if price is not None:
            vendor = str(entry.get("litellm_provider"))
            found[vendor, name.removeprefix(f"{vendor}/")] = price
    if problems:
        raise PriceFileError(problems)
    return lambda provider, model: next(
        (found[vendor, model] for vendor in _vendors(provider) if (vendor, model) in found), None
    )


def read_genai(text: str, source: str) -> Find:
    """The data of `genai-prices` as its project publishes them: a list of providers with their models.

    Raises:
        PriceFileError: with every mistake found.
    """
    from genai_prices.data_snapshot import DataSnapshot  # noqa: PLC0415 - large, see services/prices.py

    content = _json(text)
    if not isinstance(content, list):
        raise PriceFileError(["line 1: this is not the format of genai-prices, which is a list of providers"])
    snapshot = DataSnapshot(providers=_genai_providers(text, content), from_auto_update=False)

    def find(provider: Provider, model: str) -> Price | None:
        entry = prices.entry_in(snapshot, provider.base_url, model, source=source)
        return None if entry is None else entry.price

    return find


def _bad_columns(names: list[str]) -> list[str]:
    unknown = [name for name in names if name not in COLUMNS]
    if MODEL not in names:
        return [f"line 1: there is no column `{MODEL}`; the first line names the columns"]
    if len(set(names)) < len(names):
        return ["line 1: a column is there twice"]
    return [f"line 1: `{name}` is no column; known are {', '.join(COLUMNS)}" for name in unknown]


def _line(number: int, names: list[str], cells: list[str], source: str) -> Line:
    if len(cells) != len(names):
        raise InvalidRequest(f"there are {len(cells)} cells, and {len(names)} columns")
    row = dict(zip(names, cells, strict=True))
    if not row[MODEL]:
        raise InvalidRequest("there is no model")
    if row.get(FREE, "").lower() not in YES_OR_NO:
        raise InvalidRequest(f"`{FREE}` is `yes` or `no`")
    price = pricewords.read(
        {name: row[name] for name in pricewords.FIELDS if name in row},
        source=source,
        tiers=pricewords.read_tiers(row.get(TIERS, "")),
        is_free=YES_OR_NO[row.get(FREE, "").lower()],
    )
    return Line(number, row[MODEL], price, row.get(PROVIDER, ""), moment(row.get(VALID_FROM, "")))


def moment(text: str) -> datetime | None:
    """A moment as ISO 8601 writes it, in UTC unless it says otherwise; None for an empty text.

    Raises:
        InvalidRequest: it is none.
    """
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise InvalidRequest(f"`{text[:40]}` is not a moment such as 2026-01-31T00:00Z.", param=VALID_FROM) from exc


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except json.JSONDecodeError as exc:
        raise PriceFileError([f"line {exc.lineno}: this is not JSON: {exc.msg}"]) from exc
    except (RecursionError, ValueError) as exc:
        raise PriceFileError(
            ["this is not JSON that can be read: it is nested too deep, or has too long a number"]
        ) from exc


def _litellm_price(entry: Any, source: str) -> Price | None:
    """The price of an entry; None where it is not charged by tokens, or costs nothing.

    Raises:
        InvalidRequest: it is no entry, or an amount cannot be.
    """
    if not isinstance(entry, dict):
        raise InvalidRequest("this is no entry of a model")
    costs = {name: _cost(name, value) for name, value in entry.items() if "cost" in name and _is_read(name)}
    base: dict[str, Any] = {ours: costs[theirs] for theirs, ours in COSTS.items() if costs.get(theirs) is not None}
    has_untold = any((costs.get(kind) or 0) > (costs.get(of) or 0) for kind, of in UNTOLD.items())
    is_embedding = entry.get("mode") == "embedding"
    if is_embedding:
        base.setdefault("output_rate", 0)
    if entry.get("mode") not in MODES or has_untold or not {"input_rate", "output_rate"} <= base.keys():
        return None
    request = costs.get(REQUEST) or 0
    price = Price(**base, request_nanousd=request, tiers=tuple(_litellm_tiers(base, costs)), source=source)
    return price if any(base.values()) or request else None


def _litellm_tiers(base: Mapping[str, Any], costs: Mapping[str, int | None]) -> Iterator[Tier]:
    tiers: dict[int, dict[str, int]] = {}
    for name, cost in costs.items():
        match = ABOVE.fullmatch(name)
        if match is not None and cost is not None:
            above = int(match[2]) * (1000 if match[3] else 1)
            tiers.setdefault(above, {})[COSTS[match[1]]] = cost
    below = dict(base)
    for above in sorted(tiers):
        below |= tiers[above]
        yield Tier(**below, above=above)


def _is_read(name: str) -> bool:
    match = ABOVE.fullmatch(name)
    return name in COSTS or name in UNTOLD or name == REQUEST or bool(match and match[1] in COSTS)


def _cost(name: str, value: Any) -> int | None:
    """USD per token as a rate, or USD per request as nano-USD; None where nothing is said."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value <= 1:
        raise InvalidRequest(f"`{name}` is not a cost between 0 and 1 USD")
    return money.nanousd(value if name == REQUEST else value * PER_MILLION)


def _vendors(provider: Provider) -> Sequence[str]:
    """What LiteLLM may call this provider: as we do, or as the catalogue knows its address."""
    known = prices.catalogue_provider(provider.base_url)
    return (provider.name, *(() if known is None else VENDORS.get(known, (known,))))


def _line_of(text: str, name: str) -> int:
    """The line of a member of a JSON object."""
    match = re.search(re.escape(json.dumps(name, ensure_ascii=False)) + r"\s*:", text)
    return 1 if match is None else text.count("\n", 0, match.start()) + 1


def _genai_providers(text: str, content: list[Any]) -> list[Any]:
    """The providers of the data, in the package's own classes.

    Raises:
        PriceFileError: naming the models that are wrong.
    """
    from genai_prices.types import _providers_from_raw  # noqa: PLC0415 - the only way in; the package is pinned

    problems = []
    for provider in content:
        models = provider.get("models") if isinstance(provider, dict) else None
        if not isinstance(models, list):
            raise PriceFileError([f"line {_line_of_id(text, provider)}: this is no provider with a list of models"])
        for model in models:
            try:
                (read,) = _providers_from_raw([{**provider, "models": [model]}])
                problems += [] if _can_be(read.models[0]) else [(model, "a price cannot be negative, or so high")]
            except ValidationError as exc:
                problems += [(model, mistake["msg"]) for mistake in exc.errors()]
    if problems:
        raise PriceFileError([f"line {_line_of_id(text, model)}: {said}" for model, said in problems])
    return _providers_from_raw(content)


def _can_be(model: Any) -> bool:
    """Whether every price of a model is between nothing and the most there can be."""
    dated = model.prices if isinstance(model.prices, list) else [model]
    values = [value for entry in dated for value in vars(entry.prices).values() if value is not None]
    amounts = [getattr(value, "base", value) for value in values]
    amounts += [tier.price for value in values for tier in getattr(value, "tiers", ())]
    return all(0 <= amount <= prices.MOST_USD for amount in amounts)


def _line_of_id(text: str, entry: Any) -> int:
    """The line of an entry that has an `id`."""
    named = json.dumps(entry.get("id") if isinstance(entry, dict) else None, ensure_ascii=False)
    match = re.search(r'"id"\s*:\s*' + re.escape(named), text)
    return 1 if match is None else text.count("\n", 0, match.start()) + 1
