"""Requests that call a provider, or read a whole list, take a place of the worker until their answer is over."""

from typing import Final

from flask import Flask, Response, request

from services.shedding import BULK, CALL, TRIAL, Shedding
from utils.extensions import gateway

PLACED: Final = "tollhouse.placed"  # in the WSGI environment: True, or the place that its response gives back
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
    placed = request.environ.get(PLACED)
    if placed is True:
        placed = request.environ[PLACED] = _Place()
    if placed is not None:
        response.call_on_close(placed.leave)
    return response


def _leave_after_a_failure(exc: BaseException | None) -> None:
    """There was no response to hang it on, or it was replaced by another one."""
    placed = request.environ.get(PLACED)
    if placed is True:
        del request.environ[PLACED]
        gateway().shedding.leave()
    elif placed is not None and exc is not None:
        placed.leave()


class _Place:
    """One that is left once, however often and by whatever response."""

    def __init__(self) -> None:
        self._places: Shedding | None = gateway().shedding

    def leave(self) -> None:
        """Give it back."""
        places, self._places = self._places, None
        if places is not None:
            places.leave()
