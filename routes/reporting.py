"""`/api/reporting`, `/api/events`, `/api/v2/events`: what calls came to, and the calls, for admins and programs."""

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from flask import Blueprint, Response, request

from routes import bodies, render
from routes.admin.exports import TYPES, harmless
from routes.keymanagement import answer, ignored
from services import fields
from services.audit import Actor
from services.callevents import MEMBERS, SEARCH
from services.errors import InvalidRequest
from services.keymanagement import Answer
from services.reporting import BY_DAY, EVENTS, TOP
from utils import jsonx
from utils.decorators import require_admin
from utils.extensions import gateway

bp = Blueprint("reporting", __name__, url_prefix="/api")

REPORTS: Final = "/reporting"
MAX_DIGITS: Final = 15
AT_ONCE: Final = 20  # events of a piece of a stream
CSV, NDJSON = TYPES["csv"], TYPES["jsonl"]

Event = dict[str, Any]


@bp.get(f"{REPORTS}/keys/<key_id>")
@require_admin
def key(actor: Actor, key_id: str) -> Response:
    """What a key has cost in all."""
    return render.answer(gateway().control.reporting.key(key_id))


@bp.post(f"{REPORTS}/events")
@require_admin
def over_time(actor: Actor) -> Response:
    """What calls came to in each increment of a time, and how long they took."""
    return _report(gateway().control.reporting.events, EVENTS)


@bp.post(f"{REPORTS}/events-by-day")
@require_admin
def by_day(actor: Actor) -> Response:
    """What each key's calls came to on each day."""
    return _report(gateway().control.reporting.events_by_day, BY_DAY)


@bp.post(f"{REPORTS}/top-keys")
@require_admin
def top_keys(actor: Actor) -> Response:
    """The keys by what they cost in a time."""
    return _report(gateway().control.reporting.top_keys, TOP)


@bp.get(f"{REPORTS}/user-ids")
@require_admin
def user_ids(actor: Actor) -> Response:
    """Who used a key."""
    return render.answer(gateway().control.reporting.user_ids(_key()))


@bp.get(f"{REPORTS}/custom-ids")
@require_admin
def custom_ids(actor: Actor) -> Response:
    """The names that callers gave to the calls of a key."""
    return render.answer(gateway().control.reporting.custom_ids(_key()))


@bp.get("/events")
@require_admin
def events(actor: Actor) -> Response:
    """The calls of a custom id, of a user, or of keys in a time."""
    given: dict[str, Any] = {name: request.args[name] for name in ("customId", "userId") if name in request.args}
    if "keyIds" in request.args:
        given["keyIds"] = request.args.getlist("keyIds")
    given |= {name: _seconds(name) for name in ("start", "end") if name in request.args}
    return render.answer(gateway().control.events.listed(actor, given))


@bp.post("/v2/events")
@require_admin
def search(actor: Actor) -> Response:
    """The calls that meet all filters of the body; as a stream of them all, where `accept` asks for one."""
    body = bodies.members()
    kind = request.accept_mimetypes.best_match(["application/json", *STREAMS], default="application/json")
    if kind in STREAMS:
        found = gateway().control.events.stream(actor, body)
        headers = {"x-request-id": render.request_id(), **ignored(fields.unknown(SEARCH, body))}
        return Response(STREAMS[kind](found), headers=headers, mimetype=kind)
    page = gateway().control.events.search(actor, body)
    headers = {"x-gateway-cut": "true"} if page.is_cut else {}
    return answer(Answer({"events": page.events, "count": page.count}, fields.unknown(SEARCH, body)), headers)


def _report(report: Callable[[Event], Event], parsers: Mapping[str, fields.Parse]) -> Response:
    body = bodies.members()
    return answer(Answer(report(body), fields.unknown(parsers, body)))


def _lines(events: Iterable[Event]) -> Iterator[str]:
    for some in _pieces(events):
        yield "".join(f"{jsonx.dumps(event).decode()}\n" for event in some)


def _table(events: Iterable[Event]) -> Iterator[str]:
    yield _rows([MEMBERS])
    for some in _pieces(events):
        yield _rows([_cell(event[name]) for name in MEMBERS] for event in some)


def _rows(cells: Iterable[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(cells)
    return out.getvalue()


STREAMS: Final[dict[str, Callable[[Iterable[Event]], Iterator[str]]]] = {NDJSON: _lines, CSV: _table}


def _pieces(events: Iterable[Event]) -> Iterator[list[Event]]:
    left = iter(events)
    while some := list(itertools.islice(left, AT_ONCE)):
        yield some


def _cell(value: Any) -> str:
    """A value as text that no spreadsheet runs."""
    if value is None or isinstance(value, str):
        return harmless(value or "")
    return jsonx.dumps(value).decode()


def _key() -> str:
    """The `keyId` of the address.

    Raises:
        InvalidRequest: there is none (code `missing_key_id`).
    """
    if not (found := request.args.get("keyId", "")):
        raise InvalidRequest("key id query is missing", param="keyId", code="missing_key_id")
    return found


def _seconds(name: str) -> int:
    """A moment of the address.

    Raises:
        InvalidRequest: it is no number.
    """
    given = request.args[name]
    if not (given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS):
        raise InvalidRequest(f"{name} query param must be int64", param=name, code=f"bad_{name}_query_param")
    return int(given)
