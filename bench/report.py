"""What the figures were taken on, and the tables that show them."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from suite import Figures

Cells = Mapping[str, Figures]
PACKAGES = ("gunicorn", "gevent", "flask")
TITLE_WIDTH, COLUMN_WIDTH = 46, 20


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def facts(repo: Path) -> dict[str, str]:
    """Date, machine and versions: figures without them say nothing."""
    code = f"import platform, json; from importlib.metadata import version; p = {PACKAGES!r}"
    code += "; print(json.dumps({'python': platform.python_version()} | {n: version(n) for n in p}))"
    done = subprocess.run([repo / ".venv/bin/python", "-c", code], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    machine = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
    }
    return machine | versions


def medians(rounds: Sequence[Cells]) -> dict[str, Figures]:
    """The median of every figure over the rounds, and the sum of the failures."""
    result: dict[str, Figures] = {}
    for cell in rounds[0]:
        result[cell] = {}
        for name in rounds[0][cell]:
            values = [value for r in rounds if (value := r[cell][name]) is not None]
            pick = sum if name == "failures" else statistics.median
            result[cell][name] = pick(values) if values else None
    return result


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    digits = 0 if value == int(value) or abs(value) >= 1000 else 3 if abs(value) < 10 else 1
    return f"{value:,.{digits}f}"


def _title(figure: str) -> str:
    words = figure.removesuffix("_per_s") + ("/s" if figure.endswith("_per_s") else "")
    return words.replace("_", " ").replace("cpu", "CPU").replace("pss mib", "PSS MiB")


def table(variants: Mapping[str, Cells]) -> str:
    """One column for each variant, one row for each figure."""
    lines = [" " * TITLE_WIDTH + "".join(f"{name:>{COLUMN_WIDTH}}" for name in variants)]
    for cell in max(variants.values(), key=len):
        names = max((list(cells.get(cell, ())) for cells in variants.values()), key=len)
        lines += ["", cell]
        for name in names:
            title = _title(name)
            values = "".join(f"{_number(c.get(cell, {}).get(name)):>{COLUMN_WIDTH}}" for c in variants.values())
            lines.append(f"  {title:<{TITLE_WIDTH - 2}}{values}")
    return "\n".join(lines)
