"""What kinds of providers there are: for the configuration file, the panel and whoever adds one.

A row here and a wire in `WIRES` make a kind. Labels are shown to people; `docs` is where the facts were read.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Setting:
    """One of a provider's `settings`, which its wire reads."""

    name: str
    label: str
    help: str = ""
    is_flag: bool = False  # true or false; otherwise a text


@dataclass(frozen=True, slots=True)
class Kind:
    """A dialect that providers speak."""

    label: str
    docs: str
    base_url: str = ""  # used where a provider names none; empty: it must name one
    settings: tuple[Setting, ...] = ()
    is_free: bool = False  # one's own machine: tokens are counted and cost nothing
    discovers: bool = False  # unless told otherwise, every model that it lists is offered
    is_local: bool = False  # answers in this process, and has no address


KINDS: Final = {
    "openai": Kind(
        "OpenAI, or anything compatible",
        "https://developers.openai.com/api/reference",
        "https://api.openai.com/v1",
        (
            Setting("organization", "Organization", "Sent as OpenAI-Organization; usually empty."),
            Setting(
                "responses",
                "Has the Responses API",
                "Calls of /v1/responses go to its own; unset = for api.openai.com only, others are sent chats.",
                is_flag=True,
            ),
        ),
    ),
    "ollama": Kind(
        "Ollama",
        "https://github.com/ollama/ollama/blob/main/docs/api.md",
        "http://localhost:11434",
        is_free=True,
        discovers=True,
    ),
    "echo": Kind("Echo: answers by itself, for trying things out", "", "echo:", is_free=True, is_local=True),
}
