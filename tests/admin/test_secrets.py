"""No page, export or audit entry holds a secret, whatever it is asked."""

from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, Provider, RetiredSecret, User, WebSession
from services import keys
from tests.admin.conftest import CANARY, PASSWORD, Browser, rows_of
from tests.admin.pages import furnish
from tests.conftest import SECRETS


def secrets_of(app: Flask) -> set[str]:
    """What must not be read anywhere: settings, credentials, hashes, digests, sealed copies."""
    with Session(app.extensions["gateway"].engine) as session:
        stored = [*session.scalars(select(User.password_hash)), *session.scalars(select(ApiKey.digest))]
        stored += [*session.scalars(select(WebSession.digest)), *session.scalars(select(RetiredSecret.digest))]
        sealed = [*session.scalars(select(ApiKey.sealed)), *session.scalars(select(Provider.credential))]
    found = {text for text in stored if text} | {raw.decode() for raw in sealed if raw}
    given = {value for name, value in SECRETS.items() if name != "LLM_MAX_RETRIES"}  # which is a number of tries
    return found | given | {CANARY, PASSWORD}


def test_no_page_holds_a_secret(panel_app: Flask) -> None:
    key = (
        panel_app.test_client().post("/register", json={"username": "ana", "password": PASSWORD}).get_json()["api_key"]
    )
    assert keys.is_well_formed(key)
    pages = furnish(panel_app, "plain")
    browser = Browser(panel_app, "admin")
    secrets = secrets_of(panel_app) | {key}
    assert len(secrets) > 8
    for path in [*pages, "/admin/usage/export.csv"]:
        answer = browser.get(path)
        text = answer.text + str(answer.headers)
        assert {secret for secret in secrets if secret in text} == set(), path


def test_the_audit_log_holds_no_secret(panel_app: Flask) -> None:
    browser = Browser(panel_app, "admin")
    browser.sign_in("admin", PASSWORD)
    browser.sign_in("admin", "guessed-password-canary")
    form = {"kind": "openai", "name": "acme", "base_url": "https://acme.test", "credential": CANARY, "is_enabled": "y"}
    browser.post("/admin/providers/new/", form)
    browser.post(
        "/admin/users/new/", {"username": "ana", "role": "user", "password_mode": "choose", "password": CANARY}
    )
    browser.post("/admin/keys/new/", {"name": "k", "owner": "ana", "scope": "all", "period": "month"})
    browser.post("/admin/password", {"current": PASSWORD, "new": CANARY, "again": CANARY})
    noted = repr([(row.action, row.actor, row.resource_id, row.details) for row in rows_of(panel_app, AuditEntry)])
    assert "provider_create" in noted
    assert "password_change" in noted
    for secret in (CANARY, PASSWORD, "guessed-password-canary", "$2b$"):
        assert secret not in noted
    assert not any(keys.is_well_formed(word.strip("'\",")) for word in noted.split())
