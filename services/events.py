"""What happens to people's dialogs, for whoever wants to know: listeners in this process, and the log.

event                    facts besides `user_id` and `request_id`
message_sent             dialog_id, message_id
llm_response_received    dialog_id, message_id, model, prompt_tokens, completion_tokens, latency_ms
tokens_deducted          tokens
balance_exhausted        code

No event has a text of a message in it. A listener is called where the event happens and must be quick; one that fails
is logged and nothing else.
"""

import logging
from collections.abc import Callable
from typing import Any, Final, Literal

log = logging.getLogger(__name__)

Name = Literal["message_sent", "llm_response_received", "tokens_deducted", "balance_exhausted"]
Listener = Callable[[str, dict[str, Any]], None]  # the event's name and its facts

NAMES: Final[tuple[Name, ...]] = ("message_sent", "llm_response_received", "tokens_deducted", "balance_exhausted")


class Events:
    """See the module."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call this for every event from now on."""
        self._listeners.append(listener)

    def tell(self, name: Name, **facts: Any) -> None:
        """It has happened."""
        log.info(" ".join(["%s", *(f"{fact}=%s" for fact in facts)]), name, *facts.values())
        for listener in self._listeners:
            try:
                listener(name, facts)
            except Exception:
                log.exception("a listener failed event=%s", name)
