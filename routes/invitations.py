"""`/api/v1/admin/invitations`: with one of them somebody may register."""

from typing import Final

from flask import Blueprint, Response

from routes import auth, bodies, render
from services import fields, invitations, people
from services.errors import Conflict, FieldsInvalid
from services.types import Caller
from utils.decorators import require_admin_token
from utils.extensions import gateway

bp = Blueprint("invitations", __name__, url_prefix="/api/v1/admin/invitations")

MAX_SKIP: Final = 1_000_000
MAX_LISTED: Final = 1000
MEMBERS: Final = {
    "role": people.role,
    "team": fields.text(fields.MAX_NAME),
    "days": fields.whole(1, invitations.MOST_DAYS),
}


@bp.post("")
@require_admin_token
def make(caller: Caller) -> Response:
    """A new invitation: role, team, days. Its `code` is in this answer and nowhere else."""
    if gateway().config.registration_mode == "closed":
        raise Conflict("Registration is closed, so nobody could use it: set REGISTRATION=invite.")
    given = fields.read(MEMBERS, bodies.members(may_be_empty=True))
    if given.ignored:  # what was misspelt may be what was to keep the invitation short or its role small
        raise FieldsInvalid({name[: fields.MAX_NAME]: "is not known here" for name in given.ignored})
    made = invitations.make(gateway().engine, auth.actor(caller.username, caller.user_id), **given.values)
    return render.answer({"code": made.code, **made.view}, 201, auth.NO_STORE)


@bp.get("")
@require_admin_token
def listed(_caller: Caller) -> Response:
    """All invitations, newest first."""
    skip, limit = bodies.number("skip", 0, MAX_SKIP), bodies.number("limit", 100, MAX_LISTED)
    return render.answer(invitations.listed(gateway().engine, skip=skip, limit=limit))


@bp.delete("/<number>")
@require_admin_token
def remove(caller: Caller, number: str) -> Response:
    """Withdraw one that is open, or forget one that was used or has expired."""
    invitations.remove(gateway().engine, auth.actor(caller.username, caller.user_id), number)
    return render.answer({"message": "ok"})
