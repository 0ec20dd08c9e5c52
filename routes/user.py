"""What a caller may ask about itself."""

from flask import Blueprint, Response

from routes import render, serving
from services.types import Caller
from utils.decorators import require_api_key
from utils.extensions import gateway

bp = Blueprint("user", __name__, url_prefix="/user")


@bp.get("/usage")
@require_api_key
def usage(caller: Caller) -> Response:
    """The tokens that the owner of the key has used."""
    headers = serving.counted(caller)
    used = gateway().accounts.tokens_used(caller.user_id)
    return render.answer({"username": caller.username, "tokens_used": used}, headers=headers)
