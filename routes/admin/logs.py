"""What happened: movements of money, changes. Only read, however long the tables are. Calls: usage.py, blocked.py."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from sqlalchemy import select

from models import AuditEntry, Budget, LedgerEntry
from routes.admin import owned
from routes.admin.filters import NOBODY, number_named
from routes.admin.owned import names_of
from routes.admin.tables import Choice, Log
from routes.admin.texts import lazy_gettext
from services import balances, budgets, reports
from utils import money
from utils.extensions import db, gateway

_ = lazy_gettext

ENTRY_KINDS: Final = {
    "charge": _("Charge"),
    "correction": _("Correction"),
    "top_up": _("Top-up"),
    "deduct": _("Deduction"),
}
REASONS: Final = {balances.INITIAL: _("initial balance"), budgets.CHANGED: _("limit changed")}  # that the gateway gives


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
    exported = (
        *("id", "created_at", "kind", "account", "account_id", "account_name", "amount_usd", "amount_tokens"),
        *("request_id", "reason", "actor"),
    )
    exported_as: ClassVar[Mapping[str, Any]] = {
        "account": ("account", "account_id", "account_name"),
        "amount_nanousd": ("amount_usd",),
        "reason": ("reason", "actor"),
    }
    list_template = "admin/ledger/list.html"
    texts = ("user", "budget", "request_id")
    choices = (Choice("kind", _("Kind"), list(ENTRY_KINDS.items())),)

    def walk(self) -> reports.Walk:
        """See Log. Only the request id has an index; an account is picked out of a bounded number of entries."""
        request_id, user, budget = (self.argument(name) for name in ("request_id", "user", "budget"))
        accounts = []
        if user:
            accounts.append(("user", number_named("user", user) or NOBODY))
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

    def record(self, row: Any, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Exported. Amounts have the sign of the list."""
        sign = 1 if row.kind == "top_up" else -1
        budget = extras["budgets"].get(row.account_id) if row.account == "budget" else None
        whose = extras["names"].users.get(row.account_id) if row.account == "user" else None
        return {
            "account_name": owned.name_of(budget, extras["owners"]) if budget is not None else whose,
            "amount_usd": f"{money.usd(sign * row.amount_nanousd):f}",
            "amount_tokens": sign * row.amount_tokens,
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
    exported = (
        *("id", "sequence", "created_at", "actor", "user_id", "action", "resource_type", "resource_id", "details"),
        *("ip_address", "user_agent", "digest"),
    )
    exported_as: ClassVar[Mapping[str, Any]] = {"resource": ("resource_type", "resource_id"), "changes": ("details",)}
    list_template = "admin/audit/list.html"
    details_template = "admin/audit/details.html"
    column_searchable_list = ("action", "resource_type")
    texts = ("actor", "action", "resource_type")

    def walk(self) -> reports.Walk:
        """See Log."""
        wanted = {name: self.argument(name) for name in self.texts if self.argument(name)}
        return reports.audit_walk(wanted, self.argument("search"))
