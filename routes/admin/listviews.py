"""Views of lists that people gave a name, and which columns they see: everybody's own affair, auditors' too.

What changes here is how the panel looks to whoever changes it. Only sharing a view with all is for admins.
"""

from typing import Any, Final

from flask import abort, current_app, flash, redirect, request
from sqlalchemy.exc import IntegrityError
from wtforms import BooleanField
from wtforms.validators import InputRequired, Length

from models import SavedView
from routes.admin import drafts
from routes.admin.forms import PanelForm, TextField
from routes.admin.guard import SecureView, actor, admin, expose, go, may_change
from routes.admin.lists import Listed
from routes.admin.texts import gettext, lazy_gettext
from services import savedviews
from services.errors import GatewayError
from utils.extensions import db

_ = lazy_gettext

MAX_ID: Final = 2**63 - 1


class ViewForm(PanelForm):
    """What a view is called, and who has it."""

    name = TextField(_("Name"), [InputRequired(), Length(1, savedviews.MAX_NAME)])
    is_shared = BooleanField(_("Shared with everybody who sees the panel"))


class NewViewForm(ViewForm):
    """The same of a new one."""

    replaces = BooleanField(_("Replace my view of that name"))


class ListViews(SecureView):
    """The saved views of all lists."""

    is_personal = True
    icon = "bookmark"

    def is_visible(self) -> bool:
        """It is no page of its own in the sidebar: each list leads here."""
        return False

    @expose("/")
    def index_view(self) -> Any:
        """All views that one has."""
        lists = {view.endpoint: view for view in self._lists()}
        found = savedviews.listed(db.session(), admin().user_id)
        rows = [(one, lists[one.view], lists[one.view].link(one.settings)) for one in found if one.view in lists]
        return self.render("admin/views/list.html", rows=rows)

    @expose("/new/", methods=("GET", "POST"))
    def create_view(self) -> Any:
        """Keeps the list of the address, with its filters, order and columns, under a name."""
        shown = self._list()
        form = NewViewForm(self._given())
        self._limit(form)
        return self._answer(form, lambda: self._save(shown, form), "admin/views/form.html", shown=shown)

    @expose("/edit/", methods=("GET", "POST"))
    def edit_view(self) -> Any:
        """Another name, or shared with others or not."""
        row = self._row()
        form = ViewForm(self._given(), obj=row)
        self._limit(form)
        return self._answer(form, lambda: self._change(row, form), "admin/views/form.html", row=row)

    @expose("/delete/", methods=("GET", "POST"))
    def delete_view(self) -> Any:
        """Asks, then deletes."""
        row = self._row()
        if request.method == "GET":
            return self.render("admin/views/delete.html", row=row, why_kept=None)
        name = row.name
        savedviews.remove(db.session(), actor(), row)
        db.session.commit()
        flash(gettext("%(name)s was deleted.", name=name), "success")
        return go(".index_view")

    @expose("/columns/", methods=("POST",))
    def columns_view(self) -> Any:
        """Keeps which columns of a list one sees; then the list again, with its filters."""
        shown = self._list()
        columns = None if "reset" in request.form else shown.in_order(request.form.getlist("column"))
        if columns == list(shown.column_list):
            columns = None
        savedviews.keep_columns(db.session(), admin().user_id, shown.endpoint, columns)
        db.session.commit()
        settings = shown.settings() | {"columns": []}  # those of the address would hide what was just chosen
        return redirect(shown.link(settings), 303)

    def _save(self, shown: Listed, form: NewViewForm) -> Any:
        columns = shown.given_columns() or list(shown.arranged()["shown_columns"])
        settings = shown.settings() | {"columns": columns}
        is_shared = "is_shared" in form and form.is_shared.data
        wish = savedviews.Wish(shown.endpoint, form.name.data, settings, is_shared)
        savedviews.save(db.session(), actor(), wish, replaces=form.replaces.data)
        db.session.commit()
        flash(gettext("%(name)s was saved.", name=form.name.data), "success")
        return redirect(shown.link(settings), 303)

    def _change(self, row: SavedView, form: ViewForm) -> Any:
        is_shared = form.is_shared.data if "is_shared" in form else row.is_shared
        savedviews.change(db.session(), actor(), row, name=form.name.data, is_shared=is_shared)
        db.session.commit()
        flash(gettext("%(name)s was saved.", name=form.name.data), "success")
        return go(".index_view")

    def _answer(self, form: Any, change: Any, template: str, **values: Any) -> Any:
        if request.method == "POST" and form.validate():
            try:
                return change()
            except GatewayError as exc:
                db.session.rollback()
                form.refuse(exc)
            except IntegrityError:  # the same name from two places at the same moment
                db.session.rollback()
                form.name.errors.append(gettext(savedviews.TAKEN))
        return self.render(template, form=form, **values), 422 if form.errors else 200

    def _given(self) -> Any:
        return request.form if request.method == "POST" else drafts.typed()

    def _limit(self, form: Any) -> None:
        """Sharing is for those who may change the panel; without it, the field is not there to be sent."""
        if not may_change():
            del form.is_shared

    def _lists(self) -> list[Listed]:
        views = current_app.extensions["admin"][0]._views  # noqa: SLF001 - it has no public list
        return [view for view in views if isinstance(view, Listed)]

    def _list(self) -> Listed:
        found = next((view for view in self._lists() if view.endpoint == request.args.get("list")), None)
        return found if found is not None else abort(404)

    def _row(self) -> SavedView:
        number = request.args.get("id", type=int) or request.form.get("id", type=int) or 0
        try:
            return savedviews.get(db.session(), admin().user_id, number if 0 < number <= MAX_ID else 0)
        except GatewayError:
            abort(404)
