"""Ports for servers that tests start in processes of their own."""

import itertools
import secrets
import socket
from typing import Final

FIRST, COUNT = 12_000, 20_000  # below those that systems give to connections, of which one may come first

_numbers: Final = itertools.count(secrets.randbelow(COUNT))  # elsewhere in every process, and never the same twice


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    for number in _numbers:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", FIRST + number % COUNT))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("numbers do not end")
