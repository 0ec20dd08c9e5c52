"""Top-up codes: whoever redeems one gets tokens or USD, once.

A code is shown when it is made and never again; what is stored is its SHA-256, which nobody reverses for a text of
190 random bits. Tokens go to the person's balance, USD raise the person's total budget; whoever has none gets one,
and is limited by it from then on. Both have an entry `top_up` in the ledger.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, select, update
from sqlalchemy.orm import Session

from models import Budget, LedgerEntry, TopUpCode, User
from services import audit, balances, budgets
from services.catalog import Catalog
from services.changing import changing
from services.errors import Conflict, InvalidRequest, NotFound
from services.settlement import clean
from services.throttle import Throttle
from utils import clock, ids, money

PREFIX: Final = "top-"
RANDOM_CHARS: Final = 32
HINT_CHARS: Final = 8
MAX_CODE: Final = 100
MOST_CODES: Final = 100  # made at once
MOST_DAYS: Final = 3650
DAYS: Final = 90
MAX_NOTE: Final = 200
UNITS: Final = ("tokens", "usd")
STEP: Final = "top-up"  # how the throttle calls tries
RESOURCE: Final = "top_up_code"
INVALID: Final = "The code is not valid: it is unknown, was redeemed, was voided or has expired."
FULL: Final = "Your budget cannot hold so much."


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What somebody got. `amount` is in nano-USD or tokens."""

    unit: str
    amount: int


def make(  # noqa: PLR0913 - what codes are made of
    engine: Engine, actor: audit.Actor, *, unit: str, amount: int, count: int, days: int, note: str = ""
) -> list[str]:
    """So many new codes, which exist only in this answer.

    Raises:
        InvalidRequest: an amount, number or time that cannot be.
    """
    most = balances.MAX_AMOUNT if unit == "tokens" else money.MAX_NANOUSD
    if unit not in UNITS or not 0 < amount <= most:
        raise InvalidRequest("This is not an amount that a code can have.", param="amount")
    if not 1 <= count <= MOST_CODES or not 1 <= days <= MOST_DAYS or len(note) > MAX_NOTE:
        raise InvalidRequest("This is not a number that codes can have.", param="count")
    codes, now = [PREFIX + ids.random_base62(RANDOM_CHARS) for _ in range(count)], clock.now()
    with Session(engine) as session, session.begin():
        for code in codes:
            session.add(
                TopUpCode(
                    digest=_digest(code),
                    hint=f"{code[:HINT_CHARS]}…",
                    unit=unit,
                    amount=amount,
                    note=note,
                    created_by=actor.name[:150],
                    created_at=now,
                    expires_at=now + timedelta(days=days),
                )
            )
        after = {"unit": unit, "amount": amount, "count": count, "note": note}
        after |= {"hints": [f"{code[:HINT_CHARS]}…" for code in codes], "days": days}
        audit.note(session, actor, "top_up_code_create", RESOURCE, None, {"after": after})
    return codes


def void(session: Session, actor: audit.Actor, row: TopUpCode) -> None:
    """Let a code open nothing any more, within the caller's transaction.

    Raises:
        Conflict: it was redeemed or voided already.
    """
    claim = update(TopUpCode).where(TopUpCode.digest == row.digest, *_is_open()).values(voided_at=clock.now())
    gone = session.execute(claim.returning(TopUpCode.digest).execution_options(synchronize_session=False)).first()
    if gone is None:
        raise Conflict("This code was redeemed or voided already.")
    details = {"unit": row.unit, "amount": row.amount, "note": row.note}
    audit.note(session, actor, "top_up_code_void", RESOURCE, row.hint, {"before": details})


def state(row: TopUpCode, now: datetime) -> str:
    """`redeemed`, `voided`, `expired` or `open`."""
    if row.used_at is not None:
        return "redeemed"
    return "voided" if row.voided_at is not None else "expired" if row.expires_at <= now else "open"


class TopUps:
    """Redeems codes."""

    def __init__(self, engine: Engine, catalog: Catalog, throttle: Throttle) -> None:
        self._engine, self._catalog, self._throttle = engine, catalog, throttle

    def redeem(self, actor: audit.Actor, user_id: int, given: object, address: str) -> Redeemed:
        """Use a code up for a person; of many at once one gets it.

        Raises:
            InvalidRequest: it opens nothing; why is not said.
            TooManyAttempts: too many tries, by the person or from the address.
            NotFound: the person is gone.
        """
        account = str(user_id)
        self._throttle.sign_in(account, address, step=STEP)
        code = given.strip() if isinstance(given, str) else ""
        if not code.isascii() or not code or len(code) > MAX_CODE:
            raise _invalid()
        with changing(self._engine, self._catalog) as session:
            row = _take(session, user_id, code)
            found = Redeemed(row.unit, row.amount)
            _give(session, actor, user_id, row)
            details = {"unit": row.unit, "amount": row.amount, "user_id": user_id}
            audit.note(session, actor, "top_up_code_redeem", RESOURCE, row.hint, details)
        self._throttle.signed_in(account, address, step=STEP)
        return found


def _take(session: Session, user_id: int, code: str) -> TopUpCode:
    """Claim the code. First in its transaction: whoever comes second waits here, and then finds it used."""
    now, digest = clock.now(), _digest(code)
    claim = (
        update(TopUpCode)
        .where(TopUpCode.digest == digest, TopUpCode.expires_at > now, *_is_open())
        .values(used_at=now, used_by=user_id)
        .returning(TopUpCode.digest)
    )
    if session.execute(claim.execution_options(synchronize_session=False)).first() is None:
        raise _invalid()
    return session.get_one(TopUpCode, digest)


def _give(session: Session, actor: audit.Actor, user_id: int, row: TopUpCode) -> None:
    reason = f"top-up code {row.hint}"
    if session.get(User, user_id) is None:
        raise NotFound("There is no such user.", param="user_id")
    if row.unit == "tokens":
        balances.move(session, user_id, row.amount, actor, reason)
        return
    lock = update(User).where(User.id == user_id).values(updated_at=User.updated_at)
    session.execute(lock.execution_options(synchronize_session=False))
    budget = _raised(session, user_id, row.amount) or _first(session, user_id, row.amount)
    session.add(
        LedgerEntry(
            created_at=clock.now(),
            kind="top_up",
            account="budget",
            account_id=budget,
            amount_nanousd=row.amount,
            actor=clean(actor.name)[:150],
            actor_id=actor.user_id,
            reason=reason,
        )
    )


def _raised(session: Session, user_id: int, amount: int) -> int | None:
    """The number of the person's total budget in USD, which has grown; None = there is none."""
    mine = (Budget.scope == "user", Budget.scope_id == user_id, Budget.unit == "usd", Budget.period == "total")
    fits = Budget.limit_amount <= money.MAX_NANOUSD - amount
    grown = update(Budget).where(*mine, fits).values(limit_amount=Budget.limit_amount + amount, updated_at=clock.now())
    found = session.execute(grown.returning(Budget.id).execution_options(synchronize_session=False)).scalar()
    if found is None and budgets.find(session, "user", user_id, "usd", "total") is not None:
        raise InvalidRequest(FULL, param="code")
    return found


def _first(session: Session, user_id: int, amount: int) -> int:
    budget = Budget(scope="user", scope_id=user_id, unit="usd", period="total", limit_amount=amount)
    session.add(budget)
    session.flush()
    return budget.id


def _is_open() -> tuple[ColumnElement[bool], ...]:
    return TopUpCode.used_at.is_(None), TopUpCode.voided_at.is_(None)


def _invalid() -> InvalidRequest:
    return InvalidRequest(INVALID, param="code", code="top_up_code_invalid")


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def newest(session: Session, user_id: int, size: int) -> list[Any]:
    """The codes that a person redeemed, newest first."""
    query = select(TopUpCode).where(TopUpCode.used_by == user_id).order_by(TopUpCode.used_at.desc()).limit(size)
    return list(session.scalars(query))
