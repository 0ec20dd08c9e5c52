"""What fake vendors say to what they are asked: one brain, whose faces stand in vendor_faces.py.

Where tools are offered and no result has come, the brain calls each of them; where a schema is given it writes JSON
that fits; otherwise it repeats what the user said, or what the tools answered. It refuses what no vendor lets pass:
results of calls that were never made, and calls that nobody answered. Each answer has counts of its own, so that
they can be found again in what a client says and in the books.
"""

import json
from dataclasses import dataclass, field
from itertools import count
from typing import Any

BUSY = "Are you busy?"  # what must be said to be refused with 429
NOT_ASCII = "— ça va?"  # ends every text
CACHED = 40  # tokens of every prompt


@dataclass
class Ask:
    """What a request wants, in no vendor's words."""

    is_stream: bool = False
    said: str = ""  # the user's last text
    system: str = ""
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)  # names to schemas
    must_call: bool = False
    only: str = ""  # the one tool that must be called
    calls: dict[str, str] = field(default_factory=dict)  # ids to names, so far
    results: dict[str, str] = field(default_factory=dict)  # ids of calls to what came
    schema: dict[str, Any] | None = None  # of the answer
    texts: list[str] | None = None  # to be embedded
    packs: bool = False  # vectors are wanted as base64


@dataclass(frozen=True)
class Called:
    """A tool that the brain calls."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Said:
    """An answer, in no vendor's words; the counts include what was read from the cache."""

    text: str
    calls: tuple[Called, ...]
    input_tokens: int
    output_tokens: int
    vectors: tuple[tuple[float, ...], ...] = ()

    @property
    def words(self) -> list[str]:
        """The text in the pieces in which it is streamed."""
        return self.text.replace(" ", " \0").split("\0") if self.text else []


@dataclass(frozen=True)
class Noted:
    """What was told to whom."""

    wire: str
    input_tokens: int
    output_tokens: int


class Refusal(Exception):
    """The vendor does not answer this."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def sample(schema: dict[str, Any], defs: dict[str, Any] | None = None) -> Any:
    """A value that fits a schema of the simple kind."""
    defs = schema.get("$defs") or schema.get("definitions") or defs or {}
    if "$ref" in schema:
        return sample(defs[schema["$ref"].rpartition("/")[2]], defs)
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return sample(schema[several][0], defs)
    if "enum" in schema or "const" in schema:
        return schema.get("const", next(iter(schema.get("enum", [None]))))
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: sample(member, defs) for name, member in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [sample(schema["items"], defs)]
    return {"string": "Lisbon", "integer": 3, "number": 3, "boolean": True}[kind]


class Brain:
    """Thinks of answers and notes their counts; many threads may ask it."""

    def __init__(self) -> None:
        self.noted: list[Noted] = []
        self.refused: list[str] = []
        self._numbers = count(1)

    def think(self, wire: str, ask: Ask) -> Said:
        """The answer.

        Raises:
            Refusal: the conversation is not one, or the user wants to be refused.
        """
        self._check(ask)
        number = next(self._numbers)
        if ask.texts is not None:
            vectors = tuple((len(text) / 8, -0.5) for text in ask.texts)
            said = Said("", (), len(ask.texts) + number, 0, vectors)
        else:
            calls = tuple(
                Called(f"call_{number}_{index}", name, sample(ask.tools[name]))
                for index, name in enumerate(_wanted(ask))
            )
            said = Said("" if calls else _text(ask), calls, 1000 + number, 100 + number)
        self.noted.append(Noted(wire, said.input_tokens, said.output_tokens))
        return said

    def _check(self, ask: Ask) -> None:
        if ask.said == BUSY:
            raise Refusal(429, "too busy")
        if ask.results.keys() != ask.calls.keys():
            self.refused.append(f"calls {sorted(ask.calls)} have the results {sorted(ask.results)}")
            raise Refusal(400, self.refused[-1])


def _wanted(ask: Ask) -> list[str]:
    if ask.only:
        return [ask.only]
    left = [name for name in ask.tools if name not in ask.calls.values()]
    if ask.must_call:
        return left or list(ask.tools)[:1]
    return [] if ask.results else left


def _text(ask: Ask) -> str:
    if ask.schema is not None:
        return json.dumps(sample(ask.schema))
    told = f"The tools said: {', '.join(ask.results.values())}" if ask.results else f"You said: {ask.said}"
    return " ".join(part for part in (ask.system and f"[{ask.system}]", told, NOT_ASCII) if part)
