"""One message of a dialog and its answer: what is stored, in which order, and that one dialog has one turn at a time.

    begin   the dialog is taken, the message stored, and what was said before put into the call
    (the call goes through the pipeline like every other one)
    end     the answer is stored with the tokens that were booked for it, and the dialog is free again

A second message meanwhile is refused (409). Should the worker die, the dialog is free when its longest call would be
over. A message that was refused before any provider was asked is taken back. Of an answer that broke off, what was
delivered is kept: it is what was charged. Whose dialog is deleted meanwhile loses the answer with it.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from sqlalchemy import Engine, Row, case, delete, insert, null, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from models import Dialog, Message
from services import agents
from services.audit import Actor, note
from services.dialects import dialogs as dialect
from services.dialects import dialogs_fields as fields
from services.dialogs import ID, MISSING, SHOWN
from services.errors import BodyTooLarge, BudgetExceeded, Conflict, GatewayError, InvalidRequest, NotFound
from services.events import Events
from services.pricing import tokens_of
from services.stream import Streamed
from services.types import Call, Usage
from utils import clock, ids, jsonx

log = logging.getLogger(__name__)

BUSY: Final = "This dialog is being answered; send the next message when that has ended."
BUSY_RETRY_S: Final = 1
NUL: Final = "`content` must not have NUL characters."
NOT_STORED: Final = "The answer could not be stored; it is not in the dialog."
PAIR: Final = 2  # a message and its answer
FETCHED: Final = 100  # messages at once


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a dialog may become."""

    messages: int
    content: int  # characters of a message
    said_bytes: int  # of what is sent to a provider
    claim_s: float  # the longest that a call may take


class Turn:
    """See the module; `begin` once, then `end` or `fail`."""

    def __init__(
        self, engine: Engine, events: Events, bounds: Bounds, call: Call, said: dialect.Said, actor: Actor
    ) -> None:
        self._engine, self._events, self._bounds = engine, events, bounds
        self._call, self._said, self._actor = call, said, actor
        self._dialog_id, self._asked_id, self._until_ms = "", ids.uuid(), 0
        self._is_over = False
        self._answer: dict[str, Any] | None = None

    def begin(self, dialog_id: str) -> None:
        """Take the dialog, store the message and give the call all that it is asked with.

        Raises:
            NotFound: there is no such dialog, or it is somebody else's.
            Conflict: it is being answered.
            InvalidRequest: the message is too long, the dialog is full, or an agent is named that is not there.
        """
        given: Mapping[str, Any] = self._call.native or {}
        content, user_id = given["content"], self._call.caller.user_id
        if len(content) > self._bounds.content:
            raise InvalidRequest(f"`content` may have {self._bounds.content} characters.", param="content")
        if "\0" in content:
            raise InvalidRequest(NUL, param="content")
        self._dialog_id = dialog_id.lower() if ID.fullmatch(dialog_id.lower()) else ""
        with Session(self._engine) as session, session.begin():
            row = self._take(session, user_id)
            manner = agents.named(session, user_id, given.get("agent_config"), row.agent_config)
            past = self._past(session)
            self._store(session, self._asked_id, "user", content, None)
        system = manner.system_prompt or row.system_prompt
        opening = [{"role": "system", "content": system}] if system else []
        self._call.body = {
            "model": given.get("model_name") or manner.model_name or row.model_name,
            "messages": [*opening, *past, {"role": "user", "content": content}],
            **fields.parameters(
                given.get("agent_config"), manner.config, row.agent_config, agents.PRESETS[agents.DEFAULT].config
            ),
        }
        if self._call.is_stream:
            self._call.body["stream"] = True
        self._call.body_bytes = len(jsonx.dumps(self._call.body))

    def fail(self, exc: BaseException) -> None:
        """The call was refused, or nobody answered it."""
        if isinstance(exc, BudgetExceeded) and exc.status == HTTPStatus.PAYMENT_REQUIRED:
            call = self._call
            self._events.tell("balance_exhausted", user_id=call.caller.user_id, request_id=call.id, code=exc.code)
        self.end()

    def end(self) -> dict[str, Any] | None:
        """Store what was answered, once; the message as the API shows it, None where there is none.

        Where the database fails the dialog stays taken until the call would be over at the latest; it is logged.
        """
        if self._is_over:
            return self._answer
        self._is_over = True
        try:
            with Session(self._engine) as session, session.begin():
                answer = self._close(session)
        except SQLAlchemyError as exc:
            log.warning("an answer was not stored request_id=%s: %s", self._call.id, str(exc).partition("\n")[0])
            return None
        self._answer = answer
        self._tell()
        return answer

    def _take(self, session: Session, user_id: int) -> Row[Any]:
        """Take the dialog, which then has one message more."""
        now_ms = clock.now_ms()
        self._until_ms = now_ms + round(self._bounds.claim_s * 1000)
        mine = (Dialog.id == self._dialog_id, Dialog.user_id == user_id)
        is_free = or_(Dialog.busy_until.is_(None), Dialog.busy_until <= now_ms)
        row = session.execute(
            update(Dialog)
            .where(*mine, is_free, Dialog.message_count <= self._bounds.messages - PAIR)
            .values(busy_until=self._until_ms, message_count=Dialog.message_count + 1)
            .returning(Dialog.model_name, Dialog.system_prompt, Dialog.agent_config),
            execution_options={"synchronize_session": False},
        ).first()
        if row is not None:
            return row
        found = session.execute(select(Dialog.message_count, Dialog.busy_until).where(*mine)).first()
        if found is None:
            raise NotFound(MISSING)
        if found.message_count > self._bounds.messages - PAIR:
            raise InvalidRequest(
                f"The dialog is full: it may have {self._bounds.messages} messages; begin another one.", param="content"
            )
        raise Conflict(BUSY, code="dialog_busy", retry_after_s=BUSY_RETRY_S)

    def _past(self, session: Session) -> list[dict[str, str]]:
        """What was said before, oldest first; messages without a text say nothing."""
        rows = session.execute(
            select(Message.role, Message.content)
            .where(Message.dialog_id == self._dialog_id)
            .order_by(Message.number)
            .execution_options(yield_per=FETCHED)
        )
        said, size = [], 0
        for row in rows:
            size += len(row.content.encode())
            if size > self._bounds.said_bytes:
                raise BodyTooLarge(f"The dialog has become too long to go on with: {self._bounds.said_bytes} bytes.")
            if row.content:
                said.append({"role": row.role, "content": row.content})
        return said

    def _store(self, session: Session, message_id: str, role: str, content: str, usage: Usage | None) -> None:
        session.execute(
            insert(Message).values(
                id=message_id,
                dialog_id=self._dialog_id,
                user_id=self._call.caller.user_id,
                role=role,
                content=content,
                prompt_tokens=None if usage is None else usage.input_tokens or 0,
                completion_tokens=None if usage is None else usage.output_tokens or 0,
                request_id=self._call.id,
            )
        )

    def _close(self, session: Session) -> dict[str, Any] | None:
        """Free the dialog and store the answer in it, as far as there are both."""
        call, text = self._call, self._said.text
        is_answered, was_sent = call.outcome == "ok" or bool(text), bool(call.attempts)
        is_mine = Dialog.busy_until == self._until_ms  # whoever came after the time was over has taken it again
        there = session.execute(
            update(Dialog)
            .where(Dialog.id == self._dialog_id)
            .values(
                busy_until=case((is_mine, null()), else_=Dialog.busy_until),
                message_count=Dialog.message_count + (1 if is_answered else 0 if was_sent else -1),
            )
            .returning(Dialog.id),
            execution_options={"synchronize_session": False},
        ).first()
        if not was_sent:
            session.execute(delete(Message).where(Message.id == self._asked_id))
            return None
        details = {"message_id": self._asked_id, "request_id": call.id, "outcome": call.outcome}
        note(session, self._actor, "message_send", "dialog", self._dialog_id, details)
        if there is None or not is_answered:
            return None
        answer_id = ids.uuid()
        self._store(session, answer_id, "assistant", text, call.usage or Usage())
        return dict(session.execute(select(*SHOWN).where(Message.id == answer_id)).mappings().one())

    def _tell(self) -> None:
        call, answer = self._call, self._answer
        if not call.attempts:
            return
        who: dict[str, Any] = {"user_id": call.caller.user_id, "request_id": call.id}
        self._events.tell("message_sent", **who, dialog_id=self._dialog_id, message_id=self._asked_id)
        if answer is not None:
            self._events.tell(
                "llm_response_received",
                **who,
                dialog_id=self._dialog_id,
                message_id=answer["id"],
                model=call.body["model"],
                prompt_tokens=answer["prompt_tokens"],
                completion_tokens=answer["completion_tokens"],
                latency_ms=round((clock.monotonic_s() - call.started_s) * 1000),
            )
        if call.usage is not None and (tokens := tokens_of(call.usage)):
            self._events.tell("tokens_deducted", **who, tokens=tokens)


class Told:
    """A streamed answer with its last event, which comes when it is booked and stored. Iterate once, then close."""

    def __init__(self, turn: Turn, stream: Streamed, call: Call) -> None:
        self._turn, self._stream, self._call = turn, stream, call

    def __iter__(self) -> Iterator[bytes]:
        """The events; an error is the last one."""
        for events in self._stream:
            if events:
                yield events
        if self._call.outcome != "ok":
            return
        answer = self._turn.end()
        if answer is None:
            yield dialect.error_event(GatewayError(NOT_STORED))
            return
        yield dialect.last_event(answer["id"], answer["prompt_tokens"], answer["completion_tokens"])

    def close(self) -> None:
        """Book the call and end the turn, however far it came; further calls do nothing."""
        try:
            self._stream.close()
        finally:
            self._turn.end()
