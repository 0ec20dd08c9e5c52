"""How our pages about tables work, on top of Flask-Admin: lists, forms, details, and asking before deleting.

Differences from Flask-Admin: rules that nobody needs (inline edit, batch actions, its exports and look-ups) do not
exist; a form is a class of ours; every change is one transaction with its audit entry; what cannot be done is
answered with the page and a reason, never with a silent redirect.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, Final

from flask import abort, flash, request
from flask_admin.model.base import ViewArgs
from sqlalchemy import or_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from routes.admin.forms import PanelForm
from routes.admin.guard import SecureModelView, actor, expose, go
from routes.admin.texts import N_, gettext
from services import audit, reports
from services.errors import GatewayError, InvalidRequest
from utils import jsonx
from utils.extensions import db, gateway

MAX_ID: Final = 2**63 - 1
MAX_PAGE: Final = 100_000
LONGEST_ARGUMENT: Final = 200
PAGE_SIZES: Final = (20, 50, 100)


@dataclass(frozen=True, slots=True)
class Choice:
    """A filter of a list: one parameter of the address, with the values it may have."""

    name: str
    label: str
    options: Sequence[tuple[str, Any]]


class Table(SecureModelView):
    """A list with pages, details and, unless it is a log, forms."""

    can_export = False
    can_view_details = True
    can_set_page_size = True
    page_size = PAGE_SIZES[0]
    page_size_options = PAGE_SIZES
    column_auto_select_related = False
    column_display_actions = False
    action_disallowed_list: ClassVar[list[str]] = ["delete"]
    form = PanelForm
    list_template = "admin/model/list.html"
    create_template = "admin/model/create.html"
    edit_template = "admin/model/edit.html"
    details_template = "admin/model/details.html"
    action_view = export = ajax_lookup = ajax_update = None

    icon: ClassVar[str] = "table"
    singular: ClassVar[str] = ""  # the msgid of one row's name
    resource: ClassVar[str] = ""  # how the audit log calls it
    choices: tuple[Choice, ...] = ()
    texts: tuple[str, ...] = ()  # filters that are typed in

    def __init__(self, name: str, category: str, *, endpoint: str) -> None:
        super().__init__(self.model_class, db, name=name, category=category, endpoint=endpoint)

    model_class: ClassVar[type[Any]]

    # Lists

    def argument(self, name: str) -> str:
        """A parameter of the address, as much of it as can be meant."""
        text = request.args.get(name, "")[:LONGEST_ARGUMENT].strip()
        return text if text.isprintable() else ""

    def chosen(self, name: str) -> str:
        """The value of one of `choices`, empty when it is none of its options."""
        given = self.argument(name)
        options = next(choice.options for choice in self.choices if choice.name == name)
        return given if any(given == value for value, _label in options) else ""

    def arguments(self) -> dict[str, str]:
        """What narrows the list now, for links to other pages of it."""
        names = ("search", *self.texts, *(choice.name for choice in self.choices))
        return {name: self.argument(name) for name in names if self.argument(name)}

    def narrowed(self, query: Any) -> Any:
        """A query of rows or of their count, with what the address chose of them."""
        return query

    def get_query(self) -> Any:
        """See Flask-Admin."""
        return self.narrowed(super().get_query())

    def get_count_query(self) -> Any:
        """See Flask-Admin."""
        return self.narrowed(super().get_count_query())

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """What the list's template needs beside the rows, in a bounded number of statements."""
        return {}

    def get_list(self, *args: Any, **kwargs: Any) -> tuple[int | None, list[Any]]:
        """See Flask-Admin."""
        count, rows = super().get_list(*args, **kwargs)
        self._template_args.update(self.extras(rows))
        return count, rows

    def _get_list_extra_args(self) -> ViewArgs:
        """The parameters of the address, within what a database can take."""
        given = super()._get_list_extra_args()
        given.page = min(max(given.page or 0, 0), MAX_PAGE)
        given.search = self.argument("search") or None
        given.extra_args = {name: value for name, value in self.arguments().items() if name != "search"}
        return given

    def _apply_search(self, query: Any, count_query: Any, joins: Any, count_joins: Any, search: str) -> Any:
        """Flask-Admin's search with % and _ taken literally; it searches columns of the table only."""
        found = or_(*(field.icontains(search, autoescape=True) for field, _path in self._search_fields))
        return query.filter(found), count_query.filter(found) if count_query is not None else None, joins, count_joins

    # Rows

    def row(self) -> Any:
        """The row that the request is about; without one, 404."""
        given = request.values.get("id", type=int) or 0
        found = db.session.get(self.model_class, given) if 0 < given <= MAX_ID else None
        if found is None:
            abort(404)
        return found

    def why_fixed(self, row: Any) -> str | None:
        """Why the row cannot be changed here; None = it can."""
        return None

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
        return self.render(self.details_template, row=row, why_fixed=self.why_fixed(row), **self.details(row))

    # Changes

    def given(self) -> Any:
        """What was sent; None when the form is only asked for, so that its defaults apply."""
        return request.form if request.method == "POST" else None

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

    def title(self, row: Any) -> str:
        """What people call the row."""
        return str(row)

    def describe(self, row: Any) -> dict[str, Any]:
        """The row for the audit log, without secrets."""
        raise NotImplementedError  # each page has its own

    def fingerprint(self, row: Any) -> str:
        """Changes whenever the row does, so that nobody overwrites unseen what somebody else saved."""
        return hashlib.sha256(jsonx.dumps(self.describe(row))).hexdigest()[:16]

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
        status = HTTPStatus.UNPROCESSABLE_ENTITY if form.errors else HTTPStatus.OK
        return self.render(template, form=form, **values), status

    def answer_edit(self, form: Any, row: Any, **values: Any) -> Any:
        """The same for a row that is there already, and that somebody else may have changed meanwhile."""
        seen = self.fingerprint(row)

        def change() -> Any:
            if request.form.get("seen", seen) != seen:
                raise InvalidRequest(N_("Somebody else changed this meanwhile. Saving again replaces what they did."))
            return self.update(form, row)

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

    create_view = edit_view = delete_view = None  # type: ignore[assignment]  # Flask-Admin offers no page whose view is None
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
        return None, page.rows

    def _cursor(self, walk: reports.Walk, name: str) -> reports.Cursor | None:
        """Where to go on; anything that is no value of the key is left aside."""
        given = self.argument(name)
        if walk.key.type.python_type is not int:
            return given or None
        return int(given) if given.isascii() and given.isdigit() and int(given) <= MAX_ID else None
