"""Every list as a file: CSV or a JSON object a line, all pages of it, with its filters and in its order.

A file is sent while it is read, one chunk of rows in memory and no connection held in between. Each view says what may
be in it; columns that hold secrets are never among them.
"""

import csv
import io
import itertools
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from flask import Response, current_app, request
from sqlalchemy import and_, inspect, or_

from routes import render
from routes.admin.guard import actor, expose
from routes.admin.lists import Listed
from routes.admin.texts import gettext
from utils import clock, jsonx
from utils.extensions import db, gateway

log = logging.getLogger(__name__)

CHUNK: Final = 500  # rows
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run the cell
NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")
TYPES: Final = {"csv": "text/csv", "jsonl": "application/x-ndjson"}

Records = list[list[Any]]
Chunks = Iterator[list[Any]]


class Exported(Listed):
    """A list that can be had as a file."""

    resource: ClassVar[str] = ""  # how the audit log calls a row
    exported: ClassVar[Sequence[str]] = ()  # fields of the file; without them, the number and the columns of the list
    exported_as: ClassVar[Mapping[str, Sequence[str]]] = {}  # the fields of a column, where they are called otherwise

    def record(self, row: Any, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is in the file of a row, by field; fields that are columns of the table need not be here."""
        return {}

    def describe(self, row: Any) -> dict[str, Any]:
        """The row for the audit log, without secrets."""
        raise NotImplementedError  # each page has its own

    def fields(self) -> list[str]:
        """The fields of this file: all, or with `which=shown` those of the columns that are to be seen."""
        every = list(self.exported or ("id", *self.column_list))
        if request.args.get("which") != "shown":
            return every
        columns = self.arranged()["shown_columns"]
        shown = {name for column in columns for name in self.exported_as.get(column, (column,))}
        return [name for name in every if name in shown or name == every[0]]

    @expose("/export.csv")
    def csv_view(self) -> Response:
        """The list as a table."""
        return self._export("csv")

    @expose("/export.jsonl")
    def jsonl_view(self) -> Response:
        """The list as an object in JSON a line."""
        return self._export("jsonl")

    def _export(self, kind: str) -> Response:
        """The rows of the list, all pages, as a stream.

        A file that breaks off says so in its last line, and its transfer ends as one that failed.
        """
        fields = self.fields()
        broken = gettext("This file is not complete: something failed on the way. Please export it again.")
        lines = self._lines(kind, fields, broken)
        first = next(lines)  # with the first rows, so that what is wrong from the start is an error page
        noted = {"format": kind, "fields": fields, "filters": self.arguments()}
        gateway().audit.note(actor(), "list_export", self.resource, None, noted)
        name = f"{self.endpoint}-{clock.now():%Y-%m-%d}.{kind}"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(itertools.chain([first], lines), mimetype=TYPES[kind], headers=headers)

    def _lines(self, kind: str, fields: Sequence[str], broken: str) -> Iterator[str]:
        """The file in pieces. It runs after the request is over, and takes up its context for each chunk."""
        app, environ, name = current_app._get_current_object(), request.environ, render.request_id()  # type: ignore[attr-defined]  # noqa: SLF001 - the way of Flask's documentation
        write = WRITERS[kind]
        chunks, is_first = self.chunks(), True
        while True:
            try:
                with app.request_context(environ):
                    rows = next(chunks, None)
                    if rows is None:
                        return
                    extras = self.extras(rows) if rows else {}
                    text = write(fields, [self._values(row, extras, fields) for row in rows], is_first)
            except Exception as exc:
                if is_first:
                    raise
                log.error("an export broke off request_id=%s: %s", name, str(exc).partition("\n")[0])  # noqa: TRY400 - the reason is known
                yield BREAKS[kind](broken)
                raise
            yield text
            is_first = False

    def _values(self, row: Any, extras: Mapping[str, Any], fields: Sequence[str]) -> list[Any]:
        special = {**(self.describe(row) if not self.exported else {}), **self.record(row, extras)}
        return [special[name] if name in special else getattr(row, name, None) for name in fields]

    def chunks(self) -> Chunks:
        """The rows of the list in its order, along a key, at least one chunk; to be asked within a context."""
        query, (column, is_descending) = self._searched(), self._order()
        key = inspect(self.model_class).primary_key[0]
        seen: tuple[Any, Any] | None = None
        names = [inspect(self.model_class).get_property_by_column(one.expression).key for one in (column, key)]
        while True:
            found = query.with_session(db.session())
            if seen is not None:
                found = found.filter(_after(column, key, seen, is_descending=is_descending))
            order = [column.is_(None), *(one.desc() if is_descending else one.asc() for one in (column, key))]
            rows = found.order_by(None).order_by(*order).limit(CHUNK).all()
            if rows:
                seen = getattr(rows[-1], names[0]), getattr(rows[-1], names[1])
            yield rows
            if len(rows) < CHUNK:
                return

    def _searched(self) -> Any:
        """The rows of the list, without its order and pages."""
        query, search = self.get_query(), self.argument("search")
        return self._apply_search(query, None, {}, {}, search)[0] if search and self._search_fields else query

    def _order(self) -> tuple[Any, bool]:
        """The column that the list is ordered by, and whether downwards; rows that are alike in it go by their key."""
        given = self._get_list_extra_args()
        chosen = self._get_column_by_idx(given.sort)
        if chosen is not None and chosen[0] in self._sortable_columns:
            return _attribute(self.model_class, self._sortable_columns[chosen[0]]), bool(given.sort_desc)
        for column, _joins, is_descending in self._get_default_order():
            return _attribute(self.model_class, column), bool(is_descending)
        return inspect(self.model_class).primary_key[0], False


def harmless(cell: str) -> str:
    """The cell, with an apostrophe before what a spreadsheet would take for a formula; numbers stay numbers."""
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) and not NUMBER.fullmatch(cell) else cell


def _attribute(model: type[Any], column: Any) -> Any:
    """The attribute of a column that is named, or that is one already."""
    return getattr(model, column) if isinstance(column, str) else column


def _after(column: Any, key: Any, seen: tuple[Any, Any], *, is_descending: bool) -> Any:
    """The condition of rows that come after one with these values; those without a value come last."""
    value, number = seen
    later = key < number if is_descending else key > number
    if value is None:
        return and_(column.is_(None), later)
    return or_(column < value if is_descending else column > value, and_(column == value, later), column.is_(None))


def _plain(value: Any) -> Any:
    """A value as JSON has it; bytes, which may be sealed, have no place in a file."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    return None if isinstance(value, bytes) else value


def _cell(value: Any) -> str:
    plain = _plain(value)
    if isinstance(plain, list | tuple | dict):
        plain = jsonx.dumps(plain).decode()
    return harmless("" if plain is None else str(plain))


def _csv(fields: Sequence[str], records: Records, is_first: bool) -> str:
    return _csv_lines([*([list(fields)] if is_first else []), *([_cell(value) for value in one] for one in records)])


def _csv_lines(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()


def _json(fields: Sequence[str], records: Records, is_first: bool) -> str:
    lines = (dict(zip(fields, map(_plain, one), strict=True)) for one in records)
    return "".join(f"{jsonx.dumps(line).decode()}\n" for line in lines)


WRITERS: Final[Mapping[str, Callable[[Sequence[str], Records, bool], str]]] = {"csv": _csv, "jsonl": _json}
BREAKS: Final[Mapping[str, Callable[[str], str]]] = {
    "csv": lambda broken: _csv_lines([[broken]]),
    "jsonl": lambda broken: f"{jsonx.dumps({'error': broken}).decode()}\n",
}
