"""The tables of files and batches: what was uploaded, what is to be done, how far it is. Units as in models.py.

What was said is sealed: a file in chunks of one length, an answer with its line. Whose it is and how far it is can be
read. Rows of users are removed with them (services/removal.py), all others when they end.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String, UniqueConstraint
from sqlalchemy import LargeBinary as Sealed
from sqlalchemy.orm import Mapped, mapped_column

from utils.columns import Serial, UtcMs, created, not_negative, one_of
from utils.extensions import Base

STATUSES = ("validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled")


class BatchFile(Base):
    """A file: uploaded, in chunks, or the results of a batch, which stand with its lines."""

    __tablename__ = "batch_files"
    __table_args__ = (one_of("purpose", "batch", "batch_output"), *not_negative("size_bytes"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, index=True)
    key_id: Mapped[int | None] = mapped_column(BigInteger)  # None: signed in by token
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(20))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    is_whole: Mapped[bool]  # False: it is being uploaded, or was when its worker died
    batch_id: Mapped[int | None] = mapped_column(BigInteger, index=True)  # whose results these are …
    state: Mapped[str | None] = mapped_column(String(10))  # … of which lines
    created_at: Mapped[datetime] = created()
    expires_at: Mapped[datetime | None] = mapped_column(UtcMs, index=True)  # None: never


class BatchChunk(Base):
    """A part of an uploaded file; `number` counts from 0."""

    __tablename__ = "batch_chunks"
    __table_args__ = (UniqueConstraint("file_id", "number"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    file_id: Mapped[str] = mapped_column(String(40))
    user_id: Mapped[int] = mapped_column(BigInteger, index=True)
    number: Mapped[int]
    sealed: Mapped[bytes] = mapped_column(Sealed)


class Batch(Base):
    """Calls that are made one after the other, as soon as there is room for them: see services/batchlines.py."""

    __tablename__ = "batches"
    __table_args__ = (
        one_of("status", *STATUSES),
        *not_negative("total", "completed", "failed"),
        Index("ix_batches_user", "user_id", "id"),
        Index("ix_batches_status", "status"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)  # what callers know it by
    user_id: Mapped[int] = mapped_column(BigInteger)
    key_id: Mapped[int | None] = mapped_column(BigInteger)  # None: signed in by token
    address: Mapped[str] = mapped_column(String(45))  # of the client
    endpoint: Mapped[str] = mapped_column(String(40))
    input_file_id: Mapped[str] = mapped_column(String(40))
    output_file_id: Mapped[str | None] = mapped_column(String(40))
    error_file_id: Mapped[str | None] = mapped_column(String(40))
    output_seconds: Mapped[int | None]  # that long the files of its results are kept
    model: Mapped[str | None] = mapped_column(String(200))  # of its first line
    status: Mapped[str] = mapped_column(String(20), default="validating")
    client_metadata: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    errors: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    stop: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # what the lines get that wait
    total: Mapped[int] = mapped_column(default=0)
    completed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str | None] = mapped_column(String(40))  # who checks its file …
    lease_at: Mapped[datetime | None] = mapped_column(UtcMs)  # … until then, or somebody else does
    not_before: Mapped[datetime | None] = mapped_column(UtcMs)  # a limit has no room for its lines until then
    created_at: Mapped[datetime] = created()
    expires_at: Mapped[datetime] = mapped_column(UtcMs)
    in_progress_at: Mapped[datetime | None] = mapped_column(UtcMs)
    finalizing_at: Mapped[datetime | None] = mapped_column(UtcMs)
    completed_at: Mapped[datetime | None] = mapped_column(UtcMs)
    failed_at: Mapped[datetime | None] = mapped_column(UtcMs)
    expired_at: Mapped[datetime | None] = mapped_column(UtcMs)
    cancelling_at: Mapped[datetime | None] = mapped_column(UtcMs)
    cancelled_at: Mapped[datetime | None] = mapped_column(UtcMs)

    def __str__(self) -> str:
        return self.name


class BatchLine(Base):
    """One call of a batch. `running`: `owner` makes it as `request_id` until `lease_at`, or died doing so."""

    __tablename__ = "batch_lines"
    __table_args__ = (
        one_of("state", "waiting", "running", "completed", "failed"),
        UniqueConstraint("batch_id", "number"),
        Index("ix_batch_lines_state", "batch_id", "state", "number"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    batch_id: Mapped[int] = mapped_column(BigInteger)
    user_id: Mapped[int] = mapped_column(BigInteger, index=True)
    number: Mapped[int]  # of the line in the file, from 1
    start: Mapped[int] = mapped_column(BigInteger)  # where it begins in the file
    length: Mapped[int] = mapped_column(BigInteger)
    custom_id: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(10), default="waiting")
    request_id: Mapped[str | None] = mapped_column(String(40))
    owner: Mapped[str | None] = mapped_column(String(40))  # of running lines alone
    lease_at: Mapped[datetime | None] = mapped_column(UtcMs)
    size_bytes: Mapped[int] = mapped_column(BigInteger, default=0)  # of its result
    sealed: Mapped[bytes | None] = mapped_column(Sealed)  # its result, a line of JSON; None: none yet, or deleted
