"""Anything in any order: calls are held, settled, given up and recovered, ceilings rise and fall, the clock goes on.

After every step the books are what a plain model says (books_model.py), on SQLite and on Postgres:
spent is the sum of charges, held the sum of open holds, nothing is admitted beyond a limit and everything that fits
is, each settled call has one row with the price of its moment, and in the end every hold has ended.
"""

import os
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy.orm import Session

from models import ApiKey, Budget, Limit, User
from services import balances, budgets, counting, ledger, limits
from services.audit import Actor
from services.errors import BudgetExceeded, InvalidRequest, RateLimited
from services.keys import caller_of
from services.settlement import sent_note, settlement_of
from services.types import Attempt, Demand, Deployment, LimitRef, Price, PublicModel, Usage
from tests.calls import UPSTREAM, make_call
from tests.races.books_model import DAY, Ceiling, Model, Rates, Taken
from tests.races.conftest import SOAK
from tests.races.world import HOLD_S, PERIODS, RATES, Seen, Worker, World, some
from utils import clock

STEPS = 10_000 if SOAK else 200
EACH = 50 if SOAK else 25  # steps from one beginning
BEGIN = int(datetime(2026, 9, 29, 23, 58, tzinfo=UTC).timestamp())  # shortly before a month ends
ME = Actor("tests")
tokens = st.tuples(st.integers(1, 300), st.integers(1, 300))
which = st.integers(0, 99)


class Machine(RuleBasedStateMachine):
    """The world of world.py, step by step beside the model."""

    gateway = None  # of the test
    now = BEGIN

    def __init__(self):
        super().__init__()
        self.set_clock(BEGIN)
        self.model, self.serial = Model(BEGIN), 0
        self.engine, self.name = self.gateway.engine, f"u{os.urandom(6).hex()}"
        with Session(self.engine) as session, session.begin():
            self.world = World(session, self.name, self.model)
        self.workers = [Worker(self.gateway), Worker(self.gateway)]
        self.calls, self.dead, self.balance = {}, [], None  # calls as the product knows them; workers not swept yet
        type(self).steps -= 1  # what is checked before the first one is none

    # Calls

    def reserve(self, key, asked, other, worker, most, dearer):
        """A call to a model, perhaps with another one to fall back to, at the prices of the moment."""
        prices = [Rates(one.input + dearer * (not one.is_free), one.output) for one in RATES]
        numbers = dict.fromkeys([asked % 3, other % 3 if other % 2 else asked % 3])
        wanted = [(self.world.models[number], prices[number]) for number in numbers]
        mine = {"key": self.world.keys[key], "model": wanted[0][0]}
        counted = self.model.counted(
            most, [one for one in self.model.counters if mine.get(one.scope, one.owner) == one.owner]
        )
        found, takes = self.model.admission(
            most, wanted, counted, lambda one: one.scope != "key" or one.owner == self.world.keys[key]
        )
        call, serving = self.call(self.world.keys[key], wanted, most), self.workers[worker % 2]
        demand = Demand(most[0], 1, most[1], 4096)
        if error := {"limit": RateLimited, "budget": BudgetExceeded}.get(str(found)):
            self.done["refused"] += 1
            self.done[f"refused by a {found}"] += 1
            with pytest.raises(error):
                serving.accounting.reserve(call, demand)
            return
        serving.accounting.reserve(call, demand)
        assert [one.model_id for one in call.candidates] == [model for model, _rates in found]
        self.done["admitted"] += 1
        self.model.admit(Taken(call.id, most, found, takes, counted, self.model.now + HOLD_S, serving))
        self.calls[call.id] = call
        for budget, start, _amount in takes:
            assert self.model.gone(budget, start) <= budget.limit

    # Some runs leave some rules out; of several names for this one, hardly all.
    asks = rule(key=st.booleans(), asked=which, other=which, worker=which, most=tokens, dearer=st.integers(0, 3))
    one_calls, another_calls, somebody_calls, anybody_calls = asks(reserve), asks(reserve), asks(reserve), asks(reserve)

    def call(self, key, wanted, most):
        """The product's side of a call."""
        self.serial += 1
        with Session(self.engine) as session:
            caller = caller_of(session, session.get_one(User, self.world.user), session.get_one(ApiKey, key))
            own = budgets.refs(session, [("model", model) for model, _rates in wanted])
            of_model = limits.refs(session, [("model", wanted[0][0])])
        deployments = tuple(
            Deployment(model, UPSTREAM, f"up{model}", 1, 1, Price(one.input, one.output, is_free=one.is_free), model)
            for model, one in wanted
        )
        return make_call(
            id=f"req_{self.name}_{self.serial}",
            caller=caller,
            started_ms=self.model.now * 1000,
            body_bytes=4 * most[0],
            model=PublicModel("m", "tests", 0, deployments, id=wanted[0][0]),
            candidates=deployments,
            model_budgets=own,
            limits=(*caller.limits, *of_model),
        )

    @precondition(lambda self: self.living(is_sent=False))
    @rule(number=which, last=st.booleans())
    def send(self, number, last):
        """The call goes out to its first or last candidate."""
        self.go_out(pick(self.living(is_sent=False), number), -1 if last else 0)

    def go_out(self, taken, place):
        attempt = Attempt(self.calls[taken.id].candidates[place])
        taken.sent = taken.candidates[place]
        self.calls[taken.id].attempts.append(attempt)
        taken.worker.spool.sent(taken.id, sent_note(attempt))

    @precondition(lambda self: self.living(is_sent=True))
    @rule(number=which, words=st.integers(1, 300))
    def stream(self, number, words):
        """So much has been delivered."""
        taken = pick(self.living(is_sent=True), number)
        taken.progress = words
        taken.worker.spool.progress(taken.id, words)

    def settle(self, number, used, how):
        """The call ends: with less than was held, exactly that, anything (also more), or nothing at all."""
        taken = pick(self.living(), number)
        if not taken.sent and how != "void":
            self.go_out(taken, 0)
        used = {"less": tuple(map(min, used, taken.tokens)), "exact": taken.tokens}.get(how, used)
        settlement, found, outcome = self.ended(taken, None if how == "void" else used)
        taken.worker.books.is_away = how == "spooled"
        taken.worker.accounting.settle(settlement)
        taken.worker.books.is_away = False
        self.done["overrun"] += settlement.is_overrun
        if how == "spooled":
            taken.kept = (found, outcome)
        else:
            self.model.settle(taken, found, outcome)

    ends = rule(number=which, used=tokens, how=st.sampled_from(["less", "exact", "any", "void", "spooled"]))
    some_live = precondition(lambda self: self.living())
    one_ends, another_ends = some_live(ends(settle)), some_live(ends(settle))

    @precondition(lambda self: self.living(is_sent=False))
    @rule(number=which)
    def release(self, number):
        """The hold was stored, but its call was refused."""
        taken = pick(self.living(is_sent=False), number)
        self.gateway.books.release(taken.id)
        self.gateway.books.release(taken.id)
        for worker in self.workers:  # others go on refusing for up to a second, which is long over
            worker.accounting.admission.forget()
        self.model.release(taken)

    @precondition(lambda self: self.model.booked)
    @rule(number=which, used=tokens)
    def report_late(self, number, used):
        """A worker that was taken for dead reports after all; or one reports twice."""
        taken = pick(self.model.booked.values(), number)
        settlement, found, outcome = self.ended(taken, used)
        is_news = taken.outcome == "recovered"
        assert self.gateway.books.settle(settlement) is is_news
        self.done["corrected"] += is_news
        self.model.correct(taken, found, outcome)

    def ended(self, taken, used):
        """What is booked for a call that ended so: settlement, tokens (None: nobody took it), outcome."""
        call = self.calls[taken.id]
        is_answered = taken.sent is not None and used is not None
        call.usage, call.is_answered = (Usage(*used) if is_answered else None), is_answered
        call.outcome = "ok" if is_answered else "upstream_error"
        return settlement_of(call, None), used if is_answered else None, call.outcome

    # Workers and time

    @rule(number=which)
    def die(self, number):
        """A worker is killed; another one takes its place."""
        self.workers[number % 2].die()
        self.dead.append(self.workers[number % 2])
        self.workers[number % 2] = Worker(self.gateway)

    @rule(number=which)
    def replay(self, number):
        """What waits in a worker's spool comes to the database."""
        worker = self.workers[number % 2]
        assert worker.accounting.replay() == 0
        for taken in [*self.model.open.values(), *self.model.booked.values()]:
            if taken.kept and taken.worker is worker:
                self.model.replay(taken)

    @rule()
    def sweep(self):
        """Somebody books what dead workers left, and what has been open for too long."""
        self.gateway.accounting.sweep()
        for worker in self.dead:
            mine = [one for one in (*self.model.open.values(), *self.model.booked.values()) if one.worker is worker]
            for taken in mine:
                if taken.kept:
                    self.model.replay(taken)
                elif taken.id in self.model.open:
                    self.recover(taken)
        self.dead.clear()
        for taken in [one for one in self.model.open.values() if one.deadline < self.model.now]:
            self.recover(taken)

    def recover(self, taken):
        self.done["recovered"] += 1
        self.model.recover(taken)

    @rule(seconds=st.sampled_from([1, 3, 20, 61, 130, HOLD_S + 1, DAY]))
    def wait(self, seconds):
        """The clock goes on."""
        self.model.now += seconds
        self.set_clock(self.model.now)

    @classmethod
    def set_clock(cls, now):
        cls.now = now

    # Ceilings

    @rule(number=which, amount=st.integers(0, 4_000_000))
    def set_budget(self, number, amount):
        """A budget is raised, or lowered, also below what is spent."""
        budget = pick([one for one in self.model.budgets if not one.is_prepaid], number)
        budget.limit = amount // 400 if budget.unit == "tokens" else amount
        with Session(self.engine) as session, session.begin():
            budgets.change(session, ME, session.get_one(Budget, budget.id), budget.limit, "UTC")

    @rule(number=which, amount=st.integers(0, 100))
    def set_limit(self, number, amount):
        """A limit is raised or lowered, also below what is used."""
        counter = pick(self.model.counters, number)
        counter.limit = amount * 100 if counter.unit == "tokens" else amount // 4
        with Session(self.engine) as session, session.begin():
            limits.change(session, ME, session.get_one(Limit, int(counter.subject)), counter.limit)

    @rule(amount=st.integers(1, 3_000))
    def top_up(self, amount):
        """The first one makes a balance."""
        balances.add(self.engine, self.world.user, amount, ME)
        if self.balance is None:
            with Session(self.engine) as session:
                row = session.query(Budget).filter_by(scope_id=self.world.user, is_prepaid=True).one()
            self.balance = Ceiling(row.id, "user", "tokens", "total", 0, self.world.user, is_prepaid=True)
            self.model.budgets.append(self.balance)
        self.balance.limit += amount

    @rule(amount=st.integers(1, 3_000))
    def deduct(self, amount):
        """As much as calls have left of it, and no more."""
        if self.balance is None or self.model.gone(self.balance, 0) + amount > self.balance.limit:
            with pytest.raises(InvalidRequest):
                balances.add(self.engine, self.world.user, -amount, ME)
            return
        balances.add(self.engine, self.world.user, -amount, ME)
        self.balance.limit -= amount

    # What must be true, always

    @invariant()
    def books_are_as_the_model_says(self):
        """After each step."""
        type(self).steps += 1
        model, booked = self.model, self.model.booked
        with self.engine.connect() as connection:
            seen = Seen(connection, self.world)
        assert seen.spent == some(model.spent) == seen.charged
        assert seen.held == some(model.held) == seen.taken
        assert seen.open == model.open.keys()
        assert seen.rows == {
            one.id: (one.outcome, one.cost, *one.used, *(one.rates or (None, None))) for one in booked.values()
        }
        assert seen.counters == (
            sum(sum(one.used) for one in booked.values()),
            sum(one.cost for one in booked.values()),
        )
        for counter in model.counters:
            ref = LimitRef(counter.subject, counter.scope, counter.unit, counter.limit, PERIODS[counter.period])
            window = self.gateway.books.window(counter.subject)
            assert counting.used(counting.count(ref, 0, model.now), window) == counter.used(model.now), counter

    def teardown(self):
        """Whatever happened: once all workers are gone and all is swept, nothing is open and the books agree."""
        for number in range(2):
            self.workers[number].die()
            self.dead.append(self.workers[number])
        self.sweep()
        self.books_are_as_the_model_says()
        report = ledger.verify(self.engine)
        assert (report.differences, report.open_holds) == ((), 0)

    def living(self, *, is_sent=None):
        """Open calls of living workers that have not ended."""
        return [
            one
            for one in self.model.open.values()
            if one.worker.is_alive and not one.kept and is_sent in (None, one.sent is not None)
        ]


def pick(things, number):
    return list(things)[number % len(things)]


def test_the_books_do_what_a_plain_model_does(gateway, monkeypatch):
    class Here(Machine):
        steps, done = 0, Counter()

    Here.gateway = gateway
    monkeypatch.setattr(clock, "now_s", lambda: float(Here.now))
    monkeypatch.setattr(clock, "now_ms", lambda: Here.now * 1000)
    options = settings(
        max_examples=20 if SOAK else STEPS // EACH,
        stateful_step_count=EACH,
        deadline=None,
        derandomize=not SOAK,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    while Here.steps < STEPS:
        run_state_machine_as_test(Here, settings=options)
    print(f"{Here.steps} steps on {gateway.engine.dialect.name}: {dict(Here.done)}")
    wanted = {"admitted", "refused", "recovered", *({"corrected", "overrun"} if SOAK else ())}
    assert wanted <= {what for what, times in Here.done.items() if times}
