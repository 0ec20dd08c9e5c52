"""New secrets for old ones while calls go on: sealed values, digests of keys, signatures."""

import re
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

import config as settings
from models import ApiKey, AuditEntry, Provider, RetiredSecret
from services import Gateway, rotation
from services.audit import Actor
from services.credentials import Sealer
from tests.conftest import SECRETS, TOKEN
from tests.fakes.upstream import Upstream
from tests.helpers import AUTH, chat, with_upstream

NEW = Fernet.generate_key().decode()
BOTH = {"ENCRYPTION_KEYS": f"{NEW},{SECRETS['ENCRYPTION_KEYS']}"}
PEPPER = {"KEY_PEPPER": "a-new-pepper-of-the-tests-0123456789abcd", "KEY_PEPPER_PREVIOUS": SECRETS["KEY_PEPPER"]}
SIGNING = {"SECRET_KEY": "a-new-secret-of-the-tests-0123456789abcd", "SECRET_KEY_PREVIOUS": SECRETS["SECRET_KEY"]}
ACTOR = Actor("tests")


def here(app: Flask) -> Gateway:
    found: Gateway = app.extensions["gateway"]
    return found


def rotate(app: Flask, *options: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["secrets", "rotate", *options])
    return result.exit_code, result.output


def issue(app: Flask, name: str, secret: str | None = None) -> str:
    with Session(here(app).engine) as session, session.begin():
        owner = session.scalars(select(ApiKey.user_id).where(ApiKey.kind == "environment")).first()
        return here(app).keys.issue(session, owner or 0, name, secret=secret).secret


def ask(app: Flask, secret: str) -> int:
    headers = {"Authorization": f"Bearer {secret}"}
    return app.test_client().post("/v1/chat/completions", json=chat(model="echo"), headers=headers).status_code


def test_everything_is_sealed_anew_while_calls_go_on(
    app: Flask, make_app: Callable[..., Flask], database: str, upstream: Upstream
) -> None:
    with_upstream(app, upstream)
    for number in range(7):
        here(app).system_configs.create(ACTOR, {"key": f"k{number}", "value": "x", "is_secret": True})
    both = make_app(database, **BOTH)
    status, said = rotate(both, "--dry-run")
    assert (status, "system_configs.sealed: 7 sealed, 7 to be sealed anew" in said) == (0, True)
    answers, is_over = [], threading.Event()

    def call() -> None:
        while not is_over.is_set() or len(answers) < 5:
            answers.append(both.test_client().post("/v1/chat/completions", json=chat(), headers=AUTH).status_code)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        status, said = rotate(both, "--batch", "2")
    finally:
        is_over.set()
        thread.join()
    assert (status, "system_configs.sealed: 7 sealed, 7 sealed anew" in said) == (0, True)
    assert set(answers) == {200}
    assert "system_configs.sealed: 7 sealed, 0 sealed anew" in rotate(both)[1]
    with Session(here(app).engine) as session:
        sealed = session.scalars(select(Provider.credential).where(Provider.name == "fake")).one()
        entries = session.scalars(select(AuditEntry.details).where(AuditEntry.action == "secrets_rotate")).all()
    assert Sealer((NEW,)).open(sealed or b"") == "sk-upstream-secret", "the old key is needed no more"
    assert [entry["system_configs.sealed"] for entry in entries] == [7]


def test_a_run_that_ended_is_gone_on_with(lite: Flask, make_app: Callable[..., Flask], sqlite_database: str) -> None:
    for number in range(5):
        here(lite).system_configs.create(ACTOR, {"key": f"k{number}", "value": "x", "is_secret": True})
    both = here(make_app(sqlite_database, **BOTH))
    where = next(pair for pair in rotation.columns() if pair[0].name == "system_configs")
    first = next(rotation._batches(both.engine, where, 2))
    fresh = {key: (sealed, both.sealer.renewed(sealed) or b"") for key, sealed in first}
    rotation._store(both.engine, where, fresh)
    report = rotation.rotate(both.engine, both.sealer, both.keys, ACTOR)
    (column,) = [one for one in report.columns if one.column == "system_configs.sealed"]
    assert (column.found, column.renewed, column.broken) == (5, 3, 0)


def test_what_changed_meanwhile_is_left_to_whoever_changed_it(lite: Flask) -> None:
    gateway = here(lite)
    gateway.system_configs.create(ACTOR, {"key": "k", "value": "first", "is_secret": True})
    where = next(pair for pair in rotation.columns() if pair[0].name == "system_configs")
    ((key, sealed),) = next(rotation._batches(gateway.engine, where, 2))
    gateway.system_configs.change(ACTOR, "k", {"value": "second"})
    rotation._store(gateway.engine, where, {key: (sealed, gateway.sealer.seal("first"))})
    ((_key, after),) = next(rotation._batches(gateway.engine, where, 2))
    assert gateway.sealer.open(after) == "second"


def test_what_no_key_opens_is_told(lite: Flask, make_app: Callable[..., Flask], sqlite_database: str) -> None:
    here(lite).system_configs.create(ACTOR, {"key": "k", "value": "x", "is_secret": True})
    status, said = rotate(make_app(sqlite_database, ENCRYPTION_KEYS=NEW))
    assert (status, "system_configs.sealed: 1 sealed, 0 sealed anew, 1 that no key opens" in said) == (1, True)


def test_keys_move_to_a_new_pepper_when_they_are_used(
    app: Flask, make_app: Callable[..., Flask], database: str
) -> None:
    used, unused = issue(app, "used"), issue(app, "unused")
    new = make_app(database, **PEPPER)
    left = (
        "keys under an earlier KEY_PEPPER: 3"  # the two and the admin's first one; the fixed token moved at the start
    )
    assert left in rotate(new, "--dry-run")[1]
    assert [ask(new, secret) for secret in (used, TOKEN, "sk-th-nobody")] == [200, 200, 401]
    assert "keys under an earlier KEY_PEPPER: 2" in rotate(new, "--dry-run")[1]
    alone = make_app(database, KEY_PEPPER=PEPPER["KEY_PEPPER"])
    assert [ask(alone, secret) for secret in (used, TOKEN, unused)] == [200, 200, 401]


def test_a_retired_secret_opens_under_the_earlier_pepper_too(
    app: Flask, make_app: Callable[..., Flask], database: str
) -> None:
    first = issue(app, "turned")
    with Session(here(app).engine) as session, session.begin():
        row = session.scalars(select(ApiKey).where(ApiKey.name == "turned")).one()
        second = here(app).keys.rotate(session, row, timedelta(days=1)).secret
    new = make_app(database, **PEPPER)
    assert [ask(new, secret) for secret in (first, second)] == [200, 200]
    with Session(here(new).engine) as session:
        assert session.scalars(select(RetiredSecret.pepper)).all() == [here(new).keys.pepper]


def test_keys_of_which_a_copy_is_kept_move_without_being_used(
    lite: Flask, make_app: Callable[..., Flask], sqlite_database: str
) -> None:
    made = lite.test_client().post("/register", json={"username": "ann", "password": "correct horse"})
    new = make_app(sqlite_database, **PEPPER)
    assert "keys under an earlier KEY_PEPPER: 1" in rotate(new)[1], "the admin's first key"
    assert ask(make_app(sqlite_database, KEY_PEPPER=PEPPER["KEY_PEPPER"]), made.get_json()["api_key"]) == 200


def test_all_come_at_once_while_the_pepper_changes(app: Flask, make_app: Callable[..., Flask], database: str) -> None:
    secret, new = issue(app, "busy"), make_app(database, **PEPPER)
    barrier, answers = threading.Barrier(6), []

    def call() -> None:
        barrier.wait()
        answers.append(ask(new, secret))

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 6


@pytest.mark.parametrize(("environ", "status"), [(SIGNING, 200), ({"SECRET_KEY": SIGNING["SECRET_KEY"]}, 401)])
def test_tokens_of_an_earlier_secret_count_for_as_long_as_it_is_known(
    lite: Flask, make_app: Callable[..., Flask], sqlite_database: str, environ: dict[str, str], status: int
) -> None:
    lite.test_client().post("/register", json={"username": "ann", "password": "correct horse"})
    body = {"username": "ann", "password": "correct horse"}
    token = lite.test_client().post("/login", json=body).get_json()["access_token"]
    new = make_app(sqlite_database, **environ).test_client()
    assert new.get("/user/usage", headers={"Authorization": f"Bearer {token}"}).status_code == status
    fresh = new.post("/login", json=body).get_json()["access_token"]
    old = lite.test_client().get("/user/usage", headers={"Authorization": f"Bearer {fresh}"})
    assert old.status_code == 401, "nothing new is signed with the earlier one"


def test_the_commands_of_the_page_run(lite: Flask) -> None:
    page = (settings.ROOT / "docs" / "secrets.md").read_text(encoding="utf-8")
    found = re.findall(r"^    flask (.+)$", page, re.MULTILINE)
    assert found == ["config new-key", "secrets rotate --dry-run", "secrets rotate"]
    assert [lite.test_cli_runner().invoke(args=line.split()).exit_code for line in found] == [0, 0, 0]
