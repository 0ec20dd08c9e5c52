"""A served gateway with people of every role and something of everything to find, for made-up requests."""

import shutil
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from models import Team, User
from tests.admin.conftest import CHEAP_HASH
from tests.callers import bearer
from tests.conftest import PASSWORD, SECRETS
from tests.fakes.served import Served

ADMIN_PASS = "an-admin-pass-of-the-tests-0123456789"
PROGRAM = {"X-API-KEY": ADMIN_PASS}
MODELS = ["echo", "echo-json", "echo-tool-call", "echo-no-usage", "echo-400", "echo-429", "nothing"]
SIGNED_IN = {"user": "user", "team admin": "team_admin", "auditor": "auditor", "admin": "admin"}  # with their role
ROLES = ("anonymous", *SIGNED_IN, "key of a user", "key of an admin")
IN_BODIES = {"model", "model_name", "keyIds", "userId", "team", "invitation", "agent_type"}
MAKING = {"NewNamedModel", "NewUser"}  # these need a name that nothing has
FILLERS = 40  # users before those who ask: numbers that are made up are small, and these may be lost


@dataclass(frozen=True, slots=True)
class Settled:
    """The gateway, the headers of each role, and what members and parameters may be called."""

    served: Served
    headers: dict[str, dict[str, str]]
    names: dict[str, list[Any]]

    def is_known(self, role: str) -> bool:
        """Whether the role's credential still opens what it should."""
        answer = requests.get(f"{self.served.url}/users/me", headers=self.headers[role], timeout=60)
        return answer.status_code == (401 if role == "anonymous" else 200)

    def tidy(self) -> None:
        """Remove models that were made up: a call that happens to name one would go to a provider in the world."""
        admin = self.headers["admin"]
        for model in requests.get(f"{self.served.url}/models/all", headers=admin, timeout=60).json():
            if model["model_type"] != "ECHO" and model["model_endpoint"] is not None:
                path = quote(model["model_name"], safe="")
                assert requests.delete(f"{self.served.url}/models/{path}", headers=admin, timeout=60).ok, model


def settle(folder: Path, template: Path, *, found: int) -> Settled:
    """A gateway on a copy of that database, with `found` things of each kind. Whoever calls stops it."""
    shutil.copy(template, folder / "tollhouse.db")
    database = f"sqlite:///{folder}/tollhouse.db"
    team, losable = _people(database)
    environ = {
        "ENVIRONMENT": "test",
        "INSTANCE_PATH": str(folder),
        "DATABASE_URL": database,
        "ADMIN_PASS": ADMIN_PASS,
        "RATE_LIMIT_PER_MINUTE": "1000000",
        **SECRETS,
    }
    served = Served(environ)
    headers: dict[str, dict[str, str]] = {"anonymous": {}}
    for role, name in SIGNED_IN.items():
        signed_in = {"username": f"the-{name}", "password": PASSWORD}
        headers[role] = bearer(_send(served, "/login", signed_in)["access_token"])
    for role, name in {"key of a user": "the-user", "key of an admin": "the-admin"}.items():
        made = _send(served, "/api/key-management/keys", {"name": role, "userId": name}, PROGRAM)
        headers[role] = bearer(made["key"])
    return Settled(served, headers, _things(served, headers, (team, losable), found))


def _people(database: str) -> tuple[int, list[tuple[int, str]]]:
    """Somebody of each role, and people who may be lost: the number of their team, numbers and names of the latter."""
    engine = create_engine(database)
    with Session(engine) as session, session.begin():
        team = Team(name="crew")
        session.add(team)
        session.flush()
        fillers = [User(username=f"filler-{n}", team_id=team.id, password_hash=CHEAP_HASH) for n in range(FILLERS)]
        session.add_all(fillers)
        session.flush()
        for name in SIGNED_IN.values():
            row = User(username=f"the-{name}", role=name, password_hash=CHEAP_HASH)
            row.team_id = team.id if name == "team_admin" else None
            session.add(row)
        found = team.id, [(row.id, row.username) for row in fillers]
    engine.dispose()
    return found


def _things(
    served: Served, headers: dict[str, dict[str, str]], people: tuple[int, list[tuple[int, str]]], found: int
) -> dict[str, list[Any]]:
    """Something to find for everybody, in place of words that nobody knows."""
    team, losable = people
    numbers, names = [number for number, _name in losable], [name for _number, name in losable]
    own = [sent for role, sent in headers.items() if role != "anonymous"]
    made = _of_programs(served, found) | _of_admins(served, headers["admin"], (team, numbers[:found]), found)
    return {
        **made,
        **_of_everybody(served, own, found),
        **dict.fromkeys(("model", "model_name", "name"), MODELS),
        "/models/{name}": ["gpt-3.5-turbo", "claude-3-opus", "echo"],
        "key_id": [*made["keyIds"], *made["key_id"]],
        "user_id": numbers,
        "userId": names,
        "username": names,
        **{path: [*names, "the-user"] for path in ("/usage/{username}", "/users/usage/{username}")},
        "team_id": [team],
        "team": ["crew", "none"],
        "agent_type": ["default", "agent 0 0"],
        "tag": ["made"],
    }


def _of_programs(served: Served, found: int) -> dict[str, list[Any]]:
    """Keys and routes."""
    new = [{"name": f"key {n}", "tags": ["made"]} for n in range(found)]
    key_ids = [_send(served, "/api/key-management/keys", body, PROGRAM)["keyId"] for body in new]
    rest = {"keyIds": key_ids, "steps": [{"provider": "echo", "model": "echo"}]}
    paths = [{"name": f"r{n}", "path": f"/r{n}"} for n in range(found)]
    routes = [_send(served, "/api/routes", path | rest, PROGRAM)["id"] for path in paths]
    return {"keyIds": key_ids, "route_id": [*routes, "r0", "r1"]}


def _of_admins(
    served: Served, admin: dict[str, str], members: tuple[int, list[int]], found: int
) -> dict[str, list[Any]]:
    """Configuration values, invitations, and keys of members."""
    team, numbers = members
    values = [{"key": f"c{n}", "value": "1"} for n in range(found)]
    invitations = [_send(served, "/api/v1/admin/invitations", {}, admin) for _ in range(found)]
    paths = [f"/api/v1/teams/{team}/members/{number}/keys" for number in numbers]
    return {
        "key": [_send(served, "/api/v1/admin/config", body, admin)["key"] for body in values],
        "number": [invitation["id"] for invitation in invitations],
        "invitation": [invitation["code"] for invitation in invitations],
        "key_id": [_send(served, path, {"name": "one"}, admin)["id"] for path in paths],
    }


def _of_everybody(served: Served, own: list[dict[str, str]], found: int) -> dict[str, list[Any]]:
    """Dialogs, agents and stored answers of each."""
    bodies: dict[str, dict[str, Any]] = {
        "/api/v1/dialogs": {"model_name": "echo"},
        "/v1/responses": {"model": "echo", "input": "hi"},
    }
    ids = {path: [_send(served, path, body, sent)["id"] for sent in own * found] for path, body in bodies.items()}
    names = [(f"agent {place} {n}", sent) for place, sent in enumerate(own) for n in range(found)]
    agents = [_send(served, "/api/v1/agents", {"name": name}, sent)["id"] for name, sent in names]
    stored = "/v1/responses/{name}"
    return {
        **dict.fromkeys((stored, f"{stored}/cancel", f"{stored}/input_items"), ids["/v1/responses"]),
        "dialog_id": ids["/api/v1/dialogs"],
        "agent_id": [*agents, "default"],
    }


def _send(served: Served, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    answer = requests.post(served.url + path, json=body, headers=headers or {}, timeout=120)
    assert answer.status_code in (200, 201), (path, answer.text)
    return dict(answer.json())


def with_names(document: dict[str, Any], names: dict[str, list[Any]]) -> dict[str, Any]:
    """The document with these words, and no others, for members of requests and for parameters of these names.

    A word under a whole path is meant for the parameters there. Schemas that answers have too are left as they are, so
    what it says of answers stays.
    """
    changed = deepcopy(document)
    asked = _named(document, lambda operation: operation.get("requestBody", {}))
    said = _named(document, lambda operation: operation["responses"])
    for schema in asked - said - MAKING:
        properties = changed["components"]["schemas"][schema].get("properties", {})
        for name in properties.keys() & names.keys() & IN_BODIES:
            is_list = properties[name].get("type") == "array"
            words = {"enum": names[name]}
            properties[name] = {"type": "array", "items": words, "minItems": 1, "maxItems": 3} if is_list else words
    for path, entry in changed["paths"].items():
        for operation in entry.values():
            for parameter in operation.get("parameters", ()):
                fitting = _fitting(parameter["schema"], names.get(path, names.get(parameter["name"], ())))
                if fitting:
                    parameter["schema"] = {"enum": fitting}
    return changed


def _fitting(schema: dict[str, Any], words: Any) -> list[Any]:
    """The words of the parameter's kind; what is a number in one place may be a text in another."""
    if schema.get("type") == "integer":
        return [word for word in words if isinstance(word, int)]
    return [str(word) for word in words] if schema.get("type") == "string" else []


def _named(document: dict[str, Any], part: Any) -> set[str]:
    """The schemas to which this part of any operation leads."""
    schemas = document["components"]["schemas"]
    found: set[str] = set()
    waiting = [part(operation) for entry in document["paths"].values() for operation in entry.values()]
    while waiting:
        for name in _references(waiting.pop()) - found:
            found.add(name)
            waiting.append(schemas[name])
    return found


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = value.get("$ref", "")
        inner = set().union(*map(_references, value.values()))
        return inner | ({own.rpartition("/")[2]} if isinstance(own, str) and "/schemas/" in own else set())
    return set().union(*map(_references, value)) if isinstance(value, list) else set()
