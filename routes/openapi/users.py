"""Operations of users by their names, and of models by theirs."""

from typing import Any, Final

from routes import asked
from routes.openapi.operations import ADMIN_TOKEN, FIELDS, FORM, JSON, KEY, TOKEN, Media, Operation, json, query
from routes.openapi.shapes import (
    USERNAME,
    Schema,
    closed,
    either,
    flag,
    listed,
    number,
    one_of,
    opened,
    or_null,
    ref,
    text,
    whole,
)
from services import estimates, fields, modelbook, passwords, people
from services.modelviews import TYPES

USERS, MODELS = "Users by name", "Models by name"

_moment: Final = text(format="date-time")
_usd: Final = number("USD, exact.", minimum=0)
_password: Final = text(minLength=passwords.MIN_CHARS, maxLength=passwords.MAX_CHARS, format="password")
_name: Final = text(minLength=1, maxLength=150, pattern=USERNAME)
_flag: Final = either(flag(), one_of("true", "false", "1", "0"))  # the words are those of forms
_models: Final = or_null(
    listed(
        text(minLength=1, maxLength=fields.MAX_MODEL, pattern=r"\S"),
        "The models it may use; empty = all.",
        maxItems=fields.MAX_ENTRIES,
    )
)
_team: Final = or_null(text("The name of a team; empty = none.", maxLength=fields.MAX_NAME))
_role: Final = one_of(*people.ROLES)
_short: Final[dict[str, Schema]] = {
    "username": text(),
    "api_key": or_null(text("A hint of its key, never the key.")),
    "is_admin": flag(),
}
_day: Final = text(pattern=r"^\d{4}-\d{2}-\d{2}")

_language: Final = or_null(one_of("en", "pt-BR"))

SCHEMAS: Final[dict[str, Any]] = {
    "Person": closed(_short),
    "Oneself": closed(_short | {"language": _language}),
    "Language": closed({"username": text(), "language": _language}),
    "NewLanguage": opened({"language": _language}),
    "PersonDetails": closed(
        _short
        | {
            "role": _role,
            "is_active": flag(),
            "disabled_reason": or_null(text()),
            "team": or_null(text()),
            "allowed_models": or_null(listed(text())),
            "created_at": _moment,
        }
    ),
    "NewPerson": opened(
        {"username": _name, "password": _password},
        {"is_admin": _flag, "role": _role, "team": _team, "allowed_models": _models},
    ),
    "PersonChange": closed(
        {},
        {
            "is_admin": _flag,
            "role": _role,
            "is_active": _flag,
            "disabled_reason": or_null(text(maxLength=fields.MAX_NAME)),
            "team": _team,
            "allowed_models": _models,
        },
    ),
    "NewPassword": opened({"current_password": text(minLength=1, format="password"), "new_password": _password}),
    "Said": closed({"message": text("In the language of the sender.")}),
    "PersonUsage": closed(
        {
            "username": text(),
            "current_usage": closed(dict.fromkeys(("PROMPT", "COMPLETION", "CACHED"), whole("Tokens.", minimum=0))),
            "period": closed(dict.fromkeys(("start_date", "end_date"), or_null(text()))),
        }
    ),
    "NewNamedModel": opened(
        {
            "model_name": text(minLength=1, maxLength=fields.MAX_MODEL, pattern=r"^\S(.*\S)?$"),
            "model_type": one_of(*TYPES),
        },
        {
            "model_endpoint": or_null(text("`http(s)://host[:port][/path]`.", maxLength=modelbook.MAX_ENDPOINT)),
            "model_api_key": or_null(text("Stored sealed, never shown.", maxLength=modelbook.MAX_CREDENTIAL)),
            "model_deployment_name": or_null(text(maxLength=fields.MAX_MODEL)),
            "model_description": or_null(text(maxLength=modelbook.MAX_DESCRIPTION)),
        },
    ),
    "NamedModel": closed(
        {
            "model_name": text(),
            "model_type": or_null(text("One of those of its creation, or another kind of provider.")),
            "model_deployment_name": or_null(text()),
            "model_description": or_null(text()),
            "model_endpoint": or_null(text()),
            "created_at": _moment,
        }
    ),
    "PricedModel": closed(
        {
            "name": text(),
            "provider": text(),
            "cost_per_1k_prompt_tokens": or_null(_usd),
            "cost_per_1k_completion_tokens": or_null(_usd),
            "context_window": or_null(whole(minimum=1)),
            "enabled": flag("Whether calls to it can be served."),
        }
    ),
    "TokensToEstimate": opened(
        {}, dict.fromkeys(("prompt_tokens", "completion_tokens"), whole(minimum=0, maximum=estimates.MOST_TOKENS))
    ),
    "Estimate": closed(
        {
            "model_name": text(),
            **dict.fromkeys(("prompt_tokens", "completion_tokens"), whole(minimum=0)),
            **dict.fromkeys(("prompt_cost", "completion_cost", "total_cost"), _usd),
        }
    ),
}
_NEW: Final = {"username": "ana", "password": "correct horse battery", "team": None}
_NEW_MODEL: Final = {"model_name": "small", "model_type": "OPENAI", "model_deployment_name": "gpt-4o-mini"}
_UNKNOWN: Final = ("404",)
_CHANGED: Final = ("404", "409")
_DAYS: Final = (
    query("start_date", _day, "The first day, in UTC."),
    query("end_date", _day, "The last day, likewise; it counts too."),
)
_SAID: Final = json(ref("Said"))


def _taken(name: str, example: Any = None) -> Media:
    """A body that may be a form."""
    return Media(dict.fromkeys((JSON, FIELDS, FORM), ref(name)), example)


OPERATIONS: Final[dict[str, Operation]] = {
    "people.me": Operation(USERS, KEY, json(ref("Oneself"))),
    "people.change_me": Operation(USERS, TOKEN, json(ref("Language")), _taken("NewLanguage", {"language": "pt-BR"})),
    "people.usage": Operation(USERS, KEY, json(ref("PersonUsage")), refuses=_UNKNOWN, query=_DAYS),
    "people.password": Operation(USERS, TOKEN, _SAID, _taken("NewPassword")),
    "people.create": Operation(USERS, ADMIN_TOKEN, _SAID, _taken("NewPerson", _NEW), refuses=_UNKNOWN),
    "people.everybody": Operation(
        USERS,
        ADMIN_TOKEN,
        json(listed(ref("Person"))),
        query=(
            query("limit", whole(minimum=1, maximum=asked.MAX_LIMIT), "How many at most; without it all."),
            query("offset", whole(minimum=0, maximum=asked.MAX_SKIP), "How many of the first to leave out."),
        ),
        headers={"x-total-count": "How many there are in all."},
    ),
    "people.show": Operation(USERS, ADMIN_TOKEN, json(ref("PersonDetails")), refuses=_UNKNOWN),
    "people.change": Operation(
        USERS, ADMIN_TOKEN, json(ref("PersonDetails")), _taken("PersonChange", {"role": "auditor"}), refuses=_CHANGED
    ),
    "people.delete": Operation(USERS, ADMIN_TOKEN, _SAID, refuses=_CHANGED),
    "modelbook.create": Operation(MODELS, ADMIN_TOKEN, _SAID, _taken("NewNamedModel", _NEW_MODEL), refuses=("409",)),
    "modelbook.everything": Operation(MODELS, KEY, json(listed(ref("NamedModel")))),
    "modelbook.delete": Operation(MODELS, ADMIN_TOKEN, _SAID, refuses=_UNKNOWN),
    "modelprices.entries": Operation(MODELS, KEY, json(listed(ref("PricedModel")))),
    "modelprices.entry": Operation(MODELS, KEY, json(ref("PricedModel")), refuses=_UNKNOWN),
    "modelprices.estimate": Operation(
        MODELS,
        KEY,
        json(ref("Estimate")),
        json(ref("TokensToEstimate"), {"prompt_tokens": 1000, "completion_tokens": 500}),
        refuses=("402", "404"),
    ),
}
