"""`/v1`: OpenAI's surface. Parse, call the pipeline, render; nothing else."""

from flask import Blueprint, Response

from routes import explaining, messages, render, serving
from services.dialects import OPENAI
from services.types import CHAT, COMPLETION, EMBEDDING, Caller
from utils.decorators import require_api_key
from utils.extensions import gateway

bp = Blueprint("llm", __name__, url_prefix="/v1")


@bp.post("/chat/completions")
@require_api_key
def chat_completions(caller: Caller) -> Response:
    """A chat answer, whole or streamed."""
    return serving.serve(caller, CHAT, gateway().control.prompts.dialect)


@bp.post("/completions")
@require_api_key
def completions(caller: Caller) -> Response:
    """The continuation of a text, whole or streamed."""
    return serving.serve(caller, COMPLETION, OPENAI)


@bp.post("/embeddings")
@require_api_key
def embeddings(caller: Caller) -> Response:
    """Vectors of texts."""
    return serving.serve(caller, EMBEDDING, OPENAI)


@bp.post("/explain")
@require_api_key
def explain(caller: Caller) -> Response:
    """What would become of a request with this body, without asking or charging anybody."""
    return explaining.explain(caller)


@bp.get("/models")
@require_api_key
def models(caller: Caller) -> Response:
    """The models this caller may use, in the form of the API whose client asks."""
    return messages.list_models(caller) if render.speaks_anthropic() else serving.list_models(caller)


@bp.get("/models/<path:name>")
@require_api_key
def model(caller: Caller, name: str) -> Response:
    """One model; names may contain slashes."""
    return messages.show_model(caller, name) if render.speaks_anthropic() else serving.show_model(caller, name)


@bp.get("/")
def welcome() -> Response:
    """A sign of life that needs no key."""
    return render.answer({"message": "Welcome to Tollhouse - Version 1"})


@bp.get("/health")
def health() -> Response:
    """The same for health checks."""
    return render.answer({"status": "ok"})
