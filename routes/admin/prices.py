"""The part of the models' pages that is about prices: its fields, what is in force, and the history."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, or_, select
from wtforms import RadioField
from wtforms.validators import Length, ValidationError

from models import Deployment, Model, Price, Provider
from routes.admin.forms import PanelForm, TextField, UsdField, options
from routes.admin.texts import N_, gettext, lazy_gettext
from services import prices, pricewords
from services.errors import InvalidRequest
from services.pricing import FREE
from services.types import Price as PriceRecord
from services.types import Rates, Tier
from utils import native
from utils.extensions import db

_ = lazy_gettext

SOURCE: Final = "admin"
KINDS: Final = {
    "rates": _("USD per million tokens"),
    "free": _("Free: tokens are counted and cost nothing"),
    "catalogue": _("Look it up in the price catalogue now"),
    "none": _("Unknown: calls are refused, or booked at 0 and marked, as UNPRICED_POLICY says"),
}
LINES: Final = {  # what a price or a charge is made of, as people read it
    "input": _("Input"),
    "cached_input": _("Cached input"),
    "cache_write": _("Cache write"),
    "cache_write_1h": _("Cache write for an hour"),
    "input_audio": _("Audio input"),
    "output": _("Output"),
    "output_audio": _("Audio output"),
    "reasoning": _("Reasoning"),
    "request": _("Each request"),
    "image": _("Each made image"),
}
BESIDES: Final = ("request_nanousd", "image_nanousd")


class PriceFields(PanelForm):
    """What a model costs. Empty rates are as those of the kind they are part of."""

    price_kind = RadioField(_("Price"), choices=options(KINDS), default="rates")
    input_rate = UsdField(LINES["input"])
    output_rate = UsdField(LINES["output"])
    cache_read_rate = UsdField(LINES["cached_input"])
    cache_creation_rate = UsdField(LINES["cache_write"])
    cache_creation_1h_rate = UsdField(LINES["cache_write_1h"])
    input_audio_rate = UsdField(LINES["input_audio"])
    output_audio_rate = UsdField(LINES["output_audio"])
    reasoning_rate = UsdField(LINES["reasoning"])
    request_nanousd = UsdField(LINES["request"])
    image_nanousd = UsdField(LINES["image"])
    tiers = TextField(
        _("Tiers"),
        [Length(0, 1000)],
        description=_("For calls with more input tokens, such as: 200000: input=2.5 output=15"),
    )

    def validate_input_rate(self, field: Any) -> None:
        """Rates are both there, or not asked for; a price of zero has a name of its own."""
        if self.price_kind.data != "rates" or field.errors:
            return
        if field.data is None or self.output_rate.data is None:
            raise ValidationError(gettext("Enter what input and output cost, or choose another kind of price."))
        if any((self[name].data or 0) > pricewords.MOST for name in (*prices.RATE_NAMES, *BESIDES)):
            raise ValidationError(gettext("No price may be higher than 1,000,000 USD."))
        try:
            self.price()
        except InvalidRequest as exc:
            if exc.param != "tiers":
                raise ValidationError(gettext("A price of zero must be said: choose Free.")) from exc

    def validate_tiers(self, field: Any) -> None:
        """They can be read, if they are asked for."""
        if self.price_kind.data == "rates" and self.input_rate.data is not None and self.output_rate.data is not None:
            try:
                self.price()
            except InvalidRequest as exc:
                if exc.param != "input":
                    raise ValidationError(
                        gettext("Write tiers as 200000: input=2.5 output=15, separated by semicolons.")
                    ) from exc

    def price(self) -> PriceRecord:
        """The price of the fields.

        Raises:
            InvalidRequest: it cannot be.
        """
        rates: dict[str, Any] = {name: self[name].data for name in prices.RATE_NAMES}
        besides: dict[str, Any] = {name: self[name].data or 0 for name in BESIDES}
        price = PriceRecord(**rates, **besides, source=SOURCE)
        return pricewords.check(pricewords.add_tiers(price, pricewords.read_tiers(self.tiers.data or "")))


def fields_of(price: Price | None) -> dict[str, Any]:
    """What the fields show of a price."""
    if price is None or price.is_free:
        return {"price_kind": "none" if price is None else "free"}
    rates = {name: getattr(price, name) for name in prices.RATE_NAMES}
    besides = {name: getattr(price, name) or None for name in BESIDES}
    return {"price_kind": "rates", **rates, **besides, "tiers": pricewords.show_tiers(prices.record_of(price))}


def price_of(row: Model, deployment: Deployment | None = None) -> Price | None:
    """What a deployment (default: the first one) costs now."""
    first = deployment or min(row.deployments, key=lambda d: (d.priority, d.id or 0), default=None)
    return prices.in_force(row.prices, first.id if first else None, prices.now())


def set_price(row: Model, form: Any) -> None:
    """Give the model the price of its form; where that is what it costs now, nothing changes.

    Raises:
        InvalidRequest: the catalogue has none.
    """
    price = _wanted(form)
    if describe(price) != describe(price_of(row)):
        prices.supersede(row, {} if price is None else {None: price}, prices.now())


def describe(price: Price | PriceRecord | None) -> dict[str, Any] | None:
    """A price without where it came from, for comparing and for the audit log."""
    if price is None:
        return None
    record = prices.record_of(price) if isinstance(price, Price) else price
    found = {name: getattr(record, name) for name in ("is_free", *prices.RATE_NAMES, *BESIDES)}
    return {name: value for name, value in found.items() if value is not None} | {
        "tiers": pricewords.show_tiers(record)
    }


def lines_of(price: Price | PriceRecord | Rates) -> list[tuple[str, Any, int]]:
    """A price line by line: what, in words and as people read it, and nano-USD per million tokens or for each."""
    sets = {**pricewords.KINDS, "request": BESIDES[0], "image": BESIDES[1]}
    return [
        (what, LINES[what], getattr(price, name))
        for what, name in sets.items()
        if getattr(price, name, None) is not None and (getattr(price, name) or name not in BESIDES)
    ]


def tiers_of(row: Model) -> tuple[Tier, ...]:
    """The tiers of what a model costs now."""
    price = price_of(row)
    return () if price is None else prices.record_of(price).tiers


def history_of(row: Model) -> list[Mapping[str, Any]]:
    """All prices of a model, newest first, with whose they are and whether they are in force."""
    now, places = prices.now(), {deployment.id: deployment for deployment in row.deployments}
    current = {id(prices.in_force(row.prices, number, now)) for number in (*places, None)}
    return [
        {
            "price": price,
            "record": prices.record_of(price),
            "deployment": places.get(price.deployment_id or 0),
            "is_current": id(price) in current,
            "is_to_come": price.valid_from_at > now,
        }
        for price in sorted(row.prices, key=lambda price: (price.valid_from_at, price.id), reverse=True)
    ]


def is_unpriced() -> ColumnElement[bool]:
    """A condition: no price of the model is in force."""
    now = prices.now()
    valid = select(Price.model_id).where(
        Price.valid_from_at <= now, or_(Price.valid_until_at.is_(None), Price.valid_until_at > now)
    )
    return ~Model.id.in_(valid)


def _wanted(form: Any) -> PriceRecord | None:
    if form.price_kind.data == "free":
        return PriceRecord(FREE.input_rate, FREE.output_rate, is_free=True, source=SOURCE)
    if form.price_kind.data == "catalogue":
        return _catalogue_price(form)
    price: PriceRecord | None = None if form.price_kind.data == "none" else form.price()
    return price


def _catalogue_price(form: Any) -> PriceRecord:
    """The catalogue's price of the first deployment.

    Raises:
        InvalidRequest: the catalogue has none.
    """
    first = next(entry for entry in form.deployments if entry.upstream_model.data)
    provider = db.session.get_one(Provider, first.provider_id.data)
    found = native.run(prices.find_entry, provider.kind, provider.base_url, first.upstream_model.data)
    if found is None or found.price is None:
        raise InvalidRequest(N_("The catalogue does not know this model at this address."), param="price_kind")
    return found.price
