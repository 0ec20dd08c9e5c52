"""Operations of admins and team admins: what everybody used, the audit log, invitations, configuration, teams."""

from typing import Any, Final

from routes import administration as routes
from routes import asked, invitations, teams
from routes.openapi.operations import ADMIN_TOKEN, NOTHING, TEAM_TOKEN, Operation, json, query
from routes.openapi.shapes import (
    USERNAME,
    Schema,
    always,
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
from services import fields, members, people, systemconfig
from services import invitations as invited
from services.periods import PERIODS

ADMINS, INVITATIONS, CONFIG, TEAMS = "Administration", "Invitations", "Configuration values", "Teams"

_moment: Final = text(format="date-time")
_a_moment: Final = text("A day such as 2026-01-31, or a moment.", pattern=r"^\d{4}-\d{2}-\d{2}")
_tokens: Final = or_null(whole("Tokens; null = not limited."))
_role: Final = one_of(*people.ROLES)
_amount: Final = number("In the unit of the budget.", minimum=0)
_standing: Final[dict[str, Schema]] = {
    "user_id": whole(),
    "username": text(),
    "dialog_count": whole(minimum=0),
    "total_tokens_used": whole(minimum=0),
    "balance": _tokens,
    "limit": _tokens,
}
_invitation: Final[dict[str, Schema]] = {
    "id": text(pattern="^[0-9a-f]{64}$"),
    "hint": text("The beginning of its code."),
    "state": one_of("open", "used", "expired"),
    "role": _role,
    "team": or_null(text()),
    "created_by": text(),
    "created_at": _moment,
    "expires_at": _moment,
    "used_at": or_null(_moment),
    "used_by": or_null(text()),
}
_value: Final = or_null(text(maxLength=systemconfig.MAX_VALUE))
_config: Final[dict[str, Schema]] = {
    "value": _value,
    "is_secret": flag("Sealed, and never shown again."),
    "description": text(maxLength=systemconfig.MAX_DESCRIPTION),
}
_key_name: Final = text(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}$")
_team_key: Final[dict[str, Schema]] = {
    "id": whole(),
    "name": text(),
    "hint": text(),
    "user_id": whole(),
    "username": text(),
    "expires_at": or_null(_moment),
    "revoked_at": or_null(_moment),
    "revoked_reason": or_null(text()),
    "last_used_at": or_null(_moment),
    "created_at": _moment,
}
_short: Final = text(maxLength=members.MAX_TEXT)

SCHEMAS: Final[dict[str, Any]] = {
    "Reloaded": closed({"status": always("ok"), "message": text(), "models": listed(text())}),
    "Stats": closed(
        {
            "total_tokens": whole(minimum=0),
            "active_users": whole(minimum=0),
            "top_models": listed(closed({"model": text(), "usage": whole("Tokens.", minimum=0)})),
            "avg_latency_ms": number(minimum=0),
        }
    ),
    "Standing": closed(_standing),
    "StandingNow": closed(_standing | {"last_activity": or_null(_moment)}),
    "AuditEntry": closed(
        {
            "id": whole(),
            "created_at": _moment,
            "user_id": or_null(whole()),
            "actor": text(),
            "action": text(),
            "resource_type": text(),
            "resource_id": or_null(text()),
            "details": {"type": "object"},
            "ip_address": or_null(text()),
            "user_agent": or_null(text()),
            "sequence": or_null(whole("Its place in the chain.")),
            "digest": or_null(text("Of itself and the one before.")),
        }
    ),
    "NewInvitation": opened(
        {},
        {
            "role": or_null(_role),
            "team": or_null(text("The name of a team.", maxLength=fields.MAX_NAME)),
            "days": or_null(whole("How long it is good.", minimum=1, maximum=invited.MOST_DAYS)),
        },
    ),
    "Invitation": closed(_invitation),
    "Invited": closed({"code": text("Shown here and never again."), **_invitation}),
    "NewConfigValue": closed({"key": _key_name}, _config),
    "ConfigValueChange": closed({}, {"key": text("The key that it has."), **_config}),
    "ConfigValue": closed(
        {
            "key": _key_name,
            "value": or_null(text("Of a secret a mask.")),
            "is_secret": flag(),
            "description": text(),
            "created_at": _moment,
            "updated_at": _moment,
            "updated_by": text(),
        }
    ),
    "Team": closed(
        {"id": whole(), "name": text(), "allowed_models": or_null(listed(text())), "member_count": whole(minimum=0)}
    ),
    "Member": closed(
        {
            "user_id": whole(),
            "username": text(),
            "role": _role,
            "is_active": flag(),
            "disabled_reason": or_null(text()),
            "total_tokens_used": whole(minimum=0),
            "spent_usd": number(minimum=0),
            "created_at": _moment,
        }
    ),
    "NewMember": closed({"username": text(minLength=1, maxLength=150, pattern=USERNAME)}),
    "MemberChange": closed({}, {"is_active": flag(), "disabled_reason": or_null(_short)}),
    "NewTeamKey": closed({"name": text(minLength=1, maxLength=members.MAX_TEXT, pattern=r"\S")}),
    "TeamKey": closed(_team_key),
    "IssuedTeamKey": closed(_team_key | {"api_key": text("Shown here and never again.")}),
    "NewMemberBudget": closed(
        {
            "unit": one_of(*members.UNITS),
            "limit": or_null(either(number(minimum=0), text(pattern=r"^\d{1,18}(\.\d{1,9})?$"))),
        },
        {"period": one_of(*PERIODS)},
    ),
    "TeamBudget": closed(
        {
            "id": whole(),
            "scope": one_of("team", "user"),
            "owner_id": whole(),
            "owner": or_null(text()),
            "unit": one_of(*members.UNITS, "requests"),
            "period": one_of(*PERIODS),
            "is_prepaid": flag(),
            **dict.fromkeys(("limit", "spent", "held"), _amount),
        }
    ),
}
_UNKNOWN: Final = ("404",)
_CONFIGURED: Final = {"key": "support.address", "value": "help@example.com"}
_BUDGET: Final = {"unit": "usd", "limit": "5", "period": "month"}


def _part(default: int, least: int = 1, most: int = asked.MAX_LIMIT) -> tuple[Schema, Schema]:
    """Which part of a list."""
    return (
        query("skip", whole(minimum=0, maximum=asked.MAX_SKIP, default=0), "How many to leave out."),
        query("limit", whole(minimum=least, maximum=most, default=default), "How many at most."),
    )


_SPAN: Final = (
    query("start_date", _a_moment, "From then on."),
    query("end_date", _a_moment, "Until then; the moment itself does not count."),
)
_word: Final = text(maxLength=routes.WORD)

OPERATIONS: Final[dict[str, Operation]] = {
    "administration.reload": Operation(ADMINS, ADMIN_TOKEN, json(ref("Reloaded"))),
    "administration.stats": Operation(ADMINS, ADMIN_TOKEN, json(ref("Stats")), query=_SPAN),
    "administration.users": Operation(ADMINS, ADMIN_TOKEN, json(listed(ref("Standing"))), query=_part(routes.USERS)),
    "administration.user": Operation(ADMINS, ADMIN_TOKEN, json(ref("StandingNow")), refuses=_UNKNOWN),
    "administration.entries": Operation(
        ADMINS,
        ADMIN_TOKEN,
        json(listed(ref("AuditEntry"))),
        query=(
            query("user_id", whole(minimum=0, maximum=asked.MAX_ID), "Of whom."),
            query("action", _word, "What was done."),
            query("resource_type", _word, "To what."),
            *_SPAN,
            *_part(routes.ENTRIES),
        ),
    ),
    "invitations.make": Operation(
        INVITATIONS,
        ADMIN_TOKEN,
        json(ref("Invited")),
        json(ref("NewInvitation"), {"role": "user", "days": 7}, is_required=False),
        status="201",
        refuses=("404", "409"),
    ),
    "invitations.listed": Operation(
        INVITATIONS,
        ADMIN_TOKEN,
        json(listed(ref("Invitation"))),
        query=_part(100, least=0, most=invitations.MAX_LISTED),
    ),
    "invitations.remove": Operation(
        INVITATIONS, ADMIN_TOKEN, json(closed({"message": always("ok")})), refuses=_UNKNOWN
    ),
    "systemconfig.configs": Operation(CONFIG, ADMIN_TOKEN, json(listed(ref("ConfigValue")))),
    "systemconfig.create": Operation(
        CONFIG,
        ADMIN_TOKEN,
        json(ref("ConfigValue")),
        json(ref("NewConfigValue"), _CONFIGURED),
        status="201",
        refuses=("409",),
    ),
    "systemconfig.config": Operation(CONFIG, ADMIN_TOKEN, json(ref("ConfigValue")), refuses=_UNKNOWN),
    "systemconfig.change": Operation(
        CONFIG, ADMIN_TOKEN, json(ref("ConfigValue")), json(ref("ConfigValueChange"), {"value": "x"}), refuses=_UNKNOWN
    ),
    "systemconfig.remove": Operation(CONFIG, ADMIN_TOKEN, NOTHING, status="204", refuses=_UNKNOWN),
    "teams_api.team": Operation(TEAMS, TEAM_TOKEN, json(ref("Team")), refuses=_UNKNOWN),
    "teams_api.members": Operation(
        TEAMS, TEAM_TOKEN, json(listed(ref("Member"))), refuses=_UNKNOWN, query=_part(teams.ROWS)
    ),
    "teams_api.add": Operation(
        TEAMS,
        TEAM_TOKEN,
        json(ref("Member")),
        json(ref("NewMember"), {"username": "ana"}),
        status="201",
        refuses=("404", "409"),
    ),
    "teams_api.change": Operation(
        TEAMS, TEAM_TOKEN, json(ref("Member")), json(ref("MemberChange"), {"is_active": False}), refuses=_UNKNOWN
    ),
    "teams_api.keys": Operation(
        TEAMS, TEAM_TOKEN, json(listed(ref("TeamKey"))), refuses=_UNKNOWN, query=_part(teams.ROWS)
    ),
    "teams_api.issue": Operation(
        TEAMS,
        TEAM_TOKEN,
        json(ref("IssuedTeamKey")),
        json(ref("NewTeamKey"), {"name": "her script"}),
        status="201",
        refuses=_UNKNOWN,
    ),
    "teams_api.revoke": Operation(
        TEAMS,
        TEAM_TOKEN,
        NOTHING,
        status="204",
        refuses=_UNKNOWN,
        query=(query("reason", text(maxLength=teams.MAX_REASON), "Why; callers with the key read it."),),
    ),
    "teams_api.budgets": Operation(TEAMS, TEAM_TOKEN, json(listed(ref("TeamBudget"))), refuses=_UNKNOWN),
    "teams_api.set_budget": Operation(
        TEAMS,
        TEAM_TOKEN,
        json(ref("TeamBudget")),
        json(ref("NewMemberBudget"), _BUDGET),
        refuses=("204", "404"),
        note="A `limit` of null takes the budget away: 204.",
    ),
}
