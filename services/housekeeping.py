"""What each worker does beside its calls: a thread (under gevent: greenlet) with a table of small jobs.

Jobs that wait for others' servers, or may have much to do, have a thread of their own, so that settlements do not wait
with them.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from utils import clock

log = logging.getLogger(__name__)

TICK_S: Final = 0.5


@dataclass(slots=True)
class Job:
    """Work that is done every so often; what it raises is logged, and it is tried again at its next turn."""

    name: str
    every_s: float
    work: Callable[[], Any]
    is_slow: bool = False
    due_s: float = 0.0


class Housekeeper:
    """Runs the jobs of one worker process from `start` until the process ends."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin, in threads of this process."""
        quick = [job for job in self._jobs if not job.is_slow]
        for jobs in (quick, *([job] for job in self._jobs if job.is_slow)):
            threading.Thread(target=self._run, args=(jobs,), name="housekeeper", daemon=True).start()

    def stop(self) -> None:
        """Begin no further job."""
        self._stopped.set()

    def do_due(self, jobs: Iterable[Job] | None = None) -> None:
        """Do once whatever is due now, of these jobs or of all."""
        for job in self._jobs if jobs is None else jobs:
            now_s = clock.monotonic_s()
            if now_s < job.due_s or self._stopped.is_set():
                continue
            job.due_s = now_s + job.every_s
            try:
                job.work()
            except Exception as exc:  # noqa: BLE001 - the database may be away; the other jobs must go on
                log.warning("job %s failed: %s: %s", job.name, type(exc).__name__, exc)

    def _run(self, jobs: list[Job]) -> None:
        while not self._stopped.is_set():
            self.do_due(jobs)
            clock.sleep(TICK_S)
