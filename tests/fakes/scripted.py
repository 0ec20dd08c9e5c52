"""A server on loopback whose every answer is written by the test, byte for byte."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    connection: int  # the first is 1
    body: bytes


class Scripted:
    """Gives each request and its connection to `answer`, which says whether the connection is to be kept."""

    def __init__(self, answer: Callable[[Asked, socket.socket], bool]) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # else who waits in `accept` waits for ever
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                line, _address = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(line, self.connections), daemon=True).start()

    def _serve(self, line: socket.socket, number: int) -> None:
        with line, line.makefile("rb") as reader:
            try:
                while (body := _read(reader)) is not None:
                    self.asked.append(Asked(number, body))
                    if not self._answer(self.asked[-1], line):
                        return
            except OSError:
                return  # the other side left


def _read(reader: Any) -> bytes | None:
    if not reader.readline():
        return None
    length = 0
    while line := reader.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return bytes(reader.read(length))
