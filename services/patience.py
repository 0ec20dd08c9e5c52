"""How long an attempt may take: as the settings say, the model or the step of a route instead, and its key at most."""

from dataclasses import replace

from services.errors import UpstreamTimeout
from services.exchange import Patience
from services.types import Call, PublicModel
from utils import clock


def of_attempt(usual: Patience, call: Call, model: PublicModel) -> Patience:
    """How long an attempt that begins now may take.

    Raises:
        UpstreamTimeout: the call has had all its time.
    """
    own, most = model.routing, call.caller.timeouts
    left_s = _least(own.total_s or usual.total_s, most.total_s) - (clock.monotonic_s() - call.started_s)
    if left_s <= 0:
        raise UpstreamTimeout("the call took longer than allowed")
    silence_s, first_byte_s = own.silence_s or usual.silence_s, own.first_byte_s
    if call.step is not None and (timeout_s := call.step.timeout_s) is not None:
        first_byte_s = timeout_s
        if not call.is_stream:
            left_s, silence_s = min(left_s, timeout_s), timeout_s
    if most.first_byte_s is not None:
        first_byte_s = _least(silence_s if first_byte_s is None else first_byte_s, most.first_byte_s)
    silence_s = _least(silence_s, most.silence_s)
    return replace(usual, total_s=left_s, silence_s=silence_s, first_byte_s=first_byte_s)


def _least(given_s: float, most_s: float | None) -> float:
    return given_s if most_s is None else min(given_s, most_s)
