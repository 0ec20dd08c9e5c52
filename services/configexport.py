"""Writing the configuration file from the database: in a stable order, without a secret.

What follows the environment or was only found at a provider is left out, and so is what belongs to people, such as
budgets of users, unless it is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from services import audit, configfile
from services.configapply import SECTIONS
from services.configsections import Section, Work
from services.credentials import Sealer
from services.managed import FILE

WRITTEN: Final = (FILE, "admin")  # who manages the rows that a file has
OF_PEOPLE: Final = ("user", "key")
HEAD: Final = "# The configuration of a gateway; see docs/config-file.md.\n"
WIDTH: Final = 110


@dataclass(frozen=True, slots=True)
class Export:
    """The file, and what could not be written into it."""

    text: str
    notes: tuple[str, ...]


def export(engine: Engine, sealer: Sealer, *, people: bool = False) -> Export:
    """The configuration as of now; with `people` also what names users and keys."""
    notes: list[str] = []
    with Session(engine) as session:
        work = Work(session, sealer, {}, audit.Actor(audit.SYSTEM))
        told = {section.name: _entries(section, work, notes, people=people) for section in SECTIONS}
    found = {name: entries for name, entries in told.items() if entries}
    body = yaml.dump(
        _escaped(found or {"providers": []}), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH
    )
    return Export(HEAD + body, tuple(notes))


def _entries(section: Section, work: Work, notes: list[str], *, people: bool) -> list[dict[str, Any]]:
    """The entries of a section, in the order of their names."""
    found = []
    for row in section.rows(work).values():
        is_people = getattr(row, "scope", None) in OF_PEOPLE
        if row.managed_by not in WRITTEN or (is_people and row.managed_by != FILE and not people):
            continue
        if getattr(row, "is_secret", False):
            notes.append(f"{section.kind} `{row.key}` is a secret and was left out")
            continue
        try:
            entry = section.entry_of(work, row)
        except ValidationError as exc:
            why = exc.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
            notes.append(f"{section.kind} {row} cannot stand in a file and was left out: {why}")
            continue
        told = entry.told()
        if row.managed_by != FILE and not people:
            told.pop("keys", None)
        found.append((section.called(entry), told))
    return [told for _name, told in sorted(found, key=lambda pair: pair[0])]


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _escaped(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(member) for member in value]
    return configfile.escaped(value) if isinstance(value, str) else value


class _Dumper(yaml.SafeDumper):
    """Lists stand in from their name, several lines as such, and nothing is said by reference."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """See PyYAML."""
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        """See PyYAML."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
