"""One's own dialogs: found, read, renamed, deleted, exported, and gone on with; see services/dialogs.py.

A message goes the way of `/api/v1/dialogs`: without JavaScript as a form, with it as a stream.
"""

from typing import Any, Final

from flask import Response, current_app, flash, request

from models import User
from routes import dialogs as api
from routes import serving
from routes.admin.guard import actor, admin, expose, go
from routes.admin.portal import base
from routes.admin.portal.base import PortalView
from routes.admin.texts import gettext, lazy_gettext
from services import dialogfiles, dialogs
from services.dialects.dialogs import error_event
from services.errors import GatewayError
from services.turns import Told
from services.types import Caller
from utils import jsonx
from utils.extensions import db, gateway

_ = lazy_gettext

SIZE: Final = 20
FARTHEST: Final = 100_000
SHOWN: Final = 100  # messages of a page
MAX_TITLE: Final = 255
FILE: Final = {"content-disposition": 'attachment; filename="dialogs.json"'}
NOT_FOUND: Final = 404


class OwnDialogs(PortalView):
    """The dialogs of whoever is signed in."""

    icon = "chat-left-text"

    @expose("/")
    def index_view(self) -> Any:
        """A page of them, what was used last first; with `q` those that have its words."""
        query = request.args.get("q", "").strip()[: dialogs.MAX_QUERY]
        number = min(max(request.args.get("page", type=int) or 1, 1), FARTHEST)
        found = dialogs.page(gateway().engine, admin().user_id, number=number, size=SIZE, query=query or None)
        has_next = number * SIZE < found.total
        return self.render("admin/portal/dialogs/list.html", found=found, query=query, number=number, has_next=has_next)

    @expose("/details/")
    def details_view(self) -> Any:
        """One of them with its messages, the last ones first asked for."""
        row = dialogs.find(gateway().engine, admin().user_id, _id())
        skip = request.args.get("skip", type=int)
        first = max(0, row["message_count"] - SHOWN) if skip is None else min(max(skip, 0), FARTHEST)
        said = dialogs.messages(gateway().engine, admin().user_id, row["id"], skip=first, limit=SHOWN)
        return self.render(
            "admin/portal/dialogs/details.html",
            row=row,
            said=said,
            first=first,
            shown=SHOWN,
            most=gateway().config.max_content_length,
            has_playground="playground.index" in current_app.view_functions,
        )

    @expose("/send/", methods=("POST",))
    def send_view(self) -> Any:
        """Send a message and show the dialog with its answer."""
        number = _id()
        try:
            _call, turn, _nothing = api.answered(self._caller(), number, _said(), is_stream=False)
            turn.end()
        except GatewayError as exc:
            if exc.status == NOT_FOUND:
                raise
            flash(base.problem(exc), "danger")
        return go(".details_view", id=number, _anchor="end")

    @expose("/stream/", methods=("POST",))
    def stream_view(self) -> Any:
        """The same as a stream of events; an error is the last one."""
        number = _id()
        try:
            call, turn, stream = api.answered(self._caller(), number, _said(), is_stream=True)
        except GatewayError as exc:
            if exc.status == NOT_FOUND:
                raise
            said = GatewayError(base.problem(exc))
            return Response(error_event(said), exc.status, content_type=serving.EVENTS)
        assert not isinstance(stream, bytes)  # noqa: S101 - a stream was asked for
        return serving.respond(call, Told(turn, stream, call))

    @expose("/rename/", methods=("POST",))
    def rename_view(self) -> Any:
        """Give it another title; empty = none."""
        title = request.form.get("title", "").strip()[:MAX_TITLE]
        title = title if title.isprintable() else ""
        dialogs.rename(gateway().engine, admin().user_id, _id(), title or None, actor())
        flash(gettext("The dialog was renamed."), "success")
        return go(".details_view", id=_id())

    @expose("/delete/", methods=("GET", "POST"))
    def delete_view(self) -> Any:
        """Asks, then deletes it with its messages."""
        row = dialogs.find(gateway().engine, admin().user_id, _id())
        if request.method == "GET":
            return self.render("admin/portal/dialogs/delete.html", row=row, why_kept=None)
        dialogs.remove(gateway().engine, admin().user_id, row["id"], actor())
        flash(gettext("The dialog was deleted."), "success")
        return go(".index_view")

    @expose("/export/", methods=("POST",))
    def export_view(self) -> Any:
        """All of them as a file, piece by piece."""
        lines = dialogfiles.export(gateway().engine, admin().user_id)
        return Response(lines, mimetype="application/json", headers=FILE)

    def _caller(self) -> Caller:
        user: User = base.me()
        found = base.caller(user)
        db.session.rollback()  # nothing is held while an answer is made
        return found


def _id() -> str:
    """The id in the address or form."""
    return request.values.get("id", "")[:40]


def _said() -> bytes:
    """The message as the API reads one."""
    return jsonx.dumps({"content": request.form.get("content", "").replace("\r\n", "\n")})
