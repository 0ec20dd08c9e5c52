"""What people of the demonstration gateway do beside calls: dialogs, agents, requests, codes; and what was refused."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ApiKey, Budget, Dialog, Limit, Message
from models_batches import Batch
from services import Gateway, agents, balances, topups
from services.audit import Actor
from services.promptrows import Owner
from services.types import Caller
from tests.admin.conftest import add_refusals
from tests.admin.portal import add_request
from utils import jsonx

ADMIN: Final = Actor("admin", 1, "192.0.2.17", "Firefox")
NANO: Final = 10**9
TALKS: Final = (  # who, title, model, and what was said in turns
    ("ana.lima", "Survey of retrieval benchmarks", "claude-sonnet-4-5", (
        "Which benchmarks measure retrieval over long documents?",
        "Three are used most:\n\n1. **LongBench** for question answering over long inputs\n2. **LoCoV1** for retrieval "
        "of whole documents\n3. **BEIR** for short passages, as a baseline",
        "Which of them has Portuguese?",
        "None of the three by itself. `mMARCO` has a Portuguese translation of MS MARCO.",
    )),
    ("ana.lima", "Abstract for the workshop", "gpt-5.1", (
        "Shorten this abstract to 120 words.",
        "We measure how well small models retrieve from long reports and find that …",
    )),
    ("elisa", "Answer to ticket 4182", "gpt-5-mini", (
        "A customer asks why the invoice shows two amounts.",
        "The first is the amount before tax, the second what is due. A polite answer could be: …",
    )),
    ("igor", "Migration plan", "claude-haiku-4-5", (
        "List the risks of moving the queue first.",
        "Lost messages, doubled messages, and consumers that expect the old order.",
    )),
)  # fmt: skip
REQUESTS: Final = (  # who, for how many USD a month, why, and what became of it
    ("ana.lima", 80, "The evaluation in December takes about twice the calls.", {}),
    ("elisa", 60, "Two new people answer tickets from Monday on.", {}),
    ("igor", 120, "Load test of the new queue", {
        "state": "approved", "decided_amount": 100 * NANO, "decided_by": "admin", "answer": "For this month.",
    }),
    ("ana.lima", 500, "Fine-tuning", {
        "state": "declined", "decided_by": "admin", "answer": "Please use the batch account for this.",
    }),
)  # fmt: skip


def do(app: Flask, users: dict[str, int], keys: dict[int, list[int]], team_of: dict[int, int]) -> tuple[str, str]:
    """Fill in what people did, after everything else is there; returns the ids of a dialog and of a prompt."""
    here: Gateway = app.extensions["gateway"]
    dialogs = _talk(here, users)
    for name, wanted, reason, more in REQUESTS:
        days = {"decided_at": datetime.now(UTC) - timedelta(days=2)} if more else {}
        add_request(app, users[name], reason, wanted_amount=wanted * NANO, **more, **days)
    topups.make(here.engine, ADMIN, unit="tokens", amount=500_000, count=3, days=60, note="Workshop in December")
    topups.make(here.engine, ADMIN, unit="usd", amount=10 * NANO, count=2, days=30, note="Trial for new teams")
    for name, tokens in (("ana.lima", 1_500_000), ("elisa", 400_000), ("kaua", 90_000)):
        balances.set_limit(here.engine, users[name], 2_000_000, ADMIN)
        balances.add(here.engine, users[name], tokens, ADMIN, "Start of the pilot")
    agents.create(here.engine, users["ana.lima"], {"name": "Reviewer", "system_prompt": "You review texts of science."})
    agents.create(here.engine, users["elisa"], {"name": "Support", "system_prompt": "You answer tickets politely."})
    _route(here, keys[users["elisa"]])
    prompt = _control(here, users["ana.lima"], keys[users["ana.lima"]][0])
    _refuse(app, users, keys, team_of)
    return dialogs[0], prompt


def _talk(here: Gateway, users: dict[str, int]) -> list[str]:
    now, made = datetime.now(UTC), []
    with Session(here.engine) as session, session.begin():
        for place, (name, title, model, said) in enumerate(TALKS):
            moment = now - timedelta(hours=3 + 19 * place)
            row = Dialog(user_id=users[name], title=title, model_name=model, message_count=len(said))
            row.created_at = row.updated_at = moment
            session.add(row)
            session.flush()
            for turn, text in enumerate(said):
                message = Message(dialog_id=row.id, user_id=users[name], content=text, completion_tokens=len(text) // 4)
                message.role = ("user", "assistant")[turn % 2]
                message.created_at = moment + timedelta(seconds=40 * turn)
                session.add(message)
            made.append(row.id)
    return made


def _route(here: Gateway, keys: list[int]) -> None:
    with Session(here.engine) as session:
        uuids = list(session.scalars(select(ApiKey.uuid).where(ApiKey.id.in_(keys))))
    steps = [
        {"provider": "openai", "model": "gpt-5-mini", "retries": 2, "timeout": "20s"},
        {"provider": "azure-eu", "model": "gpt-5-mini", "timeout": "40s"},
    ]
    here.call_routes.create(ADMIN, {"name": "Support chat", "path": "/support/chat", "keyIds": uuids, "steps": steps})


def _control(here: Gateway, user_id: int, key_id: int) -> str:
    """A policy, a stored prompt with two versions, whose id is returned, and batches of a user on their way."""
    rules = {"email": "allow_but_redact", "credit_debit_number": "block", "phone": "allow_but_warn"}
    words = [{"name": "project", "definition": "Bluebird", "action": "block"}]
    policy = {"name": "Customers' data", "everyone": True, "config": {"rules": rules}, "wordConfig": {"rules": words}}
    here.control.policies.create(ADMIN, {**policy, "appliesTo": ["requests", "answers"]})
    admin = Caller(1, "admin", "admin")
    said = [{"role": "system", "content": "You answer customers of {{shop}} in {{tone}} words."}]
    asked = [*said, {"role": "user", "content": "{{question}}"}]
    variables = [{"name": name, "type": "string"} for name in ("shop", "tone", "question")]
    rows, given = here.control.prompt_rows, {"model": "gpt-5-mini", "messages": asked, "variables": variables}
    first = {"name": "support-answer", "description": "Answers to tickets", "note": "First draft"}
    made = rows.create(admin, ADMIN, {**first, **given}, Owner())
    shorter = [{**said[0], "content": f"{said[0]['content']} At most 80 of them."}, asked[1]]
    rows.add_version(admin, ADMIN, made["id"], {**given, "messages": shorter, "note": "Shorter answers"})
    rows.put_label(admin, ADMIN, made["id"], "production", 1)
    rows.put_label(admin, ADMIN, made["id"], "staging", 2)
    now = datetime.now(UTC)
    batches = (("completed", 1200, 1193, 7, 9), ("in_progress", 5000, 1830, 4, 2), ("validating", 0, 0, 0, 0))
    with Session(here.engine) as session, session.begin():
        for place, (status, total, completed, failed, hours) in enumerate(batches):
            row = Batch(name=f"batch_demo{place}", user_id=user_id, key_id=key_id, address="192.0.2.21")
            row.endpoint, row.input_file_id, row.model = "/v1/chat/completions", f"file-demo{place}", "gpt-5-mini"
            row.status, row.total, row.completed, row.failed = status, total, completed, failed
            row.created_at = now - timedelta(hours=hours)
            row.expires_at = row.created_at + timedelta(days=1)
            session.add(row)
    return str(made["id"])


def _refuse(app: Flask, users: dict[str, int], keys: dict[int, list[int]], team_of: dict[int, int]) -> None:
    """Calls that were refused, each by a rule that is there; the newest by a budget."""
    engine = app.extensions["gateway"].engine
    with Session(engine) as session:
        of_people = select(Budget).where(Budget.scope == "user", Budget.unit == "usd")
        full = session.scalars(of_people.order_by(Budget.id).offset(3)).first()  # as demo.py has spent it
        limit = session.scalars(select(Limit).where(Limit.scope == "team")).first()
    assert full is not None
    assert limit is not None
    start = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    amounts = {"limit": full.limit_amount, "spent": full.limit_amount, "held": 0, "needed": 41_250_000}
    resets = (start + timedelta(days=32)).replace(day=1).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = {"scope": "user", "unit": "usd", "period": "month", **amounts, "resets_at": resets}
    counted = {"scope": "team", "unit": "requests", "limit": 600, "used": 600, "window_seconds": 60, "retry_after": 14}
    ana = users["ana.lima"]
    who = {"user_id": ana, "key_id": keys[ana][0], "team_id": team_of[ana]}
    its: list[tuple[int, dict[str, Any]]] = [
        (900, {"kind": "model", "rule": None, "status": 400, "code": "model_not_found", "model": "gpt-6",
               "message": "Model 'gpt-6' is not available.", "details": None}),
        (310, {"kind": "limit", "rule": f"limit {limit.id}/requests", "details": jsonx.dumps(counted).decode(),
               "model": "gpt-5-mini", "times": 37}),
        (45, {"kind": "expired", "rule": None, "status": 401, "code": "key_expired", "model": "gpt-5-mini",
              "message": "The API key has expired.", "details": None}),
        (4, {"kind": "budget", "rule": f"budget {full.id}", "status": 429, "code": "insufficient_quota",
             "message": "The budget is spent.", "details": jsonx.dumps(told).decode(), "model": "claude-sonnet-4-5",
             "user_id": full.scope_id, "key_id": keys[full.scope_id][0], "team_id": team_of.get(full.scope_id)}),
    ]  # fmt: skip
    for minutes, columns in its:
        add_refusals(app, 1, **who | columns, created_at=datetime.now(UTC) - timedelta(minutes=minutes))
