"""What the checks of `flask doctor` are given, and what they give."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.checks import Finding

if TYPE_CHECKING:
    from services import Gateway

OK, WARN, BAD = "ok", "warn", "bad"


@dataclass(frozen=True, slots=True)
class Result:
    """How one thing is (`ok`, `warn`, `bad`), what was found, and in a sentence how to mend it; empty = no need."""

    state: str
    found: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at. `words`: a provider's finding in words."""

    here: "Gateway"
    words: Callable[[Finding], str]
    tls_file: Path | None = None  # a certificate's file
    tls_place: tuple[str, int] | None = None  # host and port of who ends TLS


Check = Callable[[Patient], Iterable[Result]]


def or_ok(found: Iterable[Result], words: str) -> list[Result]:
    """What was found; if that is nothing, one line that says all is well."""
    return list(found) or [Result(OK, words)]
