"""Every page of the panel, furnished with rows whose texts come from a test."""

from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask
from sqlalchemy import insert
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, Deployment, LedgerEntry, Model, Price, Provider, UsageRecord
from services import Gateway
from services.audit import Actor
from tests.admin.conftest import CANARY, add_budget, add_calls, add_user, rows_of


def furnish(app: Flask, text: str) -> list[str]:
    """Plant a text wherever outsiders, providers or admins can put one; returns the paths of all pages."""
    here: Gateway = app.extensions["gateway"]
    user = add_user(app, text[:150], locale=None)
    with Session(here.engine) as session, session.begin():
        key = here.keys.issue(session, user, text[:255], allowed_models=[text, "echo"]).id
        void = here.keys.issue(session, user, text[:255]).id
        here.keys.revoke(session, void, text[:255])
        stored = session.get_one(ApiKey, key)
        stored.last_used_at, stored.expires_at = datetime.now(UTC), datetime.now(UTC) + timedelta(days=2)
        provider = Provider(
            name=text[:100],
            kind="openai",
            base_url=f"http://acme.test/{text}"[:500],
            settings={"organization": text},
            credential=here.sealer.seal(CANARY),
            discovery_error=text[:300],
        )
        model = Model(name=text[:200], fallbacks=[text], owned_by=text[:100], managed_by="discovery")
        model.prices = [Price(input_rate=1, output_rate=1, source=text[:60])]
        session.add_all([provider, model])
        session.flush()
        model.deployments = [Deployment(provider_id=provider.id, upstream_model=text[:200])]
    budget = add_budget(app, "key", key)
    attempts = here.sealer and f'[["{text}", "{text}"]]'.replace("\\", "\\\\") if '"' not in text else None
    columns: dict[str, Any] = {"model": text[:200], "provider": text[:100], "upstream_model": text[:200]}
    columns |= {"error": text[:300], "outcome": text[:40], "price_source": text[:60], "attempts": attempts}
    add_calls(app, 3, user_id=user, key_id=key, **columns)
    entry = {"created_at": datetime.now(UTC), "kind": "correction", "account": "user", "account_id": user}
    with Session(here.engine) as session, session.begin():
        session.execute(
            insert(LedgerEntry), [{**entry, "request_id": text[:40], "actor": text[:150], "reason": text[:255]}]
        )
    actor = Actor(text, user, "127.0.0.1", text)
    here.audit.note(actor, text[:40], text[:40], text, {"before": {text: text}, "after": {text: [text]}})
    here.audit.note(actor, text[:40], text[:40], text, {text: text})
    return paths(app, user, key, void, budget)


def paths(app: Flask, user: int, key: int, void: int, budget: int) -> list[str]:
    """The address of every page that shows something."""
    provider, model = rows_of(app, Provider)[-1].id, rows_of(app, Model)[-1].id
    call = rows_of(app, UsageRecord)[-1].id
    entry = rows_of(app, AuditEntry)[-1].id
    return [
        "/admin/",
        *(
            f"/admin/{view}/"
            for view in ("users", "keys", "budgets", "providers", "models", "usage", "ledger", "audit")
        ),
        *(f"/admin/{view}/new/" for view in ("users", "keys", "budgets", "providers", "models")),
        *(f"/admin/users/{page}/?id={user}" for page in ("details", "edit", "delete", "password")),
        *(f"/admin/keys/{page}/?id={key}" for page in ("details", "edit", "revoke")),
        *(f"/admin/keys/{page}/?id={void}" for page in ("details", "revoke")),
        *(f"/admin/budgets/{page}/?id={budget}" for page in ("edit", "delete")),
        *(f"/admin/providers/{page}/?id={provider}" for page in ("details", "edit", "delete")),
        *(f"/admin/models/{page}/?id={model}" for page in ("details", "edit", "delete")),
        f"/admin/usage/details/?id={call}",
        *(f"/admin/audit/details/?id={number}" for number in (entry, entry - 1)),
        "/admin/password",
        "/admin/login",
        "/admin/nothing",
    ]
