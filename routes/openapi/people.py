"""Operations of people and of the gateway itself: accounts, balances, usage, signs of life, these pages."""

from typing import Any, Final

from routes.openapi.operations import (
    ADMIN,
    ADMIN_TOKEN,
    FIELDS,
    FORM,
    JSON,
    KEY,
    OPEN,
    PAGE,
    Media,
    Operation,
    json,
    query,
)
from routes.openapi.shapes import USERNAME, always, closed, listed, number, one_of, opened, or_null, ref, text, whole
from services import balances, components, passwords

PEOPLE, TOKENS, GATEWAY = "People", "Prepaid tokens", "The gateway"

_CREDENTIALS: Final = {"username": "ana", "password": "correct horse battery"}
_SIGN_IN: Final = Media(dict.fromkeys((JSON, FIELDS, FORM), ref("Credentials")), _CREDENTIALS)
_REGISTRATION: Final = Media(dict.fromkeys((JSON, FIELDS, FORM), ref("Registration")), _CREDENTIALS)
_BALANCE: Final = {
    "balance": or_null(whole("What is left; null = unlimited.")),
    "held": whole("What calls under way hold of it."),
}
_LIMIT: Final = or_null(whole("Of all tokens that may be used; null = none."))

SCHEMAS: Final[dict[str, Any]] = {
    "Credentials": opened(
        {"username": text(minLength=1), "password": text(minLength=1, format="password")},
        {"otp": or_null(text("A code of the second factor, or a recovery code, where the account has one."))},
    ),
    "Registration": opened(
        {
            "username": text(minLength=1, maxLength=150, pattern=USERNAME),
            "password": text(minLength=passwords.MIN_CHARS, maxLength=passwords.MAX_CHARS, format="password"),
        },
        {"invitation": text("A code; needed where registration is by invitation.", maxLength=100)},
    ),
    "Registered": closed({"message": text(), "api_key": text("Shown here and never again.")}),
    "SignedIn": closed(
        {
            "access_token": text(),
            "token_type": always("bearer"),
            "expires_in": whole("Seconds."),
            "api_key": or_null(text("The user's default key, where copies of it are kept.")),
            "message": text(),
        }
    ),
    "UsedTokens": closed({"username": text(), "tokens_used": whole()}),
    "OwnBalance": closed(_BALANCE | {"total_used": whole(), "limit": _LIMIT}),
    "Balance": closed({"user_id": whole(), **_BALANCE, "limit": _LIMIT, "updated_at": text(format="date-time")}),
    "Movement": closed(
        {
            "id": whole(),
            "user_id": whole(),
            "amount": whole("Negative where tokens were used or taken away."),
            "reason": one_of(*sorted(set(balances.REASONS.values()))),
            "note": or_null(text()),
            "dialog_id": or_null(text()),
            "message_id": or_null(text("The id of the call.")),
            "admin_user_id": or_null(whole()),
            "created_at": text(format="date-time"),
        }
    ),
    "TopUp": opened(
        {"amount": whole("Negative = taken away.", minimum=-balances.MAX_AMOUNT, maximum=balances.MAX_AMOUNT)},
        {"reason": or_null(text(maxLength=balances.MAX_REASON))},
    ),
    "TokenLimit": opened({"limit": or_null(whole(minimum=0, maximum=balances.MAX_AMOUNT))}),
    "Condition": closed(
        {
            "status": one_of(*components.STATES),
            "version": text(),
            "timestamp": text(format="date-time"),
            "components": listed(
                closed(
                    {
                        "name": text(),
                        "status": one_of(*components.STATES),
                        "latency_ms": or_null(number("What asking it took.")),
                        "message": text(),
                        "details": {"type": "object", "additionalProperties": True},
                    }
                )
            ),
        }
    ),
    "Life": closed({"status": always("healthy")}, {"message": text()}),
}
_HEALTHY: Final = {"status": "healthy"}
_USER: Final = ("404",)

OPERATIONS: Final[dict[str, Operation]] = {
    "auth.register": Operation(
        PEOPLE, OPEN, json(ref("Registered")), _REGISTRATION, status="201", refuses=("403", "409", "429", "503")
    ),
    "auth.login": Operation(PEOPLE, OPEN, json(ref("SignedIn")), _SIGN_IN, refuses=("401", "403", "429", "502", "503")),
    "user.usage": Operation(PEOPLE, KEY, json(ref("UsedTokens"))),
    "balances.mine": Operation(TOKENS, KEY, json(ref("OwnBalance"))),
    "balances.move": Operation(
        TOKENS, ADMIN_TOKEN, json(ref("Balance")), json(ref("TopUp"), {"amount": 1000, "reason": "July"}), refuses=_USER
    ),
    "balances.history": Operation(
        TOKENS,
        ADMIN_TOKEN,
        json(listed(ref("Movement"))),
        refuses=_USER,
        query=(
            query("skip", whole(minimum=0, maximum=1_000_000), "How many of the newest to leave out."),
            query("limit", whole(minimum=0, maximum=1000), "How many at most."),
        ),
    ),
    "balances.limits": Operation(
        TOKENS, ADMIN_TOKEN, json(ref("Balance")), json(ref("TokenLimit"), {"limit": None}), refuses=_USER
    ),
    "ops.index": Operation(
        GATEWAY, OPEN, json(ref("Life"), _HEALTHY), note="Browsers are led to the panel.", refuses=("302",)
    ),
    "ops.health": Operation(GATEWAY, OPEN, json(ref("Condition")), besides={"503": json(ref("Condition"))}),
    "ops.live": Operation(GATEWAY, OPEN, json(closed({"status": always("ok")}))),
    "ops.ready": Operation(
        GATEWAY,
        OPEN,
        json(closed({"status": always("ready")})),
        besides={"503": json(closed({"status": always("not ready"), "reason": text()}))},
    ),
    "ops.metrics": Operation(
        GATEWAY, ADMIN, Media({"text/plain": text()}), note="The setting `METRICS_TOKEN` opens it too, as a bearer."
    ),
    "ops.providers": Operation(GATEWAY, KEY, json(ref("Health"))),
    "apidocs.document": Operation(GATEWAY, OPEN, json(opened({"openapi": text(), "info": {"type": "object"}}))),
    "apidocs.swagger": Operation(GATEWAY, OPEN, Media({PAGE: text()})),
    "apidocs.redoc": Operation(GATEWAY, OPEN, Media({PAGE: text()})),
}
