"""What the surfaces of API-key clients have in common: calls, models, counted requests. Each brings its own errors."""

import hashlib
from typing import Final
from urllib.parse import quote

from flask import Response, request

from routes import headers as limit_headers
from routes import render
from services.caching import HIT, Caching, wish_of
from services.dialects import anthropic
from services.dialects.base import Dialect
from services.errors import GatewayError, InvalidRequest, NotFound
from services.recorded import Replayed
from services.repeats import HEADER, Repeat
from services.stream import Streamed
from services.traces import PARENT, STATE
from services.types import Call, Caller, PublicModel
from utils import clock
from utils.extensions import gateway, this_request

EVENTS: Final = "text/event-stream; charset=utf-8"
STREAM_HEADERS: Final = {"cache-control": "no-cache", "x-accel-buffering": "no"}
NOTED: Final = {"X-CUSTOM-EVENT-ID": 255, "X-METADATA": 4000}  # stored with the usage of a call
MOST_PATH: Final = 200  # characters, as stored
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
    return call_of(operation, this_request().get_data(cache=False), caller, dialect)


def answer(call: Call, dialect: Dialect) -> Response:
    """The answer to a call that `noted` has seen.

    Raises:
        GatewayError: see `serve`.
    """
    call.caching = Caching(wish_of(this_request().headers.get("Cache-Control")))
    if call.fingerprint is None:
        return respond(call, opened(call, dialect))
    repeats = gateway().control.repeats
    begun = repeats.begin(call, request.headers[HEADER])
    if isinstance(begun, Repeat):
        return _again(call, begun)
    try:
        answered = opened(call, dialect)
        response = respond(call, repeats.keep(begun, call, answered, _about(call)))
    except BaseException:
        repeats.give_up(begun)
        raise
    return response


def opened(call: Call, dialect: Dialect) -> "bytes | Streamed":
    """The same answer before it is a response: whole and booked, or to be iterated and closed.

    Raises:
        GatewayError: see `serve`.
    """
    try:
        return gateway().pipeline.open(call, dialect, socket=_caller_socket())
    except GatewayError:
        if call.attempts:
            request.environ[render.ROUTE] = _of_route(call)
        raise


def respond(call: Call, answered: "bytes | Streamed", status: int = 200) -> Response:
    """The response with an answer that was opened, and all that its headers tell."""
    headers = {**_about(call), "x-request-id": call.id, **limit_headers.of_call(call), **_of_route(call)}
    if call.dialect == anthropic.NAME:
        headers |= limit_headers.for_anthropic(call.room) | {anthropic.ID_HEADER: call.id}
    if call.prompt is not None:
        headers["x-gateway-prompt"] = call.prompt
    if call.caching is not None and call.caching.told is not None:
        headers["x-gateway-cache"] = call.caching.told
        if call.caching.told == HIT:
            headers["age"] = str(call.caching.age_s)
    return _rendered(call, answered, status, headers)


def _rendered(call: Call, answered: "bytes | Streamed", status: int, headers: dict[str, str]) -> Response:
    if isinstance(answered, bytes):
        return Response(answered, status, headers, content_type=call.content_type)
    kind = call.content_type if call.is_binary else EVENTS
    response = Response(iter(answered), status, headers | STREAM_HEADERS, content_type=kind)
    response.call_on_close(answered.close)  # runs even if the body is never read, and perhaps twice
    return response


def _again(call: Call, repeat: Repeat) -> Response:
    """The answer that the first call with the same `Idempotency-Key` was given. This one counts as a request alone."""
    answer, call.content_type = repeat.answer, repeat.answer.content_type
    headers = {**answer.headers, **counted(call.caller), "x-request-id": call.id}
    headers |= {"x-gateway-replayed": "true", "x-gateway-replay-of": repeat.request_id}
    if call.dialect == anthropic.NAME:
        headers[anthropic.ID_HEADER] = call.id
    return _rendered(call, Replayed(answer.parts) if answer.is_stream else answer.parts[0], answer.status, headers)


def _about(call: Call) -> dict[str, str]:
    """What headers say of an answer itself, whoever gets it and when."""
    headers = {**call.upstream_headers}
    if call.dropped:
        headers["x-gateway-dropped-params"] = quote(",".join(call.dropped), safe=",")[:1000]
    if call.max_output_tokens is not None:
        headers["x-gateway-max-output-tokens"] = str(call.max_output_tokens)
    return headers


def _of_route(call: Call) -> dict[str, str]:
    """Where the answer came from, or who was asked last, and what the gateway itself took."""
    served, own_s = call.deployment, clock.monotonic_s() - call.started_s - call.upstream_s
    headers = {"x-gateway-attempts": str(len(call.attempts)), "x-gateway-overhead-ms": f"{max(0.0, own_s) * 1000:.1f}"}
    if served is not None:
        headers["x-gateway-deployment"] = quote(f"{served.upstream.name}/{served.model}", safe="/ :.@")
    return headers


def counted(caller: Caller) -> dict[str, str]:
    """Count a request that is no call; returns the headers that say what its limits have left.

    Raises:
        RateLimited, AccountingUnavailable: see Admission.count_request.
    """
    here = gateway()
    limits = here.layers.of(caller, request.remote_addr or "")
    try:
        return limit_headers.of_rooms(here.accounting.admission.count_request(caller, limits))
    except GatewayError as exc:
        exc.refuse(caller)
        raise


def offered(caller: Caller) -> list[PublicModel]:
    """The models this caller may use."""
    return [model for model in gateway().catalog.snapshot().models.values() if _is_offered(model, caller)]


def found(caller: Caller, name: str) -> PublicModel:
    """One model.

    Raises:
        NotFound: there is none, or none that this caller may use.
    """
    model = gateway().catalog.snapshot().model(name)
    if model is None or not _is_offered(model, caller):
        raise NotFound(f"Model '{name}' not found", param="model_id", code="model_not_found")
    return model


def list_models(caller: Caller) -> Response:
    """The models this caller may use."""
    headers = counted(caller)
    data = [_entry(model) for model in offered(caller)]
    return render.answer({"object": "list", "data": data}, headers=headers)


def show_model(caller: Caller, name: str) -> Response:
    """One model.

    Raises:
        NotFound: there is none, or none that this caller may use.
    """
    headers = counted(caller)
    return render.answer(_entry(found(caller, name)), headers=headers)


def call_of(operation: str, raw: bytes, caller: Caller, dialect: Dialect) -> Call:
    """The request as a call.

    Raises:
        InvalidRequest: its body, or one of the headers that name it.
    """
    call = noted(dialect.call(operation, raw, caller, render.request_id()), dialect)
    call.fingerprint = fingerprint(raw)
    call.record = gateway().bodies.record(caller, raw, this_request().content_type or "")
    return call


def noted(call: Call, dialect: Dialect) -> Call:
    """The call with what the headers and the address of its request say.

    Raises:
        InvalidRequest: one of the headers that name it.
    """
    asked = this_request()
    given = asked.headers
    call.forwarded = tuple((name, given[name]) for name in dialect.forwards if name in given)
    call.address, call.marks.path = asked.remote_addr or "", asked.path[:MOST_PATH]
    if (telemetry := gateway().outlets.telemetry) is not None:
        call.span = telemetry.begin(given.get(PARENT), given.get(STATE))
    call.custom_id, call.client_metadata = (_noted(name, given.get(name), most) for name, most in NOTED.items())
    return call


def fingerprint(*parts: bytes) -> str | None:
    """A digest of the request with this body, where its caller may repeat it, else nothing."""
    if HEADER not in this_request().headers:
        return None
    digests = [hashlib.sha256(part).digest() for part in (request.path.encode(), *parts)]
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _noted(name: str, value: str | None, most: int) -> str | None:
    """A header that the caller wants to find again in the usage."""
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
    environ = this_request().environ
    for name in SOCKETS:
        if (socket := environ.get(name)) is not None:
            return int(socket.fileno())
    return None


def _is_offered(model: PublicModel, caller: Caller) -> bool:
    return any(map(caller.may_reach, model.deployments)) and caller.may_use(model.name)


def _entry(model: PublicModel) -> dict[str, object]:
    return {"id": model.name, "object": "model", "created": model.created_s, "owned_by": model.owned_by}
