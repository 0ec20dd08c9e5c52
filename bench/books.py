"""How long it takes to hold a call and to book it, in a process beside the idle gateway.

Run by bench.py in the root of the project and with the gateway's environment, with the key of govern.py, the seconds
it shall take, and the calls a second (0 = as many as one after the other can be). Prints the milliseconds of each call
and how long all took as JSON.
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

DEMAND = Demand(input_tokens=10, choices=1, output_tokens=20, most_output_tokens=4096)


def main(key: str, seconds: int, calls_per_s: int) -> None:
    """Hold and book calls of this caller, one after the other."""
    here = create_app(config.load_prepared(), with_commands=False).extensions["gateway"]
    caller, model = here.callers.of(key), here.catalog.snapshot().models["hot"]
    limits = here.layers.of(caller, "127.0.0.1", model)
    spent_ms: list[float] = []
    start = time.perf_counter()
    while (now := time.perf_counter()) < start + seconds:
        if calls_per_s:
            time.sleep(max(0.0, start + len(spent_ms) / calls_per_s - now))
        call = Call(ids.request_id(), CHAT, {"model": "hot"}, caller, clock.now_ms(), clock.monotonic_s())
        call.model, call.candidates, call.model_budgets, call.limits = model, model.deployments, model.budgets, limits
        held = time.perf_counter()
        here.accounting.reserve(call, DEMAND)
        spent = time.perf_counter() - held
        call.attempts.append(Attempt(model.deployments[0]))
        call.usage, call.outcome, call.is_answered = Usage(10, 5), "ok", True
        settlement = settlement_of(call, estimate)
        booked = time.perf_counter()
        here.accounting.settle(settlement)
        spent_ms.append((spent + time.perf_counter() - booked) * 1000)
    here.close()  # until all of it is in the database
    json.dump({"ms": spent_ms, "seconds": time.perf_counter() - start}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
