"""Every page of the panel, furnished with rows whose texts come from a test."""

from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask
from sqlalchemy import insert
from sqlalchemy.orm import Session

from models import (
    ApiKey,
    AuditEntry,
    Deployment,
    Invitation,
    LedgerEntry,
    Limit,
    Model,
    Price,
    Provider,
    StoredBody,
    SystemConfig,
    UsageRecord,
)
from services import Gateway, invitations
from services.audit import Actor
from tests.admin.conftest import CANARY, add_budget, add_calls, add_limit, add_team, add_user, rows_of
from utils import jsonx

VIEWS = ("users", "teams", "invites", "keys", "budgets", "limits", "providers", "models", "configs")


def _provider(here: Gateway, text: str) -> Provider:
    return Provider(
        name=text[:100],
        kind="openai",
        base_url=f"http://acme.test/{text}"[:500],
        settings={"organization": text},
        credential=here.sealer.seal(CANARY),
        discovery_error=text[:300],
    )


def furnish(app: Flask, text: str) -> list[str]:
    """Plant a text wherever outsiders, providers or admins can put one; returns the paths of all pages."""
    here: Gateway = app.extensions["gateway"]
    rules: dict[str, Any] = {"tags": [text], "allowed_models": [text, "echo"], "ttl": text[:40]}
    rules["allowed_paths"] = [{"path": text, "method": text}]
    user = add_user(app, text[:150], locale=None, disabled_reason=text[:255], **rules)
    team = add_team(app, text[:150], (user,), allowed_models=[text, "echo"])
    with Session(here.engine) as session, session.begin():
        key = here.keys.issue(session, user, text[:255]).id
        here.keys.revoke(session, void := here.keys.issue(session, user, text[:255]).id, text[:255])
        stored = session.get_one(ApiKey, key)
        for name, value in rules.items():
            setattr(stored, name, value)
        stored.allowed_ips = [text]
        here.keys.rotate(session, stored, timedelta(days=1))
        stored.last_used_at, stored.expires_at = datetime.now(UTC), datetime.now(UTC) + timedelta(days=2)
        provider = _provider(here, text)
        model = Model(name=text[:200], fallbacks=[text], owned_by=text[:100], managed_by="discovery")
        model.prices = [Price(input_rate=1, output_rate=1, source=text[:60])]
        session.add_all([provider, model])
        _keep(session, here, text)
        session.flush()
        model.deployments = [Deployment(provider_id=provider.id, upstream_model=text[:200])]
        number = model.id
    ends = [("key", key), ("user", user), ("team", team), ("model", number)]
    budget, *_more = [add_budget(app, scope, scope_id) for scope, scope_id in ends]
    limit, *_more = [add_limit(app, scope, scope_id) for scope, scope_id in ends]
    if all(row.scope != "address" for row in rows_of(app, Limit)):
        add_limit(app, "address", 0)
    attempts = here.sealer and f'[["{text}", "{text}"]]'.replace("\\", "\\\\") if '"' not in text else None
    columns: dict[str, Any] = {"model": text[:200], "provider": text[:100], "upstream_model": text[:200]}
    columns |= {"error": text[:300], "outcome": text[:40], "price_source": text[:60], "attempts": attempts}
    columns |= {"team_id": team, "custom_id": text[:255], "client_metadata": text}
    *_earlier, call = add_calls(app, 3, user_id=user, key_id=key, **columns)
    _say(here, call, text)
    entry = {"created_at": datetime.now(UTC), "kind": "correction", "account": "user", "account_id": user}
    with Session(here.engine) as session, session.begin():
        session.execute(
            insert(LedgerEntry), [{**entry, "request_id": text[:40], "actor": text[:150], "reason": text[:255]}]
        )
    actor = Actor(text, user, "127.0.0.1", text)
    invitations.make(here.engine, actor, role="auditor", team=text[:150])
    here.audit.note(actor, text[:40], text[:40], text, {"before": {text: text}, "after": {text: [text]}})
    here.audit.note(actor, text[:40], text[:40], text, {text: text})
    return paths(app, {"user": user, "team": team, "key": key, "void": void, "budget": budget, "limit": limit})


def _say(here: Gateway, request_id: str, text: str) -> None:
    """What a call said and was answered."""
    told = here.sealer.seal(jsonx.dumps({"type": text, "body": {text: text}, "is_whole": False}).decode())
    ends = datetime.now(UTC) + timedelta(days=1)
    row = StoredBody(request_id=request_id, user_id=1, created_at=ends, expires_at=ends, request=told, response=told)
    with Session(here.engine) as session, session.begin():
        session.add(row)


def _keep(session: Session, here: Gateway, text: str) -> None:
    """Two configuration values, one of them secret."""
    words = {"description": text[:500], "updated_by": text[:150]}
    session.merge(SystemConfig(key="mail.host", value=text, is_secret=False, **words))
    session.merge(SystemConfig(key="mail.password", sealed=here.sealer.seal(CANARY), is_secret=True, **words))


def paths(app: Flask, ids: dict[str, int]) -> list[str]:
    """The address of every page that shows something."""
    user, key, void = ids["user"], ids["key"], ids["void"]
    provider, model = rows_of(app, Provider)[-1].id, rows_of(app, Model)[-1].id
    call = rows_of(app, UsageRecord)[-1].id
    entry = rows_of(app, AuditEntry)[-1].id
    return [
        "/admin/",
        *(f"/admin/{view}/" for view in (*VIEWS, "usage", "ledger", "audit")),
        *(f"/admin/{view}/new/" for view in VIEWS),
        *(f"/admin/users/{page}/?id={user}" for page in ("details", "edit", "delete", "password", "second-factor")),
        *(f"/admin/teams/{page}/?id={ids['team']}" for page in ("details", "edit", "delete")),
        *(f"/admin/keys/{page}/?id={key}" for page in ("details", "edit", "revoke", "rotate", "end", "lift", "delete")),
        *(f"/admin/keys/{page}/?id={void}" for page in ("details", "revoke", "lift")),
        *(f"/admin/{page}s/{way}/?id={ids[page]}" for page in ("budget", "limit") for way in ("edit", "delete")),
        *(f"/admin/providers/{page}/?id={provider}" for page in ("details", "edit", "delete")),
        *(f"/admin/models/{page}/?id={model}" for page in ("details", "edit", "delete")),
        f"/admin/invites/delete/?id={rows_of(app, Invitation)[-1].id}",
        *(f"/admin/configs/{page}/?id=mail.host" for page in ("details", "edit", "delete")),
        *(f"/admin/usage/{page}/?id={call}" for page in ("details", "content", "forget")),
        f"/admin/users/erase/?id={user}",
        *(f"/admin/audit/details/?id={number}" for number in (entry, entry - 1)),
        "/admin/password",
        "/admin/account",
        "/admin/second-factor",
        "/admin/login",
        "/admin/nothing",
    ]
