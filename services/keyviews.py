"""Keys as clients of the key management API find and see them, and as the audit log describes them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, and_, func, or_, select
from sqlalchemy.orm import Session

from models import ApiKey, Budget, BudgetWindow, User
from services import bindings, ceilings, lives, owners, pages, providersettings
from services.audit import moment
from services.ceilings import Ceilings
from services.keys import USED_UP
from utils import clock

EXPIRED: Final = "The key has expired"


def shown(session: Session, rows: Sequence[ApiKey]) -> list[dict[str, Any]]:
    """The keys with their limits and policies, in four statements, or five; their users must be loaded."""
    limits = ceilings.of(session, "key", [row.id for row in rows])
    totals = [found.total.id for found in limits.values() if found.total is not None]
    windows = select(BudgetWindow.budget_id, BudgetWindow.spent_amount).where(
        BudgetWindow.budget_id.in_(totals), BudgetWindow.period_start == 0
    )
    spent = dict(session.execute(windows).tuples().all()) if totals else {}
    settings = providersettings.uuids(session, {number for row in rows for number in row.provider_ids or ()})
    policies = bindings.bound(session, "key", [row.id for row in rows])
    return [_view(row, limits[row.id], spent, settings) | {"policyId": policies.get(row.id, "")} for row in rows]


def describe(row: ApiKey) -> dict[str, Any]:
    """For the audit log; the secret is in it as its hint only."""
    return {
        "name": row.name,
        "hint": row.hint,
        "user_id": row.user_id,
        "tags": row.tags,
        "allowed_models": row.allowed_models,
        "allowed_paths": row.allowed_paths,
        "allowed_ips": row.allowed_ips,
        "provider_ids": row.provider_ids,
        "should_log_request": row.should_log_request,
        "should_log_response": row.should_log_response,
        "rotation_enabled": row.rotation_enabled,
        "timeouts": row.timeouts,
        "ttl": row.ttl,
        "expires_at": moment(row.expires_at),
        "revoked_at": moment(row.revoked_at),
        "revoked_reason": row.revoked_reason,
    }


def conditions(session: Session, values: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """What a search asks for, as conditions that all must hold."""
    found: list[ColumnElement[bool]] = pages.has_all(session, ApiKey.tags, values.get("tags", ()))
    if values.get("keyIds"):
        found.append(ApiKey.uuid.in_([name.lower() for name in values["keyIds"]]))
    if values.get("name"):
        found.append(ApiKey.name.icontains(values["name"], autoescape=True))
    if "userId" in values:
        user = find_user(session, values["userId"])
        found.append(ApiKey.user_id == (user.id if user is not None else 0))
    if "revoked" in values:
        found.append(_is_dead() if values["revoked"] else _is_alive())
    return found


def uuid_of(engine: Engine, given: str) -> str:
    """What a key is called by where keys are managed, by its number, UUID or hint.

    Raises:
        NotFound: there is none, or several share the hint.
    """
    with Session(engine) as session:
        return session.scalars(select(ApiKey.uuid).where(ApiKey.id == owners.find(session, "key", given))).one()


def find_user(session: Session, given: str | int) -> User | None:
    """The user of that name, or else of that number."""
    user = session.scalar(select(User).where(User.username == given)) if isinstance(given, str) else None
    number = str(given)
    if user is not None or not (number.isascii() and number.isdigit() and len(number) < len(str(2**63))):
        return user
    return session.get(User, int(number))


def _view(row: ApiKey, limits: Ceilings, spent: Mapping[int, int], settings: Mapping[int, str]) -> dict[str, Any]:
    total = limits.total
    bound = [settings[number] for number in row.provider_ids or () if number in settings]
    if row.revoked_at is not None:
        is_revoked, reason = True, row.revoked_reason or ""
    elif lives.has_ended(row):
        is_revoked, reason = True, EXPIRED
    elif total is not None and spent.get(total.id, 0) >= total.limit_amount:
        is_revoked, reason = True, USED_UP
    else:
        is_revoked, reason = False, ""
    return {
        "name": row.name,
        "createdAt": lives.seconds(row.created_at),
        "updatedAt": lives.seconds(row.updated_at),
        "tags": row.tags or [],
        "keyId": row.uuid,
        "revoked": is_revoked,
        "key": row.hint,
        "revokedReason": reason,
        **limits.shown(),
        "ttl": lives.ttl_of(row),
        "expiresAt": lives.seconds(row.expires_at),
        "lastUsedAt": lives.seconds(row.last_used_at),
        "userId": row.user.username,
        "settingId": bound[0] if bound else "",
        "settingIds": bound,
        "allowedModels": row.allowed_models or [],
        "allowedPaths": row.allowed_paths or [],
        "allowedIps": row.allowed_ips or [],
        "shouldLogRequest": row.should_log_request,
        "shouldLogResponse": row.should_log_response,
        "rotationEnabled": row.rotation_enabled,
        "timeouts": row.timeouts or {},
        "isKeyNotHashed": False,
    }


def _is_dead() -> ColumnElement[bool]:
    return or_(ApiKey.revoked_at.is_not(None), ApiKey.expires_at <= clock.now(), _is_exhausted())


def _is_alive() -> ColumnElement[bool]:
    lasts = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > clock.now())
    return and_(ApiKey.revoked_at.is_(None), lasts, ~_is_exhausted())


def _is_exhausted() -> ColumnElement[bool]:
    """Whether the key's total in USD is spent."""
    window = and_(BudgetWindow.budget_id == Budget.id, BudgetWindow.period_start == 0)
    spent = select(1).select_from(Budget).outerjoin(BudgetWindow, window)
    return spent.where(
        Budget.scope == "key",
        Budget.scope_id == ApiKey.id,
        Budget.unit == ceilings.USD,
        Budget.period == ceilings.TOTAL,
        func.coalesce(BudgetWindow.spent_amount, 0) >= Budget.limit_amount,
    ).exists()
