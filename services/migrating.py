"""One migrator at a time, whoever starts first; the others wait and find the work done."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, text

LOCK_ID: Final = 7_640_001  # any number nobody else uses in this database


@contextmanager
def migration_lock(engine: Engine, folder: Path) -> Iterator[None]:
    """Hold the lock of the database: an advisory one on Postgres, a file beside it on SQLite."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:id)"), {"id": LOCK_ID})
            connection.commit()
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:id)"), {"id": LOCK_ID})
                connection.commit()
        return
    folder.mkdir(parents=True, exist_ok=True)
    if engine.url.database and not engine.url.database.startswith((":", "file:")):
        Path(engine.url.database).touch(0o600)  # SQLite gives its side files the same mode
    with (folder / "migration.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
