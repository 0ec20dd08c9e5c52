"""What people and models said to each other. Whoever opens a dialog or a message leaves an entry in the audit log.

Titles and texts are for those who may read contents (services/rights.py); others see who, when, which model and how
many tokens. Lists show the beginning of a text.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from flask import abort, request
from sqlalchemy import select
from sqlalchemy.orm import Session
from wtforms import TextAreaField
from wtforms.validators import InputRequired, Length, ValidationError

from models import Dialog, Message
from routes.admin.exports import CHUNK, Chunks
from routes.admin.forms import PanelForm, TextField
from routes.admin.guard import actor, admin, expose, go
from routes.admin.owned import number_of
from routes.admin.tables import Choice, Log, Table
from routes.admin.texts import N_, gettext, lazy_gettext
from services import audit, dialogs, reports, rights, walks
from services.dialects import dialogs_fields as fields
from services.errors import InvalidRequest
from utils.extensions import db, gateway

_ = lazy_gettext

ROLES: Final = {"user": _("Question"), "assistant": _("Answer"), "system": _("Instructions")}
NOBODY: Final = -1  # an id that no row has
SHOWN: Final = 20  # messages on the page of a dialog


class DialogForm(PanelForm):
    """What of a dialog can be changed for its owner."""

    title = TextField(_("Title"), [Length(0, fields.MAX_TITLE)])
    model_name = TextField(
        _("Model"), [InputRequired(), Length(1, fields.MAX_MODEL)], description=_("Who answers the next message.")
    )
    system_prompt = TextAreaField(_("Instructions"), [Length(0, fields.MAX_PROMPT)])

    def validate_system_prompt(self, field: Any) -> None:
        """Only what can be stored."""
        if field.data and "\0" in field.data:
            raise ValidationError(gettext("Only characters that can be seen, please."))


class _Said(Log):
    """What both lists share: rows named by a UUID, which only some may read."""

    create_view = None  # Flask-Admin offers no page whose view is None
    can_create = False

    def row(self) -> Any:
        """The row with the id that was asked for."""
        given = request.values.get("id", "")
        query = select(self.model_class).where(self.model_class.id == given)
        found = db.session.scalar(query) if dialogs.ID.fullmatch(given) else None
        if found is None:
            abort(404)
        return found

    def owner(self) -> int | None:
        """The user whose rows are asked for; None = everybody's."""
        name = self.argument("user")
        return (number_of("user", name) or NOBODY) if name else None

    def opened(self, row: Any) -> None:
        """Note that somebody read it."""
        audit.note(db.session(), actor(), f"{self.resource}_read", self.resource, row.id, {"owner": row.user_id})

    def note_deletion(self, session: Session, row: Any) -> None:
        """The service that deletes writes the entry."""

    def record(self, row: Any, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        return {"user": extras["names"].users.get(row.user_id, f"#{row.user_id}")}


class Dialogs(_Said):
    """The dialogs."""

    model_class = Dialog
    icon, singular, resource = "chat-dots", "Dialog", "dialog"
    column_list = ("title", "user", "model_name", "message_count", "updated_at", "created_at")
    column_labels: ClassVar[dict[str, Any]] = {
        "title": _("Dialog"),
        "user": _("User"),
        "model_name": _("Model"),
        "message_count": _("Messages"),
        "updated_at": _("Last used"),
        "created_at": _("Created"),
    }
    column_searchable_list = ("title", "model_name")  # what is searched in truth is in services/walks.py
    can_edit = can_delete = True
    exported = ("id", "title", "user", "model_name", "message_count", "updated_at", "created_at")
    list_template = "admin/dialogs/list.html"
    edit_template = "admin/dialogs/edit.html"
    details_template = "admin/dialogs/details.html"
    texts = ("user",)
    edit_view = Table.edit_view  # type: ignore[assignment]  # of logs, these can be changed
    delete_view = Table.delete_view  # type: ignore[assignment]  # of logs, these can be changed

    def get_list(self, *args: Any, page_size: int | None = None, **kwargs: Any) -> tuple[None, list[Any]]:
        """One page along moment and id."""
        before, after = self.argument("before") or None, self.argument("after") or None
        page = walks.dialogs(
            gateway().engine, self.wanted(), before=before, after=after, size=page_size or self.page_size
        )
        self._template_args.update(pages=page, is_first=before is None and after is None, **self.extras(page.rows))
        self._template_args.update(self.arranged())
        return None, page.rows

    def wanted(self) -> walks.DialogFilter:
        """What the address asks for."""
        return walks.DialogFilter(self.owner(), self.argument("search"), may_read())

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """Whose they are."""
        return {"names": reports.names(gateway().engine, [row.user_id for row in rows], ())}

    def chunks(self) -> Chunks:
        """See Exported."""
        wanted, before = self.wanted(), None
        while True:
            page = walks.dialogs(gateway().engine, wanted, before=before, after=None, size=CHUNK)
            yield page.rows
            if page.older is None:
                return
            before = str(page.older)

    def details(self, row: Dialog) -> Mapping[str, Any]:
        """The newest messages, for those who may read them; that leaves an entry."""
        walk = walks.messages(row.id, None, "", has_content=may_read())
        page = reports.read_page(gateway().engine, walk, size=SHOWN)
        if may_read():
            self.opened(row)
            db.session.commit()
        return {
            "said": page.rows,
            "names": reports.names(gateway().engine, [row.user_id], ()),
            "may_read": may_read(),
            "roles": ROLES,
            "shown_chars": walks.SHOWN_CHARS,
            "why_kept": None,
        }

    def edit_form(self, obj: Any = None) -> DialogForm:
        """See Flask-Admin."""
        return DialogForm(self.given(), title=obj.title, model_name=obj.model_name, system_prompt=obj.system_prompt)

    def update(self, form: Any, row: Dialog) -> Any:
        """Store title, model and instructions."""
        name, dialog_id = form.model_name.data, row.id
        if name != row.model_name and name not in gateway().catalog.snapshot().models:
            raise InvalidRequest(N_("There is no model of that name."), param="model_name")
        values = {"title": form.title.data or None, "model_name": name}
        values["system_prompt"] = form.system_prompt.data or None
        db.session.rollback()  # the service has a transaction of its own
        dialogs.edit(gateway().engine, dialog_id, values, actor())
        return go(".details_view", id=dialog_id)

    def consequences(self, row: Dialog) -> list[str]:
        """What goes with it."""
        return [
            gettext("Its %(count)s messages are deleted with it.", count=row.message_count),
            gettext("Usage, charges and token transactions stay."),
        ]

    def delete(self, session: Session, row: Dialog) -> None:
        """The dialog with its messages."""
        owner, dialog_id = row.user_id, row.id
        session.rollback()  # the service has a transaction of its own
        dialogs.remove(gateway().engine, owner, dialog_id, actor())

    def title(self, row: Any) -> str:
        """What its owner called it, or what can be shown instead."""
        return (row.title if may_read() else None) or gettext("Dialog %(id)s", id=row.id[:8])

    def describe(self, row: Dialog) -> dict[str, Any]:
        """See Table; for telling whether somebody else has changed it."""
        return {"title": row.title, "model_name": row.model_name, "system_prompt": row.system_prompt}


class Messages(_Said):
    """The messages of all dialogs."""

    model_class = Message
    icon, singular, resource = "chat-text", "Message", "message"
    column_list = ("created_at", "role", "content", "user", "prompt_tokens", "completion_tokens")
    column_labels: ClassVar[dict[str, Any]] = {
        "created_at": _("Time"),
        "role": _("Kind"),
        "content": _("Text"),
        "user": _("User"),
        "prompt_tokens": _("Input"),
        "completion_tokens": _("Output"),
    }
    can_delete = True
    exported = ("id", "dialog_id", "created_at", "role", "excerpt", "user", "prompt_tokens", "completion_tokens")
    exported_as: ClassVar[Mapping[str, Any]] = {"content": ("excerpt",)}
    list_template = "admin/messages/list.html"
    details_template = "admin/messages/details.html"
    texts = ("user", "dialog")
    choices = (Choice("role", _("Kind"), list(ROLES.items())),)
    delete_view = Table.delete_view  # type: ignore[assignment]  # of logs, these can be changed

    def walk(self) -> reports.Walk:
        """See Log."""
        return walks.messages(self.argument("dialog"), self.owner(), self.chosen("role"), has_content=may_read())

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """Whose they are."""
        return {
            "names": reports.names(gateway().engine, [row.user_id for row in rows], ()),
            "roles": ROLES,
            "may_read": may_read(),
            "shown_chars": walks.SHOWN_CHARS,
        }

    @expose("/details/")
    def details_view(self) -> Any:
        """One message, whole; that somebody looked is in the audit log."""
        row = self.row()
        names = reports.names(gateway().engine, [row.user_id], ())
        content = row.content if may_read() else None
        if content is not None:
            self.opened(row)
            db.session.commit()
        return self.render(
            self.details_template, row=row, names=names, content=content, roles=ROLES, why_kept=None, why_fixed=""
        )

    def consequences(self, row: Message) -> list[str]:
        """What stays."""
        return [gettext("The dialog goes on without it."), gettext("Usage, charges and token transactions stay.")]

    def delete(self, session: Session, row: Message) -> None:
        """The message."""
        message_id = row.id
        session.rollback()  # the service has a transaction of its own
        dialogs.remove_message(gateway().engine, message_id, actor())

    def title(self, row: Any) -> str:
        """See Table."""
        return gettext("Message %(id)s", id=row.id[:8])


def may_read() -> bool:
    """Whether the browser's user may read what callers said."""
    return rights.has(admin().role, rights.CONTENT)
