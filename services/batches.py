"""Batches as their callers see them: made of an uploaded file, listed, looked at, cancelled.

A batch belongs to a user, as a file does. Making one stores it and nothing else: a worker checks its file and makes
its calls (services/batchrunner.py), whoever is there then.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from models_batches import Batch, BatchFile
from services.audit import Actor, note
from services.batchcheck import ENDPOINTS
from services.batchfiles import INPUT, Files, Wanted, listed, seconds
from services.errors import Conflict, InvalidRequest, NotFound
from services.types import Caller
from utils import clock, ids

WINDOW: Final = "24h"  # the only one that OpenAI's API knows
LONGEST: Final = timedelta(hours=24)
ID: Final = re.compile(r"batch_[0-9A-Za-z]{1,34}", re.ASCII)
MOST_PAIRS, MOST_NAME, MOST_VALUE = 16, 64, 512  # of metadata
EXPIRY: Final = range(3600, 2_592_000 + 1)  # seconds that somebody may ask a file to be kept
MEMBERS: Final = frozenset({"input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"})
STOPPABLE: Final = ("validating", "in_progress")
ENDED: Final = ("failed", "completed", "expired", "cancelled")
CANCELLED: Final = {"error": {"code": "batch_cancelled", "message": "The batch was cancelled before this request."}}
MOMENTS: Final = (
    *("in_progress_at", "expires_at", "finalizing_at", "completed_at"),
    *("failed_at", "expired_at", "cancelling_at", "cancelled_at"),
)


class Batches:
    """See the module."""

    def __init__(self, engine: Engine, files: Files) -> None:
        self._engine, self._files = engine, files

    def create(self, caller: Caller, given: Mapping[str, Any], address: str) -> dict[str, Any]:
        """A new batch of an uploaded file.

        Raises:
            InvalidRequest: a member is missing, unknown or wrong.
            NotFound: the caller's user has no such file.
        """
        asked = _checked(given)
        file = self._files.row(caller.user_id, asked["input_file_id"], "input_file_id")
        if file.purpose != INPUT:
            raise InvalidRequest("The file of a batch is one with the purpose `batch`.", param="input_file_id")
        now = clock.now()
        row = Batch(
            name=f"batch_{ids.random_base62(24)}",
            user_id=caller.user_id,
            key_id=caller.key_id,
            address=address[:45],
            created_at=now,
            expires_at=now + LONGEST,
            **asked,
        )
        with Session(self._engine) as session, session.begin():
            session.add(row)
            lasting = now + 2 * LONGEST  # the file stays as long as it is needed
            kept = update(BatchFile).where(BatchFile.id == file.id, BatchFile.expires_at < lasting)
            session.execute(kept.values(expires_at=lasting))
            session.flush()
            return shown(row)

    def find(self, user_id: int, name: str) -> dict[str, Any]:
        """A batch of this user as OpenAI's API shows it.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        with Session(self._engine) as session:
            return shown(_row(session, user_id, name))

    def page(self, user_id: int, wanted: Wanted) -> dict[str, Any]:
        """One page of the user's batches, the newest first.

        Raises:
            InvalidRequest: `after` is none of them.
        """
        with Session(self._engine) as session:
            query = select(Batch).where(Batch.user_id == user_id).order_by(Batch.id.desc()).limit(wanted.limit + 1)
            if wanted.after is not None:
                last = select(Batch.id).where(Batch.user_id == user_id, Batch.name == wanted.after)
                number = session.scalar(last) if ID.fullmatch(wanted.after) else None
                if number is None:
                    raise InvalidRequest("There is no such batch in this list.", param="after")
                query = query.where(Batch.id < number)
            return listed([shown(row) for row in session.scalars(query)], wanted.limit)

    def cancel(self, user_id: int | None, name: str, actor: Actor | None = None) -> dict[str, Any]:
        """Make no more of its calls; those under way go on. `user_id` None: whosever it is; `actor`: for the audit log.

        Raises:
            NotFound: there is none, or it is somebody else's.
            Conflict: it has ended.
        """
        with Session(self._engine) as session, session.begin():
            row = _row(session, user_id, name)
            values = {"status": "cancelling", "cancelling_at": clock.now(), "stop": CANCELLED, "owner": None}
            found = session.scalars(
                update(Batch).where(Batch.id == row.id, Batch.status.in_(STOPPABLE)).values(values).returning(Batch.id)
            ).all()
            session.refresh(row)
            if not found and row.status != "cancelling":
                raise Conflict(f"This batch cannot be cancelled: it is {row.status}.", code="batch_ended")
            if found and actor is not None:
                note(session, actor, "batch_cancel", "batch", row.name, {"owner": row.user_id})
            return shown(row)


def shown(row: Batch) -> dict[str, Any]:
    """A batch as OpenAI's API shows it; moments are Unix seconds."""
    return {
        "id": row.name,
        "object": "batch",
        "endpoint": row.endpoint,
        "model": row.model,
        "errors": None if row.errors is None else {"object": "list", "data": row.errors},
        "input_file_id": row.input_file_id,
        "completion_window": WINDOW,
        "status": row.status,
        "output_file_id": row.output_file_id,
        "error_file_id": row.error_file_id,
        "created_at": seconds(row.created_at),
        **{name: seconds(getattr(row, name)) for name in MOMENTS},
        "request_counts": {"total": row.total, "completed": row.completed, "failed": row.failed},
        "metadata": row.client_metadata,
    }


def lasting(given: object, param: str) -> int | None:
    """The seconds of an `expires_after`; None where there is none.

    Raises:
        InvalidRequest: it is no such thing.
    """
    if given is None:
        return None
    found = given.get("seconds") if isinstance(given, dict) else None
    if not isinstance(given, dict) or given.get("anchor") != "created_at" or len(given) != 2:  # noqa: PLR2004 - a pair
        raise InvalidRequest(f"`{param}` must be an object with `anchor`: `created_at` and `seconds`.", param=param)
    if type(found) is not int or found not in EXPIRY:
        raise InvalidRequest(
            f"`{param}.seconds` must be a whole number from {EXPIRY.start} to {EXPIRY.stop - 1}.", param=param
        )
    return found


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a new batch, from the members of a request."""
    if unknown := sorted(given.keys() - MEMBERS):
        raise InvalidRequest(f"`{unknown[0][:100]}` is not known here.", param=unknown[0][:100])
    for name in ("input_file_id", "endpoint", "completion_window"):
        if given.get(name) is None:
            raise InvalidRequest(f"`{name}` is required.", param=name)
        if not isinstance(given[name], str):
            raise InvalidRequest(f"`{name}` must be a text.", param=name)
    if given["endpoint"] not in ENDPOINTS:
        known = ", ".join(f"`{one}`" for one in ENDPOINTS)
        raise InvalidRequest(f"`endpoint` must be one of {known}.", param="endpoint")
    if given["completion_window"] != WINDOW:
        raise InvalidRequest(f"`completion_window` must be `{WINDOW}`.", param="completion_window")
    return {
        "input_file_id": given["input_file_id"],
        "endpoint": given["endpoint"],
        "client_metadata": _metadata(given.get("metadata")),
        "output_seconds": lasting(given.get("output_expires_after"), "output_expires_after"),
    }


def _metadata(given: object) -> dict[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, dict) or len(given) > MOST_PAIRS:
        raise InvalidRequest(f"`metadata` must be an object with {MOST_PAIRS} members at most.", param="metadata")
    for name, value in given.items():
        if len(name) > MOST_NAME or not isinstance(value, str) or len(value) > MOST_VALUE or "\0" in name + value:
            raise InvalidRequest(
                f"`metadata` has names of {MOST_NAME} and texts of {MOST_VALUE} characters at most.", param="metadata"
            )
    return given or None


def _row(session: Session, user_id: int | None, name: str) -> Batch:
    query = select(Batch).where(Batch.name == name)
    row = session.scalars(query).first() if ID.fullmatch(name) else None
    if row is None or user_id not in (None, row.user_id):
        raise NotFound(f"There is no batch `{name[:100]}`.", param="batch_id")
    return row
