"""Watches the calls under way: ends those whose caller has left, and all of them when the worker must go.

A server learns of a closed connection only when it writes to it, so a silent upstream would hide a caller's
leaving for as long as it is silent. One thread (under gevent: greenlet) per worker looks at the callers' sockets.
"""

import logging
import os
import select
import threading
from typing import Any, Final

from services.types import Call
from utils import clock, native

log = logging.getLogger(__name__)

LOOK_S: Final = 0.4  # a caller's leaving must reach the upstream within a second
LEFT: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL


class Watch:
    """The calls of this worker, by the socket of their caller."""

    def __init__(self) -> None:
        self._pid = 0
        self._guard = threading.Lock()
        self._poll: Any = None
        self._by_socket: dict[int, Call] = {}
        self._calls: dict[str, tuple[Call, int | None]] = {}
        self._drain_at_s: float | None = None

    def add(self, call: Call, socket: int | None) -> None:
        """Watch a call; `socket` is the file number of its caller's connection, None where there is none."""
        if self._pid != os.getpid():
            self._start()
        self._calls[call.id] = (call, socket)
        if socket is not None:
            self._by_socket[socket] = call
            self._poll.register(socket, select.POLLRDHUP)
        if self._is_late():
            call.abort_draining()

    def remove(self, call: Call) -> None:
        """The call has ended; its caller's socket is no longer ours to look at. May be called twice."""
        _call, socket = self._calls.pop(call.id, (call, None))
        if socket is not None and self._by_socket.get(socket) is call:
            del self._by_socket[socket]
            self._poll.unregister(socket)

    def drain(self, within_s: float) -> None:
        """From then on, end every call: the worker is about to be killed."""
        self._drain_at_s = clock.monotonic_s() + within_s

    def look(self) -> None:
        """End the calls whose caller has left, or all when it is late."""
        for socket, event in self._poll.poll(0):
            call = self._by_socket.get(socket)
            if call is not None and event & LEFT:
                call.abort_gone()
        if self._is_late():
            for call, _socket in list(self._calls.values()):
                call.abort_draining()

    def _is_late(self) -> bool:
        return self._drain_at_s is not None and clock.monotonic_s() > self._drain_at_s

    def _start(self) -> None:
        with self._guard:
            if self._pid == os.getpid():
                return
            self._poll, self._by_socket, self._calls = native.poll(), {}, {}
            threading.Thread(target=self._run, name="watch", daemon=True).start()
            self._pid = os.getpid()

    def _run(self) -> None:
        while True:
            clock.sleep(LOOK_S)
            try:
                self.look()
            except Exception:
                log.exception("looking at the callers' connections failed")
