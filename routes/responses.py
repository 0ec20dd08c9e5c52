"""`/v1/responses`: OpenAI's Responses API, with the answers that are kept for it."""

from typing import Final

from flask import Blueprint, Response, request

from routes import render, serving
from services import promptbook, responses, token_counter
from services.dialects import RESPONSES
from services.errors import InvalidRequest, Unsupported
from services.types import CHAT, Call, Caller
from utils import native
from utils.decorators import require_api_key
from utils.extensions import gateway

bp = Blueprint("responses", __name__, url_prefix="/v1/responses")

ITEMS: Final = 20  # on a page, unless the caller says how many


@bp.post("")
@require_api_key
def create(caller: Caller) -> Response:
    """An answer, whole or streamed; kept, unless `store` is false."""
    return serving.answer(_read(caller), RESPONSES)


@bp.get("/<name>")
@require_api_key
def retrieve(caller: Caller, name: str) -> Response:
    """An answer that was kept."""
    headers = serving.counted(caller)
    if request.args.get("stream", "").lower() == "true":
        raise Unsupported("Only an answer in the background could be streamed later.", param="stream")
    return render.answer(gateway().responses.find(caller.user_id, name).response, headers=headers)


@bp.delete("/<name>")
@require_api_key
def delete(caller: Caller, name: str) -> Response:
    """Keep an answer no longer."""
    headers = serving.counted(caller)
    gateway().responses.delete(caller.user_id, name)
    return render.answer({"id": name, "object": "response", "deleted": True}, headers=headers)


@bp.get("/<name>/input_items")
@require_api_key
def input_items(caller: Caller, name: str) -> Response:
    """What was said before an answer, a page at a time, the newest first."""
    headers = serving.counted(caller)
    limit, order = request.args.get("limit", str(ITEMS)), request.args.get("order", "desc")
    if not limit.isdecimal() or not limit.isascii() or not 1 <= int(limit[:9]) <= responses.MOST_ITEMS:
        raise InvalidRequest(f"`limit` must be a whole number from 1 to {responses.MOST_ITEMS}.", param="limit")
    if order not in ("asc", "desc"):
        raise InvalidRequest("`order` must be asc or desc.", param="order")
    items = gateway().responses.input_items(caller.user_id, name)
    listed = responses.page(items, limit=int(limit), after=request.args.get("after"), is_rising=order == "asc")
    return render.answer(listed, headers=headers)


@bp.post("/<name>/cancel")
@require_api_key
def cancel(caller: Caller, name: str) -> Response:
    """Refused: only an answer in the background could be cancelled, and there are none here."""
    serving.counted(caller)
    gateway().responses.find(caller.user_id, name)
    raise Unsupported("Only an answer in the background can be cancelled; this one has ended.", param="response_id")


@bp.post("/input_tokens")
@require_api_key
def input_tokens(caller: Caller) -> Response:
    """How many tokens the input of such a request has, counted here: about as many as the provider would count."""
    headers = serving.counted(caller)
    call = _read(caller)
    model = serving.found(caller, call.body["model"])
    upstream_model = model.deployments[0].model
    counted = native.run(token_counter.count_request, CHAT, call.body, upstream_model)
    return render.answer({"object": "response.input_tokens", "input_tokens": counted}, headers=headers)


def _read(caller: Caller) -> Call:
    """The request as a call, with all that it refers to."""
    call = serving.read(caller, CHAT, RESPONSES)
    promptbook.refuse(call.native)
    gateway().responses.admit(call)
    return call
