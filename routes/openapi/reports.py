"""Operations of the reports and lists of events of the key management API."""

from typing import Any, Final

from routes.openapi.operations import ADMIN, JSON, Media, Operation, json, query
from routes.openapi.shapes import Schema, closed, flag, listed, number, one_of, opened, or_null, ref, text, whole
from routes.reporting import CSV, NDJSON
from services import callevents, datapoints, fields, pages, reporting

REPORTS, EVENTS = "Reports", "Events"

_latest: Final = int(fields.LATEST.timestamp())
_start: Final = whole("Unix seconds.", minimum=1, maximum=_latest)
_end: Final = whole("Unix seconds, not included.", minimum=1, maximum=_latest)
_names: Final = listed(text(minLength=1, maxLength=fields.MAX_NAME), maxItems=pages.MOST)
_span: Final[dict[str, Schema]] = {"start": _start, "end": _end}
_many: Final = dict.fromkeys(("keyIds", "tags", "customIds", "userIds"), _names)
_direction: Final = one_of("", "asc", "desc")
_needle: Final = text("A part of the stored text.", maxLength=callevents.MAX_SEARCH)
_base64: Final = or_null(text("Base64."))

SCHEMAS: Final[dict[str, Any]] = {
    "KeyReport": closed({"id": text(), "costInMicroDollars": whole("Millionths of a USD.")}),
    "ReportRequest": opened(
        _span | {"increment": whole("Seconds.", minimum=1)},
        _many | {"filters": listed(one_of(*reporting.BY), "What to tell apart.")},
    ),
    "DayReportRequest": opened(_span, _many),
    "DataPoint": closed(
        {
            "timeStamp": whole("Unix seconds: where it begins."),
            "numberOfRequests": whole(),
            "costInUsd": number(),
            "latencyInMs": whole("Of all its calls together."),
            "promptTokenCount": whole(),
            "completionTokenCount": whole(),
            "successCount": whole("Calls that neither a provider nor the gateway failed."),
            "model": text("Empty unless it is told apart; so are the next three."),
            "keyId": text(),
            "customId": text(),
            "userId": text(),
        }
    ),
    "Report": closed(
        {
            "dataPoints": listed(ref("DataPoint"), maxItems=datapoints.MOST_POINTS),
            "latencyInMsMedian": number(),
            "latencyInMs99th": number(),
        }
    ),
    "TopKeysRequest": opened(
        _span,
        {
            "keyIds": _names,
            "tags": _names,
            "name": text("A part of the key's name.", maxLength=fields.MAX_NAME),
            "revoked": flag(),
            "order": _direction,
            "limit": whole(minimum=0, maximum=datapoints.MOST_POINTS),
            "offset": whole(minimum=0, maximum=pages.FARTHEST),
        },
    ),
    "TopKeys": closed({"dataPoints": listed(closed({"keyId": text(), "costInUsd": number()}))}),
    "Event": closed(
        {
            "id": text(),
            "created_at": whole("Unix seconds."),
            "tags": listed(text(), "Those that the key has now."),
            "key_id": text(),
            "cost_in_usd": number(),
            "provider": text(),
            "model": text(),
            "status": whole("What the caller got."),
            "prompt_token_count": whole(),
            "completion_token_count": whole(),
            "latency_in_ms": whole(),
            "path": text(),
            "method": text(),
            "custom_id": text(),
            "request": _base64,
            "response": _base64,
            "userId": text(),
            "action": one_of(*callevents.ACTIONS),
            "policyId": text(),
            "routeId": text(),
            "correlationId": text("The id of the request."),
            "metadata": _base64,
        }
    ),
    "EventSearch": opened(
        _span,
        {
            **_many,
            "policyIds": _names,
            "actions": listed(one_of(*callevents.ACTIONS)),
            "status": whole(minimum=0, maximum=callevents.MAX_STATUS),
            "requestContent": _needle,
            "responseContent": _needle,
            "costOrder": _direction,
            "dateOrder": _direction,
            "limit": whole(minimum=0, maximum=pages.MOST),
            "offset": whole(minimum=0, maximum=pages.FARTHEST),
            "returnCount": flag(),
        },
    ),
    "FoundEvents": closed(
        {"events": listed(ref("Event"), maxItems=pages.MOST), "count": whole("0 unless `returnCount` asked for it.")}
    ),
}

TIME: Final = {"start": 1767225600, "end": 1769904000}
_KEY: Final = query("keyId", text(), "The key.", is_required=True)
_MUCH: Final = ("422",)
_FOUND: Final = Media({JSON: ref("FoundEvents"), NDJSON: text("An event a line."), CSV: text("An event a row.")})

OPERATIONS: Final[dict[str, Operation]] = {
    "reporting.key": Operation(REPORTS, ADMIN, json(ref("KeyReport")), refuses=("404",)),
    "reporting.over_time": Operation(
        REPORTS, ADMIN, json(ref("Report")), json(ref("ReportRequest"), TIME | {"increment": 86400}), refuses=_MUCH
    ),
    "reporting.by_day": Operation(
        REPORTS, ADMIN, json(ref("Report")), json(ref("DayReportRequest"), TIME), refuses=_MUCH
    ),
    "reporting.top_keys": Operation(
        REPORTS, ADMIN, json(ref("TopKeys")), json(ref("TopKeysRequest"), TIME | {"limit": 10}), refuses=_MUCH
    ),
    "reporting.user_ids": Operation(REPORTS, ADMIN, json(listed(text())), refuses=("404",), query=(_KEY,)),
    "reporting.custom_ids": Operation(REPORTS, ADMIN, json(listed(text())), refuses=("404",), query=(_KEY,)),
    "reporting.events": Operation(
        EVENTS,
        ADMIN,
        json(listed(ref("Event"), maxItems=callevents.MOST_AT_ONCE)),
        refuses=_MUCH,
        query=(
            query("customId", text(), "One of these three is needed."),
            query("userId", text(), "The name of a user."),
            query("keyIds", listed(text()), "Any of these keys; with them, `start` and `end` are needed."),
            query("start", whole(), "Unix seconds."),
            query("end", whole(), "Unix seconds, included."),
        ),
    ),
    "reporting.search": Operation(
        EVENTS,
        ADMIN,
        _FOUND,
        json(ref("EventSearch"), TIME | {"limit": 100, "dateOrder": "desc"}),
        refuses=_MUCH,
        headers={"x-gateway-cut": "`true` where a search for texts did not get to all calls."},
    ),
}
