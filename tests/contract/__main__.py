"""Runs the contracts and prints what passed; ends with 1 when a failure is unexplained or an explained one is gone.

make contract                          all of it, in a temporary folder
make contract CONTRACT="--folder F"    keeps what was installed and every log in F
make contract CONTRACT="--only wires"  the recorded requests alone; `suite` is openai's own tests
"""

import argparse
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.contract import suite, tools, wires

KNOWN = Path(__file__).with_name("known.yaml")
Failures = list[tuple[str, str, tuple[str, ...]]]  # run or target, test or case, what was said


def main() -> int:
    """Both parts, or the one that is asked for; the exit status."""
    parser = argparse.ArgumentParser(prog="make contract")
    parser.add_argument("--folder", type=Path, help="where to install and to work; default: a temporary one")
    parser.add_argument("--only", choices=("suite", "wires"))
    given = parser.parse_args()
    if given.folder is not None:
        given.folder.mkdir(parents=True, exist_ok=True)
        return _run(given.folder.resolve(), given.only)
    with tempfile.TemporaryDirectory(prefix="tollhouse-contract-") as folder:
        return _run(Path(folder), given.only)


def _run(folder: Path, only: str | None) -> int:
    known = yaml.safe_load(KNOWN.read_text(encoding="utf-8"))
    work = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    try:
        steady = tools.steady(folder)
        unexplained = _suite(folder, work, steady, known["suite"]) if only != "wires" else []
        unexplained += _wires(work, steady, known["wires"]) if only != "suite" else []
    except tools.Missing as exc:
        print(exc, file=sys.stderr)
        return 2
    print("\n".join(["", "Unexplained:", *unexplained] if unexplained else ["", "All failures are explained."]))
    return 1 if unexplained else 0


def _suite(folder: Path, work: Path, steady: Path, known: list[dict[str, Any]]) -> list[str]:
    source, python = tools.suite(folder)
    print(f"openai-python's own tests ({source.name}) against @stdy/cli\n", flush=True)
    failed, passed = [], []
    for plan in suite.RUNS:
        found = suite.run(plan, source, python, steady, work)
        counts = Counter(outcome.outcome for outcome in found)
        print(f"{plan.name:20} {dict(counts)}", flush=True)
        failed += [(plan.name, entry.test, (entry.said,)) for entry in found if entry.outcome == "failed"]
        passed += [(plan.name, entry.test) for entry in found if entry.outcome == "passed"]
    return judge(failed, passed, known, ("run", "test"))


def _wires(work: Path, steady: Path, known: list[dict[str, Any]]) -> list[str]:
    print("\nrecorded requests, whole and streamed, at every target\n", flush=True)
    found = wires.run(steady, work)
    for name in sorted({result.target for result in found}):
        print(f"{name:28} {dict(Counter(entry.outcome for entry in found if entry.target == name))}")
    failed = [(entry.target, entry.case, entry.said) for entry in found if entry.outcome == "bad"]
    passed = [(entry.target, entry.case) for entry in found if entry.outcome == "good"]
    return judge(failed, passed, known, ("target", "case"))


def judge(
    failed: Failures, passed: list[tuple[str, str]], known: list[dict[str, Any]], names: tuple[str, str]
) -> list[str]:
    """What nobody has explained, what is explained and passes, explanations of nothing; prints a table of the rest."""
    used: Counter[int] = Counter()
    lines = []
    for place, case, said in failed:
        number = next((number for number, entry in enumerate(known) if _fits(entry, names, place, case, said)), None)
        if number is None:
            lines.append(f"  {place} {case}: {'; '.join(said)[:400]}")
        else:
            used[number] += 1
    for place, case in passed:
        if any(_fits(entry, names, place, case, ()) for entry in known):
            lines.append(f"  {place} {case}: passes, though it is named in {KNOWN.name}")
    print("\nfailures that are explained")
    for number, entry in enumerate(known):
        print(f"{used[number]:6}  {entry['reason']}")
        if not used[number]:
            lines.append(f"  nothing fails as {KNOWN.name} says: {entry['reason']}")
    return lines


def _fits(entry: dict[str, Any], names: tuple[str, str], place: str, case: str, said: tuple[str, ...]) -> bool:
    """Whether an entry names this run and this test, and all that was said."""
    is_named = all(re.search(entry[name], value) for name, value in zip(names, (place, case), strict=True))
    return is_named and all(re.search(entry["says"], text) for text in said)


if __name__ == "__main__":
    sys.exit(main())
