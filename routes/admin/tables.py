"""How our pages about tables work, on top of Flask-Admin: details, forms, and asking before deleting.

Lists are in lists.py, their files in exports.py, what is done to many rows in bulk.py. Differences from Flask-Admin:
rules that nobody needs (inline edit, its batch actions, exports and look-ups) do not exist; a form is a class of ours;
every change is one transaction with its audit entry; what cannot be done is answered with the page and a reason, never
with a silent redirect.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from flask import abort, flash, request
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from routes.admin import bulk, conflicts, drafts, managed
from routes.admin.exports import CHUNK, Chunks, Exported
from routes.admin.forms import PanelForm
from routes.admin.guard import actor, expose, go
from routes.admin.lists import Choice
from routes.admin.texts import gettext
from services import audit, reports
from services.errors import GatewayError
from utils.extensions import db, gateway

__all__ = ["Choice", "Log", "Table"]

MAX_ID = bulk.MAX_ID


class Table(Exported):
    """A list with pages, details and, unless it is a log, forms."""

    can_export = False
    can_view_details = True
    action_disallowed_list: ClassVar[list[str]] = ["delete"]
    form = PanelForm
    create_template = "admin/model/create.html"
    edit_template = "admin/model/edit.html"
    details_template = "admin/model/details.html"
    action_view = export = ajax_lookup = ajax_update = None

    icon: ClassVar[str] = "table"
    singular: ClassVar[str] = ""  # the msgid of one row's name
    many: tuple[bulk.Action, ...] = ()  # what can be done to many rows at once
    beside: tuple[Any, ...] = ()  # what is loaded with a row in one statement
    switched: tuple[str, ...] = ("is_enabled",)  # columns that disabling changes; the first says whether it is on

    def __init__(self, name: str, category: str, *, endpoint: str, url: str | None = None) -> None:
        super().__init__(self.model_class, db, name=name, category=category, endpoint=endpoint, url=url)

    # Rows

    def row(self) -> Any:
        """The row that the request is about; without one, 404."""
        given = request.values.get("id", type=int) or 0
        found = db.session.get(self.model_class, given, options=self.beside) if 0 < given <= MAX_ID else None
        if found is None:
            abort(404)
        return found

    def why_fixed(self, row: Any) -> str | None:
        """Why the row cannot be changed here; None = it can."""
        return self.why_locked(row)

    def why_locked(self, row: Any) -> str | None:
        """Why the row follows a source outside the panel, such as a file; None = it does not."""
        return managed.source_of(getattr(row, "managed_by", "admin"))

    def why_kept(self, row: Any) -> str | None:
        """Why the row cannot be deleted; None = it can."""
        return self.why_fixed(row)

    def details(self, row: Any) -> Mapping[str, Any]:
        """What the details' template needs beside the row."""
        return {}

    def consequences(self, row: Any) -> list[str]:
        """What else happens when the row is deleted, one sentence each."""
        return []

    @expose("/details/")
    def details_view(self) -> Any:
        """Everything about one row."""
        row = self.row()
        fixed, locked = self.why_fixed(row), self.why_locked(row)
        return self.render(self.details_template, row=row, why_fixed=fixed, why_locked=locked, **self.details(row))

    # Changes

    def given(self) -> Any:
        """What was sent, or typed before a session ended; None when the form is only asked for: its defaults apply."""
        return request.form if request.method == "POST" else drafts.typed()

    def create(self, form: Any) -> Any:
        """Store a new row; returns the answer."""
        raise NotImplementedError  # each page has its own

    def update(self, form: Any, row: Any) -> Any:
        """Store what changed of a row; returns the answer."""
        raise NotImplementedError  # each page has its own

    def note_deletion(self, session: Session, row: Any) -> None:
        """Write the audit entry of deleting the row, within the transaction."""
        details = {"before": self.describe(row)}
        audit.note(session, actor(), f"{self.resource}_delete", self.resource, row.id, details)

    def delete(self, session: Session, row: Any) -> None:
        """Delete the row and what hangs on it, within the transaction."""
        session.delete(row)

    @expose("/new/", methods=("GET", "POST"))
    def create_view(self) -> Any:
        """The form of a new row."""
        form = self.create_form()
        return self.answer_form(form, lambda: self.create(form), self.create_template)

    @expose("/edit/", methods=("GET", "POST"))
    def edit_view(self) -> Any:
        """The form of a row."""
        row = self.row()
        self.refuse(self.why_fixed(row))
        form = self.edit_form(obj=row)
        return self.answer_edit(form, row)

    @expose("/delete/", methods=("GET", "POST"))
    def delete_view(self) -> Any:
        """Asks, then deletes."""
        row = self.row()
        reason = self.why_kept(row)
        if request.method == "GET":
            consequences = [] if reason else self.consequences(row)
            return self.render("admin/model/delete.html", row=row, why_kept=reason, consequences=consequences)
        self.refuse(reason)
        name = self.title(row)
        self.note_deletion(db.session(), row)
        self.delete(db.session(), row)
        db.session.commit()
        self.settled()
        flash(gettext("%(name)s was deleted.", name=name), "success")
        return go(".index_view")

    def audited(self, row: Any) -> object:
        """What the audit log calls the row."""
        return row.id

    def title(self, row: Any) -> str:
        """What people call the row."""
        return str(row)

    def called(self, row: Any) -> str:
        """The same in short, without asking the database."""
        return self.title(row)

    def titles(self, rows: Sequence[Any]) -> dict[Any, str]:
        """What people call these rows, in a bounded number of statements."""
        return {row.id: self.title(row) for row in rows}

    # Many rows

    @expose("/bulk/", methods=("POST",))
    def bulk_view(self) -> Any:
        """Asks, then does something to all rows that were ticked."""
        return bulk.answer(self)

    @expose("/undo/", methods=("POST",))
    def undo_view(self) -> Any:
        """Undoes what was just done to rows of the list."""
        return bulk.undo(self)

    def offered(self) -> str | None:
        """What can be undone, for the template."""
        return bulk.offered(self)

    def offer_undo(self, how: str, row: Any, before: Mapping[str, Any]) -> None:
        """Say that the row was saved, with a way back: `undo_` and `how` name the method that takes it."""
        said = gettext("%(name)s was saved.", name=self.title(row))
        if not bulk.offer(self, how, [[row.id, self.fingerprint(row), dict(before)]], said):
            flash(said, "success")

    def delete_one(self, row: Any, reason: str) -> None:
        """Delete one of many."""
        self.note_deletion(db.session(), row)
        self.delete(db.session(), row)

    def why_not_off(self, row: Any) -> str | None:
        """Why the row cannot be disabled; None = it can."""
        is_off = None if getattr(row, self.switched[0]) else gettext("It is disabled already.")
        return self.why_fixed(row) or is_off

    def why_not_on(self, row: Any) -> str | None:
        """Why the row cannot be enabled; None = it can."""
        is_on = gettext("It is enabled already.") if getattr(row, self.switched[0]) else None
        return self.why_fixed(row) or is_on

    def switch_off(self, row: Any, reason: str) -> None:
        """Disable one of many."""
        self.change(row, {self.switched[0]: False})

    def switch_on(self, row: Any, reason: str) -> None:
        """Enable one of many."""
        self.change(row, {self.switched[0]: True})

    def undo_restore(self, row: Any, before: Mapping[str, Any]) -> None:
        """Put columns back as they were."""
        self.change(row, before)

    def change(self, row: Any, values: Mapping[str, Any]) -> None:
        """Set columns of a row, within the transaction, with the audit entry."""
        before = self.describe(row)
        for name, value in values.items():
            setattr(row, name, value)
        db.session.flush()
        details = audit.differences(before, self.describe(row))
        audit.note(db.session(), actor(), f"{self.resource}_update", self.resource, row.id, details)

    def fingerprint(self, row: Any) -> str:
        """Changes whenever the row does, so that nobody overwrites unseen what somebody else saved."""
        return conflicts.fingerprint(self.describe(row))

    def answer_form(self, form: Any, change: Callable[[], Any], template: str, **values: Any) -> Any:
        """The answer of a form: its page, or what `change` answers once the input is good."""
        if request.method == "POST" and form.validate():
            try:
                return change()
            except GatewayError as exc:
                db.session.rollback()
                form.refuse(exc)
            except IntegrityError:
                db.session.rollback()
                form.form_errors.append(gettext("Somebody changed this at the same moment. Please look again."))
        return self._shown(form, template, **values)

    def _shown(self, form: Any, template: str, **values: Any) -> Any:
        status = HTTPStatus.UNPROCESSABLE_ENTITY if form.errors else HTTPStatus.OK
        return self.render(template, form=form, **values), status

    def answer_edit(self, form: Any, row: Any, **values: Any) -> Any:
        """The same for a row that is there already, and that somebody else may have changed meanwhile."""
        now, given = self.fingerprint(row), (self.given() or {}).get("seen", "")
        labels = {**self.column_labels, **{name: field.label.text for name, field in form._fields.items()}}

        def change() -> Any:
            if given and not conflicts.is_of(given, now):
                form.form_errors.append(gettext(conflicts.CHANGED))
                form.form_errors.extend(conflicts.told(given, self.resource, self.audited(row), labels))
                return self._shown(form, self.edit_template, row=row, seen=conflicts.mark(now), **values)
            return self.update(form, row)

        is_draft = request.method == "GET" and given
        seen = given if is_draft else conflicts.mark(now)
        return self.answer_form(form, change, self.edit_template, row=row, seen=seen, **values)

    def store(
        self, action: str, row: Any, before: Mapping[str, Any] | None, said: str | None = None, **secrets: str
    ) -> None:
        """Commit the change of a row, with its audit entry; of secrets it says what happened to them.

        `said`: what people read then; without it, that the row was saved.
        """
        db.session.flush()
        details = audit.differences(before, self.describe(row)) | secrets
        if before is None or details["after"] or secrets:
            audit.note(db.session(), actor(), action, self.resource, row.id, details)
        db.session.commit()
        self.settled()
        flash(said or gettext("%(name)s was saved.", name=self.title(row)), "success")

    def settled(self) -> None:
        """After a change: this worker sees it at once, the others within two seconds."""
        gateway().catalog.refresh()

    def refuse(self, reason: str | None) -> None:
        """Answer 403 with a reason, if there is one."""
        if reason is not None:
            abort(403, reason)


class Log(Table):
    """A table that is only read, newest first, page by page along a key: never counted, never skipped into."""

    create_view = edit_view = delete_view = bulk_view = undo_view = None  # type: ignore[assignment]  # Flask-Admin offers no page whose view is None
    can_create = can_edit = can_delete = False
    column_sortable_list: ClassVar[list[str]] = []
    list_template = "admin/model/log.html"

    def walk(self) -> reports.Walk:
        """Which rows, in which order."""
        raise NotImplementedError  # each page has its own

    def get_list(self, *args: Any, page_size: int | None = None, **kwargs: Any) -> tuple[None, list[Any]]:
        """One page along the key."""
        walk = self.walk()
        before, after = (self._cursor(walk, name) for name in ("before", "after"))
        page = reports.read_page(gateway().engine, walk, before=before, after=after, size=page_size or self.page_size)
        self._template_args.update(pages=page, is_first=before is None and after is None, **self.extras(page.rows))
        self._template_args.update(self.arranged())
        return None, page.rows

    def chunks(self) -> Chunks:
        """See Exported."""
        walk, before = self.walk(), None
        while True:
            page = reports.read_page(gateway().engine, walk, before=before, size=CHUNK)
            yield page.rows
            if page.older is None:
                return
            before = page.older

    def _cursor(self, walk: reports.Walk, name: str) -> reports.Cursor | None:
        """Where to go on; anything that is no value of the key is left aside."""
        given = self.argument(name)
        if walk.key.type.python_type is not int:
            return given or None
        return int(given) if given.isascii() and given.isdigit() and int(given) <= MAX_ID else None
