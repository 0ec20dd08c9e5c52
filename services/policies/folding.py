"""Texts as patterns read them: what looks like a digit, a space or a hyphen is one, and what is invisible is not there.

So a card number does not escape by zero-width characters, full-width digits or non-breaking spaces between its
groups. Letters stay as they are.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import re2

INVISIBLE: Final = (  # zero-width characters, marks of direction, soft hyphens
    "\u00ad\u034f\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064"
    "\u2066\u2067\u2068\u2069\ufeff"
)
SPACES: Final = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
HYPHENS: Final = "\u2010\u2011\u2012\u2013\u2212\ufe58\ufe63"
ZEROS: Final = (  # of the scripts that have digits of their own, each followed by its other nine
    0x0660,
    0x06F0,
    0x07C0,
    0x0966,
    0x09E6,
    0x0A66,
    0x0AE6,
    0x0B66,
    0x0BE6,
    0x0C66,
    0x0CE6,
    0x0D66,
    0x0DE6,
    0x0E50,
    0x0ED0,
    0x0F20,
    0x1040,
    0x1090,
    0x17E0,
    0x1810,
    0x1946,
    0x19D0,
    0x1A80,
    0x1A90,
    0x1B50,
    0x1BB0,
    0x1C40,
    0x1C50,
    0xA620,
    0xA8D0,
    0xA900,
    0xA9D0,
    0xA9F0,
    0xAA50,
    0xABF0,
    0xFF10,
    0x104A0,
    0x10D30,
    0x11066,
    0x110F0,
    0x11136,
    0x111D0,
    0x112F0,
    0x11450,
    0x114D0,
    0x11650,
    0x116C0,
    0x11730,
    0x118E0,
    0x11950,
    0x11C50,
    0x11D50,
    0x11DA0,
    0x16A60,
    0x16AC0,
    0x16B50,
    0x1D7CE,
    0x1D7D8,
    0x1D7E2,
    0x1D7EC,
    0x1D7F6,
    0x1E140,
    0x1E2F0,
    0x1E950,
    0x1FBF0,
)
FOLDED: Final = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width ASCII
    **{zero + digit: str(digit) for zero in ZEROS for digit in range(10)},
    **dict.fromkeys(map(ord, SPACES), " "),
    **dict.fromkeys(map(ord, HYPHENS), "-"),
    **dict.fromkeys(map(ord, INVISIBLE), ""),
}
# Asked of the bytes: for a class with characters above U+FFFF `re` takes a hundred times as long.
ANY_ODD: Final = f"[{''.join(map(chr, FOLDED))}]"
ODD: Final = re2.compile(ANY_ODD.encode())
UNSEEN: Final = re.compile(f"[{INVISIBLE}]")


class Folded:
    """A text as bytes for the patterns, and the way back to its characters.

    `is_odd`: whether ANY_ODD is found in it; None = it is not known yet.
    """

    __slots__ = ("_is_ascii", "_unseen", "data")

    def __init__(self, text: str, *, is_odd: bool | None = None) -> None:
        self._is_ascii = text.isascii()
        self._unseen: Sequence[int] = ()
        self.data = text.encode("utf-8", "replace")  # a lone surrogate becomes one "?"
        if is_odd is None:
            is_odd = not self._is_ascii and ODD.search(self.data) is not None
        if is_odd:
            # How many characters are seen before each that is not.
            self._unseen = [match.start() - count for count, match in enumerate(UNSEEN.finditer(text))]
            self.data = text.translate(FOLDED).encode("utf-8", "replace")

    def characters(self, places: Sequence[int]) -> list[int]:
        """Where in the text these places of `data`, which ascend, are, with what is invisible before each."""
        if self._is_ascii:
            return list(places)
        found, counted, at = [], 0, 0
        for place in places:
            counted += len(self.data[at:place].decode("utf-8"))
            at = place
            found.append(counted + self._hidden(counted))
        return found

    def place(self, character: int, text: str) -> int:
        """The place in `data` of a character of the text."""
        return character if self._is_ascii else len(Folded(text[:character]).data)

    def _hidden(self, seen: int) -> int:
        return bisect_left(self._unseen, seen)
