"""Schemas of OpenAI's other endpoints: moderations, pictures, sounds, rerank."""

from typing import Any, Final

from routes.openapi.operations import FORM, JSON, Media, json
from routes.openapi.shapes import Schema, either, flag, listed, number, opened, ref, text, whole
from services.dialects import openai_other
from services.types import IMAGE, IMAGE_EDIT, IMAGE_VARIATION, MODERATION, RERANK, SPEECH, TRANSCRIPTION, TRANSLATION

_object: Final[Schema] = {"type": "object"}
_model: Final = text("The public name of a model.", minLength=1)
_file: Final = text("A file.", format="binary")
_picture: Final[dict[str, Schema]] = {
    "n": whole(minimum=1, maximum=openai_other.MAX_PICTURES),
    "size": text(),
    "quality": text(),
    "stream": flag(),
}
_sound: Final[dict[str, Schema]] = {"language": text(), "prompt": text(), "response_format": text()}

SCHEMAS: Final[dict[str, Any]] = {
    "ModerationRequest": opened(
        {"input": either(text(), listed(either(text(), _object), minItems=1))}, {"model": _model}
    ),
    "Moderation": opened({"id": text(), "model": text(), "results": listed(_object)}),
    "ImageRequest": opened({"model": _model, "prompt": text()}, _picture),
    "ImageEditRequest": opened({"model": _model, "prompt": text(), "images": listed(_object)}, _picture),
    "ImageEditForm": opened({"model": _model, "prompt": text(), "image": _file}, _picture | {"mask": _file}),
    "ImageVariationForm": opened({"model": _model, "image": _file}, _picture),
    "Images": opened({"data": listed(_object)}, {"created": whole(), "usage": _object}),
    "SpeechRequest": opened(
        {"model": _model, "input": text()},
        {"voice": either(text(), _object), "speed": number(), "response_format": text(), "stream_format": text()},
    ),
    "SoundForm": opened({"model": _model, "file": _file}, _sound),
    "Transcription": opened({"text": text()}, {"usage": _object}),
    "RerankRequest": opened(
        {"model": _model, "query": text(), "documents": listed(either(text(), _object), minItems=1)},
        {"top_n": whole(minimum=1), "return_documents": flag()},
    ),
    "Ranking": opened({"results": listed(opened({"index": whole(), "relevance_score": number()}))}),
}
_EVENTS: Final = {"text/event-stream": ref("Event")}
_WORDS: Final = Media({JSON: ref("Transcription"), "text/plain": text(), **_EVENTS})
_IMAGES: Final = Media({JSON: ref("Images"), **_EVENTS})
WORDS: Final = {
    MODERATION: "Whether texts or pictures are harmful",
    IMAGE: "Pictures for a prompt",
    IMAGE_EDIT: "Pictures changed as a prompt says",
    IMAGE_VARIATION: "Variations of a picture",
    SPEECH: "A text, spoken",
    TRANSCRIPTION: "What is said in a sound",
    TRANSLATION: "What is said in a sound, in English",
    RERANK: "Documents in the order of their relevance",
}
BODIES: Final[dict[str, tuple[Media, Media]]] = {  # by operation: what it takes, what it says
    MODERATION: (json(ref("ModerationRequest")), json(ref("Moderation"))),
    IMAGE: (json(ref("ImageRequest")), _IMAGES),
    IMAGE_EDIT: (Media({FORM: ref("ImageEditForm"), JSON: ref("ImageEditRequest")}), _IMAGES),
    IMAGE_VARIATION: (Media({FORM: ref("ImageVariationForm")}), _IMAGES),
    SPEECH: (json(ref("SpeechRequest")), Media({"audio/*": {}, "application/octet-stream": {}, **_EVENTS})),
    TRANSCRIPTION: (Media({FORM: ref("SoundForm")}), _WORDS),
    TRANSLATION: (Media({FORM: ref("SoundForm")}), _WORDS),
    RERANK: (json(ref("RerankRequest")), json(ref("Ranking"))),
}
