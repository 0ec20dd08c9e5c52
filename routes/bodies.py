"""Small JSON bodies of the management APIs."""

from typing import Any, Final

from flask import request

from services.dialects import openai
from services.errors import InvalidRequest
from utils import jsonx

MAX_BYTES: Final = 65_536


def members(*, may_be_empty: bool = False) -> dict[str, Any]:
    """The object in the request's body; its fractions are Decimal.

    Raises:
        InvalidRequest: it is none (code `json_unmarshal`).
        RequestEntityTooLarge: it has more than MAX_BYTES.
    """
    request.max_content_length = MAX_BYTES
    raw = request.get_data(cache=False)
    if may_be_empty and not raw.strip():
        return {}
    try:
        found = jsonx.exact(raw)
    except jsonx.BadJson as exc:
        raise InvalidRequest(f"The body is not JSON that can be taken: {exc}.", code="json_unmarshal") from exc
    if not isinstance(found, dict):
        raise InvalidRequest("The body must be a JSON object.", code="json_unmarshal")
    return found


def number(name: str, default: int, most: int) -> int:
    """A whole number of the query.

    Raises:
        InvalidRequest: it is none, or more than `most`.
    """
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(most)) or int(text) > most:
        raise InvalidRequest("`skip` is a whole number up to 1000000, `limit` one up to 1000.", param=name)
    return int(text)


def plain(most: int) -> dict[str, Any]:
    """The object in the request's body, of at most so many bytes; its fractions are floats.

    Raises:
        InvalidRequest: it is none.
        RequestEntityTooLarge: it has more.
    """
    request.max_content_length = min(most, request.max_content_length or most)
    return openai.members(request.get_data(cache=False))
