"""What kinds of providers there are: for the configuration file, the panel and whoever adds one.

A row here and a wire in `WIRES` make a kind. Labels are shown to people; `docs` is where the facts were read.
Vendors that speak OpenAI's dialect are no kinds: they are rows of services/providers/vendors.py.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.providers import recipes, settingchecks


@dataclass(frozen=True, slots=True)
class Setting:
    """One of a provider's `settings`, which its wire reads."""

    name: str
    label: str
    help: str = ""
    is_flag: bool = False  # true or false; otherwise a text
    default: bool = False  # of a flag
    otherwise: str = ""  # of a text that is `true` or `false`: what it means that nobody said


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
    check: Callable[[Mapping[str, Any]], None] | None = None  # of settings, before they are stored; InvalidRequest
    lists_models: bool = True  # false: what it lists is not what can be called
    appended: tuple[str, ...] = ()  # ends of addresses that calls add by themselves; the first that fits is taken off

    @property
    def name(self) -> str:
        """The label's first words, for tables: what stands before a comma or colon."""
        return re.split(r"[,:]", self.label, maxsplit=1)[0]

    def address(self, given: str) -> str:
        """The base URL that is meant: the usual one where none is given, without what calls add by themselves.

        Guides for other clients often show an address with the API's version or with the whole path of a call.
        """
        bare = given.strip().rstrip("/")
        end = next((end for end in self.appended if bare.endswith(end)), None)
        return (given if end is None else bare.removesuffix(end)) or self.base_url


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
            Setting("responses", "Has the Responses API", otherwise="Not known: only api.openai.com has it"),
            Setting("drop", "Members it refuses", "Names of request members between commas; they are left out."),
            Setting(
                "max_tokens_field",
                "Name of the output limit",
                "max_tokens or max_completion_tokens; empty: as is usual for the address.",
            ),
            Setting("stream_usage", "Reports usage in streams when asked", is_flag=True, default=True),
            CA_FILE,
        ),
        check=settingchecks.compatible,
        appended=("/chat/completions",),
    ),
    "azure": Kind(
        "Azure OpenAI",
        "https://learn.microsoft.com/azure/ai-foundry/openai/reference",
        settings=(
            Setting("api_version", "API version", "Such as 2024-10-21, or v1 for the API without versions."),
            CA_FILE,
        ),
        check=settingchecks.compatible,
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
    "anthropic": Kind(
        "Anthropic, or anything that speaks its Messages API",
        "https://platform.claude.com/docs/en/api/messages",
        "https://api.anthropic.com",
        (
            Setting("auth", "Authentication", "`bearer`: the key is sent as Authorization; otherwise as x-api-key."),
            Setting(
                "thinking",
                "Thinking",
                "`adaptive`: for models that are Claude 4.6 or later under another name; usually empty.",
            ),
        ),
        check=settingchecks.anthropic,
        appended=("/v1/messages", "/v1"),
    ),
    "ollama": Kind(
        "Ollama",
        "https://github.com/ollama/ollama/blob/main/docs/api.md",
        "http://localhost:11434",
        (CA_FILE,),
        is_free=True,
        discovers=True,
        appended=("/v1", "/api/chat", "/api"),
    ),
    "gemini": Kind(
        "Google Gemini",
        "https://ai.google.dev/api",
        "https://generativelanguage.googleapis.com",
        (Setting("api_version", "API version", "Usually v1beta."),),
        appended=("/v1beta", "/v1"),
    ),
    "bedrock": Kind(
        "Amazon Bedrock",
        "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html",
        settings=(Setting("region", "AWS region", "Only where the host does not name it, such as us-east-1."),),
        lists_models=False,
    ),
    "custom": Kind(
        "Custom: any HTTP API of JSON, described by its settings",
        "docs/adding-a-provider.md",
        settings=(
            Setting("path", "Path", "Below the base URL, such as /v1/models/{model}/generate."),
            Setting("request", "Request", 'JSON with placeholders: {"model": "{model}", "prompt": "{prompt}"}.'),
            Setting("answer_text", "Text of an answer", "Where it stands, such as choices.0.text."),
            Setting("answer_finish_reason", "Finish reason of an answer"),
            Setting("answer_input_tokens", "Input tokens of an answer"),
            Setting("answer_output_tokens", "Output tokens of an answer"),
            Setting("stream_text", "Text of an event", "Empty: it does not stream."),
            Setting("stream_finish_reason", "Finish reason of an event"),
            Setting("stream_input_tokens", "Input tokens of an event"),
            Setting("stream_output_tokens", "Output tokens of an event"),
            Setting("stream_format", "Form of a stream", "sse or lines."),
            Setting("stream_end", "End mark of a stream", "Usually [DONE]."),
            Setting("stream_path", "Path of streams", "Empty: as above."),
            Setting("error", "Error message", "Where it stands; usually error."),
            Setting("finish_reasons", "Finish reasons", 'JSON: theirs to stop or length, such as {"eos": "stop"}.'),
            Setting("message", "Message", "JSON with {role} and {content}: what each of {messages} looks like."),
            Setting("roles", "Roles", 'JSON: ours to theirs, such as {"assistant": "bot"}.'),
            Setting("auth_header", "Header of the key", "Usually authorization."),
            Setting("auth_prefix", "Before the key", "Usually `Bearer `, in another header nothing."),
            Setting("headers", "Further headers", "JSON."),
            Setting("models_path", "Path of the list of models"),
        ),
        check=recipes.check,
    ),
    "echo": Kind("Echo: answers by itself, for trying things out", "", "echo:", is_free=True, is_local=True),
}
