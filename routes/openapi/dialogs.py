"""Operations of dialogs and agents, and of the files that dialogs go into."""

from typing import Any, Final

from routes import dialogs as routes
from routes.openapi.calls import ANSWERED
from routes.openapi.operations import EVENTS, KEY, NOTHING, OF_CALLS, Media, Operation, json, query
from routes.openapi.shapes import (
    Schema,
    always,
    closed,
    either,
    flag,
    listed,
    maybe,
    number,
    one_of,
    opened,
    or_null,
    ref,
    text,
    whole,
)
from services import dialogfiles
from services import dialogs as stored
from services.dialects import dialogs_fields as fields
from services.dialects import openai

DIALOGS, AGENTS = "Dialogs", "Agents"

_moment: Final = text(format="date-time")
_tokens: Final = or_null(whole(minimum=0))
_config: Final[dict[str, Schema]] = {
    "temperature": number(minimum=0, maximum=1),
    "max_tokens": whole("At most the context window of the model.", minimum=1, maximum=openai.MAX_INT),
    "top_p": number(minimum=0, maximum=1),
    "presence_penalty": number(minimum=-2, maximum=2),
    "frequency_penalty": number(minimum=-2, maximum=2),
    "stop_sequences": listed(
        text(minLength=1, maxLength=fields.MAX_STOP, pattern=r"\S"), "May end an answer.", maxItems=fields.MAX_STOPS
    ),
}
_agent_type: Final = text("The name of an agent.", minLength=1, maxLength=fields.MAX_NAME, pattern=r"\S")
_parameters: Final = closed({}, maybe(_config))
_named_parameters: Final = closed({}, maybe({**_config, fields.TYPE: _agent_type}))
_prompt: Final = or_null(text(maxLength=fields.MAX_PROMPT))
_model: Final = or_null(text("A model.", minLength=1, maxLength=fields.MAX_MODEL, pattern=r"\S"))
_name: Final = text(minLength=1, maxLength=fields.MAX_NAME, pattern=r"\S")
_title: Final = or_null(text(maxLength=fields.MAX_TITLE))
_agent: Final[dict[str, Schema]] = {
    "description": or_null(text(maxLength=fields.MAX_DESCRIPTION)),
    "system_prompt": _prompt,
    "model_name": _model,
    "config": or_null(_parameters),
}
_dialog: Final[dict[str, Schema]] = {
    "id": text(format="uuid"),
    "title": or_null(text()),
    "system_prompt": or_null(text()),
    "model_name": text(),
    "agent_config": or_null(ref("AgentConfig")),
    "created_at": _moment,
    "updated_at": _moment,
}
_message: Final[dict[str, Schema]] = {
    "id": text(format="uuid"),
    "role": one_of(*dialogfiles.ROLES),
    "content": text(),
    "prompt_tokens": _tokens,
    "completion_tokens": _tokens,
    "created_at": _moment,
}
_event: Final = text(
    contentMediaType="application/json",
    contentSchema=either(
        closed({"content": text(), "done": {"const": False}}),
        closed(
            {"content": always(""), "done": {"const": True}, "message_id": text()},
            {"prompt_tokens": _tokens, "completion_tokens": _tokens},
        ),
        closed({"error": text(), "done": {"const": True}}),
    ),
)

SCHEMAS: Final[dict[str, Any]] = {
    "AgentConfig": _named_parameters,
    "NewDialog": closed(
        {},
        {"title": _title, "system_prompt": _prompt, "model_name": _model, "agent_config": or_null(ref("AgentConfig"))},
    ),
    "DialogTitle": closed({"title": _title}),
    "Dialog": closed(_dialog | {"user_id": whole(), "message_count": whole(minimum=0)}),
    "DialogPage": closed(
        {
            "items": listed(ref("Dialog")),
            "total": whole(minimum=0),
            "page": whole(minimum=1),
            "page_size": whole(minimum=1, maximum=routes.SIZES[2]),
            "has_next": flag(),
        }
    ),
    "NewDialogMessage": closed(
        {"content": text("At most `MAX_CONTENT_LENGTH` characters.", minLength=1, pattern=r"\S")},
        {"model_name": _model, "agent_config": or_null(ref("AgentConfig"))},
    ),
    "DialogMessage": closed(_message | {"dialog_id": text(format="uuid")}),
    "DialogEvent": opened({"data": _event}, {"event": text()}, "Each server-sent event."),
    "DialogFile": closed(
        {
            "version": always(dialogfiles.VERSION),
            "exported_at": _moment,
            "user_id": whole(),
            "dialogs": listed(closed(_dialog | {"messages": listed(closed(_message))})),
            "dialog_count": whole(minimum=0),
            "message_count": whole(minimum=0),
        }
    ),
    "DialogFileToImport": opened(
        {
            "dialogs": listed(
                opened(
                    {},
                    {
                        "title": _title,
                        "system_prompt": _prompt,
                        "model_name": _model,
                        "agent_config": or_null(ref("AgentConfig")),
                        "created_at": or_null(_moment),
                        "updated_at": or_null(_moment),
                        "messages": or_null(
                            listed(
                                opened(
                                    {"role": one_of(*dialogfiles.ROLES), "content": text()},
                                    {
                                        "prompt_tokens": _tokens,
                                        "completion_tokens": _tokens,
                                        "created_at": or_null(_moment),
                                    },
                                )
                            )
                        ),
                    },
                )
            )
        },
        {
            "version": always(dialogfiles.VERSION),
            "dialog_count": or_null(whole(minimum=0)),
            "message_count": or_null(whole(minimum=0)),
        },
        "What an export gives; ids and users in it count for nothing.",
    ),
    "Imported": closed(
        {"dialogs_imported": whole(minimum=0), "messages_imported": whole(minimum=0), "errors": listed(text())}
    ),
    "NewAgent": closed({"name": _name}, _agent),
    "AgentChange": closed({}, {"name": or_null(_name), **_agent}),
    "Agent": closed(
        {
            "id": text("Of a preset its name."),
            "name": text(),
            "description": text(),
            "system_prompt": or_null(text()),
            "model_name": or_null(text("null = that of the dialog.")),
            "config": _parameters,
            "is_preset": flag(),
            "created_at": or_null(_moment),
            "updated_at": or_null(_moment),
        }
    ),
}
_UNKNOWN: Final = ("404",)
_DIALOG: Final = {"title": "Holidays", "model_name": "echo", "agent_config": {"temperature": 0.2}}
_MESSAGE: Final = {"content": "Hello!"}
_AGENT: Final = {"name": "translator", "system_prompt": "Translate into Portuguese.", "config": {"temperature": 0.1}}
_FILE: Final = {"version": "1.0", "dialogs": [{"model_name": "echo", "messages": [{"role": "user", "content": "Hi"}]}]}
_BUSY: Final = ("409", *OF_CALLS)


def _bounds(name: str, given: tuple[int, int, int], about: str) -> Schema:
    """A number of the query, from what the route says of it."""
    default, least, most = given
    return query(name, whole(minimum=least, maximum=most, default=default), about)


OPERATIONS: Final[dict[str, Operation]] = {
    "dialogs.create": Operation(
        DIALOGS, KEY, json(ref("Dialog")), json(ref("NewDialog"), _DIALOG), status="201", refuses=_UNKNOWN
    ),
    "dialogs.list_own": Operation(
        DIALOGS,
        KEY,
        json(ref("DialogPage")),
        query=(
            _bounds("page", routes.PAGES, "Which page."),
            _bounds("page_size", routes.SIZES, "Dialogs on a page."),
            query("q", text(maxLength=stored.MAX_QUERY), "Words that the messages of a dialog must have."),
        ),
    ),
    "dialogs.show": Operation(DIALOGS, KEY, json(ref("Dialog")), refuses=_UNKNOWN),
    "dialogs.rename": Operation(
        DIALOGS, KEY, json(ref("Dialog")), json(ref("DialogTitle"), {"title": "Holidays"}), refuses=_UNKNOWN
    ),
    "dialogs.delete": Operation(DIALOGS, KEY, NOTHING, status="204", refuses=_UNKNOWN),
    "dialogs.messages": Operation(
        DIALOGS,
        KEY,
        json(listed(ref("DialogMessage"))),
        refuses=_UNKNOWN,
        query=(
            _bounds("skip", routes.SKIPS, "How many of the oldest to leave out."),
            _bounds("limit", routes.LIMITS, "How many at most."),
        ),
    ),
    "dialogs.send": Operation(
        DIALOGS,
        KEY,
        Media({EVENTS: ref("DialogEvent")}),
        json(ref("NewDialogMessage"), _MESSAGE),
        refuses=_BUSY,
        headers=ANSWERED,
    ),
    "dialogs.send_and_wait": Operation(
        DIALOGS,
        KEY,
        json(ref("DialogMessage")),
        json(ref("NewDialogMessage"), _MESSAGE),
        status="201",
        refuses=_BUSY,
        headers=ANSWERED,
    ),
    "exports.export": Operation(DIALOGS, KEY, json(ref("DialogFile")), headers={"content-disposition": "A file."}),
    "exports.import_file": Operation(DIALOGS, KEY, json(ref("Imported")), json(ref("DialogFileToImport"), _FILE)),
    "agents.list_all": Operation(AGENTS, KEY, json(listed(ref("Agent")))),
    "agents.create": Operation(
        AGENTS, KEY, json(ref("Agent")), json(ref("NewAgent"), _AGENT), status="201", refuses=("404", "409")
    ),
    "agents.show": Operation(AGENTS, KEY, json(ref("Agent")), refuses=_UNKNOWN),
    "agents.change": Operation(
        AGENTS, KEY, json(ref("Agent")), json(ref("AgentChange"), {"name": "poet"}), refuses=("404", "409")
    ),
    "agents.delete": Operation(AGENTS, KEY, NOTHING, status="204", refuses=("404", "409")),
}
