"""Connections of a worker with gevent on which a caller may send another request: a stop does not wait for them.

gunicorn waits for every open connection until the grace of a stop is over, and a proxy in front keeps some open always.
Its worker with threads closes them itself.
"""

import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final

LOOK_S: Final = 0.5
QUIET_S: Final = 1.0  # a busy proxy would have sent something by then


def leave(worker: Any) -> None:
    """Close them when the worker is told to stop; to be called before it serves.

    Whoever is being answered keeps the connection to the end of the answer, in which gunicorn then says that it closes.
    A connection on which nothing was asked yet is let speak first.
    """
    waiting: dict[socket.socket, float] = {}  # since when
    handle, handle_request = worker.handle, worker.handle_request

    def connected(listener: Any, client: socket.socket, address: Any) -> None:
        try:
            handle(listener, client, address)
        finally:
            waiting.pop(client, None)

    def requested(listener: Any, request: Any, client: socket.socket, address: Any) -> None:
        waiting.pop(client, None)
        handle_request(listener, request, client, address)
        waiting[client] = time.monotonic()

    def watch() -> None:
        while worker.alive:
            time.sleep(LOOK_S)
        while True:
            long_ago = time.monotonic() - QUIET_S
            for client in [client for client, since in waiting.items() if since < long_ago]:
                with suppress(OSError):  # it has just been closed
                    client.shutdown(socket.SHUT_RD)
            time.sleep(LOOK_S)

    worker.handle, worker.handle_request = connected, requested
    threading.Thread(target=watch, daemon=True, name="idle connections").start()
