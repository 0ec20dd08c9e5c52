"""What a table says of one operation, and how that becomes OpenAPI.

Paths, methods and their parameters come from the app, the summary from the view's docstring; a table has the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from routes.openapi import refusals
from routes.openapi.shapes import Schema

JSON: Final = "application/json"
FORM: Final = "multipart/form-data"
FIELDS: Final = "application/x-www-form-urlencoded"
EVENTS: Final = "text/event-stream"
PAGE: Final = "text/html"
OK: Final = "200"

# Who may, and how each of them says who it is. The names are those of SCHEMES.
OPEN: Final = "open"
KEY: Final = "key"
KEY_OR_BODY: Final = "key or body"
ADMIN: Final = "admin"
ADMIN_TOKEN: Final = "admin token"  # noqa: S105 - the name of a rule, no secret
TEAM_TOKEN: Final = "team token"  # noqa: S105 - the name of a rule, no secret
TOKEN: Final = "token"  # noqa: S105 - the name of a rule, no secret
SCHEMES: Final[dict[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, a token of `POST /login`, or one of `API_AUTH_TOKENS`.",
    },
    "xApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "An API key."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "api-key", "description": "An API key."},
    "token": {"type": "http", "scheme": "bearer", "description": "The token that `POST /login` gives."},
    "teamToken": {"type": "http", "scheme": "bearer", "description": "The same of an admin of the team."},
    "adminToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The same of an admin, or of an auditor who only reads.",
    },
    "adminPass": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-KEY",
        "description": "The value of the setting `ADMIN_PASS`, for programs that manage.",
    },
}
_KEYS: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"xApiKey": []}, {"apiKey": []}]
SECURITY: Final[dict[str, list[dict[str, list[str]]]]] = {
    OPEN: [],
    KEY: _KEYS,
    KEY_OR_BODY: [*_KEYS, {}],  # the key may stand in the body, which OpenAPI has no word for
    ADMIN: [{"adminToken": []}, {"adminPass": []}, {}],  # on the gateway's own machine, nothing may be needed
    ADMIN_TOKEN: [{"adminToken": []}],
    TEAM_TOKEN: [{"adminToken": []}, {"teamToken": []}],
    TOKEN: [{"token": []}],
}
_GUARDED: Final = ("400", "401", "403", "429", "500", "503")
STATUSES: Final[dict[str, tuple[str, ...]]] = {  # how each may refuse, besides what the operation itself adds
    OPEN: ("400", "500"),
    KEY: _GUARDED,
    KEY_OR_BODY: _GUARDED,
    ADMIN: _GUARDED,
    ADMIN_TOKEN: _GUARDED,
    TEAM_TOKEN: _GUARDED,
    TOKEN: _GUARDED,
}
OF_CALLS: Final = ("402", "404", "4XX", "502", "504")
WITH_BODY: Final = ("413",)
WITH_WORDS: Final = ("414",)  # in the address


@dataclass(frozen=True, slots=True)
class Media:
    """A body in one or several types. `example` is one in JSON."""

    types: Mapping[str, Schema]
    example: Any = None
    is_required: bool = True

    def content(self) -> dict[str, Any]:
        """OpenAPI's `content`."""
        found: dict[str, Any] = {name: {"schema": schema} for name, schema in self.types.items()}
        if self.example is not None:
            found[JSON]["example"] = self.example
        return found


NOTHING: Final = Media({})


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked for. `says`: its good answer; None = it only ever refuses."""

    tag: str
    who: str
    says: Media | None
    takes: Media | None = None
    status: str = OK
    refuses: tuple[str, ...] = ()
    query: tuple[Schema, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)  # of the good answer, with their meanings
    note: str = ""
    besides: Mapping[str, Media] = field(default_factory=dict)  # answers of other statuses that are no refusals of ours
    summary: str = ""  # where the view has no words of its own

    def described(self, path: str, endpoint: str) -> dict[str, Any]:
        """OpenAPI's operation, without its summary and the parameters of its path."""
        found: dict[str, Any] = {"tags": [self.tag], "security": SECURITY[self.who]}
        if self.note:
            found["description"] = self.note
        if self.takes is not None:
            found["requestBody"] = {"required": self.takes.is_required, "content": self.takes.content()}
        statuses = {*STATUSES[self.who], *self.refuses, *(WITH_BODY if self.takes is not None else ())}
        statuses |= set(WITH_WORDS) if self.query or "<" in path else set()
        good = {} if self.says is None else {self.status: self._good(self.says)}
        told = {
            status: {"description": refusals.MEANINGS[status], "content": said.content()}
            for status, said in self.besides.items()
        }
        return found | {"responses": good | refusals.answers(path, endpoint, tuple(sorted(statuses))) | told}

    def _good(self, says: Media) -> dict[str, Any]:
        more = {name: {"description": about, "schema": {"type": "string"}} for name, about in self.headers.items()}
        content = says.content()
        found = {"description": "Done.", "headers": refusals.REQUEST_ID | more}
        return found | ({"content": content} if content else {})


def json(schema: Schema, example: Any = None, *, is_required: bool = True) -> Media:
    """A body in JSON."""
    return Media({JSON: schema}, example, is_required)


def query(name: str, schema: Schema, about: str, *, is_required: bool = False) -> Schema:
    """A parameter of the address; one with an array may be given several times."""
    found = {"name": name, "in": "query", "description": about, "schema": schema}
    return found | ({"required": True} if is_required else {})
