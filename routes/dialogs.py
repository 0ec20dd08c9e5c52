"""`/api/v1/dialogs`: conversations that are kept, with answers streamed or whole."""

from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, request

from routes import render, serving
from routes.auth import actor
from routes.bodies import plain
from services import agents, dialogs
from services.dialects import DIALOGS
from services.dialects import dialogs_fields as fields
from services.dialects.dialogs import Said
from services.errors import AccountingUnavailable, InvalidRequest
from services.stream import Streamed
from services.turns import NOT_STORED, Bounds, Told, Turn
from services.types import CHAT, Call, Caller
from utils import jsonx
from utils.decorators import require_api_key
from utils.extensions import gateway

bp = Blueprint("dialogs", __name__, url_prefix="/api/v1/dialogs")

MARGIN_S: Final = 60.0  # a dialog is taken for so much longer than the longest call
MAX_BODY_BYTES: Final = 1_048_576  # of what is no message
BYTES_PER_CHAR: Final = 12  # as JSON may write one, outside the Unicode planes that most use
PAGES: Final = (1, 1, 1_000_000)  # default, least, most
SIZES: Final = (20, 1, 100)
SKIPS: Final = (0, 0, 1_000_000)
LIMITS: Final = (100, 1, 200)
NO_MODEL: Final = "`model_name` is required: LLM_DEFAULT_MODEL is not set."


@bp.post("")
@require_api_key
def create(caller: Caller) -> Response:
    """A new dialog."""
    headers = serving.counted(caller)
    given = fields.read(fields.DIALOG, plain(MAX_BODY_BYTES))
    name = given.get("model_name") or gateway().config.llm_default_model
    if not name:
        raise InvalidRequest(NO_MODEL, param="model_name")
    agents.check_window(given.get("agent_config"), serving.found(caller, name), "agent_config")
    made = dialogs.create(gateway().engine, caller.user_id, given | {"model_name": name}, _actor(caller))
    gateway().metrics.count("dialogs_created_total")
    return render.answer(made, HTTPStatus.CREATED, headers)


@bp.get("")
@require_api_key
def list_own(caller: Caller) -> Response:
    """A page of the caller's dialogs, what was used last first; with `q` those that have its words."""
    headers = serving.counted(caller)
    number, size = _number("page", PAGES), _number("page_size", SIZES)
    query = request.args.get("q")
    if query is not None and len(query) > dialogs.MAX_QUERY:
        raise InvalidRequest(f"`q` may have {dialogs.MAX_QUERY} characters.", param="q")
    found = dialogs.page(gateway().engine, caller.user_id, number=number, size=size, query=query)
    return render.answer(
        {
            "items": found.items,
            "total": found.total,
            "page": number,
            "page_size": size,
            "has_next": number * size < found.total,
        },
        headers=headers,
    )


@bp.get("/<dialog_id>")
@require_api_key
def show(caller: Caller, dialog_id: str) -> Response:
    """One dialog."""
    headers = serving.counted(caller)
    found = dialogs.find(gateway().engine, _whose(caller), dialog_id)
    _note_reading(caller, found)
    return render.answer(found, headers=headers)


@bp.patch("/<dialog_id>")
@require_api_key
def rename(caller: Caller, dialog_id: str) -> Response:
    """Give a dialog another title; null = none."""
    headers = serving.counted(caller)
    given = fields.read(fields.RENAMED, plain(MAX_BODY_BYTES))
    if "title" not in given:
        raise InvalidRequest("The body must have a `title`.", param="title")
    found = dialogs.rename(gateway().engine, caller.user_id, dialog_id, given["title"], _actor(caller))
    return render.answer(found, headers=headers)


@bp.delete("/<dialog_id>")
@require_api_key
def delete(caller: Caller, dialog_id: str) -> Response:
    """Delete a dialog with its messages."""
    headers = serving.counted(caller)
    dialogs.remove(gateway().engine, caller.user_id, dialog_id, _actor(caller))
    return Response(status=HTTPStatus.NO_CONTENT, headers={"x-request-id": render.request_id(), **headers})


@bp.get("/<dialog_id>/messages")
@require_api_key
def messages(caller: Caller, dialog_id: str) -> Response:
    """A part of a dialog's messages, oldest first."""
    headers = serving.counted(caller)
    skip, limit = _number("skip", SKIPS), _number("limit", LIMITS)
    whose = _whose(caller)
    if whose is None:
        _note_reading(caller, dialogs.find(gateway().engine, whose, dialog_id))
    return render.answer(dialogs.messages(gateway().engine, whose, dialog_id, skip=skip, limit=limit), headers=headers)


@bp.post("/<dialog_id>/messages")
@require_api_key
def send(caller: Caller, dialog_id: str) -> Response:
    """Send a message; its answer is streamed."""
    call, turn, stream = answered(caller, dialog_id, None, is_stream=True)
    assert not isinstance(stream, bytes)  # noqa: S101 - a stream was asked for
    return serving.respond(call, Told(turn, stream, call))


@bp.post("/<dialog_id>/messages/sync")
@require_api_key
def send_and_wait(caller: Caller, dialog_id: str) -> Response:
    """Send a message; its answer comes as a whole."""
    call, turn, _nothing = answered(caller, dialog_id, None, is_stream=False)
    message = turn.end()
    if message is None:  # the dialog was deleted meanwhile, or the database is away
        dialogs.find(gateway().engine, caller.user_id, dialog_id)
        raise AccountingUnavailable(NOT_STORED)
    return serving.respond(call, jsonx.dumps(message), HTTPStatus.CREATED)


def answered(
    caller: Caller, dialog_id: str, raw: bytes | None, *, is_stream: bool
) -> tuple[Call, Turn, bytes | Streamed]:
    """The call of a message, its turn, which has begun, and the answer. `raw`: the message; None = the request's body.

    Raises:
        GatewayError: see serving.serve; of the message and the dialog see Turn.begin.
    """
    config, said = gateway().config, Said()
    request.max_content_length = min(config.max_body_bytes, MAX_BODY_BYTES + BYTES_PER_CHAR * config.max_content_length)
    dialect = replace(DIALOGS, translation=said)
    call = serving.call_of(CHAT, request.get_data(cache=False) if raw is None else raw, caller, dialect)
    call.is_stream = is_stream
    claim_s = config.proxy_timeout_s + MARGIN_S
    bounds = Bounds(config.max_messages_per_dialog, config.max_content_length, config.max_body_bytes, claim_s)
    model = gateway().catalog.snapshot().model((call.native or {}).get("model_name") or "")
    agents.check_window((call.native or {}).get("agent_config"), model, "agent_config")
    turn = Turn(gateway().engine, gateway().events, bounds, call, said, _actor(caller))
    turn.begin(dialog_id)
    try:
        return call, turn, serving.opened(call, dialect)
    except BaseException as exc:
        turn.fail(exc)
        raise


def _whose(caller: Caller) -> int | None:
    """Whose dialogs the caller may read: an admin who has signed in reads all; programs with an admin's key do not."""
    return None if caller.role == "admin" and caller.key_id is None else caller.user_id


def _note_reading(caller: Caller, found: dict[str, Any]) -> None:
    """What an admin reads of others is in the audit log."""
    if (owner := dialogs.owner_of(found)) != caller.user_id:
        gateway().audit.note(_actor(caller), "dialog_read", "dialog", found["id"], {"owner": owner})


def _actor(caller: Caller) -> Any:
    return actor(caller.username, caller.user_id)


def _number(name: str, bounds: tuple[int, int, int]) -> int:
    """A whole number of the query."""
    default, least, most = bounds
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(most)) or not least <= int(text) <= most:
        raise InvalidRequest(f"`{name}` is a whole number from {least} to {most}.", param=name)
    return int(text)
