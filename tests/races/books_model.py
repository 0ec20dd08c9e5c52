"""What the books should do, in plain Python: the model that tests/races/test_machine.py compares them with.

It knows prices with two rates, budgets in all and per day and month, limits per minute and day and of calls at once.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

MINUTE, DAY = 60, 86_400


@dataclass(frozen=True)
class Rates:
    """Nano-USD per million tokens."""

    input: int
    output: int

    @property
    def is_free(self):
        return self.input == self.output == 0

    def cost(self, tokens):
        """Of these (input, output) tokens, rounded half up."""
        return (self._millionths(tokens) + 500_000) // 1_000_000

    def most(self, tokens):
        """The same, rounded up."""
        return -(-self._millionths(tokens) // 1_000_000)

    def _millionths(self, tokens):
        return tokens[0] * self.input + tokens[1] * self.output


@dataclass
class Ceiling:
    """A budget: of whom, in what, over what, how much."""

    id: int
    scope: str
    unit: str
    period: str
    limit: int
    owner: int  # the number of the user, key, team or model
    is_prepaid: bool = False

    def start(self, now):
        """When its period began."""
        if self.period == "total":
            return 0
        moment = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0)
        return int((moment.replace(day=1) if self.period == "month" else moment).timestamp())


@dataclass
class Limited:
    """A limit and what was counted in each of its periods."""

    subject: str
    scope: str
    owner: int
    unit: str
    period: int  # seconds; 0 = calls at once
    limit: int
    counts: dict = field(default_factory=dict)

    def start(self, now):
        return now // self.period * self.period if self.period else 0

    def used(self, now):
        """In this period, and what of the one before still counts: minutes slide, by millionths that are rounded up."""
        start = self.start(now)
        if self.period != MINUTE:
            return self.counts.get(start, 0)
        left = -(-(start + MINUTE - now) * 1_000_000 // MINUTE)
        return self.counts.get(start, 0) - (-self.counts.get(start - MINUTE, 0) * left // 1_000_000)

    def change(self, start, amount):
        self.counts[start] = max(0, self.counts.get(start, 0) + amount)


@dataclass
class Taken:
    """An admitted call: what it took and counted, what is known of it, and what was booked for it."""

    id: str
    tokens: tuple  # at most
    candidates: list  # (model, rates), in the order in which they are tried
    takes: list  # (budget, start, amount)
    counts: list  # (counter, start, amount)
    deadline: int
    worker: object
    sent: tuple | None = None  # the candidate that it went to
    progress: int = 0
    kept: tuple | None = None  # its settlement waits in a spool: (tokens, outcome)
    booked: dict = field(default_factory=dict)  # by (budget, start)
    used: tuple = (0, 0)
    cost: int = 0
    outcome: str = ""

    @property
    def rates(self):
        """Input and output, of where it went; None = nowhere."""
        return (self.sent[1].input, self.sent[1].output) if self.sent else None


class Model:
    """See the module. All amounts are nano-USD or tokens, as the budget counts."""

    def __init__(self, now):
        self.now = now
        self.budgets, self.counters = [], []
        self.spent, self.held = {}, {}  # by (budget id, start)
        self.open, self.booked = {}, {}  # calls by id

    def applies(self, tokens, candidates, is_mine):
        """(budget, start, amount) of every budget that a call takes something from."""
        found = []
        for budget in filter(is_mine, self.budgets):
            rates = [one for model, one in candidates if budget.scope != "model" or model == budget.owner]
            if not rates or (budget.is_prepaid and all(one.is_free for one in rates)):
                continue
            amount = sum(tokens) if budget.unit == "tokens" else max(one.most(tokens) for one in rates)
            if amount:
                found.append((budget, budget.start(self.now), amount))
        return found

    def counted(self, tokens, counters):
        """(counter, start, amount) of every limit."""
        return [(one, one.start(self.now), sum(tokens) if one.unit == "tokens" else 1) for one in counters]

    def short(self, takes):
        """The budgets that cannot take their amount."""
        return [budget for budget, start, amount in takes if self.gone(budget, start) + amount > budget.limit]

    def gone(self, budget, start):
        return self.spent.get((budget.id, start), 0) + self.held.get((budget.id, start), 0)

    def admission(self, tokens, candidates, counted, is_mine):
        """The candidates a call may go to, and what it takes; or "limit" or "budget", which refuses it.

        A model's budget that cannot take the call spares the others, if it is not the model that was asked for.
        """
        if any(one.used(self.now) + amount > one.limit for one, _start, amount in counted):
            return "limit", []
        every = self.applies(tokens, candidates, is_mine)
        short = {budget.owner for budget in self.short(every) if budget.scope == "model"}
        if candidates[0][0] not in short:
            candidates = [one for one in candidates if one[0] not in short]
        takes = self.applies(tokens, candidates, is_mine)
        return ("budget", []) if self.short(takes) else (candidates, takes)

    def admit(self, call):
        self.open[call.id] = call
        for budget, start, amount in call.takes:
            self._add(self.held, budget, start, amount)
        for counter, start, amount in call.counts:
            counter.change(start, amount)

    def release(self, call):
        self._give_back(call)
        for counter, start, amount in call.counts:
            counter.change(start, -amount)

    def settle(self, call, tokens, outcome="ok"):
        """Book a call for which these tokens were used; None = nobody took it."""
        self._give_back(call)
        for counter, start, amount in call.counts:
            if counter.unit != "requests":
                counter.change(start, -1 if counter.unit == "concurrent" else sum(tokens or (0, 0)) - amount)
        self._book(call, tokens, outcome)
        self.booked[call.id] = call

    def recover(self, call):
        """Book a call whose worker is gone, by what it left."""
        self.settle(call, (call.tokens[0], call.progress) if call.sent else None, "recovered")

    def correct(self, call, tokens, outcome="ok"):
        """A report after the recovery replaces the guess; after another report it changes nothing."""
        if call.outcome == "recovered":
            self._book(call, tokens, outcome)

    def replay(self, call):
        """What waited in a spool comes to the books."""
        (self.settle if call.id in self.open else self.correct)(call, *call.kept)
        call.kept = None

    def _book(self, call, tokens, outcome):
        model, rates = call.sent if call.sent and tokens is not None else (0, Rates(0, 0))
        before = call.booked
        call.used, call.cost, call.outcome = tokens or (0, 0), rates.cost(tokens or (0, 0)), outcome
        call.booked = {}
        for budget, start, _amount in call.takes:
            is_spared = (budget.is_prepaid and rates.is_free) or (budget.scope == "model" and budget.owner != model)
            amount = 0 if is_spared else call.cost if budget.unit == "usd" else sum(call.used)
            call.booked[budget.id, start] = amount
            self._add(self.spent, budget, start, amount - before.get((budget.id, start), 0))

    def _give_back(self, call):
        del self.open[call.id]
        for budget, start, amount in call.takes:
            self._add(self.held, budget, start, -amount)

    @staticmethod
    def _add(sums, budget, start, amount):
        sums[budget.id, start] = sums.get((budget.id, start), 0) + amount
