"""`furnish` plants its text in every column that holds one, of every table that the panel shows."""

from typing import Any, Final

import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import Session

from models import Deployment, Price, StoredBody
from models_alerts import AlertDelivery
from models_prompts import Prompt, PromptLabel, PromptVersion
from routes.admin.guard import SecureModelView
from tests.admin.pages import furnish
from tests.admin.payloads import PAYLOADS
from utils.extensions import Base

TEXT: Final = "Zqx<b>"
SHOWN_WITH_OTHERS: Final = (
    AlertDelivery,
    Deployment,
    Price,
    Prompt,
    PromptLabel,
    PromptVersion,
    StoredBody,
)  # on pages about another table
# Columns that no caller, provider or admin can put a text of their own into.
OURS: Final = {
    "users": {"password_hash", "role", "locale"},
    "api_keys": {"uuid", "kind", "digest", "pepper", "hint", "provider_ids", "timeouts"},
    "invitations": {"digest", "hint", "role"},
    "budgets": {"scope", "unit", "period", "timezone", "managed_by"},
    "limits": {"scope", "unit", "period", "managed_by"},
    "teams": {"managed_by"},
    "providers": {"uuid", "kind", "managed_by"},
    "models": {"managed_by"},
    "prices": {"tiers"},
    "usage": {"request_id", "operation", "state", "charge_lines", "trace"},
    "ledger_entries": {"kind", "account"},
    "audit_log": {"ip_address", "digest"},
    "stored_bodies": {"request_id"},
    "system_configs": {"key", "managed_by"},
    "agents": {"id", "managed_by"},
    "dialogs": {"id"},
    "messages": {"id", "dialog_id", "request_id", "role"},
    "policies": {"uuid"},
    "routes": {"uuid", "path", "key_ids", "cache", "retry_strategy", "managed_by"},
    "raise_requests": {"kind", "scope", "unit", "period", "state"},
    "top_up_codes": {"digest", "unit"},
    "prompts": {"uuid"},
    "alert_targets": {"kind"},
    "alerts": {"code"},
    "batches": {"status", "owner"},
    "alert_deliveries": {"state"},
    "refusals": {"request_id", "kind", "rule", "details"},
}


def shown(app: Flask) -> set[Any]:
    """The tables of the panel's pages."""
    views = [view for view in app.extensions["admin"][0]._views if isinstance(view, SecureModelView)]
    return {view.model_class.__table__ for view in views} | {model.__table__ for model in SHOWN_WITH_OTHERS}


def texts_of(table: Any) -> list[Any]:
    """The columns that hold texts, or lists and objects of them."""
    kinds = (sa.String, sa.Text, sa.JSON)
    return [
        column
        for column in table.columns
        if isinstance(column.type, kinds) and column.name not in OURS.get(table.name, ())
    ]


def bare(app: Flask, text: str) -> list[str]:
    """The columns in which no row has the text."""
    found = []
    with Session(app.extensions["gateway"].engine) as session:
        for table in shown(app):
            for column in texts_of(table):
                held = session.scalars(sa.select(sa.cast(column, sa.Text)))
                if not any(value and text in value for value in held):
                    found.append(f"{table.name}.{column.name}")
    return sorted(found)


def test_every_column_of_a_shown_table_is_planted(panel_app: Flask) -> None:
    furnish(panel_app, TEXT)
    assert bare(panel_app, TEXT) == [], "plant it in tests/admin/pages.py, or say in OURS why nobody can"


def test_a_column_that_was_forgotten_is_seen(panel_app: Flask) -> None:
    assert "users.username" in bare(panel_app, TEXT)
    names = {table.name: {column.name for column in table.columns} for table in Base.metadata.tables.values()}
    assert {table: columns - names[table] for table, columns in OURS.items() if columns - names[table]} == {}


def test_there_are_enough_payloads_and_no_two_are_the_same() -> None:
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 40
