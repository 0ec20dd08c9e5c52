"""What the scripts in this folder share: their arguments, their words, and one line of JSON for each check.

A check is a function that asks the gateway by a client, asserts what came, and gives the tokens that the client was
told, (input, output) for each call that told any; nothing where a client shows none.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

SYSTEM = "Be brief."
SAID = "one two three"
BUSY = "Are you busy?"  # the fake vendors refuse this with 429
TEXT = "[Be brief.] You said: one two three — ça va?"  # what they say to the two above
AFTER_TOOLS = "The tools said: sunny, noon — ça va?"
TOOLS = {"weather": ("city", "sunny"), "clock": ("zone", "noon")}  # their argument, always Lisbon, and their result
NO_SUCH = "no-such-model"

Usages = list[tuple[int, int]]


class City(BaseModel):
    """What is asked for where an answer shall have a form; the fake vendors know one city."""

    name: str
    size: int


LISBON = City(name="Lisbon", size=3)


@dataclass(frozen=True)
class Gateway:
    """Where and what to ask."""

    url: str  # without /v1
    key: str
    model: str
    embeds: bool = True  # false: the model's provider has no embeddings, and says so

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


Check = Callable[[Gateway], Usages]


def run(gateway: Gateway, checks: tuple[Check, ...]) -> Iterator[dict[str, Any]]:
    """The outcome of each check: its name, whether it is ok, the usages, and the error where it is not."""
    for check in checks:
        try:
            yield {"check": check.__name__, "ok": True, "usages": check(gateway)}
        except Exception as error:  # noqa: BLE001 - whatever a client raises is what its check found
            place = traceback.extract_tb(error.__traceback__)[1:2]
            line = f"{place[0].lineno}: {place[0].line}" if place else ""
            told = f"{type(error).__name__}: {error}"[:2000]
            yield {"check": check.__name__, "ok": False, "usages": [], "error": f"line {line} -> {told}"}


def main(checks: tuple[Check, ...]) -> None:
    """Run the checks against what the arguments name; exits with 1 if one fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url", help="the gateway's address, without /v1")
    parser.add_argument("key")
    parser.add_argument("model")
    parser.add_argument("--no-embeddings", action="store_true", help="the model's provider has none")
    given = parser.parse_args()
    failed = False
    for outcome in run(Gateway(given.url, given.key, given.model, not given.no_embeddings), checks):
        print(json.dumps(outcome, ensure_ascii=False), flush=True)
        failed |= not outcome["ok"]
    sys.exit(failed)


def refused(error: type[Exception], ask: Callable[[], Any]) -> Any:
    """The error of that class that asking ends with."""
    try:
        answer = ask()
    except error as found:
        return found
    raise AssertionError(f"answered {answer!r} instead of {error.__name__}")
