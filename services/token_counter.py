"""Counting tokens here, for when no provider reported them. Never the bill when one did.

The vocabularies of cl100k_base and o200k_base are shipped (data/README.md names their origin), so nothing is
downloaded, ever. Loading one costs 0.2 s and tens of megabytes, so it happens at the first count only.
"""

import base64
import gzip
import hashlib
import logging
import math
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import tiktoken
import tiktoken.load
import tiktoken_ext.openai_public

from services.accounting import Accounting
from services.types import CHAT, EMBEDDING, MODERATION, RERANK, SPEECH, TRANSCRIPTION, TRANSLATION, Call, Chat, Usage
from utils import native

log = logging.getLogger(__name__)

SHIPPED: Final = frozenset({"cl100k_base", "o200k_base", "o200k_harmony"})  # others would be downloaded
PIECE_CHARS: Final = 100_000  # tiktoken's regular expression fails on a million blanks in a row
FALLBACK: Final = "o200k_base"  # for models tiktoken does not know; such counts are estimates anyway
PER_MESSAGE: Final = 3  # tokens around each chat message …
PER_NAME: Final = 1  # … one more where it has a name …
PER_PICTURE: Final = 1000  # roughly, by the rules of the large vendors for a picture of a megapixel
CHARS_PER_SOUND_TOKEN: Final = 16  # base64; also roughly what a page of a PDF has
BYTES_PER_TOKEN: Final = 4
PER_CLAUDE_TOKEN: Final = 1.15  # Anthropic publishes no vocabulary; its models split texts into about so many more
CLAUDE: Final = "claude"
PER_REPLY: Final = 3  # … and the priming of the answer (OpenAI's rule for current chat models)
COUNTED: Final = {EMBEDDING: ("input",), SPEECH: ("input", "instructions")}  # others: `prompt`
DATA: Final = Path(__file__).resolve().parent / "data"
SHA256: Final = {
    "cl100k_base.tiktoken": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base.tiktoken": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}


@lru_cache(maxsize=1024)
def get_tokenizer(model_name: str) -> tiktoken.Encoding:
    """The encoding of a model, or o200k_base for models with an unknown one."""
    _prepare()
    try:
        name = tiktoken.encoding_name_for_model(model_name)
    except KeyError:
        name = FALLBACK
    return tiktoken.get_encoding(name if name in SHIPPED else FALLBACK)


def load() -> None:
    """Be ready to count for most models: where many calls are about to be ended, that would take the time they have."""
    get_tokenizer(FALLBACK)


def count_tokens(text: str, model_name: str) -> int:
    """Tokens of a text. Special tokens in it, such as `<|endoftext|>`, count as the plain text they are."""
    encoding, starts = get_tokenizer(model_name), range(0, len(text), PIECE_CHARS)
    return sum(len(encoding.encode(text[start : start + PIECE_CHARS], disallowed_special=())) for start in starts)


def count_request(operation: str, body: Chat, model_name: str) -> int:
    """Tokens of a request without its files: an estimate, tools and pictures roughly."""
    if operation == RERANK:
        texts = sum(count_tokens(text, model_name) for text in _texts(body["documents"]))
        return texts + len(body["documents"]) * count_tokens(body["query"], model_name)
    if operation == MODERATION:
        return _count_content(body["input"], model_name)
    if operation != CHAT:
        given = [part for name in COUNTED.get(operation, ("prompt",)) for part in _as_list(body.get(name) or "")]
        return sum(_count_input(part, model_name) for part in given)
    total = PER_REPLY
    for message in body["messages"]:
        total += PER_MESSAGE + (PER_NAME if message.get("name") else 0)
        total += sum(count_tokens(text, model_name) for text in _texts({**message, "content": None}))
        total += _count_content(message.get("content"), model_name)
    for extra in ("tools", "functions", "response_format"):
        if body.get(extra):
            total += sum(count_tokens(text, model_name) for text in _texts(body[extra]))
    return total


def estimate(call: Call, model: str | None = None) -> Usage:
    """Tokens of the request, and of the text that was handed on; counted off the event loop, roughly if need be."""
    model = model or (call.deployment.model if call.deployment else call.body["model"])
    try:
        return native.run(_estimate, call, model)
    except Exception:  # a call must be booked whatever its text does to the tokenizer
        log.exception("tokens could not be counted request_id=%s", call.id)
        text = sum(map(len, call.pieces)) // BYTES_PER_TOKEN
        return _usage(call, max(1, call.body_bytes // BYTES_PER_TOKEN), text)


def prompt_tokens(call: Call, model: str) -> int:
    """Tokens of the request for that upstream's model, before anybody is asked: an estimate, as in `estimate`."""
    counted = estimate(call, model).input_tokens or 0
    return math.ceil(counted * PER_CLAUDE_TOKEN) if CLAUDE in model.lower() else counted


def update_token_usage(accounting: Accounting, user_id: int, token_count: int) -> None:
    """Add tokens to what a user has used, with an entry in the ledger.

    Raises:
        BooksUnavailable: nothing was added.
    """
    accounting.add_tokens(user_id, token_count, actor="gateway", reason="counted outside a call")


def _estimate(call: Call, model: str) -> Usage:
    request = count_request(call.operation, call.body, model)
    return _usage(call, request, count_tokens("".join(call.pieces), model) if call.pieces else 0)


def _usage(call: Call, request: int, text: int) -> Usage:
    """With what came or went besides text: sounds have prices of their own."""
    usage = Usage(request + call.upload_tokens, text + call.media_tokens)
    if call.operation in (TRANSCRIPTION, TRANSLATION):
        usage.input_audio_tokens = call.upload_tokens
    if call.operation == SPEECH:
        usage.output_audio_tokens = call.media_tokens
    return usage


def _count_input(part: Any, model_name: str) -> int:
    """A text, one token id, or a list of them."""
    if isinstance(part, str):
        return count_tokens(part, model_name)
    return len(part) if isinstance(part, list) else 1


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _count_content(content: Any, model_name: str) -> int:
    """A text, or parts of which pictures, sounds and files count by rule: their bytes are no text."""
    total = 0
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "image_url":
            total += PER_PICTURE
        elif kind in ("input_audio", "file"):
            carried = sum(map(len, _texts(part.get(kind))))
            total += carried // CHARS_PER_SOUND_TOKEN + 1
        else:
            total += sum(count_tokens(text, model_name) for text in _texts(part))
    return total


def _texts(value: Any) -> list[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        return [value]
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for member in members for text in _texts(member)]


@cache
def _prepare() -> None:
    """Let tiktoken take its vocabularies from the shipped files, whatever address it asks for."""
    tiktoken_ext.openai_public.load_tiktoken_bpe = _load_shipped


def _load_shipped(address: str, expected_hash: str | None = None) -> dict[bytes, int]:
    """The ranks of a shipped vocabulary.

    Raises:
        KeyError: it is not shipped; the caller falls back to one that is.
    """
    name = address.rpartition("/")[2]
    content = gzip.decompress((DATA / f"{name}.gz").read_bytes()) if name in SHA256 else None
    if content is None or hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise KeyError(f"the vocabulary `{name}` is not shipped")
    pairs = (line.split() for line in content.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}
