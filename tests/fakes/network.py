"""Hosts of their own for gateways: network namespaces joined to this one by veth pairs, where Linux lets us make them.

Elsewhere two addresses of loopback stand for them.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
OURS = "198.18."  # of RFC 2544: nobody's on the Internet
PORT = 8000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway runs. `prefix`: words before its command."""

    address: str
    port: int
    prefix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """`center`: the address at which all hosts reach this machine; `kind` says what they are."""

    center: str
    places: tuple[Place, ...]
    kind: str


@contextmanager
def network(count: int) -> Iterator[Network]:
    """So many hosts while the block lasts."""
    made: list[tuple[str, ...]] = []
    try:
        yield _namespaces(count, made)
    except _Impossible as exc:
        _undo(made)
        yield _loopback(count, str(exc))
    finally:
        _undo(made)


class _Impossible(Exception):
    """The message says why there are no namespaces."""


def _namespaces(count: int, made: list[tuple[str, ...]]) -> Network:
    if IP is None or os.geteuid() != 0:
        raise _Impossible("no iproute2" if IP is None else "not root")
    name = f"th{os.getpid() % 100_000}"
    net = f"{OURS}{os.getpid() % 250 + 1}"
    center, places = f"{net}.1", []
    for number in range(count):
        space, link, address = f"{name}n{number}", f"{name}v{number}", f"{net}.{11 + number}"
        _ip("netns", "add", space)
        made.append(("netns", "del", space))  # its end of the pair goes with it, and so does the other
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
        if not number:
            _ip("addr", "add", f"{center}/32", "dev", link)
        _ip("link", "set", link, "up")
        inside = ("-n", space)
        _ip(*inside, "addr", "add", f"{address}/32", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip(*inside, "link", "set", device, "up")
        _ip(*inside, "route", "add", center, "dev", "eth0", "src", address)
        _ip("route", "add", address, "dev", link, "src", center)
        places.append(Place(address, PORT, (IP, "netns", "exec", space)))
    return Network(center, tuple(places), f"{count} network namespaces")


def _ip(*words: str) -> None:
    done = subprocess.run([str(IP), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise _Impossible(done.stderr.strip())


def _undo(made: list[tuple[str, ...]]) -> None:
    while made:
        subprocess.run([str(IP), *made.pop()], capture_output=True, check=False)


def _loopback(count: int, why: str) -> Network:
    places = []
    for address in _addresses(count):
        with socket.socket() as probe:
            probe.bind((address, 0))
            places.append(Place(address, int(probe.getsockname()[1])))
    return Network("127.0.0.1", tuple(places), f"{count} addresses of loopback (no namespaces: {why})")


def _addresses(count: int) -> Sequence[str]:
    return [f"127.0.0.{number + 1}" for number in range(count)]
