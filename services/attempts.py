"""Which deployment a call tries next, until one answers or nothing is left that is worth trying.

One attempt at each deployment that is not left alone, in order; then again after a pause, as often as the model or
the settings say and the worker's budget for repeats allows. An error that only another kind of model can help, such
as a text that is too long, leads to the fallbacks for it. A provider is not asked again that may have worked on the
call already, such as one that was silent for too long: that would be billed twice.

A route says itself how its calls go: each of its steps is repeated as it says, whatever was wrong with the one before.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Final

from services.errors import UpstreamError, UpstreamRefused, UpstreamUnreachable
from services.exchange import ConnectionLost
from services.health import Health
from services.routing import REASONS
from services.steps import Step
from services.types import Call, Deployment
from utils import clock

AGAIN: Final = (UpstreamRefused, UpstreamUnreachable)  # what may be over in a moment, and has cost nothing
PAUSE_S: Final = 0.25  # before the second round; doubles with each
LONGEST_PAUSE_S: Final = 4.0
LONGEST_WAIT_S: Final = 5.0  # whoever is to come back later than that is told so, and not kept waiting
SLICE_S: Final = 0.1  # a caller who leaves meanwhile is noticed that fast


class Attempts:
    """Iterate for deployments to try; say `failed` after each that did not answer. `failure` is the latest reason."""

    def __init__(self, call: Call, health: Health, retries: int) -> None:
        self._call, self._health, self._retries = call, health, retries
        self.failure: UpstreamError | None = None
        self._failures = 0

    def __iter__(self) -> Iterator[Deployment]:
        """The next deployment, as long as there is one.

        Raises:
            UpstreamError: every one of them is left alone for now.
            GatewayError: the call was ended meanwhile.
        """
        self._health.called()
        if self._call.route is not None:
            yield from self._along(self._call.route.steps)
            return
        chosen = [one for one in self._call.candidates if one.id not in self._call.detours] or self._call.candidates
        for number in range(self._retries + 1):
            if not (usable := self._health.usable(chosen)):
                break
            for deployment in usable:
                if self.failure is not None and not self._health.may_go_on(deployment):
                    return
                yield from self._one(deployment)
                if self.failure is not None and not self.failure.is_retryable:
                    yield from self._detour()
                    return
            if self.failure is None:  # none of them could take the call
                return
            if number == self._retries or not self._pause(number):
                return
        if self.failure is None:
            self.failure = self._health.refusal(chosen)

    def _along(self, steps: Sequence[Step]) -> Iterator[Deployment]:
        """The deployments of a route's steps."""
        is_tried = False
        for step in steps:
            self._call.step = step
            mine = [one for one in self._call.candidates if one.id in step.ids]
            for number in range(step.retries + 1):
                failures = self._failures
                for deployment in self._health.usable(mine):
                    if self.failure is not None and not self._health.may_go_on(deployment):
                        return
                    is_tried = True
                    yield from self._one(deployment)
                if self._failures == failures or number == step.retries or not self._pause(number, step):
                    break
        if not is_tried:
            self.failure = self._health.refusal(self._call.candidates)

    def failed(self, deployment: Deployment, exc: UpstreamError) -> None:
        """The deployment did not answer."""
        self._health.failed(deployment, exc)
        if self._call.span is not None:
            self._call.span.failed()
        self.failure = exc
        self._failures += 1

    def _one(self, deployment: Deployment) -> Iterator[Deployment]:
        if self._call.abort_reason is not None:
            raise self._call.abort_reason
        self._health.begin(deployment)
        yield deployment

    def _detour(self) -> Iterator[Deployment]:
        """Those that are there for this failure's reason."""
        reason = REASONS.get(self.failure.code or "") if self.failure is not None else None
        fitting: Sequence[Deployment] = [
            one for one in self._call.candidates if reason is not None and self._call.detours.get(one.id) == reason
        ]
        for deployment in self._health.usable(fitting):
            yield from self._one(deployment)

    def _pause(self, number: int, step: Step | None = None) -> bool:
        """Wait before the next round, as the step says or as usual; False = another one makes no sense."""
        if not isinstance(self.failure, AGAIN) or isinstance(self.failure, ConnectionLost):
            return False
        if not self.failure.is_retryable:
            return False
        least_s = self.failure.retry_after_s or 0.0
        if least_s > LONGEST_WAIT_S:
            return False
        first_s = step.pause_s if step is not None and step.pause_s is not None else PAUSE_S
        longest_s = max(first_s, LONGEST_PAUSE_S)
        growth = 1 if step is not None and step.is_constant else 2**number
        pause_s = min(longest_s, first_s * growth) * (0.5 + random.random() / 2)  # noqa: S311 - no secret
        end_s = clock.monotonic_s() + max(pause_s, least_s)
        while (left_s := end_s - clock.monotonic_s()) > 0:
            clock.sleep(min(left_s, SLICE_S))
            if self._call.abort_reason is not None:
                raise self._call.abort_reason
        return True
