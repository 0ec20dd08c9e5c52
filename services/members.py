"""A team as its own admins manage it: members, their keys and budgets.

Admins may do the same with every team, and auditors look. A team's admin reaches nobody outside the team and no member
with a role of its own: only people and programs that have none, and its own keys. What the team as a whole may spend,
and who belongs to it, admins say. Members that are made here have no password; they call with keys.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from models import ApiKey, Budget, Team, User
from services import audit, budgets, people, rights
from services.accounts import check_name
from services.audit import Actor, differences
from services.catalog import Catalog
from services.changing import changing
from services.errors import FieldsInvalid, NotFound, PermissionDenied
from services.keys import Keys
from services.periods import PERIODS
from services.types import Caller
from utils import money

MAX_ID: Final = 2**63 - 1
MAX_TEXT: Final = 255
UNITS: Final = ("usd", "tokens")


class Members:
    """See the module. Every method raises NotFound for a team that is not there or not the caller's to see."""

    def __init__(self, engine: Engine, catalog: Catalog, keys: Keys) -> None:
        self._engine, self._catalog, self._keys = engine, catalog, keys

    def team(self, caller: Caller, team_id: int) -> dict[str, Any]:
        """The team, and how many members it has."""
        with Session(self._engine) as session:
            row = _team(session, caller, team_id)
            count = session.scalar(select(func.count()).select_from(User).where(User.team_id == row.id))
            return {"id": row.id, "name": row.name, "allowed_models": row.allowed_models, "member_count": count}

    def members(self, caller: Caller, team_id: int, *, skip: int, limit: int) -> list[dict[str, Any]]:
        """Its members, in the order of their names."""
        with Session(self._engine) as session:
            team = _team(session, caller, team_id)
            query = select(User).where(User.team_id == team.id).order_by(User.username).offset(skip).limit(limit)
            return [_member(row) for row in session.scalars(query)]

    def add(self, caller: Caller, actor: Actor, team_id: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """A new member without a password.

        Raises:
            InvalidRequest: a name that cannot be.
            Conflict: a name that is taken.
        """
        _check(given, {"username": (str,)})
        name = check_name(given.get("username"))
        with changing(self._engine, self._catalog) as session:
            team = _team(session, caller, team_id)
            row = User(username=name, team_id=team.id)
            session.add(row)
            session.flush()
            session.refresh(row)  # moments to the millisecond, as they are stored
            after = {"username": name, "role": row.role, "team_id": team.id, "can_sign_in": False}
            audit.note(session, actor, "user_create", "user", row.id, differences(None, after))
            return _member(row)

    def change(self, caller: Caller, actor: Actor, whose: tuple[int, int], given: Mapping[str, Any]) -> dict[str, Any]:
        """Disable a member, or let it work again. `whose`: the numbers of the team and the member.

        Raises:
            NotFound: no such member.
            PermissionDenied: not for this member.
        """
        _check(given, {"is_active": (bool,), "disabled_reason": (str, type(None))})
        with changing(self._engine, self._catalog) as session:
            row = _managed(session, caller, whose)
            before = {"is_active": row.is_active, "disabled_reason": row.disabled_reason}
            row.is_active = given.get("is_active", row.is_active)
            row.disabled_reason = None if row.is_active else given.get("disabled_reason", row.disabled_reason) or None
            after = {"is_active": row.is_active, "disabled_reason": row.disabled_reason}
            if before["is_active"] and not row.is_active:
                people.sign_out(session, row.id)
            if after != before:
                audit.note(session, actor, "user_update", "user", row.id, differences(before, after))
            return _member(row)

    def keys(self, caller: Caller, team_id: int, *, skip: int, limit: int) -> list[dict[str, Any]]:
        """The keys of its members, newest first."""
        with Session(self._engine) as session:
            team = _team(session, caller, team_id)
            query = select(ApiKey, User.username).join(User, User.id == ApiKey.user_id).where(User.team_id == team.id)
            rows = session.execute(query.order_by(ApiKey.id.desc()).offset(skip).limit(limit))
            return [_key(key, username) for key, username in rows]

    def issue(self, caller: Caller, actor: Actor, whose: tuple[int, int], given: Mapping[str, Any]) -> dict[str, Any]:
        """A new key for a member, or for oneself; `api_key` is in this answer and nowhere else.

        Raises:
            NotFound: no such member.
            PermissionDenied: not for this member.
        """
        _check(given, {"name": (str,)})
        name = given.get("name", "").strip()
        if not name or not name.isprintable():
            raise FieldsInvalid({"name": f"has 1 to {MAX_TEXT} characters that can be seen"})
        with changing(self._engine, self._catalog) as session:
            row = _managed(session, caller, whose, is_own_fine=True)
            issued = self._keys.issue(session, row.id, name)
            after = {"name": name, "hint": issued.hint, "user_id": row.id}
            audit.note(session, actor, "key_create", "key", issued.id, differences(None, after))
            key = session.get_one(ApiKey, issued.id, populate_existing=True)
            return _key(key, row.username) | {"api_key": issued.secret}

    def revoke(self, caller: Caller, actor: Actor, whose: tuple[int, int], reason: str) -> None:
        """Void a key of a member or of oneself. `whose`: the numbers of the team and the key.

        Raises:
            NotFound: no such key, or it is void already.
            PermissionDenied: not for this member.
        """
        team_id, key_id = whose
        with changing(self._engine, self._catalog) as session:
            _team(session, caller, team_id)
            owner = session.scalar(select(ApiKey.user_id).where(ApiKey.id == key_id)) if key_id <= MAX_ID else None
            if owner is None:
                raise NotFound("There is no such key.", param="key_id")
            _managed(session, caller, (team_id, owner), is_own_fine=True, what="key")
            if not self._keys.revoke(session, key_id, reason):
                raise NotFound("There is no such key.", param="key_id")
            details = {"before": {"revoked_reason": None}, "after": {"revoked_reason": reason}}
            audit.note(session, actor, "key_revoke", "key", key_id, details)

    def budgets(self, caller: Caller, team_id: int) -> list[dict[str, Any]]:
        """The budgets of the team and its members, with what is gone of them now."""
        with Session(self._engine) as session:
            team = _team(session, caller, team_id)
            names = dict(session.execute(select(User.id, User.username).where(User.team_id == team.id)).tuples().all())
            rows = budgets.of(session, [("team", team.id), *(("user", number) for number in names)])
            called = {("team", team.id): team.name, **{("user", number): name for number, name in names.items()}}
        return [_budget(state, called) for state in budgets.states(self._engine, rows)]

    def set_budget(
        self, caller: Caller, actor: Actor, whose: tuple[int, int], given: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Set the budget of a member in a unit and a period; a `limit` of null takes it away, and None comes back.

        Raises:
            NotFound: no such member, or nothing to take away.
            PermissionDenied: not for this member.
            InvalidRequest: an amount that cannot be.
        """
        unit, period = given.get("unit"), given.get("period", "total")
        if unit not in UNITS or period not in PERIODS:
            raise FieldsInvalid({"unit": f"is one of {', '.join(UNITS)}", "period": f"is one of {', '.join(PERIODS)}"})
        amount = _amount(unit, given)
        with changing(self._engine, self._catalog) as session:
            member = _managed(session, caller, whose)
            row = budgets.find(session, "user", member.id, unit, period)
            if amount is None and row is None:
                raise NotFound("There is no such budget.", param="limit")
            if amount is None and row is not None:
                budgets.delete(session, actor, row)
                return None
            row = row or Budget(scope="user", scope_id=member.id, unit=unit, period=period)
            budgets.change(session, actor, row, amount or 0, row.timezone or budgets.UTC)
            called = {("user", member.id): member.username}
        return _budget(budgets.states(self._engine, [row])[0], called)


def _team(session: Session, caller: Caller, team_id: int) -> Team:
    """The team, if the caller may see it: admins and auditors every one, a team's admin its own."""
    row = session.get(Team, team_id) if team_id <= MAX_ID else None
    is_own = rights.has(caller.role, rights.TEAM) and caller.team_id == team_id
    if row is None or not (is_own or rights.has(caller.role, rights.READ)):
        raise NotFound("There is no such team.", param="team_id")
    return row


def _managed(
    session: Session, caller: Caller, whose: tuple[int, int], *, is_own_fine: bool = False, what: str = "member"
) -> User:
    """The member whom the caller may manage, and whom nobody takes out of the team until the end of the transaction.

    Raises:
        NotFound: no such team, or no such member of it.
        PermissionDenied: a member with a role, or oneself where that is not fine.
    """
    team_id, user_id = whose
    team = _team(session, caller, team_id)
    is_member = (User.id == min(user_id, MAX_ID), User.team_id == team.id)
    lock = update(User).where(*is_member).values(updated_at=User.updated_at)
    session.execute(lock.execution_options(synchronize_session=False))
    row = session.scalar(select(User).where(*is_member).execution_options(populate_existing=True))
    if row is None:
        raise NotFound(f"There is no such {what}.", param=f"{what}_id")
    is_own = row.id == caller.user_id
    if not rights.has(caller.role, rights.CHANGE) and not (is_own_fine if is_own else row.role == "user"):
        raise PermissionDenied("Only admins may do this to yourself or to somebody with a role.")
    return row


def _amount(unit: str, given: Mapping[str, Any]) -> int | None:
    """The limit in the budget's unit; None = it is taken away."""
    _check(given, {"unit": (str,), "period": (str,), "limit": (str, int, Decimal, type(None))})
    if "limit" not in given:
        raise FieldsInvalid({"limit": "is an amount, or null for none"})
    limit = given["limit"]
    return None if limit is None else budgets.parse_limit(unit, str(limit))


def _check(given: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]]) -> None:
    """Names, kinds and lengths of members.

    Raises:
        FieldsInvalid: some of them are wrong, or nobody knows them.
    """
    wrong = {name: "is not known here" for name in given if name not in kinds}
    for name, value in given.items():
        kind = kinds.get(name, (object,))
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
            wrong.setdefault(name, "has the wrong type")
        elif isinstance(value, str) and len(value) > MAX_TEXT:
            wrong.setdefault(name, f"has at most {MAX_TEXT} characters")
    if wrong:
        raise FieldsInvalid(wrong)


def _member(row: User) -> dict[str, Any]:
    return {
        "user_id": row.id,
        "username": row.username,
        "role": row.role,
        "is_active": row.is_active,
        "disabled_reason": row.disabled_reason,
        "total_tokens_used": row.tokens_used,
        "spent_usd": money.usd(row.spent_nanousd),
        "created_at": row.created_at,
    }


def _key(row: ApiKey, username: str) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "hint": row.hint,
        "user_id": row.user_id,
        "username": username,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "revoked_reason": row.revoked_reason,
        "last_used_at": row.last_used_at,
        "created_at": row.created_at,
    }


def _budget(state: budgets.State, called: Mapping[tuple[str, int], str]) -> dict[str, Any]:
    row = state.budget
    amounts = {"limit": row.limit_amount, "spent": state.spent, "held": state.held}
    shown = {name: money.usd(amount) if row.unit == "usd" else amount for name, amount in amounts.items()}
    owner = {"scope": row.scope, "owner_id": row.scope_id, "owner": called.get((row.scope, row.scope_id))}
    return {"id": row.id, **owner, "unit": row.unit, "period": row.period, "is_prepaid": row.is_prepaid, **shown}
