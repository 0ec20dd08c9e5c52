"""Things of the portal for tests: rows of a person with texts that come from a test, and the pages that show them."""

from datetime import UTC, datetime, timedelta

from flask import Flask
from sqlalchemy.orm import Session

from models import Dialog, Message, RaiseRequest, TopUpCode, UsageRecord
from models_batches import Batch
from tests.admin.conftest import add_budget, add_calls, add_key, add_limit, add_refusals, add_team, add_user, rows_of
from utils import ids

TEAM_PAGES = ("", "keys/", "budgets/", "requests/")
SUBPAGES = ("keys", "dialogs", "batches", "requests", "top-up", "profile")


def add_request(app: Flask, user_id: int, text: str = "a project", **columns: object) -> int:
    """An open request for a higher monthly budget of the person."""
    values = {"kind": "budget", "scope": "user", "scope_id": user_id, "unit": "usd", "period": "month"}
    amounts = {"seen_amount": 20_000_000_000, "wanted_amount": 50_000_000_000}
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        row = RaiseRequest(user_id=user_id, reason=text[:500], **values | amounts | columns)
        session.add(row)
        session.flush()
        return row.id


def add_dialog(app: Flask, user_id: int, text: str = "a talk", answers: int = 1) -> str:
    """A dialog of the person with a question and answers."""
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        row = Dialog(user_id=user_id, title=text[:255], system_prompt=text, model_name="echo")
        row.message_count = 1 + answers
        session.add(row)
        session.flush()
        for role in ("user", *["assistant"] * answers):
            session.add(Message(dialog_id=row.id, user_id=user_id, role=role, content=text, completion_tokens=3))
        return row.id


def add_code(app: Flask, text: str, user_id: int | None = None, digest: str = "") -> str:
    """A top-up code, redeemed by the person if one is named; returns its id."""
    ends = datetime.now(UTC) + timedelta(days=3)
    used = {"used_by": user_id, "used_at": datetime.now(UTC)} if user_id else {}
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        number = digest or f"{len(session.query(TopUpCode).all()):064d}"
        row = TopUpCode(digest=number, hint=text[:20], unit="usd", amount=5, note=text[:200], expires_at=ends)
        row.created_by = text[:150]
        for name, value in used.items():
            setattr(row, name, value)
        session.add(row)
    return number


def add_batch(app: Flask, user_id: int, text: str = "batch", **columns: object) -> int:
    """A batch of the person that is under way, with texts wherever its page shows one."""
    errors = [{"code": text, "line": 1, "message": text, "param": text}]
    ends = datetime.now(UTC) + timedelta(days=1)
    values = {
        "endpoint": text[:40],
        "input_file_id": text[:40],
        "output_file_id": text[:40],
        "error_file_id": text[:40],
    }
    values |= {
        "model": text[:200],
        "address": text[:45],
        "status": "in_progress",
        "total": 10,
        "completed": 3,
        "failed": 1,
    }
    values |= {"errors": errors, "client_metadata": {text: text}, "stop": {"error": {"code": text, "message": text}}}
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        name = f"{text[:20]}{ids.random_base62(12)}"
        row = Batch(user_id=user_id, name=name, expires_at=ends, **{**values, **columns})
        session.add(row)
        session.flush()
        return row.id


def furnish_portal(app: Flask, user_id: int, text: str) -> list[str]:
    """Plant a text in everything that the portal shows to the person; returns the pages."""
    key = add_key(app, user_id, text[:255])
    said = {"model": text[:200], "provider": text[:100], "error": text[:300], "custom_id": text[:255]}
    add_calls(app, 2, user_id=user_id, key_id=key, **said)
    add_refusals(app, 1, user_id=user_id, key_id=key, model=text[:200], message=text[:300])
    call = rows_of(app, UsageRecord)[-1].id
    if not any(row.scope == "user" and row.scope_id == user_id for row in rows_of(app, RaiseRequest)):
        add_budget(app, "user", user_id)
        add_limit(app, "user", user_id)
    batch = add_batch(app, user_id, text)
    request = add_request(app, user_id, text)
    add_request(app, user_id, text, state="declined", decided_by=text[:150], answer=text[:500])
    dialog, code = add_dialog(app, user_id, text), add_code(app, text)
    add_code(app, text, user_id)
    return [
        "/portal/",
        *(f"/portal/{page}/" for page in SUBPAGES),
        "/portal/calls/",
        "/portal/refused/",
        f"/portal/calls/details/?id={call}",
        "/portal/keys/new/",
        *(f"/portal/keys/{page}/?id={key}" for page in ("details", "rotate", "revoke", "delete")),
        *(f"/portal/dialogs/{page}/?id={dialog}" for page in ("details", "delete")),
        *(f"/{where}/batches/{page}/?id={batch}" for where in ("portal", "admin") for page in ("details", "cancel")),
        "/admin/batches/",
        "/portal/requests/new/",
        "/portal/profile/delete/",
        *("/admin/raises/", "/admin/topups/", "/admin/topups/new/"),
        *(f"/admin/raises/{page}/?id={request}" for page in ("details", "decide")),
        f"/admin/topups/delete/?id={code}",
    ]


def furnish_team(app: Flask, leader_id: int, text: str) -> list[str]:
    """A team that the person leads, with a member who asks for more; returns the pages."""
    member = add_user(app, f"member of {text}"[:150])
    team = add_team(app, f"team of {text}"[:100], (leader_id, member))
    key = add_key(app, member, text[:255])
    for scope, owner in (("team", team), ("user", member)):
        add_budget(app, scope, owner)
        add_limit(app, scope, owner)
    add_calls(app, 2, user_id=member, key_id=key, team_id=team)
    add_request(app, member, text)
    return [
        *(f"/portal/team/{page}" for page in TEAM_PAGES),
        f"/portal/team/member/?id={member}",
        f"/portal/team/keys/revoke/?id={key}",
    ]
