"""`/api/v1/teams/…`: a team for its own admins, who see and manage its members, their keys and budgets."""

from typing import Final

from flask import Blueprint, Response, request

from routes import asked, bodies, render
from routes.auth import NO_STORE, actor
from services.audit import Actor
from services.errors import InvalidRequest
from services.types import Caller
from utils.decorators import require_team_token
from utils.extensions import gateway

bp = Blueprint("teams_api", __name__, url_prefix="/api/v1/teams/<int:team_id>")

ROWS: Final = 100  # when nobody says
MAX_REASON: Final = 255


@bp.get("")
@require_team_token
def team(caller: Caller, team_id: int) -> Response:
    """The team."""
    return render.answer(gateway().members.team(caller, team_id))


@bp.get("/members")
@require_team_token
def members(caller: Caller, team_id: int) -> Response:
    """Its members."""
    return render.answer(gateway().members.members(caller, team_id, **asked.part(ROWS)))


@bp.post("/members")
@require_team_token
def add(caller: Caller, team_id: int) -> Response:
    """A new member, who calls with keys."""
    return render.answer(gateway().members.add(caller, _by(caller), team_id, bodies.members()), 201)


@bp.patch("/members/<int:user_id>")
@require_team_token
def change(caller: Caller, team_id: int, user_id: int) -> Response:
    """Disable a member, or let it work again."""
    whose = team_id, user_id
    return render.answer(gateway().members.change(caller, _by(caller), whose, bodies.members()))


@bp.get("/keys")
@require_team_token
def keys(caller: Caller, team_id: int) -> Response:
    """The keys of its members."""
    return render.answer(gateway().members.keys(caller, team_id, **asked.part(ROWS)))


@bp.post("/members/<int:user_id>/keys")
@require_team_token
def issue(caller: Caller, team_id: int, user_id: int) -> Response:
    """A new key, which only this answer shows."""
    found = gateway().members.issue(caller, _by(caller), (team_id, user_id), bodies.members())
    return render.answer(found, 201, NO_STORE)


@bp.delete("/keys/<int:key_id>")
@require_team_token
def revoke(caller: Caller, team_id: int, key_id: int) -> Response:
    """Void a key, in every worker within two seconds."""
    reason = request.args.get("reason", "")
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise InvalidRequest("A reason is a text of at most 255 characters.", param="reason")
    gateway().members.revoke(caller, _by(caller), (team_id, key_id), reason)
    return Response(status=204, headers={"x-request-id": render.request_id()})


@bp.get("/budgets")
@require_team_token
def budgets(caller: Caller, team_id: int) -> Response:
    """The budgets of the team and of its members."""
    return render.answer(gateway().members.budgets(caller, team_id))


@bp.put("/members/<int:user_id>/budgets")
@require_team_token
def set_budget(caller: Caller, team_id: int, user_id: int) -> Response:
    """Set a member's budget, or take it away."""
    whose = team_id, user_id
    found = gateway().members.set_budget(caller, _by(caller), whose, bodies.members())
    if found is None:
        return Response(status=204, headers={"x-request-id": render.request_id()})
    return render.answer(found)


def _by(caller: Caller) -> Actor:
    return actor(caller.username, caller.user_id)
