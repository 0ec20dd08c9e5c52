"""A call from the playground: the pipeline of /v1 on behalf of whoever has signed in with this browser."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial, wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from flask import Flask, Response, current_app, request
from flask_babel import force_locale, get_locale
from werkzeug.exceptions import RequestEntityTooLarge

from models import UsageRecord
from routes import render, serving, wording
from routes.admin.guard import admin
from services.dialects import openai
from services.dialects.base import Dialect
from services.errors import BodyTooLarge, GatewayError, InvalidRequest
from services.pricing import amount_nanousd, charge_lines
from services.stream import Streamed
from services.types import CHAT, Call, Caller
from utils import clock, native, sse
from utils.extensions import DATABASE_DOWN, gateway

JSON: Final = "application/json"
SURFACE: Final = "/v1/chat/completions"  # lists of paths say who may use it, from wherever
FIGURES: Final = b"event: figures\n"  # the last event of a stream, after that of the dialect
V = TypeVar("V")
P = ParamSpec("P")


def caller() -> Caller:
    """Who has signed in with this browser, as who asks.

    Raises:
        AuthenticationFailed: the account was disabled a moment ago.
    """
    return gateway().accounts.caller(admin())


def in_json(view: Callable[Concatenate[V, P], Response]) -> Callable[Concatenate[V, P], Response]:
    """What fails in the view is told as JSON, in the person's language."""

    @wraps(view)
    def told(self: V, /, *args: P.args, **kwargs: P.kwargs) -> Response:
        try:
            return view(self, *args, **kwargs)
        except GatewayError as exc:
            return refusal(exc)
        except RequestEntityTooLarge:
            return too_large()
        except DATABASE_DOWN as exc:
            return refusal(render.no_database(exc))

    return told


def body() -> bytes:
    """The body of the request, which is JSON: other sites cannot send that without asking the browser.

    Raises:
        InvalidRequest: it says that it is something else.
    """
    if request.mimetype != JSON:
        raise InvalidRequest("The content type is not supported; send application/json.")
    return request.get_data(cache=False)


def answer() -> Response:
    """The answer to the call in the body, whole or streamed; a stream ends with an event that has its figures.

    Raises:
        GatewayError: see serving.serve.
    """
    native.give_way()
    raw, dialect = body(), _dialect()
    call = admitted(raw, dialect)
    opened = serving.opened(call, dialect)
    return serving.respond(call, opened if isinstance(opened, bytes) else Figured(opened, call))


def admitted(raw: bytes, dialect: Dialect, who: Caller | None = None) -> Call:
    """The call in a body, of somebody whose lists allow it.

    Raises:
        PermissionDenied: a list of paths does not have the surface whose calls these are.
        InvalidRequest: the body is no chat.
    """
    who = who or caller()
    gateway().callers.check_access(who, "POST", SURFACE, request.remote_addr or "")
    return serving.call_of(CHAT, raw, who, dialect)


class Figured:
    """A streamed answer with its figures at the end. Iterate once, then close."""

    def __init__(self, stream: Streamed, call: Call) -> None:
        self._stream, self._call = stream, call

    def __iter__(self) -> Iterator[bytes]:
        """The events of the answer; it is booked before the last one of them."""
        yield from self._stream
        if self._call.is_finished:
            yield FIGURES + sse.format_event(figures(self._call))

    def close(self) -> None:
        """Book the call, however far it came; further calls do nothing."""
        self._stream.close()


def figures(call: Call) -> dict[str, Any]:
    """What was booked for a call that ended, times in milliseconds."""
    usage, price = call.usage, call.deployment.price if call.deployment else None
    is_charged = usage is not None and usage.input_tokens is not None  # else its row is void
    lines = charge_lines(usage, price) if usage is not None and price is not None and is_charged else ()
    now_s = clock.monotonic_s()
    return {
        "request_id": call.id,
        "outcome": call.outcome,
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cached_tokens": usage.cache_read_input_tokens if usage else None,
        "reasoning_tokens": usage.reasoning_output_tokens if usage else None,
        "cost_nanousd": amount_nanousd(lines),
        "first_byte_ms": None if call.first_byte_s is None else round((call.first_byte_s - call.started_s) * 1000),
        "duration_ms": round((now_s - call.started_s) * 1000),
        "dropped": list(call.dropped),
        "warnings": list(call.warnings),
    }


def booked(row: UsageRecord) -> dict[str, Any]:
    """The same of a call whose row is there."""
    return {
        "request_id": row.request_id,
        "outcome": row.outcome,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cached_tokens": row.cache_read_input_tokens,
        "reasoning_tokens": row.reasoning_output_tokens,
        "cost_nanousd": row.cost_nanousd,
        "first_byte_ms": row.first_byte_ms,
        "duration_ms": row.duration_ms,
        "dropped": [],
        "warnings": [],
    }


def _dialect() -> Dialect:
    """OpenAI's, whose errors inside a stream are in the language of the person."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - Flask documents it
    return replace(gateway().control.prompts.dialect, error_event=partial(_error_event, app, str(get_locale())))


def _error_event(app: Flask, locale: str, exc: GatewayError) -> bytes:
    """An error as an event; by then the context of the request is gone."""
    with app.app_context(), force_locale(locale):
        exc.args = (wording.say(str(exc)),)
    return sse.format_event(openai.error_body(exc))


def too_large() -> Response:
    """What a body gets that has more than MAX_BODY_BYTES."""
    return refusal(BodyTooLarge("The request body is too large."))


def refusal(exc: GatewayError) -> Response:
    """An error before any answer: a sentence with rule, numbers and the time of the reset."""
    render.note(exc, render.request_id())
    told = openai.error_body(exc)["error"] | {
        "message": wording.say(str(exc)),
        "details": wording.details(exc),
        "retry_after_s": exc.retry_after_s,
        "request_id": render.request_id(),
    }
    return render.answer({"error": told}, exc.status)
