"""What a worker must not lose when it dies or the database is away: one append-only file per worker.

Lines are JSON: `["sent", id, note]` before the upstream is called, `["progress", id, tokens]` about once a
second of a stream, `["settle", id, settlement]` when the database did not take a settlement. Of calls that a lease
admitted it has all there is until the database has it: `["hold", id, hold]`, the same `settle`, and in the end
`["booked", "", ids]`. A write to the file survives `kill -9`; settlements that the database did not take are also
synced to the disk. Each worker holds a lock beside its file for life, so that others can see it is dead.
"""

import errno
import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from utils import ids, jsonx

COMPACT_BYTES: Final = 2 * 1024 * 1024  # 1,000 calls or more; then, and at twice what was left, only open ones are kept


class SpoolUnavailable(Exception):
    """The file takes no more: disk full, or its folder gone."""


@dataclass(slots=True)
class Notes:
    """What a spool file says, by request id."""

    holds: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, int] = field(default_factory=dict)
    settlements: dict[str, dict[str, Any]] = field(default_factory=dict)


class Spool:
    """The file of this worker, and the way to those of dead ones. Opens at the first use in each process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._pid = 0
        self._file = self._life = -1
        self._size, self._compact_at = 0, COMPACT_BYTES
        self._lines: dict[str, dict[str, bytes]] = {}  # of open calls and unbooked settlements: the last of each kind
        self._owner = ""

    @property
    def owner(self) -> str:
        """The name under which this worker's holds stand: folder id, process id, random.

        Raises:
            SpoolUnavailable: the file cannot be made.
        """
        if self._pid != os.getpid():
            with self._guard:
                if self._pid != os.getpid():  # else another thread was first
                    self._open()
        return self._owner

    @property
    def place(self) -> str:
        """The first part of the owner names of all workers that share this folder."""
        return self.owner.partition(".")[0]

    def hold(self, request_id: str, hold: Any) -> None:
        """A lease admits the call; nobody else knows of it yet.

        Raises:
            SpoolUnavailable: then it must not be admitted.
        """
        self._append("hold", request_id, hold)

    def sent(self, request_id: str, note: Any) -> None:
        """The request goes out to an upstream now.

        Raises:
            SpoolUnavailable: then it must not go out.
        """
        self._append("sent", request_id, note)

    def progress(self, request_id: str, tokens: int) -> None:
        """A stream has delivered about that many tokens; not worth failing for."""
        with suppress(SpoolUnavailable):
            self._append("progress", request_id, tokens)

    def keep(self, request_id: str, settlement: Any, *, sync: bool = True) -> None:
        """Store a settlement until the database takes it; unsynced if that is a matter of a moment.

        Raises:
            SpoolUnavailable: it is nowhere but in memory.
        """
        self._append("settle", request_id, settlement, sync=sync)

    def sync(self) -> None:
        """Bring to the disk what is not there yet: the database keeps us waiting."""
        with self._guard, suppress(OSError):
            if self._pid == os.getpid():
                os.fdatasync(self._file)

    def forget(self, request_id: str) -> None:
        """The database has all there is to know of this call."""
        if request_id in self._lines:  # nothing was noted of a hit of the cache
            self._forget([request_id])

    def forget_all(self, request_ids: Sequence[str]) -> None:
        """The database has these calls of a lease; said in the file too, for usage rows are not kept for ever."""
        with suppress(SpoolUnavailable):  # then a sweeper finds them booked
            self._append("booked", "", request_ids)
        self._forget(["", *request_ids])

    def leave(self) -> None:
        """Leases stay behind: the file stays too, so that a sweeper finds their owner."""
        with suppress(SpoolUnavailable):
            self._append("leases", "", None)

    @contextmanager
    def adopt(self, owner: str) -> Iterator[Notes | None]:
        """The notes of a dead worker of this folder, for as long as the block runs; None = it lives.

        When the block ends well, the dead worker's files are removed.
        """
        life = self._folder / f"{owner}.lock"
        try:
            lock = os.open(life, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            yield Notes()  # it was adopted before, or its files were deleted
            return
        try:
            if not _lock(lock):
                yield None
                return
            journal = self._folder / f"{owner}.jsonl"
            yield read_notes(journal)
            journal.unlink(missing_ok=True)
            life.unlink(missing_ok=True)
        finally:
            os.close(lock)

    def peek(self, owner: str) -> Notes:
        """What the file of any worker of this folder says, living or dead; nothing for others."""
        return read_notes(self._folder / f"{owner}.jsonl")

    def owners(self) -> list[str]:
        """Everyone with files in the folder, this worker apart."""
        return [path.stem for path in self._folder.glob("*.lock") if path.stem != self.owner]

    def close(self) -> None:
        """Leave: with nothing open the files go, else they stay for a sweeper."""
        with self._guard:
            if self._pid != os.getpid():
                return
            os.close(self._file)
            if not self._lines:
                (self._folder / f"{self._owner}.jsonl").unlink(missing_ok=True)
                (self._folder / f"{self._owner}.lock").unlink(missing_ok=True)
            os.close(self._life)
            self._pid = 0

    def _forget(self, request_ids: Sequence[str]) -> None:
        with self._guard:
            for request_id in request_ids:
                self._lines.pop(request_id, None)
            if self._size > self._compact_at and self._pid == os.getpid():
                with suppress(OSError):
                    self._compact()

    def _append(self, kind: str, request_id: str, value: Any, *, sync: bool = False) -> None:
        line = jsonx.dumps([kind, request_id, value]) + b"\n"
        with self._guard:
            if self._pid != os.getpid():
                self._open()
            try:
                written = os.write(self._file, line)
                if written == len(line) and sync:
                    os.fdatasync(self._file)
            except OSError as exc:
                raise SpoolUnavailable(f"the spool in `{self._folder}` cannot be written: {exc.strerror}") from exc
            if written != len(line):
                with suppress(OSError):
                    os.ftruncate(self._file, self._size)
                raise SpoolUnavailable(f"the spool in `{self._folder}` cannot be written: the disk is full")
            self._size += written
            self._lines.setdefault(request_id, {})[kind] = line

    def _open(self) -> None:
        """A new owner name, its lock taken before anybody can see it, and its empty file."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            owner = f"{self._place_id()}.{os.getpid()}.{ids.random_base62(8)}"
            hidden = self._folder / f"{owner}.new"
            life = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            _lock(life)
            self._file = os.open(self._folder / f"{owner}.jsonl", _WRITE, 0o600)
            hidden.rename(self._folder / f"{owner}.lock")
        except OSError as exc:
            raise SpoolUnavailable(f"the spool in `{self._folder}` cannot be made: {exc.strerror}") from exc
        self._life, self._owner, self._lines, self._size = life, owner, {}, 0
        self._compact_at = COMPACT_BYTES
        self._pid = os.getpid()

    def _place_id(self) -> str:
        """A name for the folder that no other folder has; the first worker writes it."""
        path = self._folder / "id"
        with suppress(FileExistsError):
            path_new = self._folder / f"id.{os.getpid()}.{ids.random_base62(8)}"
            path_new.write_text(ids.random_base62(12), encoding="ascii")
            try:
                os.link(path_new, path)
            finally:
                path_new.unlink()
        return path.read_text(encoding="ascii").strip()

    def _compact(self) -> None:
        """Rewrite the file with the lines still needed; the old one stays until the new one is whole."""
        kept = b"".join(line for lines in self._lines.values() for line in lines.values())
        path = self._folder / f"{self._owner}.jsonl"
        fresh = path.with_suffix(".fresh")
        new = os.open(fresh, _WRITE | os.O_TRUNC, 0o600)
        try:
            if os.write(new, kept) != len(kept):
                raise OSError(errno.ENOSPC, "the disk is full")  # noqa: TRY301 - handled like one that was raised
            os.fdatasync(new)
            fresh.rename(path)
        except OSError:
            os.close(new)
            self._compact_at = self._size + COMPACT_BYTES  # not again at once
            raise
        os.close(self._file)
        self._file, self._size = new, len(kept)
        self._compact_at = max(COMPACT_BYTES, 2 * self._size)


_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


def read_notes(path: Path) -> Notes:
    """What the file says; a line torn by a crash is skipped, a missing file says nothing."""
    notes = Notes()
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return notes
    kinds: dict[str, dict[str, Any]] = {
        "hold": notes.holds,
        "sent": notes.sent,
        "progress": notes.progress,
        "settle": notes.settlements,
    }
    for line in lines:
        try:
            kind, request_id, value = jsonx.loads(line)
        except (jsonx.BadJson, TypeError, ValueError):
            continue
        if kind in kinds:
            kinds[kind][request_id] = value
        elif kind == "booked":
            for known in kinds.values():
                for booked in value:
                    known.pop(booked, None)
    return notes


def workers(folder: Path) -> tuple[str, dict[str, bool]]:
    """The folder's own name, empty as long as nobody has used it, and by owner whether it lives. Changes nothing."""
    try:
        place = (folder / "id").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return "", {}
    return place, {path.stem: _is_held(path) for path in sorted(folder.glob("*.lock"))}


def _is_held(path: Path) -> bool:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # it has just ended
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _lock(file: int) -> bool:
    """Whether the lock was free and is ours now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
