"""Users as the key management API has them: a name, an id that clients choose, and limits that all their keys share.

They are rows of our users: `userId` is the user name, `id` the number. Whoever is made here cannot sign in. Accounts
of admins are not disabled, ended or deleted here, so that no client of this API locks the last admin out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, func, select, update
from sqlalchemy.orm import Session

from models import ApiKey, User
from services import ceilings, fields, lives, pages, people, removal
from services.accounts import KEY_OWNER, SERVICE_ACCOUNT, check_name
from services.audit import Actor, differences, moment, note
from services.catalog import Catalog
from services.ceilings import Ceilings
from services.changing import changing
from services.errors import Conflict, FieldsInvalid, InvalidRequest, NotFound
from services.fields import Parse
from services.keymanagement import Answer
from services.pages import Listed
from utils import clock, ids

EXPIRED: Final = "The user has expired"
SHOWN_KEYS: Final = 100  # key ids in the view of one user, the newest first
MAX_DIGITS: Final = 18
KEPT: Final = (SERVICE_ACCOUNT, KEY_OWNER)
COLUMNS: Final = {  # members that are stored as they were read
    "name": "display_name",
    "tags": "tags",
    "allowedModels": "allowed_models",
    "allowedPaths": "allowed_paths",
}
MEMBERS: Final[Mapping[str, Parse]] = {
    "name": fields.text(fields.MAX_NAME, is_required=True),
    "userId": fields.text(fields.MAX_NAME),
    **fields.SHARED,
    "keyIds": fields.entries(fields.text(fields.MAX_NAME), pages.MOST),
}
SEARCH: Final[Mapping[str, Parse]] = {
    "tags": fields.entries(fields.text(fields.MAX_NAME)),
    "userIds": fields.entries(fields.text(fields.MAX_NAME), pages.MOST),
    "keyIds": fields.entries(fields.text(fields.MAX_NAME), pages.MOST),
    "limit": fields.whole(0, pages.MOST),
    "offset": fields.whole(0, pages.FARTHEST),
}
ELSEWHERE: Final = {"keyIds": "are not set here; a key says by its userId whose it is"}


class UserManagement:
    """See the module."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine, self._catalog = engine, catalog

    def create(self, actor: Actor, body: Mapping[str, Any]) -> Answer:
        """A new user; without a `userId` it gets a random one.

        Raises:
            FieldsInvalid, InvalidRequest: what the body says cannot be.
            Conflict: the `userId` is taken (code `duplicate_user`).
        """
        given = fields.read(MEMBERS, body, ("name",))
        values = given.values
        if values.get("keyIds"):
            raise FieldsInvalid(ELSEWHERE)
        with changing(self._engine, self._catalog) as session:
            row = User(username=_name(values.get("userId") or ids.uuid()))
            session.add(row)
            session.flush()
            _disable(row, values, _shown(session, [row])[0])
            _apply(row, values)
            lives.check_new(row)
            ceilings.store(session, actor, "user", row.id, values)
            note(session, actor, "user_create", "user", row.id, differences(None, describe(row)))
        return Answer(self._view(row.id), given.ignored)

    def get(self, number: str) -> Answer:
        """One user by its `id`.

        Raises:
            NotFound: there is none (code `user_not_found`).
        """
        return Answer(self._view(_number(number)))

    def update(self, actor: Actor, number: str, body: Mapping[str, Any]) -> Answer:
        """Change what the body names and leave the rest.

        Raises:
            FieldsInvalid, InvalidRequest: what the body says cannot be.
            NotFound: there is no such user.
            Conflict: it is an admin, who is not disabled or ended here.
        """
        given = fields.read(MEMBERS, body)
        values = given.values
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, _number(number))
            before, seen, was_open = describe(row), _shown(session, [row])[0], (row.is_active, row.expires_at)
            _check_fixed(values, seen)
            _disable(row, values, seen)
            if was_open[0] and not row.is_active:
                people.sign_out(session, row.id)
            _apply(row, values)
            if row.role == "admin" and (row.is_active, row.expires_at) != was_open:
                raise Conflict("An admin is disabled in the panel, by another admin.")
            ceilings.store(session, actor, "user", row.id, values)
            if values:
                row.updated_at = clock.now()
            changes = differences(before, describe(row))
            if changes["after"]:
                note(session, actor, "user_update", "user", row.id, changes)
        return Answer(self._view(row.id), given.ignored)

    def update_named(self, actor: Actor, user_id: str, tags: Sequence[str], body: Mapping[str, Any]) -> Answer:
        """The same for a user by the id that clients chose, who has all these tags.

        Raises:
            As `update`.
        """
        if not user_id:
            raise InvalidRequest("query param userId is empty", param="userId", code="missing_user_id")
        values = {"userIds": [user_id], "tags": list(tags), "limit": 1}
        found = self.search(values).views
        if not found:
            raise _unknown(user_id)
        return self.update(actor, found[0]["id"], body)

    def delete(self, actor: Actor, number: str) -> None:
        """Remove a user with all keys and limits; what they used stays in the books. See services/removal.py.

        Raises:
            NotFound: there is no such user.
            Conflict: it is an admin or an account of the gateway.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, _number(number))
            if row.role == "admin" or row.username in KEPT:
                raise Conflict("Admins and the gateway's own accounts are not deleted here.")
            note(session, actor, "user_delete", "user", row.id, {"before": describe(row)})
            removal.user(session, row.id)

    def search(self, body: Mapping[str, Any]) -> Listed:
        """The users that meet all that the body names, newest first, and how many there are.

        Raises:
            FieldsInvalid: a filter that cannot be.
        """
        values = fields.read(SEARCH, body).values
        limit, offset = values.get("limit") or pages.MOST, values.get("offset", 0)
        with Session(self._engine) as session:
            wanted = _conditions(session, values)
            rows = session.scalars(select(User).where(*wanted).order_by(User.id.desc()).limit(limit).offset(offset))
            return Listed(_shown(session, rows.all()), pages.total(session, User.id, wanted))

    def _view(self, number: int) -> dict[str, Any]:
        with Session(self._engine) as session:
            row = session.get(User, number)
            if row is None:
                raise _unknown(str(number))
            return _shown(session, [row])[0]


def describe(row: User) -> dict[str, Any]:
    """For the audit log."""
    return {
        "username": row.username,
        "name": row.display_name,
        "is_active": row.is_active,
        "disabled_reason": row.disabled_reason,
        "tags": row.tags,
        "allowed_models": row.allowed_models,
        "allowed_paths": row.allowed_paths,
        "ttl": row.ttl,
        "expires_at": moment(row.expires_at),
    }


def _shown(session: Session, rows: Sequence[User]) -> list[dict[str, Any]]:
    """The users with their limits and keys, in three statements."""
    limits = ceilings.of(session, "user", [row.id for row in rows])
    keys: dict[int, list[str]] = {row.id: [] for row in rows}
    rank = func.row_number().over(partition_by=ApiKey.user_id, order_by=ApiKey.id.desc())
    newest = select(ApiKey.user_id, ApiKey.uuid, rank.label("rank")).where(ApiKey.user_id.in_(list(keys))).subquery()
    query = select(newest.c.user_id, newest.c.uuid).where(newest.c.rank <= SHOWN_KEYS).order_by(newest.c.rank)
    for user_id, uuid in session.execute(query):
        keys[user_id].append(uuid)
    return [_view_of(row, limits[row.id], keys[row.id]) for row in rows]


def _view_of(row: User, limits: Ceilings, keys: list[str]) -> dict[str, Any]:
    is_over = lives.has_ended(row)
    return {
        "id": str(row.id),
        "name": row.display_name or row.username,
        "createdAt": lives.seconds(row.created_at),
        "updatedAt": lives.seconds(row.updated_at),
        "tags": row.tags or [],
        "keyIds": keys,
        "revoked": is_over or not row.is_active,
        "revokedReason": (row.disabled_reason or "") if not row.is_active else EXPIRED if is_over else "",
        **limits.shown(),
        "ttl": lives.ttl_of(row),
        "expiresAt": lives.seconds(row.expires_at),
        "allowedPaths": row.allowed_paths or [],
        "allowedModels": row.allowed_models or [],
        "userId": row.username,
    }


def _conditions(session: Session, values: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = pages.has_all(session, User.tags, values.get("tags", ()))
    if values.get("userIds"):
        found.append(User.username.in_(values["userIds"]))
    if values.get("keyIds"):
        given = [name.lower() for name in values["keyIds"]]
        found.append(User.id.in_(select(ApiKey.user_id).where(ApiKey.uuid.in_(given))))
    return found


def _apply(row: User, values: Mapping[str, Any]) -> None:
    for member, column in COLUMNS.items():
        if member in values:
            setattr(row, column, values[member])
    lives.store(row, values)


def _disable(row: User, values: Mapping[str, Any], seen: Mapping[str, Any]) -> None:
    stored = (not row.is_active, row.disabled_reason)
    is_revoked, row.disabled_reason = lives.revocation(values, seen, stored)
    row.is_active = not is_revoked


def _check_fixed(values: Mapping[str, Any], seen: Mapping[str, Any]) -> None:
    """Some members are shown and may be sent back, but not changed.

    Raises:
        FieldsInvalid: one would change.
    """
    if values.get("userId", seen["userId"]) not in ("", seen["userId"]):
        raise FieldsInvalid({"userId": "stays what it was when the user was made"})
    if set(values.get("keyIds", ())) - set(seen["keyIds"]):
        raise FieldsInvalid(ELSEWHERE)


def _name(user_id: str) -> str:
    try:
        return check_name(user_id)
    except InvalidRequest as exc:
        raise FieldsInvalid({"userId": str(exc)}) from exc


def _locked(session: Session, number: int) -> User:
    """The user, whom nobody else changes until the end of the transaction."""
    lock = update(User).where(User.id == number).values(updated_at=User.updated_at)
    session.execute(lock.execution_options(synchronize_session=False))
    row = session.get(User, number)
    if row is None:
        raise _unknown(str(number))
    return row


def _number(given: str) -> int:
    """The `id` as a number.

    Raises:
        NotFound: it is none, so nobody has it.
    """
    if not (given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS):
        raise _unknown(given)
    return int(given)


def _unknown(user_id: str) -> NotFound:
    return NotFound(f"There is no user `{user_id[: fields.MAX_NAME]}`.", param="userId", code="user_not_found")
