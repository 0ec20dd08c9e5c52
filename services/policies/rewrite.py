"""Texts without what was found in them, whole or in pieces that are cut anywhere, and with it put back."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal, Protocol

from services.policies.scan import CONTEXT, Finding, Scanner

Action = Literal["watch", "mask", "stop"]

LABEL_CHARS: Final = 40  # of a rule's name in a placeholder
PLACEHOLDER: Final = re.compile(r"\[[A-Z][A-Z0-9_]{0,60}_[0-9]{1,9}\]")
BEGUN: Final = re.compile(r"\[(?:[A-Z][A-Z0-9_]{0,70})?\Z")  # one that may go on
TYPED: Final = "TEXT"  # what stands for a placeholder that the caller typed


class Blocked(Exception):
    """A rule that stops the text was found in it. `rule`: its name."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"found: {rule}")
        self.rule = rule


class Placeholders:
    """What stands for the values of one call, such as `[EMAIL_1]`; the same value has the same one in all its texts.

    A placeholder that the caller typed is a value like others: it gets one of its own, so that it comes back as typed
    and opens nothing. Not for threads.
    """

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        self._values: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def redact(self, text: str, findings: Sequence[Finding]) -> str:
        """The text with placeholders where something was found; `findings` are those of Scanner.find."""
        pieces, at = [], 0
        for finding in findings:
            pieces.append(self._typed(text[at : finding.start]))
            pieces.append(self._placeholder(finding.rule, text[finding.start : finding.end]))
            at = finding.end
        pieces.append(self._typed(text[at:]))
        return "".join(pieces)

    def restore(self, text: str) -> str:
        """The text with the values again; placeholders that stand for nothing stay. What is put back is not read."""
        return PLACEHOLDER.sub(lambda match: self._values.get(match[0], match[0]), text)

    def _typed(self, text: str) -> str:
        return PLACEHOLDER.sub(lambda match: self._placeholder(TYPED, match[0]), text)

    def _placeholder(self, rule: str, value: str) -> str:
        if (known := self._of.get(value)) is not None:
            return known
        name = label(rule)
        self._counts[name] = self._counts.get(name, 0) + 1
        made = f"[{name}_{self._counts[name]}]"
        self._of[value], self._values[made] = made, value
        return made


class Rewrite(Protocol):
    """One way to rewrite a text of which more may follow."""

    def __call__(self, text: str, start: int, *, is_end: bool) -> tuple[str, int]:
        """What `text[start:until]` becomes, and `until`: what comes later cannot change that. All of it at the end."""


class Rewriter:
    """One text in pieces, cut anywhere; what it gives is what the whole text would give. Not for threads."""

    def __init__(self, rewrite: Rewrite) -> None:
        self._rewrite = rewrite
        self._before = ""  # the end of what was given, which says what stands before a value
        self._held = ""

    def feed(self, piece: str) -> str:
        """What may be given on now that this piece has come; nothing that may be part of a finding."""
        return self._advance(piece, is_end=False)

    def end(self) -> str:
        """What was held back, rewritten."""
        return self._advance("", is_end=True)

    def _advance(self, piece: str, *, is_end: bool) -> str:
        text = self._before + self._held + piece
        given, until = self._rewrite(text, len(self._before), is_end=is_end)
        self._before, self._held = text[max(0, until - CONTEXT) : until], text[until:]
        return given


class Watcher:
    """Finds in a stream and acts: `watch` changes nothing, `mask` puts `[EMAIL]` there, `stop` raises Blocked.

    `found`: the rules that were, in the order of their first findings.
    """

    def __init__(self, scanner: Scanner, action: Action) -> None:
        self._scanner, self._action = scanner, action
        self.found: list[str] = []

    def __call__(self, text: str, start: int, *, is_end: bool) -> tuple[str, int]:
        """See Rewrite."""
        findings = self._scanner.find_from(text, start)
        until = len(text) if is_end else self._settled(text, start, findings)
        pieces, at = [], start
        for finding, _lead in findings:
            if finding.end > until:
                break
            if finding.rule not in self.found:
                self.found.append(finding.rule)
            if self._action == "stop":
                raise Blocked(finding.rule)
            if self._action == "mask":
                pieces += [text[at : finding.start], f"[{label(finding.rule)}]"]
                at = finding.end
        return "".join([*pieces, text[at:until]]), until

    def _settled(self, text: str, start: int, findings: Sequence[tuple[Finding, int]]) -> int:
        """Up to where nothing can change: before what is open, and before each finding that reaches into it."""
        until, was = max(start, self._scanner.open_from(text)), -1
        while until != was:
            was = until
            until = min([until, *(lead for finding, lead in findings if lead < until < finding.end)])
        at_least = len(text) - self._scanner.most_chars
        if until >= at_least:
            return until
        return max([at_least, *(finding.end for finding, _lead in findings if finding.start < at_least)])


def restoring(placeholders: Placeholders) -> Rewrite:
    """Puts values back where a stream has their placeholders."""

    def rewrite(text: str, start: int, *, is_end: bool) -> tuple[str, int]:
        begun = None if is_end else BEGUN.search(text, max(start, len(text) - LABEL_CHARS - 32))
        until = len(text) if begun is None else begun.start()
        return placeholders.restore(text[start:until]), until

    return rewrite


@lru_cache(1000)
def label(rule: str) -> str:
    """The rule's name as placeholders have it: capitals, digits and underscores."""
    plain = re.sub(r"[^A-Z0-9]+", "_", rule.upper())[:LABEL_CHARS].strip("_")
    return plain if plain[:1].isalpha() else f"VALUE_{plain}".rstrip("_")
