"""`/v1/batches`: calls that are made later, one after the other, as OpenAI's clients ask for them."""

from typing import Final

from flask import Blueprint, Response, request

from routes import render, serving
from routes.files import page_size
from services.batchfiles import Wanted
from services.dialects import openai
from services.types import Caller
from utils.decorators import require_api_key
from utils.extensions import gateway

bp = Blueprint("batches", __name__, url_prefix="/v1/batches")

USUAL: Final = 20
MOST: Final = 100  # batches on a page, as OpenAI's API has it


@bp.post("")
@require_api_key
def create(caller: Caller) -> Response:
    """Have the requests of an uploaded file made."""
    headers = serving.counted(caller)
    given, address = openai.members(request.get_data(cache=False)), request.remote_addr or ""
    endpoint = given.get("endpoint")
    if isinstance(endpoint, str):  # a list of paths counts for what is called too
        gateway().callers.check_access(caller, "POST", endpoint, address)
    return render.answer(gateway().control.batches.create(caller, given, address), headers=headers)


@bp.get("")
@require_api_key
def list_own(caller: Caller) -> Response:
    """The caller's batches, a page at a time, the newest first."""
    headers = serving.counted(caller)
    wanted = Wanted(page_size(USUAL, MOST), request.args.get("after") or None)
    return render.answer(gateway().control.batches.page(caller.user_id, wanted), headers=headers)


@bp.get("/<name>")
@require_api_key
def retrieve(caller: Caller, name: str) -> Response:
    """How far a batch is."""
    headers = serving.counted(caller)
    return render.answer(gateway().control.batches.find(caller.user_id, name), headers=headers)


@bp.post("/<name>/cancel")
@require_api_key
def cancel(caller: Caller, name: str) -> Response:
    """Make no more of a batch's calls; those under way go on."""
    headers = serving.counted(caller)
    return render.answer(gateway().control.batches.cancel(caller.user_id, name), headers=headers)
