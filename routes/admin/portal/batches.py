"""One's own batches: how far they are, what they have cost so far, and a way to end one."""

from typing import Any

from flask import abort, flash, request
from sqlalchemy import select

from models_batches import Batch
from routes.admin.batches import WORDS, costs_of, why_over
from routes.admin.guard import actor, admin, expose, go
from routes.admin.portal import base
from routes.admin.portal.base import PortalView
from routes.admin.texts import gettext
from services import reports
from services.errors import GatewayError
from utils.extensions import db, gateway


class OwnBatches(PortalView):
    """The batches of whoever is signed in."""

    icon = "stack"

    @expose("/")
    def index_view(self) -> Any:
        """A page of them, the newest first."""
        before = base.number() or None
        walk = reports.Walk(Batch.id, (Batch.user_id == admin().user_id,))
        page = reports.read_page(gateway().engine, walk, before=before)
        values = {"page": page, "is_first": before is None, "costs": costs_of(page.rows), **WORDS}
        return self.render("admin/portal/batches/list.html", **values)

    @expose("/details/")
    def details_view(self) -> Any:
        """One of them, with what is wrong with its file."""
        row = self._own()
        return self.render("admin/portal/batches/details.html", row=row, costs=costs_of([row]), **WORDS)

    @expose("/cancel/", methods=("GET", "POST"))
    def cancel_view(self) -> Any:
        """Asks, then ends it."""
        row = self._own()
        if request.method == "GET":
            return self.render("admin/portal/batches/cancel.html", row=row, why_kept=why_over(row))
        try:
            gateway().control.batches.cancel(admin().user_id, row.name, actor())
        except GatewayError as exc:
            flash(base.problem(exc), "danger")
        else:
            flash(gettext("The batch is being cancelled."), "success")
        return go(".details_view", id=row.id)

    def _own(self) -> Batch:
        query = select(Batch).where(Batch.id == base.number(), Batch.user_id == admin().user_id)
        row = db.session.scalars(query).first()
        if row is None:
            abort(404)
        return row
