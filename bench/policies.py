"""What looking for personal data costs: CPU of one thread, in µs, the best of several runs. No server, no network.

Run from the root of the project: `python -m bench.policies`.
"""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from services.policies.kinds import KINDS
from services.policies.rewrite import Placeholders, Rewriter, Watcher
from services.policies.scan import Scanner

CHARS = 4096
RUNS, CALLS = 15, 200
CHUNK = 5  # characters
VALUES = "My card is 4111 1111 1111 1111, mail bob@example.com, call +1 212-555-0123, CPF 529.982.247-25."


def best_us(work: Callable[[], object]) -> float:
    """The least CPU that one call took, over all runs."""
    best = float("inf")
    for _ in range(RUNS):
        began = time.thread_time()
        for _ in range(CALLS):
            work()
        best = min(best, (time.thread_time() - began) / CALLS)
    return best * 1e6


def streamed(scanner: Scanner, text: str) -> None:
    """The text through a rewriter, chunk by chunk."""
    rewriter = Rewriter(Watcher(scanner, "mask"))
    for at in range(0, len(text), CHUNK):
        rewriter.feed(text[at : at + CHUNK])
    rewriter.end()


def main() -> None:
    """Print one row for each text."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scanner = Scanner(KINDS, patterns=[("project", r"\bproj-\d{3,}\b")], words=[("internal", "Blue Falcon")])
    english = Path("README.md").read_text(encoding="utf-8")[-CHARS:]
    portuguese = Path("README.pt-BR.md").read_text(encoding="utf-8")[-CHARS:]
    code = Path("services/policies/scan.py").read_text(encoding="utf-8")[:CHARS]
    texts = {
        "English": english,
        "… with four values in it": english[: CHARS - len(VALUES)] + VALUES,
        "Portuguese": portuguese,
        "Python": code,
    }
    print(f"{len(KINDS)} kinds, a pattern and a word; load {os.getloadavg()[0]:.1f}")
    for name, text in texts.items():
        findings = scanner.find(text)
        find = best_us(lambda text=text: scanner.find(text))
        redact = best_us(lambda text=text, findings=findings: Placeholders().redact(text, findings))
        chunks = -(-len(text) // CHUNK)
        stream = min(best_of(scanner, text) for _ in range(3)) / chunks
        print(f"{name}: {len(findings)} findings; find {find:.0f}, redact {redact:.0f}; a chunk {stream:.1f}")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"memory: {(after - before) / 1024:.0f} MiB more after all that")


def best_of(scanner: Scanner, text: str) -> float:
    """µs of a text in chunks."""
    began = time.thread_time()
    streamed(scanner, text)
    return (time.thread_time() - began) * 1e6


if __name__ == "__main__":
    main()
