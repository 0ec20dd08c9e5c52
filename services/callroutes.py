"""The management API's routes: stored, changed and shown. What becomes of them at a call: services/steps.py.

A route is a path under `/api/routes`, the keys that may call it, and steps: places where a call is tried in order.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from models import ApiKey, Deployment, Model, Provider, Route
from services import durations, fields, managed
from services.audit import Actor, differences, note
from services.catalog import Catalog
from services.changing import changing
from services.dialects import openai
from services.errors import FieldsInvalid, NotFound
from services.fields import Parse, Unfit
from services.keymanagement import Answer
from services.steps import CONSTANT, DEPLOYMENT, accounts_of, is_meant
from services.types import CHAT
from utils import clock

EXPONENTIAL: Final = "exponential"
MAX_PATH: Final = 200
MAX_STEPS: Final = 20
MAX_RETRIES: Final = 10
LONGEST_TIMEOUT: Final = timedelta(hours=1)
LONGEST_PAUSE: Final = timedelta(minutes=1)
LONGEST_TTL: Final = timedelta(days=30)
USUAL_TTL: Final = "168h"
PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")
TUNING: Final = (  # what a step may set; what decides how much a call can cost is its caller's
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "presence_penalty",
    "seed",
    "stop",
    "temperature",
    "top_logprobs",
    "top_p",
)
STORED: Final[dict[str, str]] = {  # what some members are called where they are stored
    "timeout": "timeout_s",
    "retryInterval": "pause_s",
    "requestParams": "request_params",
}


class CallRoutes:
    """See the module."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine, self._catalog = engine, catalog

    def create(self, actor: Actor, body: Mapping[str, Any]) -> Answer:
        """A new route.

        Raises:
            FieldsInvalid: what the body says cannot be.
            Conflict: the path is taken (code `duplicate_route`).
        """
        given = fields.read(MEMBERS, body, ("name", "path", "keyIds", "steps"))
        with changing(self._engine, self._catalog) as session:
            row = Route(retry_strategy=EXPONENTIAL)
            fill(session, row, given.values)
            session.add(row)
            session.flush()
            note(session, actor, "route_create", "route", row.uuid, differences(None, shown(session, row)))
            return Answer(shown(session, row), given.ignored)

    def get(self, uuid: str) -> dict[str, Any]:
        """One route.

        Raises:
            NotFound: there is none (code `route_not_found`).
        """
        with Session(self._engine) as session:
            return shown(session, _found(session, uuid))

    def listed(self) -> list[dict[str, Any]]:
        """All routes, the oldest first."""
        with Session(self._engine) as session:
            return [shown(session, row) for row in session.scalars(select(Route).order_by(Route.id))]

    def update(self, actor: Actor, uuid: str, body: Mapping[str, Any]) -> Answer:
        """Change what the body names and leave the rest.

        Raises:
            FieldsInvalid: what the body says cannot be.
            InvalidRequest: it stands in the configuration file.
            NotFound: there is no such route.
            Conflict: the path is taken.
        """
        given = fields.read(MEMBERS, body)
        with changing(self._engine, self._catalog) as session:
            row = _found(session, uuid)
            managed.check(session, row)
            before = shown(session, row)
            fill(session, row, given.values)
            row.updated_at = clock.now()
            session.flush()
            after = shown(session, row)
            note(session, actor, "route_update", "route", row.uuid, differences(before, after))
            return Answer(after, given.ignored)

    def delete(self, actor: Actor, uuid: str) -> None:
        """Remove a route; calls under way go on.

        Raises:
            NotFound: there is no such route.
            InvalidRequest: it stands in the configuration file.
        """
        with changing(self._engine, self._catalog) as session:
            row = _found(session, uuid)
            managed.check(session, row)
            note(session, actor, "route_delete", "route", row.uuid, {"before": shown(session, row)})
            session.delete(row)


def _found(session: Session, uuid: str) -> Route:
    row = session.scalar(select(Route).where(Route.uuid == uuid)) if uuid.isascii() and uuid.isprintable() else None
    if row is None:
        raise NotFound(f"There is no route `{uuid[:36]}`.", param="id", code="route_not_found")
    return row


def fill(session: Session, row: Route, values: Mapping[str, Any]) -> None:
    """Set what MEMBERS have read, within the caller's transaction.

    Raises:
        FieldsInvalid: a key, provider or model is not there.
    """
    for member, column in (("name", "name"), ("path", "path"), ("cacheConfig", "cache")):
        if member in values:
            setattr(row, column, values[member])
    row.retry_strategy = values.get("retryStrategy") or row.retry_strategy
    if "keyIds" in values:
        row.key_ids = _keys(session, values["keyIds"])
    if "steps" in values:
        _check_places(session, values["steps"])
        row.steps = values["steps"]


def _keys(session: Session, uuids: list[str]) -> list[int]:
    found = dict(session.execute(select(ApiKey.uuid, ApiKey.id).where(ApiKey.uuid.in_(uuids))).tuples().all())
    if missing := [uuid for uuid in uuids if uuid not in found]:
        raise FieldsInvalid({"keyIds": f"`{missing[0]}` does not exist"})
    return [found[uuid] for uuid in uuids]


def _check_places(session: Session, steps: list[dict[str, Any]]) -> None:
    """Whether each step leads somewhere.

    Raises:
        FieldsInvalid: naming the provider or model that is not there.
    """
    accounts = list(session.scalars(select(Provider)))
    query = select(Deployment.provider_id, Model.name, Deployment.upstream_model).join(Model)
    places = session.execute(query).tuples().all()
    wrong = {}
    for index, step in enumerate(steps):
        numbers = accounts_of(step["provider"], accounts)
        if not numbers:
            wrong[f"steps.{index}.provider"] = f"`{step['provider']}` does not exist"
        elif not any(number in numbers and is_meant(step, public, model) for number, public, model in places):
            name = step.get("params", {}).get(DEPLOYMENT) or step["model"]
            wrong[f"steps.{index}.model"] = f"`{name}` is not offered at `{step['provider']}`"
    if wrong:
        raise FieldsInvalid(wrong)


def shown(session: Session, row: Route) -> dict[str, Any]:
    """A route as clients see it. Keys that were deleted are gone."""
    found = session.execute(select(ApiKey.id, ApiKey.uuid).where(ApiKey.id.in_(row.key_ids)))
    uuids = dict(found.tuples().all())
    return {
        "id": row.uuid,
        "name": row.name,
        "path": row.path,
        "keyIds": [uuids[number] for number in row.key_ids if number in uuids],
        "steps": [_shown_step(step) for step in row.steps],
        "cacheConfig": row.cache or {"enabled": False, "ttl": ""},
        "retryStrategy": row.retry_strategy,
        "createdAt": int(row.created_at.timestamp()),
        "updatedAt": int(row.updated_at.timestamp()),
    }


def _shown_step(step: Mapping[str, Any]) -> dict[str, Any]:
    timeout_s, pause_s = step.get("timeout_s"), step.get("pause_s")
    return {
        "provider": step["provider"],
        "model": step["model"],
        "retries": step.get("retries", 0),
        "timeout": "" if timeout_s is None else f"{timeout_s:g}s",
        "retryInterval": "" if pause_s is None else f"{pause_s:g}s",
        "params": step.get("params", {}),
        "requestParams": step.get("request_params", {}),
    }


def _path(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_PATH or not PATH.fullmatch(value):
        raise Unfit(
            f"must begin with a slash and may have {MAX_PATH} letters, digits, `-`, `_`, `.` and `~` between slashes"
        )
    if any(part in (".", "..") for part in value.split("/")):
        raise Unfit("must not have `.` or `..` between its slashes")
    return value


def _key_ids(value: Any) -> list[str]:
    found: list[str] = fields.entries(fields.text(fields.MAX_NAME))(value)
    if not found:
        raise Unfit("must name the keys that may call the route")
    return found


def _steps(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_STEPS:
        raise Unfit(f"must be a list of 1 to {MAX_STEPS} steps")
    return [_object(STEP, step, f".{index}", ("provider", "model")) for index, step in enumerate(value)]


def _object(parsers: Mapping[str, Parse], value: Any, at: str, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """An object within a body, as it is stored; what is empty is left out."""
    if not isinstance(value, dict):
        raise Unfit("must be an object", at)
    members: dict[str, Any] = value
    found: dict[str, Any] = {}
    for name, given in members.items():
        if name not in parsers:
            raise Unfit(f"is none of {', '.join(parsers)}", f"{at}.{name}")
        if given in (None, "", {}):
            continue
        try:
            found[STORED.get(name, name)] = parsers[name](given)
        except Unfit as exc:
            raise Unfit(str(exc), f"{at}.{name}{exc.at}") from exc
    if missing := [name for name in required if name not in found]:
        raise Unfit("is required", f"{at}.{missing[0]}")
    return found


def _seconds(longest: timedelta) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        found: timedelta = fields.duration(value)
        if not timedelta() < found <= longest:
            raise Unfit(f"must be longer than nothing and at most {int(longest.total_seconds())}s")
        return found.total_seconds()

    return parse


def _params(value: Any) -> dict[str, str]:
    return _object({DEPLOYMENT: TEXT, "apiVersion": TEXT}, value, "")


def _request_params(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unfit("must be an object")
    for name, given in value.items():
        if name not in TUNING:
            raise Unfit(f"cannot be set by a route, which may set {', '.join(TUNING)}", f".{name}")
        if (problem := openai.FIELDS[CHAT][name](_plain(given))) is not None:
            raise Unfit(problem, f".{name}")
    found: dict[str, Any] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    """The value with fractions as JSON columns take them."""
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return float(value) if isinstance(value, Decimal) else value


def _ttl(value: Any) -> str:
    try:
        is_good = isinstance(value, str) and timedelta() < durations.parse(value) <= LONGEST_TTL
    except ValueError as exc:
        raise Unfit(str(exc)) from exc
    if not is_good:
        raise Unfit(f"must be a length of time such as 5s or 168h, and at most {LONGEST_TTL.days} days")
    return str(value)


def _cache(value: Any) -> dict[str, Any] | None:
    found = _object({"enabled": fields.flag, "ttl": _ttl}, value, "")
    is_enabled = found.get("enabled", False)
    if not found:
        return None
    return {"enabled": is_enabled, "ttl": found.get("ttl", USUAL_TTL if is_enabled else "")}


def _strategy(value: Any) -> str:
    if value not in (EXPONENTIAL, CONSTANT, ""):
        raise Unfit(f"must be {EXPONENTIAL} or {CONSTANT}")
    return str(value)


TEXT: Final = fields.text(fields.MAX_NAME, is_required=True)
STEP: Final[Mapping[str, Parse]] = {
    "provider": TEXT,
    "model": TEXT,
    "retries": fields.whole(0, MAX_RETRIES),
    "timeout": _seconds(LONGEST_TIMEOUT),
    "retryInterval": _seconds(LONGEST_PAUSE),
    "params": _params,
    "requestParams": _request_params,
}
MEMBERS: Final[Mapping[str, Parse]] = {
    "name": TEXT,
    "path": _path,
    "keyIds": _key_ids,
    "steps": _steps,
    "cacheConfig": _cache,
    "retryStrategy": _strategy,
}
