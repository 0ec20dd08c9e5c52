"""`/api/v1/…/tokens`: what a user may know of its prepaid tokens, and what admins may do with them."""

from typing import Any, Final

from flask import Blueprint, Response, request

from routes import bodies, render
from routes.auth import actor
from services import balances
from services.balances import Balance
from services.errors import InvalidRequest
from services.types import Caller
from utils import jsonx
from utils.decorators import require_admin_token, require_api_key
from utils.extensions import gateway

bp = Blueprint("balances", __name__, url_prefix="/api/v1")

MAX_BODY_BYTES: Final = 65_536
MAX_SKIP: Final = 1_000_000
MAX_ENTRIES: Final = 1000


@bp.get("/users/me/tokens")
@require_api_key
def mine(caller: Caller) -> Response:
    """What the caller has left, has used and may use; null = unlimited."""
    found = balances.state(gateway().engine, caller.user_id)
    return render.answer(
        {"balance": found.balance, "held": found.held, "total_used": found.total_used, "limit": found.limit}
    )


@bp.post("/admin/users/<int:user_id>/tokens")
@require_admin_token
def move(caller: Caller, user_id: int) -> Response:
    """Top up with a positive `amount`, deduct with a negative one."""
    given = _members()
    return _changed(
        balances.add(
            gateway().engine, user_id, given.get("amount"), actor(caller.username, caller.user_id), given.get("reason")
        )
    )


@bp.get("/admin/users/<int:user_id>/tokens/history")
@require_admin_token
def history(caller: Caller, user_id: int) -> Response:
    """The movements of a balance, newest first."""
    skip, limit = bodies.number("skip", 0, MAX_SKIP), bodies.number("limit", 100, MAX_ENTRIES)
    return render.answer(
        [
            {
                "id": movement.id,
                "user_id": user_id,
                "amount": movement.amount,
                "reason": movement.reason,
                "note": movement.note,
                "dialog_id": None,
                "message_id": movement.request_id,
                "admin_user_id": movement.actor_id,
                "created_at": movement.created_at,
            }
            for movement in balances.history(gateway().engine, user_id, skip=skip, limit=limit)
        ]
    )


@bp.patch("/admin/users/<int:user_id>/limits")
@require_admin_token
def limits(caller: Caller, user_id: int) -> Response:
    """Limit the tokens that a user may use; null = no longer."""
    given = _members()
    if "limit" not in given:
        raise InvalidRequest("The body must have a `limit`: a number of tokens, or null for none.", param="limit")
    by = actor(caller.username, caller.user_id)
    return _changed(balances.set_limit(gateway().engine, user_id, given["limit"], by))


def _changed(found: Balance) -> Response:
    gateway().catalog.refresh()  # a first top-up or limit makes a user a limited one
    return render.answer(
        {
            "user_id": found.user_id,
            "balance": found.balance,
            "held": found.held,
            "limit": found.limit,
            "updated_at": found.updated_at,
        }
    )


def _members() -> dict[str, Any]:
    """The members of the JSON object that was sent."""
    request.max_content_length = MAX_BODY_BYTES
    try:
        given = jsonx.loads(request.get_data())
    except jsonx.BadJson as exc:
        raise InvalidRequest("The body must be a JSON object.") from exc
    if not isinstance(given, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return given
