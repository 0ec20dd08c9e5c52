"""Who or what a budget or limit belongs to: a user, key, team or model, by the name people know and by number."""

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import ColumnElement, Select, delete, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from models import ApiKey, Budget, Limit, Model, Team, User
from models_policies import PolicyBinding
from services.errors import InvalidRequest, NotFound

NAMED: Final[dict[str, tuple[type[User | ApiKey | Team | Model], InstrumentedAttribute[str]]]] = {
    "user": (User, User.username),
    "key": (ApiKey, ApiKey.hint),
    "team": (Team, Team.name),
    "model": (Model, Model.name),
}
SCOPES: Final = tuple(NAMED)
AMBIGUOUS: Final = "several_keys"
BY_NUMBER: Final = "name the key by its number or UUID, which its page in the panel has."
HOW: Final = {"team": " Make it with: flask teams add NAME USER…"}


def find(session: Session, scope: str, given: str) -> int:
    """The number of a user, team or model by its name; of a key by its number, UUID or hint.

    Raises:
        NotFound: there is none, or several keys share the hint (code AMBIGUOUS).
        InvalidRequest: no such scope.
    """
    if scope not in NAMED:
        raise InvalidRequest(f"`{scope}` is none of {', '.join(SCOPES)}.", param="scope")
    kind, name = NAMED[scope]
    found = session.scalars(select(kind.id).where(_key(given) if scope == "key" else name == given).limit(2)).all()
    if len(found) > 1:
        raise NotFound(f"Several keys have the hint `{given}`: {BY_NUMBER}", param=scope, code=AMBIGUOUS)
    if not found:
        raise NotFound(f"There is no {scope} `{given}`.{HOW.get(scope, '')}", param=scope)
    return found[0]


def names(session: Session, owners: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """What these (scope, number) are called; one that was deleted is left out."""
    wanted: dict[str, set[int]] = {}
    for scope, number in owners:
        wanted.setdefault(scope, set()).add(number)
    found = {}
    for scope, numbers in wanted.items():
        if scope in NAMED:
            kind, name = NAMED[scope]
            rows = session.execute(select(kind.id, name).where(kind.id.in_(numbers)))
            found.update({(scope, number): called for number, called in rows})
    return found


def label(row: Budget | Limit, called: Mapping[tuple[str, int], str]) -> str:
    """The owner of one in words; hints of keys may be shared, so their number stands beside it."""
    name = called.get((row.scope, row.scope_id))
    if name is None:
        return f"{row.scope} #{row.scope_id}"
    return f"{row.scope} {name} (#{row.scope_id})" if row.scope == "key" else f"{row.scope} {name}"


def forget(session: Session, scope: str, numbers: Iterable[int] | Select[tuple[int]]) -> None:
    """Remove the budgets, limits and policies of these, which are about to be deleted; what was booked stays booked."""
    for table in (Budget, Limit, PolicyBinding):
        session.execute(delete(table).where(table.scope == scope, table.scope_id.in_(numbers)))


def _key(given: str) -> ColumnElement[bool]:
    if given.isascii() and given.isdigit() and len(given) < len(str(2**63)):
        return ApiKey.id == int(given)
    return (ApiKey.uuid == given) | (ApiKey.hint == given)
