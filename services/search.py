"""Finds things by what people call them, for the panel: users, teams, keys, models, providers, configuration, calls.

Every source is one statement, and each reads a bounded number of rows, so that a search costs the same on ten rows
and on ten million: what begins with the text is read along the index of the name, what contains it is looked for
among the newest rows. Secrets are never looked up: of a key there are its name, hint, number and UUID.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, Select, literal, or_, select, union
from sqlalchemy.orm import InstrumentedAttribute, Session

from models import ApiKey, Model, Provider, SystemConfig, Team, UsageRecord, User

NEWEST: Final = 5_000  # rows that are looked at for a text in the middle of a name; each costs Postgres a microsecond
NEXT: Final = 200  # names that are read along the index from the text on: those that begin with it come first
LONGEST: Final = 200
MAX_ID: Final = 2**63 - 1
CALL: Final = "req_"

Column = InstrumentedAttribute[Any]


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that was found; `hints` say which one of several of that title it is."""

    kind: str
    id: int | str
    title: str
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A table to look in: its key and title, and the other columns whose texts count."""

    kind: str
    key: Column
    title: Column
    texts: tuple[Column, ...] = ()
    is_indexed: bool = True  # whether the title is
    exact: Callable[[str], tuple[ColumnElement[bool], ...]] = lambda _text: ()
    hints: tuple[Column, ...] = ()
    owner: Column | None = None  # the relationship that a hint is read through


def _user(text: str) -> tuple[ColumnElement[bool], ...]:
    return tuple(User.id == number for number in _numbers(text))


def _key(text: str) -> tuple[ColumnElement[bool], ...]:
    return (ApiKey.uuid == text.lower(), *(ApiKey.id == number for number in _numbers(text)))


SOURCES: Final = (
    Source("user", User.id, User.username, (User.display_name,), exact=_user, hints=(User.display_name,)),
    Source("team", Team.id, Team.name),
    Source(
        "key", ApiKey.id, ApiKey.name, (ApiKey.hint,), is_indexed=False, exact=_key,
        hints=(ApiKey.hint, User.username), owner=ApiKey.user,
    ),
    Source("model", Model.id, Model.name, (Model.description,), hints=(Model.owned_by,)),
    Source("provider", Provider.id, Provider.name, hints=(Provider.kind,)),
    Source("config", SystemConfig.key, SystemConfig.key, hints=(SystemConfig.description,)),
)  # fmt: skip


def cleaned(given: str) -> str:
    """What can be meant by a text: its characters that can be seen, as many as a name may have."""
    return "".join(char for char in given if char.isprintable())[:LONGEST].strip()


def find(engine: Engine, text: str, most: int) -> list[Hit]:
    """What matches a cleaned text, at most `most` of a kind: the same name first, then what begins with it."""
    if not text:
        return []
    with Session(engine) as session:
        found = [hit for source in SOURCES for hit in _read(session, source, text, most)]
        number = call_of(session, text)
    return found if number is None else [Hit("call", number, text), *found]


def call_of(session: Session, text: str) -> int | None:
    """The number of the call that has exactly this request id."""
    if not text.startswith(CALL):
        return None
    return session.scalar(select(UsageRecord.id).where(UsageRecord.request_id == text))


def _read(session: Session, source: Source, text: str, most: int) -> list[Hit]:
    rows = session.execute(_query(source, text, most)).all()
    hits = [Hit(source.kind, row[0], row[1], tuple(str(hint) for hint in row[2:] if hint)) for row in rows]
    wanted = text.casefold()
    return sorted(hits, key=lambda hit: _rank(hit.title.casefold(), wanted))[:most]


def _rank(title: str, wanted: str) -> tuple[int, str]:
    return (0 if title == wanted else 1 if title.startswith(wanted) else 2, title)


def _query(source: Source, text: str, most: int) -> Select[Any]:
    """The rows that match, in no order."""
    parts = [_contains(source, text, most), *(select(source.key).where(one) for one in source.exact(text))]
    if source.is_indexed:
        parts.append(_begins(source, text, most))
    found = union(*parts).subquery() if len(parts) > 1 else parts[0].subquery()
    query = select(source.key, source.title, *source.hints).where(source.key.in_(select(found.c[0])))
    return query.join(source.owner) if source.owner is not None else query


def _contains(source: Source, text: str, most: int) -> Select[Any]:
    columns = dict.fromkeys((source.key, source.title, *source.texts))
    newest = select(*columns).order_by(source.key.desc()).limit(NEWEST).subquery()
    texts = [newest.c[column.key] for column in (source.title, *source.texts)]
    match = or_(*(one.icontains(text, autoescape=True) for one in texts))
    return _first(newest.c[source.key.key], match, most)


def _begins(source: Source, text: str, most: int) -> Select[Any]:
    """Along the index: in whatever order a database keeps texts, those that begin with it follow it closely."""
    columns = dict.fromkeys((source.key, source.title))
    after = select(*columns).where(source.title >= literal(text)).order_by(source.title).limit(NEXT).subquery()
    match = after.c[source.title.key].istartswith(text, autoescape=True)
    return _first(after.c[source.key.key], match, most)


def _first(key: ColumnElement[Any], match: ColumnElement[bool], most: int) -> Select[Any]:
    found = select(key.label("found")).where(match).limit(most).subquery()  # SQLite limits no part of a union
    return select(found.c.found)


def _numbers(text: str) -> tuple[int, ...]:
    """The number that a text is, with or without a # before it."""
    number = text.removeprefix("#")
    is_number = number.isascii() and number.isdigit() and len(number) < len(str(MAX_ID))
    return (int(number),) if is_number else ()
