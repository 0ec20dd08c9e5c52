"""Agents: named ways to ask a model. Three are built in, admins make more for everybody; both are presets.

Every user may have more, which nobody else sees. Where names are the same, one's own agent goes before a preset of
the admins; the names of what is built in are nobody's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models import Agent
from services.dialects import dialogs_fields as fields
from services.errors import Conflict, InvalidRequest, NotFound
from services.types import PublicModel
from utils import ids

MOST: Final = 200  # agents of a user
MISSING: Final = "There is no agent of this id."
BUILT_IN: Final = "A preset cannot be changed; make an agent of your own."
TAKEN: Final = "There is an agent of this name already."
FULL: Final = "You have as many agents as a user may have; delete one first."
DEFAULT: Final = "default"
EVERYBODY: Final = 0  # the owner of presets that admins made


@dataclass(frozen=True, slots=True)
class Manner:
    """How an agent asks: None = as the dialog says."""

    description: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    system_prompt: str | None = None
    model_name: str | None = None


PRESETS: Final[Mapping[str, Manner]] = {
    DEFAULT: Manner("Answers of every kind.", {"temperature": 0.7}),
    "code_assistant": Manner("Code: precise, with room for long answers.", {"temperature": 0.2, "max_tokens": 4096}),
    "creative_writer": Manner("Stories and ideas, with more variety.", {"temperature": 0.9}),
}


def list_all(engine: Engine, user_id: int) -> list[dict[str, Any]]:
    """The presets, then the user's own agents, both by name."""
    with Session(engine) as session:
        visible = select(Agent).where(Agent.user_id.in_((EVERYBODY, user_id)))
        rows = session.scalars(visible.order_by(Agent.user_id, Agent.name)).all()
        return [*(_preset(name) for name in PRESETS), *map(_view, rows)]


def find(engine: Engine, user_id: int, agent_id: str) -> dict[str, Any]:
    """One agent; the id of a preset is its name.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    if agent_id in PRESETS:
        return _preset(agent_id)
    with Session(engine) as session:
        return _view(_visible(session, user_id, agent_id))


def create(engine: Engine, user_id: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """A new agent of the user, from members that `dialogs_fields.AGENT` has read.

    Raises:
        Conflict: the name is taken, or there are too many.
    """
    agent_id, values = ids.uuid(), _values(given)
    if values["name"] in PRESETS:
        raise Conflict(TAKEN)
    try:
        with Session(engine) as session, session.begin():
            session.execute(
                insert(Agent).values({"description": "", "config": {}, **values, "id": agent_id, "user_id": user_id})
            )
            if (session.scalar(select(func.count(Agent.id)).where(Agent.user_id == user_id)) or 0) > MOST:
                raise Conflict(FULL)
            return _view(_own(session, user_id, agent_id))
    except IntegrityError as exc:
        raise Conflict(TAKEN) from exc


def change(engine: Engine, user_id: int, agent_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Change what is given and leave the rest; dialogs that name the agent ask as it says from now on.

    Raises:
        NotFound: there is none, or it is somebody else's.
        Conflict: the name is taken, or it is a preset.
    """
    values = _values(given)
    if agent_id in PRESETS:
        raise Conflict(BUILT_IN)
    if values.get("name") in PRESETS:
        raise Conflict(TAKEN)
    try:
        with Session(engine) as session, session.begin():
            row = _own(session, user_id, agent_id)
            if values:
                session.execute(update(Agent).where(Agent.id == row.id).values(values))
                session.expire(row)
            return _view(row)
    except IntegrityError as exc:
        raise Conflict(TAKEN) from exc


def remove(engine: Engine, user_id: int, agent_id: str) -> None:
    """Delete an agent of the user.

    Raises:
        NotFound: there is none, or it is somebody else's.
        Conflict: it is a preset.
    """
    if agent_id in PRESETS:
        raise Conflict(BUILT_IN)
    with Session(engine) as session, session.begin():
        row = _own(session, user_id, agent_id)
        session.execute(delete(Agent).where(Agent.id == row.id))


def named(session: Session, user_id: int, *layers: Mapping[str, Any] | None) -> Manner:
    """The agent that the first of these layers of parameters names; the default one where none does.

    Raises:
        InvalidRequest: there is no such agent; the message has the names of all.
    """
    name = next((str(layer[fields.TYPE]) for layer in layers if layer and layer.get(fields.TYPE)), None)
    if name is None:
        return Manner()
    if name in PRESETS:
        return PRESETS[name]
    visible = Agent.user_id.in_((EVERYBODY, user_id))
    row = session.scalar(
        select(Agent).where(visible, Agent.name == name).order_by((Agent.user_id == EVERYBODY).asc()).limit(1)
    )
    if row is None:
        own = session.scalars(select(Agent.name).where(visible).order_by(Agent.user_id, Agent.name)).all()
        known = ", ".join(dict.fromkeys([*PRESETS, *own]))
        raise InvalidRequest(
            f"Unknown agent type '{name}'. Available types: {known}", param=f"agent_config.{fields.TYPE}"
        )
    return Manner(row.description, row.config, row.system_prompt, row.model_name)


def describe(row: Agent) -> dict[str, Any]:
    """An agent for the audit log: of its instructions only how long they are."""
    return {
        "name": row.name,
        "user_id": row.user_id,
        "description": row.description,
        "model_name": row.model_name,
        "config": dict(row.config),
        "system_prompt_chars": len(row.system_prompt or ""),
    }


def check_window(config: Mapping[str, Any] | None, model: PublicModel | None, place: str) -> None:
    """Refuse an output limit that the model has no room for.

    Raises:
        InvalidRequest: `place` names the parameters in it.
    """
    most = model.context_window if model is not None else None
    asked = (config or {}).get("max_tokens")
    if most is not None and asked is not None and asked > most:
        raise InvalidRequest(
            f"`{place}.max_tokens` is {asked}; the context window of the model has {most} tokens.",
            param=f"{place}.max_tokens",
        )


def _visible(session: Session, user_id: int, agent_id: str) -> Agent:
    found = select(Agent).where(Agent.id == agent_id, Agent.user_id.in_((EVERYBODY, user_id)))
    row = session.scalar(found) if "\0" not in agent_id else None
    if row is None:
        raise NotFound(MISSING)
    return row


def _own(session: Session, user_id: int, agent_id: str) -> Agent:
    """An agent that the user may change."""
    row = _visible(session, user_id, agent_id)
    if row.user_id == EVERYBODY:
        raise Conflict(BUILT_IN)
    return row


def _values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Columns; what may not be empty there is left out where it is null, and has its default."""
    return {
        name: value for name, value in given.items() if value is not None or name in ("system_prompt", "model_name")
    }


def _view(row: Agent) -> dict[str, Any]:
    manner = Manner(row.description, row.config, row.system_prompt, row.model_name)
    return _shown(row.id, row.name, manner) | {
        "is_preset": row.user_id == EVERYBODY,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _preset(name: str) -> dict[str, Any]:
    return _shown(name, name, PRESETS[name]) | {"is_preset": True, "created_at": None, "updated_at": None}


def _shown(agent_id: str, name: str, manner: Manner) -> dict[str, Any]:
    return {
        "id": agent_id,
        "name": name,
        "description": manner.description,
        "system_prompt": manner.system_prompt,
        "model_name": manner.model_name,
        "config": dict(manner.config),
    }
