"""The page about refused calls: every rule in words, what mends it, who may; and what would happen now."""

import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, Budget, Limit, LimitLease, LimitWindow, Model, Refusal, UsageRecord, User
from routes.admin.verdicts import KIND_NAMES, WORDS
from services import refusals
from tests.admin.conftest import (
    Browser,
    add_budget,
    add_calls,
    add_key,
    add_limit,
    add_model,
    add_provider,
    add_refusals,
    add_team,
    add_user,
    row_of,
    rows_of,
    statements,
)
from utils import clock

BUDGET = {"scope": "user", "unit": "usd", "period": "month", "is_prepaid": False, "spent": 5_000_000_000, "held": 0}
BUDGET |= {"limit": 5_000_000_000, "needed": 1_000_000, "resets_at": "2026-12-01T00:00:00Z"}
LIMIT = {"scope": "key", "unit": "requests", "limit": 5, "used": 5, "window_seconds": 60, "retry_after": 12}


def refused(app: Flask, kind: str, rule: str | None = None, **columns: Any) -> int:
    """A refusal of a key of ana; returns its number."""
    details = columns.pop("details", None)
    told = {"kind": kind, "rule": rule, "details": json.dumps(details) if details else None}
    add_refusals(app, 1, **told | columns)
    return int(rows_of(app, Refusal)[-1].id)


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    main = answer.text[answer.text.index("<main") :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", main))


def page(browser: Browser, number: int) -> str:
    return text_of(browser.get(f"/admin/blocked/details/?id={number}"))


def ana(app: Flask, **columns: Any) -> dict[str, int]:
    user = add_user(app, "ana", **columns)
    return {"user_id": user, "key_id": add_key(app, user, "prod"), "team_id": add_team(app, "crew", (user,))}


def audited(app: Flask) -> list[tuple[str, str | None, Any]]:
    return [(row.action, row.resource_id, row.details) for row in rows_of(app, AuditEntry)]


def test_every_kind_has_its_name_and_its_words() -> None:
    assert set(KIND_NAMES) == set(refusals.NAMES)
    assert set(WORDS) == set(refusals.NAMES) - {"other"}


def test_a_spent_budget(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    who = ana(app)
    budget = add_budget(app, "user", who["user_id"], 5_000_000_000)
    number = refused(app, "budget", f"budget {budget}", details=BUDGET, status=429, **who)
    shown = page(panel_anywhere_admin, number)
    for words in ("The budget is spent", "Limit $5.00", "Needed by this call $0.001"):
        assert words in shown, words
    html = panel_anywhere_admin.get(f"/admin/blocked/details/?id={number}").text
    assert 'title="2026-12-01 00:00:00 UTC"' in html
    (path,) = re.findall(r'href="(/admin/budgets/edit/[^"]+)"', html)
    assert f"?id={budget}&amp;back=" in path
    raised = panel_anywhere_admin.post(
        path.replace("&amp;", "&"), {"limit": "9", "timezone": "UTC", "warn_percent": "80"}
    )
    assert (raised.status_code, raised.location) == (303, f"/admin/blocked/details/?id={number}")
    assert row_of(app, Budget, budget).limit_amount == 9_000_000_000
    assert audited(app)[-1][0] == "limit_set"


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"needed": 6_000_000_000}, "more than the whole budget"),
        ({"spent": 0, "held": 5_000_000_000}, "Calls under way hold the rest"),
        ({"is_prepaid": True, "unit": "tokens"}, "The token balance is used up"),
    ],
)
def test_the_other_ways_in_which_a_budget_refuses(panel_admin: Browser, numbers: dict[str, Any], words: str) -> None:
    shown = page(panel_admin, refused(panel_admin.app, "budget", "budget 999", details=BUDGET | numbers))
    assert words in shown
    assert "deleted since" in shown


def test_a_balance_is_topped_up_in_one_step(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    who = ana(app)
    budget = add_budget(app, "user", who["user_id"], 100, unit="tokens", period="total", is_prepaid=True)
    number = refused(app, "budget", f"budget {budget}", details=BUDGET | {"is_prepaid": True, "unit": "tokens"}, **who)
    html = panel_anywhere_admin.get(f"/admin/blocked/details/?id={number}").text
    path = re.findall(r'href="(/admin/blocked/top-up/[^"]+)"', html)[0].replace("&amp;", "&")
    for bad in ("", "0", "-5", "1.5", "ten", "9" * 13):
        assert panel_anywhere_admin.post(path, {"tokens": bad}).status_code == 422, bad
    assert row_of(app, Budget, budget).limit_amount == 100
    good = panel_anywhere_admin.post(path, {"tokens": "5,000", "reason": "a gift"})
    assert (good.status_code, good.location) == (303, f"/admin/blocked/details/?id={number}")
    assert row_of(app, Budget, budget).limit_amount == 5_100
    assert audited(app)[-1] == ("token_topup", str(who["user_id"]), {"tokens": 5000, "reason": "a gift"})


def test_a_full_limit_and_its_counter(panel_anywhere_admin: Browser) -> None:
    app, engine = panel_anywhere_admin.app, panel_anywhere_admin.gateway.engine
    who = ana(app)
    limit = add_limit(app, "key", who["key_id"], 5)
    start = int(clock.now_s()) // 60 * 60
    ends = clock.now()
    with Session(engine) as session, session.begin():
        subject = {"subject": str(limit), "period_start": start, "period_end": start + 60}
        session.add(LimitWindow(**subject, used_amount=5, previous_amount=4))
        session.add(LimitLease(owner="w", amount=2, expires_at=ends, **subject))
    number = refused(app, "limit", f"limit {limit}", details=LIMIT, **who)
    shown = page(panel_anywhere_admin, number)
    for words in ("Too many requests", "Limit 5", "Used 5", "Window, in seconds 60", "12 s", "Raise the limit"):
        assert words in shown, words
    path = f"/admin/blocked/reset/?counter={limit}&back=/admin/blocked/details/?id={number}"
    assert "Begin this counter anew?" in panel_anywhere_admin.get(path).text
    answer = panel_anywhere_admin.post(path)
    assert (answer.status_code, answer.location) == (303, f"/admin/blocked/details/?id={number}")
    with Session(engine) as session:
        row = session.get_one(LimitWindow, str(limit))
        assert (row.used_amount, row.previous_amount) == (2, 0), "what a worker holds of it stays counted"
    assert audited(app)[-1] == ("rate_limit_reset", str(limit), {"before": 9})


@pytest.mark.parametrize(("unit", "period"), [("tokens", "day"), ("concurrent", "none")])
def test_counters_to_which_calls_give_back_are_not_reset(panel_admin: Browser, unit: str, period: str) -> None:
    app = panel_admin.app
    limit = add_limit(app, "user", 1, unit=unit, period=period)
    number = refused(app, "limit", f"limit {limit}", details=LIMIT | {"unit": unit})
    assert "Reset the counter" not in page(panel_admin, number)
    assert panel_admin.post(f"/admin/blocked/reset/?counter={limit}").status_code == 403


@pytest.mark.parametrize("counter", ["", "999", "x", "1" * 40, "%00", "other/1", "-1", "٣"])
def test_a_counter_that_is_none_is_not_found(panel_admin: Browser, counter: str) -> None:
    assert panel_admin.post(f"/admin/blocked/reset/?counter={quote(counter)}").status_code == 404


def test_a_limit_of_the_settings_says_which(panel_admin: Browser) -> None:
    shown = page(panel_admin, refused(panel_admin.app, "limit", "limit window/7", details=LIMIT | {"scope": "user"}))
    assert "RATE_LIMIT_REQUESTS" in shown
    assert "Raise the limit" not in shown


def test_a_model_is_put_on_each_list_that_lacks_it(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    who = ana(app, allowed_models=["echo"])
    with Session(panel_anywhere_admin.gateway.engine) as session, session.begin():
        session.get_one(ApiKey, who["key_id"]).allowed_models = []
    number = refused(app, "models", None, status=403, model="fast", **who)
    html = panel_anywhere_admin.get(f"/admin/blocked/details/?id={number}").text
    paths = [one.replace("&amp;", "&") for one in re.findall(r'href="(/admin/blocked/allow/[^"]+)"', html)]
    assert len(paths) == 2, "the team has no list"
    for path in paths:
        assert "fast" in panel_anywhere_admin.get(path).text
        assert panel_anywhere_admin.post(path).status_code == 303
        assert panel_anywhere_admin.post(path).status_code == 403, "it is there already"
    assert row_of(app, User, who["user_id"]).allowed_models == ["echo", "fast"]
    assert row_of(app, ApiKey, who["key_id"]).allowed_models == ["fast"]
    found = {action: details for action, _number, details in audited(app)}
    assert found["user_update"] == {
        "before": {"allowed_models": ["echo"]},
        "after": {"allowed_models": ["echo", "fast"]},
    }
    assert found["key_update"]["after"] == {"allowed_models": ["fast"]}
    assert "By now it is on all of them" in page(panel_anywhere_admin, number)


def test_a_revoked_key_leads_to_lifting_it(panel_admin: Browser) -> None:
    app = panel_admin.app
    who = ana(app)
    number = refused(app, "revoked", f"key {who['key_id']}", status=401, **who)
    assert "By now the key works again" in page(panel_admin, number)
    with Session(panel_admin.gateway.engine) as session, session.begin():
        panel_admin.gateway.keys.revoke(session, who["key_id"], "lost")
    assert f"/admin/keys/lift/?id={who['key_id']}" in panel_admin.get(f"/admin/blocked/details/?id={number}").text
    gone = refused(app, "revoked", "key 987", status=401, key_id=987, user_id=who["user_id"])
    assert "The key was deleted since" in page(panel_admin, gone)


@pytest.mark.parametrize(
    ("kind", "words", "link"),
    [
        ("addresses", "may not be used from that address", "/admin/keys/edit/"),
        ("paths", "The path is on no list", "/admin/users/edit/"),
        ("expired", "has expired", "/admin/keys/edit/"),
        ("disabled", "The user of the key is disabled", "/admin/users/edit/"),
        ("books", "The books could not be written", None),
        ("content", "The model cannot do this", None),
        ("more", "More calls were refused", None),
        ("other", "The gateway refused the call", None),
        ("from-tomorrow", "The gateway refused the call", None),
    ],
)
def test_the_other_kinds_in_words(panel_admin: Browser, kind: str, words: str, link: str | None) -> None:
    number = refused(panel_admin.app, kind, **ana(panel_admin.app))
    assert words in page(panel_admin, number)
    html = panel_admin.get(f"/admin/blocked/details/?id={number}").text
    assert link is None or link in html
    assert ("verdict-fixes" in html) == (link is not None)


def test_a_model_that_was_not_there(panel_admin: Browser) -> None:
    app = panel_admin.app
    number = refused(app, "model", None, model="fast")
    assert "No model has this name now" in page(panel_admin, number)
    provider = add_provider(app, is_enabled=False)
    model = add_model(app, [provider], "fast", is_enabled=False)
    assert "switched off" in page(panel_admin, number)
    with Session(panel_admin.gateway.engine) as session, session.begin():
        session.get_one(Model, model).is_enabled = True
    assert "none of its providers is switched on" in page(panel_admin, number)
    price = refused(app, "price", None, model="fast")
    assert f"/admin/models/edit/?id={model}" in panel_admin.get(f"/admin/blocked/details/?id={price}").text


def test_pasting_an_id(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    (known,) = add_refusals(app, 1, kind="limit", rule="limit 7", details=json.dumps(LIMIT))
    (settled,) = add_calls(app, 1)
    assert "Too many requests" in text_of(panel_anywhere_admin.get(f"/admin/blocked/why/?request=%20{known}%20"))
    shown = text_of(panel_anywhere_admin.get(f"/admin/blocked/why/?request={settled}"))
    assert "This call was admitted" in shown
    shown = text_of(panel_anywhere_admin.get("/admin/blocked/why/?request=req_nobody"))
    assert "Nothing is known of this request" in shown
    assert "malformed" in shown
    assert "Nothing is known" not in text_of(panel_anywhere_admin.get("/admin/blocked/why/"))


@pytest.mark.parametrize(
    "text", ["\x00", "%", "' OR 1=1", "<script>alert(1)</script>", "x" * 5000, "\u202eevil", "ü" * 60]
)
def test_hostile_ids_are_answered_plainly(panel_anywhere_admin: Browser, text: str) -> None:
    answer = panel_anywhere_admin.get(f"/admin/blocked/why/?request={quote(text)}")
    assert answer.status_code == 200
    assert "Nothing is known of this request" in answer.text
    assert "<script>alert" not in answer.text


def test_what_would_happen_now(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    who = ana(app)
    path = f"/admin/blocked/now/?key={who['key_id']}&model=echo"
    assert "A short call would be admitted now" in text_of(panel_anywhere_admin.get(path))
    add_limit(app, "key", who["key_id"], 0)
    add_budget(app, "key", who["key_id"], 100_000, unit="tokens")
    shown = text_of(panel_anywhere_admin.get(path))
    assert "Too many requests" in shown
    assert "Everything that applies" in shown
    assert "No model has this name now" in text_of(panel_anywhere_admin.get(path.replace("=echo", "=nonesuch")))
    assert rows_of(app, UsageRecord) == []
    assert rows_of(app, Refusal) == [], "asking is no call"
    with Session(panel_anywhere_admin.gateway.engine) as session, session.begin():
        panel_anywhere_admin.gateway.keys.revoke(session, who["key_id"], "lost")
    assert "The key was revoked" in text_of(panel_anywhere_admin.get(path))
    for nobody in ("99999", "sk-th-none", "<b>"):
        assert "There is no such key" in text_of(
            panel_anywhere_admin.get(f"/admin/blocked/now/?key={nobody}&model=echo")
        )


def test_a_key_is_named_and_where_several_have_the_name_they_are_listed(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    who = ana(app)
    path = "/admin/blocked/now/?key=prod&model=echo"
    assert "Of the key prod to the model echo." in text_of(panel_anywhere_admin.get(path))
    other = add_key(app, add_user(app, "<b>bob"), "prod")
    answer = panel_anywhere_admin.get(path)
    shown = text_of(answer)
    assert "Several keys have this name" in shown
    assert "A short call" not in shown
    assert "<b>bob" not in answer.text
    links = re.findall(r'href="(/admin/blocked/now/\?key=(\d+)&amp;model=echo)"', answer.text)
    assert [int(number) for _path, number in links] == [who["key_id"], other]
    chosen = panel_anywhere_admin.get(links[1][0].replace("&amp;", "&"))
    assert "A short call would be admitted now" in text_of(chosen)
    assert "There is no such key" in text_of(panel_anywhere_admin.get("/admin/blocked/now/?key=pro&model=echo"))


def test_auditors_see_the_reason_and_no_button(panel_admin: Browser) -> None:
    app = panel_admin.app
    who = ana(app)
    limit = add_limit(app, "key", who["key_id"], 5)
    number = refused(app, "limit", f"limit {limit}", details=LIMIT, **who)
    add_user(app, "audrey", role="auditor")
    browser = Browser(app, "audrey")
    shown = page(browser, number)
    assert "Too many requests" in shown
    assert "Raise the limit" not in shown
    assert "An admin can mend it" in shown
    for path in (f"reset/?counter={limit}", f"allow/?scope=user&owner={who['user_id']}&model=x", "top-up/?user=1"):
        assert browser.get(f"/admin/blocked/{path}").status_code == 403, path
        assert browser.post(f"/admin/blocked/{path}", {"tokens": "5"}).status_code == 403, path
    assert rows_of(app, Limit)[0].limit_amount == 5


@pytest.mark.parametrize(
    "back", ["//evil.test", "https://evil.test", "/admin/blocked/../../x", "/admin/logout", "/admin/users", "\n", ""]
)
def test_the_way_back_leads_nowhere_else(panel_admin: Browser, back: str) -> None:
    limit = add_limit(panel_admin.app, "user", 1)
    answer = panel_admin.post(f"/admin/blocked/reset/?counter={limit}&back={quote(back)}")
    assert answer.location == "/admin/blocked/"
    answer = panel_admin.post(f"/admin/limits/edit/?id={limit}&back={quote(back)}", {"amount": "7"})
    assert answer.location == "/admin/limits/"


def test_the_list_goes_page_by_page_and_filters(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    who = ana(app)
    add_refusals(app, 45, **who)
    add_refusals(app, 2, kind="revoked", model=None)
    seen, path, sizes = [], "/admin/blocked/?page_size=20", []
    while path:
        html = panel_anywhere_admin.get(path).text
        found = re.findall(r"/admin/blocked/details/\?id=(\d+)", html)
        sizes.append(len(found))
        seen += found
        older = re.search(r'href="([^"]*before=[^"]*)"', html)
        path = older[1].replace("&amp;", "&") if older else ""
    assert sizes == [20, 20, 7]
    assert len(set(seen)) == 47

    def count(query: str) -> int:
        html = panel_anywhere_admin.get(f"/admin/blocked/?page_size=100&{query}").text
        return len(re.findall(r"/admin/blocked/details/\?id=", html))

    assert [count(one) for one in ("user=ana", f"key={who['key_id']}", "kind=revoked", "model=fast", "span=1h")] == [
        *(45, 45, 2, 45, 47)
    ]
    assert [count(one) for one in ("user=nobody", "key=99", "kind=limit&user=admin", "model=slow")] == [0, 0, 0, 0]
    assert "Nothing matches" in panel_anywhere_admin.get("/admin/blocked/?user=nobody").text


def test_an_empty_list_says_what_would_be_there(panel_admin: Browser) -> None:
    assert "No call was refused" in panel_admin.get("/admin/blocked/").text


def test_the_pages_issue_few_statements(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    who = ana(app, allowed_models=["echo"])
    limit, budget = add_limit(app, "key", who["key_id"], 5), add_budget(app, "user", who["user_id"])
    numbers = [
        refused(app, "limit", f"limit {limit}", details=LIMIT, **who),
        refused(app, "budget", f"budget {budget}", details=BUDGET, **who),
        refused(app, "models", **who),
    ]
    paths = [f"details/?id={number}" for number in numbers]
    paths += [f"now/?key={who['key_id']}&model=echo", "why/?request=req_x"]
    for path in paths:
        panel_anywhere_admin.get(f"/admin/blocked/{path}")
        with statements(app) as seen:
            panel_anywhere_admin.get(f"/admin/blocked/{path}")
        assert len(seen) <= 12, (path, seen)
