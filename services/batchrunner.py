"""Makes the calls of batches, in each worker process, beside the calls of clients and after them.

A job looks every second what there is to do and starts as many threads (under gevent: greenlets) as may be at it at
once; each takes one line after the other and ends when there is none. A call goes through the same pipeline as one
that a client sends now, for whoever made the batch, as that key and its budgets are now. What the gateway itself
refuses for a while (a limit, a busy worker) is tried again; what it refuses for good ends the batch's other lines too.
"""

import logging
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from models_batches import Batch
from services import shedding
from services.batchcheck import ENDPOINTS, Bounds, Check, Line, call_of
from services.batchends import EXPIRED, Ends
from services.batchfiles import Files
from services.batchlines import Claimed, Lines, Result
from services.bodies import Bodies
from services.callers import Callers
from services.catalog import Catalog
from services.credentials import SealBroken
from services.dialects.base import Dialect
from services.errors import (
    AccountingUnavailable,
    AuthenticationFailed,
    BudgetExceeded,
    Draining,
    GatewayError,
    NotFound,
    Overloaded,
    RateLimited,
)
from services.pipeline import Pipeline
from services.promptbook import PromptBook
from services.refusals import Refusals
from services.responses import Responses
from services.shedding import Shedding
from services.types import Call, Caller
from services.watch import Watch
from utils import clock, ids, jsonx

log = logging.getLogger(__name__)

EVERY_S: Final = 1.0
PAUSE_S: Final = 1.0  # before what was refused for a moment is tried again
HELD_S: Final = 0.25  # before a budget is asked again that other calls have in their hands
LONGEST_PAUSE_S: Final = 60.0
ADDED: Final = 200  # lines stored at once while a file is checked
FAILED_AT_ONCE: Final = 100
FAILING_S: Final = 2.0  # of one look, so that leases are renewed in time
MARGIN_S: Final = 1.0  # a call is not begun when its lease has no more than that left
STORE_TRIES: Final = 10
NOT_LET_IN: Final = frozenset({"path_not_allowed", "address_not_allowed"})  # of services/access.py
UNREADABLE: Final = "The file of this batch cannot be read any more."
UNEXPECTED: Final = "The gateway failed on this request."


@dataclass(frozen=True, slots=True)
class Tools:
    """What calls are made with."""

    catalog: Catalog
    pipeline: Pipeline
    callers: Callers
    responses: Responses
    bodies: Bodies
    watch: Watch
    shedding: Shedding
    prompts: PromptBook
    refusals: Refusals


@dataclass(frozen=True, slots=True)
class Store:
    """Where batches stand."""

    files: Files
    lines: Lines
    ends: Ends


class Runner:
    """See the module. `most`: lines at once in this process."""

    def __init__(self, store: Store, tools: Tools, bounds: Bounds, *, most: int) -> None:
        self._files, self._lines, self._ends = store.files, store.lines, store.ends
        self._tools, self._bounds, self._most = tools, bounds, most
        self._owner, self._pid = "", 0
        self._threads: list[threading.Thread] = []
        self._under_way: set[int] = set()  # lines, by their number
        self._checking: threading.Thread | None = None
        self._stopped = threading.Event()

    def look(self) -> None:
        """Begin what there is to do, and end what is over; the job of a worker."""
        if self._pid != os.getpid():
            self._pid, self._owner = os.getpid(), ids.random_base62(20)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if under_way := list(self._under_way):
            self._lines.renew(self._owner, under_way)
        if self._is_ending():
            return
        batches = self._ends.open()
        for batch in batches:
            if batch.status == "validating":
                self._begin_check(batch)
            else:
                self._settle(batch)
        ready = [batch for batch in batches if batch.status == "in_progress" and self._ends.has_waiting(batch.id)]
        if ready:
            for _ in range(self._most - len(self._threads)):
                self._threads.append(_begun(partial(self._work, ready)))

    def wait(self, longest_s: float) -> None:
        """Until nothing is under way here."""
        until_s = clock.monotonic_s() + longest_s
        for thread in (*self._threads, *([self._checking] if self._checking is not None else [])):
            thread.join(max(0.0, until_s - clock.monotonic_s()))

    def close(self, longest_s: float) -> None:
        """Begin no more; what is under way ends, or is ended with the calls of the worker."""
        self._stopped.set()
        if self._pid == os.getpid():
            self.wait(longest_s)

    def _is_ending(self) -> bool:
        return self._stopped.is_set() or self._tools.watch.is_draining

    def _settle(self, batch: Batch) -> None:
        """What no worker is at: lines that were lost, lines that are not to be called any more, the end."""
        self._lines.lost(batch.id)
        stop = batch.stop
        if stop is None and batch.expires_at <= clock.now():
            stop = EXPIRED
            self._ends.stop(batch.id, stop)
        if stop is not None:
            until_s = clock.monotonic_s() + FAILING_S
            while self._lines.fail_waiting(batch.id, stop, FAILED_AT_ONCE) and clock.monotonic_s() < until_s:
                pass
        if batch.completed + batch.failed >= batch.total or stop is not None:
            self._ends.finish(batch)

    def _begin_check(self, batch: Batch) -> None:
        if self._checking is None or not self._checking.is_alive():
            self._checking = _begun(partial(self._check, batch))

    def _check(self, batch: Batch) -> None:
        """Take in the file of a batch, or say what is wrong with it."""
        if not self._ends.take(batch, self._owner):
            return
        try:
            caller = self._caller(batch)
        except AccountingUnavailable:
            return  # once its lease is over, somebody tries again
        except GatewayError as exc:
            self._ends.refuse(
                batch, self._owner, [{"code": exc.code, "line": None, "message": str(exc), "param": None}]
            )
            return
        is_there = partial(_is_offered, self._tools.catalog, caller)
        check = Check(caller, batch.endpoint, self._bounds, self._tools.prompts, is_there)
        held: list[Line] = []
        model = ""
        for line in check.lines(self._readable(batch, check)):
            model = model or line.model
            held.append(line)
            if len(held) >= ADDED:
                if self._is_ending() or not self._ends.add(batch, self._owner, held):
                    return
                held = []
        if check.errors:
            self._ends.refuse(batch, self._owner, check.errors)
        elif self._ends.add(batch, self._owner, held):
            self._ends.accept(batch, self._owner, model)

    def _readable(self, batch: Batch, check: Check) -> Iterator[bytes]:
        """Its file as far as it can be opened."""
        try:
            yield from self._files.chunks(batch.input_file_id)
        except SealBroken:
            check.errors.append({"code": "invalid_file", "line": None, "message": UNREADABLE, "param": None})

    def _work(self, batches: Sequence[Batch]) -> None:
        """One line after the other, of any of these, until none waits or the worker has its hands full."""
        left = list(batches)
        while left and not self._is_ending():
            batch = random.choice(left)  # noqa: S311 - so that each has its turn
            try:
                self._tools.shedding.enter(shedding.BATCH)
            except Overloaded:
                clock.sleep(PAUSE_S)
                return
            try:
                line = self._lines.claim(batch.id, self._owner)
                if line is None:
                    left.remove(batch)
                else:
                    self._claimed(batch, line)
            finally:
                self._tools.shedding.leave()

    def _claimed(self, batch: Batch, line: Claimed) -> None:
        """The same while others are told that this worker is at it."""
        self._under_way.add(line.id)
        try:
            self._make(batch, line)
        finally:
            self._under_way.discard(line.id)

    def _make(self, batch: Batch, line: Claimed) -> None:
        """One line: its call, and what came of it."""
        dialect = ENDPOINTS[batch.endpoint][1]
        try:
            found = self._answer(batch, line, dialect)
        except GatewayError as exc:
            if self._is_put_off(batch, line, exc, dialect):
                return
            self._tools.refusals.note(line.request_id, exc)
            found = Result(line.custom_id, line.request_id, exc.status, jsonx.dumps(dialect.error_body(exc)))
        except Exception:
            log.exception("a line of a batch failed request_id=%s", line.request_id)
            shown = GatewayError(UNEXPECTED)
            found = Result(line.custom_id, line.request_id, shown.status, jsonx.dumps(dialect.error_body(shown)))
        self._keep(batch, line, found)

    def _answer(self, batch: Batch, line: Claimed, dialect: Dialect) -> Result:
        call = self._call(batch, line)
        if clock.monotonic_s() > line.until_s - MARGIN_S:
            raise Draining("this worker was too slow; another one makes the call")
        answer = self._tools.pipeline.open(call, dialect, socket=None)
        assert isinstance(answer, bytes)  # noqa: S101 - streams were refused when the file was checked
        return _good(line, call, answer)

    def _is_put_off(self, batch: Batch, line: Claimed, exc: GatewayError, dialect: Dialect) -> bool:
        """Whether the line waits again, because of a refusal that passes or one that is for all lines that wait."""
        wait_s = _wait_s(exc)
        is_final = _is_for_all(exc)
        if wait_s is None and not is_final:
            return False
        if is_final:
            self._ends.stop(batch.id, {"status": exc.status, "body": dialect.error_body(exc)})
            self._tools.refusals.note(line.request_id, exc)
        elif wait_s:
            self._ends.pause(batch.id, wait_s)
        self._lines.give_back(line)
        return True

    def _call(self, batch: Batch, line: Claimed) -> Call:
        """The call of a line, as its caller would send it now."""
        caller = self._caller(batch)
        try:
            raw = self._files.part(batch.input_file_id, line.start, line.length)
        except SealBroken as exc:
            raise GatewayError(UNREADABLE) from exc
        if len(raw) < line.length:
            raise NotFound("The file of this batch was deleted.", param="input_file_id")
        body = jsonx.loads(raw)["body"]
        call = call_of(batch.endpoint, body, caller, line.request_id, self._tools.prompts)
        call.address, call.custom_id = batch.address, line.custom_id
        call.marks.path, call.marks.batch_id = batch.endpoint, batch.id
        call.record = self._tools.bodies.record(caller, jsonx.dumps(body), "application/json")
        if call.reply is not None:
            self._tools.responses.admit(call)
        # Before it is booked: should the worker die in between, there is an answer to what a sweeper books.
        call.store = lambda answer: self._lines.answered(batch.id, line, _good(line, call, answer))
        return call

    def _caller(self, batch: Batch) -> Caller:
        """Whose batch it is, as of now.

        Raises:
            AuthenticationFailed: the key or the user may call no more.
            PermissionDenied: not this, or not from there.
        """
        caller = self._tools.callers.again(batch.user_id, batch.key_id)
        self._tools.callers.check_access(caller, "POST", batch.endpoint, batch.address)
        return caller

    def _keep(self, batch: Batch, line: Claimed, result: Result) -> None:
        """Store what came of a line; while the database is away, for as long as the worker may wait."""
        for _ in range(STORE_TRIES):
            if self._lines.answered(batch.id, line, result):
                return
            clock.sleep(PAUSE_S)


def _begun(work: Callable[[], Any]) -> threading.Thread:
    def logged() -> None:
        try:
            work()
        except Exception as exc:  # noqa: BLE001 - the database may be away; the next look begins anew
            log.warning("batches: %s: %s", type(exc).__name__, str(exc).partition("\n")[0])

    thread = threading.Thread(target=logged, name="batches", daemon=True)
    thread.start()
    return thread


def _good(line: Claimed, call: Call, answer: bytes) -> Result:
    return Result(line.custom_id, line.request_id, call.status, answer)


def _is_offered(catalog: Catalog, caller: Caller, name: str) -> bool:
    model = catalog.snapshot().model(name)
    return model is not None and (caller.may_use(name) or caller.may_use(model.name))


def _is_for_all(exc: GatewayError) -> bool:
    """Whether every other line would be refused like this one."""
    if isinstance(exc, BudgetExceeded):
        return not exc.should_retry
    return isinstance(exc, AuthenticationFailed) or exc.code in NOT_LET_IN


def _wait_s(exc: GatewayError) -> float | None:
    """After how many seconds the same line may be tried again; 0 = at once, None = it need not be."""
    if isinstance(exc, Draining):
        return 0.0
    if isinstance(exc, AccountingUnavailable | Overloaded):
        return PAUSE_S
    if isinstance(exc, RateLimited):  # what can never fit has no time after which it would
        return None if exc.retry_after_s is None else min(float(exc.retry_after_s), LONGEST_PAUSE_S)
    return HELD_S if isinstance(exc, BudgetExceeded) and exc.should_retry else None
