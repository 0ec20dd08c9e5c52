"""Files and batches: what OpenAI's clients send and read."""

from typing import Any, Final

from models_batches import STATUSES
from routes.openapi.operations import FORM, KEY, Media, Operation, json, query
from routes.openapi.shapes import Schema, always, closed, flag, listed, one_of, opened, or_null, ref, text, whole
from services import batches
from services.batchcheck import ENDPOINTS

FILES, BATCHES = "OpenAI: files", "OpenAI: batches"
_moment: Final = whole("Unix seconds.")
_expiry: Final = closed(
    {"anchor": always("created_at"), "seconds": whole(minimum=batches.EXPIRY.start, maximum=batches.EXPIRY.stop - 1)}
)
_names: Final = {"first_id": or_null(text()), "last_id": or_null(text()), "has_more": flag()}
_after: Final = query("after", text(), "The page after the one with this id.")

SCHEMAS: Final[dict[str, Any]] = {
    "FileForm": closed(
        {"purpose": always("batch"), "file": text("JSON Lines, a request on each.", format="binary")},
        {"expires_after[anchor]": always("created_at"), "expires_after[seconds]": whole()},
    ),
    "File": opened(
        {
            "id": text(),
            "object": always("file"),
            "bytes": whole(minimum=0),
            "created_at": _moment,
            "expires_at": or_null(_moment),
            "filename": text(),
            "purpose": one_of("batch", "batch_output"),
            "status": always("processed"),
        }
    ),
    "FileList": opened({"object": always("list"), "data": listed(ref("File")), **_names}),
    "BatchRequest": closed(
        {
            "input_file_id": text("An uploaded file."),
            "endpoint": one_of(*ENDPOINTS),
            "completion_window": always(batches.WINDOW),
        },
        {
            "metadata": or_null({"type": "object", "maxProperties": batches.MOST_PAIRS}),
            "output_expires_after": or_null(_expiry),
        },
    ),
    "Batch": opened(
        {
            "id": text(),
            "object": always("batch"),
            "endpoint": one_of(*ENDPOINTS),
            "model": or_null(text("Of its first line.")),
            "errors": or_null(opened({"object": always("list"), "data": listed(ref("BatchError"))})),
            "input_file_id": text(),
            "completion_window": always(batches.WINDOW),
            "status": one_of(*STATUSES),
            "output_file_id": or_null(text("The results that are good.")),
            "error_file_id": or_null(text("The other ones.")),
            "created_at": _moment,
            **{name: or_null(_moment) for name in batches.MOMENTS},
            "request_counts": closed({"total": whole(), "completed": whole(), "failed": whole()}),
            "metadata": or_null({"type": "object"}),
        }
    ),
    "BatchError": closed(
        {"code": or_null(text()), "line": or_null(whole(minimum=1)), "message": text(), "param": or_null(text())}
    ),
    "BatchList": opened({"object": always("list"), "data": listed(ref("Batch")), **_names}),
}
_EXAMPLE: Final = {"input_file_id": "file-abc", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
_NAMED: Final = ("404",)
_FILE: Final = json(ref("File"))
_BATCH: Final = json(ref("Batch"))
_DELETED: Final[Schema] = closed({"id": text(), "object": always("file"), "deleted": {"const": True}})

OPERATIONS: Final[dict[str, Operation]] = {
    "files.create": Operation(FILES, KEY, _FILE, Media({FORM: ref("FileForm")})),
    "files.list_own": Operation(
        FILES,
        KEY,
        json(ref("FileList")),
        query=(
            query("purpose", one_of("batch", "batch_output"), "Only such files."),
            query("limit", whole(minimum=1, maximum=10_000), "Files on a page."),
            query("order", one_of("asc", "desc"), "Oldest or newest first."),
            _after,
        ),
    ),
    "files.retrieve": Operation(FILES, KEY, _FILE, refuses=_NAMED),
    "files.content": Operation(FILES, KEY, Media({"application/octet-stream": text(format="binary")}), refuses=_NAMED),
    "files.delete": Operation(FILES, KEY, json(_DELETED), refuses=(*_NAMED, "409")),
    "batches.create": Operation(BATCHES, KEY, _BATCH, json(ref("BatchRequest"), _EXAMPLE), refuses=_NAMED),
    "batches.list_own": Operation(
        BATCHES,
        KEY,
        json(ref("BatchList")),
        query=(query("limit", whole(minimum=1, maximum=100), "Batches on a page."), _after),
    ),
    "batches.retrieve": Operation(BATCHES, KEY, _BATCH, refuses=_NAMED),
    "batches.cancel": Operation(BATCHES, KEY, _BATCH, refuses=(*_NAMED, "409")),
}
