"""API keys as their owners make and end them in the portal, within what services/portalpolicy.py allows.

Every change is one transaction with its audit entry. A key of somebody else is not there, in the same words and by the
same statements as one that never was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine, func, or_, select, update
from sqlalchemy.orm import Session

from models import ApiKey, Budget, Limit, User
from services import audit, budgets, keyviews, limits, portalpolicy, removal
from services.audit import Actor, differences, moment
from services.catalog import Catalog
from services.changing import changing
from services.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from services.keys import IssuedKey, Keys
from services.portalpolicy import Policy
from services.types import Caller
from utils import clock

MAX_NAME: Final = 255
MAX_ID: Final = 2**63 - 1
SHOWN: Final = 200  # keys of a list
BY_OWNER: Final = "by its owner"
MISSING: Final = "There is no such key."
NO_KEYS: Final = "Keys are made by admins here; ask one for a key."
NO_END: Final = "Keys must have an end here."
TOO_LONG: Final = "This is later than keys may live here."
NOT_YOURS: Final = "You may not use one of these models."
OF_SETTING: Final = "This key comes from the setting API_AUTH_TOKENS; change it there."
IS_OVER: Final = "This key was revoked or has expired; a new secret would open nothing."


@dataclass(frozen=True, slots=True)
class Wish:
    """A key that somebody wants. Amounts: nano-USD, requests; None = no such ceiling of its own."""

    name: str
    allowed_models: list[str] | None = None
    expires_at: datetime | None = None
    budget_nanousd: int | None = None
    budget_period: str = "month"
    requests: int | None = None
    requests_period: str = "minute"


def listed(session: Session, user_id: int) -> Sequence[ApiKey]:
    """The keys of a person, newest first; at most SHOWN."""
    return session.scalars(
        select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.id.desc()).limit(SHOWN)
    ).all()


def find(session: Session, user_id: int, key_id: int) -> ApiKey:
    """One key of the person.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    mine = (ApiKey.id == min(key_id, MAX_ID), ApiKey.user_id == user_id)
    row = session.scalar(select(ApiKey).where(*mine).execution_options(populate_existing=True))
    if row is None:
        raise NotFound(MISSING, param="id")
    return row


def is_working(row: ApiKey) -> bool:
    """Whether it opens something now."""
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > clock.now())


class OwnKeys:
    """See the module."""

    def __init__(self, engine: Engine, catalog: Catalog, keys: Keys) -> None:
        self._engine, self._catalog, self._keys = engine, catalog, keys

    def create(self, actor: Actor, caller: Caller, wish: Wish) -> IssuedKey:
        """A new key; its secret is in this answer and nowhere else.

        Raises:
            PermissionDenied: the policy makes no keys, or no more of them.
            InvalidRequest: a name, model, end or ceiling that cannot be.
        """
        with changing(self._engine, self._catalog) as session:
            _hold_still(session, caller.user_id)
            policy = portalpolicy.read(session)
            _check(session, policy, caller, wish)
            issued = self._keys.issue(
                session, caller.user_id, wish.name, allowed_models=wish.allowed_models, expires_at=wish.expires_at
            )
            row = session.get_one(ApiKey, issued.id)
            if wish.budget_nanousd is not None:
                budget = Budget(scope="key", scope_id=row.id, unit="usd", period=wish.budget_period)
                budgets.change(session, actor, budget, wish.budget_nanousd, budgets.UTC)
            if wish.requests is not None:
                limit = Limit(scope="key", scope_id=row.id, unit="requests", period=wish.requests_period)
                limits.change(session, actor, limit, wish.requests)
            audit.note(session, actor, "key_create", "key", row.id, differences(None, keyviews.describe(row)))
            return issued

    def rotate(self, actor: Actor, user_id: int, key_id: int, grace: timedelta) -> IssuedKey:
        """A new secret for a key; the one before goes on working for `grace`.

        Raises:
            NotFound: see `find`.
            Conflict: it is none to change, or it opens nothing any more.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, user_id, key_id)
            if not is_working(row):
                raise Conflict(IS_OVER)
            before = row.hint
            issued = self._keys.rotate(session, row, grace)
            until = moment(clock.now() + grace) if grace else None
            details = {"before": {"hint": before}, "after": {"hint": issued.hint}, "old_secret_until": until}
            audit.note(session, actor, "key_rotate", "key", row.id, details)
            return issued

    def revoke(self, actor: Actor, user_id: int, key_id: int) -> None:
        """Void a key; one that is void already stays as it is.

        Raises:
            NotFound, Conflict: see `rotate`.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, user_id, key_id)
            if self._keys.revoke(session, row.id, BY_OWNER):
                details = {"before": {"revoked_reason": None}, "after": {"revoked_reason": BY_OWNER}}
                audit.note(session, actor, "key_revoke", "key", row.id, details)

    def delete(self, actor: Actor, user_id: int, key_id: int) -> str:
        """Remove a key; what it used stays in the books. Returns its name.

        Raises:
            NotFound, Conflict: see `rotate`.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, user_id, key_id)
            name = row.name
            audit.note(session, actor, "key_delete", "key", row.id, {"before": keyviews.describe(row)})
            removal.key(session, row.id)
            return name


def count_working(session: Session, user_id: int) -> int:
    """How many keys of the person open something now."""
    lasts = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > clock.now())
    mine = (ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None), lasts)
    return session.scalar(select(func.count(ApiKey.id)).where(*mine)) or 0


def _hold_still(session: Session, user_id: int) -> None:
    """Two changes of one person's keys come one after the other, so that none is made beyond the number."""
    lock = update(User).where(User.id == user_id).values(updated_at=User.updated_at)
    session.execute(lock.execution_options(synchronize_session=False))


def _locked(session: Session, user_id: int, key_id: int) -> ApiKey:
    _hold_still(session, user_id)
    row = find(session, user_id, key_id)
    if row.kind == "environment":
        raise Conflict(OF_SETTING)
    return row


def _check(session: Session, policy: Policy, caller: Caller, wish: Wish) -> None:
    if not policy.may_make_keys:
        raise PermissionDenied(NO_KEYS)
    if count_working(session, caller.user_id) >= policy.most_keys:
        raise PermissionDenied(f"You may have {policy.most_keys} working keys; end one first.")
    if not wish.name or not wish.name.isprintable() or len(wish.name) > MAX_NAME:
        raise InvalidRequest(f"A name has 1 to {MAX_NAME} characters that can be seen.", param="name")
    now = clock.now()
    if policy.longest is not None and wish.expires_at is None:
        raise InvalidRequest(NO_END, param="expires_at")
    if policy.longest is not None and wish.expires_at is not None and wish.expires_at > now + policy.longest:
        raise InvalidRequest(TOO_LONG, param="expires_at")
    allowed = caller.allowed_models
    if wish.allowed_models is not None and allowed is not None and not set(wish.allowed_models) <= allowed:
        raise InvalidRequest(NOT_YOURS, param="allowed_models")
    _check_below(session, caller.user_id, wish)


def _check_below(session: Session, user_id: int, wish: Wish) -> None:
    """A ceiling above one's own would promise what does not come."""
    if wish.budget_nanousd is not None:
        own = budgets.find(session, "user", user_id, "usd", wish.budget_period)
        if own is not None and wish.budget_nanousd > own.limit_amount:
            raise InvalidRequest("Your own budget of this period is smaller than that.", param="budget")
    if wish.requests is not None:
        limit = limits.find(session, "user", user_id, "requests", wish.requests_period)
        if limit is not None and wish.requests > limit.limit_amount:
            raise InvalidRequest("Your own limit of this period is smaller than that.", param="requests")
