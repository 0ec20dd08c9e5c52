"""What happened: calls, movements of money, changes. Only read, however long the tables are."""

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from flask import Response, abort, flash, request
from sqlalchemy import Engine, select

from models import AuditEntry, Budget, LedgerEntry, UsageRecord
from routes.admin.guard import actor, admin, expose, go
from routes.admin.owned import names_of, number_of
from routes.admin.tables import Choice, Log
from routes.admin.texts import gettext, lazy_gettext
from services import balances, bodies, budgets, reports, rights
from utils import clock, jsonx, money
from utils.extensions import db, gateway

_ = lazy_gettext

SPANS_MS: Final = {"1h": 3_600_000, "24h": 86_400_000, "7d": 7 * 86_400_000, "30d": 30 * 86_400_000}
OUTCOMES: Final = (
    "ok",
    "client_gone",
    "upstream_error",
    "upstream_timeout",
    "upstream_cut",
    "refused",
    "drained",
    "recovered",
    "internal_error",
)
STATES: Final = {"measured": _("Measured"), "estimated": _("Estimated"), "void": _("Void")}
ENTRY_KINDS: Final = {
    "charge": _("Charge"),
    "correction": _("Correction"),
    "top_up": _("Top-up"),
    "deduct": _("Deduction"),
}
REASONS: Final = {balances.INITIAL: _("initial balance"), budgets.CHANGED: _("limit changed")}  # that the gateway gives
EXPORTED: Final = (
    "request_id",
    "created_at",
    "user",
    "key",
    "model",
    "provider",
    "upstream_model",
    "operation",
    "is_stream",
    "status",
    "outcome",
    "state",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "reasoning_output_tokens",
    "cost_usd",
    "price_source",
    "first_byte_ms",
    "duration_ms",
    "error",
    "team",
    "custom_id",
    "client_metadata",
)
EXPORT_CHUNK: Final = 500
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run the cell
NOBODY: Final = -1  # an id that no row has


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
    list_template = "admin/usage/list.html"
    details_template = "admin/usage/details.html"
    texts = ("user", "team", "key", "model", "custom_id", "since", "until")
    choices = (
        Choice(
            "span",
            _("Time"),
            [("1h", _("Last hour")), ("24h", _("Last 24 hours")), ("7d", _("Last 7 days")), ("30d", _("Last 30 days"))],
        ),
        Choice("outcome", _("Outcome"), [(name, name) for name in OUTCOMES]),
        Choice("state", _("State"), list(STATES.items())),
    )

    def wanted(self) -> reports.UsageFilter:
        """What the address asks for. A user or key that does not exist has no calls."""
        key, span = self.argument("key"), self.chosen("span")
        since = clock.now_ms() - SPANS_MS[span] if span else _moment_ms(self.argument("since"))
        return reports.UsageFilter(
            user_id=_number("user", self.argument("user")),
            team_id=_number("team", self.argument("team")),
            key_id=(number_of("key", key) or NOBODY) if key else None,
            model=self.argument("model"),
            custom_id=self.argument("custom_id"),
            outcome=self.chosen("outcome"),
            state=self.chosen("state"),
            since_ms=since,
            until_ms=None if span else _moment_ms(self.argument("until")),
        )

    def walk(self) -> reports.Walk:
        """See Log."""
        return reports.usage_walk(self.wanted())

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """Whose calls they are."""
        return {"names": _names(gateway().engine, rows)}

    def details(self, row: UsageRecord) -> Mapping[str, Any]:
        """How its cost came about, and what was tried."""
        attempts = jsonx.loads(row.attempts) if row.attempts else []
        kept = gateway().bodies.until(db.session(), row.request_id) if _may_read() else None
        found = {"bill": reports.bill(row), "attempts": attempts, "names": _names(gateway().engine, [row])}
        return found | {"kept_until": kept, "may_read": _may_read()}

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

    @expose("/export.csv")
    def export_view(self) -> Response:
        """The calls of the list, all pages, as a stream: never more than one chunk in memory."""
        lines = _csv(gateway().engine, self.walk())
        return Response(lines, mimetype="text/csv", headers={"content-disposition": "attachment; filename=usage.csv"})


class Ledger(Log):
    """The movements of money and tokens."""

    model_class = LedgerEntry
    icon, singular, resource = "journal-text", "Entry", "ledger"
    details_view = None  # type: ignore[assignment]  # Flask-Admin offers no page whose view is None
    can_view_details = False
    column_list = ("created_at", "kind", "account", "amount_nanousd", "amount_tokens", "request_id", "reason")
    column_labels: ClassVar[dict[str, Any]] = {
        "created_at": _("Time"),
        "kind": _("Kind"),
        "account": _("Account"),
        "amount_nanousd": _("USD"),
        "amount_tokens": _("Tokens"),
        "request_id": _("Call"),
        "reason": _("Reason"),
    }
    list_template = "admin/ledger/list.html"
    texts = ("user", "budget", "request_id")
    choices = (Choice("kind", _("Kind"), list(ENTRY_KINDS.items())),)

    def walk(self) -> reports.Walk:
        """See Log. Only the request id has an index; an account is picked out of a bounded number of entries."""
        request_id, user, budget = (self.argument(name) for name in ("request_id", "user", "budget"))
        accounts = []
        if user:
            accounts.append(("user", _number("user", user) or NOBODY))
        if budget:
            is_id = budget.isascii() and budget.isdigit() and len(budget) < len(str(2**63))
            accounts.append(("budget", int(budget) if is_id else NOBODY))
        return reports.ledger_walk(request_id, accounts, self.chosen("kind"))

    def extras(self, rows: list[Any]) -> Mapping[str, Any]:
        """Whose accounts they are. Amounts are shown from the account's side: what it spends is negative."""
        users = [row.account_id for row in rows if row.account == "user"]
        numbers = {row.account_id for row in rows if row.account == "budget"}
        found = db.session.scalars(select(Budget).where(Budget.id.in_(numbers))).all() if numbers else ()
        return {
            "names": reports.names(gateway().engine, users, ()),
            "budgets": {budget.id: budget for budget in found},
            "owners": names_of(found),
        }


class AuditLog(Log):
    """Who changed what."""

    model_class = AuditEntry
    icon, singular, resource = "clock-history", "Change", "audit"
    column_list = ("created_at", "actor", "action", "resource", "changes", "ip_address")
    column_labels: ClassVar[dict[str, Any]] = {
        "created_at": _("Time"),
        "actor": _("Who"),
        "action": _("Action"),
        "resource": _("What"),
        "changes": _("Changes"),
        "ip_address": _("From"),
    }
    list_template = "admin/audit/list.html"
    details_template = "admin/audit/details.html"
    texts = ("actor", "action")

    def walk(self) -> reports.Walk:
        """See Log."""
        wanted = {name: self.argument(name) for name in self.texts if self.argument(name)}
        return reports.audit_walk(wanted)


def _may_read() -> bool:
    """Whether the browser's user may read what callers said."""
    return rights.has(admin().role, rights.CONTENT)


def _readable(body: Any) -> str:
    """A stored text for people: JSON with line breaks."""
    return body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False)


def _names(engine: Engine, rows: list[Any]) -> reports.Names:
    users, keys, teams = ([getattr(row, name) for row in rows] for name in ("user_id", "key_id", "team_id"))
    return reports.names(engine, users, keys, teams)


def _number(scope: str, given: str) -> int | None:
    """The number of a user or team by name, or as #123 for one that was deleted; None = nobody was named."""
    if not given:
        return None
    number = given.removeprefix("#")
    is_number = number != given and number.isascii() and number.isdigit() and len(number) < len(str(2**63))
    return number_of(scope, given) or (int(number) if is_number else NOBODY)


def _moment_ms(given: str) -> int | None:
    """A moment as a browser sends it, in UTC."""
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0, round(aware.timestamp() * 1000))


def _csv(engine: Engine, walk: reports.Walk) -> Iterator[str]:
    """The rows as CSV, chunk by chunk, with names looked up once a chunk. Runs after the request's context is gone."""
    rows = reports.read_all(engine, walk, size=EXPORT_CHUNK)
    yield _csv_lines([EXPORTED])
    while chunk := list(itertools.islice(rows, EXPORT_CHUNK)):
        names = _names(engine, chunk)
        yield _csv_lines(_exported(row, names) for row in chunk)


def _exported(row: Any, names: reports.Names) -> list[str]:
    special = {
        "created_at": datetime.fromtimestamp(row.created_at.timestamp(), UTC).isoformat(timespec="milliseconds"),
        "user": names.users.get(row.user_id, f"#{row.user_id}"),
        "key": names.keys[row.key_id][1] if row.key_id in names.keys else "",
        "team": names.teams.get(row.team_id, row.team_id and f"#{row.team_id}"),
        "cost_usd": f"{money.usd(row.cost_nanousd):f}",
    }
    values = (special.get(name, getattr(row, name, None)) for name in EXPORTED)
    return [harmless("" if value is None else str(value)) for value in values]


def harmless(cell: str) -> str:
    """The cell, with an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell


def _csv_lines(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()
