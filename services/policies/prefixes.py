"""How a match of a pattern may begin: from a pattern, one that matches every beginning of its matches.

A stream is held back from where such a beginning reaches its end, and no further. What is made here may match more
than that (long repetitions are taken as endless, which keeps the automaton small), never less.
"""

import re
from typing import Final, NamedTuple

MOST_DEEP: Final = 30  # groups within groups: each holds the pattern of those in it twice
MOST_EXACT: Final = 8  # repetitions that are counted; above, they may go on
ESCAPE: Final = re.compile(r"\\(?:[pP](?:\{[^}]*\}|.)|x\{[^}]*\}|x[0-9A-Fa-f]{2}|[0-7]{3}|Q.*?(?:\\E|\Z)|.)", re.DOTALL)
CLASS: Final = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|\\(?:[pP]\{[^}]*\}|x\{[^}]*\}|.)|[^\]\\])*\]", re.DOTALL)
REPEAT: Final = re.compile(r"(?:[*+?]|\{(\d+)(,?)(\d*)\})\??")
GROUP: Final = re.compile(r"\((?:\?(?:P?<\w+>|([A-Za-z-]*:)|([A-Za-z-]+)\)))?")
LETTERS: Final = re.compile(r"\\p\{(?:L|Lu|N)\}")
ANY_LETTER: Final = r"0-9A-Za-z\x{80}-\x{10FFFF}"  # a range instead of the thousands that Unicode has of them


class TooDeep(ValueError):
    """The pattern has too many groups within groups."""


class Part(NamedTuple):
    """A piece of a pattern: itself, and what matches the beginnings of it that have a character; "" = none do."""

    whole: str
    begun: str


def beginnings(pattern: str) -> str:
    """A pattern for every beginning of what `pattern` matches, the empty one and the whole among them.

    `pattern` is one that RE2 has read already.

    Raises:
        TooDeep: it has more than MOST_DEEP groups within each other.
    """
    return _Reader(pattern).alternatives().begun


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern, self._at, self._deep = pattern, 0, 0

    def alternatives(self) -> Part:
        """Up to the closing parenthesis or the end."""
        found = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            found.append(self._sequence())
        return Part(f"(?:{'|'.join(part.whole for part in found)})", f"(?:{'|'.join(part.begun for part in found)})?")

    def _sequence(self) -> Part:
        parts = []
        while self._next() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        begun = ""
        for part in reversed(parts):
            begun = f"(?:{part.whole}{begun}{'|' + part.begun if part.begun else ''})?"
        return Part("".join(part.whole for part in parts), begun)

    def _repeated(self, part: Part) -> Part:
        match = REPEAT.match(self._pattern, self._at)
        if match is None:
            return part
        self._at = match.end()
        times = match[0].rstrip("?") or "?"
        if match[1] and int(match[3] or match[1]) > MOST_EXACT:
            times = "+" if int(match[1]) else "*"
        return Part(part.whole + times, f"{part.whole}*{part.begun}" if part.begun else f"{part.whole}*")

    def _atom(self) -> Part:
        opened = GROUP.match(self._pattern, self._at)
        if opened is not None:
            return self._group(opened)
        for shape in (CLASS, ESCAPE):
            if (match := shape.match(self._pattern, self._at)) is not None:
                self._at = match.end()
                return Part(_wider(match[0]), "")
        self._at += 1
        return Part(self._pattern[self._at - 1], "")

    def _group(self, opened: re.Match[str]) -> Part:
        self._at = opened.end()
        if opened[2]:  # flags for what follows
            return Part(opened[0], "")
        if self._deep == MOST_DEEP:
            raise TooDeep
        self._deep += 1
        part = self.alternatives()
        self._deep -= 1
        self._at += 1
        flags = opened[1] or ":"
        return Part(f"(?{flags}{part.whole})", f"(?{flags}{part.begun})")

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]


def _wider(atom: str) -> str:
    """A class or an escape, with all that is not ASCII where it has the letters or numbers of Unicode.

    A negated class becomes narrower by that; there the whole of Unicode stays.
    """
    if atom.startswith("[^") or LETTERS.search(atom) is None:
        return atom
    inner = LETTERS.sub(lambda _match: ANY_LETTER, atom)
    return inner if atom.startswith("[") else f"[{inner}]"
