"""What kinds of providers there are: for the configuration file, the panel and whoever adds one.

A row here and a wire in `WIRES` make a kind. Labels are shown to people; `docs` is where the facts were read.
Vendors that speak OpenAI's dialect are no kinds: they are rows of services/providers/vendors.py.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Setting:
    """One of a provider's `settings`, which its wire reads."""

    name: str
    label: str
    help: str = ""
    is_flag: bool = False  # true or false; otherwise a text
    default: bool = False  # of a flag


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
    lists_models: bool = True  # false: what it lists is not what can be called

    @property
    def name(self) -> str:
        """The label's first words, for tables: what stands before a comma or colon."""
        return re.split(r"[,:]", self.label, maxsplit=1)[0]


CA_FILE: Final = Setting(
    "ca_file", "CA file", "A file with the authorities that sign its certificate, if not the usual."
)

KINDS: Final = {
    "openai": Kind(
        "OpenAI, or anything compatible",
        "https://developers.openai.com/api/reference",
        "https://api.openai.com/v1",
        (
            Setting("organization", "Organization", "Sent as OpenAI-Organization; usually empty."),
            Setting("drop", "Members it refuses", "Names of request members between commas; they are left out."),
            Setting(
                "max_tokens_field",
                "Name of the output limit",
                "max_tokens or max_completion_tokens; empty: as is usual for the address.",
            ),
            Setting("stream_usage", "Reports usage in streams when asked", is_flag=True, default=True),
            CA_FILE,
        ),
    ),
    "azure": Kind(
        "Azure OpenAI",
        "https://learn.microsoft.com/azure/ai-foundry/openai/reference",
        settings=(
            Setting("api_version", "API version", "Such as 2024-10-21, or v1 for the API without versions."),
            CA_FILE,
        ),
        lists_models=False,
    ),
    "gigachat": Kind(
        "GigaChat",
        "https://developers.sber.ru/docs/ru/gigachat/api/reference/rest/gigachat-api",
        "https://api.giga.chat/v1",
        (
            Setting("scope", "Scope", "GIGACHAT_API_PERS (the default), GIGACHAT_API_B2B or GIGACHAT_API_CORP."),
            Setting("auth_url", "Address of the token service", "Empty: the public one."),
            CA_FILE,
        ),
        discovers=True,
    ),
    "ollama": Kind(
        "Ollama",
        "https://github.com/ollama/ollama/blob/main/docs/api.md",
        "http://localhost:11434",
        (CA_FILE,),
        is_free=True,
        discovers=True,
    ),
    "echo": Kind("Echo: answers by itself, for trying things out", "", "echo:", is_free=True, is_local=True),
}
