"""Makes a key whose calls of model `hot` have four budgets and three limits, none of which ever refuses; prints it.

Run by bench.py in the root of the project and with the gateway's environment.
"""

import secrets

from sqlalchemy.orm import Session

import config
from app import create_app
from models import Team, User
from services import budgets, limits
from services.audit import Actor

ACTOR = Actor("bench")
LIMITS = (("requests", "minute"), ("tokens", "hour"), ("concurrent", "none"))


def main() -> None:
    """Add what is missing and say the key."""
    here = create_app(config.load_prepared(), with_commands=False).extensions["gateway"]
    name = f"hot-{secrets.token_hex(4)}"
    with Session(here.engine) as session, session.begin():
        team = Team(name=name)
        session.add(team)
        session.flush()
        user = User(username=name, team_id=team.id)
        session.add(user)
        session.flush()
        key = here.keys.issue(session, user.id, name)
    for scope, owner in (("key", str(key.id)), ("user", name), ("team", name), ("model", "hot")):
        period = "day" if scope == "key" else "total"
        budgets.put(here.engine, ACTOR, scope=scope, owner=owner, unit="usd", limit="1000000", period=period)
    for unit, period in LIMITS:
        limits.put(here.engine, ACTOR, scope="key", owner=str(key.id), unit=unit, limit=10**12, period=period)
    here.close()
    print(key.secret)


if __name__ == "__main__":
    main()
