"""Reading and changing the stored prices: what people set, what an import brings, what the catalogue has new.

Every change is a new row and an audit entry; calls that are booked keep what they were charged.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, selectinload

from models import Deployment, Model, Provider
from models import Price as PriceRow
from services import audit, prices, pricewords
from services.errors import GatewayError, InvalidRequest, NotFound
from services.types import Price
from utils import money
from utils.progress import Tell, silent, told

LISTS: Final = ("litellm", "genai")  # formats of others' catalogues; a price from one yields to the next one
Find = Callable[[Provider, str], Price | None]  # a catalogue: a provider and its model's name


@dataclass(frozen=True, slots=True)
class Line:
    """One price of a file that names our models. Without a provider it is the whole model's."""

    number: int
    model: str
    price: Price
    provider: str = ""
    valid_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One price and what follows it; None = nobody knows."""

    model: str
    where: str  # provider and its model, or empty for the whole model
    old: Price | None
    new: Price | None
    valid_from: datetime | None = None  # None = now

    def __str__(self) -> str:
        place = f"{self.model} ({self.where})" if self.where else self.model
        when = "" if self.valid_from is None else f" from {_moment(self.valid_from)}"
        if self.new is None:
            return f"{place}: no longer in the catalogue, keeps {_sourced(self.old)}"
        return f"{place}: {_sourced(self.old)} -> {_sourced(self.new)}{when}"


class PriceFileError(Exception):
    """A file of prices cannot be stored; one line for each mistake."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(["nothing was stored:", *(f"  - {problem}" for problem in problems)]))


def put(
    engine: Engine,
    actor: audit.Actor,
    model: str,
    price: Price,
    *,
    provider: str = "",
    valid_from: datetime | None = None,
) -> Change | None:
    """Set the price of a model or of its deployment at a provider, now or from a moment on; None = it was that already.

    Raises:
        NotFound: no such model, or it is not deployed there.
        InvalidRequest: the price or the moment cannot be, or the price stands in the configuration file.
    """
    pricewords.check(price)
    with Session(engine) as session, session.begin():
        found = _models(session).get(model)
        return _put(session, actor, "price_set", found, Line(0, model, price, provider, valid_from))


def store(
    engine: Engine, actor: audit.Actor, lines: Sequence[Line], *, dry_run: bool = False, tell: Tell = silent
) -> list[Change]:
    """Set the prices of a file, all or none; with `dry_run` only say what would change.

    Raises:
        PriceFileError: naming every line that cannot be stored.
    """
    changes, problems = [], []
    with Session(engine) as session, session.begin() as transaction:
        models = _models(session)
        for line in told(lines, len(lines), tell):
            try:
                changes.append(_put(session, actor, "price_import", models.get(line.model), line))
            except GatewayError as exc:
                problems.append(f"line {line.number}: {exc}")
        if problems:
            raise PriceFileError(problems)
        if dry_run:
            transaction.rollback()
    return [change for change in changes if change is not None]


def differences(engine: Engine, find: Find, replaces: Callable[[Price], bool]) -> list[Change]:
    """Where a catalogue says something else than is stored; of what is stored only that which `replaces` picks.

    A model whose price was ended by people, or is still to begin, is not looked up.
    """
    with Session(engine) as session:
        return [change for _model, _level, change in _differences(session, find, replaces)]


def adopt(
    engine: Engine,
    actor: audit.Actor,
    find: Find,
    replaces: Callable[[Price], bool],
    *,
    action: str,
    tell: Tell = silent,
) -> list[Change]:
    """Store what a catalogue says where it differs (see `differences`); what it does not know any more stays."""
    changes = []
    with Session(engine) as session, session.begin():
        found = list(_differences(session, find, replaces))
        for model, level, change in told(found, len(found), tell):
            if change.new is not None:
                _adopt(model, level, change.new, replaces)
                _note(session, actor, action, model, change)
                changes.append(change)
    return changes


def is_listed(price: Price) -> bool:
    """Whether a price came from a catalogue, ours or an imported one, and not from people or the configuration file."""
    return prices.is_catalogue(price.source) or price.source.startswith(tuple(f"{name} " for name in LISTS))


def listed(engine: Engine) -> list[dict[str, Any]]:
    """What every model costs at each of its providers now.

    `model`, `provider`, `upstream_model`, `free`, each rate by its kind in USD per million tokens, `request` and
    `image` in USD, `source`; None where nobody said.
    """
    now = prices.now()
    with Session(engine) as session:
        return [
            {
                "model": row.name,
                "provider": one.provider.name,
                "upstream_model": one.upstream_model,
                **_figures(_record(prices.in_force(row.prices, one.id, now))),
            }
            for row in _models(session).values()
            for one in row.deployments
        ]


def history(engine: Engine, model: str) -> list[dict[str, Any]]:
    """Every price of a model that was, is or will be, oldest first: `from`, `until`, `at` and the figures of `listed`.

    Raises:
        NotFound: no such model.
    """
    with Session(engine) as session:
        row = _models(session).get(model)
        if row is None:
            raise NotFound(f"There is no model `{model}`.", param="model")
        places = {deployment.id: _place(deployment) for deployment in row.deployments}
        return [
            {
                "from": one.valid_from_at,
                "until": one.valid_until_at,
                "at": places.get(one.deployment_id) if one.deployment_id is not None else None,
                **_figures(prices.record_of(one)),
            }
            for one in sorted(row.prices, key=lambda one: (one.valid_from_at, one.id))
        ]


def lines(engine: Engine, model: str = "") -> Iterator[str]:
    """What every model costs at each of its providers now; of one model all rates and the history.

    Raises:
        NotFound: no such model.
    """
    now = prices.now()
    with Session(engine) as session:
        found = _models(session)
        if model and model not in found:
            raise NotFound(f"There is no model `{model}`.", param="model")
        for row in [found[model]] if model else found.values():
            for deployment in row.deployments:
                current = prices.in_force(row.prices, deployment.id, now)
                yield f"{row.name} ({_place(deployment)}): {_sourced(_record(current))}"
                if model and current is not None:
                    yield from _units(prices.record_of(current))
        if model:
            yield from _history(found[model], now)


def drop_deployments(session: Session, model: Model, gone: Sequence[Deployment]) -> None:
    """Take deployments out of a model, with their own prices: those go first, for Postgres would take them along."""
    numbers = {deployment.id for deployment in gone}
    if numbers:
        model.prices = [price for price in model.prices if price.deployment_id not in numbers]
        session.flush()
        model.deployments = [deployment for deployment in model.deployments if deployment.id not in numbers]


def _models(session: Session) -> dict[str, Model]:
    served = selectinload(Model.deployments).joinedload(Deployment.provider)
    query = select(Model).options(served, selectinload(Model.prices)).order_by(Model.name)
    return {row.name: row for row in session.scalars(query)}


def _put(session: Session, actor: audit.Actor, action: str, model: Model | None, line: Line) -> Change | None:
    now = prices.now()
    if model is None:
        raise NotFound(f"There is no model `{line.model}`.", param="model")
    deployment = _deployment(model, line.provider) if line.provider else None
    level, place = (None, "") if deployment is None else (deployment.id, _place(deployment))
    current = prices.in_force(model.prices, level, now)
    if current is not None and current.source == prices.FILE:
        raise InvalidRequest(f"The price of `{model.name}` stands in the configuration file; change it there.")
    if line.valid_from is not None:
        changed = _schedule(model, level, line.price, line.valid_from, now)
    else:
        changed = prices.supersede(model, {level: line.price}, now, replaces=lambda row: row.deployment_id == level)
    change = Change(model.name, place, _record(current), line.price, line.valid_from)
    if changed:
        _note(session, actor, action, model, change)
    return change if changed else None


def _schedule(model: Model, level: int | None, price: Price, valid_from: datetime, now: datetime) -> bool:
    if valid_from <= now:
        raise InvalidRequest(
            f"{_moment(valid_from)} has passed, and calls that are booked keep their price.", param="valid_from"
        )
    present = [row for row in model.prices if row.deployment_id == level and row.valid_from_at == valid_from]
    if present and prices.is_same(prices.record_of(present[-1]), price):
        return False
    model.prices.append(prices.row_of(price, level, valid_from))
    return True


def _deployment(model: Model, provider: str) -> Deployment:
    found = [deployment for deployment in model.deployments if deployment.provider.name == provider]
    if len(found) != 1:
        how = "not deployed" if not found else "deployed more than once"
        raise NotFound(f"`{model.name}` is {how} at `{provider}`.", param="provider")
    return found[0]


def _differences(
    session: Session, find: Find, replaces: Callable[[Price], bool]
) -> Iterator[tuple[Model, int | None, Change]]:
    now = prices.now()
    for model in _models(session).values():
        for deployment in model.deployments:
            if deployment.provider.kind in prices.FREE_KINDS:
                continue  # no catalogue knows what one's own machine costs
            mine = [row for row in model.prices if row.deployment_id in (None, deployment.id)]
            current = prices.in_force(mine, deployment.id, now)
            old = _record(current)
            if (current is None and mine) or (old is not None and not replaces(old)):
                continue
            new = find(deployment.provider, deployment.upstream_model)
            if (new is None and old is None) or (old is not None and new is not None and prices.is_same(old, new)):
                continue
            is_alone = current is not None and len(model.deployments) == 1
            level = current.deployment_id if is_alone and current is not None else deployment.id
            yield model, level, Change(model.name, _place(deployment), old, new)


def _adopt(model: Model, level: int | None, price: Price, replaces: Callable[[Price], bool]) -> None:
    def is_replaced(row: PriceRow) -> bool:
        return row.deployment_id == level and replaces(prices.record_of(row))

    prices.supersede(model, {level: price}, prices.now(), replaces=is_replaced)


def _note(session: Session, actor: audit.Actor, action: str, model: Model, change: Change) -> None:
    details: dict[str, Any] = {"before": _sourced(change.old), "after": _sourced(change.new)}
    details |= {"deployment": change.where} if change.where else {}
    details |= {"valid_from": change.valid_from.isoformat()} if change.valid_from is not None else {}
    audit.note(session, actor, action, "model", model.id, {"name": model.name, **details})


def _record(row: PriceRow | None) -> Price | None:
    return None if row is None else prices.record_of(row)


def _place(deployment: Deployment) -> str:
    return f"{deployment.provider.name}/{deployment.upstream_model}"


def _sourced(price: Price | None) -> str:
    return "unknown" if price is None else f"{pricewords.show(price)} [{price.source}]"


def _figures(price: Price | None) -> dict[str, Any]:
    """A price as `listed` has it."""
    amounts = {kind: getattr(price, name, None) for kind, name in pricewords.KINDS.items()}
    amounts |= {"request": price and price.request_nanousd, "image": price and price.image_nanousd}
    usd = {kind: None if amount is None else money.usd(amount) for kind, amount in amounts.items()}
    return {"free": price and price.is_free, **usd, "source": price and price.source}


def _units(price: Price) -> Iterator[str]:
    """Each rate per million tokens and per thousand."""
    for kind, name in pricewords.KINDS.items():
        rate = getattr(price, name)
        if rate is not None and not price.is_free:
            thousand = f"{money.usd_per_1k(rate).normalize():f}"
            yield f"  {kind}: {money.show_usd(rate)} per million tokens, ${thousand} per 1k"


def _history(model: Model, now: datetime) -> Iterator[str]:
    places = {deployment.id: _place(deployment) for deployment in model.deployments}
    yield "History:"
    for row in sorted(model.prices, key=lambda row: (row.valid_from_at, row.id)):
        until = "" if row.valid_until_at is None else f" until {_moment(row.valid_until_at)}"
        whose = "" if row.deployment_id is None else f" ({places.get(row.deployment_id, '?')})"
        later = " (to come)" if row.valid_from_at > now else ""
        yield f"  from {_moment(row.valid_from_at)}{until}{later}{whose}: {_sourced(prices.record_of(row))}"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
