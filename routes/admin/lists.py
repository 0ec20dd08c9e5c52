"""How our lists work, on top of Flask-Admin: filters in the address, columns that people choose, views with names.

Everything that a list shows is in its address, so that a link, a saved view and an export mean the same rows.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from flask import request
from flask_admin.model.base import ViewArgs
from markupsafe import Markup
from sqlalchemy import or_

from routes.admin.guard import SecureModelView, admin
from services import savedviews
from utils.extensions import db

MAX_PAGE: Final = 100_000
LONGEST_ARGUMENT: Final = 200
LONGEST_COLUMNS: Final = 2000
PAGE_SIZES: Final = (20, 50, 100)
CELL: Final = re.compile(r"(?=<td\b)")


@dataclass(frozen=True, slots=True)
class Choice:
    """A filter of a list: one parameter of the address, with the values it may have."""

    name: str
    label: str
    options: Sequence[tuple[str, Any]]


class Listed(SecureModelView):
    """A list with filters, columns and pages."""

    can_set_page_size = True
    page_size = PAGE_SIZES[0]
    page_size_options = PAGE_SIZES
    column_auto_select_related = False
    column_display_actions = False
    list_template = "admin/model/list.html"

    choices: tuple[Choice, ...] = ()
    texts: tuple[str, ...] = ()  # filters that are typed in
    model_class: ClassVar[type[Any]]

    # Filters

    def argument(self, name: str) -> str:
        """A parameter of the address, as much of it as can be meant."""
        text = request.args.get(name, "")[:LONGEST_ARGUMENT].strip()
        return text if text.isprintable() else ""

    def chosen(self, name: str) -> str:
        """The value of one of `choices`, empty when it is none of its options."""
        given = self.argument(name)
        options = next(choice.options for choice in self.choices if choice.name == name)
        return given if any(given == value for value, _label in options) else ""

    def filters(self) -> tuple[str, ...]:
        """The parameters of the address that narrow the list."""
        return ("search", *self.texts, *(choice.name for choice in self.choices))

    def arguments(self) -> dict[str, str]:
        """What narrows the list now, for links to other pages of it."""
        return {name: self.argument(name) for name in self.filters() if self.argument(name)}

    def narrowed(self, query: Any) -> Any:
        """A query of rows or of their count, with what the address chose of them."""
        return query

    def get_sortable_columns(self) -> dict[Any, Any]:
        """See Flask-Admin, which forgets the name of a column that is sorted by another one of the table."""
        pairs = [one for one in self.column_sortable_list or () if isinstance(one, tuple) and isinstance(one[1], str)]
        own: dict[Any, Any] = super().get_sortable_columns()
        return own | {name: getattr(self.model_class, by) for name, by in pairs}

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
        self._template_args.update(self.extras(rows), **self.arranged())
        return count, rows

    def _get_list_extra_args(self) -> ViewArgs:
        """The parameters of the address, within what a database can take."""
        given = super()._get_list_extra_args()
        given.page = min(max(given.page or 0, 0), MAX_PAGE)
        given.search = self.argument("search") or None
        given.extra_args = {name: value for name, value in self.kept().items() if name != "search"}
        return given

    def _apply_search(self, query: Any, count_query: Any, joins: Any, count_joins: Any, search: str) -> Any:
        """Flask-Admin's search with % and _ taken literally; it searches columns of the table only."""
        found = or_(*(field.icontains(search, autoescape=True) for field, _path in self._search_fields))
        return query.filter(found), count_query.filter(found) if count_query is not None else None, joins, count_joins

    # Columns and views

    def given_columns(self) -> list[str]:
        """The columns that the address names; none when it names none of the list."""
        given = request.args.get("columns", "")[:LONGEST_COLUMNS].split(",")
        return self.in_order(given)

    def in_order(self, columns: Sequence[str]) -> list[str]:
        """Those that the list has, in its order, after the first one, which says what a row is."""
        known = [name for name in self.column_list if name in columns]
        return known and list(dict.fromkeys((self.column_list[0], *known)))

    def kept(self) -> dict[str, str]:
        """What the address says of the list beside page and order."""
        columns = self.given_columns()
        return self.arguments() | ({"columns": ",".join(columns)} if columns else {})

    def arranged(self) -> dict[str, Any]:
        """What the template needs to show the list as the person likes it, in one statement."""
        found = savedviews.arrangement(db.session(), admin().user_id, self.endpoint)
        columns = self.given_columns() or self.in_order(found.columns or ()) or list(self.column_list)
        now = self.settings()
        return {
            "shown_columns": columns,
            "has_own_columns": found.columns is not None,
            "views": [(one, self.link(one.settings), dict(one.settings) == now) for one in found.views],
        }

    def settings(self) -> dict[str, Any]:
        """The list as the address has it, to be saved; only what is not as usual."""
        size, sort = (request.args.get(name, type=int) for name in ("page_size", "sort"))
        found: dict[str, Any] = {"filters": self.arguments(), "columns": self.given_columns()}
        if size in PAGE_SIZES and size != self.page_size:
            found["page_size"] = size
        if sort is not None and 0 <= sort < len(self.column_list):
            found["sort"], found["is_descending"] = sort, request.args.get("desc") == "1"
        return found

    def link(self, settings: Mapping[str, Any]) -> str:
        """The address of the list with these settings; what it has no longer is left out."""
        given = {name: text for name, text in settings.get("filters", {}).items() if name in self.filters()}
        columns = self.in_order(settings.get("columns", ()))
        if columns:
            given["columns"] = ",".join(columns)
        for name, parameter in (("page_size", "page_size"), ("sort", "sort"), ("is_descending", "desc")):
            if name in settings:
                given[parameter] = str(int(settings[name]))
        return str(self.get_url(f"{self.endpoint}.index_view", **given))

    def query(self) -> str:
        """What the address says of the list beside the page, for addresses that speak of this list."""
        return self.link(self.settings()).partition("?")[2]

    def pick(self, cells: Markup, shown: Sequence[str]) -> Markup:
        """The cells of a row that are to be seen: those of the columns of `shown`, and what follows all columns.

        A list's template writes a cell for each of `column_list`, in its order. Texts in them are escaped, so a cell
        begins nowhere else.
        """
        if set(shown) >= set(self.column_list):
            return cells
        head, *found = CELL.split(cells)
        names = dict(enumerate(self.column_list))
        kept = [cell for place, cell in enumerate(found) if place not in names or names[place] in shown]
        return Markup(head + "".join(kept))  # noqa: S704 - parts of what a template made, cut between its cells
