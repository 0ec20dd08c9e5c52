"""`/v1/messages`: Anthropic's surface, and `/v1/models` for its clients."""

from datetime import UTC, datetime
from typing import Any, Final

from flask import Blueprint, Response, request

from routes import render, serving
from services import promptbook, token_counter
from services.dialects import ANTHROPIC, anthropic
from services.errors import InvalidRequest, ModelNotAvailable, NotFound
from services.types import CHAT, Caller, PublicModel
from utils.decorators import require_api_key

bp = Blueprint("messages", __name__, url_prefix="/v1/messages")

PAGE: Final = 20  # models on a page where nobody says how many
MAX_PAGE: Final = 1000
UNKNOWN: Final = "model_not_found"


@bp.post("")
@require_api_key
def create(caller: Caller) -> Response:
    """A message, whole or streamed."""
    call = serving.read(caller, CHAT, ANTHROPIC)
    promptbook.refuse(call.native)
    try:
        return serving.answer(call, ANTHROPIC)
    except ModelNotAvailable as exc:
        raise NotFound(str(exc), param="model", code=UNKNOWN) from exc  # as Anthropic says it


@bp.post("/count_tokens")
@require_api_key
def count_tokens(caller: Caller) -> Response:
    """How long a message's input is, counted here and not charged."""
    headers = serving.counted(caller) | _id_header()
    call = anthropic.draft(request.get_data(cache=False), caller, render.request_id())
    model = serving.found(caller, call.body["model"])
    upstream = model.deployments[0].model if model.deployments else model.name
    return render.answer({"input_tokens": token_counter.prompt_tokens(call, upstream)}, headers=headers)


def list_models(caller: Caller) -> Response:
    """The models this caller may use, page by page.

    Raises:
        InvalidRequest: there is no such page.
    """
    headers = serving.counted(caller) | _id_header()
    entries = [_entry(model) for model in serving.offered(caller)]
    page, has_more = _page(entries)
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    body = {"data": page, "has_more": has_more, "first_id": first, "last_id": last}
    return render.answer(body, headers=headers)


def show_model(caller: Caller, name: str) -> Response:
    """One model.

    Raises:
        NotFound: there is none, or none that this caller may use.
    """
    headers = serving.counted(caller) | _id_header()
    return render.answer(_entry(serving.found(caller, name)), headers=headers)


def _page(entries: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """What `limit`, `after_id` and `before_id` choose, and whether there is more in that direction."""
    given = request.args.get("limit", str(PAGE))
    size = int(given[:9]) if given.isascii() and given.isdigit() else 0
    if not 1 <= size <= MAX_PAGE:
        raise InvalidRequest(f"`limit` must be a whole number from 1 to {MAX_PAGE}.", param="limit")
    after, before = (_place(entries, name) for name in ("after_id", "before_id"))
    if after is not None and before is not None:
        raise InvalidRequest("Send one of `after_id` and `before_id`.", param="before_id")
    if before is not None:
        return entries[max(0, before - size) : before], before > size
    start = 0 if after is None else after + 1
    return entries[start : start + size], len(entries) > start + size


def _place(entries: list[dict[str, Any]], name: str) -> int | None:
    """Where the entry stands that a parameter names."""
    wanted = request.args.get(name)
    if not wanted:
        return None
    for place, entry in enumerate(entries):
        if entry["id"] == wanted:
            return place
    raise InvalidRequest(f"`{name}` names no model of this list.", param=name)


def _entry(model: PublicModel) -> dict[str, Any]:
    created = datetime.fromtimestamp(model.created_s, UTC)
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": f"{created:%Y-%m-%dT%H:%M:%SZ}",
        "max_input_tokens": model.context_window,
        "max_tokens": model.max_output_tokens,
        "capabilities": None,
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
    }


def _id_header() -> dict[str, str]:
    return {anthropic.ID_HEADER: render.request_id()}
