"""What both databases do in the same steps: reserve, settle, release, correct.

The guard stands in the statement that takes the money, so no two calls can both see the last dollar.
Budgets are always taken in id order, all or nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from services.bookings import Recount, Settlement
from services.books import statements as sql
from services.pricing import rates_at, tokens_of
from services.types import Count, Take, Usage, WindowState
from utils import clock, jsonx

T = TypeVar("T")

RECOVERED: Final = "recovered"  # outcome of a call whose worker died; a later report of that worker corrects it


class BooksUnavailable(Exception):
    """The database did not take the transaction."""


class BooksUnsure(BooksUnavailable):
    """The connection broke during the transaction: it may be stored or not."""


class BooksRefused(BooksUnavailable):
    """The database will not take these values, now or later."""


def is_away(exc: Exception) -> bool:
    """Whether it says that the database takes nothing at all, rather than not this."""
    return isinstance(exc, BooksUnavailable) and not isinstance(exc, BooksRefused)


class HoldRefused(Exception):
    """One budget or limit has no room for its amount; the transaction is undone."""


@dataclass(frozen=True, slots=True)
class HoldRow:
    """An admitted call as stored; `takes` and `counts` are JSON, see models_books.py."""

    request_id: str
    owner: str
    created_ms: int
    deadline_ms: int
    takes: str
    counts: str
    call: str  # JSON, made and read by services/settlement.py


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget in one period, as of now."""

    limit: int
    spent: int
    held: int

    @property
    def left(self) -> int:
        """What a new call may still take; negative after an overrun or a lowered limit."""
        return self.limit - self.spent - self.held


@dataclass(frozen=True, slots=True)
class Held:
    """What an admission found.

    Of each limit, by its subject: what is used in this period and in the one before. Of each budget, by its number:
    what is gone, and its ceiling.
    """

    counters: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    budgets: Mapping[int, tuple[int, int]] = field(default_factory=dict)


class Transaction(Protocol):
    """Statements that stand or fall together."""

    def execute(self, statement: str, values: Sequence[Any]) -> Any:
        """Run one statement; returns the driver's cursor."""
        ...


class Books:
    """Reserve and settle. Subclasses say how a transaction is run, and may shorten the way."""

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Do the work in a write transaction: stored when it returns, undone when it raises.

        The work may be done twice, so it must have no effect outside the transaction.

        Raises:
            HoldRefused: raised by the work, which has undone its own statements.
            BooksUnavailable: locked, full, gone or too slow.
        """
        raise NotImplementedError  # each database has its own

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of one SELECT.

        Raises:
            BooksUnavailable: the database does not answer.
        """
        raise NotImplementedError  # each database has its own

    def close(self) -> None:
        """Give every connection back."""
        raise NotImplementedError  # each database has its own

    def reserve(self, hold: HoldRow, takes: Sequence[Take], counts: Sequence[Count] = ()) -> Held:
        """Count the call against every limit, take the amounts from every budget and store the hold, or do nothing.

        Raises:
            HoldRefused: a limit has no room; a budget is too small, or gone.
            BooksUnavailable: see `transact`.
        """
        return self.transact(lambda books: _reserve(books, hold, takes, counts))

    def count(self, counts: Sequence[Count]) -> Held:
        """Count a request that costs nothing and is not held, or do nothing.

        Raises:
            HoldRefused: a limit has no room.
            BooksUnavailable: see `transact`.
        """
        return self.transact(lambda books: Held(_count(books, counts)))

    def settle(self, settlement: Settlement) -> bool:
        """Book a call once: held becomes spent, usage row and ledger are written. False = it was booked before.

        Raises:
            BooksUnavailable: see `transact`.
        """
        return self.transact(lambda books: _settle(books, settlement))

    def enter(self, settlement: Settlement) -> None:
        """Write the usage row of a call that was never held and moves nothing.

        Raises:
            BooksUnavailable: see `transact`; BooksRefused: it was written before.
        """
        self.transact(lambda books: books.execute(sql.USAGE, usage_values(settlement)))

    def release(self, request_id: str) -> None:
        """Give back a hold whose call was never admitted; without such a hold nothing happens.

        Raises:
            BooksUnavailable: see `transact`.
        """
        self.transact(lambda books: _release(books, request_id))

    def add_tokens(self, user_id: int, tokens: int, *, actor: str, reason: str) -> None:
        """Count tokens for a user outside any call, with an entry in the ledger.

        Raises:
            BooksUnavailable: see `transact`.
        """

        def add(books: Transaction) -> None:
            books.execute(sql.ADD_TOKENS, (clock.now_ms(), user_id, tokens, actor, reason))
            books.execute(sql.COUNT, (tokens, 0, user_id))

        self.transact(add)

    def standing(self, take: Take) -> Standing | None:
        """Where the budget of a take stands in its period; None = it was deleted.

        Raises:
            BooksUnavailable: see `read`.
        """
        rows = self.read(sql.STANDING, (take.period_start, take.budget.id))
        return Standing(*rows[0]) if rows else None

    def window(self, subject: str) -> WindowState:
        """The counter of a limit as stored; all zeros where nothing was counted yet.

        Raises:
            BooksUnavailable: see `read`.
        """
        rows = self.read(sql.WINDOW, (subject,))
        return WindowState(*rows[0]) if rows else WindowState()

    def rewind(self, count: Count) -> None:
        """Take back a counter that a clock wrote which had run ahead by more than a period.

        Raises:
            BooksUnavailable: see `transact`.
        """
        values = (count.start, count.end, count.limit.subject, count.end)
        self.transact(lambda books: books.execute(sql.REWIND, values))

    def forget_windows(self, before_s: int) -> None:
        """Remove counters of limits whose period ended before that moment.

        Raises:
            BooksUnavailable: see `transact`.
        """
        self.transact(lambda books: books.execute(sql.FORGET_WINDOWS, (before_s,)))

    def overdue(self, now_ms: int) -> list[HoldRow]:
        """Holds past their deadline, at most 500."""
        return [HoldRow(*row) for row in self.read(sql.OVERDUE, (now_ms,))]

    def owned_by(self, owner: str) -> list[HoldRow]:
        """Open holds of one worker, at most 500."""
        return [HoldRow(*row) for row in self.read(sql.OWNED, (owner,))]


Entry = tuple[str, int, int, int, int]  # account, account id, period start, nano-USD, tokens


def usage_values(s: Settlement) -> tuple[Any, ...]:
    """The values of sql.USAGE, in the order of its columns."""
    usage, price = s.usage, s.price
    rates = price and rates_at(price, usage.input_tokens or 0)
    return (
        s.request_id,
        s.created_ms,
        s.user_id,
        s.key_id,
        s.team_id,
        s.model,
        s.provider,
        s.upstream_model,
        s.operation,
        s.is_stream,
        s.status,
        s.outcome,
        s.state,
        s.is_overrun,
        *_counted(usage),
        s.cost_nanousd,
        rates and rates.input_rate,
        rates and rates.output_rate,
        rates and rates.cache_read_rate,
        rates and rates.cache_creation_rate,
        price and price.source,
        jsonx.dumps(s.charge_lines).decode() if s.charge_lines else None,
        s.first_byte_ms,
        s.duration_ms,
        jsonx.dumps(s.attempts).decode() if s.attempts else None,
        s.error,
        s.custom_id,
        s.client_metadata,
        *s.marks.values,
        jsonx.dumps(s.trace).decode() if s.trace else None,
    )


def _counted(usage: Usage) -> tuple[int | None, ...]:
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
        usage.cache_creation_1h_input_tokens,
        usage.reasoning_output_tokens,
        usage.input_audio_tokens,
        usage.output_audio_tokens,
        usage.images,
    )


def stored(recounts: Sequence[Recount]) -> list[Recount]:
    """The changes of counters that are in the database, in the order in which their rows are locked."""
    return sorted((change for change in recounts if not change.is_remote), key=lambda change: change.subject)


def entries_of(s: Settlement) -> list[Entry]:
    """The movements of a charge. A zero moves nothing and leaves no row."""
    entries = [("user", s.user_id, 0, s.cost_nanousd, tokens_of(s.usage))]
    for b in s.bookings:
        nanousd, tokens = (b.booked, 0) if b.unit == "usd" else (0, b.booked)
        entries.append(("budget", b.budget_id, b.period_start, nanousd, tokens))
    return [entry for entry in entries if entry[3] or entry[4]]


def _reserve(books: Transaction, hold: HoldRow, takes: Sequence[Take], counts: Sequence[Count]) -> Held:
    counters = _count(books, counts)
    budgets = {}
    for index, take in enumerate(takes):
        rows = books.execute(sql.TAKE, (take.period_start, take.amount, take.budget.id, take.amount)).fetchall()
        if not rows:
            for taken in takes[:index]:
                books.execute(sql.MOVE, (taken.amount, 0, taken.budget.id, taken.period_start))
            _uncount(books, counts)
            raise HoldRefused
        budgets[take.budget.id] = rows[0]
    wanted = len(takes) + len(counts)
    values = (hold.request_id, hold.owner, hold.created_ms, hold.deadline_ms, wanted, wanted)
    books.execute(sql.HOLD, (*values, hold.takes, hold.counts, hold.call))
    return Held(counters, budgets)


def _count(books: Transaction, counts: Sequence[Count]) -> dict[str, tuple[int, int]]:
    counters = {}
    for index, count in enumerate(counts):
        limit, amount = count.limit, count.amount
        values = (limit.subject, count.start, count.end, amount, amount, limit.amount, count.left_ppm, limit.amount)
        rows = books.execute(sql.COUNT_CALL, values).fetchall()
        if not rows:
            _uncount(books, counts[:index])
            raise HoldRefused
        counters[limit.subject] = rows[0]
    return counters


def _uncount(books: Transaction, counts: Sequence[Count]) -> None:
    for count in counts:
        _recount(books, Recount(count.limit.subject, count.limit.unit, count.start, count.end, -count.amount))


def _recount(books: Transaction, change: Recount) -> None:
    values = (change.start, change.change, change.change, change.end, change.change, change.change, change.subject)
    books.execute(sql.RECOUNT, values)


def _settle(books: Transaction, settlement: Settlement) -> bool:
    if not books.execute(sql.UNHOLD, (settlement.request_id,)).fetchall():
        return settle_without_hold(books, settlement)
    for change in stored(settlement.recounts):
        _recount(books, change)
    for booking in settlement.bookings:
        books.execute(sql.MOVE, (booking.held, booking.booked, booking.budget_id, booking.period_start))
    books.execute(sql.USAGE, usage_values(settlement))
    _enter(books, settlement, "charge", entries_of(settlement))
    return True


def _release(books: Transaction, request_id: str) -> None:
    for takes, counts in books.execute(sql.UNHOLD, (request_id,)).fetchall():
        for subject, unit, start, end, amount, *remote in jsonx.loads(counts):
            if not any(remote):
                _recount(books, Recount(subject, unit, start, end, -amount))
        for budget_id, period_start, amount, *_ in jsonx.loads(takes):
            books.execute(sql.MOVE, (amount, 0, budget_id, period_start))


def _enter(books: Transaction, s: Settlement, kind: str, entries: list[Entry]) -> None:
    for account, account_id, period_start, nanousd, tokens in entries:
        values = (s.created_ms, kind, account, account_id, period_start, nanousd, tokens, s.request_id)
        books.execute(sql.ENTRY, values)
        if account == "user":
            books.execute(sql.COUNT, (tokens, nanousd, account_id))


def settle_without_hold(books: Transaction, s: Settlement) -> bool:
    """The hold is gone: settled before, settled by guess after its worker died, or lost with a power cut."""
    rows = books.execute(sql.BOOKED, (s.request_id,)).fetchall()
    if not rows:
        books.execute(sql.USAGE, usage_values(s))
        _spend(books, [(b.budget_id, b.period_start, b.booked) for b in s.bookings])
        _enter(books, s, "charge", entries_of(s))
        return True
    outcome, cost, used = rows[0]
    if outcome != RECOVERED or s.outcome == RECOVERED:
        return False
    before = {("user", s.user_id, 0): (cost, used)}
    for budget_id, period_start, nanousd, tokens in books.execute(sql.ENTRIES, (s.request_id,)).fetchall():
        before["budget", budget_id, period_start] = (int(nanousd), int(tokens))
    after = {entry[:3]: entry[3:] for entry in entries_of(s)}
    changes = []
    for account in sorted(before.keys() | after.keys()):
        was, now = before.get(account, (0, 0)), after.get(account, (0, 0))
        changes.append((*account, now[0] - was[0], now[1] - was[1]))
    _spend(books, [(entry[1], entry[2], entry[3] + entry[4]) for entry in changes if entry[0] == "budget"])
    books.execute(sql.REWRITE, (*usage_values(s)[1:], s.request_id))
    _enter(books, s, "correction", [entry for entry in changes if entry[3] or entry[4]])
    return True


def _spend(books: Transaction, amounts: list[tuple[int, int, int]]) -> None:
    for budget_id, period_start, amount in sorted(amounts):
        if amount > 0:
            books.execute(sql.SPEND, (budget_id, period_start, amount))
        elif amount < 0:  # an INSERT of a negative amount would fail its check before the conflict is seen
            books.execute(sql.MOVE, (0, amount, budget_id, period_start))
