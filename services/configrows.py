"""Sections of the configuration file: teams, budgets, limits, routes, agents, values."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import select

from models import Agent, ApiKey, Budget, Limit, Model, Route, SystemConfig, Team, User
from services import agents, budgets, callroutes, fields, limits, owners, systemconfig, teams
from services.configentries import (
    AgentEntry,
    BudgetEntry,
    CacheEntry,
    LimitEntry,
    OwnedEntry,
    RouteEntry,
    StepEntry,
    TeamEntry,
    ValueEntry,
)
from services.configsections import Misplaced, Section, Work
from utils import ids, money

Owned = tuple[str, int, str, str]  # scope, number of the owner, unit, period
OWNERS: Final[Mapping[str, tuple[Any, Callable[[Any], str]]]] = {
    "user": (User, lambda row: row.username),
    "team": (Team, lambda row: row.name),
    "model": (Model, lambda row: row.name),
    "key": (ApiKey, lambda row: row.uuid),
}


def _teams(work: Work) -> dict[str, Team]:
    return {row.name: row for row in work.session.scalars(select(Team).order_by(Team.name))}


def _team_entry(_work: Work, row: Team) -> TeamEntry:
    return TeamEntry(name=row.name, allowed_models=row.allowed_models)


def _store_team(work: Work, row: Team | None, entry: TeamEntry) -> Team:
    row = row or Team(name=entry.name)
    row.allowed_models = entry.allowed_models
    work.session.add(row)
    return row


def _whose(work: Work, row: Budget | Limit) -> dict[str, Any]:
    """The owner as an entry names it; nothing when it is gone."""
    if row.scope == "address":
        return {"every_address": True}
    kind, name = OWNERS[row.scope]
    owner = work.session.get(kind, row.scope_id)
    return {} if owner is None else {row.scope: name(owner)}


def _owned_key(work: Work, entry: BudgetEntry | LimitEntry) -> Owned:
    scope, name = entry.owner
    number = 0 if scope == "address" else owners.find(work.session, scope, name)
    return scope, number, entry.unit, entry.period


def _owned_name(entry: OwnedEntry) -> str:
    scope, name = entry.owner
    told = entry.told()
    return f"{scope} {name}".strip() + f", {told['unit']}, {told.get('period', 'total')}"


def _budgets(work: Work) -> dict[Owned, Budget]:
    query = select(Budget).where(~Budget.is_prepaid).order_by(Budget.scope, Budget.id)
    return {(row.scope, row.scope_id, row.unit, row.period): row for row in work.session.scalars(query)}


def _budget_entry(work: Work, row: Budget) -> BudgetEntry:
    amount = money.usd(row.limit_amount) if row.unit == "usd" else Decimal(row.limit_amount)
    own = {"unit": row.unit, "period": row.period, "timezone": row.timezone, "warn_percent": row.warn_percent}
    return BudgetEntry.model_validate({**_whose(work, row), **own, "limit": amount})


def _store_budget(work: Work, row: Budget | None, entry: BudgetEntry) -> Budget:
    scope, number, unit, period = _owned_key(work, entry)
    amount = budgets.parse_limit(unit, str(entry.limit))
    is_same = row is not None and (row.limit_amount, row.timezone) == (amount, entry.timezone)
    if row is None or not is_same or row.warn_percent != entry.warn_percent:
        row = row or Budget(scope=scope, scope_id=number, unit=unit, period=period)
        row.warn_percent = entry.warn_percent
        budgets.change(work.session, work.actor, row, amount, entry.timezone)
    return row


def _limits(work: Work) -> dict[Owned, Limit]:
    query = select(Limit).order_by(Limit.scope, Limit.id)
    return {(row.scope, row.scope_id, row.unit, row.period): row for row in work.session.scalars(query)}


def _limit_entry(work: Work, row: Limit) -> LimitEntry:
    own = {"unit": row.unit, "period": row.period, "limit": row.limit_amount}
    return LimitEntry.model_validate({**_whose(work, row), **own})


def _store_limit(work: Work, row: Limit | None, entry: LimitEntry) -> Limit:
    scope, number, unit, period = _owned_key(work, entry)
    if row is None or row.limit_amount != entry.limit:
        row = row or Limit(scope=scope, scope_id=number, unit=unit, period=period)
        limits.change(work.session, work.actor, row, entry.limit)
    return row


def _routes(work: Work) -> dict[str, Route]:
    return {row.path: row for row in work.session.scalars(select(Route).order_by(Route.path))}


def _route_entry(work: Work, row: Route) -> RouteEntry:
    found = callroutes.shown(work.session, row)
    return RouteEntry(
        path=found["path"],
        name=found["name"],
        keys=found["keyIds"] or None,
        steps=[
            StepEntry(
                **{name: step[name] for name in ("provider", "model", "retries", "timeout", "params")},
                retry_interval=step["retryInterval"],
                request_params=step["requestParams"],
            )
            for step in found["steps"]
        ],
        cache=CacheEntry(**found["cacheConfig"]),
        retry_strategy=found["retryStrategy"],
    )


def _store_route(work: Work, row: Route | None, entry: RouteEntry) -> Route:
    said = entry.model_dump()
    for step in said["steps"]:
        step["retryInterval"], step["requestParams"] = step.pop("retry_interval"), step.pop("request_params")
    body = {"name": entry.name, "path": entry.path, "steps": said["steps"]}
    body |= {"cacheConfig": said["cache"], "retryStrategy": entry.retry_strategy}
    body |= {"keyIds": entry.keys} if entry.keys else {}
    values = fields.read(callroutes.MEMBERS, body, ("name", "path", "steps")).values
    with work.session.no_autoflush:  # a new one is no row yet
        row = row or Route(retry_strategy=entry.retry_strategy, key_ids=[])
        callroutes.fill(work.session, row, values)
        if entry.keys is not None and not entry.keys:
            row.key_ids = []
    work.session.add(row)
    return row


def _agents(work: Work) -> dict[str, Agent]:
    query = select(Agent).where(Agent.user_id == agents.EVERYBODY).order_by(Agent.name)
    return {row.name: row for row in work.session.scalars(query)}


def _agent_entry(_work: Work, row: Agent) -> AgentEntry:
    names = ("name", "description", "system_prompt", "model_name", "config")
    return AgentEntry(**{name: getattr(row, name) for name in names})


def _store_agent(work: Work, row: Agent | None, entry: AgentEntry) -> Agent:
    row = row or Agent(id=ids.uuid(), user_id=agents.EVERYBODY, name=entry.name)
    row.description, row.system_prompt = entry.description, entry.system_prompt
    row.model_name, row.config = entry.model_name, entry.config
    work.session.add(row)
    return row


def _values(work: Work) -> dict[str, SystemConfig]:
    return {row.key: row for row in work.session.scalars(select(SystemConfig).order_by(SystemConfig.key))}


def _value_entry(_work: Work, row: SystemConfig) -> ValueEntry:
    return ValueEntry(key=row.key, value=row.value, description=row.description)


def _store_value(work: Work, row: SystemConfig | None, entry: ValueEntry) -> SystemConfig:
    given = entry.model_dump()
    if row is None:
        return systemconfig.create(work.session, work.sealer, work.actor, given)
    if row.is_secret:
        raise Misplaced((("key",), f"`{entry.key}` is a secret here, and secrets do not stand in the file"))
    return systemconfig.change(work.session, work.sealer, work.actor, row, given)


def _delete(work: Work, row: Any) -> None:
    work.session.delete(row)


OTHERS: Final = (
    Section(
        name="teams",
        kind="team",
        rows=_teams,
        entry_of=_team_entry,
        store=_store_team,
        remove=lambda work, row: teams.remove(work.session, row.id),
        described=lambda _work, row: {"name": row.name, "allowed_models": row.allowed_models},
        key_of=lambda _work, entry: entry.name,
        called=lambda entry: entry.name,
    ),
    Section(
        name="budgets",
        kind="budget",
        rows=_budgets,
        key_of=_owned_key,
        called=_owned_name,
        entry_of=_budget_entry,
        store=_store_budget,
        remove=lambda work, row: budgets.delete(work.session, work.actor, row),
    ),
    Section(
        name="limits",
        kind="limit",
        rows=_limits,
        key_of=_owned_key,
        called=_owned_name,
        entry_of=_limit_entry,
        store=_store_limit,
        remove=lambda work, row: limits.delete(work.session, work.actor, row),
    ),
    Section(
        name="routes",
        kind="route",
        rows=_routes,
        entry_of=_route_entry,
        store=_store_route,
        remove=_delete,
        described=lambda work, row: callroutes.shown(work.session, row),
        unsaid=("keys",),
        key_of=lambda _work, entry: entry.path,
        called=lambda entry: entry.path,
    ),
    Section(
        name="agents",
        kind="agent",
        rows=_agents,
        entry_of=_agent_entry,
        store=_store_agent,
        remove=_delete,
        described=lambda _work, row: agents.describe(row),
        key_of=lambda _work, entry: entry.name,
        called=lambda entry: entry.name,
    ),
    Section(
        name="values",
        kind="value",
        rows=_values,
        entry_of=_value_entry,
        store=_store_value,
        remove=lambda work, row: systemconfig.remove(work.session, work.actor, row),
        key_of=lambda _work, entry: entry.key,
        called=lambda entry: entry.key,
    ),
)
