"""One app and two fake providers for a whole table of faults: models of every wire, a key with a budget, checks."""

import json
from contextlib import closing
from typing import Any

from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from models import Deployment, UsageRecord
from services import Gateway
from tests.fakes.upstream import Upstream
from tests.faults.routes import Route, data_of
from tests.helpers import add_model, add_provider, assert_books_agree, open_holds
from tests.management import ask, make

SECRET = "sk-upstream-canary-0123456789"
KINDS = {"openai": {}, "responses": {"responses": "true"}, "anthropic": {}, "gemini": {}}
UPSTREAM_MODELS = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}
BRIEF = {"first_byte_s": 0.3, "silence_s": 0.3, "total_s": 0.9}
CUT = b"cut"  # stands for bytes that broke off
NOBODY = {  # base URLs where there is none
    "refused": "http://127.0.0.1:1/v1",
    "unknown": "http://no-such-host.invalid/v1",
    "forbidden": "http://169.254.169.254/v1",
}


class World:
    """Models are called by their wire: alone, `-brief` with little patience, `-spare` with another provider."""

    def __init__(self, app: Flask, upstream: Upstream, spare: Upstream) -> None:
        self.app, self.upstream, self.spare = app, upstream, spare
        self.here: Gateway = app.extensions["gateway"]
        self.key = make(app, costLimitInUsd="1000")
        self.spares: dict[str, int] = {}
        for wire, settings in KINDS.items():
            kind = "openai" if wire == "responses" else wire
            given: dict[str, Any] = {"kind": kind, "settings": settings, "credential": SECRET}
            first = add_provider(app, upstream, wire, **given)
            self.spares[wire] = add_provider(app, spare, f"{wire} spare", **given)
            self.add(wire, first, wire)
            self.add(wire, first, f"{wire}-brief", routing=BRIEF)
            self.add(wire, first, f"{wire}-spare", has_spare=True)
            self.add(wire, first, f"{wire}-brief-spare", has_spare=True, routing=BRIEF)

    def add(self, wire: str, provider: int, name: str, *, has_spare: bool = False, **columns: Any) -> None:
        """A model, and a route that leads to it."""
        upstream_model = UPSTREAM_MODELS.get(wire, "gpt-4o-mini")
        model = add_model(self.app, provider, name, upstream_model=upstream_model, **columns)
        if has_spare:
            with Session(self.here.engine) as session, session.begin():
                more = Deployment(
                    model_id=model, provider_id=self.spares[wire], upstream_model=upstream_model, priority=2
                )
                session.add(more)
            self.here.catalog.refresh()
        with Session(self.here.engine) as session:
            accounts = [
                row.provider.name for row in session.query(Deployment).filter_by(model_id=model).order_by("priority")
            ]
        timeout = {"timeout": "300ms"} if "brief" in name else {}
        steps = [{"provider": account, "model": name, **timeout} for account in accounts]
        body = {"name": name, "path": f"/faults/{name}", "keyIds": [self.key["keyId"]], "steps": steps}
        answer = ask(self.app, "POST", "/api/routes", body)
        assert answer.status_code == 200, answer.text

    def nowhere(self, wire: str, name: str, base_url: str) -> str:
        """A model whose provider is not there; with `-spare` added, one that has another provider."""
        kind = "openai" if wire == "responses" else wire
        number = add_provider(self.app, base_url, f"{wire} {name}", kind=kind, settings=KINDS[wire], credential=SECRET)
        self.add(wire, number, f"{wire}-{name}")
        self.add(wire, number, f"{wire}-{name}-spare", has_spare=True)
        return f"{wire}-{name}"

    def forget(self) -> None:
        """All that was noted of calls and providers."""
        self.here.health.__init__()  # type: ignore[misc]  # as new
        for server in (self.upstream, self.spare):
            server.served.clear()
            server._plans.clear()

    def ask(self, route: Route, model: str, wire: str) -> TestResponse:
        """A call; one whose bytes break off ends like one whose connection does."""
        path, sent = data_of(route, model, wire)
        headers = {"Authorization": f"Bearer {self.key['key']}"}
        answer = self.app.test_client().post(path, headers=headers, buffered=not route.is_binary, **sent)
        if route.is_binary:
            with closing(answer.response):  # type: ignore[type-var]  # it has close()
                try:
                    answer.get_data()
                except ConnectionResetError:
                    answer.set_data(CUT)
        return answer

    def row(self, answer: TestResponse) -> UsageRecord:
        """The one usage row of a call, for which nothing is held any more."""
        assert (open_holds(self.here.engine), self.held()) == (0, 0)
        return self.only(answer.headers["x-request-id"])

    def held(self) -> int:
        """What the budget of the key holds for calls under way."""
        with self.here.engine.connect() as connection:
            return int(connection.execute(text("SELECT SUM(held_amount) FROM budget_windows")).scalar_one() or 0)

    def only(self, request_id: str) -> UsageRecord:
        """The one usage row of a call."""
        with Session(self.here.engine) as session:
            (row,) = session.query(UsageRecord).filter_by(request_id=request_id)
            return row

    def settled(self) -> None:
        """Nothing is held, and the budget has what the rows say."""
        assert_books_agree(self.here.engine)
        with self.here.engine.connect() as connection:
            spent = connection.execute(text("SELECT SUM(spent_amount) FROM budget_windows")).scalar_one()
            cost = connection.execute(text("SELECT SUM(cost_nanousd) FROM usage")).scalar_one()
        assert (self.held(), spent or 0) == (0, cost or 0)


def tried(row: UsageRecord) -> list[str]:
    """What happened to each attempt."""
    return [happened for _provider, happened in json.loads(row.attempts)]
