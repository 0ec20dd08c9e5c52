"""How far long work is: whoever does it says so, whoever asked for it may listen."""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
B = TypeVar("B", bound=Sized)
Tell = Callable[[int, int], None]  # how much is done, of how much in all; the whole may be a guess


def silent(done: int, whole: int) -> None:
    """Nobody listens."""


def told(items: Iterable[T], whole: int, tell: Tell) -> Iterator[T]:
    """The items, one by one; each is done when the next one is asked for."""
    tell(0, whole)
    for done, item in enumerate(items, 1):
        yield item
        tell(done, whole)


def measured(chunks: Iterable[B], tell: Tell, whole: int) -> Iterator[B]:
    """The chunks, with how many bytes of the whole have passed."""
    done = 0
    tell(0, whole)
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        tell(done, whole)
