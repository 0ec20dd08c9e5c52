"""OpenAI's other endpoints, as callers send them: moderations, images, speech, transcriptions, rerank.

Bodies are JSON or forms; a form's fields are texts and go upstream as they came. What a call may use at most is
proven where its size says it, and otherwise chosen well above what models do today: docs/accounting.md says which.
"""

from collections.abc import Callable
from math import isfinite
from typing import Any, Final

from services.dialects import openai
from services.dialects.checks import Check
from services.errors import InvalidRequest
from services.types import (
    CHAT,
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
    Chat,
    Demand,
    PublicModel,
)
from utils import clock
from utils.forms import Form

MODERATION_MODEL: Final = "omni-moderation-latest"  # OpenAI's documented default
MAX_PICTURES: Final = 10
MAX_FRAMES: Final = 16
MAX_DOCUMENTS: Final = 10_000
MAX_DIGITS: Final = 9

# Bounds. Pictures: gpt-image-2 spends about 12,400 tokens on 3584 x 2048 (its calculator, read 2026-11-21).
MADE_PICTURE_TOKENS: Final = 16_384  # one picture, or one frame of an animation
PARTIAL_PICTURE_TOKENS: Final = 100  # each on top (OpenAI's image guide, read 2026-11-21)
GIVEN_PICTURE_TOKENS: Final = 16_384
SOUND_BYTES_PER_TOKEN: Final = 12  # the leanest codecs spend 600 bytes on a second, models 32 tokens
SOUND_BYTES_PER_WORD_TOKEN: Final = 50  # … and nobody says more than 12 tokens in one
SPOKEN_TOKENS_PER_BYTE: Final = 4  # 20 tokens a second, of 15 characters; slow voices and numbers need more
SLOWEST: Final = 0.25
PAIR_TOKENS: Final = 4  # around a query and a document

# Estimates, for when no provider reported usage.
PICTURE_TOKENS: Final = 1000
SECOND_TOKENS: Final = 10  # gpt-4o-transcribe
BYTES_PER_S: Final = {b"RIFF": 32_000, b"fLaC": 16_000}  # by how a file begins
USUAL_BYTES_PER_S: Final = 8_000

SOUNDS: Final = frozenset({TRANSCRIPTION, TRANSLATION})
FORMS: Final = SOUNDS | {IMAGE_VARIATION}  # never JSON; edits of images are either

_name, _text, _flag, _number, _object = (
    openai.FIELDS[CHAT][name] for name in ("model", "user", "stream", "temperature", "metadata")
)


def call(operation: str, raw: bytes, caller: Caller, request_id: str) -> Call:
    """A call with a JSON body that begins now.

    Raises:
        InvalidRequest: naming the member that is wrong in `param`.
    """
    if operation in FORMS:
        raise InvalidRequest("This endpoint takes multipart/form-data with a file.", param="body")
    body = openai.members(raw)
    if operation == MODERATION and body.get("model") is None:
        body["model"] = MODERATION_MODEL
    _check(body, FIELDS[operation], REQUIRED[operation])
    return _begun(operation, body, len(raw), caller, request_id)


def form_call(operation: str, form: Form, caller: Caller, request_id: str) -> Call:
    """A call with a multipart body that begins now.

    Raises:
        InvalidRequest: naming the field that is wrong in `param`.
    """
    body: Chat = {}
    for name, value in form.fields:
        given = body.get(name)
        body[name] = value if given is None else [*(given if isinstance(given, list) else [given]), value]
    _check(body, FORM_FIELDS[operation], REQUIRED[operation])
    field = "image" if operation not in SOUNDS else "file"
    files = [upload for upload in form.uploads if upload.name in (field, f"{field}[]")]
    if not files:
        raise InvalidRequest(f"`{field}` is required, as a file.", param=field)
    for upload in form.uploads:
        if not upload.data:
            raise InvalidRequest(f"The file in `{upload.name}` is empty.", param=upload.name)
    size = sum(len(name) + len(value.encode()) for name, value in form.fields)
    made = _begun(operation, body, size, caller, request_id)
    made.uploads = form.uploads
    made.upload_tokens = sum(
        _sound_tokens(upload.data) if operation in SOUNDS else PICTURE_TOKENS for upload in form.uploads
    )
    return made


def demand(call: Call, model: PublicModel, _default_output: int) -> Demand:
    """What the call may use at most; an output limit of the model's own goes before ours."""
    given, output, images = BOUNDS.get(call.operation, _of_pictures)(call)
    if model.context_window is not None and call.operation not in (MODERATION, RERANK):  # those read many texts
        given = min(given, model.context_window)
    if model.max_output_tokens is not None:
        output = min(output, model.max_output_tokens)
    return Demand(given, max(1, images), output, output, images=images)


def _begun(operation: str, body: Chat, size: int, caller: Caller, request_id: str) -> Call:
    """The call; a sound comes as a stream of bytes unless its caller wants events."""
    is_sound = operation == SPEECH and body.get("stream_format") != "sse"
    return Call(
        id=request_id,
        operation=operation,
        body=body,
        caller=caller,
        started_ms=clock.now_ms(),
        started_s=clock.monotonic_s(),
        body_bytes=size,
        is_stream=operation == SPEECH or (operation in STREAMED and body.get("stream") in TRUE),
        is_binary=is_sound,
        wants_usage=True,
    )


def _check(body: Chat, fields: dict[str, Check], required: tuple[str, ...]) -> None:
    for name, check in fields.items():
        if body.get(name) is not None and (problem := check(body[name])) is not None:
            raise InvalidRequest(f"`{name}` {problem}.", param=name)
    for name in required:
        if body.get(name) is None:
            raise InvalidRequest(f"`{name}` is required.", param=name)


def _whole(low: int, high: int) -> Check:
    """A whole number, as JSON or, in a form, as its digits."""

    def check(value: Any) -> str | None:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS:
            value = int(value)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return None if is_whole and low <= value <= high else f"must be a whole number from {low} to {high}"

    return check


def _written_number(value: Any) -> str | None:
    try:
        is_number = isfinite(float(value))
    except (TypeError, ValueError):
        is_number = False
    return None if is_number else "must be a number"


def _written_flag(value: Any) -> str | None:
    return None if value in ("true", "false", "True", "False") else "must be true or false"


def _voice(value: Any) -> str | None:
    return None if isinstance(value, str | dict) else "must be a string or an object"


def _moderated(value: Any) -> str | None:
    if isinstance(value, str) or (isinstance(value, list) and value and _are_all(value, str)):
        return None
    if isinstance(value, list) and value and _are_all(value, dict):
        return None
    return "must be a string, an array of strings or an array of parts"


def _documents(value: Any) -> str | None:
    is_list = isinstance(value, list) and 0 < len(value) <= MAX_DOCUMENTS
    return (
        None
        if is_list and _are_all(value, str | dict)
        else f"must be an array of 1 to {MAX_DOCUMENTS} strings or objects"
    )


def _pictures(value: Any) -> str | None:
    return None if isinstance(value, list) and value and _are_all(value, dict) else "must be an array of objects"


def _are_all(values: list[Any], kind: Any) -> bool:
    return all(isinstance(value, kind) for value in values)


TRUE: Final = (True, "true", "True")
STREAMED: Final = frozenset({IMAGE, IMAGE_EDIT, TRANSCRIPTION})
_TEXTS: Final = ("response_format", "size", "quality", "style", "background", "moderation", "output_format", "user")
_PICTURE: Final[dict[str, Check]] = {
    "model": _name,
    "prompt": _text,
    **dict.fromkeys(_TEXTS, _text),
    "n": _whole(1, MAX_PICTURES),
    "partial_images": _whole(0, MAX_PICTURES),
    "frame_count": _whole(1, MAX_FRAMES),
    "output_compression": _whole(0, 100),
    "input_fidelity": _text,
}
_SOUND: Final[dict[str, Check]] = {
    "model": _name,
    **dict.fromkeys(("language", "prompt", "response_format"), _text),
    "temperature": _written_number,
    "stream": _written_flag,
}
FIELDS: Final[dict[str, dict[str, Check]]] = {
    MODERATION: {"model": _name, "input": _moderated},
    IMAGE: _PICTURE | {"stream": _flag},
    IMAGE_EDIT: _PICTURE | {"stream": _flag, "images": _pictures, "mask": _object},
    SPEECH: {
        "model": _name,
        "input": _text,
        "voice": _voice,
        **dict.fromkeys(("instructions", "response_format", "stream_format"), _text),
        "speed": _number,
    },
    RERANK: {
        "model": _name,
        "query": _text,
        "documents": _documents,
        "top_n": _whole(1, openai.MAX_INT),
        "return_documents": _flag,
    },
}
FORM_FIELDS: Final[dict[str, dict[str, Check]]] = {
    IMAGE_EDIT: _PICTURE | {"stream": _written_flag},
    IMAGE_VARIATION: _PICTURE,
    TRANSCRIPTION: _SOUND,
    TRANSLATION: _SOUND,
}
REQUIRED: Final = {
    MODERATION: ("model", "input"),
    IMAGE: ("model", "prompt"),
    IMAGE_EDIT: ("model", "prompt"),
    IMAGE_VARIATION: ("model",),
    SPEECH: ("model", "input"),
    TRANSCRIPTION: ("model",),
    TRANSLATION: ("model",),
    RERANK: ("model", "query", "documents"),
}


# Bounds: input, output (for each picture, where there are any), pictures.


def _of_moderation(call: Call) -> tuple[int, int, int]:
    """Every part may be a picture."""
    parts = sum(isinstance(part, dict) for part in call.body["input"])
    return call.body_bytes + parts * openai.IMAGE_TOKENS, 0, 0


def _of_rerank(call: Call) -> tuple[int, int, int]:
    """The query is read once for every document."""
    documents = len(call.body["documents"])
    return call.body_bytes + documents * (len(call.body["query"].encode()) + PAIR_TOKENS), 0, 0


def _of_pictures(call: Call) -> tuple[int, int, int]:
    body = call.body
    given = len(call.uploads) + len(body["images"] if isinstance(body.get("images"), list) else ())
    frames = int(body.get("frame_count") or (MAX_FRAMES if body.get("output_format") == "gif" else 1))
    made = MADE_PICTURE_TOKENS * frames + PARTIAL_PICTURE_TOKENS * int(body.get("partial_images") or 0)
    return call.body_bytes + given * GIVEN_PICTURE_TOKENS, made, int(body.get("n") or 1)


def _of_speech(call: Call) -> tuple[int, int, int]:
    slowness = 1 / min(1.0, max(SLOWEST, float(call.body.get("speed") or 1)))
    return call.body_bytes, int(len(call.body["input"].encode()) * SPOKEN_TOKENS_PER_BYTE * slowness) + 1, 0


def _of_sound(call: Call) -> tuple[int, int, int]:
    size = sum(len(upload.data) for upload in call.uploads)
    return (
        call.body_bytes + size // SOUND_BYTES_PER_TOKEN + len(call.uploads),
        size // SOUND_BYTES_PER_WORD_TOKEN + 1,
        0,
    )


BOUNDS: Final[dict[str, Callable[[Call], tuple[int, int, int]]]] = {
    MODERATION: _of_moderation,
    RERANK: _of_rerank,
    SPEECH: _of_speech,
    TRANSCRIPTION: _of_sound,
    TRANSLATION: _of_sound,
}


def _sound_tokens(data: bytes) -> int:
    """What a sound comes to, roughly."""
    return len(data) * SECOND_TOKENS // BYTES_PER_S.get(data[:4], USUAL_BYTES_PER_S) + 1
