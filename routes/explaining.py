"""`POST /v1/explain`: what would become of a request, without asking or charging anybody."""

from typing import Any, Final

from flask import Response, request

from routes import media, render, serving
from services import explain as explanation
from services import promptbook
from services.dialects import ANTHROPIC, OPENAI, OTHER, RESPONSES, openai, openai_other, responses
from services.dialects.base import Dialect
from services.errors import AccountingUnavailable, GatewayError, InvalidRequest
from services.types import CHAT, COMPLETION, EMBEDDING, Call, Caller
from utils.extensions import gateway

NAMED: Final = {CHAT: OPENAI, COMPLETION: OPENAI, EMBEDDING: OPENAI, **dict.fromkeys(openai_other.REQUIRED, OTHER)}


def explain(caller: Caller) -> Response:
    """What would become of a call with this request's body; `?operation=` says what for where the body does not.

    Raises:
        InvalidRequest: the body is no call.
        AccountingUnavailable: the books cannot be read.
    """
    call, dialect = _asked(caller)
    if dialect is RESPONSES:
        gateway().responses.admit(call)
    try:
        return render.answer(explanation.of_plan(*gateway().pipeline.explain(call, dialect)))
    except AccountingUnavailable:
        raise
    except GatewayError as exc:
        return render.answer(explanation.of_refusal(call, exc))


def _asked(caller: Caller) -> tuple[Call, Dialect]:
    """The call to explain, and the dialect in which it is written."""
    operation = request.args.get("operation")
    if operation is not None:
        dialect = NAMED.get(operation)
        if dialect is None:
            raise InvalidRequest(f"`operation` must be one of {', '.join(NAMED)}.", param="operation")
        dialect = gateway().control.prompts.dialect if operation == CHAT else dialect
        return media.read(caller, operation, dialect), dialect
    raw = request.get_data(cache=False)
    dialect, operation = _meant(openai.members(raw))
    return serving.call_of(operation, raw, caller, dialect), dialect


def _meant(body: dict[str, Any]) -> tuple[Dialect, str]:
    """In which dialect a request to explain is written, and what it asks for."""
    if render.speaks_anthropic():
        return ANTHROPIC, CHAT
    if "input" in body and responses.is_meant(body):
        return RESPONSES, CHAT
    if body.get(promptbook.PROMPT) is not None:
        return gateway().control.prompts.dialect, CHAT
    return OPENAI, openai.operation_of(body)
