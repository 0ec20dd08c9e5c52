"""One gateway with everybody in it, and things that belong to one of them, made anew for every request."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from flask import Flask
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from models import (
    Agent,
    Budget,
    Dialog,
    Limit,
    Message,
    Model,
    Provider,
    RaiseRequest,
    Refusal,
    Route,
    StoredBody,
    SystemConfig,
    Team,
    TopUpCode,
    UsageRecord,
    User,
)
from models_batches import Batch, BatchFile
from models_policies import Policy
from models_prompts import Prompt, PromptLabel, PromptVersion
from services import Gateway, invitations
from services.accounts import Person
from services.audit import Actor
from tests.admin.alerting import add_alert, add_target
from tests.admin.conftest import add_calls
from tests.callers import bearer
from utils import clock

# Whose token it is: the owner of all things, another user, the admin of the owner's team and of another one.
PEOPLE = {
    "user": ("user", "crew"),
    "other": ("user", None),
    "team_admin": ("team_admin", "crew"),
    "other_team_admin": ("team_admin", "others"),
    "auditor": ("auditor", None),
    "admin": ("admin", None),
}
ANONYMOUS = "anonymous"
KEYS = tuple(f"{name} key" for name in PEOPLE)
CALLERS = (ANONYMOUS, *PEOPLE, *KEYS)
ASKED = {"kind": "budget", "scope": "user", "scope_id": 1, "unit": "usd", "period": "month", "reason": "r"} | {
    "seen_amount": 1,
    "wanted_amount": 2,
}
MISSING = "00000000-0000-4000-8000-000000000000"
FAR = 987_654_321  # a number of nothing


class World:
    """See the module. `places` makes what a part of a path names and returns that part; so does `ids` for the panel."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.here: Gateway = app.extensions["gateway"]
        self.numbers: dict[str, int] = {}
        self.headers: dict[str, dict[str, str]] = {ANONYMOUS: {}}
        self._serial = 0
        self._sessions: dict[str, str] = {}
        with self._session() as session:
            self.teams = {name: self._add(session, Team(name=name)) for name in ("crew", "others")}
            for name, (role, team) in PEOPLE.items():
                row = User(username=name.replace("_", "-") + "-1", role=role, team_id=self.teams.get(team or ""))
                self.numbers[name] = self._add(session, row)
                key = self.here.keys.issue(session, row.id, "program")
                self.headers[f"{name} key"] = bearer(key.secret)
                if name == "user":
                    self.key = key.id
                    session.add(Route(name="r", path="/the/route", key_ids=[key.id], steps=[]))
        for name in PEOPLE:
            self._sign_in(name)
        self.here.catalog.refresh()
        self.places: dict[str, Callable[[], object]] = {
            "batch": lambda: self._batch("name"),
            "file": self._file,
            "agent_id": lambda: self._row(Agent(user_id=self.numbers["user"], name=self.word(), config={})),
            "config": self._config,
            "label": lambda: "staging",
            "number": lambda: 1,
            "prompt": self._prompt,
            "dialog_id": self._dialog,
            "invitation": lambda: invitations.make(self.here.engine, Actor("t"), role="user", team="", days=1).view[
                "id"
            ],
            "key_uuid": lambda: self._key("uuid"),
            "key_id": lambda: self._key("id"),
            "member_id": lambda: self._row(User(username=self.word(), team_id=self.teams["crew"])),
            "model": lambda: self._row(Model(name=self.word(), fallbacks=[]), "name"),
            "policy_id": lambda: self._row(Policy(name=self.word(), rules={}), "uuid"),
            "provider_uuid": lambda: self._provider("uuid"),
            "request_id": self._texts,
            "response": self._response,
            "route_id": lambda: self._row(Route(name="r", path=f"/{self.word()}"), "uuid"),
            "team_id": lambda: self.teams["crew"],
            "user_id": self._user,
            "username": lambda: self._row(User(username=self.word()), "username"),
            "own_name": lambda: "user-1",
            "route_path": lambda: "the/route",
            "echo": lambda: "echo",
            "nowhere": lambda: "no/such/page",
            "stylesheet": lambda: "tollhouse.css",
            "bootstrap_file": lambda: "css/bootstrap.min.css",
            "docs_asset": lambda: "swagger.css",
        }
        self.ids: dict[str, Callable[[], object]] = {
            "agents": self.places["agent_id"],
            "alert-targets": lambda: add_target(self.app),
            "alerts": lambda: add_alert(self.app, add_target(self.app)),
            "audit": lambda: 1,
            "balances": self._balance,
            "batches": lambda: self._batch("id"),
            "blocked": self._refusal,
            "budgets": lambda: self._row(Budget(scope="user", scope_id=self._user(), unit="usd", limit_amount=5)),
            "configs": self._config,
            "dialogs": self.places["dialog_id"],
            "invites": self.places["invitation"],
            "keys": self.places["key_id"],
            "limits": lambda: self._row(
                Limit(scope="user", scope_id=self._user(), unit="requests", period="minute", limit_amount=5)
            ),
            "messages": self._message,
            "models": lambda: self._row(Model(name=self.word(), fallbacks=[])),
            "policies": lambda: self._row(Policy(name=self.word(), rules={})),
            "prompts": self._prompt,
            "providers": lambda: self._provider("id"),
            "routes": lambda: self._row(Route(name="r", path=f"/{self.word()}")),
            "raises": lambda: self._row(RaiseRequest(user_id=self._user(), **ASKED)),
            "teams": lambda: self._row(Team(name=self.word())),
            "topups": self._code,
            "usage": self._usage,
            "users": self.places["user_id"],
        }

    def send(self, caller: str, method: str, path: str, **options: Any) -> TestResponse:
        """One request of one of CALLERS."""
        return self.app.test_client().open(path, method=method, headers=self.headers[caller], **options)

    def browse(self, caller: str, method: str, path: str, **options: Any) -> TestResponse:
        """The same from a browser of somebody who has signed in; keys open no session."""
        client = self.app.test_client()
        if caller not in self.numbers:
            return client.open(path, method=method, headers=self.headers[caller], **options)
        if path == "/admin/logout" or caller not in self._sessions:
            self._sessions[caller] = self.here.accounts.begin_session(self.numbers[caller], "127.0.0.1", "tests")
        with client.session_transaction("/admin/") as cookie:
            cookie["_user_id"], cookie["_fresh"] = self._sessions[caller], True
        if path == "/admin/logout":
            del self._sessions[caller]
        answer = client.open(path, method=method, **options)
        if path == "/portal/profile/tokens/end/":
            self._sign_in(caller)
        return answer

    def _sign_in(self, name: str) -> None:
        """A token for one of PEOPLE."""
        person = Person(self.numbers[name], name.replace("_", "-") + "-1", PEOPLE[name][0], False, None)
        self.headers[name] = bearer(self.here.accounts.token(person))

    def word(self) -> str:
        """A name that nothing has yet."""
        return f"thing-{self._tick()}"

    def _batch(self, name: str) -> object:
        row = Batch(name=f"batch_{self._tick()}", user_id=self.numbers["user"], address="", endpoint="/v1/embeddings")
        row.input_file_id, row.expires_at = "file-x", clock.now() + timedelta(days=1)
        return self._row(row, name)

    def _file(self) -> object:
        row = BatchFile(id=f"file-{self._tick()}", user_id=self.numbers["user"], filename="f", purpose="batch")
        row.size_bytes, row.is_whole = 0, True
        return self._row(row)

    def _refusal(self) -> object:
        row = Refusal(request_id=self.word(), created_at=clock.now(), kind="other", status=403, message="no")
        return self._row(row)

    def _tick(self) -> int:
        self._serial += 1
        return self._serial

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with Session(self.here.engine) as session, session.begin():
            yield session

    def _add(self, session: Session, row: Any, name: str = "id") -> Any:
        session.add(row)
        session.flush()
        return getattr(row, name)

    def _row(self, row: Any, name: str = "id") -> Any:
        with self._session() as session:
            return self._add(session, row, name)

    def _limit(self) -> object:
        unit = {"unit": "requests", "period": "minute", "limit_amount": 5}
        return self._row(Limit(scope="user", scope_id=self._user(), **unit))

    def _prompt(self) -> str:
        """A prompt of `user` with one version."""
        row = Prompt(user_id=self.numbers["user"], name=self.word(), newest=1)
        with self._session() as session:
            number = self._add(session, row)
            said = [{"role": "user", "content": "x"}]
            session.add(PromptVersion(prompt_id=number, number=1, messages=said, model_name="echo", author="t"))
            session.add(PromptLabel(prompt_id=number, name="staging", number=1))
            return row.uuid

    def _user(self) -> int:
        return int(self._row(User(username=self.word())))

    def _key(self, name: str) -> object:
        from models import ApiKey

        with self._session() as session:
            member = self._add(session, User(username=self.word(), team_id=self.teams["crew"]))
            number = self.here.keys.issue(session, member, "k").id
            return getattr(session.get_one(ApiKey, number), name)

    def _provider(self, name: str) -> object:
        return self._row(Provider(name=self.word(), kind="openai", base_url="http://127.0.0.1:9/v1", settings={}), name)

    def _config(self) -> object:
        return self._row(SystemConfig(key=self.word(), value="v"), "key")

    def _code(self) -> object:
        ends = clock.now() + timedelta(days=1)
        row = TopUpCode(digest=self.word(), hint="top-…", unit="tokens", amount=5, created_by="t", expires_at=ends)
        return self._row(row, "digest")

    def _dialog(self) -> object:
        with self._session() as session:
            number = self._add(session, Dialog(user_id=self.numbers["user"], title="t", model_name="echo"))
            session.add(Message(dialog_id=number, user_id=self.numbers["user"], role="user", content="secret words"))
            return number

    def _message(self) -> object:
        row = Message(dialog_id=self._dialog(), user_id=self.numbers["user"], role="user", content="secret words")
        return self._row(row)

    def _balance(self) -> object:
        user = self._user()
        return self._row(
            Budget(scope="user", scope_id=user, unit="tokens", period="total", is_prepaid=True, limit_amount=5),
            "scope_id",
        )

    def _response(self) -> object:
        made = self.send("user", "POST", "/v1/responses", json={"model": "echo", "input": "secret words"})
        assert made.status_code == 200, made.text
        return (made.json or {})["id"]

    def _texts(self) -> object:
        """A call of the owner's key, of which texts are stored."""
        row = StoredBody(request_id=self.word(), user_id=self.numbers["user"], key_id=self.key)
        row.request = self.here.sealer.seal('{"body": "secret words"}')
        row.created_at, row.expires_at = clock.now(), clock.now() + timedelta(days=1)
        return self._row(row, "request_id")

    def _usage(self) -> object:
        (name,) = add_calls(self.app, 1, user_id=self.numbers["user"])
        with self._session() as session:
            return session.query(UsageRecord.id).filter_by(request_id=name).one()[0]
