"""Values that admins keep here for their own programs and people. A secret one is sealed; nobody is ever shown it.

The gateway itself reads those of the portal only (services/portalpolicy.py): its settings come from the environment.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models import SystemConfig
from services import audit, managed, portalpolicy
from services.credentials import Sealer
from services.errors import Conflict, FieldsInvalid, InvalidRequest, NotFound
from utils import clock

KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")
MASK: Final = "********"
EMPTY: Final = (None, "", MASK)  # given for a secret, they mean the one it has
TAKEN: Final = "There is a configuration value with this key already."
MAX_VALUE: Final = 20_000  # characters
MAX_DESCRIPTION: Final = 500
RESOURCE: Final = "system"
KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "key": (str,),
    "value": (str, type(None)),
    "is_secret": (bool,),
    "description": (str,),
}


class SystemConfigs:
    """What the API does with them, each in a transaction of its own."""

    def __init__(self, engine: Engine, sealer: Sealer) -> None:
        self._engine, self._sealer = engine, sealer

    def listed(self) -> list[dict[str, Any]]:
        """All of them, by their keys."""
        with Session(self._engine) as session:
            rows = session.scalars(select(SystemConfig).order_by(SystemConfig.key))
            return [shown(row) for row in rows]

    def get(self, key: str) -> dict[str, Any]:
        """One of them.

        Raises:
            NotFound: there is none.
        """
        with Session(self._engine) as session:
            return shown(get(session, key))

    def create(self, actor: audit.Actor, given: Mapping[str, Any]) -> dict[str, Any]:
        """See `create`."""
        try:
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                row = _stored(session, create(session, self._sealer, actor, given))
        except IntegrityError as exc:
            raise Conflict(TAKEN, param="key") from exc
        return shown(row)

    def change(self, actor: audit.Actor, key: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """See `change`."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            row = _stored(session, change(session, self._sealer, actor, get(session, key), given))
        return shown(row)

    def remove(self, actor: audit.Actor, key: str) -> None:
        """See `remove`."""
        with Session(self._engine) as session, session.begin():
            remove(session, actor, get(session, key))


def get(session: Session, key: str) -> SystemConfig:
    """One of them.

    Raises:
        NotFound: there is none.
    """
    row = session.get(SystemConfig, key) if KEY.fullmatch(key) else None
    if row is None:
        raise NotFound("There is no such configuration value.", param="key")
    return row


def create(session: Session, sealer: Sealer, actor: audit.Actor, given: Mapping[str, Any]) -> SystemConfig:
    """A new one, within the caller's transaction.

    Raises:
        FieldsInvalid: members that cannot be.
        Conflict: there is one with this key.
    """
    _check(given)
    key = given.get("key")
    if key is None or not KEY.fullmatch(key):
        raise FieldsInvalid({"key": "has 1 to 100 letters, digits, dots, dashes and underscores"})
    if session.get(SystemConfig, key) is not None:
        raise Conflict(TAKEN, param="key")
    row = SystemConfig(key=key, is_secret=given.get("is_secret", False))
    row.description = given.get("description", "")
    _set(row, sealer, given.get("value"))
    session.add(row)
    _note(session, actor, "config_create", row, None, {"value": "set"})
    return row


def change(
    session: Session, sealer: Sealer, actor: audit.Actor, row: SystemConfig, given: Mapping[str, Any]
) -> SystemConfig:
    """Change what is given and leave the rest; a secret with an empty value, or its mask, keeps the one it has.

    Raises:
        FieldsInvalid: members that cannot be, or a new secret without a value.
        InvalidRequest: a secret would become readable without a new value, or it stands in the configuration file.
    """
    managed.check(session, row)
    _check(given)
    if given.get("key", row.key) != row.key:
        raise FieldsInvalid({"key": "stays what it is"})
    before, was_secret = described(row), row.is_secret
    row.is_secret = given.get("is_secret", was_secret)
    row.description = given.get("description", row.description)
    is_kept = "value" not in given or (was_secret and given["value"] in EMPTY)
    if is_kept and was_secret and not row.is_secret:
        raise InvalidRequest("Give a new value too: a secret does not become readable.", param="value")
    value, said = row.value if is_kept else given["value"], {}
    if not (is_kept and was_secret) and (row.is_secret or was_secret or value != row.value):
        said = {"value": "sealed" if is_kept else "changed"}
        _set(row, sealer, value)
    _note(session, actor, "config_update", row, before, said)
    return row


def remove(session: Session, actor: audit.Actor, row: SystemConfig) -> None:
    """Take it away, within the caller's transaction.

    Raises:
        InvalidRequest: it stands in the configuration file.
    """
    managed.check(session, row)
    audit.note(session, actor, "config_delete", RESOURCE, row.key, {"before": described(row)})
    session.delete(row)


def described(row: SystemConfig) -> dict[str, Any]:
    """For the audit log: without the value, secret or not."""
    return {"key": row.key, "is_secret": row.is_secret, "description": row.description}


def shown(row: SystemConfig) -> dict[str, Any]:
    """For people and programs; a secret shows its mask."""
    return {
        "key": row.key,
        "value": MASK if row.is_secret else row.value,
        "is_secret": row.is_secret,
        "description": row.description,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "updated_by": row.updated_by,
    }


def _stored(session: Session, row: SystemConfig) -> SystemConfig:
    """The row as the database has it: moments to the millisecond."""
    session.flush()
    session.refresh(row)
    return row


def _set(row: SystemConfig, sealer: Sealer, value: str | None) -> None:
    """One of the two columns has it.

    Raises:
        FieldsInvalid: a secret without a value, or what the portal could not read.
    """
    portalpolicy.check(row.key, value, is_secret=row.is_secret)
    if row.is_secret and value in EMPTY:
        raise FieldsInvalid({"value": "of a secret cannot be empty"})
    row.value = None if row.is_secret else value
    row.sealed = sealer.seal(value or "") if row.is_secret else None


def _note(
    session: Session,
    actor: audit.Actor,
    action: str,
    row: SystemConfig,
    before: Mapping[str, Any] | None,
    said: Mapping[str, str],
) -> None:
    """The entry, unless nothing changed; whoever changed it last stands in the row too."""
    details = audit.differences(before, described(row))
    if before is None or details["after"] or said:
        row.updated_by, row.updated_at = actor.name[:150], clock.now()
        audit.note(session, actor, action, RESOURCE, row.key, {**details, **said})


def _check(given: Mapping[str, Any]) -> None:
    """Kinds and lengths.

    Raises:
        FieldsInvalid: some of them are wrong, or nobody knows them.
    """
    wrong = {name: "is not known here" for name in given if name not in KINDS}
    known = [name for name in given if name in KINDS]
    wrong |= {name: "has the wrong type" for name in known if not isinstance(given[name], KINDS[name])}
    for name, most in (("value", MAX_VALUE), ("description", MAX_DESCRIPTION)):
        if name not in wrong and len(given.get(name) or "") > most:
            wrong[name] = f"has at most {most:,} characters"
        elif name not in wrong and "\0" in (given.get(name) or ""):
            wrong[name] = "has a character that cannot be stored"
    if wrong:
        raise FieldsInvalid(wrong)
