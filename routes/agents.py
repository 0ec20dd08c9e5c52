"""`/api/v1/agents`: the built-in ways to ask a model, and a user's own."""

from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response

from routes import render, serving
from routes.bodies import plain
from services import agents
from services.dialects import dialogs_fields as fields
from services.types import Caller
from utils.decorators import require_api_key
from utils.extensions import gateway

bp = Blueprint("agents", __name__, url_prefix="/api/v1/agents")

MAX_BODY_BYTES: Final = 1_048_576


@bp.get("")
@require_api_key
def list_all(caller: Caller) -> Response:
    """The presets, then the caller's own agents."""
    headers = serving.counted(caller)
    return render.answer(agents.list_all(gateway().engine, caller.user_id), headers=headers)


@bp.post("")
@require_api_key
def create(caller: Caller) -> Response:
    """A new agent of the caller."""
    headers = serving.counted(caller)
    given = fields.read(fields.AGENT, plain(MAX_BODY_BYTES), ("name",))
    _check(caller, given, None)
    return render.answer(agents.create(gateway().engine, caller.user_id, given), HTTPStatus.CREATED, headers)


@bp.get("/<agent_id>")
@require_api_key
def show(caller: Caller, agent_id: str) -> Response:
    """One agent."""
    headers = serving.counted(caller)
    return render.answer(agents.find(gateway().engine, caller.user_id, agent_id), headers=headers)


@bp.patch("/<agent_id>")
@require_api_key
def change(caller: Caller, agent_id: str) -> Response:
    """Change what the body names."""
    headers = serving.counted(caller)
    given = fields.read(fields.AGENT, plain(MAX_BODY_BYTES))
    _check(caller, given, agent_id)
    return render.answer(agents.change(gateway().engine, caller.user_id, agent_id, given), headers=headers)


@bp.delete("/<agent_id>")
@require_api_key
def delete(caller: Caller, agent_id: str) -> Response:
    """Delete an agent of the caller."""
    headers = serving.counted(caller)
    agents.remove(gateway().engine, caller.user_id, agent_id)
    return Response(status=HTTPStatus.NO_CONTENT, headers={"x-request-id": render.request_id(), **headers})


def _check(caller: Caller, given: dict[str, Any], agent_id: str | None) -> None:
    """Whether the model is there, and has room for the output limit."""
    now = agents.find(gateway().engine, caller.user_id, agent_id) if agent_id is not None else {}
    now |= {name: value for name, value in given.items() if value is not None or name == "model_name"}
    if now.get("model_name") and given.keys() & {"model_name", "config"}:
        agents.check_window(now.get("config"), serving.found(caller, now["model_name"]), "config")
