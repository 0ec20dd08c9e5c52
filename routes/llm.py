"""`/v1`: OpenAI's surface. Parse, call the pipeline, render; nothing else."""

from typing import Final
from urllib.parse import quote

from flask import Blueprint, Response, request

from routes import headers as limit_headers
from routes import render
from services import explain as explanation
from services.dialects import openai
from services.errors import AccountingUnavailable, GatewayError, InvalidRequest, NotFound
from services.stream import Stream
from services.types import CHAT, COMPLETION, EMBEDDING, Call, Caller, PublicModel
from utils.decorators import require_api_key
from utils.extensions import gateway

bp = Blueprint("llm", __name__, url_prefix="/v1")

STREAM_HEADERS: Final = {"cache-control": "no-cache", "x-accel-buffering": "no"}
NOTED: Final = {"X-CUSTOM-EVENT-ID": 255, "X-METADATA": 4000}  # stored with the usage of a call
SOCKETS: Final = ("gunicorn.socket", "werkzeug.socket")


@bp.post("/chat/completions")
@require_api_key
def chat_completions(caller: Caller) -> Response:
    """A chat answer, whole or streamed."""
    return _serve(caller, CHAT)


@bp.post("/completions")
@require_api_key
def completions(caller: Caller) -> Response:
    """The continuation of a text, whole or streamed."""
    return _serve(caller, COMPLETION)


@bp.post("/embeddings")
@require_api_key
def embeddings(caller: Caller) -> Response:
    """Vectors of texts."""
    return _serve(caller, EMBEDDING)


@bp.post("/explain")
@require_api_key
def explain(caller: Caller) -> Response:
    """What would become of a request with this body, without asking or charging anybody."""
    raw = request.get_data(cache=False)
    call = _call(openai.operation_of(openai.members(raw)), raw, caller)
    try:
        return render.answer(explanation.of_plan(*gateway().pipeline.explain(call, openai.demand)))
    except AccountingUnavailable:
        raise
    except GatewayError as exc:
        return render.answer(explanation.of_refusal(call, exc))


@bp.get("/models")
@require_api_key
def models(caller: Caller) -> Response:
    """The models this caller may use."""
    listed = gateway().catalog.snapshot().models.values()
    return render.answer({"object": "list", "data": [_entry(model) for model in listed if _is_offered(model, caller)]})


@bp.get("/models/<path:name>")
@require_api_key
def model(caller: Caller, name: str) -> Response:
    """One model; names may contain slashes."""
    found = gateway().catalog.snapshot().models.get(name)
    if found is None or not _is_offered(found, caller):
        raise NotFound(f"Model '{name}' not found", param="model_id", code="model_not_found")
    return render.answer(_entry(found))


@bp.get("/")
def welcome() -> Response:
    """A sign of life that needs no key."""
    return render.answer({"message": "Welcome to Tollhouse - Version 1"})


@bp.get("/health")
def health() -> Response:
    """The same for health checks."""
    return render.answer({"status": "ok"})


def _serve(caller: Caller, operation: str) -> Response:
    call = _call(operation, request.get_data(cache=False), caller)
    answered = gateway().pipeline.open(call, openai.demand, socket=_caller_socket(), render_error=openai.error_event)
    headers = {"x-request-id": call.id, **limit_headers.of_call(call)}
    if call.dropped:
        headers["x-gateway-dropped-params"] = quote(",".join(call.dropped), safe=",")[:1000]
    if call.max_output_tokens is not None:
        headers["x-gateway-max-output-tokens"] = str(call.max_output_tokens)
    if not isinstance(answered, Stream):
        return Response(answered, 200, headers, mimetype="application/json")
    response = Response(iter(answered), 200, headers | STREAM_HEADERS, content_type="text/event-stream; charset=utf-8")
    response.call_on_close(answered.close)  # runs even if the body is never read, and perhaps twice
    return response


def _call(operation: str, raw: bytes, caller: Caller) -> Call:
    """The request as a call.

    Raises:
        InvalidRequest: its body, or one of the headers that name it.
    """
    call = openai.call(operation, raw, caller, render.request_id())
    call.address = request.remote_addr or ""
    call.custom_id, call.client_metadata = (_noted(name, most) for name, most in NOTED.items())
    return call


def _noted(name: str, most: int) -> str | None:
    """A header that the caller wants to find again in the usage."""
    value = request.headers.get(name)
    if value is not None and (len(value) > most or not value.isprintable()):
        raise InvalidRequest(f"The header {name} may have {most} printable characters.", param=name)
    return value or None


def _caller_socket() -> int | None:
    """The file number of the caller's connection, to see when it goes away."""
    for name in SOCKETS:
        if (socket := request.environ.get(name)) is not None:
            return int(socket.fileno())
    return None


def _is_offered(model: PublicModel, caller: Caller) -> bool:
    return any(map(caller.may_reach, model.deployments)) and caller.may_use(model.name)


def _entry(model: PublicModel) -> dict[str, object]:
    return {"id": model.name, "object": "model", "created": model.created_s, "owned_by": model.owned_by}
