"""The commands of an operator: what they print, what they change, and how they end."""

import json

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from sqlalchemy import select, text

import config as settings
from models import ApiKey, AuditEntry, Budget, User
from services import docs
from tests.conftest import PASSWORD, SECRETS
from tests.helpers import AUTH, chat, squeezed, with_upstream

PASSWORD_PROMPTS = f"{PASSWORD}\n{PASSWORD}\n"


@pytest.fixture
def command(app: Flask):
    """A command within this process, on each database: gives exit status and text."""

    def run(*arguments, given=None):
        result = app.test_cli_runner().invoke(args=list(arguments), input=given)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


def find(session, kind, **columns):
    session.rollback()
    session.expire_all()
    return session.scalar(select(kind).filter_by(**columns))


# As processes of their own: what a shell and a service manager see.


def test_prepare_makes_everything_out_of_nothing_and_says_so_once(flask, tmp_path):
    first = flask("prepare")
    assert first.returncode == 0, first.stderr
    assert "(shown once)" in first.stdout
    assert "http://127.0.0.1:8000/admin" in first.stdout
    assert (tmp_path / "tollhouse.db").exists()
    second = flask("prepare", "--url", "https://llm.example.com")
    assert second.returncode == 0, second.stderr
    assert "https://llm.example.com/admin" in second.stdout
    assert "(shown once)" not in second.stdout
    assert "Bearer YOUR_API_KEY" in second.stdout
    assert "Traceback" not in first.stderr + second.stderr


@pytest.mark.parametrize("arguments", [["prepare"], ["config", "show"], ["ledger", "verify"]], ids=" ".join)
def test_unusable_settings_end_a_command_with_78_and_all_mistakes(flask, arguments):
    done = flask(*arguments, ENVIRONMENT="production", SECRET_KEY="changeme", PORT="0")
    assert done.returncode == settings.EXIT_BAD_CONFIG, done.stderr
    assert "FATAL: Settings validation failed in 'production' environment:" in done.stderr
    assert {"  - SECRET_KEY", "  - PORT", "  - HOST"} <= {line.split(":")[0] for line in done.stderr.splitlines()}
    assert "Traceback" not in done.stderr
    assert "changeme" not in done.stderr


def test_a_bad_configuration_file_stops_the_start_with_78(flask, tmp_path):
    (tmp_path / "house.yaml").write_text("servers: []\n", encoding="utf-8")
    done = flask("prepare", TOLLHOUSE_CONFIG=str(tmp_path / "house.yaml"))
    assert done.returncode == settings.EXIT_BAD_CONFIG
    assert "line 1: `servers` is not a key this file may have" in done.stderr
    assert "Traceback" not in done.stderr


# Within this process, on both databases.


def test_an_admin_is_made_and_can_sign_in(command, app, session):
    assert command("create-admin", "eve", given=PASSWORD_PROMPTS) == (0, "Admin `eve` made.\n")
    answer = app.test_client().post("/login", json={"username": "eve", "password": PASSWORD})
    assert answer.status_code == 200
    assert find(session, User, username="eve").role == "admin"
    entry = find(session, AuditEntry, action="user_create", resource_id="eve")
    assert (entry.actor, entry.details) == ("operator", {"role": "admin"})
    assert PASSWORD not in str(entry.details)


@pytest.mark.parametrize(
    ("name", "password"), [("admin", PASSWORD), ("", PASSWORD), ("eve", "short")], ids=["taken", "no name", "weak"]
)
def test_an_admin_that_cannot_be_is_refused(command, session, name, password):
    before = session.execute(text("SELECT COUNT(*) FROM users")).scalar_one()
    status, _output = command("create-admin", name, given=f"{password}\n{password}\n")
    assert status == settings.EXIT_BAD_CONFIG
    session.rollback()
    assert session.execute(text("SELECT COUNT(*) FROM users")).scalar_one() == before


@pytest.mark.parametrize(("password", "status"), [("elevenchars", 78), ("a" * 12, 78), (PASSWORD, 0)])
def test_production_wants_a_strong_password_of_an_admin(make_app, sqlite_database, password, status):
    strict = {"ENVIRONMENT": "production", "HOST": "h", "PORT": "1", "LOG_LEVEL": "INFO", "RATE_LIMIT_PER_MINUTE": "1"}
    app = make_app(sqlite_database, **strict)
    done = app.test_cli_runner().invoke(args=["create-admin", "eve"], input=f"{password}\n{password}\n")
    assert done.exit_code == status


def test_settings_are_shown_with_secrets_masked(command, app):
    status, output = command("config", "show")
    shown = dict(line.split("=", 1) for line in output.splitlines() if "=" in line and not line.startswith("#"))
    assert status == 0
    assert (shown["ENVIRONMENT"], shown["WORKER_CLASS"], shown["PORT"]) == ("test", "gevent", "")
    assert shown["SECRET_KEY"] == "••••" + SECRETS["SECRET_KEY"][-4:]
    assert output.splitlines()[-1] == "# database: from DATABASE_URL"
    assert [secret for secret in app.extensions["gateway"].config.secrets if secret in output] == []


def test_new_keys_are_good_enough_for_production(command, tmp_path):
    _status, output = command("config", "new-key")
    made = dict(line.split("=", 1) for line in output.splitlines())
    assert made != dict(line.split("=", 1) for line in command("config", "new-key")[1].splitlines())
    Fernet(made["ENCRYPTION_KEYS"])
    strict = {"ENVIRONMENT": "staging", "HOST": "h", "PORT": "1", "LOG_LEVEL": "INFO", "RATE_LIMIT_PER_MINUTE": "1"}
    settings.load({**strict, **made, "API_AUTH_TOKENS": "t" * 9 + "0123456"}, root=tmp_path)


def test_a_configuration_file_is_applied_once(command, tmp_path):
    file = tmp_path / "house.yaml"
    text_ = "providers: [{name: mine, kind: echo}]\nmodels: [{name: m, deployments: [{provider: mine, model: echo}]}]\n"
    file.write_text(text_, encoding="utf-8")
    assert command("config", "apply", str(file)) == (0, "added: provider mine, model m\n")  # in the file's order
    assert command("config", "apply", str(file)) == (0, "nothing to change\n")
    file.write_text(text_.replace("deployments", "fallbacks: [x], deployments"), encoding="utf-8")
    status, output = command("config", "apply", str(file))
    assert output == "changed: model m\nnote: model `m` names the fallback `x`, which does not exist\n"
    file.write_text("providers: []\n", encoding="utf-8")
    status, output = command("config", "apply", str(file))
    assert sorted(output.removeprefix("switched off: ").strip().split(", ")) == ["model m", "provider mine"]
    file.write_text("a: b: c", encoding="utf-8")
    status, output = command("config", "apply", str(file))
    assert status == settings.EXIT_BAD_CONFIG
    assert "cannot be applied" in output


def test_pages_are_written_and_checked(lite, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    run = lite.test_cli_runner().invoke
    stale = run(args=["config", "docs", "--check"])
    assert stale.exit_code == settings.EXIT_BAD_CONFIG
    assert "run `make docs`: docs/configuration.md, docs/errors.md, .env.example, docs/cli.md" in stale.output
    assert (
        run(args=["config", "docs"]).output
        == "written: docs/configuration.md, docs/errors.md, .env.example, docs/cli.md\n"
    )
    assert run(args=["config", "docs", "--check"]).output == "docs are up to date\n"
    assert (tmp_path / "docs/configuration.md").read_text(encoding="utf-8") == docs.configuration()


def test_the_ledger_is_verified_and_a_difference_ends_with_1(command, app, session, upstream):
    with_upstream(app, upstream)
    assert app.test_client().post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 200
    status, output = command("ledger", "verify")
    assert status == 0
    assert output == (
        "0 differences in 2 accounts and 1 of their days, from 1 usage rows and 1 ledger entries; "
        "0 calls are under way.\n"
    )
    session.execute(text("UPDATE users SET spent_nanousd = spent_nanousd + 7 WHERE username = 'api-tokens'"))
    session.commit()
    status, output = command("ledger", "verify")
    assert status == 1
    assert output.splitlines()[0].startswith("user api-tokens: nano-USD is ")
    assert output.splitlines()[-1].startswith("1 differences in ")


def test_budgets_are_set_changed_and_shown(command, session):
    assert command("budgets", "show") == (0, "There is no budget.\n")
    put = ["budgets", "set", "--user", "admin", "--unit", "usd", "--period", "month", "--timezone", "Europe/Lisbon"]
    assert command(*put, "--limit", "12.5") == (0, "Budget set.\n")
    assert command(*put, "--limit", "20") == (0, "Budget set.\n")
    row = find(session, Budget)
    key = ["budgets", "set", "--key", "1", "--unit", "tokens", "--limit", "1000"]
    assert command(*key) == (0, "Budget set.\n")
    assert (row.limit_amount, row.timezone) == (20_000_000_000, "Europe/Lisbon")
    called = find(session, ApiKey, id=1).hint
    assert [line.split("  ") for line in squeezed(command("budgets", "show")[1])] == [
        ["OWNER", "PERIOD", "LIMIT", "SPENT", "HELD"],
        ["user admin", "month", "$20.00", "$0.00", "$0.00"],
        [f"key {called} (#1)", "total", "1,000 tokens", "0 tokens", "0 tokens"],
    ]
    assert [one["limit"] for one in json.loads(command("budgets", "show", "--json")[1])] == [20 * 10**9, 1000]
    assert command(*put[:-2], "--limit", "30") == (0, "Budget set.\n")
    row = find(session, Budget, period="month")
    assert (row.limit_amount, row.timezone) == (30_000_000_000, "Europe/Lisbon"), "a zone that is not named stays"
    assert command(*put[:-2], "--limit", "none") == (0, "Budget removed.\n")
    assert command(*put[:-2], "--limit", "none") == (78, "There is no such budget.\n")
    assert find(session, AuditEntry, action="limit_set", actor="operator", resource_type="user") is not None
    assert [line.split()[0] for line in command("budgets", "show")[1].splitlines()] == ["OWNER", "key"]


def test_limits_are_set_removed_and_shown(command):
    put = ["limits", "set", "--key", "1", "--unit", "requests", "--period", "hour"]
    assert command(*put, "--limit", "5") == (0, "Limit set.\n")
    assert command("limits", "set", "--every-address", "--unit", "concurrent", "--limit", "3") == (0, "Limit set.\n")
    _heads, first, second = squeezed(command("limits", "show")[1])
    assert first.endswith("(#1)  requests  hour  5  0")
    assert second == "every address  concurrent  none  3  -"
    assert command(*put, "--limit", "none") == (0, "Limit removed.\n")
    bad = ["limits", "set", "--user", "admin", "--unit", "concurrent", "--limit", "5", "--period", "day"]
    status, output = command(*bad)
    assert (status, "Concurrent calls have the period `none`" in output) == (78, True)
    status, output = command("limits", "set", "--unit", "requests", "--limit", "5")
    assert (status, output) == (78, "Name one of --user, --key, --team, --model and --every-address.\n")


def test_keys_that_share_a_hint_are_told_apart_by_number(command, session):
    with session.begin():
        for secret in ("co-one", "co-two"):
            session.add(ApiKey(user_id=1, name=secret, digest=secret, hint="co\u2026"))
    status, output = command("budgets", "set", "--key", "co\u2026", "--unit", "usd", "--limit", "1")
    assert (status, "Several keys have the hint `co\u2026`: name the key by its number or UUID" in output) == (78, True)
    for number in (3, 4):
        assert command("budgets", "set", "--key", str(number), "--unit", "usd", "--limit", "1")[0] == 0
    assert [line.split("  ")[0] for line in command("budgets", "show")[1].splitlines()[1:]] == [
        "key co\u2026 (#3)",
        "key co\u2026 (#4)",
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--user", "nobody", "--unit", "usd", "--limit", "1"], 78, "There is no user `nobody`."),
        (["--key", "999", "--unit", "usd", "--limit", "1"], 78, "There is no key `999`."),
        (["--unit", "usd", "--limit", "1"], 78, "Name one of --user"),
        (["--user", "admin", "--key", "1", "--unit", "usd", "--limit", "1"], 78, "Name one of --user"),
        (["--user", "admin", "--unit", "usd", "--limit", "much"], 78, "`much` is not an amount."),
        (["--user", "admin", "--unit", "usd", "--limit", "nan"], 78, "nan"),
        (["--user", "admin", "--unit", "tokens", "--limit", "-1"], 78, "`-1` is out of range."),
        (["--user", "admin", "--unit", "tokens", "--limit", "inf"], 78, "`inf` is out of range."),
        (["--user", "admin", "--unit", "tokens", "--limit", "1e999999"], 78, "`1e999999` is out of range."),
        (["--user", "admin", "--unit", "tokens", "--limit", "1.5"], 78, "too fine: it may have no decimals"),
        (["--user", "admin", "--unit", "usd", "--limit", "1e-10"], 78, "too fine: it may have nine decimals"),
        (["--user", "admin", "--unit", "usd", "--limit", "1", "--timezone", "Moon"], 78, "`Moon` is not a time zone"),
        (["--user", "admin", "--unit", "usd", "--limit", "1", "--period", "eon"], 2, "'eon' is not one of"),
        (["--user", "admin", "--unit", "pounds", "--limit", "1"], 2, "'pounds' is not one of"),
        (["--user", "admin", "--unit", "usd"], 2, "Missing option '--limit'"),
    ],
)
def test_budgets_that_cannot_be_are_refused(command, session, arguments, status, said):
    found, output = command("budgets", "set", *arguments)
    assert (found, said in output) == (status, True), output
    assert find(session, Budget) is None


@pytest.mark.parametrize("arguments", [["prepare"], ["ledger", "verify"], ["budgets", "show"]], ids=" ".join)
def test_a_database_that_is_away_is_said_in_a_line(flask, arguments):
    done = flask(*arguments, DATABASE_URL="postgresql://house:hunter2@127.0.0.1:1/house", DATABASE_WAIT="0")
    assert done.returncode == 69
    assert done.stderr.splitlines()[-1].startswith("The database (DATABASE_URL) cannot be used: ")
    assert "Connection refused" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_only_its_owner_reads_the_database_file(flask, tmp_path):
    assert flask("prepare").returncode == 0
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.glob("tollhouse.db*")}[
        "tollhouse.db"
    ] == "0o600"
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("tollhouse.db*"))


def test_production_without_an_admin_says_how_to_make_one(flask):
    strict = {"ENVIRONMENT": "production", "HOST": "127.0.0.1", "PORT": "8000", "LOG_LEVEL": "INFO"}
    done = flask("prepare", **strict, RATE_LIMIT_PER_MINUTE="60")
    assert done.returncode == 0, done.stderr
    assert "none yet; make one with: .venv/bin/flask create-admin NAME" in done.stdout
    assert flask("create-admin", "ana", **strict, RATE_LIMIT_PER_MINUTE="60", given=PASSWORD_PROMPTS).returncode == 0
    again = flask("prepare", **strict, RATE_LIMIT_PER_MINUTE="60")
    assert "  Admin         ana" in again.stdout
