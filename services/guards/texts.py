"""The texts of a request or an answer, whatever dialect it is in.

Every text in the JSON is one, but for those under names that say what a thing is or where it belongs (NAMES), what
carries pictures, sounds and files (CARRIED), and addresses that hold their content. In what a tool is given or said
(FREE) all names are somebody's own, so all texts, names and long numbers are read; where it is JSON within a text, as
the arguments of a call are, it is read as what it is.
"""

from collections.abc import Callable
from typing import Any, Final

from services.errors import InvalidRequest
from utils import jsonx

NAMES: Final = frozenset(
    {
        *("call_id", "detail", "effort", "encoding_format", "finish_reason", "id", "item_id", "media_type", "model"),
        *(
            "logprobs",
            "name",
            "object",
            "obfuscation",
            "previous_response_id",
            "quality",
            "response_id",
            "role",
            "service_tier",
        ),
        *("size", "status", "stop_reason", "system_fingerprint", "tool_call_id", "tool_choice", "tool_use_id"),
        *("truncation", "type", "verbosity", "voice"),
    }
)
CARRIED: Final = frozenset(
    {"b64_json", "data", "embedding", "encrypted_content", "file_data", "file_id", "partial_image_b64", "signature"}
)
SKIPPED: Final = NAMES | CARRIED
FREE: Final = frozenset({"arguments", "input", "metadata"})
INNER: Final = frozenset({"arguments"})  # texts that are JSON
TOKENS: Final = frozenset({"input", "prompt"})
HOLDS: Final = "data:"  # begins an address that is its own content
SHORTEST: Final = 5  # digits of a number that may be somebody's

Rewrite = Callable[[str], str]


def rewritten(value: Any, rewrite: Rewrite) -> Any:
    """The value with every text as `rewrite` gives it back; the same object where nothing changed.

    Raises:
        InvalidRequest: texts are given as numbers of tokens, which nobody can read.
    """
    return _walk(value, rewrite, "", is_free=False)


def within(text: str, rewrite: Rewrite) -> str:
    """A text that is JSON, such as the arguments of a call; what is no JSON is a text like others."""
    try:
        value = jsonx.loads(text)
    except jsonx.BadJson:
        return rewrite(text)
    if not isinstance(value, dict | list):
        return rewrite(text)
    changed = _walk(value, rewrite, "", is_free=True)
    return text if changed is value else jsonx.dumps(changed).decode()


def _walk(value: Any, rewrite: Rewrite, name: str, *, is_free: bool) -> Any:
    if isinstance(value, str):
        return _text(value, rewrite, name, is_free=is_free)
    if isinstance(value, dict):
        return _members(value, rewrite, is_free=is_free or name in FREE)
    if isinstance(value, list):
        if name in TOKENS and not is_free and value and all(isinstance(one, int) for one in value):
            raise InvalidRequest(f"`{name}` must be text where a policy applies, not token ids.", param=name)
        found = [_walk(one, rewrite, "" if isinstance(one, dict) else name, is_free=is_free) for one in value]
        return found if any(new is not old for new, old in zip(found, value, strict=True)) else value
    if is_free and isinstance(value, int) and abs(value) >= 10**SHORTEST:
        said = str(value)
        return value if (new := rewrite(said)) == said else new
    return value


def _text(value: str, rewrite: Rewrite, name: str, *, is_free: bool) -> str:
    if not is_free and (name in SKIPPED or value.startswith(HOLDS)):
        return value
    new = within(value, rewrite) if name in INNER else rewrite(value)
    return value if new == value else new


def _members(value: dict[str, Any], rewrite: Rewrite, *, is_free: bool) -> dict[str, Any]:
    given = value
    if not is_free and isinstance(spelt := value.get("logprobs"), dict | list) and spelt:
        value = {**value, "logprobs": type(spelt)()}  # they spell the text, token by token
    is_plain = value.get("type") == "text"  # Anthropic's documents may carry their text as `data`
    found = {
        (rewrite(name) if is_free else name): _walk(
            member, rewrite, "text" if is_plain and name == "data" else name, is_free=is_free
        )
        for name, member in value.items()
    }
    is_same = value is given and found.keys() == value.keys() and all(found[name] is value[name] for name in found)
    return value if is_same else found
