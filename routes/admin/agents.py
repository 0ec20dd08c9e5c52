"""Agents: named ways to ask a model. Those for everybody are presets; the others belong to one user.

The presets that are built in stand below the list, and cannot be changed.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from flask import abort, request
from sqlalchemy import inspect, select
from sqlalchemy.orm import Session
from wtforms import TextAreaField
from wtforms.validators import InputRequired, Length

from models import Agent, User
from routes.admin.forms import TextField
from routes.admin.guard import go
from routes.admin.owned import number_of
from routes.admin.parameters import ParametersForm
from routes.admin.tables import Choice, Table
from routes.admin.texts import N_, gettext, lazy_gettext
from services import agents, dialogs, reports
from services.dialects import dialogs_fields as fields
from services.errors import InvalidRequest
from utils import ids
from utils.extensions import db, gateway

_ = lazy_gettext

EVERYBODY: Final = agents.EVERYBODY


class AgentForm(ParametersForm):
    """What an agent is made of."""

    name = TextField(_("Name"), [InputRequired(), Length(1, fields.MAX_NAME)])
    owner = TextField(
        _("Owner"), [Length(0, 150)], description=_("The user whose agent it is. Empty: a preset for everybody.")
    )
    description = TextField(_("Description"), [Length(0, fields.MAX_DESCRIPTION)])
    system_prompt = TextAreaField(_("Instructions"), [Length(0, fields.MAX_PROMPT)])
    model_name = TextField(
        _("Model"), [Length(0, fields.MAX_MODEL)], description=_("Empty: the one that the dialog has.")
    )

    def given(self) -> dict[str, Any]:
        """The members as `dialogs_fields.AGENT` names them.

        Raises:
            InvalidRequest: one that cannot be.
        """
        own = {name: self[name].data or None for name in ("description", "system_prompt", "model_name")}
        given = fields.read(fields.AGENT, {"name": self.name.data, **own, "config": self.parameters()})
        return given | {"description": given["description"] or ""}


class Agents(Table):
    """The agents that somebody made."""

    model_class = Agent
    icon, singular, resource = "robot", "Agent", "agent"
    column_list = ("name", "owner", "model_name", "description", "updated_at")
    column_labels: ClassVar[dict[str, Any]] = {
        "name": _("Agent"),
        "owner": _("Owner"),
        "model_name": _("Model"),
        "description": _("Description"),
        "updated_at": _("Changed"),
    }
    column_sortable_list: ClassVar[list[Any]] = ["name", "updated_at"]
    column_default_sort = "name"
    column_searchable_list = ("name", "description", "model_name")
    exported = ("id", "name", "owner", "model_name", "description", "updated_at")
    list_template = "admin/agents/list.html"
    create_template = edit_template = "admin/agents/form.html"
    details_template = "admin/agents/details.html"
    texts = ("owner",)
    choices = (Choice("kind", _("For"), [("everybody", _("Everybody")), ("own", _("One user"))]),)

    def narrowed(self, query: Any) -> Any:
        """See Table."""
        if kind := self.chosen("kind"):
            query = query.filter((Agent.user_id == EVERYBODY) == (kind == "everybody"))
        if owner := self.argument("owner"):
            query = query.filter(Agent.user_id == select(User.id).where(User.username == owner).scalar_subquery())
        return query

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """Whose they are, and what is built in."""
        owners = {row.user_id for row in rows} - {EVERYBODY}
        return {"names": reports.names(gateway().engine, owners, ()), "presets": agents.PRESETS}

    def row(self) -> Any:
        """The agent with the id that was asked for."""
        given = request.values.get("id", "")
        found = db.session.get(Agent, given) if dialogs.ID.fullmatch(given) else None
        if found is None:
            abort(404)
        return found

    def details(self, row: Agent) -> Mapping[str, Any]:
        """Whose it is."""
        owners = {row.user_id} - {EVERYBODY}
        return {"names": reports.names(gateway().engine, owners, ()), "why_kept": self.why_kept(row)}

    def create_form(self, obj: Any = None) -> AgentForm:
        """See Flask-Admin."""
        return AgentForm(self.given(), owner=self.argument("owner"))

    def edit_form(self, obj: Any = None) -> AgentForm:
        """See Flask-Admin."""
        own = {name: getattr(obj, name) for name in ("name", "description", "system_prompt", "model_name")}
        form = AgentForm(self.given(), data={**own, **obj.config})
        del form.owner  # dialogs name an agent, and would ask another one
        return form

    def create(self, form: Any) -> Any:
        """Make one for a user, or for everybody."""
        owner = number_of("user", form.owner.data) if form.owner.data else EVERYBODY
        if owner is None:
            raise InvalidRequest(N_("There is no user of that name."), param="owner")
        row = Agent(id=ids.uuid(), user_id=owner)
        self._fill(row, form)
        db.session.add(row)
        self.store("agent_create", row, None)
        return go(".details_view", id=row.id)

    def update(self, form: Any, row: Agent) -> Any:
        """Store what changed; dialogs that name it ask as it says from now on."""
        before = self.describe(row)
        self._fill(row, form)
        prompt = {"system_prompt": "changed"} if db.session.is_modified(row) and _has_new_prompt(row) else {}
        self.store("agent_update", row, before, **prompt)
        return go(".details_view", id=row.id)

    def _fill(self, row: Agent, form: AgentForm) -> None:
        given = form.given()
        model = given["model_name"]
        if model is not None and model != row.model_name and model not in gateway().catalog.snapshot().models:
            raise InvalidRequest(N_("There is no model of that name."), param="model_name")
        with db.session.no_autoflush:
            same = select(Agent.id).where(Agent.user_id == row.user_id, Agent.name == given["name"], Agent.id != row.id)
            if given["name"] in agents.PRESETS or db.session.scalar(same) is not None:
                raise InvalidRequest(agents.TAKEN, param="name")
            for name, value in given.items():
                setattr(row, name, value)

    def consequences(self, row: Agent) -> list[str]:
        """Who asks it."""
        return [gettext("Dialogs that name it are refused until they name another one.")]

    def title(self, row: Agent) -> str:
        """See Table."""
        return row.name

    def record(self, row: Agent, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        return {"owner": extras["names"].users.get(row.user_id, "")}

    def describe(self, row: Agent) -> dict[str, Any]:
        """See Table."""
        return agents.describe(row)

    def fingerprint(self, row: Agent) -> str:
        """See Table; with the instructions themselves."""
        return f"{super().fingerprint(row)}-{hash_of(row.system_prompt or '')}"

    def delete(self, session: Session, row: Agent) -> None:
        """The agent alone; nothing hangs on it."""
        session.delete(row)


def hash_of(text: str) -> str:
    """A short fingerprint of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _has_new_prompt(row: Agent) -> bool:
    return bool(inspect(row).attrs.system_prompt.history.added)
