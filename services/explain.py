"""What would become of a call, for `POST /v1/explain`: route, price, hold, every budget and limit, and the decision.

Made by the code that decides (services/pipeline.py, services/admission.py), so it cannot say anything else.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from services import counting, periods, pricing
from services.books.base import Standing
from services.errors import GatewayError
from services.plans import Plan, State, budget_details
from services.types import Call, Count, Deployment, Price, Take, WindowState
from utils import clock, money


def of_plan(plan: Plan, state: State, refusal: GatewayError | None) -> dict[str, Any]:
    """The explanation of a call that got as far as its budgets and limits. Amounts of USD are decimal texts."""
    now_s = clock.now_s()
    return {
        **_head(plan.call),
        "route": [_candidate(candidate) for candidate in plan.candidates],
        "hold": _hold(plan),
        "budgets": [_budget(take, standing, now_s) for take, standing in state.budgets],
        "limits": [_limit(count, window, now_s) for count, window in state.limits],
        "decision": _decision(refusal),
    }


def of_refusal(call: Call, refusal: GatewayError) -> dict[str, Any]:
    """The explanation of a call that is refused before any budget or limit is looked at."""
    return {**_head(call), "route": [], "hold": None, "budgets": [], "limits": [], "decision": _decision(refusal)}


def _head(call: Call) -> dict[str, Any]:
    caller = call.caller
    return {
        "object": "explanation",
        "operation": call.operation,
        "model": call.body.get("model"),
        "caller": {"user": caller.username, "key": caller.key_hint, "team": caller.team},
    }


def _candidate(deployment: Deployment) -> dict[str, Any]:
    return {
        "provider": deployment.upstream.name,
        "upstream_model": deployment.model,
        "priority": deployment.priority,
        "weight": deployment.weight,
        "price": _price(deployment.price) if deployment.price is not None else None,
    }


def _price(price: Price) -> dict[str, Any]:
    return {
        "is_free": price.is_free,
        "input_usd_per_million": _usd(price.input_rate),
        "output_usd_per_million": _usd(price.output_rate),
        "source": price.source,
    }


def _hold(plan: Plan) -> dict[str, Any]:
    prices: Sequence[Price] = [one.price for one in plan.candidates if one.price is not None]
    return {
        "input_tokens": plan.bound.input_tokens,
        "output_tokens": plan.bound.output_tokens,
        "choices": plan.demand.choices,
        "images": plan.bound.images,
        "max_output_tokens": plan.output,
        "is_limit_of_caller": plan.demand.output_tokens is not None,
        "cost_usd": _usd(pricing.ceiling_nanousd(plan.bound, prices)),
    }


def _budget(take: Take, standing: Standing, now_s: float) -> dict[str, Any]:
    ends_s = periods.end_s(take.budget.period, take.budget.timezone, now_s)
    numbers = budget_details(take, standing) | {"left": standing.left}
    if take.budget.unit == "usd":
        numbers |= {name: _usd(numbers[name]) for name in ("limit", "spent", "held", "needed", "left")}
    warn = take.budget.warn_percent
    gone = standing.spent + standing.held
    return numbers | {
        "resets_at": None if ends_s is None else _moment(ends_s),
        "is_nearly_spent": warn is not None and gone * 100 >= standing.limit * warn,
        "fits": standing.left >= take.amount,
    }


def _limit(count: Count, window: WindowState, now_s: float) -> dict[str, Any]:
    used = counting.used(count, window)
    wait_s = counting.wait_s(count, window, now_s) if used + count.amount > count.limit.amount else 0.0
    return {
        "scope": count.limit.scope,
        "unit": count.limit.unit,
        "period": counting.span_of(count.limit),
        "limit": count.limit.amount,
        "used": used,
        "needed": count.amount,
        "left": max(0, count.limit.amount - used),
        "wait_seconds": None if wait_s == float("inf") else round(wait_s, 3),
        "fits": used + count.amount <= count.limit.amount,
    }


def _decision(refusal: GatewayError | None) -> dict[str, Any]:
    if refusal is None:
        return {"is_admitted": True}
    return {
        "is_admitted": False,
        "status": refusal.status,
        "code": refusal.code,
        "message": str(refusal),
        "retry_after": refusal.retry_after_s,
        "details": refusal.details,
    }


def _usd(nanousd: int) -> str:
    return f"{Decimal(nanousd) / money.NANO_PER_USD:f}"


def _moment(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}"
