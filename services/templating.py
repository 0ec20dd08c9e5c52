r"""Templates of stored prompts: text with places for values, `{{name}}`. There is nothing else in them, and no code.

A template is read once from left to right, and so is written: what a value says is text, whatever it looks like.
`\{{` stands for two braces. Costs grow with the length of the template and of what is made of it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

OPEN: Final = "{{"
CLOSE: Final = "}}"
ESCAPE: Final = "\\"
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
LONGEST_PLACE: Final = 100  # characters between the braces
SHOWN: Final = 40  # … in a message


class Malformed(ValueError):
    """Why a text is no template, in words that follow its name."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value comes in."""

    name: str


Piece = str | Place


def pieces(text: str) -> list[Piece]:
    """The text between the places, and the places.

    Raises:
        Malformed: braces that open no place.
    """
    found: list[Piece] = []
    position = 0
    while (at := text.find(OPEN, position)) >= 0:
        if at > position and text[at - 1] == ESCAPE:
            found += [text[position : at - 1], OPEN]
            position = at + len(OPEN)
            continue
        end = text.find(CLOSE, at, at + LONGEST_PLACE)
        name = text[at + len(OPEN) : end].strip(" ") if end >= 0 else ""
        if not NAME.fullmatch(name):
            raise Malformed(
                f"has `{text[at : at + SHOWN]}` at character {at + 1}: between two braces stands a name of letters, "
                "digits and _, and `\\{{` is how braces are written"
            )
        found += [text[position:at], Place(name)]
        position = end + len(CLOSE)
    found.append(text[position:])
    return [piece for piece in found if piece != ""]


def names(found: Iterable[Piece]) -> set[str]:
    """The names of all values that come in."""
    return {piece.name for piece in found if isinstance(piece, Place)}


def length(found: Sequence[Piece], values: Mapping[str, str]) -> int:
    """How many characters it comes to, without making it."""
    return sum(len(values[piece.name] if isinstance(piece, Place) else piece) for piece in found)


def fill(found: Sequence[Piece], values: Mapping[str, str]) -> str:
    """The text with its values, which are not looked into."""
    return "".join(values[piece.name] if isinstance(piece, Place) else piece for piece in found)
