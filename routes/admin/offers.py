"""Models of a provider that nobody offers yet: ticked, named and priced in one go.

What the catalogue says of each is suggested with its source. What somebody types instead is their own price.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from flask import abort, flash, request
from sqlalchemy import and_, select

from models import Deployment, Model, Provider
from routes import wording
from routes.admin.amounts import usd_problem
from routes.admin.guard import actor, expose, go
from routes.admin.tables import MAX_ID, Table
from routes.admin.texts import gettext
from services import audit, prices, pricewords
from services.types import Price
from utils import money, native
from utils.extensions import db, gateway

SHOWN: Final = 200  # models at once; a part of the name narrows them
LONGEST_NAME: Final = 200
SOURCE: Final = "admin"
VACANT: Final = and_(Model.managed_by == "discovery", ~Model.id.in_(select(Deployment.model_id)))


@dataclass(slots=True)
class Offer:
    """A model of the provider, as its row of the form shows it."""

    upstream: str
    name: str
    is_ticked: bool
    input_usd: str  # per million tokens, as typed
    output_usd: str
    suggested: Price | None
    context_window: int | None
    problems: list[str] = field(default_factory=list)

    def price(self) -> Price | None:
        """What it will cost: the suggestion with all it has, or what was typed over it; None = unknown."""
        if (self.input_usd, self.output_usd) == amounts(self.suggested):
            return self.suggested
        if not self.input_usd and not self.output_usd:
            return None
        rates = (money.nanousd(self.input_usd), money.nanousd(self.output_usd))
        return pricewords.check(Price(*rates, source=SOURCE))


class OfferPages(Table):
    """The page of models that can be offered."""

    @expose("/offers/")
    def offers_view(self) -> Any:
        """What a provider has and nobody offers yet."""
        rows = _providers()
        chosen = _chosen(rows)
        if chosen is None:
            return self.render("admin/models/offers.html", providers=rows, chosen=None, offers=[], problem=None, more=0)
        kind, base_url, number = chosen.kind, chosen.base_url, chosen.id
        used, taken = _used(number), _taken()
        db.session.rollback()  # nothing may stay locked while the provider thinks
        names, problem = gateway().discovery.names(number)
        part = self.argument("search").lower()
        free = [name for name in sorted(names) if name not in used and part in name.lower()]
        offers = native.run(_suggest, kind, base_url, free[:SHOWN], taken)
        return self._page(number, offers, problem, more=max(0, len(free) - SHOWN), total=len(names))

    @expose("/offers/add", methods=("POST",))
    def add_offers_view(self) -> Any:
        """Make the ticked ones, all or none."""
        chosen = _chosen(_providers())
        if chosen is None:
            abort(404)
        offers = _typed(chosen)
        ticked = [offer for offer in offers if offer.is_ticked]
        _judge(ticked, _taken(), _used(chosen.id))
        if not ticked or any(offer.problems for offer in ticked):
            problem = None if ticked else gettext("Tick at least one model.")
            return self._page(chosen.id, offers, problem, is_refused=True), HTTPStatus.UNPROCESSABLE_ENTITY
        for offer in ticked:
            row = _model_of(chosen, offer)
            db.session.add(row)
            db.session.flush()
            audit.note(db.session(), actor(), "model_create", "model", row.id, {"after": self.describe(row)})
        db.session.commit()
        self.settled()
        flash(gettext("%(count)s models were added.", count=len(ticked)), "success")
        return go("providers.details_view", id=chosen.id)

    def _page(self, number: int, offers: Sequence[Offer], problem: str | None, **values: Any) -> Any:
        rows = _providers()
        chosen = next((row for row in rows if row.id == number), None)
        said = wording.say(problem) if problem else None
        given = {"more": 0, "total": len(offers), "is_refused": False} | values
        return self.render(
            "admin/models/offers.html", providers=rows, chosen=chosen, offers=offers, problem=said, **given
        )


def amounts(price: Price | None) -> tuple[str, str]:
    """USD per million tokens of input and output, as a field shows them; empty where nobody knows."""
    if price is None:
        return "", ""
    return _usd(price.input_rate), _usd(price.output_rate)


def _usd(rate: int) -> str:
    return f"{money.usd(rate).normalize():f}"


def _providers() -> Sequence[Provider]:
    """Those that can be asked, by name."""
    return db.session.scalars(select(Provider).where(Provider.kind != "echo").order_by(Provider.name)).all()


def _chosen(rows: Iterable[Provider]) -> Provider | None:
    number = request.values.get("provider", type=int) or 0
    return next((row for row in rows if row.id == number), None) if 0 < number <= MAX_ID else None


def _used(provider_id: int) -> set[str]:
    """What of the provider is offered already."""
    return set(db.session.scalars(select(Deployment.upstream_model).where(Deployment.provider_id == provider_id)))


def _taken() -> set[str]:
    """The names and aliases of all models, but for those that nobody serves and a provider may fill."""
    found: set[str] = set()
    for name, aliases, is_vacant in db.session.execute(select(Model.name, Model.aliases, VACANT)):
        found |= {*(aliases or ())} if is_vacant else {name, *(aliases or ())}
    return found


def _suggest(kind: str, base_url: str, names: Iterable[str], taken: set[str]) -> list[Offer]:
    """The rows of a fresh form. A name that is taken is left for somebody to say another."""
    found = []
    for name in names:
        entry = prices.find_entry(kind, base_url, name)
        price = entry.price if entry is not None else None
        window = entry.context_window if entry is not None else None
        found.append(Offer(name, "" if name in taken else name, False, *amounts(price), price, window))
    return found


def _typed(provider: Provider) -> list[Offer]:
    """The rows as they were sent; what the catalogue says of each is looked up again."""
    sent = request.form
    upstreams = [name[:LONGEST_NAME] for name in sent.getlist("upstream")[:SHOWN]]
    offers = native.run(_suggest, provider.kind, provider.base_url, upstreams, set())
    for place, offer in enumerate(offers):
        offer.is_ticked = sent.get(f"tick-{place}") is not None
        offer.name = sent.get(f"name-{place}", "").strip()
        offer.input_usd, offer.output_usd = (
            sent.get(f"{kind}-{place}", "").strip().removeprefix("$")[:40] for kind in ("input", "output")
        )
    return list(offers)


def _judge(ticked: Iterable[Offer], taken: set[str], used: set[str]) -> None:
    """Say of each what is wrong with it."""
    seen: set[str] = set()
    for offer in ticked:
        offer.problems += filter(None, (_name_problem(offer, taken | seen), _price_problem(offer)))
        if offer.upstream in used or not offer.upstream.isprintable():
            offer.problems.append(gettext("This model is offered already."))
        seen.add(offer.name)


def _name_problem(offer: Offer, taken: set[str]) -> str | None:
    if not offer.name or len(offer.name) > LONGEST_NAME or not offer.name.isprintable():
        return gettext("Give it a name that callers will send.")
    return gettext("There is a model of that name already.") if offer.name in taken else None


def _price_problem(offer: Offer) -> str | None:
    typed = (offer.input_usd, offer.output_usd)
    if typed == amounts(offer.suggested) or not any(typed):
        return None
    if not all(typed):
        return gettext("Enter what input and output cost, or neither.")
    if problem := next(filter(None, map(usd_problem, typed)), None):
        return problem
    if max(map(money.nanousd, typed)) > pricewords.MOST:
        return gettext("No price may be higher than 1,000,000 USD.")
    if not any(map(money.nanousd, typed)):
        return gettext("A price of zero must be said: add the model by hand and choose Free.")
    return None


def _model_of(provider: Provider, offer: Offer) -> Model:
    price = offer.price()
    row = db.session.scalar(select(Model).where(Model.name == offer.name, VACANT)) or Model(fallbacks=[])
    row.name, row.owned_by, row.managed_by = offer.name, provider.name, "admin"
    row.context_window = row.context_window or offer.context_window
    row.deployments.append(Deployment(provider_id=provider.id, upstream_model=offer.upstream))
    prices.supersede(row, {} if price is None else {None: price}, prices.now())
    return row
