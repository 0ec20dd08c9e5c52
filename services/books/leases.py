"""Leases in the database, on Postgres: taken, kept, given back, and the batches of calls that were admitted by them.

A lease is a share of a window (what is spent and held of a budget in a period, or used of a limit) that a worker took
in advance. The window has it as held, or as used, all the while. So whatever becomes of the worker, nobody else can
take it twice, and the window can be told from the ledger, the open holds and the leases at any moment.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from services.bookings import Settlement
from services.books import lease_statements as sql
from services.books.base import Books, HoldRow, Transaction, entries_of, settle_without_hold, usage_values
from services.books.statements import USAGE_COLUMNS
from utils import jsonx

Window = tuple[str, int, int]  # its name, start and end; of a budget "b", its number and no end, else a limit's subject

CHUNK_HOLDS: Final = 512  # a lease is good for so many calls at most: a second or two of a very busy worker
KEEP: Final = 2**62  # as a target: the lease stays as it is
MAX_AMOUNT: Final = 2**62


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a worker would like to lease a share of: one hold's amount there, and a limit's own figures."""

    window: Window
    hold: int
    left_ppm: int = 0
    limit_amount: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """A worker's part in a window after a statement.

    `amount`: what was leased by it, or what the lease has after it. Then what counts as gone of the window, leases
    and all; and of a budget its ceiling, of a limit what was used in the period before.
    """

    amount: int
    gone: int
    other: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A call that ended, with its hold as it was noted when it was admitted."""

    hold: HoldRow
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls of one worker that are stored together.

    `opened` have not ended: they become holds like any other. `targets`: what the leases of the worker shall have
    after this; those that are not named stay as they are.
    """

    ended: Sequence[Ended] = ()
    opened: Sequence[HoldRow] = ()
    targets: Mapping[Window, int] = field(default_factory=dict)


class LeaseBooks:
    """See the module. All of it may be repeated: a request is booked once, a lease is set and not changed."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def lease(self, owner: str, wanted: Sequence[Wanted], *, for_ms: int) -> dict[Window, Share]:
        """Take shares for a worker where enough is left; an amount of 0 = too little is. No row yet, no share.

        Raises:
            BooksUnavailable: see Books.transact.
        """
        limits = sorted((one for one in wanted if not is_budget(one.window)), key=lambda one: one.window)
        budgets = [one for one in wanted if is_budget(one.window)]
        values = (
            [one.window[0] for one in limits],
            [one.window[1] for one in limits],
            *_amounts(limits),
            [one.left_ppm for one in limits],
            [one.limit_amount for one in limits],
            [number_of(one.window) for one in budgets],
            [one.window[1] for one in budgets],
            *_amounts(budgets),
            owner,
            for_ms,
            owner,
            for_ms,
        )
        return _shares(self._books.transact(lambda books: books.execute(sql.LEASE, values).fetchall()))

    def book(self, owner: str, batch: Batch) -> tuple[int, dict[Window, Share]]:
        """Store a batch of a worker's calls: how many were booked now, and the worker's part in each window.

        Raises:
            BooksUnavailable: see Books.transact.
        """
        return self._books.transact(lambda books: _book(books, owner, batch))

    def enter(self, settlements: Sequence[Settlement]) -> None:
        """Write usage rows of calls that were never held and move nothing; those that are there stay as they are.

        Raises:
            BooksUnavailable: see Books.transact; BooksRefused: a value cannot be, and no row was written.
        """
        self._books.transact(lambda books: books.execute(sql.USAGE_ALL, (_json(list(map(_row, settlements))),)))

    def renew(self, owner: str, *, for_ms: int) -> None:
        """Keep the leases of a worker for that long from now.

        Raises:
            BooksUnavailable: see Books.transact.
        """

        def renew(books: Transaction) -> None:
            books.execute(sql.RENEW_LIMITS, (for_ms, owner))
            books.execute(sql.RENEW_BUDGETS, (for_ms, owner))

        self._books.transact(renew)

    def release(self, owner: str) -> None:
        """Give back all leases of a worker that is dead, or has left.

        Raises:
            BooksUnavailable: see Books.transact.
        """

        def release(books: Transaction) -> None:
            windows = [(row[0], row[1], row[2]) for row in books.execute(sql.LEASES_OF, (owner, owner)).fetchall()]
            if windows:
                _move(books, owner, _Changes(), dict.fromkeys(windows, 0))

        self._books.transact(release)

    def owners(self) -> dict[str, bool]:
        """Every worker with leases, and whether their time is over by the database's clock.

        Raises:
            BooksUnavailable: see Books.read.
        """
        return {owner: bool(is_over) for owner, is_over in self._books.read(sql.OWNERS)}


def is_budget(window: Window) -> bool:
    """Whether the window is of a budget; else it is of a limit."""
    return window[0].startswith("b")


def budget_window(budget_id: int, period_start: int) -> Window:
    """The window of a budget in a period."""
    return f"b{budget_id}", period_start, 0


def number_of(window: Window) -> int:
    """The number of the budget whose window it is."""
    return int(window[0][1:])


def used_by(hold: HoldRow, settlement: Settlement) -> dict[Window, int]:
    """What an ended call uses of each of its windows for good: money, tokens, a request; of calls at once nothing."""
    used = {budget_window(b.budget_id, b.period_start): b.booked for b in settlement.bookings}
    here = [change for change in settlement.recounts if not change.is_remote]
    changes = {(change.subject, change.start, change.end): change.change for change in here}
    for window, amount in _limits_of(hold.counts):
        used[window] = amount + changes.get(window, 0)
    return used


def without(hold: HoldRow, windows: Container[Window]) -> HoldRow:
    """The hold with what it has of all other windows; what is counted in Redis stays with it."""
    takes = [take for take in jsonx.loads(hold.takes) if budget_window(take[0], take[1]) not in windows]
    counts = [
        count for count in jsonx.loads(hold.counts) if any(count[5:]) or (count[0], count[2], count[3]) not in windows
    ]
    return replace(hold, takes=jsonx.dumps(takes).decode(), counts=jsonx.dumps(counts).decode())


@dataclass(slots=True)
class _Changes:
    """What a batch does to each window apart from its leases, and to each user."""

    change: Counter[Window] = field(default_factory=Counter)  # of what is held of a budget, or used of a limit
    back: Counter[Window] = field(default_factory=Counter)  # what stored holds give back
    spent: Counter[Window] = field(default_factory=Counter)
    users: dict[int, tuple[int, int]] = field(default_factory=lambda: defaultdict(lambda: (0, 0)))
    entries: list[dict[str, Any]] = field(default_factory=list)

    def unhold(self, takes: str, counts: str) -> None:
        """A stored hold is gone."""
        for window, amount in (*_budgets_of(takes), *_limits_of(counts)):
            self.change[window] -= amount
            self.back[window] += amount

    def hold(self, hold: HoldRow) -> None:
        """A hold was stored."""
        for window, amount in (*_budgets_of(hold.takes), *_limits_of(hold.counts)):
            self.change[window] += amount

    def charge(self, ended: Ended) -> None:
        """A call was booked."""
        settlement = ended.settlement
        for window, used in used_by(ended.hold, settlement).items():
            (self.spent if is_budget(window) else self.change)[window] += used
        for account, account_id, period_start, nanousd, tokens in entries_of(settlement):
            self.entries.append(
                {
                    "created_at": settlement.created_ms,
                    "kind": "charge",
                    "account": account,
                    "account_id": account_id,
                    "period_start": period_start,
                    "amount_nanousd": nanousd,
                    "amount_tokens": tokens,
                    "request_id": settlement.request_id,
                    "actor": "gateway",
                }
            )
            if account == "user":
                before = self.users[account_id]
                self.users[account_id] = (before[0] + tokens, before[1] + nanousd)


def _book(books: Transaction, owner: str, batch: Batch) -> tuple[int, dict[Window, Share]]:
    """What is contended comes last, so that it is locked for the shortest time."""
    changes = _Changes()
    ids = [one.settlement.request_id for one in batch.ended] + [hold.request_id for hold in batch.opened]
    if ids:
        for takes, counts in books.execute(sql.UNHOLD_ALL, (ids,)).fetchall():
            changes.unhold(takes, counts)
    if batch.opened:
        books.execute(sql.HOLD_ALL, (_json([_hold_record(hold) for hold in batch.opened]),))
        for hold in batch.opened:
            changes.hold(hold)
    late = _charge(books, batch.ended, changes)
    shares = _move(books, owner, changes, batch.targets)
    if changes.users:
        users = sorted((user, *amounts) for user, amounts in changes.users.items())
        books.execute(sql.COUNT_ALL, tuple(list(column) for column in zip(*users, strict=True)))
    return len(batch.ended) - len(late) + sum(settle_without_hold(books, one) for one in late), shares


def _charge(books: Transaction, ended: Sequence[Ended], changes: _Changes) -> list[Settlement]:
    """Write usage rows and ledger; returns those that have a row already, by a guess perhaps."""
    if not ended:
        return []
    rows = [_row(one.settlement) for one in ended]
    booked = {row[0] for row in books.execute(sql.USAGE_ALL, (_json(rows),)).fetchall()}
    for one in ended:
        if one.settlement.request_id in booked:
            changes.charge(one)
    if changes.entries:
        books.execute(sql.ENTRY_ALL, (_json(changes.entries),))
    return [one.settlement for one in ended if one.settlement.request_id not in booked]


def _move(books: Transaction, owner: str, changes: _Changes, targets: Mapping[Window, int]) -> dict[Window, Share]:
    windows = sorted({*targets, *changes.change, *changes.spent})
    if not windows:
        return {}
    limits = [window for window in windows if not is_budget(window)]
    budgets = [window for window in windows if is_budget(window)]

    def columns(chosen: Sequence[Window]) -> list[list[int]]:
        return [
            [targets.get(window, KEEP) for window in chosen],
            [changes.back[window] if window in targets else 0 for window in chosen],
            [changes.change[window] for window in chosen],
        ]

    values = (
        *([window[column] for window in limits] for column in range(3)),
        *columns(limits),
        owner,
        owner,
        [number_of(window) for window in budgets],
        [window[1] for window in budgets],
        *columns(budgets),
        [changes.spent[window] for window in budgets],
        owner,
        owner,
    )
    shares = _shares(books.execute(sql.MOVE_ALL, values).fetchall())
    if 0 in targets.values():
        books.execute(sql.DROP_LIMITS, (owner,))
        books.execute(sql.DROP_BUDGETS, (owner,))
    return shares


def _shares(rows: Iterable[Sequence[Any]]) -> dict[Window, Share]:
    return {(row[0], row[1], row[2]): Share(int(row[3]), int(row[4]), int(row[5])) for row in rows}


def _amounts(wanted: Sequence[Wanted]) -> tuple[list[int], list[int]]:
    """What one call needs, and the most that is leased."""
    return [one.hold for one in wanted], [min(one.hold * CHUNK_HOLDS, MAX_AMOUNT) for one in wanted]


def _hold_record(hold: HoldRow) -> dict[str, Any]:
    record = asdict(hold)
    record["created_at"], record["deadline_at"] = record.pop("created_ms"), record.pop("deadline_ms")
    return record | {"budgets_wanted": 0, "budgets_taken": 0}


def _budgets_of(takes: str) -> list[tuple[Window, int]]:
    return [(budget_window(budget_id, start), amount) for budget_id, start, amount, *_ in jsonx.loads(takes)]


def _limits_of(counts: str) -> list[tuple[Window, int]]:
    """Those in the database; what is counted in Redis is no window of ours."""
    found = []
    for subject, _unit, start, end, amount, *remote in jsonx.loads(counts):
        if not any(remote):
            found.append(((subject, start, end), amount))
    return found


def _row(settlement: Settlement) -> dict[str, Any]:
    return dict(zip(USAGE_COLUMNS, usage_values(settlement), strict=True))


def _json(records: Sequence[Mapping[str, Any]]) -> str:
    return jsonx.dumps(records).decode()
