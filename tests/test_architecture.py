"""The shape of the code: who imports whom, who touches what, how long things are. The rules stand in rules.py."""

from pathlib import Path

import pytest

from tests import rules

ROOT = Path(__file__).resolve().parents[1]
TEST_FILES_TOO_LONG = {"books/test_accounting.py", "routes/test_requests.py", "routes/test_surfaces.py"}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_code_keeps_the_rule(rule):
    assert rule(ROOT) == []


def test_what_is_excused_from_a_limit_is_still_there_and_still_too_long(monkeypatch):
    monkeypatch.setattr(rules, "LONG", {})
    broken = rules.sizes(ROOT)
    for place in ("migrations/versions/", "services/__init__.py"):
        assert any(line.startswith(place) for line in broken), place
    assert {line.split(":")[0].split(" ")[0] for line in broken} == {
        "migrations/versions/0001_spine.py",
        "migrations/versions/0002_governance.py",
        "services/__init__.py",
    }


def test_files_of_tests_are_short_too():
    folder = ROOT / "tests"
    long = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if len(path.read_text(encoding="utf-8").splitlines()) > rules.MAX_FILE
    }
    assert long == TEST_FILES_TOO_LONG


LONG_FUNCTION = "def work():\n" + "    x = 1\n" * rules.MAX_FUNCTION

VIOLATIONS = [
    pytest.param(rules.layers, "utils/paging.py", "from services import keys", "services.keys", id="utils-services"),
    pytest.param(rules.layers, "utils/paging.py", "import config", "config", id="utils-config"),
    pytest.param(rules.layers, "models.py", "from services.types import Price", "services.types", id="models-services"),
    pytest.param(rules.layers, "services/keys.py", "from routes import render", "routes.render", id="services-routes"),
    pytest.param(rules.layers, "services/keys.py", "def f():\n    import app", "app", id="inside a function"),
    pytest.param(rules.layers, "routes/llm.py", "from app import create_app", "app", id="routes-app"),
    pytest.param(rules.layers, "services/providers/x.py", "from services import keys", "keys", id="provider-service"),
    pytest.param(rules.layers, "services/providers/x.py", "import models", "models", id="provider-models"),
    pytest.param(
        rules.layers, "services/providers/x.py", "from services.dialects import y", "dialects.y", id="wire-dialect"
    ),
    pytest.param(
        rules.layers, "services/dialects/x.py", "from services.providers import y", "y", id="dialect-provider"
    ),
    pytest.param(rules.layers, "services/books/x.py", "from services.accounting import A", "accounting", id="books"),
    pytest.param(rules.framework, "services/keys.py", "from flask import request", "flask", id="flask"),
    pytest.param(rules.framework, "services/keys.py", "import werkzeug.exceptions", "werkzeug", id="werkzeug"),
    pytest.param(rules.framework, "services/keys.py", "import flask_login", "flask_login", id="an extension"),
    pytest.param(
        rules.framework, "services/keys.py", "from utils.extensions import db", "extensions", id="the session"
    ),
    pytest.param(rules.request_state, "app.py", "from flask import Flask, g", "g of flask", id="g"),
    pytest.param(
        rules.request_state, "utils/logs.py", "import flask\nflask.request.path", "flask.request", id="request"
    ),
    pytest.param(rules.request_state, "config.py", "from flask.globals import app_ctx", "globals", id="globals"),
    pytest.param(rules.environment, "app.py", "import os\nos.environ['A']", "os.environ", id="environ"),
    pytest.param(rules.environment, "services/keys.py", "import os\nos.getenv('A')", "os.getenv", id="getenv"),
    pytest.param(rules.environment, "bench/bench.py", "from os import environ", "environ of os", id="bench"),
    pytest.param(rules.environment, "gunicorn.conf.py", "import os\nos.environ", "os.environ", id="gunicorn"),
    pytest.param(rules.sockets, "services/discovery.py", "import requests", "requests", id="requests"),
    pytest.param(rules.sockets, "services/keys.py", "from http.client import HTTPConnection", "http.client", id="http"),
    pytest.param(rules.sockets, "services/stream.py", "import socket", "socket", id="socket"),
    pytest.param(rules.sockets, "services/keys.py", "from redis import Redis", "redis", id="redis"),
    pytest.param(
        rules.sockets,
        "services/exchange.py",
        "import socket\nsocket.create_connection(())",
        "create_connection",
        id="dial",
    ),
    pytest.param(rules.sql, "services/pipeline.py", "from sqlalchemy import text", "sqlalchemy", id="sqlalchemy"),
    pytest.param(rules.sql, "routes/llm.py", "from sqlalchemy.orm import Session", "sqlalchemy.orm", id="routes"),
    pytest.param(rules.sql, "services/keys.py", "import sqlite3", "sqlite3", id="driver"),
    pytest.param(rules.sizes, "utils/long.py", "\n" * (rules.MAX_FILE + 1), "401 lines", id="file"),
    pytest.param(rules.sizes, "utils/long.py", LONG_FUNCTION, "work has 41 lines", id="function"),
    pytest.param(rules.import_effects, "utils/a.py", "import socket\nsocket.socket()", "socket.__new__", id="opens"),
    pytest.param(
        rules.import_effects, "services/a.py", "import sqlite3\nsqlite3.connect(':memory:')", "sqlite3", id="db"
    ),
    pytest.param(
        rules.import_effects,
        "utils/a.py",
        "import threading\nthreading.Thread(target=dict).start()",
        "causes a thread",
        id="thread",
    ),
    pytest.param(rules.import_effects, "utils/a.py", "open('made', 'w')", "open", id="file written"),
]


@pytest.mark.parametrize(("rule", "path", "source", "said"), VIOLATIONS)
def test_a_planted_violation_is_found(tmp_path, rule, path, source, said):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source, encoding="utf-8")
    for package in ("services", "services/providers", "services/dialects"):
        (tmp_path / package).mkdir(parents=True, exist_ok=True)
    for module in ("services/keys.py", "services/providers/y.py", "services/dialects/y.py", "routes/render.py"):
        (tmp_path / module).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / module).touch()
    found = rule(tmp_path)
    assert len(found) == 1, found
    assert said in found[0]


def test_an_import_that_only_serves_types_is_no_import(tmp_path):
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils/a.py").write_text("if TYPE_CHECKING:\n    from services import Gateway\n", encoding="utf-8")
    assert rules.layers(tmp_path) == []
