"""The application as it is built: what settings do to it, and the development server."""

import os
import signal
import subprocess
import sys
import time

import pytest
import requests
from sqlalchemy import text

import app as application
import config as settings
from tests.conftest import PASSWORD, SECRETS, TOKEN
from tests.fakes.ports import free_port
from tests.fakes.served import ROOT
from tests.helpers import AUTH
from tests.start.conftest import bare


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """The environment of this process, with nothing but what the test says."""

    def become(**environ):
        for name in list(os.environ):
            if name not in ("PATH", "HOME"):
                monkeypatch.delenv(name)
        for name, value in bare(tmp_path, **environ).items():
            monkeypatch.setenv(name, value)

    return become


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        pytest.param({"PORT": "0"}, "PORT: Input should be greater", id="wrong"),
        pytest.param(
            {"ENVIRONMENT": "staging", "HOST": "h", "PORT": "1", "LOG_LEVEL": "INFO", "RATE_LIMIT_PER_MINUTE": "1"},
            "is for development; others run gunicorn",
            id="strict",
        ),
    ],
)
def test_the_development_server_ends_with_78_where_it_has_no_place(environment, capsys, environ, said):
    environment(**SECRETS, **environ)
    assert application.main() == settings.EXIT_BAD_CONFIG
    assert said in capsys.readouterr().err


def test_a_server_hears_of_wrong_settings_as_they_are(environment):
    environment(PORT="0")
    with pytest.raises(settings.ConfigError, match="PORT"):
        application.serving()


def test_a_server_has_no_commands_of_an_operator(environment):
    environment(**SECRETS)
    assert "prepare" not in application.serving().cli.commands
    assert "prepare" in application.create_app().cli.commands


def test_python_app_py_serves_on_loopback_and_says_where(tmp_path):
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as out:
        served = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env=bare(tmp_path, PORT=str(port), ADMIN_PORT="1", **SECRETS),
            stdout=out,
            stderr=out,
        )
    try:
        end = time.monotonic() + 120
        while True:
            try:
                answer = requests.get(f"http://127.0.0.1:{port}/v1/models", headers=AUTH, timeout=30)
                break
            except requests.ConnectionError:
                assert served.poll() is None, log.read_text(encoding="utf-8")
                assert time.monotonic() < end
                time.sleep(0.05)
        assert "echo" in {model["id"] for model in answer.json()["data"]}
        assert "Admin only" not in log.read_text(encoding="utf-8"), "it listens on one port"
    finally:
        served.send_signal(signal.SIGTERM)  # SIGINT is ignored where the tests run in the background
        served.wait(60)


def test_proxies_are_believed_as_far_as_the_setting_goes(make_app, sqlite_database):
    head = {"X-Forwarded-For": "9.9.9.9, 8.8.8.8", "X-Forwarded-Proto": "https"}

    def address_of_a_failure(app):
        app.test_client().post("/login", json={"username": "ana", "password": "wrong"}, headers=head)
        with app.extensions["gateway"].engine.connect() as connection:
            return connection.execute(text("SELECT ip_address FROM audit_log ORDER BY id DESC LIMIT 1")).scalar()

    assert address_of_a_failure(make_app(sqlite_database)) == "127.0.0.1"
    assert address_of_a_failure(make_app(sqlite_database, TRUSTED_PROXIES="1")) == "8.8.8.8"
    assert address_of_a_failure(make_app(sqlite_database, TRUSTED_PROXIES="2")) == "9.9.9.9"


def test_prepare_migrates_under_a_lock_and_keeps_what_is_there(app, session):
    assert app.test_client().get("/v1/models", headers=AUTH).status_code == 200
    before = session.execute(text("SELECT COUNT(*) FROM api_keys")).scalar_one()
    session.rollback()
    done = app.test_cli_runner().invoke(args=["prepare", "--url", "https://llm.example.com"])
    assert done.exit_code == 0, done.output
    assert "curl https://llm.example.com/v1/chat/completions" in done.output
    assert (PASSWORD in done.output, TOKEN in done.output) == (False, False)
    assert session.execute(text("SELECT COUNT(*) FROM api_keys")).scalar_one() == before
    session.rollback()
    again = app.test_cli_runner().invoke(args=["prepare"])
    assert again.exit_code == 0, "the lock was given back"


def test_a_configuration_file_that_cannot_be_applied_fails_the_start(make_app, sqlite_database, tmp_path):
    app = make_app(sqlite_database)
    config = app.extensions["gateway"].config
    object.__setattr__(
        app.extensions["gateway"], "config", config.model_copy(update={"config_file": tmp_path / "gone"})
    )
    done = app.test_cli_runner().invoke(args=["prepare"])
    assert done.exit_code == settings.EXIT_BAD_CONFIG
    assert "cannot be read" in done.output


def test_a_gateway_starts_its_jobs_and_drains(lite):
    here = lite.extensions["gateway"]
    here.start_worker()
    here.drain()
    assert here.watch._drain_at_s is not None
    here.close()
