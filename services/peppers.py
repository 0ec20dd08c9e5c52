"""Moving stored keys from an earlier KEY_PEPPER to the one of now.

A digest cannot be made anew without its secret. So a key moves when somebody comes with it; keys of which a sealed
copy is kept, and the fixed tokens of a setting, move without.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Engine, func, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from models import ApiKey, RetiredSecret
from utils import clock

Table = type[ApiKey] | type[RetiredSecret]
TABLES: Final[tuple[Table, ...]] = (ApiKey, RetiredSecret)


def move(session: Session, former: Sequence[str], digest: str, pepper: str) -> None:
    """Store what stands under one of the former digests under this one, within the caller's transaction."""
    for table in TABLES if former else ():
        values = _values(table, pepper) | {"digest": digest}
        statement = update(table).where(table.digest.in_(former)).values(values)
        session.execute(statement.execution_options(synchronize_session=False))


def move_found(engine: Engine, former: Sequence[str], digest: str, pepper: str) -> None:
    """The same where there is such a row; where storing fails, the key goes on under its former digest."""
    with suppress(SQLAlchemyError), Session(engine) as session:
        found = [session.scalar(select(table.digest).where(table.digest.in_(former)).limit(1)) for table in TABLES]
        if any(found):
            move(session, former, digest, pepper)
            session.commit()


def mark(session: Session, pepper: str) -> None:
    """Note the pepper of keys from before it was noted; while no earlier one is known, that is the one of now."""
    for table in TABLES:
        session.execute(update(table).where(table.pepper.is_(None)).values(_values(table, pepper)))


def count_left(session: Session, pepper: str) -> int:
    """How many secrets that may still open something are stored under another pepper."""
    now = clock.now()
    keys, retired = (or_(table.pepper.is_(None), table.pepper != pepper) for table in TABLES)
    works = ApiKey.revoked_at.is_(None) & or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now)
    mine = select(func.count()).select_from(ApiKey).where(keys, works)
    retiring = select(func.count()).select_from(RetiredSecret).where(retired, RetiredSecret.expires_at > now)
    return sum(session.scalar(query) or 0 for query in (mine, retiring))


def _values(table: Table, pepper: str) -> dict[str, Any]:
    """With the moment of the last change as it was: nobody changed the key."""
    return {"pepper": pepper} | ({"updated_at": ApiKey.updated_at} if table is ApiKey else {})
