"""The key management API on our tables: keys as one JSON object each, with their limits.

A key belongs to a user. One that is made for nobody in particular belongs to the user KEY_OWNER, who is made with the
first of them and cannot sign in. Every change is one transaction with its entry in the audit log.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session, joinedload

from models import ApiKey, User
from services import bindings, ceilings, fields, keyviews, lives, pages, providersettings, removal
from services.accounts import KEY_OWNER
from services.audit import Actor, differences, moment, note
from services.catalog import Catalog
from services.changing import changing
from services.errors import Conflict, FieldsInvalid, InvalidRequest, NotFound
from services.fields import Parse
from services.keys import Keys
from services.pages import Listed
from utils import clock

LONGEST_GRACE: Final = timedelta(days=30)
LONGEST_ID: Final = 36  # of a UUID
UNKNOWN: Final = "is not known here; give grace or graceInSeconds"
COLUMNS: Final = {  # members that are stored as they were read
    "name": "name",
    "tags": "tags",
    "allowedModels": "allowed_models",
    "allowedPaths": "allowed_paths",
    "allowedIps": "allowed_ips",
    "shouldLogRequest": "should_log_request",
    "shouldLogResponse": "should_log_response",
    "rotationEnabled": "rotation_enabled",
    "timeouts": "timeouts",
}
MAX_SETTING: Final = 36
MEMBERS: Final[Mapping[str, Parse]] = {
    **fields.SHARED,
    "allowedIps": fields.some(fields.network),
    "shouldLogRequest": fields.flag,
    "shouldLogResponse": fields.flag,
    "rotationEnabled": fields.flag,
    "timeouts": fields.timeouts,
    "userId": fields.user,
    "settingId": fields.text(MAX_SETTING),
    "settingIds": fields.entries(fields.text(MAX_SETTING, is_required=True)),
    "policyId": fields.text(LONGEST_ID),
    "isKeyNotHashed": fields.absent("is refused; keys are kept as digests only"),
}
ROTATION: Final[Mapping[str, Parse]] = {
    "graceInSeconds": fields.whole(0, int(LONGEST_GRACE.total_seconds())),
    "grace": fields.duration,
}
SEARCH: Final[Mapping[str, Parse]] = {
    "tags": fields.entries(fields.text(fields.MAX_NAME)),
    "keyIds": fields.entries(fields.text(fields.MAX_NAME), pages.MOST),
    "name": fields.text(fields.MAX_NAME),
    "userId": fields.user,
    "revoked": fields.flag,
    "limit": fields.whole(0, pages.MOST),
    "offset": fields.whole(0, pages.FARTHEST),
    "order": fields.order,
    "returnCount": fields.flag,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A key or user as clients see it, and the members of their request that mean nothing here."""

    view: dict[str, Any]
    ignored: tuple[str, ...] = ()


class KeyManagement:
    """See the module. `is_strict`: whether secrets that clients make up must be long."""

    def __init__(self, engine: Engine, catalog: Catalog, keys: Keys, *, is_strict: bool) -> None:
        self._engine, self._catalog, self._keys = engine, catalog, keys
        self._new: dict[str, Parse] = {
            "name": fields.text(fields.MAX_NAME, is_required=True),
            "key": fields.secret(is_strict=is_strict),
            **MEMBERS,
        }
        self._changed: dict[str, Parse] = self._new | {"key": fields.text(fields.MAX_NAME)}

    def create(self, actor: Actor, body: Mapping[str, Any], *, needs_key: bool) -> Answer:
        """A new key; its secret stands in this answer and nowhere else.

        Raises:
            FieldsInvalid, InvalidRequest: what the body says cannot be.
            Conflict: the secret is taken (code `duplicate_key`).
        """
        given = fields.read(self._new, body, ("name", "key") if needs_key else ("name",))
        values = given.values
        if "userId" not in values:
            self._ensure_owner(actor)
        with changing(self._engine, self._catalog) as session:
            owner = _owner(session, values.get("userId", KEY_OWNER))
            issued = self._keys.issue(session, owner.id, values["name"], secret=values.get("key"))
            row = session.get_one(ApiKey, issued.id)
            _revoke(row, values, keyviews.shown(session, [row])[0])
            _apply(row, values)
            _bind(session, row, values)
            _police(session, actor, row, values)
            lives.check_new(row)
            ceilings.store(session, actor, "key", row.id, values)
            note(session, actor, "key_create", "key", row.id, differences(None, _described(session, row)))
        return Answer(self._view(issued.id) | {"key": issued.secret}, given.ignored)

    def get(self, key_id: str) -> Answer:
        """One key.

        Raises:
            NotFound: there is none (code `key_not_found`).
        """
        with Session(self._engine) as session:
            row = session.scalar(select(ApiKey).options(joinedload(ApiKey.user)).where(ApiKey.uuid == _stored(key_id)))
            if row is None:
                raise _unknown(key_id)
            return Answer(keyviews.shown(session, [row])[0])

    def update(self, actor: Actor, key_id: str, body: Mapping[str, Any]) -> Answer:
        """Change what the body names and leave the rest.

        Raises:
            FieldsInvalid, InvalidRequest: what the body says cannot be.
            NotFound: there is no such key.
            Conflict: the key is not for clients to change.
        """
        given = fields.read(self._changed, body)
        with changing(self._engine, self._catalog) as session:
            row = self._locked(session, key_id)
            before = _described(session, row)
            if given.values.get("key", row.hint) != row.hint:
                raise FieldsInvalid({"key": "is changed by rotating it"})
            _revoke(row, given.values, keyviews.shown(session, [row])[0])
            _apply(row, given.values)
            _bind(session, row, given.values)
            _police(session, actor, row, given.values)
            _move(session, row, given.values)
            ceilings.store(session, actor, "key", row.id, given.values)
            if given.values:
                row.updated_at = clock.now()
            changes = differences(before, _described(session, row))
            if changes["after"]:
                is_revoked = before["revoked_at"] is None and row.revoked_at is not None
                note(session, actor, "key_revoke" if is_revoked else "key_update", "key", row.id, changes)
        return Answer(self._view(row.id), given.ignored)

    def delete(self, actor: Actor, key_id: str) -> None:
        """Remove a key with its limits; what it used stays in the books. See services/removal.py.

        Raises:
            NotFound: there is no such key.
            Conflict: the key is not for clients to change.
        """
        with changing(self._engine, self._catalog) as session:
            row = self._locked(session, key_id)
            note(session, actor, "key_delete", "key", row.id, {"before": keyviews.describe(row)})
            removal.key(session, row.id)

    def rotate(self, actor: Actor, key_id: str, body: Mapping[str, Any]) -> Answer:
        """A new secret for a key; the old one goes on for the grace that the body names, by default not at all.

        Raises:
            FieldsInvalid: no such grace, or a member that means nothing here.
            NotFound: there is no such key.
            Conflict: the key is not for clients to change, or opens nothing any more.
        """
        given = fields.read(ROTATION, body)
        if given.ignored:  # a grace that was misspelt would end the old secret at once
            raise FieldsInvalid({name[: fields.MAX_NAME]: UNKNOWN for name in given.ignored})
        grace = _grace(given.values)
        with changing(self._engine, self._catalog) as session:
            row = self._locked(session, key_id)
            if row.revoked_at is not None or lives.has_ended(row):
                raise Conflict("This key was revoked or has expired; a new secret would open nothing.")
            before = row.hint
            issued = self._keys.rotate(session, row, grace)
            row.updated_at = clock.now()
            until = moment(clock.now() + grace) if grace else None
            details = {"before": {"hint": before}, "after": {"hint": issued.hint}, "old_secret_until": until}
            note(session, actor, "key_rotate", "key", row.id, details)
        return Answer(self._view(issued.id) | {"key": issued.secret})

    def search(self, body: Mapping[str, Any]) -> Listed:
        """The keys that meet all that the body names, newest first unless it says `asc`.

        Raises:
            FieldsInvalid: a filter that cannot be.
        """
        values = fields.read(SEARCH, body).values
        order = ApiKey.id if values.get("order") == "asc" else ApiKey.id.desc()
        limit, offset = values.get("limit") or pages.MOST, values.get("offset", 0)
        with Session(self._engine) as session:
            wanted = keyviews.conditions(session, values)
            query = select(ApiKey).options(joinedload(ApiKey.user)).where(*wanted).order_by(order)
            rows = session.scalars(query.limit(limit).offset(offset)).all()
            count = pages.total(session, ApiKey.id, wanted) if values.get("returnCount") else None
            return Listed(keyviews.shown(session, rows), count)

    def _ensure_owner(self, actor: Actor) -> None:
        """The user of keys that are made for nobody in particular, in a transaction of its own: two may race."""
        with Session(self._engine) as session:
            found = session.scalar(select(User).where(User.username == KEY_OWNER))
        if found is not None and found.password_hash is not None:
            raise FieldsInvalid({"userId": f"is required, because `{KEY_OWNER}` is a person here"})
        if found is not None:
            return
        try:
            with changing(self._engine, self._catalog) as session:
                row = User(username=KEY_OWNER)
                session.add(row)
                session.flush()
                note(session, actor, "user_create", "user", row.id, {"after": {"username": KEY_OWNER}})
        except Conflict:
            return  # somebody else has just made it

    def _locked(self, session: Session, key_id: str) -> ApiKey:
        """The key, which nobody else changes until the end of the transaction.

        Raises:
            NotFound: there is none.
            Conflict: it is not for clients to change.
        """
        mine = ApiKey.uuid == _stored(key_id)
        lock = update(ApiKey).where(mine).values(updated_at=ApiKey.updated_at)
        session.execute(lock.execution_options(synchronize_session=False))
        row = session.scalar(select(ApiKey).options(joinedload(ApiKey.user)).where(mine))
        if row is None:
            raise _unknown(key_id)
        if row.kind == "environment":
            raise Conflict("This key comes from the setting API_AUTH_TOKENS; change it there.")
        return row

    def _view(self, number: int) -> dict[str, Any]:
        with Session(self._engine) as session:
            row = session.scalar(select(ApiKey).options(joinedload(ApiKey.user)).where(ApiKey.id == number))
            if row is None:
                raise _unknown(str(number))
            return keyviews.shown(session, [row])[0]


def _apply(row: ApiKey, values: Mapping[str, Any]) -> None:
    for member, column in COLUMNS.items():
        if member in values:
            setattr(row, column, values[member])
    lives.store(row, values)


def _bind(session: Session, row: ApiKey, values: Mapping[str, Any]) -> None:
    """Keep the key to the provider settings that are named; an empty list lets it reach all.

    Raises:
        FieldsInvalid: one does not exist, or the two members say opposite things.
    """
    if values.get("settingId") and values.get("settingIds") == []:
        raise FieldsInvalid({"settingIds": "is empty, and settingId names one; give one of the two"})
    for member in ("settingId", "settingIds"):
        if member in values:
            named = values[member] if member == "settingIds" else [values[member]]
            row.provider_ids = providersettings.numbers(session, [one for one in named if one], member) or None


def _police(session: Session, actor: Actor, row: ApiKey, values: Mapping[str, Any]) -> None:
    """Give the key the policy that is named; an empty name takes it away.

    Raises:
        FieldsInvalid: there is no such policy.
    """
    if "policyId" in values:
        bindings.bind(session, actor, ("key", row.id), values["policyId"])


def _revoke(row: ApiKey, values: Mapping[str, Any], seen: Mapping[str, Any]) -> None:
    stored = (row.revoked_at is not None, row.revoked_reason)
    is_revoked, row.revoked_reason = lives.revocation(values, seen, stored)
    row.revoked_at = (row.revoked_at or clock.now()) if is_revoked else None


def _described(session: Session, row: ApiKey) -> dict[str, Any]:
    """For the audit log, with its policy."""
    return keyviews.describe(row) | {"policy_id": bindings.bound(session, "key", [row.id]).get(row.id)}


def _move(session: Session, row: ApiKey, values: Mapping[str, Any]) -> None:
    """Give the key to another user."""
    if "userId" not in values:
        return
    owner = _owner(session, values["userId"])
    if owner.id != row.user_id and row.kind != "standard":
        raise Conflict("This is the key that its user gets by signing in; it cannot become another's.")
    row.user = owner


def _owner(session: Session, given: str | int) -> User:
    found = keyviews.find_user(session, given)
    if found is None:
        raise FieldsInvalid({"userId": f"`{given}` does not exist"})
    return found


def _grace(values: Mapping[str, Any]) -> timedelta:
    if len(values) > 1:
        raise InvalidRequest("grace and graceInSeconds say the same; give one of them", param="grace")
    grace: timedelta = values.get("grace", timedelta(seconds=values.get("graceInSeconds", 0)))
    if grace > LONGEST_GRACE:
        raise FieldsInvalid({"grace": f"may be {LONGEST_GRACE.days} days"})
    return grace


def _stored(key_id: str) -> str:
    """The id as it is stored; whatever cannot be one finds nothing."""
    return key_id.lower() if key_id.isascii() and key_id.isprintable() and len(key_id) == LONGEST_ID else ""


def _unknown(key_id: str) -> NotFound:
    return NotFound(f"There is no key `{key_id[:LONGEST_ID]}`.", param="keyId", code="key_not_found")
