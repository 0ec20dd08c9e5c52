"""How many calls a worker takes at once: as many as the settings say, or as its open files allow.

A call needs two open files, its caller's connection and its provider's. Beyond the places of calls a worker has room
for all else that comes: signs of life, sign-in, pages, and calls that wait for a place (services/shedding.py).
"""

import resource
from contextlib import suppress
from typing import Final

FILES: Final = 64  # that a worker has open besides connections: its log, its spool, its database, its event loop
LEAST_BEYOND: Final = 16
SHARE_BEYOND: Final = 2  # one more for so many places


def wanted(worker_class: str, threads: int, connections: int) -> int:
    """What the settings say: a thread for each call, or a connection."""
    return connections if worker_class == "gevent" else threads


def beyond(calls: int) -> int:
    """Threads or connections besides those of so many calls."""
    return max(LEAST_BEYOND, calls // SHARE_BEYOND)


def files(calls: int) -> int:
    """How many files a worker with so many calls may have open."""
    return 2 * calls + beyond(calls) + FILES


def fitting(calls: int) -> int:
    """The places that this process' limit of open files leaves of so many; 0 or less = not even one."""
    limit, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or files(calls) <= limit:
        return calls
    left = limit - FILES
    return min(calls, (left - LEAST_BEYOND) // 2, left * SHARE_BEYOND // (2 * SHARE_BEYOND + 1))


def make_room(calls: int) -> int:
    """Raise the limit of open files as far as so many calls need and the system lets us; returns `fitting` of them."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != limit < files(calls):
        wanted = files(calls) if most == resource.RLIM_INFINITY else min(files(calls), most)
        with suppress(OSError, ValueError):  # what forbids it also says how many there are
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, wanted), most))
    return fitting(calls)


def connections(calls: int, wanted: int) -> int:
    """How many callers a worker with threads stays connected to, idle ones among them."""
    limit, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if limit == resource.RLIM_INFINITY else min(wanted, limit - FILES - calls)
    return max(most, calls + beyond(calls))
