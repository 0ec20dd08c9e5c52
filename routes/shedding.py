"""Requests that call a provider, or read a whole list, take a place of the worker until their answer is over."""

from typing import Final

from flask import Flask, Response, request

from services.shedding import BULK, CALL, TRIAL
from utils.extensions import gateway

PLACED: Final = "tollhouse.placed"  # in the WSGI environment: this request has a place
KINDS: Final = {  # by the blueprint of the route; what is asked with GET there is quick
    "llm": CALL,
    "messages": CALL,
    "responses": CALL,
    "proxy": CALL,
    "calls_of_routes": CALL,
    "legacy": CALL,
    "dialogs": CALL,
    "media": BULK,
    "files": BULK,
    "playground": TRIAL,
    "mydialogs": TRIAL,
}
BULKY: Final = ("/embeddings", "/moderations", "/rerank")  # also where a blueprint has other calls
LISTS: Final = (".csv_view", ".jsonl_view", "exports.export")  # whole lists


def register(app: Flask) -> None:
    """Have every request of the app ask for a place."""
    app.before_request(_enter)
    app.after_request(_leave_at_the_end)
    app.teardown_request(_leave_after_a_failure)


def kind_of() -> str | None:
    """What the request is among those that take a place; None = it takes none."""
    endpoint = request.endpoint or ""
    if endpoint.endswith(LISTS):
        return TRIAL
    kind = KINDS.get(request.blueprint or "") if request.method == "POST" else None
    return BULK if kind == CALL and request.path.endswith(BULKY) else kind


def _enter() -> None:
    kind = kind_of()
    if kind is not None:
        gateway().shedding.enter(kind)
        request.environ[PLACED] = True


def _leave_at_the_end(response: Response) -> Response:
    if request.environ.pop(PLACED, False):
        places, is_taken = gateway().shedding, True

        def over() -> None:
            nonlocal is_taken
            if is_taken:  # `close` may be called twice
                is_taken = False
                places.leave()

        response.call_on_close(over)
    return response


def _leave_after_a_failure(_exc: BaseException | None) -> None:
    """There was no response to hang it on."""
    if request.environ.pop(PLACED, False):
        gateway().shedding.leave()
