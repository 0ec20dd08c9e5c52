"""What is kept of people: the texts of calls, everything about oneself as a file, and erasing an account."""

from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response

from routes import render, serving
from routes.auth import NO_STORE, actor
from routes.bodies import plain
from services.types import Caller
from utils.decorators import require_admin_token, require_api_key, require_token
from utils.extensions import gateway

bp = Blueprint("privacy", __name__, url_prefix="/api/v1")

MAX_BODY_BYTES: Final = 65_536
LINES: Final = "application/x-ndjson"
FILE: Final = {"content-disposition": 'attachment; filename="export.jsonl"', **NO_STORE}


@bp.get("/usage/<request_id>/content")
@require_api_key
def content(caller: Caller, request_id: str) -> Response:
    """What a call said and was answered, as far as it is stored; of others for an admin who has signed in."""
    headers = serving.counted(caller)
    found = gateway().bodies.find(caller, request_id, actor(caller.username, caller.user_id))
    return render.answer(found, headers=headers | NO_STORE)


@bp.delete("/usage/<request_id>/content")
@require_api_key
def forget(caller: Caller, request_id: str) -> Response:
    """Remove what is stored of a call."""
    headers = serving.counted(caller)
    gateway().bodies.delete(caller, request_id, actor(caller.username, caller.user_id))
    return Response(status=HTTPStatus.NO_CONTENT, headers={"x-request-id": render.request_id(), **headers})


@bp.get("/users/me/export")
@require_token
def export(caller: Caller) -> Response:
    """All that is kept of the person, as JSON Lines."""
    headers = serving.counted(caller)
    gateway().audit.note(actor(caller.username, caller.user_id), "user_export", "user", caller.user_id)
    return Response(
        gateway().takeout.lines(caller.user_id),
        headers={"x-request-id": render.request_id(), **FILE, **headers},
        mimetype=LINES,
    )


@bp.post("/admin/users/<int:user_id>/erase")
@require_admin_token
def erase(caller: Caller, user_id: int) -> Response:
    """Erase an account, whose name the body repeats in `username`."""
    given = plain(MAX_BODY_BYTES)
    by = actor(caller.username, caller.user_id)
    return render.answer(gateway().erasure.erase(by, user_id, given.get("username")))
