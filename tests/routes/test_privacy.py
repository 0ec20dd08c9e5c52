"""Everything about oneself as a file, and an account that is erased: nothing of it is left, and the books agree."""

import json
import threading

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models import AuditEntry, Identity, Invitation, LedgerEntry, SecondFactor, Setting, StoredBody, SystemConfig, User
from services import alerts, chain, takeout
from services.audit import Actor
from services.errors import Conflict
from tests.callers import add_user, bearer, find, issue
from tests.helpers import assert_books_agree, chat, last, rows, with_upstream
from tests.people import ask, token
from utils import clock

MARKER = "Xylomarker"
BOTH = {"should_log_request": True, "should_log_response": True}
EXPORT = "/api/v1/users/me/export"
GONE = (
    *("dialogs", "messages", "agents", "stored_responses", "stored_bodies", "refusals", "alerts"),
    *("api_keys", "web_sessions", "identities"),
)


def here(app):
    return app.extensions["gateway"]


@pytest.fixture
def person(app, upstream):
    """Somebody who has used everything, with a marker wherever a person can leave one: name, number and a key."""
    with_upstream(app, upstream)
    gateway = here(app)
    name = f"{MARKER}-maria"
    number = gateway.accounts.create(name, "senha-da-maria", display_name=f"Maria {MARKER}", tags=[MARKER])
    key = issue(app, number, name=MARKER, **BOTH)
    live(app, bearer(key.secret))
    with Session(gateway.engine) as session, session.begin():
        session.add(Identity(issuer="https://sso.test", subject=MARKER, user_id=number))
        session.add(SecondFactor(user_id=number, sealed=b"x", recovery=[MARKER]))
        session.add(SystemConfig(key="a", value="b", updated_by=name))
        session.add(Invitation(digest="d", hint="inv-…", created_by=name, expires_at=clock.now()))
    alerts.tell(gateway.engine, alerts.Noticed("balance.low", MARKER, "0/1", {"owner": f"user {name}"}, number))
    gateway.accounts.begin_session(number, "10.1.2.3", MARKER)
    gateway.bodies.flush()
    gateway.refusals.flush()
    return name, number, key


def live(app, headers):
    """Calls, dialogs, agents and answers with the marker in all that can be said."""
    named = headers | {"X-CUSTOM-EVENT-ID": MARKER, "X-METADATA": MARKER}
    assert ask(app, "POST", "/v1/chat/completions", named, json=chat(MARKER, user=MARKER)).status_code == 200
    assert ask(app, "POST", "/v1/chat/completions", named, json=chat('{{"status": 500}} ' + MARKER)).status_code == 502
    assert ask(app, "POST", "/v1/responses", headers, json={"model": "fast", "input": MARKER}).status_code == 200
    assert ask(app, "POST", "/v1/chat/completions", headers, json=chat("hi", model=MARKER)).status_code == 400
    made = ask(
        app, "POST", "/api/v1/dialogs", headers, json={"model_name": "fast", "title": MARKER, "system_prompt": MARKER}
    ).json
    assert ask(app, "POST", f"/api/v1/dialogs/{made['id']}/messages/sync", headers, json={"content": MARKER}).json
    agent = {"name": MARKER, "system_prompt": MARKER, "description": MARKER}
    assert ask(app, "POST", "/api/v1/agents", headers, json=agent).status_code == 201


def erase(app, number, name, headers=None):
    body = {"username": name} if name is not None else {}
    return ask(app, "POST", f"/api/v1/admin/users/{number}/erase", headers or token(app), json=body)


def dumped(app, *apart):
    """All rows of all tables as text, what is sealed opened, but for those of `apart`."""
    gateway, found = here(app), []
    with gateway.engine.connect() as connection:
        names = [name for name in app.extensions["sqlalchemy"].metadata.tables if name not in apart]
        for name in names:
            for row in connection.execute(text(f'SELECT * FROM "{name}"')).mappings():
                for column, value in row.items():
                    is_sealed = isinstance(value, bytes) and name.startswith("stored_")
                    found.append(f"{name}.{column}={gateway.sealer.open(value) if is_sealed else value}")
    return found


def marked(app, *apart):
    return sorted({entry.partition("=")[0] for entry in dumped(app, *apart) if MARKER in entry})


def lines(answer):
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.data.splitlines()]


def test_an_export_has_everything_and_no_secret(app, person):
    name, number, key = person
    headers = token(app, name, "senha-da-maria")
    answer = ask(app, "GET", EXPORT, headers)
    assert answer.headers["content-type"] == "application/x-ndjson"
    found = lines(answer)
    assert found[0]["row"]["user_id"] == number
    sections = [one["section"] for one in found[1:-1]]
    counts = {section.name: sections.count(section.name) for section in takeout.SECTIONS}
    assert found[-1] == {"section": "end", "row": counts}
    assert counts["usage"] == len(rows(here(app).engine)) == 4
    assert {section for section, count in counts.items() if not count} == {
        "requests",
        "team",
        "top_up_codes",
        *("batches", "files", "prompts", "prompt_versions"),
        "limits",
        "budgets",
        "ledger_of_budgets",
    }
    said = answer.text
    assert said.count(MARKER) > 15
    with Session(here(app).engine) as session:
        row = session.get(User, number)
        keyed = find(app, type(row.keys[0]), key.id)
        secrets = [row.password_hash, keyed.digest, key.secret, headers["Authorization"].partition(" ")[2]]
    assert not any(secret in said for secret in secrets)
    by = {section: [one["row"] for one in found if one["section"] == section] for section in counts}
    assert by["texts"][0]["request"]["body"]["messages"][0]["content"] == MARKER
    assert by["answers"][0]["content"]["input"]
    assert "password_hash" not in by["profile"][0]
    assert [one["role"] for one in by["messages"]] == ["user", "assistant"]


def test_an_export_is_ones_own_and_for_who_signed_in(app, person):
    name, _number, key = person
    assert ask(app, "GET", EXPORT).status_code == 401
    assert ask(app, "GET", EXPORT, bearer(key.secret)).status_code == 403
    other = ask(app, "GET", EXPORT, token(app))
    assert name not in "".join(json.dumps(one) for one in lines(other) if one["section"] != "audit")
    with Session(here(app).engine) as session:
        assert session.scalars(select(AuditEntry.actor).where(AuditEntry.action == "user_export")).all() == ["admin"]


def test_entries_of_others_about_oneself_come_without_their_addresses(app, person):
    name, number, _key = person
    ask(
        app,
        "PATCH",
        f"/users/{name}",
        token(app),
        json={"allowed_models": ["fast"]},
        environ_base={"REMOTE_ADDR": "10.9.8.7"},
    )
    found = lines(ask(app, "GET", EXPORT, token(app, name, "senha-da-maria")))
    audit = [one["row"] for one in found if one["section"] == "audit"]
    changed = next(row for row in audit if row["action"] == "user_update")
    assert (changed["actor"], changed["resource_id"]) == ("admin", str(number))
    assert "10.9.8.7" not in json.dumps(found)


def test_a_long_export_goes_page_by_page(app, person, monkeypatch):
    monkeypatch.setattr(
        takeout, "SECTIONS", tuple(takeout.Section(one.name, one.order, one.is_theirs, 1) for one in takeout.SECTIONS)
    )
    found = lines(ask(app, "GET", EXPORT, token(app, person[0], "senha-da-maria")))
    calls = [one["row"]["request_id"] for one in found if one["section"] == "usage"]
    assert calls == [row.request_id for row in rows(here(app).engine)]


def test_an_erased_account_leaves_no_text_and_the_books_agree(app, person):
    name, number, key = person
    engine = here(app).engine
    before = [(row.request_id, row.cost_nanousd, row.input_tokens, row.output_tokens) for row in rows(engine)]
    ticket = token(app, name, "senha-da-maria")
    assert len(marked(app)) > 20
    answer = erase(app, number, name)
    assert answer.status_code == 200, answer.text
    assert (answer.json["user_id"], answer.json["username"]) == (number, f"erased-{number}")
    assert answer.json["removed"] == {
        "dialogs": 1,
        "messages": 2,
        "agents": 1,
        "items": 1,
        "answers": 1,
        "texts": 4,
        "refusals": 1,
        "alerts": 1,
        "usage_notes": 2,
        **dict.fromkeys(
            ("batches", "chunks", "files", "kept", "lines"), 0
        ),  # tests/batches and test_repeats.py have some
    }
    assert marked(app) == ["audit_log.actor", "audit_log.resource_id"]  # nobody can change it: docs/privacy.md
    assert [(row.request_id, row.cost_nanousd, row.input_tokens, row.output_tokens) for row in rows(engine)] == before
    with engine.connect() as connection:
        query = "SELECT COUNT(*) FROM {} WHERE user_id = :user"
        counts = {table: connection.execute(text(query.format(table)), {"user": number}).scalar() for table in GONE}
    assert counts == dict.fromkeys(GONE, 0)
    row = find(app, User, number)
    assert (row.is_active, row.password_hash, row.display_name, row.tags) == (False, None, None, None)
    assert row.spent_nanousd == sum(one.cost_nanousd for one in rows(engine)) > 0
    assert_books_agree(engine)
    assert chain.verify(engine).broken is None
    for headers in (ticket, bearer(key.secret)):
        assert ask(app, "GET", "/users/me", headers).status_code == 401
    assert ask(app, "POST", "/login", json={"username": name, "password": "senha-da-maria"}).status_code == 401


def test_nobody_takes_the_name_of_an_erased_account(app, person):
    _name, number, _key = person
    erase(app, number, person[0])
    body = {"username": f"Erased-{number + 1}", "password": "a good password"}
    assert ask(app, "POST", "/register", json=body).status_code == 400
    for path, body in ((f"/users/erased-{number}", {"is_active": True}), (f"/api/users/{number}", {"revoked": False})):
        assert ask(app, "PATCH", path, token(app), json=body).status_code == 409
    assert not find(app, User, number).is_active
    again = erase(app, number, f"erased-{number}")
    assert (again.status_code, again.json["username"]) == (200, f"erased-{number}")


def test_erasing_wants_the_name_repeated_and_spares_those_who_are_needed(app, person):
    name, number, _key = person
    for wrong in (None, "", "admin", name.upper(), 5):
        refused = erase(app, number, wrong)
        assert (refused.status_code, "repeat its name" in refused.text) == (400, True)
    boss = find(app, User, 1)
    service = issue_owner(app, "api-tokens")
    for who, called in ((boss.id, boss.username), (service, "api-tokens")):
        assert erase(app, who, called).status_code == 409
    assert erase(app, 999_999, "x").status_code == 404
    assert find(app, User, number).username == name
    assert find(app, User, boss.id).is_active


def issue_owner(app, name):
    with Session(here(app).engine) as session:
        return session.scalars(select(User.id).where(User.username == name)).one()


def test_the_last_admin_stays(app):
    with pytest.raises(Conflict, match="last admin"):
        here(app).erasure.erase(Actor("operator"), issue_owner(app, "admin"), "admin")
    assert ask(app, "GET", "/users/all", token(app)).status_code == 200


def test_who_may_erase(app, person):
    name, number, key = person
    for role in ("auditor", "team_admin", "user"):
        here(app).accounts.create(role, "a good password", role=role)
        assert erase(app, number, name, token(app, role, "a good password")).status_code == 403
    assert erase(app, number, name, bearer(key.secret)).status_code in (401, 403)
    assert find(app, User, number).username == name


def test_calls_under_way_are_booked_and_leave_nothing(app, person, upstream):
    name, number, key = person
    engine, before = here(app).engine, len(rows(here(app).engine))
    upstream.will(words=40, every_s=0.03)
    named = bearer(key.secret) | {"X-METADATA": MARKER, "X-CUSTOM-EVENT-ID": MARKER}

    def call(path, body):
        return app.test_client().post(path, json=body, headers=named, buffered=True)

    waiting = [threading.Thread(target=call, args=("/v1/chat/completions", chat(MARKER, stream=True)))]
    waiting[0].start()
    upstream.wait_for(before + 1)
    upstream.will(words=3, first_s=0.6)
    waiting.append(threading.Thread(target=call, args=("/v1/responses", {"model": "fast", "input": MARKER})))
    waiting[1].start()
    upstream.wait_for(before + 2)
    assert erase(app, number, name).status_code == 200
    for thread in waiting:
        thread.join()
    here(app).bodies.flush()
    assert len(rows(engine)) == before + 2
    assert_books_agree(engine)
    here(app).erasure.finish()
    assert marked(app) == ["audit_log.actor"]
    assert_books_agree(engine)
    row = find(app, User, number)
    assert row.spent_nanousd == sum(one.cost_nanousd for one in rows(engine))
    assert last(engine).user_id == number


def test_one_looks_again_for_a_day(app, person, monkeypatch):
    name, number, _key = person
    erase(app, number, name)
    here(app).erasure.finish()
    assert find(app, Setting, f"erased.{number}") is not None
    now = clock.now_ms()
    monkeypatch.setattr(clock, "now_ms", lambda: now + 25 * 3_600_000)
    here(app).erasure.finish()
    assert find(app, Setting, f"erased.{number}") is None


def test_nothing_of_others_is_touched(app, person):
    name, number, _key = person
    other = issue(app, add_user(app, "eva"), name="prod", **BOTH)
    ask(app, "POST", "/v1/chat/completions", bearer(other.secret) | {"X-METADATA": "theirs"}, json=chat("theirs"))
    ask(app, "POST", "/v1/responses", bearer(other.secret), json={"model": "fast", "input": "theirs"})
    here(app).bodies.flush()
    kept = dumped(app, "audit_log", "audit_head", "catalog_version", "settings")
    theirs = [entry for entry in kept if "theirs" in entry]
    erase(app, number, name)
    assert [entry for entry in dumped(app) if "theirs" in entry] == theirs
    with Session(here(app).engine) as session:
        assert session.query(StoredBody).count() == 2
        assert session.query(LedgerEntry).count() > 0


def test_after_it_is_written_anew_the_file_has_no_trace(lite, tmp_path, upstream):
    with_upstream(lite, upstream)
    number = here(lite).accounts.create("maria", None)
    live(lite, bearer(issue(lite, number).secret))
    here(lite).bodies.flush()
    assert MARKER.encode() in b"".join(path.read_bytes() for path in tmp_path.glob("tollhouse.db*"))
    erase(lite, number, "maria")
    assert here(lite).erasure.rewrite()
    left = {path.name: path.read_bytes() for path in tmp_path.glob("tollhouse.db*")}
    assert [name for name, data in left.items() if MARKER.lower().encode() in data.lower()] == []
    assert_books_agree(here(lite).engine)
