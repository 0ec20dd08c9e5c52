"""Ten thousand keys and very many calls: what lists, sums and sign-in of a key take then (F39 of docs/faults.md)."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import UsageRecord
from services import rollups
from tests.admin.conftest import Browser, add_calls, add_user
from tests.degraded.conftest import SOAK, figure, part_of
from tests.helpers import AUTH

KEYS, CALLS = (10_000, 10_000_000) if SOAK else (2_000, 20_000)
MONTH_MS = 30 * 86_400_000
PAGES = ("/admin/", "/admin/usage/", "/admin/keys/", "/admin/keys/?search=key+77", "/admin/users/", "/admin/ledger/")


def fill(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys, and copies of a few calls, spread over a month."""
    monkeypatch.setattr(rollups, "CHUNK", 20_000)
    monkeypatch.setattr(rollups, "PAUSE_S", 0.0)  # there is nobody to wait for
    here, owner = browser.gateway, add_user(browser.app, "ana")
    with Session(here.engine) as session, session.begin():
        for number in range(KEYS):
            here.keys.issue(session, user_id=owner, name=f"key {number}")
    add_calls(browser.app, 200)
    columns = [column.name for column in UsageRecord.__table__.columns if column.name != "id"]
    made = {
        "request_id": "'req_' || lower(hex(randomblob(12)))",
        "created_at": f"created_at - abs(random()) % {MONTH_MS}",
    }
    chosen = ", ".join(made.get(name, name) for name in columns)
    copy = f"""
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {CALLS // 200})
        INSERT INTO usage ({", ".join(columns)}) SELECT {chosen} FROM (SELECT * FROM usage LIMIT 200), n"""
    with here.engine.begin() as connection:
        connection.execute(text(copy))
    folder = rollups.Rollups(here.engine)
    while folder.fold():
        pass


def seconds(count: int, work: Callable[[], object]) -> list[float]:
    """What so many runs took."""
    took = []
    for _ in range(count):
        began = time.monotonic()
        work()
        took.append(time.monotonic() - began)
    return took


@pytest.mark.timeout(7200 if SOAK else 600)
def test_pages_and_keys_of_a_large_gateway(panel_admin: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(panel_admin, monkeypatch)
    told = {}
    for page in PAGES:
        assert panel_admin.get(page).status_code == 200
        took = seconds(20, lambda page=page: panel_admin.get(page))  # type: ignore[misc]  # a default binds the page
        told[page] = f"{part_of(took, 0.95) * 1000:.0f} ms"
    client = panel_admin.app.test_client()
    assert client.get("/v1/models", headers=AUTH).status_code == 200
    took = seconds(200, lambda: client.get("/v1/models", headers=AUTH))
    figure("F39", keys=KEYS, calls=CALLS, v1_models_p95=f"{part_of(took, 0.95) * 1000:.1f} ms", **told)
