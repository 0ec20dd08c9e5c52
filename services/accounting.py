"""Admitting and booking calls. Nothing is admitted that the books cannot hold; nothing admitted stays unbooked.

`settle` writes to the database or, when that fails, to the spool; `replay` brings the spool to the database;
`sweep` books what dead workers left. If neither takes a settlement, nothing more is admitted until one does.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from services import periods, pricing
from services.books.base import Books, BooksRefused, BooksUnavailable, BooksUnsure, BudgetRefused, HoldRow, Standing
from services.errors import AccountingUnavailable, BudgetExceeded, Unsupported
from services.settlement import hold_note, recovered, settlement_from, take_record
from services.spool import Notes, Spool, SpoolUnavailable
from services.types import Bound, BudgetRef, Call, Demand, Price, Settlement, Take
from utils import clock, jsonx, money

log = logging.getLogger(__name__)

PENDING_MAX: Final = 1000  # settlements that wait for the database; with more, nothing is admitted
ROUNDS: Final = 8  # a call that fits may lose the race for its amount this often before it is refused


MAX_AMOUNT: Final = 2**62  # no limit is larger, and the databases count to 2**63
MAX_OUTPUT: Final = 2**31  # output tokens of a call whose model is free in this budget's unit


class Accounting:
    """See the module."""

    def __init__(self, books: Books, spool: Spool, *, hold_s: float) -> None:
        self._books, self._spool, self._hold_s = books, spool, hold_s
        self._pending: dict[str, Settlement] = {}  # in the spool, not in the database yet
        self._unsure: set[str] = set()  # holds that may have been stored while the call was refused
        self._is_lossy = False  # a settlement is nowhere but in memory

    def reserve(self, call: Call, demand: Demand) -> None:
        """Hold what the call may cost at its dearest candidate, in every budget of its caller, all or nothing.

        Fills in `bound`, `takes` and, where the caller set no output limit but a budget applies,
        `max_output_tokens`: the model's own limit, or what the budgets still afford.

        Raises:
            BudgetExceeded: naming the budget, its numbers and when it resets.
            AccountingUnavailable: the books cannot be written.
            Unsupported: a budget applies and the call has no bound.
        """
        prices = [candidate.price for candidate in call.candidates if candidate.price is not None]
        is_free = all(price.is_free for price in prices)
        budgets = [budget for budget in call.caller.budgets if not (budget.is_prepaid and is_free)]
        if budgets and not demand.is_bounded:
            raise Unsupported(
                "A budget applies to this call, and nobody can say how many tokens its attachments are at most: "
                "set the model's context window, or send the content as text.",
                param="messages",
            )
        output = demand.most_output_tokens if demand.output_tokens is None else demand.output_tokens
        rounds = 0
        while not self._try(call, demand, output, budgets, prices):
            rounds += 1
            bound = Bound(demand.input_tokens, output * demand.choices)
            standings = self._standings(_takes(budgets, bound, prices))
            if standings:
                output = self._next_output(call, demand, standings, prices, is_last=rounds == ROUNDS)
            budgets = [take.budget for take, _standing in standings]

    def settle(self, settlement: Settlement) -> None:
        """Book the call, once, however often this is called. Never raises."""
        try:
            self._books.settle(settlement)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the figures must not be lost
            log.error("settlement spooled request_id=%s reason=%s", settlement.request_id, exc)  # noqa: TRY400 - it says why
            self._keep(settlement)
        else:
            self._spool.forget(settlement.request_id)

    def replay(self) -> int:
        """Bring to the database what only the spool has; returns how many settlements are left."""
        for settlement in list(self._pending.values()):
            try:
                self._settle_late(settlement)
            except Exception as exc:  # noqa: BLE001 - refused or worse; the others must not wait for it
                if _is_away(exc):
                    break
                log.error("settlement refused request_id=%s reason=%s", settlement.request_id, exc)  # noqa: TRY400 - it says why
                continue
            del self._pending[settlement.request_id]
            self._spool.forget(settlement.request_id)
        if self._is_lossy:
            self._is_lossy = False
            for settlement in self._pending.values():
                self._keep(settlement)
        for request_id in list(self._unsure):
            try:
                self._books.release(request_id)
            except BooksUnavailable:
                break
            self._unsure.discard(request_id)
        return len(self._pending)

    def sweep(self) -> int:
        """Book the calls of dead workers and those past their deadline; returns how many.

        Raises:
            BooksUnavailable: try again later; what was booked stays booked.
        """
        swept = 0
        # Workers without files here are judged by the clock alone: they may live on another host.
        for owner in sorted(self._spool.owners()):
            try:
                swept += self._sweep_owner(owner)
            except BooksRefused as exc:  # its files stay; the others must not wait for it
                log.error("a settlement of %s was refused: %s", owner, exc)  # noqa: TRY400 - it says why
        for hold in self._books.overdue(clock.now_ms()):
            swept += bool(self._recover(hold, self._spool.peek(hold.owner)))
        if swept:
            log.warning("recovered %s calls whose worker died or that never ended", swept)
        return swept

    def add_tokens(self, user_id: int, tokens: int, *, actor: str, reason: str) -> None:
        """Count tokens for a user outside any call, with an entry in the ledger.

        Raises:
            BooksUnavailable: nothing was counted.
        """
        self._books.add_tokens(user_id, tokens, actor=actor, reason=reason)

    def _try(
        self, call: Call, demand: Demand, output: int, budgets: Sequence[BudgetRef], prices: Sequence[Price]
    ) -> bool:
        """Hold the call with that much output per choice; False = a budget refused."""
        bound = Bound(demand.input_tokens, output * demand.choices)
        takes = _takes(budgets, bound, prices)
        try:
            self._hold(call, takes, bound)
        except BudgetRefused:
            return False
        call.bound, call.takes = bound, takes
        call.max_output_tokens = output if takes and demand.output_tokens is None else None
        return True

    def _hold(self, call: Call, takes: tuple[Take, ...], bound: Bound) -> None:
        if self._is_lossy or len(self._pending) >= PENDING_MAX:
            raise AccountingUnavailable("usage cannot be recorded at the moment, so no calls are admitted")
        try:
            self._books.reserve(
                HoldRow(
                    request_id=call.id,
                    owner=self._spool.owner,
                    created_ms=call.started_ms,
                    deadline_ms=call.started_ms + round(self._hold_s * 1000),
                    takes=jsonx.dumps([take_record(take) for take in takes]).decode(),
                    call=jsonx.dumps(hold_note(call, bound.input_tokens)).decode(),
                ),
                takes,
            )
        except (BooksUnavailable, SpoolUnavailable) as exc:
            if isinstance(exc, BooksUnsure):
                self._unsure.add(call.id)
            log.error("call refused request_id=%s reason=%s", call.id, exc)  # noqa: TRY400 - the reason is enough
            raise AccountingUnavailable("usage cannot be recorded at the moment, so no calls are admitted") from exc

    def _standings(self, takes: Sequence[Take]) -> list[tuple[Take, Standing]]:
        """Where the budgets stand; one that was deleted meanwhile is left out."""
        try:
            found = [(take, self._books.standing(take)) for take in takes]
        except BooksUnavailable as exc:
            raise AccountingUnavailable("the budgets cannot be read at the moment") from exc
        return [(take, standing) for take, standing in found if standing is not None]

    def _next_output(
        self,
        call: Call,
        demand: Demand,
        standings: list[tuple[Take, Standing]],
        prices: Sequence[Price],
        *,
        is_last: bool,
    ) -> int:
        """The output per choice to try next.

        Raises:
            BudgetExceeded: nothing fits, or others took what would have fitted too often.
        """
        short = [(take, standing) for take, standing in standings if standing.left < take.amount]
        if is_last or (short and demand.output_tokens is not None):
            raise refusal(call, *min(short or standings, key=lambda pair: pair[1].left - pair[0].amount))
        if demand.output_tokens is not None:
            return demand.output_tokens
        fits = [_affordable(take.budget, standing.left, demand, prices) for take, standing in standings]
        if min(fits) < 1:
            raise refusal(call, *standings[fits.index(min(fits))])
        return min(*fits, demand.most_output_tokens)

    def _keep(self, settlement: Settlement) -> None:
        self._pending[settlement.request_id] = settlement
        try:
            self._spool.keep(settlement.request_id, settlement)
        except SpoolUnavailable as exc:
            self._is_lossy = True
            log.critical("no more calls are admitted: %s", exc)

    def _settle_late(self, settlement: Settlement) -> None:
        """Settle what was spooled; text that the database refuses goes, the figures stay."""
        try:
            self._books.settle(settlement)
        except BooksRefused:
            log.exception("settlement refused, trying without its texts request_id=%s", settlement.request_id)
            self._books.settle(replace(settlement, error=None, attempts=(), upstream_model=None))

    def _sweep_owner(self, owner: str) -> int:
        swept = 0
        with self._spool.adopt(owner) as notes:
            if notes is None:
                return 0
            refused = [request_id for request_id, record in notes.settlements.items() if not self._is_booked(record)]
            while holds := self._books.owned_by(owner):
                booked = [self._recover(hold, notes) for hold in holds]
                swept += sum(map(bool, booked))
                if None in booked:
                    raise BooksRefused("a call that it left cannot be booked")
            if refused:
                raise BooksRefused(f"what it kept of {', '.join(refused)} cannot be booked")
        return swept

    def _is_booked(self, record: dict[str, Any]) -> bool:
        """Settle what a dead worker kept; False = it cannot be, now or later."""
        try:
            self._settle_late(settlement_from(record))
        except Exception as exc:
            if _is_away(exc):
                raise
            # A record of another version, say; the others must not wait for it.
            log.error("settlement refused: %s: %s", type(exc).__name__, exc)  # noqa: TRY400 - it says why
            return False
        return True

    def _recover(self, hold: HoldRow, notes: Notes) -> bool | None:
        """Book a call whose worker died; False = it was booked before, None = it cannot be."""
        try:
            return self._books.settle(recovered(hold, notes))
        except Exception as exc:
            if _is_away(exc):
                raise
            log.error("hold refused request_id=%s reason=%s", hold.request_id, exc)  # noqa: TRY400 - it says why
            return None


def _is_away(exc: Exception) -> bool:
    """Whether the database takes nothing at all, rather than not this."""
    return isinstance(exc, BooksUnavailable) and not isinstance(exc, BooksRefused)


def refusal(call: Call, take: Take, standing: Standing) -> BudgetExceeded:
    """What a caller reads whose budget cannot take the call: which one, its numbers, when it resets."""
    budget, now_s = take.budget, clock.now_s()
    ends_s = periods.end_s(budget.period, budget.timezone, now_s)
    show = money.show_usd if budget.unit == "usd" else lambda tokens: f"{tokens:,} tokens"
    whose = f"user `{call.caller.username}`" if budget.scope == "user" else f"key `{call.caller.key_hint}`"
    kind = "token balance" if budget.is_prepaid else "budget"
    span = "" if ends_s is None else f" of this {budget.period}"
    resets = (
        "It does not reset."
        if ends_s is None
        else f"It resets at {datetime.fromtimestamp(ends_s, UTC):%Y-%m-%dT%H:%M:%SZ}."
    )
    message = (
        f"The {kind}{span} of {whose} cannot take this call: "
        f"limit {show(standing.limit)}, spent {show(standing.spent)}, "
        f"held by calls under way {show(standing.held)}, needed {show(take.amount)}. {resets}"
    )
    return BudgetExceeded(
        message,
        resets_in_s=None if ends_s is None else max(1, round(ends_s - now_s)),
        is_spent=standing.spent + take.amount > standing.limit,
    )


def _takes(budgets: Sequence[BudgetRef], bound: Bound, prices: Sequence[Price]) -> tuple[Take, ...]:
    """What the bound takes from each budget, at the dearest price; nothing is taken where nothing is due."""
    amounts = {"usd": pricing.ceiling_nanousd(bound, prices), "tokens": bound.input_tokens + bound.output_tokens}
    amounts = {unit: min(amount, MAX_AMOUNT) for unit, amount in amounts.items()}
    now_s = clock.now_s()
    return tuple(
        Take(budget, periods.start_s(budget.period, budget.timezone, now_s), amounts[budget.unit])
        for budget in budgets
        if amounts[budget.unit]
    )


def _affordable(budget: BudgetRef, left: int, demand: Demand, prices: Sequence[Price]) -> int:
    """The output per choice that still fits this budget; 0 or less = none."""
    if budget.unit == "tokens":
        return (left - demand.input_tokens) // demand.choices
    bound = Bound(demand.input_tokens, MAX_OUTPUT * demand.choices)
    return pricing.affordable_output(bound, prices, left) // demand.choices
