"""Work that must not hold up the event loop, under gevent and under plain threads alike.

gevent is asked only when the server has already loaded it: with thread workers it is never imported.
"""

import os
import select
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Final, ParamSpec, TypeVar, cast

from utils import clock

MAX_THREADS: Final = 8
P = ParamSpec("P")
T = TypeVar("T")


@cache
def is_cooperative() -> bool:
    """Whether this process runs on gevent, that is, on one thread that must not block; decided at its start."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def run(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do the work in a native thread under gevent, right here otherwise; returns or raises as it does."""
    if not is_cooperative():
        return work(*args, **kwargs)
    result, failure = _threads(os.getpid()).apply(_outcome, (work, args, kwargs))
    if failure is not None:
        raise failure
    return cast(T, result)


def _outcome(work: Callable[..., T], args: Any, kwargs: Any) -> tuple[T | None, BaseException | None]:
    """What the work returned or raised: gevent writes a traceback for whatever leaves one of its threads by itself."""
    try:
        return work(*args, **kwargs), None
    except BaseException as exc:  # noqa: BLE001 - it is raised again where the work was asked for
        return None, exc


@cache
def _threads(pid: int) -> Any:
    """Threads of this process for our own work: those of gevent's hub may all be waiting for a name server."""
    from gevent.threadpool import ThreadPool  # noqa: PLC0415 - only where the server already runs on it

    return ThreadPool(MAX_THREADS)


def give_way() -> None:
    """Let every other greenlet have a turn; threads are given theirs by the operating system."""
    if is_cooperative():
        clock.sleep(0)


def poll() -> Any:
    """A poll object of the operating system: gevent's own knows no POLLRDHUP."""
    return _poll()()


@cache
def _poll() -> Any:
    if not is_cooperative():
        return select.poll
    from gevent import monkey  # noqa: PLC0415 - see above

    return monkey.get_original("select", "poll")
