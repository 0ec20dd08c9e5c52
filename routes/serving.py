"""What the surfaces of API-key clients have in common: calls, models, counted requests. Each brings its own errors."""

from typing import Final
from urllib.parse import quote

from flask import Response, request

from routes import headers as limit_headers
from routes import render
from services import explain as explanation
from services.dialects import OPENAI, RESPONSES, openai, responses
from services.dialects.base import Dialect
from services.errors import AccountingUnavailable, GatewayError, InvalidRequest, NotFound
from services.stream import Stream
from services.types import CHAT, Call, Caller, PublicModel
from utils.extensions import gateway

STREAM_HEADERS: Final = {"cache-control": "no-cache", "x-accel-buffering": "no"}
NOTED: Final = {"X-CUSTOM-EVENT-ID": 255, "X-METADATA": 4000}  # stored with the usage of a call
SOCKETS: Final = ("gunicorn.socket", "werkzeug.socket")


def serve(caller: Caller, operation: str, dialect: Dialect) -> Response:
    """The answer to a call in its caller's dialect, whole or streamed.

    Raises:
        GatewayError: the call was refused or failed, and is booked if it cost anything.
    """
    return answer(read(caller, operation, dialect), dialect)


def read(caller: Caller, operation: str, dialect: Dialect) -> Call:
    """The request as a call.

    Raises:
        InvalidRequest: its body, or one of the headers that name it.
    """
    return _call(operation, request.get_data(cache=False), caller, dialect)


def answer(call: Call, dialect: Dialect) -> Response:
    """The answer to a call, see `serve`."""
    answered = gateway().pipeline.open(call, dialect, socket=_caller_socket())
    headers = {**call.upstream_headers, "x-request-id": call.id, **limit_headers.of_call(call)}
    if call.dropped:
        headers["x-gateway-dropped-params"] = quote(",".join(call.dropped), safe=",")[:1000]
    if call.max_output_tokens is not None:
        headers["x-gateway-max-output-tokens"] = str(call.max_output_tokens)
    if not isinstance(answered, Stream):
        return Response(answered, 200, headers, content_type=call.content_type)
    response = Response(iter(answered), 200, headers | STREAM_HEADERS, content_type="text/event-stream; charset=utf-8")
    response.call_on_close(answered.close)  # runs even if the body is never read, and perhaps twice
    return response


def explain(caller: Caller) -> Response:
    """What would become of a call with this request's body.

    Raises:
        InvalidRequest: the body is no call.
        AccountingUnavailable: the books cannot be read.
    """
    raw = request.get_data(cache=False)
    body = openai.members(raw)
    dialect = RESPONSES if "input" in body and responses.is_meant(body) else OPENAI
    call = _call(CHAT if dialect is RESPONSES else openai.operation_of(body), raw, caller, dialect)
    if dialect is RESPONSES:
        gateway().responses.admit(call)
    try:
        return render.answer(explanation.of_plan(*gateway().pipeline.explain(call, dialect)))
    except AccountingUnavailable:
        raise
    except GatewayError as exc:
        return render.answer(explanation.of_refusal(call, exc))


def counted(caller: Caller) -> dict[str, str]:
    """Count a request that is no call; returns the headers that say what its limits have left.

    Raises:
        RateLimited, AccountingUnavailable: see Admission.count_request.
    """
    here = gateway()
    limits = here.layers.of(caller, request.remote_addr or "")
    return limit_headers.of_rooms(here.accounting.admission.count_request(caller, limits))


def list_models(caller: Caller) -> Response:
    """The models this caller may use."""
    headers = counted(caller)
    listed = gateway().catalog.snapshot().models.values()
    data = [_entry(model) for model in listed if _is_offered(model, caller)]
    return render.answer({"object": "list", "data": data}, headers=headers)


def show_model(caller: Caller, name: str) -> Response:
    """One model.

    Raises:
        NotFound: there is none, or none that this caller may use.
    """
    headers = counted(caller)
    found = find_model(caller, name)
    if found is None:
        raise NotFound(f"Model '{name}' not found", param="model_id", code="model_not_found")
    return render.answer(_entry(found), headers=headers)


def find_model(caller: Caller, name: str) -> PublicModel | None:
    """A model that this caller may use."""
    found = gateway().catalog.snapshot().models.get(name)
    return found if found is not None and _is_offered(found, caller) else None


def _call(operation: str, raw: bytes, caller: Caller, dialect: Dialect) -> Call:
    """The request as a call.

    Raises:
        InvalidRequest: its body, or one of the headers that name it.
    """
    call = dialect.call(operation, raw, caller, render.request_id())
    given = request.headers
    call.forwarded = tuple((name, given[name]) for name in dialect.forwards if name in given)
    call.address = request.remote_addr or ""
    call.custom_id, call.client_metadata = (_noted(name, most) for name, most in NOTED.items())
    return call


def _noted(name: str, most: int) -> str | None:
    """A header that the caller wants to find again in the usage."""
    value = request.headers.get(name)
    if not value:
        return None
    try:
        text = value.encode("latin-1").decode()  # WSGI hands on every byte as a character of its own
    except UnicodeDecodeError:
        text = value
    if len(text) > most or not text.isprintable():
        raise InvalidRequest(f"The header {name} may have {most} printable characters.", param=name)
    return text


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
