"""Writes the sample: `python -m tests.policies.generate`. Templates are by hand, values made up, the seed fixed.

A line of templates/<group>.txt is one context; `{email}` is a value that must be found, `{!email}` one that only looks
like it, `{~price}` something else. Lines after `== held out` were written with the others and never looked at while
the patterns were tuned.
"""

import gzip
import json
import re
from pathlib import Path
from random import Random
from typing import Any

from tests.policies.made import KIND_OF, NOISE, RIGHT
from tests.policies.values import wrong

HERE = Path(__file__).parent
LINES = 1200  # of each group
SLOT = re.compile(r"\{([!~]?)([a-z0-9_]+)\}")


def templates(group: str) -> list[tuple[str, bool]]:
    """Each with whether it is held out."""
    found, is_held_out = [], False
    for line in (HERE / "templates" / f"{group}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            is_held_out = True
        else:
            found.append((line, is_held_out))
    return found


def filled(template: str, rng: Random) -> dict[str, Any]:
    """One line: its text, and what must be found in it as [kind, start, end]."""
    text, found, at = "", [], 0
    for slot in SLOT.finditer(template):
        text += template[at : slot.start()]
        value = {"": RIGHT, "~": NOISE, "!": {slot[2]: wrong(RIGHT.get(slot[2], str))}}[slot[1]][slot[2]](rng)
        if not slot[1]:
            found.append([KIND_OF.get(slot[2], slot[2]), len(text), len(text) + len(value)])
        text += value
        at = slot.end()
    return {"text": text + template[at:], "found": found}


def main() -> None:
    """Write every group's lines."""
    for source in sorted((HERE / "templates").glob("*.txt")):
        rng = Random(source.stem)
        contexts = templates(source.stem)
        lines = []
        for count in range(LINES):
            template, is_held_out = contexts[count % len(contexts)]
            lines.append(json.dumps({**filled(template, rng), "held_out": is_held_out}, ensure_ascii=False))
        packed = gzip.compress("\n".join(lines).encode(), 9, mtime=0)
        (HERE / "samples" / f"{source.stem}.jsonl.gz").write_bytes(packed)


if __name__ == "__main__":
    main()
