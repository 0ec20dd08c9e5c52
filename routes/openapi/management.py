"""Operations of the key management API and of the routes that it keeps."""

from typing import Any, Final

from routes.openapi.operations import ADMIN, NOTHING, Media, Operation, json, query
from routes.openapi.shapes import (
    Schema,
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
from services import callroutes, costmaps, fields, pages, providersettings, steps

KEYS, USERS, SETTINGS, ROUTES = "Key management", "Users", "Provider settings", "Routes of your own"

_number: Final = either(number(minimum=0), text("The same as a text.", pattern=r"^\d{1,30}(\.\d{1,30})?$"))
_unit: Final = one_of("", *fields.UNITS, about="Second, minute, hour, day or month.")
_names: Final = listed(text(maxLength=fields.MAX_NAME))
_paths: Final = listed(
    closed({"path": text(pattern="^/", maxLength=fields.MAX_PATH)}, {"method": one_of("", *fields.METHODS)})
)
_seconds: Final = whole("Unix seconds.")
_some_seconds: Final = or_null(_seconds)

_limits: Final[dict[str, Schema]] = {
    "costLimitInUsd": number("All it may cost; 0 = no limit."),
    "costLimitInUsdOverTime": number("What it may cost in the time of the unit; 0 = no limit."),
    "costLimitInUsdUnit": _unit,
    "rateLimitOverTime": whole("Requests in the time of the unit; 0 = no limit."),
    "rateLimitUnit": _unit,
}
_settable: Final[dict[str, Schema]] = {
    **_limits,
    **dict.fromkeys(("costLimitInUsd", "costLimitInUsdOverTime", "rateLimitOverTime"), _number),
    "tags": _names,
    "revoked": flag(),
    "revokedReason": text(maxLength=fields.MAX_NAME),
    "ttl": text("How long it lives, such as `36h30m` or `2d`; empty = for ever."),
    "expiresAt": whole("The same as a date in Unix seconds; 0 = never.", minimum=0),
    "allowedModels": listed(text(maxLength=fields.MAX_MODEL), "Empty = all."),
    "allowedPaths": _paths,
}
_timeouts: Final = dict.fromkeys(
    fields.TIMEOUTS, number("Seconds.", minimum=float(fields.SHORTEST_S), maximum=fields.LONGEST_S)
)
_settable_of_key: Final[dict[str, Schema]] = {
    **_settable,
    "userId": either(text("A user's name."), whole("A user's number.")),
    "allowedIps": listed(text("An address or a network.")),
    "shouldLogRequest": flag(),
    "shouldLogResponse": flag(),
    "rotationEnabled": flag(),
    "settingId": text(),
    "settingIds": listed(text()),
    "policyId": text("Its policy; empty = none of its own."),
    "timeouts": closed({}, maybe(_timeouts), "What calls with the key wait at most, if that is less than usual."),
}
_name: Final = text(minLength=1, maxLength=fields.MAX_NAME)
_secret: Final = text("The secret.", pattern=r"^[A-Za-z0-9_.-]+$", maxLength=200)
_shown: Final[dict[str, Schema]] = {
    "name": text(),
    "createdAt": _seconds,
    "updatedAt": _some_seconds,
    "tags": listed(text()),
    "revoked": flag("Also where it has ended or is used up."),
    "revokedReason": text(),
    **_limits,
    "ttl": text(),
    "expiresAt": _some_seconds,
    "allowedModels": listed(text()),
    "allowedPaths": _paths,
    "userId": text(),
}
_step: Final[dict[str, Schema]] = {"provider": text(), "model": text()}
_step_settable: Final[dict[str, Schema]] = {
    "retries": whole(minimum=0, maximum=callroutes.MAX_RETRIES),
    "retryInterval": text("The first pause, such as `250ms`."),
    "timeout": text("Of an attempt, such as `10s`."),
    "params": {"type": "object", "additionalProperties": text()},
    "requestParams": opened({}, {name: {} for name in callroutes.TUNING}),
}
_cache: Final = closed({"enabled": flag(), "ttl": text()})
_route: Final[dict[str, Schema]] = {
    "name": _name,
    "path": text("What follows `/api/routes`.", pattern="^/", maxLength=callroutes.MAX_PATH),
    "keyIds": listed(text(), "The keys that may call it.", minItems=1),
    "steps": listed(closed(_step, _step_settable), minItems=1, maxItems=callroutes.MAX_STEPS),
}
_route_settable: Final[dict[str, Schema]] = {
    "retryStrategy": one_of("", callroutes.EXPONENTIAL, steps.CONSTANT),
    "cacheConfig": opened({}, {"enabled": flag(), "ttl": text()}),
}
_setting: Final = closed({}, dict.fromkeys(providersettings.CREDENTIALS, text("The credential, which is never shown.")))
_models: Final = listed(text(maxLength=providersettings.MAX_MODEL), "Empty = all that it lists.")
_label: Final = text(maxLength=providersettings.MAX_NAME)
_costs: Final = {"type": "object", "additionalProperties": number("USD per thousand tokens.", minimum=0)}
_cost_map: Final = or_null(closed({}, dict.fromkeys(costmaps.MEMBERS, or_null(_costs)), "Prices by model."))
_paging: Final[dict[str, Schema]] = {
    "limit": whole(minimum=0, maximum=pages.MOST),
    "offset": whole(minimum=0, maximum=pages.FARTHEST),
}

SCHEMAS: Final[dict[str, Any]] = {
    "Key": closed(
        _shown
        | {
            "keyId": text("Its id, a UUID."),
            "key": text("A hint; the secret itself only in the answer that made it."),
            "lastUsedAt": _some_seconds,
            "settingId": text(),
            "settingIds": listed(text()),
            "policyId": text("Its policy; empty = none of its own."),
            "allowedIps": listed(text()),
            "shouldLogRequest": flag(),
            "shouldLogResponse": flag(),
            "rotationEnabled": flag(),
            "timeouts": closed({}, _timeouts),
            "isKeyNotHashed": {"const": False},
        }
    ),
    "KeyWithSecret": opened({"name": _name, "key": _secret}, _settable_of_key),
    "NewKey": opened({"name": _name}, {"key": _secret, **_settable_of_key}),
    "KeyChange": opened({}, {"name": _name, **_settable_of_key}),
    "Rotation": closed(
        {}, {"grace": text("How long the old secret goes on, such as `24h`."), "graceInSeconds": whole(minimum=0)}
    ),
    "KeySearch": opened(
        {},
        {
            **dict.fromkeys(("tags", "keyIds"), _names),
            "name": text(),
            "userId": either(text(), whole()),
            "revoked": flag(),
            "order": one_of("asc", "desc"),
            "returnCount": flag(),
            **_paging,
        },
    ),
    "FoundKeys": closed({"keys": listed(ref("Key")), "count": whole("0 unless `returnCount` asked for it.")}),
    "User": closed(_shown | {"id": text("The user's number."), "keyIds": listed(text())}),
    "NewUser": opened({"name": _name}, _settable | {"userId": text(maxLength=fields.MAX_NAME)}),
    "UserChange": opened({}, _settable | {"name": _name}),
    "ProviderSetting": closed(
        {
            "id": text(),
            "provider": text(),
            "name": text(),
            "allowedModels": listed(text()),
            "costMap": or_null(closed(dict.fromkeys(costmaps.MEMBERS, _costs), about="What it says of prices.")),
            "createdAt": _seconds,
            "updatedAt": _seconds,
        }
    ),
    "NewProviderSetting": closed(
        {"provider": one_of("openai"), "setting": _setting},
        {"name": _label, "allowedModels": _models, "costMap": _cost_map},
    ),
    "ProviderSettingChange": closed(
        {}, {"setting": _setting, "name": _label, "allowedModels": _models, "costMap": _cost_map}
    ),
    "CallRoute": closed(
        _route
        | {
            "steps": listed(closed(_step | _step_settable)),
            "id": text(),
            "cacheConfig": _cache,
            "retryStrategy": one_of(callroutes.EXPONENTIAL, steps.CONSTANT),
            "createdAt": _seconds,
            "updatedAt": _seconds,
        }
    ),
    "NewCallRoute": opened(_route, _route_settable),
    "CallRouteChange": opened({}, _route | _route_settable),
}

NEW_KEY: Final = {"name": "My Secret Key", "key": "my-secret-key-0001", "tags": ["mykey"], "costLimitInUsd": 0.25}
NEW_USER: Final = {"name": "Ana Sousa", "costLimitInUsdOverTime": "5", "costLimitInUsdUnit": "mo"}
NEW_SETTING: Final = {"provider": "openai", "name": "main", "setting": {"apikey": "YOUR_OPENAI_KEY"}}
NEW_ROUTE: Final = {
    "name": "chat with failover",
    "path": "/support/chat",
    "keyIds": ["ID_OF_A_KEY"],
    "steps": [{"provider": "openai", "model": "gpt-4o-mini", "retries": 2, "timeout": "10s"}],
}
_UNKNOWN: Final = ("404",)
_CHANGED: Final = ("404", "409")
_IGNORED: Final = {"x-gateway-ignored-members": "Members of the body that mean nothing here."}
_COUNTED: Final = {"x-total-count": "How many there are in all."}
_TAGS: Final = query("tags", listed(text()), "Found are those that have all of them.")
_PAGE: Final = (
    query("limit", _paging["limit"], "How many at most."),
    query("offset", _paging["offset"], "How many of the newest to leave out."),
)


def _change(tag: str, says: Media, takes: Media | None, refuses: tuple[str, ...] = _CHANGED) -> Operation:
    return Operation(tag, ADMIN, says, takes, refuses=refuses, headers=_IGNORED)


OPERATIONS: Final[dict[str, Operation]] = {
    "keymanagement.keys": Operation(
        KEYS,
        ADMIN,
        json(listed(ref("Key"))),
        query=(
            query("tag", text(), "A tag, as older clients send it; this, `tags` or `keyIds` is needed."),
            _TAGS,
            query("keyIds", listed(text()), "Found are any of them."),
            *_PAGE,
        ),
        headers=_COUNTED,
    ),
    "keymanagement.create_key": _change(KEYS, json(ref("Key")), json(ref("KeyWithSecret"), NEW_KEY), ("404", "409")),
    "keymanagement.generate_key": _change(KEYS, json(ref("Key")), json(ref("NewKey"), {"name": "One more"})),
    "keymanagement.no_key": Operation(KEYS, ADMIN, None, note="Always refused: the id of the key is missing."),
    "keymanagement.key": Operation(KEYS, ADMIN, json(ref("Key")), refuses=_UNKNOWN),
    "keymanagement.update_key": _change(KEYS, json(ref("Key")), json(ref("KeyChange"), {"costLimitInUsd": 1})),
    "keymanagement.delete_key": Operation(KEYS, ADMIN, NOTHING, refuses=_CHANGED),
    "keymanagement.rotate_key": _change(
        KEYS, json(ref("Key")), json(ref("Rotation"), {"grace": "24h"}, is_required=False)
    ),
    "keymanagement.search_keys": Operation(
        KEYS, ADMIN, json(ref("FoundKeys")), json(ref("KeySearch"), {"tags": ["mykey"]}, is_required=False)
    ),
    "keymanagement.users": Operation(
        USERS,
        ADMIN,
        json(listed(ref("User"))),
        query=(
            query("tag", text(), "A tag, as older clients send it."),
            _TAGS,
            query("userIds", listed(text()), "Found are any of them."),
            query("keyIds", listed(text()), "Found are those who have any of these keys."),
            *_PAGE,
        ),
        headers=_COUNTED,
    ),
    "keymanagement.create_user": _change(USERS, json(ref("User")), json(ref("NewUser"), NEW_USER)),
    "keymanagement.update_named_user": Operation(
        USERS,
        ADMIN,
        json(ref("User")),
        json(ref("UserChange"), {"costLimitInUsd": 5}),
        refuses=_CHANGED,
        query=(
            query("userId", text(), "The user that is meant."),
            query("tag", text(), "A tag that it has, as older clients send it."),
            query("tags", listed(text()), "Tags that it has."),
        ),
        headers=_IGNORED,
    ),
    "keymanagement.user": Operation(USERS, ADMIN, json(ref("User")), refuses=_UNKNOWN),
    "keymanagement.update_user": _change(USERS, json(ref("User")), json(ref("UserChange"), {"revoked": True})),
    "keymanagement.delete_user": Operation(USERS, ADMIN, NOTHING, refuses=_CHANGED),
    "keymanagement.provider_settings": Operation(
        SETTINGS,
        ADMIN,
        json(listed(ref("ProviderSetting"))),
        refuses=_UNKNOWN,
        query=(query("ids", listed(text()), "Only these."),),
    ),
    "keymanagement.create_provider_setting": Operation(
        SETTINGS, ADMIN, json(ref("ProviderSetting")), json(ref("NewProviderSetting"), NEW_SETTING), refuses=("409",)
    ),
    "keymanagement.update_provider_setting": Operation(
        SETTINGS, ADMIN, json(ref("ProviderSetting")), json(ref("ProviderSettingChange")), refuses=_CHANGED
    ),
    "callroutes.routes": Operation(ROUTES, ADMIN, json(listed(ref("CallRoute")))),
    "callroutes.create": _change(ROUTES, json(ref("CallRoute")), json(ref("NewCallRoute"), NEW_ROUTE)),
    "callroutes.route": Operation(ROUTES, ADMIN, json(ref("CallRoute")), refuses=_UNKNOWN),
    "callroutes.update": _change(ROUTES, json(ref("CallRoute")), json(ref("CallRouteChange"), {"name": "chat"})),
    "callroutes.delete": Operation(ROUTES, ADMIN, NOTHING, refuses=_UNKNOWN),
}
