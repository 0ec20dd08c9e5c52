"""`/api/policies`: what must not go out or come back, for admins and their programs."""

from typing import Final

from flask import Blueprint, Response, request

from routes import bodies, keymanagement, render
from services.audit import Actor
from utils.decorators import require_admin
from utils.extensions import gateway

PREFIX: Final = "/api/policies"

bp = Blueprint("policies", __name__, url_prefix=PREFIX)


@bp.get("")
@require_admin
def policies(actor: Actor) -> Response:
    """The policies with all these tags; without any, all of them."""
    return render.answer(gateway().control.policies.listed([tag for tag in request.args.getlist("tags") if tag]))


@bp.post("")
@require_admin
def create(actor: Actor) -> Response:
    """A new policy."""
    return keymanagement.answer(gateway().control.policies.create(actor, bodies.members()))


@bp.get("/<policy_id>")
@require_admin
def policy(actor: Actor, policy_id: str) -> Response:
    """One policy."""
    return render.answer(gateway().control.policies.get(policy_id))


@bp.patch("/<policy_id>")
@require_admin
def update(actor: Actor, policy_id: str) -> Response:
    """Change what the body names."""
    return keymanagement.answer(gateway().control.policies.update(actor, policy_id, bodies.members()))


@bp.delete("/<policy_id>")
@require_admin
def delete(actor: Actor, policy_id: str) -> Response:
    """Remove a policy."""
    gateway().control.policies.delete(actor, policy_id)
    return keymanagement.nothing()
