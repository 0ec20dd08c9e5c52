"""Stored prompts at a call: which version is meant, and the request that it makes.

A version is named `name`, `name@label` or `name@3`; the UUID of a prompt may stand for its name. Without a label the
version is the one that `production` points at, or the newest. What was found stays as long as the worker's snapshot,
and a moved label makes a new one; so a call costs no query, but one that nobody of the team made lately.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Engine, Select, case, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from models_prompts import Prompt, PromptLabel, PromptVersion
from services import promptfields
from services.catalog import Catalog
from services.dialects import OPENAI, dialogs_fields, openai
from services.errors import AccountingUnavailable, InvalidRequest, NotFound
from services.promptparts import StoredPrompt
from services.types import CHAT, Call, Caller, Chat
from utils import jsonx

PROMPT: Final = "prompt_id"  # in the body of a call
VARIABLES: Final = "variables"
PRODUCTION: Final = "production"
REMEMBERED: Final = 200  # versions of a worker: the largest have 100,000 characters
MAX_REFERENCE: Final = 141  # a name, @ and a label
MAX_NUMBER: Final = 9  # digits
NEAREST: Final = case((Prompt.user_id != 0, 0), (Prompt.team_id != 0, 1), else_=2)  # whose prompt of a name is meant
ELSEWHERE: Final = "A stored prompt is used by `POST /v1/chat/completions` alone."


class PromptBook:
    """See the module."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine, self._catalog = engine, catalog
        self.dialect: Final = replace(OPENAI, call=self.call)  # of surfaces where prompts may be used

    def call(self, operation: str, raw: bytes, caller: Caller, request_id: str) -> Call:
        """A call in OpenAI's dialect, from a stored prompt where the body names one.

        Raises:
            InvalidRequest: its body, or values that the prompt cannot take.
            NotFound: there is no such prompt that the caller may use.
            AccountingUnavailable: the prompt is not remembered and the database does not answer.
        """
        body = openai.members(raw)
        if operation != CHAT or body.get(PROMPT) is None:
            return openai.call_of(operation, body, len(raw), caller, request_id)
        found = self.find(caller, body[PROMPT])
        body = expanded(found, body)
        call = openai.call_of(operation, body, len(jsonx.dumps(body)), caller, request_id)
        call.prompt, call.marks.prompt_version_id = f"{found.name}@{found.number}", found.version_id
        return call

    def find(self, caller: Caller, reference: Any) -> StoredPrompt:
        """The version that is meant, of a prompt of the caller's own, or else the team's, or else everybody's.

        Raises:
            InvalidRequest: that is no name.
            NotFound: there is none, or it is somebody else's.
            AccountingUnavailable: the database does not answer.
        """
        if not isinstance(reference, str) or not 0 < len(reference) <= MAX_REFERENCE:
            raise InvalidRequest(f"`{PROMPT}` must be a name such as `greeting` or `greeting@3`.", param=PROMPT)
        remembered = self._catalog.snapshot().prompts
        asked = (reference, caller.user_id, caller.team_id or 0)
        found = remembered.get(asked)
        if found is None:
            try:
                with Session(self._engine) as session:
                    found = _find(session, caller, reference)
            except SQLAlchemyError as exc:
                raise AccountingUnavailable("the database does not answer") from exc
            if len(remembered) >= REMEMBERED:
                remembered.clear()
            remembered[asked] = found
        return found

    def named(self, caller: Caller, uuid: str, name: str) -> str | None:
        """How the caller's calls name a prompt: by its name if that leads to it, else by its id; None = they cannot."""
        query = select(Prompt.uuid).where(or_(Prompt.name == name, Prompt.uuid == uuid), usable(caller))
        with Session(self._engine) as session:
            found = list(session.scalars(query.order_by(NEAREST)))
        if uuid not in found:
            return None
        return name if found[0] == uuid else uuid


def expanded(prompt: StoredPrompt, body: Chat) -> Chat:
    """The request that the prompt makes with a body: what the body says itself goes before what the prompt says.

    Raises:
        VariablesInvalid: values that are missing, unknown or of another type.
        InvalidRequest: it becomes too long, or no model is named.
    """
    texts = promptfields.values(prompt.variables, body.get(VARIABLES))
    given = {name: value for name, value in body.items() if name not in (PROMPT, VARIABLES)}
    more = given.get("messages") or []
    if (problem := openai.FIELDS[CHAT]["messages"](more)) is not None:
        raise InvalidRequest(f"`messages` {problem}.", param="messages")
    tuned = dialogs_fields.parameters(prompt.parameters)
    if given.get("max_completion_tokens") is not None:  # the newer word for the same limit; both at once are refused
        tuned.pop("max_tokens", None)
    model = given.pop("model", None) or prompt.model_name
    if model is None:
        raise InvalidRequest("`model` is required: this prompt does not name one.", param="model")
    messages = [*promptfields.filled(prompt.messages, texts), *more]
    return {**tuned, **given, "model": model, "messages": messages}


def refuse(body: Mapping[str, Any] | None) -> None:
    """Say where a stored prompt can be used, to a caller who names one where it cannot.

    Raises:
        InvalidRequest: the body names one.
    """
    if body is not None and PROMPT in body:
        raise InvalidRequest(ELSEWHERE, param=PROMPT)


def _find(session: Session, caller: Caller, reference: str) -> StoredPrompt:
    name, has_version, version = reference.partition("@")
    missing = NotFound(f"There is no prompt `{reference}` that you may use.", param=PROMPT, code="prompt_not_found")
    if not reference.isascii() or not reference.isprintable() or (has_version and not version):
        raise missing
    row = session.scalar(_named(caller, name))
    number = None if row is None else number_of(session, row, version)
    if row is None or number is None:
        raise missing
    chosen = (PromptVersion.prompt_id == row.id, PromptVersion.number == number)
    found = session.scalar(select(PromptVersion).where(*chosen))
    if found is None:
        raise missing
    return stored(row.name, found)


def stored(name: str, row: PromptVersion) -> StoredPrompt:
    """A version as calls know it."""
    return StoredPrompt(
        row.id, name, row.number, row.messages, row.model_name, row.parameters or {}, row.variables or []
    )


def usable(caller: Caller) -> Any:
    """The condition of prompts that the caller may use."""
    own, everybody = Prompt.user_id == caller.user_id, (Prompt.user_id == 0) & (Prompt.team_id == 0)
    return or_(own, everybody, (Prompt.team_id == caller.team_id) & (Prompt.team_id != 0))


def _named(caller: Caller, name: str) -> Select[tuple[Prompt]]:
    is_meant = Prompt.uuid == name if promptfields.UUID.fullmatch(name) else Prompt.name == name
    return select(Prompt).where(is_meant, usable(caller)).order_by(NEAREST).limit(1)


def number_of(session: Session, row: Prompt, version: str) -> int | None:
    """The number of the version that a label or number names, or that is meant without one; None = there is no such."""
    if version.isdigit():
        return int(version) if len(version) <= MAX_NUMBER else None
    label = (PromptLabel.prompt_id == row.id, PromptLabel.name == (version or PRODUCTION))
    number = session.scalar(select(PromptLabel.number).where(*label))
    return row.newest if number is None and not version else number
