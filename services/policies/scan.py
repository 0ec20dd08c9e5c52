"""Finds what policies name in a text, in time linear in its length whatever the text and the patterns say.

One automaton says which rules have anything to find at all; only those look for where, and check it.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from string import ascii_letters, digits
from typing import Any, Final

import re2

from services.policies.folding import ANY_ODD, FOLDED, Folded
from services.policies.kind import FREE, NUMBER, Kind
from services.policies.kinds import KINDS
from services.policies.prefixes import TooDeep, beginnings

REGIONS: Final = ("US", "BR", "GB", "IN", "CA")  # whose telephone numbers may be written without a country's code
PATTERN_CHARS: Final = 1000  # the longest match of an operator's pattern that is found across the pieces of a stream
MOST_PATTERN: Final = 2000  # characters of a pattern
MOST_IN_ALL: Final = 200_000  # … of all rules of a scanner
MEMORY_BYTES: Final = 64 << 20  # what one automaton may grow to before it starts again
OWN_BYTES: Final = 8 << 20  # … that of an operator's pattern
TRIAL_BYTES: Final = 2 << 20  # … of one that is to be stored: RE2 gives up within 0.02 s on one that does not fit
BEGUN_BYTES: Final = 1 << 20  # … of one pattern for how matches begin
MOST_BEGUN: Final = 50_000  # steps of all patterns for how matches of an operator's rules begin, 2 µs each
MOST_BEGUN_CHARS: Final = 200_000
BESIDE: Final = "[^\\p{L}\\p{N}_]"  # what may stand beside a word
BLANKS: Final = "\u115f\u1160\u2800\u3164\uffa0"  # letters and signs that nobody sees
CONTEXT: Final = 32  # characters before a value that checks look at
TOO_LARGE: Final = "pattern too large"  # what RE2 says of one that does not fit
UNANCHORED: Final = re2._Anchor.UNANCHORED  # noqa: SLF001 - see `Scanner._spans`
WORDS: Final = frozenset(f"{ascii_letters}{digits}_".encode())
BLANK: Final = ord(" ")
JOINTS: Final = b"-./:,+"  # where one more group of a number begins
Span = tuple[int, int, int, int]  # of the data: start, end, where its announcement starts; and the rank of its rule


class BadPattern(ValueError):
    """A pattern that cannot be used; the message says why and may be shown."""


def steps_of_pattern(source: str) -> int:
    """How large the automaton of a pattern is; 100,000 steps take 0.1 s to make, and more at their first use.

    Raises:
        BadPattern: it cannot be used.
    """
    return int(_own("pattern", source, TRIAL_BYTES).pattern.programsize)


def steps_of_word(phrase: str) -> int:
    """The same of a word or phrase.

    Raises:
        BadPattern: it has nothing that can be seen.
    """
    if not any(unicodedata.category(one)[0] in "LNPS" and one not in BLANKS for one in phrase):
        raise BadPattern("it has no character that can be seen")
    return int(_words("word", [phrase]).pattern.programsize)


@dataclass(frozen=True, slots=True)
class Finding:
    """Where a rule found something: `text[start:end]`. `rule`: a kind, or the name of a pattern or list of words."""

    rule: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Rule:
    """One pattern, compiled; `kind` is None for an operator's own."""

    name: str
    source: str
    pattern: Any
    most_chars: int
    begun: str = ""  # a pattern for how a match may begin; "" = it is made from the source when it is asked for
    groups: tuple[int, ...] = ()  # of the pattern, one of which is the value; none took part = all of the match
    kind: Kind | None = None
    is_word: bool = False  # no letter or number of any script may stand beside it


class Scanner:
    """Looks for kinds, patterns and words. Immutable; safe for threads.

    `kinds`: names in KINDS. `patterns`: (rule, regular expression) in RE2's syntax. `words`: (rule, word or phrase),
    found as whole words in any case. `regions`: whose telephone numbers are found without a country's code.
    `most_chars`: how much of a stream is held back at most.

    Raises:
        BadPattern: a pattern does not compile or matches the empty text, or all together are too large.
        KeyError: there is no such kind.
    """

    def __init__(
        self,
        kinds: Iterable[str] = (),
        patterns: Iterable[tuple[str, str]] = (),
        words: Iterable[tuple[str, str]] = (),
        regions: tuple[str, ...] = REGIONS,
    ) -> None:
        self._regions = regions
        self._rules = (
            *(_own(name, source) for name, source in patterns),
            *(_words(name, phrases) for name, phrases in _by_name(words).items()),
            *map(_kind, sorted({KINDS[name].name for name in kinds}, key=list(KINDS).index)),
        )
        self.most_chars = max((rule.most_chars for rule in self._rules), default=0)
        self._any = _set(self._rules)
        self._begun: Any = None

    def find(self, text: str) -> list[Finding]:
        """Everything, by start, never overlapping.

        Where two overlap, the longer one (of equals: a pattern before words before kinds) gives its name, and the
        finding covers both.
        """
        return [finding for finding, _lead in self.find_from(text, 0)]

    def find_from(self, text: str, start: int) -> list[tuple[Finding, int]]:
        """The same from a character on, each with where the words that announce it begin.

        What stands before `start` is known to the checks, and found no more.
        """
        if self._any is None:
            return []
        folded, ranks = self._concerned(text)
        begin = folded.place(start, text) if ranks else 0
        spans = [span for rank in ranks for span in self._spans(rank, folded.data, begin)]
        if not spans:
            return []
        merged = _merged(spans)
        ends = sorted({end for span in merged for end in span[:3]})
        place = dict(zip(ends, folded.characters(ends), strict=True))
        return [
            (Finding(self._rules[rank].name, place[low], place[high]), place[lead]) for low, high, lead, rank in merged
        ]

    def open_from(self, text: str) -> int:
        """From which character on more text could still make, or change, a finding; `len(text)` = from none."""
        if self._any is None:
            return len(text)
        if self._begun is None:
            self._begun = _begun(self._rules)
        folded = Folded(text)
        return folded.characters([self._begun.search(folded.data).start()])[0]

    def _concerned(self, text: str) -> tuple[Folded, list[int]]:
        """The text, and the ranks of the rules that match somewhere in it."""
        folded = Folded(text, is_odd=False)
        ranks = self._any.Match(folded.data) or ()  # it gives None for none
        if len(self._rules) in ranks:  # see `_set`
            folded = Folded(text, is_odd=True)
            ranks = self._any.Match(folded.data) or ()
        return folded, sorted(ranks)

    def _spans(self, rank: int, data: bytes, at: int) -> Iterator[Span]:
        rule, until = self._rules[rank], len(data)
        match = rule.pattern._regexp.Match  # noqa: SLF001 - `search` around it takes longer than it, in most texts
        while at <= until and (found := match(UNANCHORED, data, at, until))[0][0] >= 0:
            start, end = low, high = found[0]
            for group in rule.groups:
                if found[group][0] >= 0:
                    low, high = found[group]
                    break
            if high > low and self._fits(rule, data, low, high):
                yield low, high, start, rank
                at = high
            # Inside a candidate that was none there may be one; not inside endless ones, or time were not linear.
            else:
                at = end if end - start > rule.most_chars else start + 1

    def _fits(self, rule: _Rule, data: bytes, low: int, high: int) -> bool:
        if rule.is_word and not _is_whole(data, low, high):
            return False
        kind = rule.kind
        if kind is None:
            return True
        if not _stands_alone(kind.edge, data, low, high):
            return False
        if kind.unless_after and _is_after(kind.unless_after, data, low):
            return False
        value = data[low:high].decode()
        if kind.check_in is not None:
            return kind.check_in(value, self._regions)
        return kind.check is None or kind.check(value)


def _is_after(words: tuple[str, ...], data: bytes, low: int) -> bool:
    before = data[max(0, low - CONTEXT) : low].decode("utf-8", "ignore").lower().rstrip(" :=\"'(")
    return any(before.endswith(word) and not before[: -len(word)][-1:].isalnum() for word in words)


def _stands_alone(edge: str, data: bytes, low: int, high: int) -> bool:
    if edge == FREE:
        return True
    before, after = _byte(data, low - 1), _byte(data, high)
    if before in WORDS or after in WORDS:
        return False
    if edge != NUMBER:
        return True
    return not (
        (before in JOINTS and _byte(data, low - 2) in WORDS) or (after in JOINTS and _byte(data, high + 1) in WORDS)
    )


def _byte(data: bytes, at: int) -> int:
    """That at a place; a space beyond the ends."""
    return data[at] if 0 <= at < len(data) else BLANK


def _is_whole(data: bytes, low: int, high: int) -> bool:
    """Whether no letter, number or underscore of any script stands beside it."""
    beside = (
        data[max(0, low - 4) : low].decode("utf-8", "ignore")[-1:] + data[high : high + 4].decode("utf-8", "ignore")[:1]
    )
    return not any(character == "_" or unicodedata.category(character)[0] in "LN" for character in beside)


def _merged(spans: list[Span]) -> list[Span]:
    """One span for each heap of overlapping ones, named by the longest of them."""
    merged: list[Span] = []
    best = (0, 0)  # of the last heap: the length of its longest span, and minus its rank
    for low, high, lead, rank in sorted(spans):
        weight = (high - low, -rank)
        if merged and low < merged[-1][1]:
            best = max(best, weight)
            last = merged[-1]
            merged[-1] = (last[0], max(last[1], high), min(last[2], lead), -best[1])
        else:
            best = weight
            merged.append((low, high, lead, rank))
    return merged


@cache
def _kind(name: str) -> _Rule:
    kind = KINDS[name]
    pattern = _compiled(kind.pattern)
    begun = beginnings(kind.pattern)
    return _Rule(kind.name, kind.pattern, pattern, kind.most_chars, begun, tuple(range(1, pattern.groups + 1)), kind)


def _own(name: str, source: str, memory: int = OWN_BYTES) -> _Rule:
    if len(source) > MOST_PATTERN:
        raise BadPattern(f"{name}: a pattern has at most {MOST_PATTERN:,} characters")
    pattern = _read(name, source, memory)
    if pattern.search(b"") is not None:
        raise BadPattern(f"{name}: it matches the empty text, so it would match everywhere")
    return _Rule(name, source, pattern, PATTERN_CHARS)


def _read(name: str, source: str, memory: int = OWN_BYTES) -> Any:
    try:
        return _compiled(source, memory)
    except re2.error as error:
        said = _said(error)
        if TOO_LARGE in said:
            raise BadPattern(
                f"{name}: it is too large; fewer or shorter repetitions, such as \\pL+ for \\pL{{100,900}},"
                " make it smaller"
            ) from None
        raise BadPattern(f"{name}: {said}") from None
    except UnicodeEncodeError:
        raise BadPattern(f"{name}: not valid Unicode") from None


def _words(name: str, phrases: Sequence[str]) -> _Rule:
    phrases = [phrase.translate(FOLDED) for phrase in phrases]  # as the texts are
    if any(not phrase.split() for phrase in phrases):
        raise BadPattern(f"{name}: a word is empty")
    longest = sorted(phrases, key=len, reverse=True)
    either = "|".join("\\s+".join(re2.escape(word) for word in phrase.split()) for phrase in longest)
    if len(phrases) == 1:  # what stands beside it is looked at by hand: as a pattern it has 2,700 steps
        source = f"(?i:{either})"
        return _Rule(name, source, _read(name, source), len(longest[0]) + CONTEXT, is_word=True)
    source = f"(?:^|{BESIDE})((?i:{either}))(?:$|{BESIDE})"
    # A long list letter by letter would make an automaton that takes minutes: there the last words are held back.
    most = max(len(phrase.split()) for phrase in phrases)
    begun = beginnings(source) if len(source) <= MOST_PATTERN else f"\\s?(?:\\S+\\s+){{0,{most - 1}}}\\S*"
    return _Rule(name, source, _compiled(source), len(longest[0]) + CONTEXT, begun, (1,))


def _by_name(words: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, phrase in words:
        found.setdefault(name, []).append(phrase)
    return found


def _begun(rules: Sequence[_Rule]) -> Any:
    """A pattern that finds, at the end of a text, where a match may have begun.

    Where that is too large for rules of an operator, it finds the start of every text: what may be part of a match is
    then held back as long as matches are.
    """
    anywhere = _compiled("\\A")
    found, chars, steps = [], 0, 0
    for rule in rules:
        try:
            begun = rule.begun or beginnings(rule.source)
            chars += len(begun)
            if rule.kind is None and chars <= MOST_BEGUN_CHARS:
                steps += _compiled(begun, BEGUN_BYTES).programsize
        except (TooDeep, re2.error):
            return anywhere
        if chars > MOST_BEGUN_CHARS or steps > MOST_BEGUN:
            return anywhere
        found.append(f"(?:{begun}[{JOINTS.decode()}]?)")
    return _compiled(f"(?:{'|'.join(found)})\\z")


def _options(memory: int) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = memory
    return options


def _compiled(source: str, memory: int = MEMORY_BYTES) -> Any:
    return re2.compile(source.encode(), _options(memory))


def _set(rules: Sequence[_Rule]) -> Any:
    """One automaton for all of them, and after them for what is odd: asked apart that takes as long as the rest."""
    if not rules:
        return None
    if sum(len(rule.source) for rule in rules) > MOST_IN_ALL:
        raise BadPattern(f"patterns and words have more than {MOST_IN_ALL:,} characters together")
    found = re2.Set.SearchSet(_options(MEMORY_BYTES))
    try:
        for rule in rules:
            found.Add(rule.source.encode())
        found.Add(ANY_ODD.encode())
        found.Compile()
    except re2.error:
        raise BadPattern("patterns and words are too large together") from None
    return found


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else b""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
