"""How providers fare, as this worker sees it: who is left alone for a while, and which repeats are affordable.

A circuit for each deployment and one for each account. It opens after failures in a row, or when half of what was
tried lately failed; what is open is passed over while something else is left. It shuts calls out even where nothing
else is left, once more failed in a row or its provider said when to come back. Then one call at a time probes it.
"""

import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.errors import CredentialRefused, UpstreamError, UpstreamRefused, UpstreamUnreachable
from services.types import Deployment
from utils import clock

IN_A_ROW: Final = 5  # failures that open a circuit
LAST_IN_A_ROW: Final = 10  # … and shut out calls that have nowhere else to go
SPAN_S: Final = 15.0  # "lately" is this span and the one before
ENOUGH: Final = 20  # tries in it that make a rate
PAUSE_S: Final = 1.0  # the first time; doubles with each failed probe
LONGEST_PAUSE_S: Final = 30.0
LONGEST_RETRY_AFTER_S: Final = 600.0  # a provider that wants more is asked once in a while nevertheless
PROBE_S: Final = 60.0  # a probe without an end is forgotten
NEWEST: Final = 0.2  # weight of the newest delay in the mean
SHARE: Final = 0.2  # repeated attempts for each call …
PER_S: Final = 1.0  # … and for each second, so that a quiet gateway has some
MOST: Final = 10.0  # saved up
DEPLOYMENT, ACCOUNT = "deployment", "account"
OF_ACCOUNT: Final = (UpstreamUnreachable, CredentialRefused)  # what befalls every model of a provider
ALONE: Final = ("echo",)  # the models of one provider that have nothing to do with each other
TOO_MANY, UNAVAILABLE = 429, 503


@dataclass(slots=True)
class Circuit:
    """One deployment's or account's recent past."""

    in_a_row: int = 0
    span: float = 0.0
    tried: int = 0
    failed: int = 0
    tried_before: int = 0
    failed_before: int = 0
    pauses: int = 0
    until_s: float = 0.0  # monotonic; in the past: a probe may go
    probe_s: float = -math.inf  # when the probe under way began
    is_told: bool = False  # the provider itself said when
    delay_s: float | None = None  # mean time to its first byte
    error: str = ""
    status: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it is passed over, or only a probe goes to it."""
        return self.pauses > 0

    def is_closed_to(self, now_s: float) -> bool:
        """Whether nobody may try now who has an alternative."""
        return self.is_open and (now_s < self.until_s or now_s - self.probe_s < PROBE_S)

    def is_shut(self, now_s: float) -> bool:
        """Whether nobody may try now at all."""
        return self.is_closed_to(now_s) and (self.is_told or self.in_a_row >= LAST_IN_A_ROW)

    def succeeded(self, now_s: float, delay_s: float | None) -> None:
        """An answer began."""
        self._roll(now_s)
        self.tried += 1
        self.in_a_row = self.pauses = 0
        self.probe_s, self.is_told = -math.inf, False
        if delay_s is not None:
            self.delay_s = delay_s if self.delay_s is None else self.delay_s + NEWEST * (delay_s - self.delay_s)

    def failure(self, now_s: float, exc: UpstreamError, retry_after_s: float | None) -> None:
        """An attempt failed by its fault."""
        self._roll(now_s)
        self.tried += 1
        self.failed += 1
        self.in_a_row += 1
        is_gone = isinstance(exc, UpstreamUnreachable)  # whose text has addresses
        self.error, self.status = "it cannot be reached" if is_gone else str(exc)[:200], exc.status
        tried, failed = self.tried + self.tried_before, self.failed + self.failed_before
        is_bad = self.in_a_row >= IN_A_ROW or (tried >= ENOUGH and failed * 2 >= tried)
        if retry_after_s is None and not (self.is_open or is_bad):
            return
        if now_s >= self.until_s:  # others that were under way when it opened count once
            self.pauses += 1
            self.until_s = now_s + min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (self.pauses - 1))
        if retry_after_s is not None:
            self.is_told = True
            self.until_s = max(self.until_s, now_s + min(retry_after_s, LONGEST_RETRY_AFTER_S))
        self.probe_s = -math.inf

    def _roll(self, now_s: float) -> None:
        span = now_s // SPAN_S
        if span != self.span:
            is_next = span == self.span + 1
            self.tried_before, self.failed_before = (self.tried, self.failed) if is_next else (0, 0)
            self.tried = self.failed = 0
            self.span = span


@dataclass(frozen=True, slots=True)
class Down:
    """A circuit that is open. `model` is empty where it is one of an account."""

    name: tuple[str, int]
    provider: str
    model: str
    error: str
    failures: int


class Health:
    """See the module. Kept in memory, one for each worker."""

    def __init__(self) -> None:
        self._circuits: dict[tuple[str, int], Circuit] = {}
        self._guard = threading.Lock()
        self._credits, self._credited_s = MOST, clock.monotonic_s()

    def usable(self, deployments: Iterable[Deployment]) -> tuple[Deployment, ...]:
        """Those that may be tried now, in their order: the healthy ones, or else those that are not shut."""
        now_s, given = clock.monotonic_s(), tuple(deployments)
        if not self._circuits:
            return given
        healthy = tuple(one for one in given if not any(c.is_closed_to(now_s) for c in self._of(one)))
        return healthy or tuple(one for one in given if not any(c.is_shut(now_s) for c in self._of(one)))

    def begin(self, deployment: Deployment) -> None:
        """An attempt begins; where a circuit is open it is the probe."""
        for circuit in self._of(deployment):
            if circuit.is_open:
                circuit.probe_s = clock.monotonic_s()

    def succeeded(self, deployment: Deployment, delay_s: float | None = None) -> None:
        """It answered, after that long."""
        with self._guard:
            for name in (_deployment(deployment), _account(deployment)):
                circuit = self._circuits.setdefault(name, Circuit())
                circuit.succeeded(clock.monotonic_s(), delay_s if name[0] == DEPLOYMENT else None)

    def failed(self, deployment: Deployment, exc: UpstreamError) -> None:
        """The attempt failed. What is the request's own fault is an answer like others."""
        if not exc.is_retryable:
            self.succeeded(deployment)
            return
        is_busy = isinstance(exc, UpstreamRefused) and exc.status == TOO_MANY
        is_of_all = (is_busy or isinstance(exc, OF_ACCOUNT)) and deployment.upstream.kind not in ALONE
        name = _account(deployment) if is_of_all else _deployment(deployment)
        with self._guard:
            self._circuits.setdefault(name, Circuit()).failure(clock.monotonic_s(), exc, exc.retry_after_s)

    def released(self, deployment: Deployment) -> None:
        """The attempt ended without a verdict, such as by a caller who left."""
        for circuit in self._of(deployment):
            circuit.probe_s = -math.inf

    def delay_s(self, deployment: Deployment) -> float | None:
        """The mean time to its first byte; None = not known."""
        circuit = self._circuits.get(_deployment(deployment))
        return circuit.delay_s if circuit is not None else None

    def refusal(self, deployments: Sequence[Deployment]) -> UpstreamError:
        """What a call is told that none of these may take: when the first one can be tried again, and why."""
        now_s = clock.monotonic_s()
        waits = [
            (max((circuit.until_s - now_s for circuit in shut), default=0.0), shut[0])
            for one in deployments
            if (shut := [circuit for circuit in self._of(one) if circuit.is_shut(now_s)])
        ]
        wait_s, circuit = min(waits, key=lambda pair: pair[0], default=(0.0, Circuit()))  # its pause may just be over
        retry_after_s = max(1, math.ceil(wait_s))
        last = f" Last: {circuit.error}" if circuit.error else ""
        return UpstreamRefused(
            f"No provider of this model can be asked now; try again in {retry_after_s} s.{last}",
            status=circuit.status if circuit.status == TOO_MANY else UNAVAILABLE,
            code="upstream_unavailable",
            retry_after_s=retry_after_s,
        )

    def called(self) -> None:
        """A call begins: it earns a share of a repeated attempt for whoever needs one."""
        with self._guard:
            now_s = clock.monotonic_s()
            earned = SHARE + PER_S * (now_s - self._credited_s)
            self._credits, self._credited_s = min(MOST, self._credits + earned), now_s

    def may_go_on(self, deployment: Deployment) -> bool:
        """Whether a call that failed elsewhere may try it: freely while it is well, else as a repeat."""
        is_well = all(circuit.in_a_row == 0 for circuit in self._of(deployment))
        return is_well or self.may_repeat()

    def may_repeat(self) -> bool:
        """Whether one more attempt of a call is affordable, which then is paid."""
        with self._guard:
            is_affordable = self._credits >= 1
            self._credits -= is_affordable
            return is_affordable

    def report(self) -> dict[tuple[str, int], dict[str, Any]]:
        """What is known of each deployment ("deployment", its number) and account ("account", …)."""
        now_s = clock.monotonic_s()
        with self._guard:
            known = list(self._circuits.items())
        return {
            name: {
                "state": _state(circuit, now_s),
                "failures_in_a_row": circuit.in_a_row,
                "retry_in_s": round(max(0.0, circuit.until_s - now_s), 1) if circuit.is_open else 0.0,
                "first_byte_ms": None if circuit.delay_s is None else round(circuit.delay_s * 1000, 1),
                "error": circuit.error if circuit.in_a_row else "",
            }
            for name, circuit in known
        }

    def down(self, deployments: Iterable[Deployment]) -> list[Down]:
        """The open circuits of these and of their accounts; not those that only want to be asked less."""
        with self._guard:
            is_open = {name: one for name, one in self._circuits.items() if one.is_open and one.status != TOO_MANY}
        found = {}
        for deployment in deployments:
            for name, model in ((_deployment(deployment), deployment.model), (_account(deployment), "")):
                if (circuit := is_open.get(name)) is not None:
                    found[name] = Down(name, deployment.upstream.name, model, circuit.error, circuit.in_a_row)
        return list(found.values())

    def _of(self, deployment: Deployment) -> list[Circuit]:
        found = (self._circuits.get(_deployment(deployment)), self._circuits.get(_account(deployment)))
        return [circuit for circuit in found if circuit is not None]


def _deployment(deployment: Deployment) -> tuple[str, int]:
    return DEPLOYMENT, deployment.id


def _account(deployment: Deployment) -> tuple[str, int]:
    return ACCOUNT, deployment.upstream.id


def _state(circuit: Circuit, now_s: float) -> str:
    if not circuit.is_open:
        return "healthy"
    return "open" if now_s < circuit.until_s else "half_open"
