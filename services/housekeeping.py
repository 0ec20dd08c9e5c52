"""What each worker does beside its calls: one thread (under gevent: greenlet) with a table of small jobs."""

import logging
import threading
from collections.abc import Callable
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
    due_s: float = 0.0


class Housekeeper:
    """Runs the jobs of one worker process from `start` until the process ends."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin, in a thread of this process."""
        threading.Thread(target=self._run, name="housekeeper", daemon=True).start()

    def stop(self) -> None:
        """Begin no further job."""
        self._stopped.set()

    def do_due(self) -> None:
        """Do once whatever is due now."""
        for job in self._jobs:
            now_s = clock.monotonic_s()
            if now_s < job.due_s or self._stopped.is_set():
                continue
            job.due_s = now_s + job.every_s
            try:
                job.work()
            except Exception as exc:  # noqa: BLE001 - the database may be away; the other jobs must go on
                log.warning("job %s failed: %s: %s", job.name, type(exc).__name__, exc)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.do_due()
            clock.sleep(TICK_S)
