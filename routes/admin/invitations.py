"""Invitations to register: making one, whose code is shown once, and withdrawing it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from flask import abort, request
from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import Session
from wtforms import IntegerField, SelectField
from wtforms.validators import InputRequired, NumberRange

from models import Invitation, Team, User
from routes.admin import bulk, secrets
from routes.admin.forms import ROLE_NAMES, PanelForm, options
from routes.admin.guard import actor
from routes.admin.tables import Choice, Table
from routes.admin.texts import N_, gettext, lazy_gettext
from services import audit, invitations
from services.errors import Conflict
from utils import clock
from utils.extensions import db, gateway

_ = lazy_gettext

STATES: Final = {"open": _("Open"), "used": _("Used"), "expired": _("Expired")}


class InvitationForm(PanelForm):
    """What an invitation says of its user."""

    role = SelectField(_("Role"), choices=options(ROLE_NAMES), default="user")
    team = SelectField(_("Team"), default="")
    days = IntegerField(
        _("Days"),
        [InputRequired(), NumberRange(1, invitations.MOST_DAYS)],
        default=invitations.DAYS,
        description=_("After them the code opens nothing any more."),
    )


class Invitations(Table):
    """The invitations, newest first."""

    model_class = Invitation
    icon, singular, resource = "envelope-plus", N_("Invitation"), "invitation"
    can_edit = can_view_details = False
    edit_view = details_view = None  # type: ignore[assignment]  # Flask-Admin offers no page whose view is None
    column_list = ("hint", "state", "role", "team", "created_by", "created_at", "expires_at")
    column_labels: ClassVar[dict[str, Any]] = {
        "hint": _("Code"),
        "state": _("State"),
        "role": _("Role"),
        "team": _("Team"),
        "created_by": _("Made by"),
        "created_at": _("Created"),
        "expires_at": _("Expires"),
    }
    column_sortable_list: ClassVar[list[Any]] = ["created_at", "expires_at"]
    column_default_sort = ("created_at", True)
    column_searchable_list = ("hint", "created_by")
    many = (bulk.delete(_("Nobody can register with their codes any more. Accounts stay.")),)
    exported = ("hint", "state", "role", "team", "created_by", "created_at", "expires_at", "used_at", "used_by")
    exported_as: ClassVar[Mapping[str, Any]] = {"state": ("state", "used_at", "used_by")}
    list_template = "admin/invitations/list.html"
    create_template = "admin/invitations/create.html"
    choices = (Choice("state", _("State"), list(STATES.items())),)

    def row(self) -> Any:
        """The invitation with the number that was asked for."""
        found = db.session.get(Invitation, request.values.get("id", "")[: invitations.MAX_CODE].replace("\0", ""))
        if found is None:
            abort(404)
        return found

    def title(self, row: Invitation) -> str:
        """The beginning of its code."""
        return row.hint

    def narrowed(self, query: Any) -> Any:
        """See Table."""
        return query.filter(_in_state(self.chosen("state"), clock.now()))

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """What the teams are called, and who used which."""
        teams = select(Team.id, Team.name).where(Team.id.in_([row.team_id for row in rows if row.team_id]))
        users = select(User.id, User.username).where(User.id.in_([row.used_by for row in rows if row.used_by]))
        now = clock.now()
        return {
            "teams": dict(db.session.execute(teams).tuples().all()),
            "users": dict(db.session.execute(users).tuples().all()),
            "state_of": lambda row: invitations.state(row, now),
            "is_closed": gateway().config.registration_mode == "closed",
        }

    def record(self, row: Invitation, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        return {
            "state": extras["state_of"](row),
            "team": extras["teams"].get(row.team_id),
            "used_by": extras["users"].get(row.used_by, row.used_by),
        }

    def create_form(self, obj: Any = None) -> InvitationForm:
        """See Flask-Admin."""
        form = InvitationForm(self.given())
        names = db.session.scalars(select(Team.name).order_by(Team.name)).all()
        form.team.choices = options({"": _("None"), **{name: name for name in names}})
        return form

    def create(self, form: Any) -> Any:
        """Make one; its code is on this answer and nowhere else."""
        if gateway().config.registration_mode == "closed":
            raise Conflict(N_("Registration is closed, so nobody could use it: set REGISTRATION=invite."))
        said = {"role": form.role.data, "team": form.team.data or "", "days": form.days.data}
        made = invitations.make(gateway().engine, actor(), **said)
        base_url = secrets.base_url()
        return self.render("admin/invitations/created.html", code=made.code, view=made.view, base_url=base_url)

    def consequences(self, row: Invitation) -> list[str]:
        """What it means for whoever has the code."""
        if invitations.state(row, clock.now()) == "open":
            return [gettext("Nobody can register with its code any more.")]
        return [gettext("It opens nothing any more; only its entry in this list goes. Accounts stay.")]

    def note_deletion(self, session: Session, row: Invitation) -> None:
        """As the API notes it."""
        audit.note(session, actor(), "invitation_delete", self.resource, row.hint)

    def describe(self, row: Invitation) -> dict[str, Any]:
        """See Table."""
        return {"role": row.role, "team_id": row.team_id, "expires_at": audit.moment(row.expires_at)}

    def settled(self) -> None:
        """No worker keeps invitations."""


def _in_state(state: str, now: datetime) -> ColumnElement[bool]:
    is_used, is_over = Invitation.used_at.is_not(None), Invitation.expires_at <= now
    return {"used": is_used, "expired": ~is_used & is_over, "open": ~is_used & ~is_over}.get(state, true())
