"""A gateway as a small organisation would have it after a month: people, teams, keys, models, calls. All made up.

The same every time but for the moments, which are counted from now.
"""

import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flask import Flask
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from models import ApiKey, Deployment, LedgerEntry, Model, Price, Provider, SystemConfig, Team, UsageRecord, User
from services import Gateway, invitations
from services.audit import Actor
from tests.admin.conftest import add_budget, add_key, add_limit, add_team, add_user, spend
from tests.pictures import doings

DAYS: Final = 30
CALLS_A_DAY: Final = 260
TEAMS: Final = {
    "research": ("ana.lima", "bento", "clara.reis", "davi"),
    "support": ("elisa", "fabio.nunes", "gael"),
    "platform": ("helena.prado", "igor", "julia.melo"),
    "data": ("kaua", "lara.dias"),
}
KEYS: Final = ("notebook", "production", "ci", "staging", "batch", "chat-widget", "nightly-report")
PROVIDERS: Final = (  # name, kind, address, what its last listing said
    ("openai", "openai", "https://api.openai.com/v1", None),
    ("anthropic", "anthropic", "https://api.anthropic.com", None),
    ("azure-eu", "azure", "https://eu.example.net", None),
    ("lab-ollama", "openai", "http://ollama.example.net:11434/v1", "the provider did not answer within 5 s"),
)
MODELS: Final = (  # name, provider, context, USD per million of input and of output, weight, typical ms
    ("gpt-5-mini", "openai", 400_000, 0.25, 2.0, 40, 1400),
    ("gpt-5.1", "openai", 400_000, 1.25, 10.0, 14, 3900),
    ("claude-sonnet-4-5", "anthropic", 200_000, 3.0, 15.0, 22, 3100),
    ("claude-haiku-4-5", "anthropic", 200_000, 1.0, 5.0, 12, 1200),
    ("gpt-4.1-eu", "azure-eu", 1_047_576, 2.0, 8.0, 6, 2600),
    ("llama3.2", "lab-ollama", 131_072, 0.0, 0.0, 6, 5200),
)
OUTCOMES: Final = (
    ("ok", 200, 967),
    ("client_gone", 499, 12),
    ("upstream_error", 502, 14),
    ("upstream_timeout", 504, 7),
)
NANO: Final = 10**9


@dataclass
class Demo:
    """What was made, by number, for the addresses of pages."""

    users: dict[str, int] = field(default_factory=dict)
    teams: dict[str, int] = field(default_factory=dict)
    keys: dict[int, list[int]] = field(default_factory=dict)  # of a user
    providers: dict[str, int] = field(default_factory=dict)
    models: dict[str, int] = field(default_factory=dict)
    call: int = 0
    dialog: str = ""
    prompt: str = ""


def fill(app: Flask) -> Demo:
    """Fill a prepared, empty gateway."""
    chance, made = random.Random(7), Demo()
    here: Gateway = app.extensions["gateway"]
    _people(app, made, chance)
    with Session(here.engine) as session, session.begin():
        _catalog(session, here, made)
    _calls(here, made, chance)
    _ceilings(app, made, chance)
    _words(here, made)
    made.dialog, made.prompt = doings.do(app, made.users, made.keys, _teams_of(made))
    return made


def _people(app: Flask, made: Demo, chance: random.Random) -> None:
    for team, names in TEAMS.items():
        for place, name in enumerate(names):
            tags = ["pilot"] if place == 1 else None
            made.users[name] = add_user(app, name, tags=tags, role="team_admin" if place == 0 else "user")
        made.teams[team] = add_team(app, team, tuple(made.users[name] for name in names))
    made.users["rita.audit"] = add_user(app, "rita.audit", role="auditor")
    made.users["old-service"] = add_user(app, "old-service", is_active=False, disabled_reason="replaced by platform")
    for name, number in made.users.items():
        if name != "rita.audit":
            made.keys[number] = [add_key(app, number, key) for key in chance.sample(KEYS, chance.randint(1, 3))]
    here: Gateway = app.extensions["gateway"]
    now = datetime.now(UTC)
    with Session(here.engine) as session, session.begin():
        numbers = [number for keys in made.keys.values() for number in keys]
        for number in numbers:
            used = now - timedelta(minutes=chance.expovariate(1 / 400))
            session.execute(update(ApiKey).where(ApiKey.id == number).values(last_used_at=used))
        ends = now + timedelta(days=12)
        session.execute(
            update(ApiKey).where(ApiKey.id.in_(numbers[::7])).values(allowed_models=["gpt-5-mini"], expires_at=ends)
        )
        here.keys.revoke(session, numbers[4], "found in a public repository")
        for table in (User, Team, ApiKey):
            for number in session.scalars(select(table.id)):
                made_at = now - timedelta(days=40 + 160 / number)
                session.execute(update(table).where(table.id == number).values(created_at=made_at))


def _catalog(session: Session, here: Gateway, made: Demo) -> None:
    seen = datetime.now(UTC) - timedelta(minutes=9)
    for name, kind, address, problem in PROVIDERS:
        row = Provider(
            name=name, kind=kind, base_url=address, settings={}, credential=here.sealer.seal("sk-nothing"),
            discovered_at=seen, discovery_error=problem,
        )  # fmt: skip
        session.add(row)
        session.flush()
        made.providers[name] = row.id
    for name, provider, context, dear_in, dear_out, *_more in MODELS:
        model = Model(name=name, fallbacks=["claude-haiku-4-5"] if name == "gpt-5.1" else [], context_window=context)
        model.owned_by = provider
        model.deployments = [Deployment(provider_id=made.providers[provider], upstream_model=name)]
        if name == "gpt-5-mini":
            eu = made.providers["azure-eu"]
            model.deployments.append(Deployment(provider_id=eu, upstream_model=name, priority=2))
        rates = {"input_rate": round(dear_in * NANO), "output_rate": round(dear_out * NANO)}
        model.prices = [Price(source="manual", is_free=dear_in == 0, **rates)]
        session.add(model)
        session.flush()
        made.models[name] = model.id


def _moments(chance: random.Random) -> Iterator[datetime]:
    """More by day than by night, fewer on weekends, a little more every week."""
    now = datetime.now(UTC)
    for back in range(DAYS, -1, -1):
        day = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=back)
        share = (0.35 if day.weekday() > 4 else 1.0) * (1.3 - back / 70) * chance.uniform(0.8, 1.2)
        for _call in range(round(CALLS_A_DAY * share)):
            hour = min(max(chance.gauss(14, 4.2), 0.0), 23.98)
            moment = day + timedelta(hours=hour, seconds=chance.uniform(0, 59))
            if moment < now:
                yield moment


def _teams_of(made: Demo) -> dict[int, int]:
    """The team of each person who has one, by numbers."""
    return {made.users[name]: made.teams[team] for team, names in TEAMS.items() for name in names}


def _calls(here: Gateway, made: Demo, chance: random.Random) -> None:
    owners = [(number, keys) for number, keys in made.keys.items()]
    eager = [chance.expovariate(1) + 0.1 for _owner in owners]
    team_of = _teams_of(made)
    rows = []
    for place, moment in enumerate(sorted(_moments(chance))):
        user, keys = chance.choices(owners, eager)[0]
        rows.append(_call(chance, place, moment) | {"user_id": user, "key_id": keys[0], "team_id": team_of.get(user)})
    entries = [
        {"created_at": row["created_at"], "kind": "charge", "account": "user", "account_id": row["user_id"],
         "amount_nanousd": row["cost_nanousd"], "amount_tokens": row["input_tokens"] + row["output_tokens"],
         "request_id": row["request_id"]}
        for row in rows
    ]  # fmt: skip
    with Session(here.engine) as session, session.begin():
        session.execute(insert(UsageRecord), rows)
        session.execute(insert(LedgerEntry), entries)
        spent: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for row in rows:
            spent[row["user_id"]][0] += row["cost_nanousd"]
            spent[row["user_id"]][1] += row["input_tokens"] + row["output_tokens"]
        for user, (cash, tokens) in spent.items():
            session.execute(update(User).where(User.id == user).values(spent_nanousd=cash, tokens_used=tokens))
    made.call = len(rows)


def _call(chance: random.Random, place: int, moment: datetime) -> dict[str, Any]:
    name, provider, _context, dear_in, dear_out, _weight, typical = chance.choices(MODELS, [one[5] for one in MODELS])[
        0
    ]
    outcome, status, _share = chance.choices(OUTCOMES, [one[2] for one in OUTCOMES])[0]
    is_answered = outcome in ("ok", "client_gone")
    given = round(math.exp(chance.gauss(7.3, 1.0)))
    told = round(math.exp(chance.gauss(5.7, 0.9))) if is_answered else 0
    duration = round(typical * math.exp(chance.gauss(0, 0.45))) if outcome != "upstream_timeout" else 60_000
    rates = {"input_rate": round(dear_in * NANO), "output_rate": round(dear_out * NANO), "price_source": "manual"}
    cost = (given * rates["input_rate"] + told * rates["output_rate"]) // 10**6 if is_answered else 0
    return {
        "request_id": f"req_{round(moment.timestamp() * 1000):012x}{place:020x}",
        "created_at": moment, "model": name, "provider": provider, "upstream_model": name, "operation": "chat",
        "is_stream": chance.random() < 0.7, "status": status, "outcome": outcome, "is_overrun": False,
        "state": "measured" if outcome == "ok" else "estimated" if is_answered else "void",
        "input_tokens": given, "output_tokens": told, "cost_nanousd": cost, **rates,
        "first_byte_ms": min(round(duration * 0.22), duration), "duration_ms": duration,
        "attempts": json.dumps([[provider, "ok" if is_answered else outcome]]),
        "error": None if is_answered else "The provider did not answer in time.",
        "custom_id": None,
    }  # fmt: skip


def _ceilings(app: Flask, made: Demo, chance: random.Random) -> None:
    for number, part in zip(made.users.values(), (0.42, 0.93, 0.18, 1.0, 0.61, 0.07), strict=False):
        limit = chance.choice((20, 50, 100)) * NANO
        spend(app, add_budget(app, "user", number, limit), round(limit * part), held=limit // 90 if part < 1 else 0)
    for number, part in zip(made.teams.values(), (0.55, 0.88, 0.31, 0.12), strict=True):
        spend(app, add_budget(app, "team", number, 400 * NANO), round(400 * NANO * part))
        add_limit(app, "team", number, 600)
    for number in list(made.keys.values())[:4]:
        add_limit(app, "key", number[0], 200_000, unit="tokens")
        spend(app, add_budget(app, "key", number[0], 25 * NANO, period="day"), 11 * NANO, period="day")
    add_limit(app, "model", made.models["gpt-5.1"], 40, unit="concurrent", period="none")
    add_limit(app, "address", 0, 1000)


def _words(here: Gateway, made: Demo) -> None:
    """Who did what, and the few other things that lists show."""
    admin = Actor("admin", 1, "192.0.2.17", "Firefox")
    for team, role in (("research", "user"), ("platform", "team_admin"), ("", "auditor")):
        invitations.make(here.engine, admin, role=role, team=team)
    here.audit.note(
        admin, "user_update", "user", made.users["davi"], {"before": {"is_active": True}, "after": {"is_active": False}}
    )
    here.audit.note(admin, "provider_create", "provider", made.providers["azure-eu"], {"after": {"name": "azure-eu"}})
    here.audit.note(admin, "key_revoke", "key", 5, {"reason": "found in a public repository"})
    here.audit.note(
        Actor("helena.prado", made.users["helena.prado"], "192.0.2.40"), "login_success", "user", "helena.prado"
    )
    with Session(here.engine) as session, session.begin():
        session.add(
            SystemConfig(key="mail.host", value="smtp.example.net", description="Who sends mail", updated_by="admin")
        )
        session.add(SystemConfig(key="mail.password", sealed=here.sealer.seal("x"), is_secret=True, updated_by="admin"))
