"""Everything that is kept of a person, as the person may have it: piece by piece, so that its size does not matter.

Secrets and digests of secrets are left out, and so are the addresses of others in audit entries about the person.
"""

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

from sqlalchemy import ColumnElement, Engine, and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from models import (
    Agent,
    ApiKey,
    AuditEntry,
    Budget,
    Dialog,
    Identity,
    LedgerEntry,
    Limit,
    Message,
    RaiseRequest,
    SecondFactor,
    StoredBody,
    StoredResponse,
    Team,
    TopUpCode,
    UsageRecord,
    User,
    WebSession,
)
from models_alerts import Alert
from models_batches import Batch, BatchFile
from models_prompts import Prompt, PromptVersion
from services.bodies import Bodies
from utils import clock, jsonx

VERSION: Final = "1.0"
AT_ONCE: Final = 200  # rows read at once …
FEW: Final = 20  # … of those that may be large
LEFT_OUT: Final = frozenset(
    {"password_hash", "token_version", "digest", "pepper", "sealed", "recovery", "last_step", "busy_until"}
)
OF_OTHERS: Final = ("ip_address", "user_agent")

Column = InstrumentedAttribute[Any]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of one table, in the order of a column that is unique among them."""

    name: str
    order: Column
    is_theirs: Callable[[User], ColumnElement[bool]]
    size: int = AT_ONCE


def _is_about(user: User) -> ColumnElement[bool]:
    """What the person did, and what was done with the account."""
    about = and_(AuditEntry.resource_type == "user", AuditEntry.resource_id.in_([str(user.id), user.username]))
    return or_(AuditEntry.user_id == user.id, about)


SECTIONS: Final = (
    Section("profile", User.id, lambda user: User.id == user.id),
    Section("team", Team.id, lambda user: Team.id == user.team_id),
    Section("keys", ApiKey.id, lambda user: ApiKey.user_id == user.id),
    Section("identities", Identity.subject, lambda user: Identity.user_id == user.id),
    Section("second_factor", SecondFactor.user_id, lambda user: SecondFactor.user_id == user.id),
    Section("sessions", WebSession.digest, lambda user: WebSession.user_id == user.id),
    Section("budgets", Budget.id, lambda user: and_(Budget.scope == "user", Budget.scope_id == user.id)),
    Section("limits", Limit.id, lambda user: and_(Limit.scope == "user", Limit.scope_id == user.id)),
    Section("requests", RaiseRequest.id, lambda user: RaiseRequest.user_id == user.id),
    Section("top_up_codes", TopUpCode.digest, lambda user: TopUpCode.used_by == user.id),
    Section("agents", Agent.id, lambda user: Agent.user_id == user.id),
    Section("prompts", Prompt.id, lambda user: Prompt.user_id == user.id),
    Section(
        "prompt_versions",
        PromptVersion.id,
        lambda user: PromptVersion.prompt_id.in_(select(Prompt.id).where(Prompt.user_id == user.id)),
        FEW,
    ),
    Section("dialogs", Dialog.id, lambda user: Dialog.user_id == user.id),
    Section("messages", Message.number, lambda user: Message.user_id == user.id, FEW),
    Section("answers", StoredResponse.id, lambda user: StoredResponse.user_id == user.id, FEW),
    Section("texts", StoredBody.request_id, lambda user: StoredBody.user_id == user.id, FEW),
    Section("usage", UsageRecord.id, lambda user: UsageRecord.user_id == user.id),
    Section("files", BatchFile.id, lambda user: BatchFile.user_id == user.id),
    Section("batches", Batch.id, lambda user: Batch.user_id == user.id),
    Section("alerts", Alert.id, lambda user: Alert.user_id == user.id),
    Section(
        "ledger", LedgerEntry.id, lambda user: and_(LedgerEntry.account == "user", LedgerEntry.account_id == user.id)
    ),
    Section(
        "ledger_of_budgets",
        LedgerEntry.id,
        lambda user: and_(
            LedgerEntry.account == "budget",
            LedgerEntry.account_id.in_(select(Budget.id).where(Budget.scope == "user", Budget.scope_id == user.id)),
        ),
    ),
    Section("audit", AuditEntry.id, _is_about),
)


class Takeout:
    """See the module."""

    def __init__(self, engine: Engine, bodies: Bodies) -> None:
        self._engine, self._bodies = engine, bodies
        self._opened: Mapping[str, Callable[[Row, Any], None]] = {"answers": self._answer, "texts": self._texts}

    def lines(self, user_id: int) -> Iterator[bytes]:
        """All of it as JSON Lines: `{"section", "row"}`. The last one has the counts, so a cut file shows."""
        counts: dict[str, int] = {}
        yield jsonx.dumps({"section": "export", "row": _head(user_id)}) + b"\n"
        for section in SECTIONS:
            counts[section.name] = 0
            for row in self.rows(section, user_id):
                counts[section.name] += 1
                yield jsonx.dumps({"section": section.name, "row": row}) + b"\n"
        yield jsonx.dumps({"section": "end", "row": counts}) + b"\n"

    def rows(self, section: Section, user_id: int) -> Iterator[Row]:
        """One section; no connection is held while the reader is slow. Rows that come meanwhile may be in it."""
        after: Any = None
        while True:
            with Session(self._engine) as session:
                user = session.get(User, user_id)
                if user is None:
                    return
                query = select(section.order.class_).where(section.is_theirs(user)).order_by(section.order)
                query = query if after is None else query.where(section.order > after)
                found = session.scalars(query.limit(section.size)).all()
                views = [self._view(section, user_id, row) for row in found]
                after = getattr(found[-1], section.order.key) if found else None
            yield from views
            if len(views) < section.size:
                return

    def write(self, user_id: int, path: Path) -> dict[str, int]:
        """All of it as a file, readable by its owner alone: `.zip` with a file of lines for each section, or `.json`.

        Raises:
            OSError: it cannot be written, or there is one already.
        """
        with open(path, "xb", opener=_private) as file:
            return self._zip(user_id, file) if path.suffix.lower() == ".zip" else self._json(user_id, file)

    def _zip(self, user_id: int, file: IO[bytes]) -> dict[str, int]:
        counts = {}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for section in SECTIONS:
                counts[section.name] = 0
                with archive.open(f"{section.name}.jsonl", "w", force_zip64=True) as part:
                    for row in self.rows(section, user_id):
                        part.write(jsonx.dumps(row) + b"\n")
                        counts[section.name] += 1
            archive.writestr("export.json", jsonx.dumps(_head(user_id) | {"counts": counts}))
        return counts

    def _json(self, user_id: int, file: IO[bytes]) -> dict[str, int]:
        counts = {}
        file.write(jsonx.dumps(_head(user_id)).removesuffix(b"}"))
        for section in SECTIONS:
            counts[section.name] = 0
            file.write(b"," + json.dumps(section.name).encode() + b":[")
            for row in self.rows(section, user_id):
                file.write((b"," if counts[section.name] else b"") + jsonx.dumps(row))
                counts[section.name] += 1
            file.write(b"]")
        file.write(b',"counts":' + jsonx.dumps(counts) + b"}\n")
        return counts

    def _view(self, section: Section, user_id: int, row: Any) -> Row:
        """The row without what nobody may see; what is sealed is opened."""
        names = [column.key for column in row.__table__.columns if column.key not in LEFT_OUT]
        view = {name: _shown(getattr(row, name)) for name in names}
        if section.name in self._opened:
            self._opened[section.name](view, row)
        if section.name == "audit" and row.user_id != user_id:
            view = {name: value for name, value in view.items() if name not in OF_OTHERS}
        return view

    def _answer(self, view: Row, row: Any) -> None:
        view["content"] = self._bodies.opened(row.sealed)

    def _texts(self, view: Row, row: Any) -> None:
        view["request"], view["response"] = self._bodies.opened(row.request), self._bodies.opened(row.response)


def _head(user_id: int) -> Row:
    return {"version": VERSION, "exported_at": clock.now().isoformat(timespec="seconds"), "user_id": user_id}


def _shown(value: Any) -> Any:
    return None if isinstance(value, bytes) else value.isoformat() if isinstance(value, datetime) else value


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
