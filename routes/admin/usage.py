"""The calls: a list to search in and to watch, and everything about one of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from flask import abort, current_app, flash, request, url_for
from sqlalchemy import Row, select

from models import UsageRecord
from models_policies import Policy
from models_prompts import Prompt, PromptVersion
from routes.admin import policywords, timeline
from routes.admin.filters import SPAN, key_named, moment_ms, names_of_rows, number_named, since_of
from routes.admin.guard import actor, admin, expose, go
from routes.admin.tables import MAX_ID, Choice, Log
from routes.admin.texts import gettext, lazy_gettext
from services import bodies, reports, rights
from utils import money
from utils.extensions import db, gateway

_ = lazy_gettext

OUTCOMES: Final = {
    "ok": _("Answered"),
    "client_gone": _("Caller left"),
    "upstream_error": _("Provider failed"),
    "upstream_timeout": _("Provider too slow"),
    "upstream_cut": _("Answer broke off"),
    "refused": _("Refused"),
    "blocked": _("Withheld by a policy"),
    "drained": _("Server ended"),
    "recovered": _("Worker died"),
    "internal_error": _("Gateway failed"),
}
STATES: Final = {"measured": _("Measured"), "estimated": _("Estimated"), "void": _("Void")}
LIVE_ROWS: Final = 50  # that one look at what is new brings
OVERLAP: Final = 16  # rows are stored by many at once, so a smaller number may be seen later
PLAYGROUND: Final = "playground.index"


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A budget or limit as a call found it, in its own unit. None = nobody noted it."""

    unit: str
    scope: str | None = None
    period: str | int | None = None
    limit: int | None = None
    left: int | None = None  # once the call was admitted
    held: int | None = None  # for the call, until it ended
    charged: int | None = None  # for it in the end
    is_prepaid: bool = False
    is_budget: bool = True


class Usage(Log):
    """The calls."""

    model_class = UsageRecord
    icon, singular, resource = "activity", "Call", "usage"
    column_list = (
        "created_at",
        "outcome",
        "model",
        "user",
        "input_tokens",
        "output_tokens",
        "cost_nanousd",
        "duration_ms",
    )
    column_labels: ClassVar[dict[str, Any]] = {
        "created_at": _("Time"),
        "outcome": _("Outcome"),
        "model": _("Model"),
        "user": _("User and key"),
        "input_tokens": _("Input"),
        "output_tokens": _("Output"),
        "cost_nanousd": _("Cost"),
        "duration_ms": _("Duration"),
    }
    exported = (
        *("request_id", "created_at", "user", "key", "model", "provider", "upstream_model", "operation", "is_stream"),
        *("status", "outcome", "state", "input_tokens", "output_tokens", "cache_read_input_tokens"),
        *("cache_creation_input_tokens", "reasoning_output_tokens", "cost_usd", "price_source", "first_byte_ms"),
        *("duration_ms", "error", "team", "custom_id", "client_metadata"),
    )
    exported_as: ClassVar[Mapping[str, Any]] = {
        "outcome": ("status", "outcome", "state", "error"),
        "model": ("model", "provider", "upstream_model"),
        "user": ("user", "key", "team"),
        "cost_nanousd": ("cost_usd",),
    }
    list_template = "admin/usage/list.html"
    details_template = "admin/usage/details.html"
    texts = ("user", "team", "key", "model", "provider", "custom_id", "request_id", "batch", "since", "until")
    choices = (
        SPAN,
        Choice("outcome", _("Outcome"), list(OUTCOMES.items())),
        Choice("state", _("State"), list(STATES.items())),
    )

    def wanted(self) -> reports.UsageFilter:
        """What the address asks for. A user or key that does not exist has no calls."""
        span = self.chosen("span")
        names = ("model", "provider", "custom_id", "request_id")
        return reports.UsageFilter(
            user_id=number_named("user", self.argument("user")),
            team_id=number_named("team", self.argument("team")),
            key_id=key_named(self.argument("key")),
            batch_id=_number(self.argument("batch")),
            outcome=self.chosen("outcome"),
            state=self.chosen("state"),
            since_ms=since_of(span) or moment_ms(self.argument("since")),
            until_ms=None if span else moment_ms(self.argument("until")),
            **{name: self.argument(name) for name in names},
        )

    def walk(self) -> reports.Walk:
        """See Log."""
        return reports.usage_walk(self.wanted())

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """Whose calls they are, and after which row new ones come."""
        newest = max((row.id for row in rows), default=None)
        return {"names": names_of_rows(gateway().engine, rows), "newest": newest}

    def details(self, row: UsageRecord) -> Mapping[str, Any]:
        """How its cost came about, what was tried, how long each part took, what its budgets and limits had."""
        engine = gateway().engine
        kept = gateway().bodies.until(db.session(), row.request_id) if _may_read() else None
        return {
            "bill": reports.bill(row),
            "attempts": timeline.attempts_of(row),
            "bars": timeline.bars_of(row),
            "ceilings": ceilings_of(row, reports.charges_of(engine, row.request_id)),
            "names": names_of_rows(engine, [row]),
            "kept_until": kept,
            "may_read": _may_read(),
            "policy": db.session.get(Policy, row.policy_id) if row.policy_id is not None else None,
            "prompt": _prompt_of(row),
            "decisions": policywords.DECISIONS,
            "replay": link_if(PLAYGROUND, call=row.request_id),
        }

    @expose("/newer/")
    def newer_view(self) -> Any:
        """What was settled after the row `after`, as rows of the list, for the page to put in (static/explorer.js).

        Without `after` it only says where new ones begin. Never more than LIVE_ROWS: a page is no log file.
        """
        engine, given = gateway().engine, self.argument("after")
        newest, rows, has_more = reports.newest_usage(engine), [], False
        if given.isascii() and given.isdigit() and int(given) <= MAX_ID:
            walk = reports.live_walk(self.wanted(), max(0, int(given) - OVERLAP), newest)
            page = reports.read_page(engine, walk, size=LIVE_ROWS)
            rows, has_more = page.rows, page.older is not None
        return self.render(
            "admin/usage/newer.html",
            rows=rows,
            names=names_of_rows(engine, rows),
            newest=newest,
            has_more=has_more,
            shown_columns=self.arranged()["shown_columns"],
        )

    @expose("/content/")
    def content_view(self) -> Any:
        """What the call said and was answered; that somebody looked is in the audit log."""
        row = self.row()
        if not _may_read():
            abort(403, gettext("What callers say is for admins only."))
        kept = gateway().bodies.read(db.session(), actor(), row.request_id)
        db.session.commit()
        parts = {name: kept[name] for name in ("request", "response") if kept[name] is not None} if kept else {}
        return self.render(
            "admin/usage/content.html",
            row=row,
            kept=kept,
            parts={name: {**part, "shown": _readable(part.get("body"))} for name, part in parts.items()},
        )

    @expose("/forget/", methods=("GET", "POST"))
    def forget_view(self) -> Any:
        """Asks, then deletes what is stored of the call's texts."""
        row = self.row()
        if request.method == "GET":
            return self.render("admin/usage/forget.html", row=row, why_kept=None)
        bodies.remove(db.session(), actor(), row.request_id)
        db.session.commit()
        flash(gettext("The texts were deleted."), "success")
        return go(".details_view", id=row.id)

    def record(self, row: Any, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported."""
        names = extras["names"]
        return {
            "user": names.users.get(row.user_id, f"#{row.user_id}"),
            "key": names.keys[row.key_id][1] if row.key_id in names.keys else "",
            "team": names.teams.get(row.team_id, row.team_id and f"#{row.team_id}"),
            "cost_usd": f"{money.usd(row.cost_nanousd):f}",
        }


def ceilings_of(row: Any, charges: list[Any]) -> list[Ceiling]:
    """The budgets and limits of a call as its admission found them, with what its budgets were charged in the end."""
    trace = timeline.trace_of(row)
    charged = {one.account_id: one.amount_nanousd or one.amount_tokens for one in charges}
    units = {one.account_id: "usd" if one.amount_nanousd else "tokens" for one in charges}
    found = [
        Ceiling(unit, scope, period, limit, max(0, limit - gone - held), held, charged.pop(number, 0), is_prepaid)
        for number, scope, unit, period, is_prepaid, limit, gone, held in trace.get("budgets", ())
    ]
    found += [Ceiling(units[number], charged=amount) for number, amount in charged.items()]
    return found + [
        Ceiling(unit, scope, period, limit, left, is_budget=False)
        for _subject, scope, unit, period, limit, left in trace.get("limits", ())
    ]


def link_if(endpoint: str, **values: Any) -> str | None:
    """The address of a page that another part of the product may bring; None where it does not."""
    return url_for(endpoint, **values) if endpoint in current_app.view_functions else None


def _prompt_of(row: UsageRecord) -> Row[Any] | None:
    """Id, name and number of the version of the stored prompt that it was made from; None = of none that is there."""
    if row.prompt_version_id is None:
        return None
    query = select(Prompt.uuid, Prompt.name, PromptVersion.number).join(Prompt, Prompt.id == PromptVersion.prompt_id)
    return db.session.execute(query.where(PromptVersion.id == row.prompt_version_id)).one_or_none()


def _number(given: str) -> int | None:
    """The number of a batch; None = none was named."""
    is_number = given.isascii() and given.isdigit() and len(given) < len(str(MAX_ID))
    return int(given) if is_number else None


def _may_read() -> bool:
    """Whether the browser's user may read what callers said."""
    return rights.has(admin().role, rights.CONTENT)


def _readable(body: Any) -> str:
    """A stored text for people: JSON with line breaks."""
    return body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False)
