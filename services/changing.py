"""A change that clients of the management APIs make: one transaction, seen by this worker at once."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.catalog import Catalog
from services.errors import AccountingUnavailable, Conflict

TAKEN: Final = {  # by table and column: what it means that a value is there already
    "api_keys_digest": ("A key with this secret exists already.", "duplicate_key"),
    "prompts_name": ("A prompt with this name exists already.", "duplicate_prompt"),
    "routes_path": ("A route with this path exists already.", "duplicate_route"),
    "users_username": ("A user with this userId exists already.", "duplicate_user"),
}


@contextmanager
def changing(engine: Engine, catalog: Catalog) -> Iterator[Session]:
    """The session to change things in; committed at the end.

    Raises:
        Conflict: something of that name is there, or somebody else changed the same thing.
    """
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session
    except IntegrityError as exc:
        # SQLite names the column, Postgres the index; its further lines repeat what was sent.
        said = str(exc.orig).partition("\n")[0].replace(".", "_")
        for place, (message, code) in TAKEN.items():
            if place in said:
                raise Conflict(message, code=code) from exc
        raise Conflict("Somebody else changed this at the same moment; please look again.") from exc
    with suppress(AccountingUnavailable):  # it is stored; whoever cannot read it now reads it within two seconds
        catalog.refresh()
