"""The playground without JavaScript: one prompt in a form, one answer as text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from routes import serving
from routes.admin.playground import asking
from services.dialects import OPENAI
from services.dialects.prompts import text_of
from services.errors import InvalidRequest
from services.types import Caller
from utils import jsonx

NO_PROMPT: Final = "Write a message first."


@dataclass(frozen=True, slots=True)
class Said:
    """What the page shows of a form that was sent."""

    answer: str | None = None
    problem: str = ""
    figures: Mapping[str, Any] | None = None


def ask(caller: Caller, form: Mapping[str, str]) -> Said:
    """Send the prompt of a form, and wait for the whole answer.

    Raises:
        GatewayError: see serving.serve; InvalidRequest where there is no prompt.
    """
    prompt, system = form.get("prompt", ""), form.get("system", "")
    if not prompt.strip():
        raise InvalidRequest(NO_PROMPT)
    opening = [{"role": "system", "content": system}] if system.strip() else []
    body = {"model": form.get("model", ""), "messages": [*opening, {"role": "user", "content": prompt}]}
    call = asking.admitted(jsonx.dumps(body), OPENAI, caller)
    answered = serving.opened(call, OPENAI)
    assert isinstance(answered, bytes)  # noqa: S101 - no stream was asked for
    return Said(text_of(answered), figures=asking.figures(call))
