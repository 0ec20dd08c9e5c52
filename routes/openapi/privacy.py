"""Operations of what is kept of people: texts of calls, everything about oneself, erasing an account."""

from typing import Any, Final

from routes.openapi.operations import ADMIN_TOKEN, KEY, NOTHING, TOKEN, Media, Operation, json
from routes.openapi.shapes import closed, either, flag, opened, or_null, ref, text, whole
from routes.privacy import LINES
from services.erasure import SAID

PRIVACY = "Privacy"

_moment: Final = text(format="date-time")
_unreadable: Final = closed({"is_unreadable": {"const": True}}, about="It was sealed with a key that is gone.")
_text: Final = {"type": text("Of its content."), "body": {}, "is_shortened": flag()}
_ended: Final = {"is_stream": flag(), "is_whole": flag("False: it broke off, or its caller left.")}

SCHEMAS: Final[dict[str, Any]] = {
    "Texts": closed(
        {
            "request_id": text(),
            "user_id": whole(),
            "key_id": or_null(whole()),
            "created_at": _moment,
            "expires_at": _moment,
            "request": or_null(either(closed(_text), _unreadable)),
            "response": or_null(either(closed(_text | _ended), _unreadable)),
        }
    ),
    "Erased": closed(
        {
            "user_id": whole(),
            "username": text("What the account is called now."),
            "removed": closed(dict.fromkeys((*SAID, "usage_notes"), whole(minimum=0))),
        }
    ),
    "Erasure": opened({"username": text("The name of the account, so that none is erased by a slip.")}),
}
_UNKNOWN: Final = ("404",)

OPERATIONS: Final[dict[str, Operation]] = {
    "privacy.content": Operation(PRIVACY, KEY, json(ref("Texts")), refuses=_UNKNOWN),
    "privacy.forget": Operation(PRIVACY, KEY, NOTHING, status="204", refuses=_UNKNOWN),
    "privacy.export": Operation(PRIVACY, TOKEN, Media({LINES: text("One object in JSON a line: section and row.")})),
    "privacy.erase": Operation(
        PRIVACY, ADMIN_TOKEN, json(ref("Erased")), json(ref("Erasure"), {"username": "ana"}), refuses=("404", "409")
    ),
}
