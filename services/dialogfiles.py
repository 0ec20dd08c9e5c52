"""Dialogs as a file: written piece by piece, so that its size does not matter, and read all or nothing.

    {"version": "1.0", "exported_at", "user_id", "dialogs": [{…, "messages": […]}], "dialog_count", "message_count"}

The counts stand at the end, where they are known. A file that is read gets new ids for everything: what it says of ids
and of users counts for nothing, so nobody's dialogs can be overwritten by one.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, delete, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from models import Dialog, Message
from services.audit import Actor, note
from services.dialects import checks, openai
from services.dialects import dialogs_fields as fields
from services.dialects.checks import Check
from services.dialogs import COLUMNS, SHOWN
from services.errors import InvalidRequest
from utils import clock, ids, jsonx, native

VERSION: Final = "1.0"
AT_ONCE: Final = 200  # dialogs read at once
MESSAGES_AT_ONCE: Final = 50  # each may be large
BATCH: Final = 200  # messages stored at once …
BATCH_CHARS: Final = 100_000  # … or so much text
PAUSE_S: Final = 0.005  # in which others may write
MOST_ERRORS: Final = 100  # told of one file
MOST_CHARS: Final = 10_000_000  # of one message: an answer may be longer than what people may send
CLOCKS_DIFFER: Final = timedelta(days=1)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
ROLES: Final = ("system", "user", "assistant")
REFUSED: Final = "The file cannot be imported; nothing of it was stored."
DIALOG_PARTS: Final[Mapping[str, Check]] = dict(fields.DIALOG)
MESSAGE_PARTS: Final[Mapping[str, Check]] = {
    "role": checks.one_of(*ROLES),
    "content": fields.text(MOST_CHARS),
    "prompt_tokens": checks.whole(0, 2**53),
    "completion_tokens": checks.whole(0, 2**53),
}


@dataclass(slots=True)
class File:
    """What a file says, ready to be stored, and what is wrong with it."""

    dialogs: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may come in, and the model of dialogs that name none."""

    messages: int  # of a dialog
    content: int  # characters of a message of a person
    default_model: str


def export(engine: Engine, user_id: int) -> Iterator[bytes]:
    """The file of all dialogs of the user, in pieces; messages that come meanwhile are not in it."""
    counts = {"dialog_count": 0, "message_count": 0}
    head = {"version": VERSION, "exported_at": datetime.now(UTC), "user_id": user_id}
    with Session(engine) as session:
        last = session.scalar(select(Message.number).order_by(Message.number.desc()).limit(1)) or 0
    yield jsonx.dumps(head).removesuffix(b"}") + b',"dialogs":['
    for row in _dialogs(engine, user_id):
        view = {name: value for name, value in row.items() if name not in ("user_id", "message_count")}
        yield (b"," if counts["dialog_count"] else b"") + jsonx.dumps(view).removesuffix(b"}") + b',"messages":['
        counts["dialog_count"] += 1
        separator = b""
        for batch in _messages(engine, row["id"], last):
            yield separator + b",".join(map(jsonx.dumps, batch))
            separator = b","
            counts["message_count"] += len(batch)
        yield b"]}"
    yield b"]," + jsonx.dumps(counts).removeprefix(b"{")


def read(raw: bytes, bounds: Bounds) -> File:
    """What the file says.

    Raises:
        InvalidRequest: it is no file of dialogs, or one with mistakes; `details` has the first MOST_ERRORS.
    """
    body = openai.members(raw)
    if not isinstance(body.get("dialogs"), list):
        raise refused(["`dialogs` must be an array of objects."])
    file, now = File(), datetime.now(UTC)
    if body.get("version", VERSION) != VERSION:
        file.errors.append(f"`version` must be {VERSION}.")
    seen: set[str] = set()
    for place, given in enumerate(body["dialogs"]):
        _read_dialog(file, f"dialogs.{place}", given, bounds, now, seen)
        if len(file.errors) >= MOST_ERRORS:
            break
    else:
        for name, found in (("dialog_count", len(file.dialogs)), ("message_count", len(file.messages))):
            if not file.errors and not _is_count(body.get(name), found):
                file.errors.append(f"`{name}` says otherwise: the file has {found}.")
    if file.errors:
        raise refused(file.errors[:MOST_ERRORS])
    return file


def store(engine: Engine, user_id: int, file: File, actor: Actor) -> dict[str, Any]:
    """Put the dialogs of a file among those of the user, all or none; returns the answer of the API.

    Messages are stored a few at a time, so that calls need not wait for the whole file on SQLite, which has one writer.
    Without its dialog nobody finds a message, and the dialogs come last, together.
    """
    told = {"dialogs_imported": len(file.dialogs), "messages_imported": len(file.messages)}
    try:
        for batch in _batches(file.messages):
            native.run(_insert, engine, [one | {"user_id": user_id} for one in batch])
            clock.sleep(PAUSE_S)
        with Session(engine) as session, session.begin():
            if file.dialogs:
                session.execute(insert(Dialog), [one | {"user_id": user_id} for one in file.dialogs])
            note(session, actor, "import_dialogs", "dialog", None, told)
    except BaseException:
        _take_back(engine, file.messages)
        raise
    return told | {"errors": []}


def refused(errors: list[str]) -> InvalidRequest:
    """The error of a file that cannot be taken."""
    exc = InvalidRequest(REFUSED)
    exc.details = {"dialogs_imported": 0, "messages_imported": 0, "errors": errors}
    return exc


def _batches(messages: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The messages in groups that are stored quickly."""
    batch, size = list[dict[str, Any]](), 0
    for message in messages:
        batch.append(message)
        size += len(message["content"])
        if size >= BATCH_CHARS or len(batch) >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _insert(engine: Engine, batch: list[dict[str, Any]]) -> None:
    with Session(engine) as session, session.begin():
        session.execute(insert(Message), batch)


def _take_back(engine: Engine, messages: list[dict[str, Any]]) -> None:
    """Remove what was stored of a file; where the database is away, it stays where nobody finds it."""
    with suppress(SQLAlchemyError):
        for batch in _batches(messages):
            with Session(engine) as session, session.begin():
                session.execute(delete(Message).where(Message.id.in_([one["id"] for one in batch])))


def _dialogs(engine: Engine, user_id: int) -> Iterator[dict[str, Any]]:
    """All dialogs of the user, by id; no connection is held while the reader is slow."""
    after = ""
    while True:
        with Session(engine) as session:
            rows = (
                session.execute(
                    select(*COLUMNS)
                    .where(Dialog.user_id == user_id, Dialog.id > after)
                    .order_by(Dialog.id)
                    .limit(AT_ONCE)
                )
                .mappings()
                .all()
            )
        for row in rows:
            yield dict(row)
        if len(rows) < AT_ONCE:
            return
        after = rows[-1]["id"]


def _messages(engine: Engine, dialog_id: str, last: int) -> Iterator[list[dict[str, Any]]]:
    """The messages of a dialog up to this number, oldest first, in batches."""
    after = 0
    while True:
        with Session(engine) as session:
            rows = (
                session.execute(
                    select(Message.number, *SHOWN)
                    .where(Message.dialog_id == dialog_id, Message.number > after, Message.number <= last)
                    .order_by(Message.number)
                    .limit(MESSAGES_AT_ONCE)
                )
                .mappings()
                .all()
            )
        if rows:
            yield [{name: value for name, value in row.items() if name not in _INNER} for row in rows]
        if len(rows) < MESSAGES_AT_ONCE:
            return
        after = rows[-1]["number"]


def _is_count(said: object, found: int) -> bool:
    """Whether a count that may be missing is right; to Python, `true` is 1 as well."""
    return said is None or (type(said) is int and said == found)


_INNER: Final = ("number", "dialog_id")


def _read_dialog(file: File, place: str, given: Any, bounds: Bounds, now: datetime, seen: set[str]) -> None:
    """Take one dialog with its messages, or note what is wrong with it."""
    if not isinstance(given, dict):
        file.errors.append(f"`{place}` must be an object.")
        return
    former = given.get("id")
    if isinstance(former, str) and former in seen:
        file.errors.append(f"`{place}.id` stands in the file twice.")
    seen.add(str(former))
    values = _values(file, place, given, DIALOG_PARTS)
    created, updated = _moments(file, place, given, now)
    model = values.get("model_name") or bounds.default_model
    if not model:
        file.errors.append(f"`{place}.model_name` is required: LLM_DEFAULT_MODEL is not set.")
    messages = given.get("messages") or []
    if not isinstance(messages, list) or len(messages) > bounds.messages:
        file.errors.append(f"`{place}.messages` must be an array of at most {bounds.messages} objects.")
        return
    row = {"title": None, "system_prompt": None, "agent_config": None} | values
    row |= {"id": ids.uuid(), "model_name": model, "message_count": len(messages)}
    file.dialogs.append(row | {"created_at": created, "updated_at": max(created, updated)})
    for number, message in enumerate(messages):
        _read_message(file, f"{place}.messages.{number}", message, row["id"], (bounds, now))


def _read_message(file: File, place: str, given: Any, dialog_id: str, rules: tuple[Bounds, datetime]) -> None:
    """Take one message, or note what is wrong with it."""
    if len(file.errors) >= MOST_ERRORS:
        return
    if not isinstance(given, dict):
        file.errors.append(f"`{place}` must be an object.")
        return
    bounds, now = rules
    values = _values(file, place, given, MESSAGE_PARTS)
    for name in ("role", "content"):
        if given.get(name) is None:
            file.errors.append(f"`{place}.{name}` is required.")
    if given.get("role") == "user" and isinstance(given.get("content"), str) and len(given["content"]) > bounds.content:
        file.errors.append(f"`{place}.content` may have {bounds.content} characters.")
    created, _updated = _moments(file, place, given, now)
    row = {"prompt_tokens": None, "completion_tokens": None} | values
    file.messages.append(row | {"id": ids.uuid(), "dialog_id": dialog_id, "created_at": created})


def _values(
    file: File, place: str, given: Mapping[str, Any], parts: Mapping[str, Callable[[Any], str | None]]
) -> dict[str, Any]:
    """The members that are known, noting those that are wrong; others count for nothing."""
    found = {}
    for name, check in parts.items():
        if given.get(name) is None:
            continue
        if (problem := check(given[name])) is not None:
            file.errors.append(f"`{place}.{name}` {problem}.")
        found[name] = given[name]
    return found


def _moments(file: File, place: str, given: Mapping[str, Any], now: datetime) -> tuple[datetime, datetime]:
    """When it was made and last changed; now where nothing is said."""
    found = []
    for name in ("created_at", "updated_at"):
        moment = _moment(given.get(name), now)
        if moment is None or not EPOCH <= moment <= now + CLOCKS_DIFFER:
            file.errors.append(f"`{place}.{name}` must be a moment that has been, such as 2026-01-31T12:00:00Z.")
        found.append(moment or now)
    return found[0], found[1]


def _moment(value: Any, now: datetime) -> datetime | None:
    if value is None:
        return now
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    try:
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except OverflowError:
        return None
