"""`POST /api/call`: a prompt answered with a text, for clients of a smaller gateway."""

from typing import Final

from flask import Blueprint, Response, request

from routes import serving
from services.callers import KEY_HEADERS
from services.dialects import PROMPTS, openai, prompts
from services.errors import InvalidRequest, ModelNotAvailable, NotFound
from services.types import CHAT, Caller
from utils.decorators import require_api_key

bp = Blueprint("legacy", __name__, url_prefix="/api")

MAX_BYTES: Final = 1024 * 1024  # of a body that must be read to know who sent it
CREDENTIALS: Final = ("authorization", *KEY_HEADERS)


@bp.before_request
def take_credential() -> None:
    """Where no header has a key, the body may: it counts as if it stood in the header."""
    if request.method != "POST" or any(request.headers.get(name) for name in CREDENTIALS):
        return
    request.max_content_length = min(MAX_BYTES, request.max_content_length or MAX_BYTES)
    try:
        key = openai.members(request.get_data()).get(prompts.KEY)
    except InvalidRequest:
        return  # without a key it goes no further anyway
    if isinstance(key, str) and key:
        request.environ["HTTP_AUTHORIZATION"] = f"Bearer {key}"


@bp.post("/call")
@require_api_key
def call(caller: Caller) -> Response:
    """The text that a model answers to a prompt."""
    try:
        return serving.serve(caller, CHAT, PROMPTS)
    except ModelNotAvailable as exc:
        raise NotFound(str(exc), param="model_name", code=exc.code) from exc
