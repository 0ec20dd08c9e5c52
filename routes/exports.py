"""`/api/v1/export`: all dialogs of a user as a file, and back from one."""

from typing import Final

from flask import Blueprint, Response, request

from routes import render, serving
from routes.auth import actor
from services import dialogfiles
from services.types import Caller
from utils import native
from utils.decorators import require_api_key
from utils.extensions import gateway

bp = Blueprint("exports", __name__, url_prefix="/api/v1/export")

FILE: Final = {"content-disposition": 'attachment; filename="dialogs.json"', "cache-control": "no-store"}


@bp.get("")
@require_api_key
def export(caller: Caller) -> Response:
    """The caller's dialogs with all messages."""
    headers = serving.counted(caller)
    gateway().audit.note(actor(caller.username, caller.user_id), "export_dialogs", "user", caller.user_id)
    return Response(
        dialogfiles.export(gateway().engine, caller.user_id),
        headers={"x-request-id": render.request_id(), **FILE, **headers},
        mimetype="application/json",
    )


@bp.post("/import")
@require_api_key
def import_file(caller: Caller) -> Response:
    """Put the dialogs of a file among the caller's, all or none."""
    headers, config = serving.counted(caller), gateway().config
    request.max_content_length = min(config.max_body_bytes, config.max_import_bytes)
    bounds = dialogfiles.Bounds(config.max_messages_per_dialog, config.max_content_length, config.llm_default_model)
    file = native.run(dialogfiles.read, request.get_data(cache=False), bounds)
    by = actor(caller.username, caller.user_id)
    told = dialogfiles.store(gateway().engine, caller.user_id, file, by)
    return render.answer(told, headers=headers)
