"""`/v1/files`: files of batches, as OpenAI's clients upload and fetch them."""

from collections.abc import Iterator
from datetime import timedelta
from typing import IO, Final

from flask import Blueprint, Response, request

from routes import render, serving
from services import batches, batchfiles
from services.batchfiles import Wanted
from services.errors import InvalidRequest
from services.types import Caller
from utils.decorators import require_api_key
from utils.extensions import gateway

bp = Blueprint("files", __name__, url_prefix="/v1/files")

FORM: Final = "multipart/form-data"
FIELDS: Final = frozenset({"purpose", "expires_after[anchor]", "expires_after[seconds]"})
FORM_BYTES: Final = 65_536  # of a form besides its file
MOST: Final = 10_000  # files on a page, as OpenAI's API has it
MOST_DIGITS: Final = 9


@bp.post("")
@require_api_key
def create(caller: Caller) -> Response:
    """Upload a file for a batch: JSON Lines, a request on each."""
    headers = serving.counted(caller)
    most = gateway().control.files.bounds.file_bytes
    request.max_content_length = most + FORM_BYTES
    if (request.content_length or 0) > most + FORM_BYTES:
        raise batchfiles.too_large(most)
    if request.mimetype != FORM:
        raise InvalidRequest("Send the file as multipart/form-data.", param="file")
    try:
        kept = _checked()
        upload = request.files["file"]
        made = gateway().control.files.create(caller, upload.filename or "", _parts(upload.stream), kept)
    finally:
        request.close()  # a large file lies on the disk until then
    return render.answer(made, headers=headers)


@bp.get("")
@require_api_key
def list_own(caller: Caller) -> Response:
    """The caller's files, a page at a time, the newest first."""
    headers = serving.counted(caller)
    order = request.args.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("`order` must be asc or desc.", param="order")
    size = page_size(MOST, MOST)
    wanted = Wanted(size, request.args.get("after") or None, order == "asc", request.args.get("purpose") or None)
    return render.answer(gateway().control.files.page(caller.user_id, wanted), headers=headers)


@bp.get("/<file_id>")
@require_api_key
def retrieve(caller: Caller, file_id: str) -> Response:
    """What is known of a file."""
    headers = serving.counted(caller)
    return render.answer(gateway().control.files.find(caller.user_id, file_id), headers=headers)


@bp.get("/<file_id>/content")
@require_api_key
def content(caller: Caller, file_id: str) -> Response:
    """What is in a file."""
    headers = serving.counted(caller)
    files = gateway().control.files
    row = files.row(caller.user_id, file_id)
    told = {"x-request-id": render.request_id(), "content-length": str(row.size_bytes), **headers}
    return Response(files.content(row), headers=told, content_type="application/octet-stream")


@bp.delete("/<file_id>")
@require_api_key
def delete(caller: Caller, file_id: str) -> Response:
    """Remove a file with its content."""
    headers = serving.counted(caller)
    gateway().control.files.delete(caller.user_id, file_id)
    return render.answer({"id": file_id, "object": "file", "deleted": True}, headers=headers)


def page_size(usual: int, most: int) -> int:
    """`limit` of a list.

    Raises:
        InvalidRequest: it is no such number.
    """
    given = request.args.get("limit", str(usual))
    if not given.isascii() or not given.isdecimal() or not 1 <= int(given[:MOST_DIGITS]) <= most:
        raise InvalidRequest(f"`limit` must be a whole number from 1 to {most}.", param="limit")
    return int(given)


def _parts(stream: IO[bytes]) -> Iterator[bytes]:
    while data := stream.read(batchfiles.CHUNK):
        yield data


def _checked() -> timedelta | None:
    """How long the file is to be kept, from a form that has all it needs and nothing else."""
    form = request.form
    if unknown := sorted(form.keys() - FIELDS):
        raise InvalidRequest(f"`{unknown[0][:100]}` is not known here.", param=unknown[0][:100])
    uploads = request.files.getlist("file")
    if len(uploads) != 1 or len(request.files) != 1:
        raise InvalidRequest("Send one file, as `file`.", param="file")
    if form.get("purpose") != batchfiles.INPUT:
        raise InvalidRequest("`purpose` must be `batch`: files are kept for batches alone.", param="purpose")
    given = {name: form.get(f"expires_after[{name}]") for name in ("anchor", "seconds")}
    if not any(given.values()):
        return None
    digits = given["seconds"] or ""
    number = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= MOST_DIGITS else None
    seconds = batches.lasting({"anchor": given["anchor"], "seconds": number}, "expires_after")
    return None if seconds is None else timedelta(seconds=seconds)
