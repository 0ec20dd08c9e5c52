"""Files of batches in the database: uploaded ones in sealed chunks, and the results of batches.

A file belongs to a user: any of that user's keys may use or delete it, and to everybody else there is none. Content is
taken in and given out a chunk at a time, each in a transaction of its own, so that its size does not matter; a file
counts as there when its last chunk is. Results are not stored again as a file: they are read from the batch's lines.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, delete, func, insert, literal, or_, select, tuple_, update
from sqlalchemy.orm import Session

from models_batches import Batch, BatchChunk, BatchFile, BatchLine
from services.credentials import Sealer
from services.errors import BodyTooLarge, Conflict, InvalidRequest, NotFound
from services.types import Caller
from utils import clock, ids, native

CHUNK: Final = 192 * 1024  # bytes: a quarter of a megabyte when it is sealed
AT_ONCE: Final = 20  # results read in one go
ENDED: Final = 100  # files removed in one go
LONGEST_UPLOAD: Final = timedelta(days=1)
MOST_NAME: Final = 255
INPUT, OUTPUT = "batch", "batch_output"
OPEN: Final = ("validating", "in_progress", "finalizing", "cancelling")  # batches that are not over


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large files may be, and how long they are kept; None = until they are deleted."""

    file_bytes: int
    user_bytes: int
    kept: timedelta | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A page of a list."""

    limit: int
    after: str | None = None
    is_rising: bool = False
    purpose: str | None = None


class Files:
    """See the module."""

    def __init__(self, engine: Engine, sealer: Sealer, bounds: Bounds) -> None:
        self._engine, self._sealer, self.bounds = engine, sealer, bounds

    def create(
        self, caller: Caller, filename: str, parts: Iterable[bytes], kept: timedelta | None = None
    ) -> dict[str, Any]:
        """Store an uploaded file; `parts` of CHUNK bytes, of which the last may be shorter. `kept`: see Bounds.

        Raises:
            BodyTooLarge: it is larger than a file may be, or has no room beside the user's others; nothing is kept.
            InvalidRequest: it is empty.
        """
        file_id, now = f"file-{ids.random_base62(24)}", clock.now()
        lasting = min((one for one in (kept, self.bounds.kept) if one is not None), default=None)
        row = {"id": file_id, "user_id": caller.user_id, "key_id": caller.key_id, "filename": _named(filename)}
        row |= {"purpose": INPUT, "size_bytes": 0, "is_whole": False, "created_at": now}
        with self._engine.begin() as connection:
            used = connection.execute(
                select(func.coalesce(func.sum(BatchFile.size_bytes), 0)).where(
                    BatchFile.user_id == caller.user_id, BatchFile.purpose == INPUT
                )
            ).scalar_one()
            connection.execute(insert(BatchFile).values(row | {"expires_at": now + lasting if lasting else None}))
        try:
            self._fill(file_id, caller.user_id, parts, int(used))
        except BaseException:
            self._remove(BatchFile(id=file_id))
            raise
        return self.find(caller.user_id, file_id)

    def find(self, user_id: int, file_id: str) -> dict[str, Any]:
        """A file of this user as OpenAI's API shows it.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        return shown(self.row(user_id, file_id))

    def row(self, user_id: int, file_id: str, param: str = "file_id") -> BatchFile:
        """The same as stored.

        Raises:
            NotFound: see `find`.
        """
        with Session(self._engine) as session:
            row = session.scalars(select(BatchFile).where(BatchFile.id == file_id, *_there(user_id))).first()
        if row is None:
            raise missing(file_id, param)
        return row

    def page(self, user_id: int, wanted: Wanted) -> dict[str, Any]:
        """One page of the user's files.

        Raises:
            InvalidRequest: `after` is none of them.
        """
        conditions: list[ColumnElement[bool]] = list(_there(user_id))
        if wanted.purpose is not None:
            conditions.append(BatchFile.purpose == wanted.purpose)
        order = (BatchFile.created_at, BatchFile.id)
        with Session(self._engine) as session:
            if wanted.after is not None:
                last = session.scalars(select(BatchFile).where(BatchFile.id == wanted.after, *_there(user_id))).first()
                if last is None:
                    raise InvalidRequest("There is no such file in this list.", param="after")
                place = tuple_(*order)
                at = tuple_(literal(last.created_at, BatchFile.created_at.type), literal(last.id))
                conditions.append(place > at if wanted.is_rising else place < at)
            sorting = [one.asc() if wanted.is_rising else one.desc() for one in order]
            query = select(BatchFile).where(*conditions).order_by(*sorting).limit(wanted.limit + 1)
            return listed([shown(row) for row in session.scalars(query)], wanted.limit)

    def delete(self, user_id: int, file_id: str) -> None:
        """Remove a file of this user, with its content.

        Raises:
            NotFound: there is none, or it is somebody else's.
            Conflict: a batch that is not over needs it.
        """
        row = self.row(user_id, file_id)
        with self._engine.connect() as connection:
            needed = select(Batch.name).where(Batch.input_file_id == file_id, Batch.status.in_(OPEN)).limit(1)
            name = connection.execute(needed).scalar()
        if name is not None:
            raise Conflict(f"The batch `{name}` still needs this file; cancel it first.", code="file_in_use")
        self._remove(row)

    def forget_ended(self) -> None:
        """Remove files whose time is over, and those whose upload ended with its worker."""
        now = clock.now()
        is_left = BatchFile.is_whole.is_(False) & (BatchFile.created_at <= now - LONGEST_UPLOAD)
        with Session(self._engine) as session:
            found = session.scalars(select(BatchFile).where((BatchFile.expires_at <= now) | is_left).limit(ENDED)).all()
        for row in found:
            self._remove(row)

    def content(self, row: BatchFile) -> Iterator[bytes]:
        """What is in a file, piece by piece; no connection is held while the reader is slow."""
        return self.chunks(row.id) if row.batch_id is None else self._results(row)

    def chunk(self, file_id: str, number: int) -> bytes | None:
        """One chunk of an uploaded file; None = it has no more."""
        with self._engine.connect() as connection:
            sealed = connection.execute(
                select(BatchChunk.sealed).where(BatchChunk.file_id == file_id, BatchChunk.number == number)
            ).scalar()
        return None if sealed is None else native.run(self._sealer.open_bytes, sealed)

    def chunks(self, file_id: str) -> Iterator[bytes]:
        """An uploaded file, a chunk at a time."""
        number = 0
        while (data := self.chunk(file_id, number)) is not None:
            yield data
            number += 1

    def part(self, file_id: str, start: int, length: int) -> bytes:
        """So many bytes of an uploaded file from there on; fewer where it has been deleted meanwhile."""
        numbers = range(start // CHUNK, (start + length - 1) // CHUNK + 1)
        found = b"".join(self.chunk(file_id, number) or b"" for number in numbers)
        begin = start - numbers[0] * CHUNK
        return found[begin : begin + length]

    def _results(self, row: BatchFile) -> Iterator[bytes]:
        after = 0
        mine = (BatchLine.batch_id == row.batch_id, BatchLine.state == row.state, BatchLine.sealed.is_not(None))
        while True:
            query = select(BatchLine.number, BatchLine.sealed).where(*mine, BatchLine.number > after)
            with self._engine.connect() as connection:
                found = connection.execute(query.order_by(BatchLine.number).limit(AT_ONCE)).all()
            if not found:
                return
            yield b"".join(self._sealer.open_bytes(sealed) + b"\n" for _number, sealed in found if sealed is not None)
            after = found[-1].number

    def _fill(self, file_id: str, user_id: int, parts: Iterable[bytes], used: int) -> None:
        size = 0
        for number, data in enumerate(parts):
            size += len(data)
            if size > self.bounds.file_bytes:
                raise too_large(self.bounds.file_bytes)
            if used + size > self.bounds.user_bytes:
                raise BodyTooLarge(
                    f"Your files may have {self.bounds.user_bytes:,} bytes together; delete some first.",
                    param="file",
                    code="storage_limit_exceeded",
                )
            chunk = {"file_id": file_id, "user_id": user_id, "number": number}
            sealed = native.run(self._sealer.seal_bytes, data)
            with self._engine.begin() as connection:
                connection.execute(insert(BatchChunk).values(chunk | {"sealed": sealed}))
                connection.execute(update(BatchFile).where(BatchFile.id == file_id).values(size_bytes=size))
        if not size:
            raise InvalidRequest("The file is empty.", param="file")
        with self._engine.begin() as connection:
            connection.execute(update(BatchFile).where(BatchFile.id == file_id).values(is_whole=True))

    def _remove(self, row: BatchFile) -> None:
        results = (BatchLine.batch_id == row.batch_id, BatchLine.state == row.state)
        with self._engine.begin() as connection:
            connection.execute(delete(BatchFile).where(BatchFile.id == row.id))
            connection.execute(delete(BatchChunk).where(BatchChunk.file_id == row.id))
            if row.batch_id is not None:
                connection.execute(update(BatchLine).where(*results).values(sealed=None))


def shown(row: BatchFile) -> dict[str, Any]:
    """A file as OpenAI's API shows it; moments are Unix seconds."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.size_bytes,
        "created_at": int(row.created_at.timestamp()),
        "expires_at": seconds(row.expires_at),
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
        "status_details": None,
    }


def listed(views: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A page of a list as OpenAI's API shows it, of one entry more than it may have."""
    page = views[:limit]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return {"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": len(views) > limit}


def too_large(most: int) -> BodyTooLarge:
    """The answer to a file of more bytes than that."""
    return BodyTooLarge(f"The file is too large: it may have {most:,} bytes.", param="file")


def missing(file_id: str, param: str) -> NotFound:
    """The answer to a file that is not there, or somebody else's."""
    return NotFound(
        f"There is no file `{file_id[:100]}`; it was deleted, has ended, or is somebody else's.", param=param
    )


def seconds(moment: datetime | None) -> int | None:
    """Unix seconds, as clients read them."""
    return None if moment is None else int(moment.timestamp())


def _there(user_id: int) -> tuple[ColumnElement[bool], ...]:
    lasts = or_(BatchFile.expires_at.is_(None), BatchFile.expires_at > clock.now())
    return BatchFile.user_id == user_id, BatchFile.is_whole.is_(True), lasts


def _named(filename: str) -> str:
    """The last part of a name, printable: it is shown and offered for saving, never a path."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    return "".join(char for char in last if char.isprintable())[:MOST_NAME] or "upload.jsonl"
