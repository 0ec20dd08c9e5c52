"""The management of stored prompts: made, versioned, labelled, shown. What becomes of them at a call: promptbook.py.

A prompt belongs to a user, to a team or to everybody. Its owner may change it; admins may change all, and a team's
admin those of the team. A version never changes: a mistake is mended by another version, or by moving a label back.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Engine, func, or_, select, true, update
from sqlalchemy.orm import Session

from models import Team, User
from models_prompts import Prompt, PromptLabel, PromptVersion
from services import audit, promptbook, promptfields, promptviews, removal, rights
from services.audit import Actor
from services.catalog import Catalog
from services.changing import changing
from services.dialects import checks
from services.dialects import dialogs_fields as fields
from services.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from services.types import Caller, Chat
from utils import clock

MOST: Final = 200  # prompts of an owner
MOST_VERSIONS: Final = 1000
MOST_LABELS: Final = 20
MISSING: Final = "There is no prompt of this id."
NO_VERSION: Final = "The prompt has no version of this number."
NO_LABEL: Final = "The prompt has no label of this name."
BAD_LABEL: Final = "A label has at most 40 small letters, digits, `.`, `_` and `-`, and begins with a letter."
NOT_YOURS: Final = "Only its owner and admins may change this prompt."
NO_TEAM: Final = "There is no such team, or it is not yours."
FULL: Final = "There are as many prompts as an owner may have; delete one first."
USER, TEAM, EVERYONE = "user", "team", "everyone"
COPY: Final = "copy_of"
RESOURCE: Final = "prompt"
UPDATE: Final = "prompt_update"  # of its name and description, in the audit log
CREATE: Final = {
    **promptfields.PROMPT,
    **promptfields.VERSION,
    "owner": checks.one_of(USER, TEAM, EVERYONE),
    "team": fields.text(fields.MAX_NAME * 2, is_required=True),
}
ADD: Final = {**promptfields.VERSION, COPY: checks.whole(1, MOST_VERSIONS)}


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a prompt is; 0 in both = everybody's."""

    user_id: int = 0
    team_id: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """A prompt as its page shows it; the views are those of the API."""

    row: dict[str, Any]
    versions: list[dict[str, Any]]
    version: dict[str, Any]
    before: dict[str, Any] | None  # another version, to compare it with


@dataclass(frozen=True, slots=True)
class Found:
    """A part of the prompts that somebody may see, and how many there are."""

    items: list[dict[str, Any]]
    total: int


class PromptRows:
    """See the module. Of a prompt that the caller may not see every method says that there is none."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine, self._catalog = engine, catalog

    def listed(self, caller: Caller) -> list[dict[str, Any]]:
        """The prompts that the caller may see, by name."""
        return self._listed(caller, visible(caller))

    def found(self, caller: Caller, *, number: int, size: int, query: str) -> Found:
        """A page of them, counted from 1; with a query those with it in the name, the description or the owner's."""
        with Session(self._engine) as session:
            are_meant = (visible(caller), _matches(query)) if query else (visible(caller),)
            total = session.scalar(select(func.count(Prompt.id)).where(*are_meant)) or 0
            rows = select(Prompt).where(*are_meant).order_by(Prompt.name, Prompt.id)
            shown = session.scalars(rows.offset((number - 1) * size).limit(size)).all()
            return Found(_views(session, caller, shown), total)

    def usable(self, caller: Caller) -> list[dict[str, Any]]:
        """Those that the caller's calls may name."""
        return self._listed(caller, promptbook.usable(caller))

    def _listed(self, caller: Caller, are_meant: Any) -> list[dict[str, Any]]:
        with Session(self._engine) as session:
            query = select(Prompt, PromptLabel).outerjoin(PromptLabel, PromptLabel.prompt_id == Prompt.id)
            rows, labels = dict[int, Prompt](), defaultdict[int, dict[str, int]](dict)
            for row, label in session.execute(
                query.where(are_meant).order_by(Prompt.name, Prompt.id, PromptLabel.name)
            ).tuples():
                rows[row.id] = row
                if label is not None:
                    labels[row.id][label.name] = label.number
            return _views(session, caller, list(rows.values()), labels)

    def get(self, caller: Caller, uuid: str) -> dict[str, Any]:
        """One prompt.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        with Session(self._engine) as session:
            return _views(session, caller, [_seen(session, caller, uuid)])[0]

    def create(
        self, caller: Caller, actor: Actor, given: Mapping[str, Any], owner: Owner | None = None
    ) -> dict[str, Any]:
        """A new prompt with its first version, from members that CREATE has read.

        Raises:
            InvalidRequest: what it says cannot be.
            PermissionDenied: a prompt of that owner is not the caller's to make.
            NotFound: there is no such team.
            Conflict: the name is taken, or there are too many.
        """
        reading = promptfields.version(given)
        with changing(self._engine, self._catalog) as session:
            whose = owner or _owner(session, caller, given)
            row = Prompt(**asdict(whose), name=given["name"], description=given.get("description") or "", newest=1)
            if not may_change(caller, row):
                raise refusal()
            session.add(row)
            session.flush()
            same = (Prompt.user_id == row.user_id, Prompt.team_id == row.team_id)
            if (session.scalar(select(func.count(Prompt.id)).where(*same)) or 0) > MOST:
                raise Conflict(FULL)
            session.add(_version(row, 1, reading, actor))
            audit.note(
                session, actor, "prompt_create", RESOURCE, row.uuid, {"after": promptviews.describe(row, reading)}
            )
            session.flush()
            return _views(session, caller, [row])[0]

    def change(self, caller: Caller, actor: Actor, uuid: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Change the name or the description, from members that promptfields.PROMPT has read.

        Raises:
            NotFound, PermissionDenied: see the class and the module.
            Conflict: the name is taken.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, caller, uuid)
            before = promptviews.describe(row)
            for name, value in given.items():
                if value is not None:
                    setattr(row, name, value)
            session.flush()
            details = audit.differences(before, promptviews.describe(row))
            audit.note(session, actor, UPDATE, RESOURCE, row.uuid, details)
            return _views(session, caller, [row])[0]

    def remove(self, caller: Caller, actor: Actor, uuid: str) -> None:
        """Delete a prompt with its versions and labels. Calls under way go on, and usage keeps what it knows.

        Raises:
            NotFound, PermissionDenied: see the class and the module.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, caller, uuid)
            audit.note(session, actor, "prompt_delete", RESOURCE, row.uuid, {"before": promptviews.describe(row)})
            removal.prompts(session, Prompt.id == row.id)

    def versions(self, caller: Caller, uuid: str) -> list[dict[str, Any]]:
        """All versions, the newest first, without their messages.

        Raises:
            NotFound: see the class.
        """
        with Session(self._engine) as session:
            row = _seen(session, caller, uuid)
            return promptviews.versions(session, row, _labels(session, [row.id])[row.id])

    def page(self, caller: Caller, uuid: str, number: int | None, against: int | None) -> Page:
        """One prompt with its versions, of which one or two whole; without a number the one that calls get.

        Raises:
            NotFound: see the class; or it has no such version.
        """
        with Session(self._engine) as session:
            row = _seen(session, caller, uuid)
            labels = _labels(session, [row.id])
            chosen = number or labels[row.id].get(promptbook.PRODUCTION) or row.newest
            wanted = {min(one, MOST_VERSIONS + 1) for one in (chosen, against) if one is not None}
            query = select(PromptVersion).where(PromptVersion.prompt_id == row.id, PromptVersion.number.in_(wanted))
            found = {one.number: promptviews.shown(one, labels[row.id]) for one in session.scalars(query)}
            if wanted - found.keys():
                raise NotFound(NO_VERSION, param="version")
            view = _views(session, caller, [row], labels)[0]
            versions = promptviews.versions(session, row, labels[row.id])
            return Page(view, versions, found[chosen], found[against] if against is not None else None)

    def version(self, caller: Caller, uuid: str, number: int) -> dict[str, Any]:
        """One version with all that is in it.

        Raises:
            NotFound: see the class; or it has no such version.
        """
        with Session(self._engine) as session:
            row = _seen(session, caller, uuid)
            return promptviews.shown(_numbered(session, row, number), _labels(session, [row.id])[row.id])

    def add_version(self, caller: Caller, actor: Actor, uuid: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Another version, from members that ADD has read; `copy_of` names one to take from what is not given.

        Raises:
            InvalidRequest: what it says cannot be.
            NotFound, PermissionDenied: see the class and the module; or there is no version to copy.
            Conflict: it has as many as a prompt may have.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, caller, uuid)
            source = given.get(COPY)
            base = {} if source is None else promptviews.members(_numbered(session, row, source))
            reading = promptfields.version({**base, **{name: given[name] for name in given if name != COPY}})
            if row.newest >= MOST_VERSIONS:
                raise Conflict(f"A prompt may have {MOST_VERSIONS} versions.")
            row.newest += 1  # nobody else counts meanwhile
            made = _version(row, row.newest, reading, actor)
            session.add(made)
            audit.note(
                session, actor, "prompt_version", RESOURCE, row.uuid, {"after": promptviews.describe(row, reading)}
            )
            session.flush()
            return promptviews.shown(made, _labels(session, [row.id])[row.id])

    def put_label(self, caller: Caller, actor: Actor, uuid: str, label: str, number: int) -> dict[str, Any]:
        """Have a label point at a version, wherever it pointed before.

        Raises:
            InvalidRequest: that is no name of a label.
            NotFound, PermissionDenied: see the class and the module; or it has no such version.
            Conflict: it has as many labels as a prompt may have.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, caller, uuid)
            if not promptfields.LABEL.fullmatch(label):
                raise InvalidRequest(BAD_LABEL, param="label")
            _numbered(session, row, number)
            found = session.get(PromptLabel, (row.id, label))
            before = None if found is None else found.number
            if found is None:
                if len(_labels(session, [row.id])[row.id]) >= MOST_LABELS:
                    raise Conflict(f"A prompt may have {MOST_LABELS} labels.")
                session.add(PromptLabel(prompt_id=row.id, name=label, number=number))
            else:
                found.number, found.updated_at = number, clock.now()
            details = {"before": {label: before}, "after": {label: number}}
            audit.note(session, actor, "prompt_label", RESOURCE, row.uuid, {"name": row.name, **details})
            session.flush()
            return _views(session, caller, [row])[0]

    def remove_label(self, caller: Caller, actor: Actor, uuid: str, label: str) -> None:
        """Remove a label; calls that name it are refused from then on.

        Raises:
            NotFound, PermissionDenied: see the class and the module; or it has no such label.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, caller, uuid)
            found = session.get(PromptLabel, (row.id, label)) if promptfields.LABEL.fullmatch(label) else None
            if found is None:
                raise NotFound(NO_LABEL, param="label")
            details = {"name": row.name, "before": {label: found.number}, "after": {label: None}}
            audit.note(session, actor, "prompt_label", RESOURCE, row.uuid, details)
            session.delete(found)

    def render(self, caller: Caller, uuid: str, version: str, body: Chat) -> dict[str, Any]:
        """What a call would send: `prompt` as `name@3`, and the `request`. Nobody is asked.

        Raises:
            NotFound: see the class; or there is no such version or label.
            InvalidRequest: as for a call.
        """
        with Session(self._engine) as session:
            row = _seen(session, caller, uuid)
            number = promptbook.number_of(session, row, version)
            found = None if number is None else promptbook.stored(row.name, _numbered(session, row, number))
        if found is None:
            raise NotFound(NO_LABEL, param="version")
        return {"prompt": f"{found.name}@{found.number}", "request": promptbook.expanded(found, body)}


def visible(caller: Caller) -> Any:
    """The condition of prompts that the caller may see."""
    sees_all = caller.key_id is None and rights.has(caller.role, rights.READ)
    return true() if sees_all else promptbook.usable(caller)


def _matches(query: str) -> Any:
    users = select(User.id).where(User.username.icontains(query, autoescape=True))
    teams = select(Team.id).where(Team.name.icontains(query, autoescape=True))
    told = (column.icontains(query, autoescape=True) for column in (Prompt.name, Prompt.description))
    return or_(*told, Prompt.user_id.in_(users), Prompt.team_id.in_(teams))


def may_change(caller: Caller, row: Prompt) -> bool:
    """Whether the caller may change the prompt. What is not one's own takes a person who signed in."""
    if row.user_id == caller.user_id:
        return True
    is_of_team = row.team_id != 0 and row.team_id == caller.team_id and rights.has(caller.role, rights.TEAM)
    return caller.key_id is None and (is_of_team or rights.has(caller.role, rights.CHANGE))


def refusal() -> PermissionDenied:
    """What somebody is told who may not change a prompt."""
    return PermissionDenied(NOT_YOURS)


def _owner(session: Session, caller: Caller, given: Mapping[str, Any]) -> Owner:
    kind = given.get("owner") or USER
    if kind == USER:
        return Owner(user_id=caller.user_id)
    if kind == EVERYONE:
        return Owner()
    name = given.get("team") or caller.team
    number = session.scalar(select(Team.id).where(Team.name == name)) if name else None
    if number is None or (number != caller.team_id and not rights.has(caller.role, rights.CHANGE)):
        raise NotFound(NO_TEAM, param="team")
    return Owner(team_id=number)


def _version(row: Prompt, number: int, reading: promptfields.Reading, actor: Actor) -> PromptVersion:
    return PromptVersion(prompt_id=row.id, number=number, author=actor.name[:150], **asdict(reading))


def _seen(session: Session, caller: Caller, uuid: str) -> Prompt:
    """A prompt that the caller may see."""
    is_id = promptfields.UUID.fullmatch(uuid)
    row = session.scalar(select(Prompt).where(Prompt.uuid == uuid, visible(caller))) if is_id else None
    if row is None:
        raise NotFound(MISSING, param="id", code="prompt_not_found")
    return row


def _locked(session: Session, caller: Caller, uuid: str) -> Prompt:
    """A prompt that the caller may change, and nobody else does until the end of the transaction."""
    if promptfields.UUID.fullmatch(uuid):
        lock = update(Prompt).where(Prompt.uuid == uuid, visible(caller)).values(updated_at=clock.now())
        session.execute(lock.execution_options(synchronize_session=False))
    row = _seen(session, caller, uuid)
    if not may_change(caller, row):
        raise refusal()
    return row


def _numbered(session: Session, row: Prompt, number: int) -> PromptVersion:
    chosen = (PromptVersion.prompt_id == row.id, PromptVersion.number == min(number, MOST_VERSIONS + 1))
    found = session.scalar(select(PromptVersion).where(*chosen))
    if found is None:
        raise NotFound(NO_VERSION, param="version")
    return found


def _labels(session: Session, prompt_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """The labels of prompts, by name."""
    found: dict[int, dict[str, int]] = defaultdict(dict)
    query = select(PromptLabel).where(PromptLabel.prompt_id.in_(prompt_ids)).order_by(PromptLabel.name)
    for label in session.scalars(query):
        found[label.prompt_id][label.name] = label.number
    return found


def _views(
    session: Session, caller: Caller, rows: Sequence[Prompt], labels: Mapping[int, Mapping[str, int]] | None = None
) -> list[dict[str, Any]]:
    labels = _labels(session, [row.id for row in rows]) if labels is None else labels
    return [
        {
            "id": row.uuid,
            "name": row.name,
            "description": row.description,
            "owner": USER if row.user_id else TEAM if row.team_id else EVERYONE,
            "user_id": row.user_id or None,
            "team_id": row.team_id or None,
            "newest_version": row.newest,
            "labels": labels[row.id],
            "may_change": may_change(caller, row),
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }
        for row in rows
    ]
