"""Whom alerts are sent to: webhooks and e-mail addresses, and the secrets that sign what webhooks get.

An address is kept sealed, since that of a webhook often holds a secret; `hint` is what may be shown of it.
"""

import base64
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.orm import Session

from models_alerts import Alert, AlertDelivery, AlertTarget
from services import addresses, audit
from services.alerts import OFFERED
from services.credentials import Sealer
from services.errors import Conflict, InvalidRequest
from utils import clock

RESOURCE: Final = "alert_target"
KINDS: Final = ("webhook", "email")
MAX_NAME: Final = 100
MAX_ADDRESS: Final = 2000
MAX_RECIPIENTS: Final = 20
MAX_HINT: Final = 300
PREFIX: Final = "whsec_"  # as Standard Webhooks writes secrets
SECRET_BYTES: Final = 32
BOTH_FOR: Final = timedelta(hours=24)  # so long after a change the secret before signs as well
MAILBOX: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,8}", re.ASCII
)
BAD_URL: Final = "Not a web address: use https://host/path, without user name, spaces and `#`."
BAD_MAIL: Final = "Not e-mail addresses: use name@example.com, several with commas between them."
TOO_MANY: Final = "Too many addresses for one target."
FORBIDDEN: Final = "This is a link-local, metadata or reserved address, which is never called."
TAKEN: Final = "There is a target of this name already."
NO_EVENT: Final = "Choose at least one event."


@dataclass(frozen=True, slots=True)
class Given:
    """What a form says of a target. `address` None = it stays; `events` None = all."""

    name: str
    kind: str
    address: str | None
    events: Sequence[str] | None
    is_enabled: bool = True


def create(session: Session, sealer: Sealer, actor: audit.Actor, given: Given) -> tuple[AlertTarget, str]:
    """A new target, within the caller's transaction; returns it with its secret, which is '' for e-mail.

    Raises:
        InvalidRequest: an address or event that cannot be.
        Conflict: the name is taken.
    """
    row = AlertTarget(kind=given.kind)
    _set(session, sealer, row, given)
    secret = new_secret() if given.kind == "webhook" else ""
    row.secret = sealer.seal(secret) if secret else None
    session.add(row)
    session.flush()
    audit.note(session, actor, f"{RESOURCE}_create", RESOURCE, row.id, audit.differences(None, described(row)))
    return row, secret


def change(session: Session, sealer: Sealer, actor: audit.Actor, row: AlertTarget, given: Given) -> None:
    """Change what is given, within the caller's transaction; its kind stays.

    Raises:
        InvalidRequest, Conflict: see `create`.
    """
    before = described(row)
    is_new_address = given.address is not None and given.address != sealer.open(row.sealed_address)
    _set(session, sealer, row, given)
    details = audit.differences(before, described(row)) | ({"address": "changed"} if is_new_address else {})
    if details["after"] or is_new_address:
        audit.note(session, actor, f"{RESOURCE}_update", RESOURCE, row.id, details)


def rotate(session: Session, sealer: Sealer, actor: audit.Actor, row: AlertTarget) -> str:
    """A new secret, within the caller's transaction; for BOTH_FOR the one before signs as well.

    Raises:
        InvalidRequest: e-mail is not signed.
    """
    if row.kind != "webhook":
        raise InvalidRequest("Only webhooks have a secret.", param="id")
    secret = new_secret()
    row.former_secret, row.former_until_at = row.secret, clock.now() + BOTH_FOR
    row.secret = sealer.seal(secret)
    session.flush()
    audit.note(session, actor, f"{RESOURCE}_rotate", RESOURCE, row.id, {"secret": "changed"})
    return secret


def remove(session: Session, row: AlertTarget) -> None:
    """Take it away with all that it was told or waits for, within the caller's transaction."""
    session.execute(delete(AlertDelivery).where(AlertDelivery.target_id == row.id))
    session.delete(row)


def described(row: AlertTarget) -> dict[str, Any]:
    """For the audit log: no address in full, no secret."""
    return {"name": row.name, "kind": row.kind, "address": row.hint, "events": row.events, "is_enabled": row.is_enabled}


def new_secret() -> str:
    """A secret as Standard Webhooks writes it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def again(session: Session, actor: audit.Actor, delivery: AlertDelivery) -> None:
    """Have a failed delivery tried anew, or a waiting one at once, within the caller's transaction."""
    if delivery.state == "sent":
        return
    delivery.state, delivery.attempts, delivery.next_at = "waiting", 0, clock.now()
    audit.note(session, actor, "alert_send_again", "alert", delivery.alert_id, {"target": delivery.target_id})


def waiting_of(session: Session, target_id: int) -> int:
    """How many deliveries a target still waits for."""
    wanted = (AlertDelivery.target_id == target_id, AlertDelivery.state == "waiting")
    return session.scalar(select(func.count()).select_from(AlertDelivery).where(*wanted)) or 0


def named(engine: Engine, name: str) -> AlertTarget | None:
    """The target of that name."""
    with Session(engine, expire_on_commit=False) as session:
        return session.scalar(select(AlertTarget).where(AlertTarget.name == name))


def listed(engine: Engine) -> Sequence[AlertTarget]:
    """All of them, by name."""
    with Session(engine, expire_on_commit=False) as session:
        return session.scalars(select(AlertTarget).order_by(AlertTarget.name)).all()


def recent(engine: Engine, size: int) -> list[tuple[Alert, str, AlertDelivery | None]]:
    """The newest alerts with each of their deliveries and its target's name."""
    newest = select(Alert.id).order_by(Alert.id.desc()).limit(size).subquery()
    query = (
        select(Alert, func.coalesce(AlertTarget.name, ""), AlertDelivery)
        .join(newest, newest.c.id == Alert.id)
        .outerjoin(AlertDelivery, AlertDelivery.alert_id == Alert.id)
        .outerjoin(AlertTarget, AlertTarget.id == AlertDelivery.target_id)
        .order_by(Alert.id.desc(), AlertDelivery.id)
    )
    with Session(engine, expire_on_commit=False) as session:
        return [(row[0], row[1], row[2]) for row in session.execute(query)]


def forget_former(engine: Engine) -> None:
    """Remove secrets that no longer sign."""
    over = AlertTarget.former_until_at <= clock.now()
    with Session(engine) as session:
        if session.scalar(select(AlertTarget.id).where(over).limit(1)) is None:
            return
    with Session(engine) as session, session.begin():
        session.execute(update(AlertTarget).where(over).values(former_secret=None, former_until_at=None))


def hint_of(kind: str, address: str) -> str:
    """What may be shown of an address: of a webhook its host alone."""
    if kind == "email":
        return address[:MAX_HINT]
    url = urlsplit(address)
    place = url.netloc[: MAX_HINT - 20]
    return f"{url.scheme}://{place}/{'…' if url.path.strip('/') or url.query else ''}"


def checked(kind: str, address: str) -> str:
    """An address as it is kept.

    Raises:
        InvalidRequest: it cannot be one.
    """
    text = address.strip()
    if len(text) > MAX_ADDRESS or not text.isprintable():
        raise InvalidRequest(BAD_URL if kind == "webhook" else BAD_MAIL, param="address")
    return _url(text) if kind == "webhook" else _mailboxes(text)


def _url(text: str) -> str:
    try:
        url = urlsplit(text)
        is_good = url.scheme in ("http", "https") and url.hostname and url.port != 0 and url.username is None
    except ValueError:
        is_good = False
    if not is_good or url.fragment or " " in text or not text.isascii():
        raise InvalidRequest(BAD_URL, param="address")
    if addresses.is_forbidden(url.hostname or ""):
        raise InvalidRequest(FORBIDDEN, param="address")
    return text


def _mailboxes(text: str) -> str:
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found or not all(MAILBOX.fullmatch(one) for one in found):
        raise InvalidRequest(BAD_MAIL, param="address")
    if len(found) > MAX_RECIPIENTS:
        raise InvalidRequest(TOO_MANY, param="address")
    return ", ".join(dict.fromkeys(found))


def _set(session: Session, sealer: Sealer, row: AlertTarget, given: Given) -> None:
    taken = select(AlertTarget.id).where(AlertTarget.name == given.name, AlertTarget.id != (row.id or 0))
    with session.no_autoflush:
        if session.scalar(taken) is not None:
            raise Conflict(TAKEN, param="name")
    if given.events is not None and (not given.events or set(given.events) - set(OFFERED)):
        raise InvalidRequest(NO_EVENT, param="events")
    if given.address is not None:
        address = checked(row.kind, given.address)
        row.sealed_address, row.hint = sealer.seal(address), hint_of(row.kind, address)
    events = None if given.events is None else [event for event in OFFERED if event in given.events]
    row.name, row.events, row.is_enabled = given.name, events, given.is_enabled
