"""`/api/v1/admin/…`: what admins see of everybody, the audit log, and reading the models anew."""

from typing import Any, Final

from flask import Blueprint, Response

from routes import asked, render
from routes.auth import actor
from services import audit, auditlog, standing
from services.auditlog import Wanted
from services.types import Caller
from utils.decorators import require_admin_token
from utils.extensions import gateway

bp = Blueprint("administration", __name__, url_prefix="/api/v1/admin")

USERS, ENTRIES = 20, 100  # how many there are when nobody says
WORD: Final = 40  # characters


@bp.post("/models/reload")
@require_admin_token
def reload(caller: Caller) -> Response:
    """Have every worker read models, providers and prices anew; this one has done so when it answers."""
    here = gateway()
    snapshot = here.catalog.reload(actor(caller.username, caller.user_id))
    names = sorted(snapshot.models)
    return render.answer({"status": "ok", "message": f"Reloaded {len(names)} models", "models": names})


@bp.get("/stats")
@require_admin_token
def stats(caller: Caller) -> Response:
    """Sums over all calls that began in a span; its end is not in it."""
    since, until = asked.moment("start_date"), asked.moment("end_date")
    found = standing.sums(gateway().engine, since, until)
    span = {"start_date": audit.moment(since), "end_date": audit.moment(until)}
    _note(caller, "admin_stats_view", "system", None, span)
    return render.answer(
        {
            "total_tokens": found.total_tokens,
            "active_users": found.active_users,
            "top_models": [{"model": name, "usage": tokens} for name, tokens in found.top_models],
            "avg_latency_ms": found.avg_latency_ms,
        }
    )


@bp.get("/users")
@require_admin_token
def users(caller: Caller) -> Response:
    """Where users stand."""
    part = asked.part(USERS)
    found = standing.users(gateway().engine, **part)
    _note(caller, "admin_user_view", "user", None, part)
    return render.answer(found)


@bp.get("/users/<int:user_id>")
@require_admin_token
def user(caller: Caller, user_id: int) -> Response:
    """Where one user stands."""
    found = standing.user(gateway().engine, user_id)
    _note(caller, "admin_user_view", "user", user_id, {})
    return render.answer(found)


@bp.get("/audit")
@require_admin_token
def entries(caller: Caller) -> Response:
    """Entries of the audit log, newest first."""
    wanted = Wanted(
        user_id=asked.whole("user_id", None, most=asked.MAX_ID),
        action=asked.word("action", WORD),
        resource_type=asked.word("resource_type", WORD),
        since=asked.moment("start_date"),
        until=asked.moment("end_date"),
    )
    return render.answer(auditlog.find(gateway().engine, wanted, **asked.part(ENTRIES)))


def _note(caller: Caller, action: str, resource_type: str, number: int | None, details: dict[str, Any]) -> None:
    gateway().audit.note(actor(caller.username, caller.user_id), action, resource_type, number, details)
