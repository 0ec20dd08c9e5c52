"""Whether a call may begin: what it takes from each budget, what it counts against each limit, and who refuses.

`Admission.reserve` holds a call; `Admission.explain` goes the same way and holds nothing. See services/plans.py.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from services import counting
from services.books.base import Books, BooksUnavailable, Held, HoldRefused
from services.counters import Counters
from services.counting import Room
from services.errors import AccountingUnavailable, GatewayError
from services.plans import Plan, State, first_plan, has_token_limit, in_order, smaller
from services.types import Bound, Call, Caller, Count, Demand, LimitRef, Take, WindowState
from utils import clock, ids

log = logging.getLogger(__name__)

ROUNDS: Final = 8  # a call that fits may lose the race for its amount this often before it is refused
REFUSE_AGAIN_S: Final = 1.0
FULL_MAX: Final = 10_000
NOTHING: Final = WindowState()

Hold = Callable[[Call, tuple[Take, ...], tuple[Count, ...], Bound], Held]


class Admission:
    """See the module. `hold` stores what a plan takes, fills in `counts` and `remote_counts`, or raises HoldRefused."""

    def __init__(self, books: Books, counters: Counters, hold: Hold) -> None:
        self._books, self._counters, self._hold = books, counters, hold
        self._warned: set[tuple[int, int]] = set()
        self._full: dict[str, tuple[int, WindowState, float]] = {}  # limits that had no room a moment ago

    def reserve(self, call: Call, demand: Demand) -> None:
        """Hold what the call may use, in every budget and limit that applies, all or nothing.

        Fills in `bound`, `takes`, `room` and `warnings`; where the caller set no output limit but a budget
        or a limit of tokens applies, also `max_output_tokens`: the model's own limit, or what still fits. A fallback
        whose model's budget cannot take the call is left out.

        Raises:
            BudgetExceeded: naming the budget, its numbers and when it resets.
            RateLimited: naming the limit, its numbers and when to come again.
            AccountingUnavailable: the books cannot be written.
            Unsupported: a budget or a limit of tokens applies and the call has no bound.
        """
        plan, rounds = first_plan(call, demand), 0
        while True:
            now_s = clock.now_s()
            takes, counts = plan.takes(now_s), plan.counts(now_s)
            self._refuse_again(call, counts, now_s)
            try:
                held = self._hold(call, takes, counts, plan.bound)
            except HoldRefused:
                rounds += 1
                state = self.look(takes, counts)
                self._remember(state, now_s)
                plan = smaller(plan, state, is_last=rounds >= ROUNDS)
                continue
            call.candidates, call.bound, call.takes = plan.candidates, plan.bound, takes
            is_limited = bool(takes) or has_token_limit(call)
            call.max_output_tokens = plan.output if is_limited and demand.output_tokens is None else None
            self._note(call, counts, held, now_s)
            return

    def explain(self, call: Call, demand: Demand) -> tuple[Plan, State, GatewayError | None]:
        """What `reserve` would do now: the plan it ends with, where its budgets and limits stand, and who refuses.

        Raises:
            AccountingUnavailable: the books cannot be read.
        """
        state, plan = State([], []), Plan(call, demand, demand.most_output_tokens, 0, call.candidates)
        try:
            plan, rounds = first_plan(call, demand), 0
            while not rounds or state.short or state.full:
                now_s = clock.now_s()
                state = self.look(plan.takes(now_s), plan.counts(now_s))
                rounds += 1
                if state.short or state.full:
                    plan = smaller(plan, state, is_last=rounds >= ROUNDS)
        except AccountingUnavailable:
            raise
        except GatewayError as exc:
            return plan, state, exc
        return plan, state, None

    def count_request(self, caller: Caller, limits: Sequence[LimitRef]) -> tuple[Room, ...]:
        """Count a request that is no call against those of the limits that are of requests; what they have left.

        Raises:
            RateLimited: naming the limit, its numbers and when to come again.
            AccountingUnavailable: there are such limits and the books cannot be written.
        """
        now_s = clock.now_s()
        counts = in_order(counting.count(one, 1, now_s) for one in limits if one.unit == counting.REQUESTS)
        if not counts:
            return ()
        try:
            counters = self._counters.count(ids.request_id(), counts).counters
        except HoldRefused:
            state = self.look((), counts)
            raise counting.refusal(caller, *counting.longest(state.full or state.limits, now_s), now_s) from None
        except BooksUnavailable as exc:
            raise AccountingUnavailable("requests cannot be counted at the moment, so none are admitted") from exc
        return tuple(counting.room(count, *counters[count.limit.subject], now_s) for count in counts)

    def forget(self) -> None:
        """Something was given back: limits that had no room a moment ago may have some."""
        self._full.clear()

    def look(self, takes: Sequence[Take], counts: Sequence[Count]) -> State:
        """Where these stand.

        Raises:
            AccountingUnavailable: the books cannot be read.
        """
        try:
            standings = [(take, self._books.standing(take)) for take in takes]
            windows = list(zip(counts, self._counters.windows(counts), strict=True))
        except BooksUnavailable as exc:
            raise AccountingUnavailable("the budgets cannot be read at the moment") from exc
        found = [(take, standing) for take, standing in standings if standing is not None]
        return State(found, windows, frozenset(take.budget.id for take, standing in standings if standing is None))

    def _refuse_again(self, call: Call, counts: Sequence[Count], now_s: float) -> None:
        """Spare the database a flood: requests that were used up a moment ago are so still.

        Raises:
            RateLimited: see `reserve`.
        """
        for count in counts:
            amount, window, until_s = self._full.get(count.limit.subject, (-1, NOTHING, 0.0))
            if amount == count.limit.amount and 0 < until_s - now_s <= REFUSE_AGAIN_S:
                model = call.model.name if call.model else ""
                raise counting.refusal(call.caller, count, window, now_s, model=model)

    def _remember(self, state: State, now_s: float) -> None:
        if len(self._full) > FULL_MAX:
            self._full.clear()
        for count, window in state.full:
            if count.limit.unit == counting.REQUESTS:
                until_s = now_s + min(REFUSE_AGAIN_S, counting.wait_s(count, window, now_s))
                self._full[count.limit.subject] = (count.limit.amount, window, until_s)

    def _note(self, call: Call, counts: Sequence[Count], held: Held, now_s: float) -> None:
        """Tell the call how much room its limits have left, and which budgets were nearly spent before it came."""
        counters, call.gone = held.counters, held.budgets
        call.room = tuple(
            counting.room(count, *counters[count.limit.subject], now_s)
            for count in counts
            if count.limit.subject in counters
        )
        warnings = []
        for take in call.takes:
            gone, limit = held.budgets.get(take.budget.id, (0, 0))
            gone -= take.amount  # the most that this call may use, hardly what it will
            percent = take.budget.warn_percent
            if percent is not None and limit and gone * 100 >= limit * percent:
                warnings.append(f"{take.budget.scope} budget ({take.budget.period}): {gone * 100 // limit} % is gone")
                self._warn_once(take)
        call.warnings = tuple(warnings)

    def _warn_once(self, take: Take) -> None:
        budget = take.budget
        if (budget.id, take.period_start) not in self._warned:
            self._warned.add((budget.id, take.period_start))
            log.warning("budget %s of %s %s is nearly spent", budget.id, budget.scope, budget.scope_id)
