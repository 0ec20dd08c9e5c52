"""`/api/v1/admin/config`: values that admins keep here. Secrets are taken and never given."""

from flask import Blueprint, Response

from routes import bodies, render
from routes.auth import actor
from services.types import Caller
from utils.decorators import require_admin_token
from utils.extensions import gateway

bp = Blueprint("systemconfig", __name__, url_prefix="/api/v1/admin/config")


@bp.get("")
@require_admin_token
def configs(caller: Caller) -> Response:
    """All of them."""
    return render.answer(gateway().system_configs.listed())


@bp.post("")
@require_admin_token
def create(caller: Caller) -> Response:
    """A new one."""
    by = actor(caller.username, caller.user_id)
    return render.answer(gateway().system_configs.create(by, bodies.members()), 201)


@bp.get("/<key>")
@require_admin_token
def config(caller: Caller, key: str) -> Response:
    """One of them."""
    return render.answer(gateway().system_configs.get(key))


@bp.route("/<key>", methods=["PUT", "PATCH"])
@require_admin_token
def change(caller: Caller, key: str) -> Response:
    """Change what the body names; a secret that comes empty or as its mask stays."""
    by = actor(caller.username, caller.user_id)
    return render.answer(gateway().system_configs.change(by, key, bodies.members()))


@bp.delete("/<key>")
@require_admin_token
def remove(caller: Caller, key: str) -> Response:
    """Take one away."""
    gateway().system_configs.remove(actor(caller.username, caller.user_id), key)
    return Response(status=204, headers={"x-request-id": render.request_id()})
