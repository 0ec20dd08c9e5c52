"""`/api/routes`: routes for admins and their programs, and the calls that keys make by their paths."""

from dataclasses import replace
from typing import Final

from flask import Blueprint, Response, request

from routes import bodies, keymanagement, providers, render
from services.audit import Actor
from services.dialects import PROXY, openai
from services.errors import ModelNotAvailable, NotFound, PermissionDenied
from services.steps import Route
from services.types import CHAT, Call, Caller, Chat
from utils import jsonx
from utils.decorators import require_admin, require_api_key
from utils.extensions import gateway

PREFIX: Final = "/api/routes"

bp = Blueprint("callroutes", __name__, url_prefix=PREFIX)
calls = Blueprint("calls_of_routes", __name__, url_prefix=PREFIX)


@bp.get("")
@require_admin
def routes(actor: Actor) -> Response:
    """All routes."""
    return render.answer(gateway().call_routes.listed())


@bp.post("")
@require_admin
def create(actor: Actor) -> Response:
    """A new route."""
    return keymanagement.answer(gateway().call_routes.create(actor, bodies.members()))


@bp.get("/<route_id>")
@require_admin
def route(actor: Actor, route_id: str) -> Response:
    """One route."""
    return render.answer(gateway().call_routes.get(route_id))


@bp.patch("/<route_id>")
@require_admin
def update(actor: Actor, route_id: str) -> Response:
    """Change what the body names."""
    return keymanagement.answer(gateway().call_routes.update(actor, route_id, bodies.members()))


@bp.delete("/<route_id>")
@require_admin
def delete(actor: Actor, route_id: str) -> Response:
    """Remove a route."""
    gateway().call_routes.delete(actor, route_id)
    return keymanagement.nothing()


@calls.post("/<path:path>")
@require_api_key
def call(caller: Caller, path: str) -> Response:
    """What the first step that can says to a chat, a text or an embedding."""
    found = gateway().catalog.snapshot().routes.get(f"/{path}")
    if found is None:
        raise NotFound(f"There is no route `/{path}`.", code="route_not_found")
    if caller.key_id not in found.key_ids:
        raise PermissionDenied(
            f"The route `/{path}` does not name {f'the key `{caller.key_hint}`' if caller.key_hint else 'tokens'}.",
            code="path_not_allowed",
        )
    body = openai.members(request.get_data())
    operation = next((name for name, needed in openai.REQUIRED.items() if needed[1] in body), CHAT)

    def as_call(operation: str, _raw: bytes, caller: Caller, request_id: str) -> Call:
        return _call(found, body, operation, caller, request_id)

    return providers.serve(caller, operation, replace(PROXY, call=as_call))


def _call(route: Route, body: Chat, operation: str, caller: Caller, request_id: str) -> Call:
    """The call, as one for a model of the route, whatever model its body names."""
    model = route.model_for(caller)
    if model is None:
        raise ModelNotAvailable(f"No step of the route `{route.path}` leads to a model that is enabled.", param="model")
    made = openai.call(operation, jsonx.dumps({**body, "model": model}), caller, request_id)
    made.route, made.marks.route_id = route, route.uuid
    return made
