"""Vendors and servers that speak OpenAI's dialect, one row each, with what they do differently as settings.

A provider of kind `openai` finds its row by the host of its base URL, or by its setting `vendor`; what its own
settings say goes before the row's. So a vendor that has no quirks needs no row, only its URL.

The settings that services/providers/compatible.py reads:

- `rename`: request members and what they are called there; `drop`: members it refuses, which are left out and named;
  `drop_from_messages`: the same within messages; `developer_role`: what the role `developer` is called there
- `tool_ids`: "short" where ids of tool calls must have nine letters and digits
- `stream_usage`: false where `stream_options` is refused; `max_tokens_field`: the name of the output limit
- `floats_only`: it knows no base64 embeddings
- `finish_reasons`: theirs and what they mean; "error" where the answer is none
- `content_chunks`: content may come as a list of texts and thoughts
- `reasoning_field`: where reasoning comes, if not in `reasoning_content`; it is then offered there too
- `usage_in`: the member of a stream's last chunk that holds its usage, if that is not said otherwise
- `lists_models`: false where no list of models can be had
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from services.types import Upstream


@dataclass(frozen=True, slots=True)
class Vendor:
    """Who speaks OpenAI's dialect, and how."""

    label: str
    base_url: str  # as its documentation gives it for OpenAI's SDK; of servers at home, where they listen by default
    docs: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()  # further ones: other regions, older names

    @property
    def is_local(self) -> bool:
        """Whether it is a server that people run themselves, anywhere: its address says nothing of it."""
        return self.base_url.startswith("http:")


SYSTEM: Final = {"developer_role": "system"}
REASONING: Final = {"reasoning_field": "reasoning"}
MAX_TOKENS: Final = {"rename": {"max_completion_tokens": "max_tokens"}}
ENDS: Final = {"eos": "stop", "eos_token": "stop", "stop_sequence": "stop"}
OURS: Final = (
    "logit_bias",
    "store",
    "user",
    "verbosity",
    "safety_identifier",
    "prompt_cache_retention",
)  # OpenAI alone has them

# Read 2026-11-21: the pages named in `docs`, and the vendors' own SDKs where they have one.
VENDORS: Final = {
    "mistral": Vendor(
        "Mistral",
        "https://api.mistral.ai/v1",
        "https://docs.mistral.ai/api",
        SYSTEM
        | {
            # It answers 422 to members it does not know; usage comes with the last chunk of every stream.
            "rename": {"seed": "random_seed", "max_completion_tokens": "max_tokens", "dimensions": "output_dimension"},
            "drop": OURS,
            "drop_from_messages": ("name", "reasoning_content", "refusal"),
            "stream_usage": False,
            "tool_ids": "short",
            "content_chunks": True,
            "finish_reasons": {"model_length": "length", "error": "error"},
        },
        hosts=("codestral.mistral.ai",),
    ),
    "groq": Vendor(
        "Groq",
        "https://api.groq.com/openai/v1",
        "https://console.groq.com/docs/openai",
        REASONING | {"usage_in": "x_groq", "drop": ("logit_bias",), "drop_from_messages": ("name",)},
    ),
    "deepseek": Vendor(
        "DeepSeek",
        "https://api.deepseek.com/v1",
        "https://api-docs.deepseek.com/api/create-chat-completion",
        SYSTEM | MAX_TOKENS | {"finish_reasons": {"insufficient_system_resource": "error"}},
    ),
    "openrouter": Vendor(
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        "https://openrouter.ai/docs/api-reference/overview",
        REASONING | {"finish_reasons": {"error": "error"}},
    ),
    "together": Vendor(
        "Together AI",
        "https://api.together.ai/v1",
        "https://docs.together.ai/docs/openai-api-compatibility",
        REASONING | MAX_TOKENS | SYSTEM | {"finish_reasons": ENDS},
        hosts=("api.together.xyz",),
    ),
    "fireworks": Vendor(
        "Fireworks AI",
        "https://api.fireworks.ai/inference/v1",
        "https://docs.fireworks.ai/tools-sdks/openai-compatibility",
    ),
    "xai": Vendor("xAI", "https://api.x.ai/v1", "https://docs.x.ai/docs/api-reference"),
    "perplexity": Vendor(
        "Perplexity",
        "https://api.perplexity.ai",
        "https://docs.perplexity.ai/api-reference/chat-completions-post",
        SYSTEM | MAX_TOKENS | {"lists_models": False, "drop": ("seed", *OURS)},
    ),
    "cerebras": Vendor(
        "Cerebras",
        "https://api.cerebras.ai/v1",
        "https://inference-docs.cerebras.ai/resources/openai",
        REASONING | SYSTEM,
    ),
    "nebius": Vendor(
        "Nebius Token Factory",
        "https://api.tokenfactory.nebius.com/v1",
        "https://docs.tokenfactory.nebius.com/api-reference",
        MAX_TOKENS,
        hosts=("api.studio.nebius.com", "api.studio.nebius.ai"),
    ),
    "sambanova": Vendor(
        "SambaNova",
        "https://api.sambanova.ai/v1",
        "https://docs.sambanova.ai/docs/en/features/openai-compatibility",
        REASONING | SYSTEM | {"floats_only": True},
    ),
    "moonshot": Vendor(
        "Moonshot AI (Kimi)",
        "https://api.moonshot.ai/v1",
        "https://platform.moonshot.ai/docs/api/chat",
        SYSTEM | MAX_TOKENS | {"usage_in": "choices"},
        hosts=("api.moonshot.cn",),
    ),
    "zai": Vendor(
        "Z.ai (GLM)",
        "https://api.z.ai/api/paas/v4",
        "https://docs.z.ai/api-reference/llm/chat-completion",
        SYSTEM
        | MAX_TOKENS
        | {
            "finish_reasons": {
                "sensitive": "content_filter",
                "model_context_window_exceeded": "length",
                "network_error": "error",
            }
        },
        hosts=("open.bigmodel.cn",),
    ),
    "dashscope": Vendor(
        "Alibaba Cloud (DashScope)",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "https://www.alibabacloud.com/help/en/model-studio/compatibility-of-openai-with-dashscope",
        SYSTEM | MAX_TOKENS,
        hosts=("dashscope.aliyuncs.com", "dashscope-us.aliyuncs.com"),
    ),
    "huggingface": Vendor(
        "Hugging Face router",
        "https://router.huggingface.co/v1",
        "https://huggingface.co/docs/inference-providers/index",
        REASONING | {"finish_reasons": ENDS},
    ),
    "nvidia": Vendor(
        "NVIDIA NIM",
        "https://integrate.api.nvidia.com/v1",
        "https://docs.api.nvidia.com/nim/reference/llm-apis",
        SYSTEM | MAX_TOKENS | {"drop": OURS},
    ),
    "github": Vendor(
        "GitHub Models",
        "https://models.github.ai/inference",
        "https://docs.github.com/en/rest/models/inference",
        hosts=("models.inference.ai.azure.com",),
    ),
    "cohere": Vendor(
        "Cohere",
        "https://api.cohere.ai/compatibility/v1",
        "https://docs.cohere.com/docs/compatibility-api",
        {"drop": (*OURS, "service_tier", "parallel_tool_calls", "metadata")},
    ),
    "deepinfra": Vendor(
        "DeepInfra", "https://api.deepinfra.com/v1/openai", "https://deepinfra.com/docs/openai_api", MAX_TOKENS
    ),
    "minimax": Vendor("MiniMax", "https://api.minimax.io/v1", "https://platform.minimax.io/docs/api-reference"),
    "novita": Vendor(
        "Novita AI", "https://api.novita.ai/v3/openai", "https://novita.ai/docs/guides/llm-api", MAX_TOKENS
    ),
    "scaleway": Vendor(
        "Scaleway", "https://api.scaleway.ai/v1", "https://www.scaleway.com/en/docs/generative-apis/", MAX_TOKENS
    ),
    "ovhcloud": Vendor(
        "OVHcloud AI Endpoints",
        "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
        "https://docs.ovhcloud.com/en/guides/public-cloud/ai-machine-learning/ai-endpoints-getting-started",
        MAX_TOKENS,
    ),
    "google": Vendor(
        "Google Gemini, in OpenAI's dialect",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "https://ai.google.dev/gemini-api/docs/openai",
    ),
    "vllm": Vendor(
        "vLLM",
        "http://localhost:8000/v1",
        "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
        REASONING,
    ),
    "llamacpp": Vendor(
        "llama.cpp server",
        "http://localhost:8080/v1",
        "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
    ),
    "lmstudio": Vendor(
        "LM Studio", "http://localhost:1234/v1", "https://lmstudio.ai/docs/developer/openai-compat", REASONING
    ),
    "ollama": Vendor(
        "Ollama, in OpenAI's dialect",
        "http://localhost:11434/v1",
        "https://docs.ollama.com/api/openai-compatibility",
        REASONING | SYSTEM | MAX_TOKENS,
    ),
    "localai": Vendor("LocalAI", "http://localhost:8080/v1", "https://localai.io/features/", MAX_TOKENS),
    "tgi": Vendor(
        "Text Generation Inference",
        "http://localhost:3000/v1",
        "https://huggingface.co/docs/text-generation-inference/messages_api",
        SYSTEM | MAX_TOKENS | {"finish_reasons": ENDS},
    ),
    "litellm": Vendor("LiteLLM proxy", "http://localhost:4000/v1", "https://docs.litellm.ai/docs/simple_proxy"),
}


def host_of(base_url: str) -> str:
    """The host of a base URL, empty where it has none."""
    try:
        return urlsplit(base_url).hostname or ""
    except ValueError:
        return ""


_BY_HOST: Final = {
    host: name
    for name, vendor in VENDORS.items()
    if not vendor.is_local
    for host in (host_of(vendor.base_url), *vendor.hosts)
}


@lru_cache(maxsize=1024)
def name_at(base_url: str) -> str:
    """Which row speaks for the host of a base URL; empty = none."""
    return _BY_HOST.get(host_of(base_url), "")


def merged(base_url: str, own: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a provider at that address, on top of its vendor's."""
    vendor = VENDORS.get(str(own["vendor"]) if "vendor" in own else name_at(base_url))
    if vendor is None or not vendor.settings:
        return own
    return {**vendor.settings, **own} if own else vendor.settings


def settings_of(upstream: Upstream) -> Mapping[str, Any]:
    """A provider's settings on top of its vendor's."""
    return merged(upstream.base_url, upstream.settings)
