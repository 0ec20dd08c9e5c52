"""Ollama for code inside the app, such as a script in `flask shell`: admitted and booked like every call of `/v1`."""

from collections.abc import Iterable, Mapping
from typing import Any

from services.catalog import Catalog
from services.dialects import OPENAI
from services.pipeline import Pipeline
from services.stream import Streamed
from services.types import CHAT, COMPLETION, Caller, Chat
from utils import ids, jsonx

Answer = Chat | Streamed


class OllamaService:
    """What the Ollama servers of the catalogue offer, on behalf of one caller."""

    def __init__(self, catalog: Catalog, pipeline: Pipeline, caller: Caller) -> None:
        self._catalog, self._pipeline, self._caller = catalog, pipeline, caller

    def get_models(self) -> list[str]:
        """The models that this caller may use and an Ollama server has, by the names callers use."""
        return [
            name
            for name, model in self._catalog.snapshot().models.items()
            if self._caller.may_use(name) and any(one.upstream.kind == "ollama" for one in model.deployments)
        ]

    def generate_chat_completion(
        self, model: str, prompt: str | Iterable[Chat], data: Mapping[str, Any], stream: bool = False
    ) -> Answer:
        """An answer to a text or a list of messages; `data` holds further members of an OpenAI chat request.

        A stream gives bytes of server-sent events and must be closed.

        Raises:
            GatewayError: as on `/v1/chat/completions`.
        """
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        return self._generate(CHAT, {**data, "model": model, "messages": messages, "stream": stream})

    def generate_completion(self, model: str, prompt: str, data: Mapping[str, Any]) -> Answer:
        """The continuation of a text; a stream if `data` says so.

        Raises:
            GatewayError: as on `/v1/completions`.
        """
        return self._generate(COMPLETION, {**data, "model": model, "prompt": prompt})

    def _generate(self, operation: str, body: Chat) -> Answer:
        call = OPENAI.call(operation, jsonx.dumps(body), self._caller, ids.request_id())
        answered = self._pipeline.open(call, OPENAI, socket=None)
        return jsonx.loads(answered) if isinstance(answered, bytes) else answered
