"""Every page of the panel, furnished with rows whose texts come from a test."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from flask import Flask
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from models import (
    Agent,
    ApiKey,
    AuditEntry,
    Deployment,
    Dialog,
    Invitation,
    LedgerEntry,
    Limit,
    Message,
    Model,
    Price,
    Provider,
    Refusal,
    Route,
    SavedView,
    StoredBody,
    SystemConfig,
    UsageRecord,
    User,
)
from models_policies import Policy
from models_prompts import Prompt, PromptLabel, PromptVersion
from services import Gateway, balances, invitations
from services.audit import Actor
from tests.admin.alerting import furnish_alerts
from tests.admin.conftest import CANARY, add_budget, add_calls, add_limit, add_refusals, add_team, add_user, rows_of
from tests.admin.portal import furnish_portal
from utils import ids, jsonx

OFTEN = ("users", "teams", "invites", "keys", "budgets", "limits", "providers", "models", "configs")
VIEWS = (*OFTEN, "balances", "agents", "routes", "policies")
LISTS = (*OFTEN, "usage", "ledger", "audit")


def _provider(here: Gateway, text: str) -> Provider:
    return Provider(
        name=text[:100],
        kind="openai",
        base_url=f"http://acme.test/{text}"[:500],
        settings={"organization": text},
        credential=here.sealer.seal(CANARY),
        discovery_error=text[:300],
    )


def _model(text: str) -> Model:
    row = Model(name=text[:200], fallbacks=[text], owned_by=text[:100], managed_by="discovery", aliases=[text[:200]])
    row.description, row.routing = text[:500], {"context_fallbacks": [text], "content_fallbacks": [text]}
    row.prices = [Price(input_rate=1, output_rate=1, source=text[:60])]
    return row


def furnish(app: Flask, text: str, reader: str = "admin") -> list[str]:
    """Plant a text wherever outsiders, providers or admins can put one; returns the paths of all pages.

    Where a page shows only what is one's own, it is the reader's.
    """
    here: Gateway = app.extensions["gateway"]
    mine = furnish_portal(app, number_of(app, reader), text)
    rules: dict[str, Any] = {"tags": [text], "allowed_models": [text, "echo"], "ttl": text[:40]}
    rules["allowed_paths"] = [{"path": text, "method": text}]
    user = add_user(app, text[:150], display_name=text[:255], locale=None, disabled_reason=text[:255], **rules)
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
        model = _model(text)
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
    noted = {"path": text[:200], "custom_id": text[:255], "client_metadata": text}
    columns: dict[str, Any] = noted | {
        "model": text[:200],
        "provider": text[:100],
        "upstream_model": text[:200],
        "error": text[:300],
        "outcome": text[:40],
        "price_source": text[:60],
        "attempts": attempts,
        "team_id": team,
        "action": text[:10],
        "route_id": text[:36],
    }
    *_earlier, call = add_calls(app, 3, user_id=user, key_id=key, **columns)
    _say(here, call, text)
    entry = {"created_at": datetime.now(UTC), "kind": "correction", "account": "user", "account_id": user}
    with Session(here.engine) as session, session.begin():
        session.execute(
            insert(LedgerEntry), [{**entry, "request_id": text[:40], "actor": text[:150], "reason": text[:255]}]
        )
    _note(here, text, user)
    told = {"model": text[:200], "message": text[:300], "code": text[:60], "details": None, "rule": f"limit {limit}"}
    add_refusals(app, 1, **{"user_id": user, "key_id": key, "team_id": team, "kind": "models"} | told | noted)
    talk(app, text, user, key)
    numbers = {"user": user, "team": team, "key": key, "void": void, "budget": budget, "limit": limit}
    return [
        *mine,
        *furnish_alerts(app, text),
        *_like(app, number_of(app, reader), user, text),
        *paths(app, numbers, text),
    ]


def _note(here: Gateway, text: str, user: int) -> None:
    """An invitation, and entries of the audit log."""
    actor = Actor(text, user, "127.0.0.1", text)
    invitations.make(here.engine, actor, role="auditor", team=text[:150])
    here.audit.note(actor, text[:40], text[:40], text, {"before": {text: text}, "after": {text: [text]}})
    here.audit.note(actor, text[:40], text[:40], text, {text: text})


def talk(app: Flask, text: str, user: int, key: int) -> None:
    """A dialog, an agent, a route and a balance, all with the text in them."""
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        told = {"system_prompt": text, "model_name": text[:200]}
        dialog = Dialog(user_id=user, title=text[:255], agent_config={"agent_type": text}, message_count=2, **told)
        session.add(dialog)
        session.flush()
        for role in ("user", "assistant"):
            session.add(
                Message(dialog_id=dialog.id, user_id=user, role=role, content=f"{text} " * 9, request_id="req_1")
            )
        config = {"temperature": 0.5, "stop_sequences": [text[:500]]}
        session.add(Agent(user_id=user, name=text[:100], description=text[:500], config=config, **told))
        session.add(Agent(user_id=0, name=f"{ids.uuid()}", description=text[:500], config=config, **told))
        step = {
            "provider": text[:100],
            "model": text[:200],
            "request_params": {"stop": text},
            "params": {"apiVersion": text},
        }
        rule = {"name": text[:255], "definition": text, "action": "allow"}
        told = {
            "patterns": [rule],
            "words": [rule],
            "judges": [rule | {"model": text[:200]}],
            "kinds": {"email": "block"},
        }
        session.add(Policy(name=text[:255], tags=[text], rules=told | {"size": {"chars": 5, "action": "block"}}))
        _prompt(session, text)
        session.add(Route(name=text[:255], path=f"/{ids.uuid()}", key_ids=[key], steps=[step]))
        balances.move(session, user, 5_000, Actor(text), text[:255])


def number_of(app: Flask, username: str) -> int:
    return next(int(row.id) for row in rows_of(app, User) if row.username == username)


def _say(here: Gateway, request_id: str, text: str) -> None:
    """What a call said and was answered."""
    told = here.sealer.seal(jsonx.dumps({"type": text, "body": {text: text}, "is_whole": False}).decode())
    ends = datetime.now(UTC) + timedelta(days=1)
    row = StoredBody(request_id=request_id, user_id=1, created_at=ends, expires_at=ends, request=told, response=told)
    with Session(here.engine) as session, session.begin():
        session.add(row)


def _move(here: Gateway, user: int, text: str) -> None:
    """A movement of money."""
    entry = {"created_at": datetime.now(UTC), "kind": "correction", "account": "user", "account_id": user}
    with Session(here.engine) as session, session.begin():
        session.execute(
            insert(LedgerEntry), [{**entry, "request_id": text[:40], "actor": text[:150], "reason": text[:255]}]
        )


def _keep(session: Session, here: Gateway, text: str) -> None:
    """Two configuration values, one of them secret."""
    words = {"description": text[:500], "updated_by": text[:150]}
    session.merge(SystemConfig(key="mail.host", value=text, is_secret=False, **words))
    session.merge(SystemConfig(key="mail.password", sealed=here.sealer.seal(CANARY), is_secret=True, **words))


def _like(app: Flask, reader: int, user: int, text: str) -> list[str]:
    """A view of the reader's own, and one that somebody shares; returns the paths of their pages."""
    shown = {"filters": {"search": text[:100]}, "columns": ["username", text]}
    rows = [
        SavedView(user_id=whose, view="users", name=f"{user}{text}"[:300], settings=shown, is_shared=whose == user)
        for whose in (reader, user)
    ]
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.add_all(rows)
        session.flush()
        number = rows[0].id
    pages = [f"/admin/views/{page}/?id={number}" for page in ("edit", "delete")]
    return ["/admin/views/", "/admin/views/new/?list=users&search=x", *pages]


def _prompt(session: Session, text: str) -> None:
    """A prompt for everybody with two versions and a label, all with the text in them."""
    row = Prompt(name=text[:100], description=text[:500], newest=2)
    session.add(row)
    session.flush()
    variable = {
        "name": text,
        "type": text,
        "is_required": True,
        "default": None,
        "description": text,
        "options": [text],
    }
    said = {"variables": [variable | {"max_chars": None}], "author": text[:150], "note": text[:500]}
    said |= {"model_name": text[:200], "parameters": {"stop_sequences": [text]}}
    for number, content in ((1, text), (2, f"{text}\n{text}")):
        messages = [{"role": "user", "content": content}]
        session.add(PromptVersion(prompt_id=row.id, number=number, messages=messages, **said))
    session.add(PromptLabel(prompt_id=row.id, name=text[:40], number=2))


def prompt_of(app: Flask, text: str) -> str:
    return next(row.uuid for row in rows_of(app, Prompt) if row.name == text[:100])


def newest(app: Flask, table: Any) -> str:
    """The id of the row made last."""
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session:
        return str(session.scalars(select(table.id).order_by(table.created_at.desc()).limit(1)).one())


def paths(app: Flask, numbers: dict[str, int], text: str) -> list[str]:
    """The address of every page that shows something."""
    user, key, void = numbers["user"], numbers["key"], numbers["void"]
    provider, model = rows_of(app, Provider)[-1].id, rows_of(app, Model)[-1].id
    call = rows_of(app, UsageRecord)[-1].id
    entry = rows_of(app, AuditEntry)[-1].id
    return [
        "/admin/",
        *(f"/admin/{view}/" for view in (*VIEWS, "usage", "blocked", "ledger", "audit")),
        *(f"/admin/{view}/new/" for view in VIEWS),
        *(f"/admin/users/{page}/?id={user}" for page in ("details", "edit", "delete", "password", "second-factor")),
        *(f"/admin/teams/{page}/?id={numbers['team']}" for page in ("details", "edit", "delete")),
        *(f"/admin/keys/{page}/?id={key}" for page in ("details", "edit", "revoke", "rotate", "end", "lift", "delete")),
        *(f"/admin/keys/{page}/?id={void}" for page in ("details", "revoke", "lift")),
        *(f"/admin/{page}s/{way}/?id={numbers[page]}" for page in ("budget", "limit") for way in ("edit", "delete")),
        *(f"/admin/providers/{page}/?id={provider}" for page in ("details", "edit", "delete")),
        *(f"/admin/models/{page}/?id={model}" for page in ("details", "edit", "delete")),
        f"/admin/invites/delete/?id={rows_of(app, Invitation)[-1].id}",
        *(f"/admin/configs/{page}/?id=mail.host" for page in ("details", "edit", "delete")),
        *(f"/admin/usage/{page}/?id={call}" for page in ("details", "content", "forget")),
        f"/admin/usage/newer/?after={call - 2}",
        *_of_refusals(rows_of(app, Refusal)[-1], user, void, numbers["limit"]),
        f"/admin/users/erase/?id={user}",
        *(f"/admin/audit/details/?id={number}" for number in (entry, entry - 1)),
        "/playground/",
        "/portal/prompts/",
        "/portal/prompts/new/",
        *(f"/portal/prompts/{page}/?id={prompt_of(app, text)}" for page in ("edit", "version", "label", "delete")),
        f"/portal/prompts/unlabel/?id={prompt_of(app, text)}&label={quote(text[:40])}",
        f"/portal/prompts/details/?id={prompt_of(app, text)}&version=2&from=1",
        f"/playground/?call={rows_of(app, UsageRecord)[-1].request_id}",
        "/portal/",
        "/admin/search/",
        f"/admin/search/?q={quote(text[:20])}",
        "/admin/search/?q=admin",
        "/admin/steps/",
        f"/admin/models/offers/?provider={provider}",
        f"/admin/balances/edit/?id={user}",
        "/admin/transactions/",
        "/admin/dialogs/",
        "/admin/messages/",
        *(f"/admin/dialogs/{page}/?id={newest(app, Dialog)}" for page in ("details", "edit", "delete")),
        *(f"/admin/messages/{page}/?id={newest(app, Message)}" for page in ("details", "delete")),
        *(f"/admin/agents/{page}/?id={newest(app, Agent)}" for page in ("details", "edit", "delete")),
        *(f"/admin/policies/{page}/?id={rows_of(app, Policy)[-1].id}" for page in ("details", "edit", "delete")),
        *(f"/admin/routes/{page}/?id={rows_of(app, Route)[-1].id}" for page in ("details", "edit", "delete")),
        "/admin/password",
        "/admin/account",
        "/admin/second-factor",
        "/admin/login",
        "/admin/nothing",
    ]


def _of_refusals(row: Refusal, user: int, key: int, limit: int) -> list[str]:
    """Those about refused calls, and those that mend them."""
    text = quote(row.model or "")
    return [
        f"/admin/blocked/details/?id={row.id}",
        f"/admin/blocked/why/?request={row.request_id}",
        f"/admin/blocked/why/?request={text}",
        f"/admin/blocked/now/?key={key}&model={text}",
        f"/admin/blocked/now/?key={text}&model={text}",
        f"/admin/blocked/allow/?scope=user&owner={user}&model={text}x",
        f"/admin/blocked/reset/?counter={limit}&back={text}",
        f"/admin/blocked/top-up/?user={user}",
    ]
