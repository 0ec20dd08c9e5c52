"""`/models` for clients that know a model by its endpoint and key; `/api/v1/models` with what each costs."""

from typing import Final

from flask import Blueprint, Response
from flask_babel import gettext

from routes import auth, bodies, render, serving
from services import fields
from services.estimates import MOST_TOKENS
from services.types import Caller
from utils.decorators import require_admin_token, require_api_key
from utils.extensions import gateway

bp = Blueprint("modelbook", __name__, url_prefix="/models")
api = Blueprint("modelprices", __name__, url_prefix="/api/v1/models")

TOKENS: Final = {name: fields.whole(0, MOST_TOKENS) for name in ("prompt_tokens", "completion_tokens")}


@bp.post("/create")
@require_admin_token
def create(caller: Caller) -> Response:
    """A model with a provider of its own."""
    made = gateway().models.create(auth.actor(caller.username, caller.user_id), auth.fields())
    return render.answer({"message": gettext("Model %(name)s created successfully", name=made)})


@bp.get("/all")
@require_api_key
def everything(caller: Caller) -> Response:
    """The models that the caller may use."""
    headers = serving.counted(caller)
    return render.answer(gateway().models.listed(caller.may_use), headers=headers)


@bp.delete("/<path:name>")
@require_admin_token
def delete(caller: Caller, name: str) -> Response:
    """Remove a model, and the provider that was made with it."""
    gateway().models.delete(auth.actor(caller.username, caller.user_id), name)
    return render.answer({"message": gettext("Model %(name)s deleted successfully", name=name)})


@api.get("")
@require_api_key
def entries(caller: Caller) -> Response:
    """The models that the caller may use, with what they cost."""
    headers = serving.counted(caller)
    return render.answer(gateway().models.entries(caller.may_use), headers=headers)


@api.get("/<path:name>")
@require_api_key
def entry(caller: Caller, name: str) -> Response:
    """One of them."""
    headers = serving.counted(caller)
    return render.answer(gateway().models.entry(name, caller.may_use), headers=headers)


@api.post("/<path:name>/estimate")
@require_api_key
def estimate(caller: Caller, name: str) -> Response:
    """What a call with so many `prompt_tokens` and `completion_tokens` would cost, in USD."""
    headers = serving.counted(caller)
    given = fields.read(TOKENS, bodies.members()).values
    prompt, completion = (given.get(name, 0) for name in TOKENS)
    found = gateway().models.estimate(name, prompt, completion, caller.may_use)
    return render.answer(found, headers=headers)
