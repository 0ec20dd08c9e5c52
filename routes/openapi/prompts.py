"""Operations of stored prompts."""

from typing import Any, Final

from routes.openapi.dialogs import SCHEMAS as OF_DIALOGS
from routes.openapi.operations import KEY, NOTHING, Operation, json, query
from routes.openapi.shapes import Schema, closed, flag, listed, maybe, one_of, opened, or_null, ref, text, whole
from services import promptfields, promptrows, templating
from services.dialects import dialogs_fields as fields

PROMPTS: Final = "Prompts"

_moment: Final = text(format="date-time")
_number: Final = whole(minimum=1, maximum=promptrows.MOST_VERSIONS)
_name: Final = text(minLength=1, maxLength=100, pattern=f"^{promptfields.NAME.pattern}$")
_description: Final = text(maxLength=fields.MAX_DESCRIPTION)
_label: Final = text(minLength=1, maxLength=40, pattern=f"^{promptfields.LABEL.pattern}$")
_labels: Final = listed(_label)
_message: Final = closed(
    {
        "role": one_of(*promptfields.ROLES),
        "content": text(
            "A template: `{{name}}` is where the value of a variable comes in, and `\\{{` stands for two braces.",
            minLength=1,
            maxLength=promptfields.MAX_TEMPLATE,
            pattern=r"\S",
        ),
    }
)
_value: Final[Schema] = {"description": "Of its type."}
_variable: Final = closed(
    {"name": text(maxLength=64, pattern=f"^{templating.NAME.pattern}$")},
    maybe(
        {
            "type": one_of(*promptfields.TYPES),
            "is_required": flag(),
            "default": _value,
            "description": _description,
            "max_chars": whole(minimum=1, maximum=promptfields.MAX_VALUE),
            "options": listed(
                text(minLength=1, maxLength=promptfields.MAX_OPTION, pattern=r"\S"),
                "Of an enum.",
                minItems=1,
                maxItems=promptfields.MAX_OPTIONS,
            ),
        }
    ),
)
_messages: Final = listed(_message, maxItems=promptfields.MAX_MESSAGES)
_version: Final[dict[str, Schema]] = {
    "model": text("Where the call names none.", minLength=1, maxLength=fields.MAX_MODEL, pattern=r"\S"),
    "parameters": OF_DIALOGS["Agent"]["properties"]["config"],
    "variables": listed(_variable, maxItems=promptfields.MAX_VARIABLES),
    "note": text(maxLength=promptfields.MAX_NOTE),
}
_told: Final[dict[str, Schema]] = {
    "version": _number,
    "labels": _labels,
    "note": text(),
    "author": text(),
    "created_at": _moment,
}

SCHEMAS: Final[dict[str, Any]] = {
    "NewPrompt": closed(
        {"name": _name, "messages": _messages | {"minItems": 1}},
        maybe(
            {
                **_version,
                "description": _description,
                "owner": one_of(promptrows.USER, promptrows.TEAM, promptrows.EVERYONE, about="Who may use it."),
                "team": text(minLength=1, maxLength=fields.MAX_NAME * 2, pattern=r"\S"),
            }
        ),
    ),
    "PromptCall": opened(
        {"prompt_id": text("`name`, `name@label`, `name@3`, or a UUID for the name.", minLength=1, maxLength=141)},
        {
            "variables": or_null({"type": "object"}),
            "model": or_null(text()),
            "messages": or_null(listed({"type": "object"})),
        },
        "A call that a stored prompt makes: what it says itself goes before what the prompt says.",
    ),
    "PromptChange": closed({}, maybe({"name": _name, "description": _description})),
    "NewPromptVersion": closed(
        {},
        maybe({**_version, "messages": _messages, promptrows.COPY: _number}),
        "What is not given is taken from the version that `copy_of` names.",
    ),
    "Prompt": closed(
        {
            "id": text(format="uuid"),
            "name": text(),
            "description": text(),
            "owner": one_of(promptrows.USER, promptrows.TEAM, promptrows.EVERYONE),
            "user_id": or_null(whole()),
            "team_id": or_null(whole()),
            "newest_version": whole(minimum=1),
            "labels": {"type": "object", "additionalProperties": _number},
            "may_change": flag(),
            "created_at": _moment,
            "updated_at": _moment,
        }
    ),
    "PromptVersion": closed(
        {
            **_told,
            "messages": _messages,
            "model": or_null(text()),
            "parameters": _version["parameters"],
            "variables": _version["variables"],
        }
    ),
    "PromptDifference": closed({"from": _number, "to": _number, "lines": listed(text(), "A unified difference.")}),
    "PromptRequest": opened(
        {},
        {"version": {"description": "A number or a label."}, "variables": or_null({"type": "object"})},
        "What a call would have besides `prompt_id`.",
    ),
    "RenderedPrompt": closed({"prompt": text(), "request": {"type": "object"}}),
    "PromptUsage": closed(
        {
            "days": whole(),
            "versions": listed(
                closed(
                    {
                        "version": _number,
                        **{
                            name: whole(minimum=0)
                            for name in ("calls", "failed", "input_tokens", "output_tokens", "cost_nanousd")
                        },
                    }
                )
            ),
        }
    ),
}
_EXAMPLE: Final = {
    "name": "greeting",
    "messages": [{"role": "user", "content": "Greet {{name}}."}],
    "variables": [{"name": "name"}],
}
_CHANGES: Final = ("403", "404", "409")

OPERATIONS: Final[dict[str, Operation]] = {
    "prompts.list_all": Operation(PROMPTS, KEY, json(listed(ref("Prompt")))),
    "prompts.create": Operation(
        PROMPTS, KEY, json(ref("Prompt")), json(ref("NewPrompt"), _EXAMPLE), status="201", refuses=_CHANGES
    ),
    "prompts.show": Operation(PROMPTS, KEY, json(ref("Prompt")), refuses=("404",)),
    "prompts.change": Operation(
        PROMPTS, KEY, json(ref("Prompt")), json(ref("PromptChange"), {"description": "For mails"}), refuses=_CHANGES
    ),
    "prompts.delete": Operation(PROMPTS, KEY, NOTHING, status="204", refuses=_CHANGES),
    "prompts.versions": Operation(
        PROMPTS, KEY, json(listed(closed({**_told, "model": or_null(text())}))), refuses=("404",)
    ),
    "prompts.add_version": Operation(
        PROMPTS,
        KEY,
        json(ref("PromptVersion")),
        json(ref("NewPromptVersion"), {"copy_of": 1, "note": "As it was"}),
        status="201",
        refuses=_CHANGES,
    ),
    "prompts.version": Operation(PROMPTS, KEY, json(ref("PromptVersion")), refuses=("404",)),
    "prompts.diff": Operation(
        PROMPTS,
        KEY,
        json(ref("PromptDifference")),
        refuses=("404",),
        query=(query("from", _number, "The older version."), query("to", _number, "The newer version.")),
    ),
    "prompts.put_label": Operation(
        PROMPTS, KEY, json(ref("Prompt")), json(closed({"version": _number}), {"version": 1}), refuses=_CHANGES
    ),
    "prompts.delete_label": Operation(PROMPTS, KEY, NOTHING, status="204", refuses=_CHANGES),
    "prompts.preview": Operation(
        PROMPTS,
        KEY,
        json(ref("RenderedPrompt")),
        json(ref("PromptRequest"), {"variables": {"name": "Ana"}}),
        refuses=("404", "422"),
    ),
    "prompts.usage": Operation(PROMPTS, KEY, json(ref("PromptUsage")), refuses=("403", "404")),
}
