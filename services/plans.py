"""What would be held for a call, and which smaller thing to try when it is refused.

A plan knows the most the call can use: its proven input, the output limit it is sent with, the dearest of its
candidates. Nothing in here asks the books; services/admission.py does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from services import counting, periods, pricing
from services.books.base import Standing
from services.errors import AccountingUnavailable, BudgetExceeded, Unsupported
from services.types import Bound, BudgetRef, Call, Count, Demand, Deployment, Price, Take, WindowState
from utils import clock, money

MAX_AMOUNT: Final = 2**62  # no limit is larger, and the databases count to 2**63
MAX_OUTPUT: Final = 2**31  # output tokens of a call whose model is free in this budget's unit
SMALL_INPUT: Final = 1000  # tokens as bounded, one a byte: a prompt that everybody would call short


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be held for a call that is sent with this output limit per choice to these candidates."""

    call: Call
    demand: Demand
    output: int
    most: int  # the most output it may be planned with again
    candidates: tuple[Deployment, ...]
    gone: frozenset[int] = frozenset()  # budgets that were deleted a moment ago

    @property
    def bound(self) -> Bound:
        """The most the call can use."""
        return Bound(self.demand.input_tokens, self.output * self.demand.choices, self.demand.images)

    @property
    def smallest(self) -> Bound:
        """The least it can be sent with: as it is where its caller set the output limit, else one token a choice."""
        if self.demand.output_tokens is not None:
            return self.bound
        return replace(self.bound, output_tokens=min(self.bound.output_tokens, self.demand.choices))

    def budgets(self) -> list[BudgetRef]:
        """Every budget that applies, in the order in which they are taken."""
        is_free = all(price.is_free for price in _prices(self.candidates))
        used = {deployment.model_id for deployment in self.candidates}
        applies = [
            *(budget for budget in self.call.caller.budgets if not (budget.is_prepaid and is_free)),
            *(budget for budget in self.call.model_budgets if budget.scope_id in used),
        ]
        return sorted((budget for budget in applies if budget.id not in self.gone), key=lambda budget: budget.id)

    def prices(self, budget: BudgetRef) -> list[Price]:
        """The prices at which the call may be charged to that budget: a model's own only to the model's."""
        if budget.scope != "model":
            return _prices(self.candidates)
        return _prices([one for one in self.candidates if one.model_id == budget.scope_id])

    def takes(self, now_s: float) -> tuple[Take, ...]:
        """What is taken from each budget; nothing is taken where nothing is due."""
        amounts = [(budget, self._amount(budget, self.bound)) for budget in self.budgets()]
        return tuple(
            Take(budget, periods.start_s(budget.period, budget.timezone, now_s), amount)
            for budget, amount in amounts
            if amount
        )

    def counts(self, now_s: float) -> tuple[Count, ...]:
        """What is counted against each limit, in the order of their counters' names."""
        tokens = self.bound.input_tokens + self.bound.output_tokens
        found = (
            counting.count(limit, min(tokens, MAX_AMOUNT) if limit.unit == counting.TOKENS else 1, now_s)
            for limit in self.call.limits
        )
        return in_order(found)

    def needed(self, budget: BudgetRef) -> int:
        """What the budget must have left for this call, however little output it is sent with."""
        return self._amount(budget, self.smallest)

    def least(self, budget: BudgetRef) -> int:
        """What the budget must still have for a small call to them: a short prompt, one output token or image."""
        images = min(self.bound.images, 1)
        bound = Bound(min(self.bound.input_tokens, SMALL_INPUT), min(self.bound.output_tokens, 1), images)
        return self._amount(budget, bound)

    def _amount(self, budget: BudgetRef, bound: Bound) -> int:
        if budget.unit == "tokens":
            return min(bound.input_tokens + bound.output_tokens, MAX_AMOUNT)
        return min(pricing.ceiling_nanousd(bound, self.prices(budget)), MAX_AMOUNT)


@dataclass(frozen=True, slots=True)
class State:
    """Where the budgets and limits of a plan stand, before it is held."""

    budgets: list[tuple[Take, Standing]]
    limits: list[tuple[Count, WindowState]]
    gone: frozenset[int] = frozenset()

    @property
    def short(self) -> list[tuple[Take, Standing]]:
        """The budgets that cannot take their amount."""
        return [(take, standing) for take, standing in self.budgets if standing.left < take.amount]

    @property
    def full(self) -> list[tuple[Count, WindowState]]:
        """The limits that have no room."""
        return [
            (count, window)
            for count, window in self.limits
            if counting.used(count, window) + count.amount > count.limit.amount
        ]


def in_order(counts: Iterable[Count]) -> tuple[Count, ...]:
    """The order in which all lock their counters."""
    return tuple(sorted(counts, key=lambda count: count.limit.subject))


def first_plan(call: Call, demand: Demand) -> Plan:
    """The plan with all candidates and as much output as the caller or the model allows.

    Raises:
        Unsupported: a budget or a limit of tokens applies and the call has no bound.
    """
    output = demand.most_output_tokens if demand.output_tokens is None else demand.output_tokens
    plan = Plan(call, demand, output, demand.most_output_tokens, call.candidates)
    if not demand.is_bounded and (plan.budgets() or has_token_limit(call)):
        raise Unsupported(
            "A budget applies to this call, and nobody can say how many tokens its attachments are at most: "
            "set the model's context window, or send the content as text.",
            param="messages",
        )
    return plan


def smaller(plan: Plan, state: State, *, is_last: bool) -> Plan:
    """The plan to try after one was refused: without a fallback, with less output, or the same again.

    Raises:
        BudgetExceeded, RateLimited: nothing fits, or others took what would have fitted too often.
    """
    plan = replace(plan, gone=plan.gone | state.gone)
    if state.full or (is_last and not state.budgets and not state.gone):
        return _within_limits(plan, state.full or state.limits, is_last=is_last)
    requested = plan.call.model.id if plan.call.model else 0
    dear = {take.budget.scope_id for take, _ in state.short if take.budget.scope == "model"} - {requested}
    left = tuple(one for one in plan.candidates if one.model_id not in dear)
    if dear and left and not is_last:
        return replace(plan, candidates=left)
    if not state.budgets:
        return plan
    if is_last or (state.short and plan.demand.output_tokens is not None):
        raise refusal(plan, *_hardest(plan, state.short or state.budgets))
    if plan.demand.output_tokens is not None:
        return plan
    fits = [_affordable(plan, take.budget, standing.left) for take, standing in state.budgets]
    if min(fits) < 1:
        raise refusal(plan, *_hardest(plan, [pair for pair, fit in zip(state.budgets, fits, strict=True) if fit < 1]))
    return replace(plan, output=min(*fits, plan.most))


def refusal(plan: Plan, take: Take, standing: Standing) -> BudgetExceeded:
    """What a caller reads whose budget cannot take the call: which one, its numbers, when it resets.

    A call that needs more than the whole limit of a period fits into none: that is for people to mend, as with a total.
    """
    budget, now_s, needed = take.budget, clock.now_s(), plan.needed(take.budget)
    ends_s = periods.end_s(budget.period, budget.timezone, now_s)
    resets_s = None if needed > standing.limit else ends_s
    show = money.show_usd if budget.unit == "usd" else lambda tokens: f"{tokens:,} tokens"
    kind = "token balance" if budget.is_prepaid else "budget"
    span = "" if ends_s is None else f" of this {budget.period}"
    resets_at = None if resets_s is None else f"{datetime.fromtimestamp(resets_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    never = "It does not reset." if ends_s is None else "It will never fit."
    message = (
        f"The {kind}{span} of {_whose(plan.call, budget)} cannot take this call: "
        f"limit {show(standing.limit)}, spent {show(standing.spent)}, "
        f"held by calls under way {show(standing.held)}, "
        f"needed {'at least ' if plan.demand.output_tokens is None else ''}{show(needed)}. "
        f"{never if resets_at is None else f'It resets at {resets_at}.'}"
    )
    more = {"needed": needed, "least": plan.least(budget), "resets_at": resets_at}
    found = BudgetExceeded(
        message,
        resets_in_s=None if resets_s is None else max(1, round(resets_s - now_s)),
        is_spent=standing.spent + needed > standing.limit,
        details=budget_details(take, standing) | more,
    )
    found.rule = f"budget {budget.id}"
    return found


def _hardest(plan: Plan, pairs: Sequence[tuple[Take, Standing]]) -> tuple[Take, Standing]:
    """The one of these budgets that refuses: first of all one that can never take the call."""

    def rank(pair: tuple[Take, Standing]) -> tuple[bool, int]:
        needed = plan.needed(pair[0].budget)
        return needed <= pair[1].limit, pair[1].left - needed

    return min(pairs, key=rank)


def budget_details(take: Take, standing: Standing) -> dict[str, Any]:
    """A budget's numbers for programs, amounts in nano-USD or tokens."""
    return {
        "scope": take.budget.scope,
        "unit": take.budget.unit,
        "period": take.budget.period,
        "is_prepaid": take.budget.is_prepaid,
        "limit": standing.limit,
        "spent": standing.spent,
        "held": standing.held,
        "needed": take.amount,
    }


def _whose(call: Call, budget: BudgetRef) -> str:
    caller = call.caller
    return {
        "user": f"user `{caller.username}`",
        "key": f"key `{caller.key_hint}` (#{caller.key_id})",
        "team": f"team `{caller.team}`",
        "model": f"model `{budget.owner}`",
    }[budget.scope]


def _within_limits(plan: Plan, full: list[tuple[Count, WindowState]], *, is_last: bool) -> Plan:
    """With less output where the gateway chose it and limits of tokens have some left; else the caller must wait.

    Raises:
        RateLimited: the limit that keeps the caller waiting longest.
    """
    if not full:
        raise AccountingUnavailable("the budgets of this call change too fast; please try again")
    now_s, is_ours = clock.now_s(), plan.demand.output_tokens is None
    if is_ours and not is_last and (output := min(_countable(plan, *pair) for pair in full)) >= 1:
        return replace(plan, output=output, most=output)
    tokens = plan.smallest.input_tokens + plan.smallest.output_tokens
    needs = [
        (replace(count, amount=tokens) if count.limit.unit == counting.TOKENS else count, window)
        for count, window in full
    ]
    count, window = counting.longest(needs, now_s)
    model = plan.call.model.name if plan.call.model else ""
    raise counting.refusal(plan.call.caller, count, window, now_s, model=model, is_least=is_ours)


def _countable(plan: Plan, count: Count, window: WindowState) -> int:
    """The output per choice that this limit has left; 0 or less = none, or it is not of tokens."""
    if count.limit.unit != counting.TOKENS:
        return 0
    return (count.limit.amount - counting.used(count, window) - plan.demand.input_tokens) // plan.demand.choices


def _affordable(plan: Plan, budget: BudgetRef, left: int) -> int:
    """The output per choice that still fits this budget; 0 or less = none."""
    if budget.unit == "tokens":
        return (left - plan.demand.input_tokens) // plan.demand.choices
    bound = Bound(plan.demand.input_tokens, MAX_OUTPUT * plan.demand.choices, plan.demand.images)
    return pricing.affordable_output(bound, plan.prices(budget), left) // plan.demand.choices


def has_token_limit(call: Call) -> bool:
    """Whether one of the limits that apply is of tokens."""
    return any(limit.unit == counting.TOKENS for limit in call.limits)


def _prices(candidates: Sequence[Deployment]) -> list[Price]:
    return [candidate.price for candidate in candidates if candidate.price is not None]
