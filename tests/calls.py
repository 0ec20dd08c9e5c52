"""Calls for tests that need no app: pure code gets pure records."""

from typing import Any

from services.types import CHAT, Attempt, Call, Caller, Deployment, Price, PublicModel, Upstream
from utils import clock

UPSTREAM = Upstream(1, "fake", "openai", "http://127.0.0.1:1/v1", "sk-upstream-secret")
PRICE = Price(150_000_000, 600_000_000, source="test")
DEPLOYMENT = Deployment(1, UPSTREAM, "gpt-4o-mini", 1, 1, PRICE)
CALLER = Caller(1, "ana", "user", 1, "sk-th-AbCd…wxyz")
MODEL = PublicModel("fast", "tests", 0, (DEPLOYMENT,))


def make_call(body: dict[str, Any] | None = None, **fields: Any) -> Call:
    """A call as the pipeline sees it; anything may be overridden."""
    defaults: dict[str, Any] = {
        "id": "req_0123456789ab" + "0" * 20,
        "operation": CHAT,
        "body": body or {"model": "fast", "messages": [{"role": "user", "content": "hi"}]},
        "caller": CALLER,
        "started_ms": 1_790_000_000_000,
        "started_s": clock.monotonic_s(),
        "model": MODEL,
        "candidates": (DEPLOYMENT,),
    }
    return Call(**(defaults | fields))


def attempted(call: Call, deployment: Deployment = DEPLOYMENT) -> Call:
    """The call after one attempt."""
    call.attempts.append(Attempt(deployment))
    return call
