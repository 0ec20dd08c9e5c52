"""Teams: made, joined and listed by command, and removed. The panel also renames them."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.orm import Session

from models import Team, User
from models_prompts import Prompt
from services import audit, owners, removal
from services.errors import InvalidRequest, NotFound

MAX_NAME: Final = 150


def add(engine: Engine, actor: audit.Actor, name: str, users: Sequence[str] = ()) -> bool:
    """Have these users join a team, which is made if need be; whether it was made. A user is in one team at a time.

    Raises:
        InvalidRequest: a name that cannot be.
        NotFound: no such user; nothing was changed.
    """
    if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > MAX_NAME:
        raise InvalidRequest(f"A team's name has 1 to {MAX_NAME} characters that can be seen.", param="name")
    with Session(engine) as session, session.begin():
        found = dict(session.execute(select(User.username, User.id).where(User.username.in_(users))).tuples().all())
        if missing := [user for user in users if user not in found]:
            raise NotFound(f"There is no user `{missing[0]}`.", param="user")
        row = session.scalar(select(Team).where(Team.name == name))
        before = None if row is None else _describe(session, row)
        if row is None:
            row = Team(name=name)
            session.add(row)
            session.flush()
        session.execute(update(User).where(User.id.in_(found.values())).values(team_id=row.id))
        details = audit.differences(before, _describe(session, row))
        if details["after"]:
            audit.note(session, actor, "team_create" if before is None else "team_update", "team", row.id, details)
        return before is None


def listed(engine: Engine) -> list[dict[str, object]]:
    """Every team by name: `name`, and `users`, which is how many it has."""
    count = func.count(User.id)
    query = select(Team.name, count).join(User, User.team_id == Team.id, isouter=True).group_by(Team.id, Team.name)
    with Session(engine) as session:
        return [{"name": name, "users": users} for name, users in session.execute(query.order_by(Team.name)).tuples()]


def remove(session: Session, team_id: int) -> None:
    """The team with its budgets, limits and prompts, within the caller's transaction; its members stay, without a team.

    The windows of its budgets stay: they are sums of the ledger.
    """
    session.execute(update(User).where(User.team_id == team_id).values(team_id=None))
    owners.forget(session, "team", [team_id])
    removal.prompts(session, Prompt.team_id == team_id)
    session.execute(delete(Team).where(Team.id == team_id))


def _describe(session: Session, row: Team) -> dict[str, object]:
    query = select(User.username).where(User.team_id == row.id).order_by(User.username)
    return {"name": row.name, "allowed_models": row.allowed_models, "members": list(session.scalars(query))}
