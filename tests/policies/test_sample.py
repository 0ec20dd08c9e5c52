"""How much of a labelled sample is found, and how much is found that is not there, group by group."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.policies.kinds import GROUPS, KINDS
from services.policies.scan import Scanner

SAMPLES = Path(__file__).parent / "samples"
LEAST_LINES, LEAST_PRECISION, LEAST_RECALL = 1000, 0.98, 0.95


def lines(group: str) -> list[dict[str, Any]]:
    packed = (SAMPLES / f"{group}.jsonl.gz").read_bytes()
    return [json.loads(line) for line in gzip.decompress(packed).decode().splitlines()]


def scored(group: str, sample: list[dict[str, Any]]) -> tuple[float, float, list[tuple[str, str]]]:
    """Precision and recall of a group's kinds, and what went wrong.

    A value counts as found when one finding of its kind covers all of it; a finding counts as right when it overlaps
    a value of its kind.
    """
    scanner = Scanner(kind.name for kind in KINDS.values() if kind.group == group)
    right = found = caught = labelled = 0
    errors = []
    for line in sample:
        findings, values = scanner.find(line["text"]), line["found"]
        found, labelled = found + len(findings), labelled + len(values)
        for finding in findings:
            if any(kind == finding.rule and start < finding.end and finding.start < end for kind, start, end in values):
                right += 1
            else:
                errors.append((f"+{finding.rule}", line["text"]))
        for kind, start, end in values:
            if any(kind == one.rule and one.start <= start and end <= one.end for one in findings):
                caught += 1
            else:
                errors.append((f"-{kind}", line["text"]))
    return right / found, caught / labelled, errors


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("held_out", [False, True], ids=["seen", "held-out"])
def test_a_group_is_found_in_the_sample(group, held_out, capsys):
    sample = lines(group)
    assert len(sample) >= LEAST_LINES
    assert len({line["text"] for line in sample}) >= LEAST_LINES // 2
    precision, recall, errors = scored(group, [line for line in sample if line["held_out"] is held_out])
    with capsys.disabled():
        print(f"\n{group}, {'held out' if held_out else 'seen'}: precision {precision:.4f}, recall {recall:.4f}")
    assert precision >= LEAST_PRECISION, Counter(kind for kind, _text in errors).most_common(5)
    assert recall >= LEAST_RECALL, Counter(kind for kind, _text in errors).most_common(5)
