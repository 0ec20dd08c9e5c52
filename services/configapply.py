"""Storing a configuration file: all of it or nothing, and nothing at all when nothing changed.

Rows that an earlier file made and this one does not name stay: providers and models are switched off, and all are
removed where that is asked for. Rows that people made are left alone, and a file takes them only where it is told to.
Planning is storing that is not kept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from services import audit, configfile
from services.configentries import ConfigFile, Place
from services.configfile import ConfigFileError
from services.configmodels import MODELS, PROVIDERS
from services.configrows import OTHERS
from services.configsections import Misplaced, Section, Work, told_alike
from services.credentials import Sealer
from services.errors import FieldsInvalid, GatewayError
from services.managed import APPLYING, FILE

SECTIONS: Final = (PROVIDERS, MODELS, *OTHERS)
ADDED, CHANGED, ADOPTED, SWITCHED_OFF, REMOVED = "added", "changed", "adopted", "switched off", "removed"
VERBS: Final = {ADDED: "create", CHANGED: "update", ADOPTED: "update", SWITCHED_OFF: "update", REMOVED: "delete"}
TURN: Final = text(
    "INSERT INTO settings (key, value, updated_at) VALUES ('config_file', '', 0) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a file may do beside changing its own rows."""

    adopt: bool = False  # take rows that people made
    prune: bool = False  # remove rows that it does not name any more
    confirmed: frozenset[str] | None = None  # the only ones it may remove; None = any


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one row, told as the file would; `line` None: the file does not name it."""

    what: str
    kind: str
    name: str
    line: int | None = None
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(slots=True)
class Changes:
    """What applying did, or would do."""

    made: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def named(self, *what: str) -> list[str]:
        """Kind and name of those that were changed like that."""
        return [str(change) for change in self.made if change.what in what]

    @property
    def added(self) -> list[str]:
        """The new ones."""
        return self.named(ADDED)

    @property
    def changed(self) -> list[str]:
        """Those that say something else now, or belong to the file now."""
        return self.named(CHANGED, ADOPTED)

    @property
    def switched_off(self) -> list[str]:
        """Those that serve nobody any more."""
        return self.named(SWITCHED_OFF)

    @property
    def removed(self) -> list[str]:
        """Those that are gone."""
        return self.named(REMOVED)


def apply(
    engine: Engine, sealer: Sealer, path: Path, environ: Mapping[str, str], actor: audit.Actor, wish: Wish = Wish()
) -> Changes:
    """Read a file and store it.

    Raises:
        ConfigFileError: nothing was stored.
    """
    return _run(engine, (sealer, path, environ, actor), wish, is_kept=True)


def plan(
    engine: Engine, sealer: Sealer, path: Path, environ: Mapping[str, str], actor: audit.Actor, wish: Wish = Wish()
) -> Changes:
    """What `apply` would do.

    Raises:
        ConfigFileError: it would store nothing.
    """
    return _run(engine, (sealer, path, environ, actor), wish, is_kept=False)


def _run(
    engine: Engine, given: tuple[Sealer, Path, Mapping[str, str], audit.Actor], wish: Wish, *, is_kept: bool
) -> Changes:
    sealer, path, environ, actor = given
    file = configfile.read(path, environ)
    with Session(engine) as session, session.begin() as transaction:
        session.execute(TURN)  # whoever applies another file at the same moment waits here
        session.info[APPLYING] = True
        run = _Run(Work(session, sealer, environ, actor, file=file), wish)
        for section in SECTIONS:
            run.store(section)
        for section in reversed(SECTIONS):
            run.leave(section)
        if run.problems:
            raise ConfigFileError(str(path), run.problems)
        run.note_fallbacks(file)
        if run.changes.made:
            names = {what.replace(" ", "_"): run.changes.named(what) for what in (SWITCHED_OFF, REMOVED)}
            names = {"added": run.changes.added, "changed": run.changes.changed, **names}
            audit.note(session, actor, "config_apply", "system", path.name, names)
        if not is_kept:
            session.flush()
            transaction.rollback()
    return run.changes


class _Run:
    """One file on its way into the database."""

    def __init__(self, work: Work, wish: Wish) -> None:
        self._work, self._wish = work, wish
        self._rows: dict[str, Mapping[Any, Any]] = {}
        self._named: dict[str, set[Any]] = {}
        self._is_touched = False
        self.changes, self.problems = Changes(), list[str]()
        event.listen(work.session, "before_flush", self._look)

    def store(self, section: Section) -> None:
        """Store the entries of a section."""
        self._rows[section.name] = section.rows(self._work)
        self._named[section.name] = set()
        for index, entry in enumerate(getattr(self._work.file, section.name)):
            place: Place = (section.name, index)
            try:
                self._take(section, entry, self._work.file.line(place))
            except Misplaced as exc:
                self.problems += [self._placed((*place, *within), problem) for within, problem in exc.problems]
            except FieldsInvalid as exc:
                self.problems += [
                    self._placed((*place, *_parts(member)), f"`{member}` {problem}")
                    for member, problem in exc.details.items()
                ]
            except GatewayError as exc:
                self.problems.append(self._placed((*place, *_parts(exc.param or "")), str(exc)))

    def leave(self, section: Section) -> None:
        """See to the rows of earlier files that this one does not name."""
        for key, row in self._rows[section.name].items():
            if row.managed_by != FILE or key in self._named[section.name]:
                continue
            entry = section.entry_of(self._work, row)
            name, before = section.called(entry), entry.told()
            if self._wish.prune:
                self._remove(section, row, name)
            elif not hasattr(row, "is_enabled"):
                self.changes.notes.append(f"{section.kind} `{name}` is no longer in the file; `--prune` removes it")
            elif row.is_enabled:
                row.is_enabled = False
                self._made(section, SWITCHED_OFF, row, (name, None, before))

    def note_fallbacks(self, file: ConfigFile) -> None:
        """Fallbacks that lead nowhere are no mistake: whoever makes such a model later means it."""
        self.changes.notes += [
            f"model `{entry.name}` names the fallback `{name}`, which does not exist"
            for entry in file.models
            for name in (*entry.fallbacks, *entry.routing.context_fallbacks, *entry.routing.content_fallbacks)
            if name not in self._work.models
        ]

    def _take(self, section: Section, entry: Any, line: int) -> None:
        work, name, key = self._work, section.called(entry), section.key_of(self._work, entry)
        if key in self._named[section.name]:
            raise Misplaced(((), f"{section.kind} `{name}` is named twice"))
        self._named[section.name].add(key)
        row = self._rows[section.name].get(key)
        is_theirs = row is not None and row.managed_by not in section.takes
        if is_theirs and not self._wish.adopt:
            if not told_alike(section, work, row, entry):
                raise Misplaced(
                    ((), f"{section.kind} `{name}` was made in the admin panel; rename one of the two, or adopt it")
                )
            return
        before = {} if row is None else section.entry_of(work, row).told()
        audited = None if row is None or section.described is None else section.described(work, row)
        sealed = getattr(row, "credential", None)
        self._is_touched = False
        row = section.store(work, row, entry)
        row.managed_by = FILE
        work.session.flush()
        if self._is_touched:
            what = ADDED if not before else ADOPTED if is_theirs else CHANGED
            what = what if getattr(row, "is_enabled", True) else SWITCHED_OFF
            secret = {"api_key": "another one"} if before and getattr(row, "credential", None) != sealed else {}
            self._made(section, what, row, (name, line, before), audited, secret)

    def _made(
        self,
        section: Section,
        what: str,
        row: Any,
        about: tuple[str, int | None, dict[str, Any]],
        audited: dict[str, Any] | None = None,
        secret: Mapping[str, str] | None = None,
    ) -> None:
        """Tell and audit a change of a row that is stored."""
        work, (name, line, before) = self._work, about
        after = section.entry_of(work, row).told() | dict(secret or {})
        self.changes.made.append(Change(what, section.kind, name, line, before, after))
        if section.described is not None:
            details = audit.differences(audited, section.described(work, row)) | (
                {"credential": "changed"} if secret else {}
            )
            audit.note(work.session, work.actor, f"{section.kind}_{VERBS[what]}", section.kind, row.id, details)

    def _remove(self, section: Section, row: Any, name: str) -> None:
        work = self._work
        confirmed, before = self._wish.confirmed, section.entry_of(work, row).told()
        change = Change(REMOVED, section.kind, name, None, before)
        if confirmed is not None and str(change) not in confirmed:
            self.problems.append(f"{change} would be removed too, and nobody confirmed that; please look again")
            return
        if section.described is not None:
            details = {"before": section.described(work, row)}
            audit.note(work.session, work.actor, f"{section.kind}_delete", section.kind, row.id, details)
        try:
            section.remove(work, row)
        except Misplaced as exc:
            self.problems += [problem for _place, problem in exc.problems]
            return
        work.session.flush()
        self.changes.made.append(change)

    def _placed(self, place: Place, problem: str) -> str:
        return f"line {self._work.file.line(place)}: {problem}"

    def _look(self, session: Session, _context: object, _instances: object) -> None:
        self._is_touched |= bool(session.new or session.deleted or any(map(session.is_modified, session.dirty)))


def _parts(member: str) -> Iterator[str | int]:
    """The place of a member such as `steps.0.provider`."""
    for part in filter(None, member.split(".")):
        yield int(part) if part.isdigit() else part
