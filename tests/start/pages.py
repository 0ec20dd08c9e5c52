"""The commands and programs that the pages show, and what stands in the place of the reader's own names."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.fakes.served import ROOT

PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))  # README.pt-BR.md has README.md's blocks
FENCED: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED: Final = re.compile(r"(?:^    [^\n]*(?:\n|$))+", re.MULTILINE)
SHELL: Final = ("bash", "sh", "console", "shell")
PROGRAMS: Final = ("flask", "certbot", "docker", "kubectl", "systemctl", "systemd-run", "nginx", "useradd", "npm", "jq")
PYTHON: Final = re.compile(r"^(?:import |from \w|\w+ = \w+\()", re.MULTILINE)


class Block(NamedTuple):
    """A block of code that somebody may copy."""

    page: str
    line: int
    kind: str  # shell, python, or the language that it is in
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def first(self) -> str:
        return self.text.splitlines()[0]


def blocks(page: Path) -> Iterator[Block]:
    """Every block of a page that is a command or a program; of other code only what is fenced as some language."""
    text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()
    rest = text
    for match in FENCED.finditer(text):
        kind = "shell" if match[1] in SHELL else match[1]
        yield Block(name, text.count("\n", 0, match.start()) + 2, kind, without_prompt(match[2]))
        rest = rest.replace(match[0], re.sub(r"[^\n]", "", match[0]), 1)
    for match in INDENTED.finditer(rest):
        found = without_prompt(re.sub(r"^    ", "", match[0], flags=re.MULTILINE).strip("\n"))
        kind = "shell" if is_command(found) else "python" if PYTHON.search(found) else ""
        if kind:
            yield Block(name, rest.count("\n", 0, match.start()) + 1, kind, found)


def without_prompt(text: str) -> str:
    """What is typed, without what is answered, where a page shows both."""
    lines = text.splitlines()
    if not any(line.startswith("$ ") for line in lines):
        return text
    typed, goes_on = [], False
    for line in lines:
        if line.startswith("$ ") or goes_on:
            typed.append(line.removeprefix("$ "))
            goes_on = line.endswith("\\")
    return "\n".join(typed)


def is_command(text: str) -> bool:
    """Whether the first line is one that a shell would run."""
    words = [word for word in text.splitlines()[0].split() if not re.match(r"[A-Z_]+=", word)]
    if not words or words[0].endswith((":", ",", "{", "(")):
        return False
    return words[0] in PROGRAMS or words[0].startswith((".venv/bin/", "deploy/")) or shutil.which(words[0]) is not None
