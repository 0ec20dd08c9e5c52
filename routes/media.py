"""The other endpoints of OpenAI's surface: moderations, images, speech, transcriptions, rerank. JSON or forms."""

from collections.abc import Callable
from typing import Final

from flask import Blueprint, Response, request

from routes import render, serving
from services import bodies
from services.dialects import OTHER, openai_other
from services.dialects.base import Dialect
from services.types import (
    IMAGE,
    IMAGE_EDIT,
    IMAGE_VARIATION,
    MODERATION,
    RERANK,
    SPEECH,
    TRANSCRIPTION,
    TRANSLATION,
    Call,
    Caller,
)
from utils import jsonx
from utils.decorators import require_api_key
from utils.extensions import gateway
from utils.forms import Form, Upload

PATHS: Final = {
    "/moderations": MODERATION,
    "/images/generations": IMAGE,
    "/images/edits": IMAGE_EDIT,
    "/images/variations": IMAGE_VARIATION,
    "/audio/speech": SPEECH,
    "/audio/transcriptions": TRANSCRIPTION,
    "/audio/translations": TRANSLATION,
    "/rerank": RERANK,
}
FORM: Final = "multipart/form-data"

Serve = Callable[[Caller, str], Response]

bp = Blueprint("media", __name__, url_prefix="/v1")


def add_routes(to: Blueprint, prefixes: tuple[str, ...], serve: Serve) -> None:
    """Put every one of these endpoints on the blueprint, below each prefix."""
    for path, operation in PATHS.items():
        view = _view(serve, operation)
        for prefix in prefixes:
            to.add_url_rule(prefix + path, operation, view, methods=["POST"])


def answer(caller: Caller, operation: str, dialect: Dialect = OTHER) -> Response:
    """The answer to a call, whole or streamed.

    Raises:
        GatewayError: see serving.serve.
    """
    return serving.answer(read(caller, operation, dialect), dialect)


def read(caller: Caller, operation: str, dialect: Dialect) -> Call:
    """The request as a call, from JSON or a form.

    Raises:
        InvalidRequest: its body, or one of the headers that name it.
    """
    if request.mimetype != FORM or operation not in openai_other.FORM_FIELDS:
        return serving.read(caller, operation, dialect)
    form = _form()
    call = serving.noted(openai_other.form_call(operation, form, caller, render.request_id()), dialect)
    files = [part for one in form.uploads for part in (f"{one.name} {one.filename}".encode(errors="replace"), one.data)]
    call.fingerprint = serving.fingerprint(jsonx.dumps(form.fields), *files)
    call.record = gateway().bodies.record(caller, bodies.of_form(form), FORM)
    return call


def _view(serve: Serve, operation: str) -> Callable[[], Response]:
    @require_api_key
    def view(caller: Caller) -> Response:
        return serve(caller, operation)

    return view


def _form() -> Form:
    """The body's fields and files. What is no form has neither."""
    uploads = tuple(
        Upload(name, file.filename or "", file.content_type or "", file.read())
        for name, file in request.files.items(multi=True)
    )
    return Form(tuple(request.form.items(multi=True)), uploads)


add_routes(bp, ("",), answer)
