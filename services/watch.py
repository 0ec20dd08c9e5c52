"""Watches the calls under way: ends those whose caller has left or takes no more, all when the worker must go.

Where a provider bills what was begun, its settings may say that the answer is read on without a caller, so that the
books have its real figures: `leave` decides that. It is done by whoever was reading; the watch only ends it in time.

A server learns of a closed connection only when it writes to it, so a silent upstream would hide a caller's
leaving for as long as it is silent. One thread (under gevent: greenlet) per worker looks at the callers' sockets.
"""

import logging
import os
import select
import threading
from contextlib import closing, suppress
from socket import SHUT_RDWR
from socket import socket as Socket  # noqa: N812 - `socket` is the word for its number here
from typing import Any, Final

from services import token_counter
from services.errors import CallerGone
from services.providers import common
from services.types import Call
from utils import clock, native

log = logging.getLogger(__name__)

LOOK_S: Final = 0.25  # a caller's leaving must reach the upstream within a second
STALL_S: Final = 5.0  # what a caller may take of its answer later than the upstream may send it
LEFT: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL


class Watch:
    """The calls of this worker, by the socket of their caller."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s + STALL_S
        self._pid = 0
        self._guard = threading.Lock()
        self._poll: Any = None
        self._by_socket: dict[int, Call] = {}
        self._calls: dict[str, tuple[Call, int | None]] = {}
        self._drain_at_s: float | None = None
        self._looker: object | None = None  # whose thread is to go on

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
        if call.id not in self._calls:  # it came to no provider
            return
        with self._guard:
            _call, socket = self._calls.pop(call.id, (call, None))
        if socket is not None and self._by_socket.get(socket) is call:
            del self._by_socket[socket]
            self._poll.unregister(socket)

    def leave(self, call: Call) -> bool:
        """The caller has left. True = the answer under way is read on until `drain_until_s`; False = the call ends."""
        with self._guard:
            if call.drain_until_s is not None:
                return True
            if call.id not in self._calls or call.abort_reason is not None or call.exchange is None or self._is_late():
                return False  # no provider is at work on it, or none may be any longer
            upstream = call.attempts[-1].deployment.upstream
            drain = common.drain_of(upstream.settings)
            if drain is None or self._drained(upstream.id) >= drain.max_streams:
                return False
            call.drain_until_s = clock.monotonic_s() + drain.max_s
            return True

    def _drained(self, provider: int) -> int:
        """How many answers of a provider account are being read on."""
        under_way = [call for call, _socket in list(self._calls.values()) if call.drain_until_s is not None]
        return sum(call.attempts[-1].deployment.upstream.id == provider for call in under_way)

    @property
    def is_draining(self) -> bool:
        """Whether the worker was told to end."""
        return self._drain_at_s is not None

    def drain(self, within_s: float) -> None:
        """From then on, end every call: the worker is about to be killed."""
        self._drain_at_s = clock.monotonic_s() + within_s

    def close(self) -> None:
        """Look no more, after the last call; another one would begin it anew."""
        with self._guard:
            self._looker, self._pid = None, 0

    def look(self) -> None:
        """End the calls whose caller has left or takes nothing more, or all when it is late."""
        for socket, event in self._poll.poll(0):
            call = self._by_socket.get(socket)
            if call is None or not event & LEFT or call.fingerprint is not None:
                continue  # a call that may be repeated is made all the same, for when its caller comes again
            if not self.leave(call):
                call.abort_gone()
        is_late, now_s = self._is_late(), clock.monotonic_s()
        begun_s = now_s - self._longest_s
        for call, socket in list(self._calls.values()):
            if call.drain_until_s is not None:
                if is_late or now_s > call.drain_until_s:
                    call.abort_gone()
            elif is_late:
                call.abort_draining()
            if call.started_s < begun_s:
                call.abort(CallerGone("the caller did not take the answer in time"))
                self._hang_up(call, socket)

    def _hang_up(self, call: Call, socket: int | None) -> None:
        """Close the caller's connection under whoever is waiting to write to it."""
        with self._guard:  # as long as the call is here, the number is that of its caller's connection
            if socket is None or call.id not in self._calls:
                return
            with suppress(OSError), closing(Socket(fileno=os.dup(socket))) as line:
                line.shutdown(SHUT_RDWR)

    def _is_late(self) -> bool:
        return self._drain_at_s is not None and clock.monotonic_s() > self._drain_at_s

    def _start(self) -> None:
        with self._guard:
            if self._pid == os.getpid():
                return
            self._poll, self._by_socket, self._calls = native.poll(), {}, {}
            self._looker = looker = object()
            threading.Thread(target=self._run, args=(looker,), name="watch", daemon=True).start()
            self._pid = os.getpid()

    def _run(self, looker: object) -> None:
        is_ready = False  # for the end
        while self._looker is looker:
            clock.sleep(LOOK_S)
            try:
                if self._drain_at_s is not None and self._calls and not is_ready:
                    is_ready = True
                    token_counter.load()
                self.look()
            except Exception:
                log.exception("looking at the callers' connections failed")
