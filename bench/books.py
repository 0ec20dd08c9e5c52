"""How long it takes to hold a call and to book it, at a steady rate, in a process beside the idle gateway.

Run by bench.py in the root of the project and with the gateway's environment; prints milliseconds as JSON.
"""

import json
import sys
import time

import config
from app import create_app
from services.settlement import settlement_of
from services.token_counter import estimate
from services.types import CHAT, Attempt, Call, Demand, Usage
from utils import clock, ids

CALLS_PER_S = 300
DEMAND = Demand(input_tokens=10, choices=1, output_tokens=20, most_output_tokens=4096)


def main(token: str, seconds: int) -> None:
    """Hold and book calls of this caller, one after the other."""
    here = create_app(config.load_prepared(), with_commands=False).extensions["gateway"]
    caller, model = here.callers.of(token), here.catalog.snapshot().models["fast"]
    spent_ms, start = [], time.perf_counter()
    for number in range(CALLS_PER_S * seconds):
        time.sleep(max(0.0, start + number / CALLS_PER_S - time.perf_counter()))
        call = Call(ids.request_id(), CHAT, {"model": "fast"}, caller, clock.now_ms(), clock.monotonic_s())
        call.model, call.candidates = model, model.deployments
        held = time.perf_counter()
        here.accounting.reserve(call, DEMAND)
        spent = time.perf_counter() - held
        call.attempts.append(Attempt(model.deployments[0]))
        call.usage, call.outcome, call.is_answered = Usage(10, 5), "ok", True
        settlement = settlement_of(call, estimate)
        booked = time.perf_counter()
        here.accounting.settle(settlement)
        spent_ms.append((spent + time.perf_counter() - booked) * 1000)
    here.close()
    spent_ms.sort()
    json.dump({f"p{share}_ms": spent_ms[len(spent_ms) * share // 100] for share in (50, 95, 99)}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
