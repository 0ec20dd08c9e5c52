"""What sections of the configuration file have in common, and how one mistake of many is told."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.orm import Session

from models import Model, Provider
from services import audit
from services.configentries import ConfigFile, Place
from services.credentials import Sealer
from services.managed import FILE

MINE: Final = frozenset({FILE})


class Misplaced(Exception):
    """An entry cannot be stored; each mistake with its place within the entry."""

    def __init__(self, *problems: tuple[Place, str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problem for _place, problem in problems))


@dataclass(slots=True)
class Work:
    """What storing and telling entries needs, within one transaction. Providers and models stand by their names."""

    session: Session
    sealer: Sealer
    environ: Mapping[str, str]
    actor: audit.Actor
    providers: dict[str, Provider] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    file: ConfigFile = field(default_factory=ConfigFile)


@dataclass(frozen=True, slots=True)
class Section:
    """One section: how its rows are found by what names them, told as entries, stored and removed."""

    name: str  # in the file
    kind: str  # what one is called, also in the audit log
    rows: Callable[[Work], Mapping[Any, Any]]
    key_of: Callable[[Work, Any], Hashable]
    called: Callable[[Any], str]
    entry_of: Callable[[Work, Any], Any]
    store: Callable[[Work, Any, Any], Any]
    remove: Callable[[Work, Any], None]
    described: Callable[[Work, Any], dict[str, Any]] | None = None  # for the audit log; None: storing writes its entry
    takes: frozenset[str] = MINE  # who manages what a file may take over without being asked
    unsaid: tuple[str, ...] = ()  # members that stay as they are when an entry does not have them
    is_alike: Callable[[Work, Any, Any], bool] | None = None  # whether these say the same, where that cannot be seen


def told_alike(section: Section, work: Work, row: Any, entry: Any) -> bool:
    """Whether an entry says what the row is already."""
    present, wanted = section.entry_of(work, row).told(), entry.told()
    for name in section.unsaid:
        if name not in wanted or section.is_alike is not None:
            present.pop(name, None)
            wanted.pop(name, None)
    return present == wanted and (section.is_alike is None or section.is_alike(work, row, entry))
