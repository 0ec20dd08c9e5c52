"""Batches: how far each is, what it has cost so far, and a way to end it. Made over the API (services/batches.py)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from flask import flash, request
from sqlalchemy import func, select

from models import UsageRecord
from models_batches import STATUSES, Batch
from routes.admin.filters import number_named
from routes.admin.guard import actor, expose, go
from routes.admin.tables import Choice, Log
from routes.admin.texts import N_, gettext, lazy_gettext
from services import reports
from services.batches import STOPPABLE
from utils import money
from utils.extensions import db, gateway

_ = lazy_gettext

STATUS_NAMES: Final = dict(
    zip(
        STATUSES,
        (
            *(_("Being checked"), _("File refused"), _("Under way"), _("Ending")),
            *(_("Done"), _("Out of time"), _("Being cancelled"), _("Cancelled")),
        ),
        strict=True,
    )
)
STATUS_TONES: Final = {"failed": "bad", "completed": "good", "expired": "warn", "in_progress": "info"}


class BatchList(Log):
    """The batches."""

    model_class = Batch
    icon, singular, resource = "stack", N_("Batch"), "batch"
    column_list = ("name", "status", "completed", "user", "model", "cost", "created_at")
    column_labels: ClassVar[dict[str, Any]] = {
        "name": _("Batch"),
        "status": _("Status"),
        "completed": _("Progress"),
        "user": _("User"),
        "model": _("Model"),
        "cost": _("Cost so far"),
        "created_at": _("Created"),
    }
    exported = (
        *("name", "status", "endpoint", "model", "user", "key", "total", "completed", "failed", "cost_usd"),
        *("created_at", "completed_at"),
    )
    exported_as: ClassVar[Mapping[str, Any]] = {
        "completed": ("total", "completed", "failed"),
        "user": ("user", "key"),
        "cost": ("cost_usd",),
    }
    list_template = "admin/batches/list.html"
    details_template = "admin/batches/details.html"
    texts = ("user",)
    choices = (Choice("status", _("Status"), list(STATUS_NAMES.items())),)

    def walk(self) -> reports.Walk:
        """See Log."""
        status, user = self.chosen("status"), number_named("user", self.argument("user"))
        also: list[reports.Also] = []
        if status:
            also.append(lambda columns: columns.status == status)
        return reports.Walk(Batch.id, () if user is None else (Batch.user_id == user,), tuple(also))

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """Whose they are, and what they cost."""
        names = reports.names(gateway().engine, [row.user_id for row in rows], [row.key_id for row in rows])
        return {"names": names, "costs": costs_of(rows), **WORDS}

    def record(self, row: Any, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        names = extras["names"]
        return {
            "user": names.users.get(row.user_id, f"#{row.user_id}"),
            "key": names.keys[row.key_id][1] if row.key_id in names.keys else "",
            "cost_usd": f"{money.usd(extras['costs'].get(row.id, 0)):f}",
        }

    def title(self, row: Any) -> str:
        """See Table."""
        return str(row.name)

    def details(self, row: Any) -> Mapping[str, Any]:
        """The same of one."""
        return self.extras([row])

    @expose("/cancel/", methods=("GET", "POST"))
    def cancel_view(self) -> Any:
        """Asks, then ends it."""
        row = self.row()
        if request.method == "GET":
            return self.render("admin/batches/cancel.html", row=row, why_kept=why_over(row))
        self.refuse(why_over(row))
        gateway().control.batches.cancel(None, row.name, actor())
        flash(gettext("The batch is being cancelled."), "success")
        return go(".details_view", id=row.id)


def why_over(row: Any) -> str | None:
    """Why a batch cannot be cancelled; None = it can."""
    return None if row.status in STOPPABLE else gettext("This batch has ended, or is about to.")


def costs_of(rows: Sequence[Any]) -> dict[int, int]:
    """What the calls of each of these batches have cost, in nano-USD."""
    query = select(UsageRecord.batch_id, func.sum(UsageRecord.cost_nanousd)).group_by(UsageRecord.batch_id)
    found = db.session.execute(query.where(UsageRecord.batch_id.in_([row.id for row in rows])))
    return {number: int(cost) for number, cost in found if number is not None}


WORDS: Final[Mapping[str, Any]] = {"statuses": STATUS_NAMES, "tones": STATUS_TONES, "stoppable": STOPPABLE}
