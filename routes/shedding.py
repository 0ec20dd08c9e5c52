"""Requests that call a provider, or read a whole list, take a place of the worker until their answer is over."""

from typing import Final

from flask import Flask, Response

from services.shedding import BULK, CALL, TRIAL, Shedding
from utils.extensions import this_request

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
    places: Shedding = app.extensions["gateway"].shedding
    app.before_request(lambda: _enter(places))
    app.after_request(lambda response: _leave_at_the_end(places, response))
    app.teardown_request(lambda exc: _leave_after_a_failure(places, exc))


def kind_of() -> str | None:
    """What the request is among those that take a place; None = it takes none."""
    asked = this_request()
    endpoint = asked.endpoint or ""
    if endpoint.endswith(LISTS):
        return TRIAL
    kind = KINDS.get(asked.blueprint or "") if asked.method == "POST" else None
    return BULK if kind == CALL and asked.path.endswith(BULKY) else kind


def _enter(places: Shedding) -> None:
    kind = kind_of()
    if kind is not None:
        places.enter(kind)
        this_request().environ[PLACED] = True


def _leave_at_the_end(places: Shedding, response: Response) -> Response:
    environ = this_request().environ
    placed = environ.get(PLACED)
    if placed is True:
        placed = environ[PLACED] = _Place(places)
    if placed is not None:
        response.call_on_close(placed.leave)
    return response


def _leave_after_a_failure(places: Shedding, exc: BaseException | None) -> None:
    """There was no response to hang it on, or it was replaced by another one."""
    environ = this_request().environ
    placed = environ.get(PLACED)
    if placed is True:
        del environ[PLACED]
        places.leave()
    elif placed is not None and exc is not None:
        placed.leave()


class _Place:
    """One that is left once, however often and by whatever response."""

    def __init__(self, places: Shedding) -> None:
        self._places: Shedding | None = places

    def leave(self) -> None:
        """Give it back."""
        places, self._places = self._places, None
        if places is not None:
            places.leave()
