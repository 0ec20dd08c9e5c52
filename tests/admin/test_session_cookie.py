"""The cookie of the panel: what it lets other sites and scripts do (nothing), and how long it is good for."""

from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask

from app import create_app
from services.accounts import IDLE, LONGEST
from tests.admin.conftest import Browser
from tests.conftest import PASSWORD, make_config
from utils import clock

STRICT = {"ENVIRONMENT": "production", "HOST": "127.0.0.1", "PORT": "8000", "LOG_LEVEL": "INFO"}


def test_scripts_do_not_read_it_and_other_sites_do_not_send_it(panel_app: Flask) -> None:
    answer = Browser(panel_app).sign_in("admin", PASSWORD)
    attributes = [part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]]
    assert {"httponly", "samesite=lax", "path=/"} <= set(attributes)
    assert not [one for one in attributes if one.startswith(("expires", "max-age", "domain"))]  # ends with the browser


@pytest.mark.parametrize(("environ", "is_secure"), [({}, False), (STRICT | {"RATE_LIMIT_PER_MINUTE": "60"}, True)])
def test_it_needs_tls_where_people_work(tmp_path: Path, environ: dict[str, str], is_secure: bool) -> None:
    config = make_config(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/x.db", **environ)
    app = create_app(config)
    assert app.config["SESSION_COOKIE_SECURE"] is is_secure
    app.extensions["gateway"].close()


@pytest.mark.parametrize("longest", [IDLE, LONGEST])
def test_a_session_ends_when_nobody_uses_it_and_after_half_a_day_in_any_case(
    panel_app: Flask, monkeypatch: pytest.MonkeyPatch, longest: timedelta
) -> None:
    browser, now_s, late_s = Browser(panel_app, "admin"), clock.now_s, [0.0]
    monkeypatch.setattr(clock, "now_s", lambda: now_s() + late_s[0])
    step_s = IDLE.total_seconds() - 60
    for _ in range(int(longest.total_seconds() // step_s)):
        assert browser.get("/admin/").status_code == 200
        late_s[0] += step_s
    late_s[0] += 120 if longest == IDLE else step_s
    assert browser.get("/admin/").status_code == 302
    assert browser.get("/admin/").status_code == 302
