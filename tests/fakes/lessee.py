"""A worker without a server: books, spool, leases and accounting of its own, on a database that others share.

As a program (`python -m tests.fakes.lessee DATABASE FOLDER …`) it holds and books calls until it is killed or, given
`--until-refused`, until nothing more is admitted. It prints the id of each call once that is booked as far as its
caller can know.
"""

import argparse
import os
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from services import budgets, limits
from services.accounting import Accounting
from services.bookings import Settlement
from services.books.postgres import PostgresBooks
from services.errors import GatewayError
from services.leases import Leases
from services.settlement import sent_note, settlement_of
from services.spool import Spool
from services.token_counter import estimate
from services.types import Attempt, BudgetRef, Call, Caller, Demand, LimitRef, Usage
from tests.calls import DEPLOYMENT, make_call
from tests.conftest import IS_POOLED
from utils import clock, ids

USER, NAME = 1, "api-tokens"  # whose calls they are
DEMAND = Demand(10, 1, 20, 4096)
HOLD_TOKENS = 30
HOLD_USD = (10 * 150_000_000 + 20 * 600_000_000) // 10**6
COST = (10 * 150_000_000 + 5 * 600_000_000) // 10**6  # of a call that uses 10 and 5 tokens


class Lessee:
    """See the module. `is_quiet`: it has no thread; the test stores what happened by `leases.flush` or `tick`."""

    def __init__(
        self,
        engine: sa.Engine,
        folder: Path,
        *,
        calls_per_s: float = 0.001,
        is_quiet: bool = True,
        budgets_: tuple[BudgetRef, ...] = (),
        limits_: tuple[LimitRef, ...] = (),
    ) -> None:
        self.books = PostgresBooks.of_engine(
            engine, pool_size=4, statement_timeout_s=10, lock_timeout_s=5, is_pooled=IS_POOLED
        )
        self.spool = Spool(folder)
        self.leases = Leases(self.books, self.spool, calls_per_s=calls_per_s, longest_s=60)
        self.accounting = Accounting(self.books, self.spool, hold_s=60, leases=self.leases)
        self.budgets, self.limits = budgets_, limits_
        if is_quiet:
            self.leases._pid = os.getpid()

    def call(self, **fields: Any) -> Call:
        """A call that nobody has admitted yet."""
        caller = Caller(USER, NAME, "user", None, None, budgets=self.budgets)
        defaults: dict[str, Any] = {
            "id": ids.request_id(),
            "caller": caller,
            "started_ms": clock.now_ms(),
            "started_s": clock.monotonic_s(),
            "body_bytes": 40,
            "limits": self.limits,
        }
        return make_call(**(defaults | fields))

    def admit(self, count: int = 1, demand: Demand = DEMAND, **fields: Any) -> list[Call]:
        """So many calls, admitted."""
        calls = [self.call(**fields) for _ in range(count)]
        for one in calls:
            self.accounting.reserve(one, demand)
        return calls

    def end(self, calls: list[Call], usage: Usage | None = None) -> None:
        """They were answered."""
        for one in calls:
            self.accounting.settle(ended(one, usage))

    def do(self, count: int = 1) -> None:
        """Calls from beginning to end, one after the other."""
        for _ in range(count):
            self.end(self.admit())

    def send(self, one: Call) -> None:
        """The call goes out to an upstream."""
        self.spool.sent(one.id, sent_note(Attempt(DEPLOYMENT)))

    def die(self) -> None:
        """What the operating system does for the dead."""
        assert self.spool.owner
        os.close(self.spool._life)
        os.close(self.spool._file)
        self.spool._pid = 0
        self.leases._pid = 0
        self.leases._stopped.set()
        self.books.close()

    def close(self) -> None:
        """It leaves as it should."""
        self.accounting.close()
        self.spool.close()
        self.books.close()


def ended(one: Call, usage: Usage | None = None) -> Settlement:
    """What is booked for a call that was answered, by default with 10 and 5 tokens."""
    one.attempts.append(Attempt(DEPLOYMENT))
    one.usage, one.outcome, one.is_answered = usage or Usage(10, 5), "ok", True
    return settlement_of(one, estimate)


def refs(engine: sa.Engine) -> tuple[tuple[BudgetRef, ...], tuple[LimitRef, ...]]:
    """Every budget and limit of the calls' user."""
    with sa.orm.Session(engine) as session:
        return budgets.refs(session, [("user", USER)]), limits.refs(session, [("user", USER)])


Ask = Callable[[str], list[tuple[Any, ...]]]  # the rows of a query


def windows(ask: Ask) -> list[tuple[Any, ...]]:
    """(spent, held) of every budget's window."""
    return ask("SELECT spent_amount, held_amount FROM budget_windows ORDER BY budget_id, period_start")


def counters(ask: Ask) -> list[tuple[Any, ...]]:
    """(used,) of every limit's."""
    return ask("SELECT used_amount FROM limit_windows ORDER BY subject")


def leased(ask: Ask) -> list[int]:
    """The amounts of the leases of budgets."""
    return [amount for (amount,) in ask("SELECT amount FROM leases ORDER BY budget_id")]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--calls-per-s", type=float, default=5.0)
    parser.add_argument("--until-refused", type=float, metavar="SECONDS", help="… for so long")
    options = parser.parse_args()
    engine = sa.create_engine(options.database)
    found = refs(engine)
    worker = Lessee(
        engine, options.folder, calls_per_s=options.calls_per_s, is_quiet=False, budgets_=found[0], limits_=found[1]
    )
    threads = [threading.Thread(target=_work, args=(worker, options.until_refused)) for _ in range(options.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.close()


def _work(worker: Lessee, until_refused_s: float | None) -> None:
    last_s = clock.monotonic_s()
    while until_refused_s is None or clock.monotonic_s() < last_s + until_refused_s:
        one = worker.call()
        try:
            worker.accounting.reserve(one, DEMAND)
        except GatewayError:
            clock.sleep(0.02)
            continue
        worker.send(one)
        if random.random() < 0.1:
            clock.sleep(random.random() * 0.5)  # so that some are stored while they last
        worker.accounting.settle(ended(one))
        os.write(sys.stdout.fileno(), f"{one.id}\n".encode())
        last_s = clock.monotonic_s()


if __name__ == "__main__":
    main()
