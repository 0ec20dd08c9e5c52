"""What one kind of finding is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Check = Callable[[str], bool]
CheckIn = Callable[[str, tuple[str, ...]], bool]  # the second: regions, such as "BR"

WORD: Final = "word"  # no letter, digit or underscore of ASCII beside the value
NUMBER: Final = "number"  # … and no more groups of it either, as in 1.2.3 or 12-34
FREE: Final = "free"  # anything may stand beside it

# Between a word that announces a value and the value: a few characters or short words, never another sentence.
LINK: Final = (
    r"(?:[\s\"'`:=#*(>|,_-]{0,3}(?:(?i:number|numbers|code|value|is|was|are|will be|of|for|the|my|our|on file|id|no|num"
    r"|nr|número|numero|é|era|foi|do|da|de|meu|minha|es|el|la|ist|lautet|est)\b|(?i:n[º°o]|é)|#)\.?){0,4}"
    r"[\s\"'`:=#*(>|_-]{1,4}"
)
GAP: Final = r"[^\n\d]{0,24}?"  # the same for values that are told by their check digits


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding.

    `pattern` is what RE2 reads; the capturing group that took part, if one did, is the value. `check` (and `check_in`,
    which gets the regions too) decides about a value that the pattern found. `unless_after`: words, in lower case,
    that make a value another thing when they stand before it. `most_chars`: the longest match, with the words that
    announce it. `how` says in words how values are validated.
    """

    name: str
    title: str
    group: str
    pattern: str
    how: str
    check: Check | None = None
    check_in: CheckIn | None = None
    edge: str = WORD
    unless_after: tuple[str, ...] = ()
    most_chars: int = 160


def after(words: str, value: str, link: str = LINK) -> str:
    """The pattern of a value that these words announce, in any case."""
    return rf"(?i:\b(?:{words})){link}({value})"


def digits(value: str) -> str:
    """Only the digits of the value."""
    return "".join(filter(str.isdecimal, value))


def plain(value: str) -> str:
    """The value without what groups it."""
    return value.replace(" ", "").replace("-", "").replace(".", "").replace("/", "")
