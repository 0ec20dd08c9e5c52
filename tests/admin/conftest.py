"""What the tests of the panel share: an app with an admin, browsers that are signed in, rows to look at."""

import hashlib
import itertools
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from flask import Flask
from sqlalchemy import event, insert, select, update
from sqlalchemy.orm import Session
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from models import (
    ApiKey,
    Budget,
    BudgetWindow,
    Deployment,
    LedgerEntry,
    Limit,
    Model,
    Price,
    Provider,
    Refusal,
    Team,
    UsageRecord,
    User,
)
from services import Gateway, periods
from tests.conftest import PASSWORD
from utils import clock

# As BCRYPT_HANDLE_LONG_PASSWORDS makes it, but quickly: a real one takes a quarter of a second.
CHEAP_HASH = bcrypt.hashpw(hashlib.sha256(PASSWORD.encode()).hexdigest().encode(), bcrypt.gensalt(4)).decode()
TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')
CANARY = "sk-provider-canary-0123456789abcdef"
SERIAL = itertools.count()


class Browser:
    """A browser with its cookies, on one app. `post` sends the CSRF token as a form would."""

    def __init__(self, app: Flask, username: str | None = None) -> None:
        self.app, self.client = app, app.test_client()
        self._token = ""
        if username is not None:
            self.enter(username)

    @property
    def gateway(self) -> Gateway:
        here: Gateway = self.app.extensions["gateway"]
        return here

    def enter(self, username: str) -> None:
        """Be signed in, without the cost of a password."""
        with Session(self.gateway.engine) as session:
            user_id = session.scalars(select(User.id).where(User.username == username)).one()
        token = self.gateway.accounts.begin_session(user_id, "127.0.0.1", "tests")
        with self.client.session_transaction("/admin/") as cookie:
            cookie["_user_id"], cookie["_fresh"] = token, True

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, **options)

    def post(self, path: str, data: dict[str, Any] | None = None, **options: Any) -> TestResponse:
        if not self._token:
            self._token = self.token()
        return self.client.post(path, data={"csrf_token": self._token, **(data or {})}, **options)

    def token(self) -> str:
        """A token for forms: of the sign-in page, or of the password page once signed in."""
        for path in ("/admin/login", "/admin/password"):
            found = TOKEN.search(self.client.get(path).text)
            if found:
                return found[1]
        raise AssertionError("no page had a CSRF token")

    def sign_in(self, username: str, password: str, **data: Any) -> TestResponse:
        self._token = ""
        answer = self.post("/admin/login", {"username": username, "password": password, **data})
        self._token = ""
        return answer


def add_user(app: Flask, username: str = "ana", **columns: Any) -> int:
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        row = User(username=username, **{"password_hash": CHEAP_HASH} | columns)
        session.add(row)
        session.flush()
        return row.id


def add_key(app: Flask, user_id: int, name: str = "prod", **options: Any) -> int:
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        return here.keys.issue(session, user_id, name, **options).id


def add_budget(app: Flask, scope: str, scope_id: int, limit: int = 20_000_000_000, **columns: Any) -> int:
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        row = Budget(scope=scope, scope_id=scope_id, limit_amount=limit, **{"unit": "usd", "period": "month"} | columns)
        session.add(row)
        session.flush()
        return row.id


def spend(
    app: Flask, budget_id: int, spent: int, held: int = 0, period: str = "month", start: int | None = None
) -> None:
    """So much of a budget is gone, in its period of now."""
    begun = periods.start_s(period, "UTC", clock.now_s()) if start is None else start
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        session.add(BudgetWindow(budget_id=budget_id, period_start=begun, spent_amount=spent, held_amount=held))


def add_team(app: Flask, name: str = "research", members: tuple[int, ...] = (), **columns: Any) -> int:
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        row = Team(name=name, **columns)
        session.add(row)
        session.flush()
        session.execute(update(User).where(User.id.in_(members)).values(team_id=row.id))
        return row.id


def add_limit(app: Flask, scope: str, scope_id: int, limit: int = 100, **columns: Any) -> int:
    here: Gateway = app.extensions["gateway"]
    values = {"unit": "requests", "period": "minute"} | columns
    with Session(here.engine) as session, session.begin():
        row = Limit(scope=scope, scope_id=scope_id, limit_amount=limit, **values)
        session.add(row)
        session.flush()
        return row.id


def add_provider(app: Flask, name: str = "acme", **columns: Any) -> int:
    here: Gateway = app.extensions["gateway"]
    values = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "settings": {}, **columns}
    with Session(here.engine) as session, session.begin():
        row = Provider(name=name, credential=here.sealer.seal(CANARY), **values)
        session.add(row)
        session.flush()
        return row.id


def add_model(app: Flask, provider_ids: list[int], name: str = "fast", **columns: Any) -> int:
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        row = Model(name=name, **{"fallbacks": []} | columns)
        row.deployments = [Deployment(provider_id=number, upstream_model=f"up-{name}") for number in provider_ids]
        row.prices = [Price(input_rate=150_000_000, output_rate=600_000_000, source="test")]
        session.add(row)
        session.flush()
        return row.id


def moments(count: int, columns: dict[str, Any]) -> Iterator[tuple[str, datetime]]:
    """Request ids and their moments, one a second until now, oldest first; or all at that of `columns`."""
    now = datetime.now(UTC).replace(microsecond=0)
    for place in range(count):
        began = columns.get("created_at", now - timedelta(seconds=count - place))
        yield f"req_{round(began.timestamp() * 1000):012x}{next(SERIAL):020x}", began


def add_calls(app: Flask, count: int, **columns: Any) -> list[str]:
    """Settled calls, one a second until now, with their ledger entries; returns their request ids, oldest first."""
    here: Gateway = app.extensions["gateway"]
    rows = [
        {
            "request_id": request_id,
            "created_at": began,
            "user_id": 1,
            "key_id": None,
            "model": "fast",
            "provider": "acme",
            "upstream_model": "up-fast",
            "operation": "chat",
            "is_stream": False,
            "status": 200,
            "outcome": "ok",
            "state": "measured",
            "is_overrun": False,
            "input_tokens": 100,
            "output_tokens": 20,
            "cost_nanousd": 27_000,
            "input_rate": 150_000_000,
            "output_rate": 600_000_000,
            "price_source": "test",
            "duration_ms": 1234,
            "attempts": json.dumps([["acme", "ok"]]),
            "error": None,
            **columns,
        }
        for request_id, began in moments(count, columns)
    ]
    entries = [
        {"created_at": row["created_at"], "kind": "charge", "account": "user", "account_id": row["user_id"],
         "amount_nanousd": row["cost_nanousd"], "amount_tokens": 120, "request_id": row["request_id"]}
        for row in rows
    ]  # fmt: skip
    with Session(here.engine) as session, session.begin():
        session.execute(insert(UsageRecord), rows)
        session.execute(insert(LedgerEntry), entries)
    return [row["request_id"] for row in rows]


def add_refusals(app: Flask, count: int, **columns: Any) -> list[str]:
    """Refused calls, one a second until now; returns their request ids, oldest first."""
    here: Gateway = app.extensions["gateway"]
    rows = [
        {
            "request_id": request_id,
            "created_at": began,
            "user_id": 1,
            "key_id": None,
            "team_id": None,
            "model": "fast",
            "kind": "limit",
            "rule": "limit 1",
            "status": 429,
            "code": "rate_limit_exceeded",
            "message": "Too many requests.",
            "details": json.dumps({"scope": "key", "unit": "requests", "limit": 5, "used": 5}),
            "times": 1,
            **columns,
        }
        for request_id, began in moments(count, columns)
    ]
    with Session(here.engine) as session, session.begin():
        session.execute(insert(Refusal), rows)
    return [row["request_id"] for row in rows]


def rows_of(app: Flask, model: type[Any]) -> list[Any]:
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session:
        return list(session.scalars(select(model).order_by(model.id)))


def user_of(app: Flask, username: str) -> User | None:
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session:
        return session.scalar(select(User).where(User.username == username))


def row_of(app: Flask, model: type[Any], number: int | str) -> Any:
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session:
        return session.get(model, number)


def columns_of(model: type[Any]) -> set[str]:
    return {column.name for column in model.__table__.columns}


def key_row(app: Flask, name: str) -> ApiKey:
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session:
        return session.scalars(select(ApiKey).where(ApiKey.name == name)).one()


@contextmanager
def statements(app: Flask) -> Iterator[list[str]]:
    """The SQL that runs meanwhile, without the question for changes that a worker asks once a second."""
    here: Gateway = app.extensions["gateway"]
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.startswith("SELECT catalog_version.version"):
            seen.append(statement)

    event.listen(here.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(here.engine, "before_cursor_execute", note)


def _quickly(app: Flask) -> Flask:
    """With an admin whose password is checked quickly."""
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        session.execute(update(User).where(User.username == "admin").values(password_hash=CHEAP_HASH))
    return app


@pytest.fixture
def panel_app(sqlite_database: str, make_app: Callable[..., Flask]) -> Flask:
    """An app with the admin `admin`, on SQLite."""
    return _quickly(make_app(sqlite_database))


@pytest.fixture
def panel_anywhere(database: str, make_app: Callable[..., Flask]) -> Flask:
    """The same on SQLite and on Postgres."""
    return _quickly(make_app(database))


@pytest.fixture
def panel_admin(panel_app: Flask) -> Browser:
    """The admin's browser, on SQLite."""
    return Browser(panel_app, "admin")


@pytest.fixture
def panel_anywhere_admin(panel_anywhere: Flask) -> Browser:
    """The admin's browser, on SQLite and on Postgres."""
    return Browser(panel_anywhere, "admin")


@pytest.fixture
def panel_served(panel_app: Flask) -> Iterator[str]:
    """The address of the app on loopback, for a real browser."""

    def wsgi(environ: Any, start_response: Any) -> Any:
        body = panel_app(environ, start_response)
        if "/static/" not in environ["PATH_INFO"]:
            return body
        # Werkzeug's server leaves a file open when the browser departs in the middle of it; gunicorn does not.
        with closing(body):
            return [b"".join(body)]

    server = make_server("127.0.0.1", 0, wsgi, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def panel_chromium() -> Iterator[Any]:
    """A real browser; skipped where none is installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if path is None:
        pytest.skip("no chromium is installed (Debian: apt-get install chromium)")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, out of the package that ships it; nothing is fetched."""
    package = find_spec("axe_playwright_python")
    assert package is not None
    assert package.origin is not None
    return (Path(package.origin).parent / "axe.min.js").read_text(encoding="utf-8")
