"""Ways through what people said and what their balances did, for the panel's lists: bounded, as in services/reports.py.

Texts are cut in the database: a page of a hundred long messages would be megabytes.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, Row, Select, exists, func, literal, or_, select, tuple_
from sqlalchemy.orm import Session

from models import Budget, BudgetWindow, Dialog, LedgerEntry, Message, User
from services.balances import REASONS
from services.reports import WALK, Also, Page, Walk, apart

SHOWN_CHARS: Final = 100  # of a message, in lists
_PREPAID: Final = select(Budget.id).where(Budget.is_prepaid, Budget.scope == "user")


@dataclass(frozen=True, slots=True)
class DialogFilter:
    """Which dialogs; None or empty = any. `search` is a part of the model's name and, where it may be, of the title."""

    user_id: int | None = None
    search: str = ""
    has_titles: bool = True


@dataclass(frozen=True, slots=True)
class TokensOf:
    """What a user was given and has used of it, in tokens. None = unlimited."""

    balance: int | None
    held: int
    limit: int | None
    updated_at: datetime | None


def messages(dialog_id: str, user_id: int | None, role: str, *, has_content: bool) -> Walk:
    """The way through messages, each with the beginning of its text as `excerpt` where that may be read."""
    row = Message
    excerpt = func.substr(row.content, 1, SHOWN_CHARS + 1) if has_content else literal("")
    columns = (
        *(row.number, row.id, row.dialog_id, row.user_id, row.role, row.created_at),
        *(row.prompt_tokens, row.completion_tokens, excerpt.label("excerpt")),
    )
    where: list[ColumnElement[bool]] = [row.dialog_id == dialog_id] if dialog_id else []
    if user_id is not None:
        where.append(row.user_id == user_id)
    also: tuple[Also, ...] = (lambda found: found.role == role,) if role else ()
    return Walk(row.number, tuple(where), also, columns)


def transactions(user_id: int | None, search: str) -> Walk:
    """The way through the movements of prepaid tokens; `search` is a part of the user's name or of the reason."""
    entry, also = LedgerEntry, list[Also]()
    if user_id is not None:
        mine = _PREPAID.where(Budget.scope_id == user_id, Budget.unit == "tokens", Budget.period == "total")
        where: tuple[ColumnElement[bool], ...] = (entry.account == "budget", entry.account_id == mine.scalar_subquery())
    else:
        where = ()
        also.append(_is_prepaid)
    if search:
        also.append(_said(search))
    return Walk(entry.id, where, tuple(also))


def owners_of(engine: Engine, budget_ids: set[int]) -> dict[int, int]:
    """Whose these balances are: the user's number by the budget's."""
    if not budget_ids:
        return {}
    with engine.connect() as connection:
        rows = connection.execute(select(Budget.id, Budget.scope_id).where(Budget.id.in_(budget_ids)))
        return dict(rows.tuples().all())


def tokens_of(session: Session, user_ids: list[int]) -> dict[int, TokensOf]:
    """Where users stand; one who is not limited in tokens is left out."""
    row, window = Budget, BudgetWindow
    at_once = (window.budget_id == row.id) & (window.period_start == 0)
    query = (
        select(row, window.spent_amount, window.held_amount)
        .outerjoin(window, at_once)
        .where(row.scope == "user", row.scope_id.in_(user_ids), row.unit == "tokens", row.period == "total")
    )
    found: dict[int, TokensOf] = {}
    for budget, spent, held in session.execute(query):
        so_far = found.get(budget.scope_id, TokensOf(None, 0, None, None))
        latest = max(budget.updated_at, so_far.updated_at or budget.updated_at)
        left = budget.limit_amount - (spent or 0)
        found[budget.scope_id] = (
            TokensOf(left, held or 0, so_far.limit, latest)
            if budget.is_prepaid
            else TokensOf(so_far.balance, so_far.held, budget.limit_amount, latest)
        )
    return found


def has_tokens() -> ColumnElement[bool]:
    """A condition: the user has a balance or a limit of tokens."""
    mine = (Budget.scope == "user", Budget.scope_id == User.id, Budget.unit == "tokens", Budget.period == "total")
    return exists().where(*mine)


def dialogs(engine: Engine, wanted: DialogFilter, *, before: str | None, after: str | None, size: int) -> Page:
    """A page of dialogs, what was used last first. A cursor is a moment and an id, since moments may be shared."""
    is_back = after is not None
    place = _place(after if is_back else before)
    limits: list[ColumnElement[bool]] = [Dialog.user_id == wanted.user_id] if wanted.user_id is not None else []
    if place is not None:
        key = tuple_(Dialog.updated_at, Dialog.id)
        limits.append(key > place if is_back else key < place)
    with engine.connect() as connection:
        end = _end(connection, limits, is_back=is_back) if wanted.search else None
        rows = list(connection.execute(_dialogs(wanted, limits, end, size + 1, is_back=is_back)))
    has_more, rows = len(rows) > size, rows[:size]
    is_cut = end is not None and not has_more
    edge = _cursor(rows[-1]) if has_more else None if end is None else _cursor(end)
    if is_back:
        rows.reverse()
        return Page(rows, newer=edge, older=_cursor(rows[-1]) if rows else after, is_cut=is_cut)
    newer = _cursor(rows[0]) if rows and place is not None else None
    return Page(rows, newer=newer, older=edge, is_cut=is_cut)


def _dialogs(
    wanted: DialogFilter, limits: list[ColumnElement[bool]], end: Row[Any] | None, size: int, *, is_back: bool
) -> Select[Any]:
    """The rows of a page; `end`: the last row that a search looks at."""
    row = Dialog
    title = row.title if wanted.has_titles else literal(None)
    columns = (row.id, row.user_id, title.label("title"), row.model_name, row.message_count, row.updated_at)
    also = list(limits)
    if wanted.search:
        parts = (row.model_name, row.title) if wanted.has_titles else (row.model_name,)
        also.append(or_(*(part.icontains(wanted.search, autoescape=True) for part in parts)))
    if end is not None:
        key, last = tuple_(row.updated_at, row.id), (end.updated_at, end.id)
        also.append(key <= last if is_back else key >= last)
    rows = select(*columns, row.created_at).where(*also)
    return rows.order_by(*_order(row, is_back=is_back)).limit(size)


def _end(connection: Any, limits: list[ColumnElement[bool]], *, is_back: bool) -> Row[Any] | None:
    """The last of the first WALK dialogs; None = there are fewer, and a search may see them all."""
    query = select(Dialog.id, Dialog.updated_at).where(*limits).order_by(*_order(Dialog, is_back=is_back))
    found: Row[Any] | None = connection.execute(query.offset(WALK - 1).limit(1)).first()
    return found


def _order(columns: Any, *, is_back: bool) -> tuple[Any, Any]:
    if is_back:
        return columns.updated_at.asc(), columns.id.asc()
    return columns.updated_at.desc(), columns.id.desc()


def _cursor(row: Any) -> str:
    return f"{round(row.updated_at.timestamp() * 1000)}-{row.id}"


def _place(cursor: str | None) -> Any:
    """What a cursor stands for; None for one that is none."""
    moment, dash, number = (cursor or "").partition("-")
    if not dash or not (moment.isascii() and moment.isdigit() and len(moment) < len(str(10**14))):
        return None
    return tuple_(literal(datetime.fromtimestamp(int(moment) / 1000, UTC), Dialog.updated_at.type), literal(number))


def _is_prepaid(columns: Any) -> ColumnElement[bool]:
    found: ColumnElement[bool] = (apart(columns.account) == "budget") & apart(columns.account_id).in_(_PREPAID)
    return found


def _said(search: str) -> Also:
    kinds = [kind for kind, reason in REASONS.items() if search.lower() in reason]
    named = select(User.id).where(User.username.icontains(search, autoescape=True))
    accounts = _PREPAID.where(Budget.scope_id.in_(named))

    def fits(columns: Any) -> Any:
        by_reason = apart(columns.kind).in_(kinds) | columns.reason.icontains(search, autoescape=True)
        return by_reason | apart(columns.account_id).in_(accounts)

    return fits
