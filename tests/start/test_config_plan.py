"""`flask config export|plan|apply`: the whole configuration as a file, and who has the say over a row."""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

import config as settings
from models import Agent, ApiKey, AuditEntry, Budget, Limit, Model, Price, Provider, Route, SystemConfig, Team, User
from services import Gateway, budgets, configapply, limits, pricebook
from services.audit import Actor
from services.configfile import ConfigFileError
from services.errors import InvalidRequest
from services.types import Price as PriceRecord
from services.types import Tier
from tests.helpers import AUTH, add_model, add_provider, chat

Run = Callable[..., tuple[int, str]]
ACTOR = Actor("tests")
SECRET = "sk-never-in-a-file-0123456789"
ENVIRONMENT = {"PROVIDER_ACME_API_KEY": SECRET, "PROVIDER_HOUSE_API_KEY": SECRET}
WHOLE = """
providers:
  - {name: acme, kind: openai, base_url: "https://api.acme.test/v1", api_key: "env:PROVIDER_ACME_API_KEY"}
models:
  - name: fast
    description: Quick and cheap
    deployments:
      - {provider: acme, model: small, weight: 3}
      - {provider: acme, model: tiny, priority: 2, enabled: false, price: {input_per_million: 1, output_per_million: 2}}
    aliases: [quick]
    routing: {strategy: latency, retries: 1}
    price:
      input_per_million: 0.15
      output_per_million: 0.6
      per_request: 0.01
      tiers: [{above: 200000, input_per_million: 0.3}]
    context_window: unknown
    max_output_tokens: 4096
teams:
  - {name: research, allowed_models: [fast]}
budgets:
  - {team: research, unit: usd, limit: 12.5, period: month, timezone: Europe/Lisbon, warn_percent: 70}
  - {model: fast, unit: tokens, limit: 1000000}
limits:
  - {team: research, unit: requests, limit: 60}
  - {every_address: true, unit: concurrent, limit: 5}
routes:
  - {path: /house/ask, name: Ask, steps: [{provider: acme, model: fast, timeout: 5s, retries: 1}]}
agents:
  - {name: clerk, system_prompt: "Answer in one line.\\nSay $${NAME} when asked.\\n", config: {temperature: 0.2}}
values:
  - {key: portal.keys, value: "no", description: Keys are made by admins}
"""


@pytest.fixture
def fresh(make_app: Callable[..., Flask], database: str) -> Flask:
    return make_app(database, **ENVIRONMENT)


@pytest.fixture
def here(fresh: Flask) -> Gateway:
    found: Gateway = fresh.extensions["gateway"]
    return found


@pytest.fixture
def command(fresh: Flask) -> Run:
    def run(*arguments: str, typed: str = "") -> tuple[int, str]:
        result = fresh.test_cli_runner().invoke(args=["config", *arguments], input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str = WHOLE) -> str:
        path = tmp_path / "house.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def one(here: Gateway, kind: Any, **columns: Any) -> Any:
    with Session(here.engine, expire_on_commit=False) as session:
        return session.scalar(select(kind).filter_by(**columns))


def test_a_file_of_everything_is_planned_applied_and_then_there_is_nothing_to_do(
    command: Run, file: Callable[..., str], here: Gateway
) -> None:
    name = file()
    status, said = command("plan", name)
    assert status == 2
    assert "+ provider acme: added (line 3)" in said
    assert "    limit: - -> 12.5" in said
    assert one(here, Provider, name="acme") is None, "a plan stores nothing"
    status, said = command("apply", name)
    assert (status, said.splitlines()[0].split(": ")[0]) == (0, "added")
    assert command("plan", name) == (0, "nothing to change\n")
    assert command("apply", name) == (0, "nothing to change\n")
    team = one(here, Team, name="research")
    budget = one(here, Budget, scope="team", scope_id=team.id)
    assert (budget.limit_amount, budget.timezone, budget.warn_percent, budget.managed_by) == (
        12_500_000_000, "Europe/Lisbon", 70, "file",
    )  # fmt: skip
    assert one(here, Limit, scope="address").limit_amount == 5
    assert one(here, Route, path="/house/ask").steps[0]["timeout_s"] == 5
    assert one(here, Agent, name="clerk").system_prompt.endswith("Say ${NAME} when asked.\n")
    assert one(here, SystemConfig, key="portal.keys").value == "no"
    assert here.sealer.open(one(here, Provider, name="acme").credential) == SECRET


def test_what_is_written_is_read_as_the_same_also_elsewhere(
    command: Run, file: Callable[..., str], make_app: Callable[..., Flask], tmp_path: Path, templates: Any
) -> None:
    command("apply", file())
    written = tmp_path / "written.yaml"
    assert command("export", str(written)) == (0, "")
    assert command("plan", str(written)) == (0, "nothing to change\n")
    assert SECRET not in written.read_text(encoding="utf-8")
    (tmp_path / "other.db").write_bytes(Path(templates("sqlite")).read_bytes())
    other = make_app(f"sqlite:///{tmp_path}/other.db", **ENVIRONMENT).test_cli_runner()
    assert other.invoke(args=["config", "apply", str(written)]).exit_code == 0
    assert other.invoke(args=["config", "export"]).output == written.read_text(encoding="utf-8")


def test_rows_that_people_made_are_written_and_change_only_for_whoever_adopts_them(
    command: Run, file: Callable[..., str], fresh: Flask, here: Gateway, tmp_path: Path
) -> None:
    add_model(fresh, add_provider(fresh, "https://house.test/v1", "house", credential=SECRET), "mine")
    pricebook.put(here.engine, ACTOR, "mine", PriceRecord(7, 8, tiers=(Tier(9, 8, above=10),), source="operator"))
    limits.put(here.engine, ACTOR, scope="model", owner="mine", unit="tokens", limit=9, period="day")
    text = command("export")[1]
    assert command("plan", file(text)) == (0, "nothing to change\n"), "what they say already is left alone"
    other = text.replace("limit: 9", "limit: 10")
    status, said = command("plan", file(other))
    line = other[: other.index("model: mine\n")].count("\n") + 1
    assert (status, f"line {line}: limit `model mine, tokens, day` was made in the admin panel" in said) == (78, True)
    assert one(here, Limit, scope="model").limit_amount == 9
    status, said = command("plan", file(other), "--adopt")
    assert (status, "limit: 9 -> 10" in said) == (2, True)
    assert command("apply", file(other), "--adopt")[0] == 0
    row = one(here, Limit, scope="model")
    assert (row.limit_amount, row.managed_by) == (10, "file")
    assert one(here, Model, name="mine").managed_by == "file"
    assert len(pricebook_rows(here)) == 2, "the price says the same, so it is no new one"


def pricebook_rows(here: Gateway) -> list[Price]:
    with Session(here.engine) as session:
        return list(session.scalars(select(Price).join(Model).where(Model.name == "mine")))


def test_what_names_people_is_written_only_where_that_is_asked_for(command: Run, here: Gateway) -> None:
    budgets.put(here.engine, ACTOR, scope="user", owner="admin", unit="usd", limit="3", period="day")
    assert "admin" not in command("export")[1]
    assert "user: admin" in command("export", "--people")[1]


def test_secret_values_stay_where_they_are(command: Run, file: Callable[..., str], here: Gateway) -> None:
    here.system_configs.create(ACTOR, {"key": "smtp", "value": SECRET, "is_secret": True})
    said = command("export")[1]
    assert (SECRET in said, "note: value `smtp` is a secret and was left out" in said) == (False, True)
    status, said = command("apply", file('values: [{key: smtp, value: "x"}]'))
    assert (status, "line 1: value `smtp` was made in the admin panel" in said) == (78, True)
    assert "`smtp` is a secret here" in command("apply", file('values: [{key: smtp, value: "x"}]'), "--adopt")[1]


def test_what_left_the_file_is_removed_only_when_asked_for_and_confirmed(
    command: Run, file: Callable[..., str], here: Gateway
) -> None:
    command("apply", file())
    less = WHOLE[: WHOLE.index("teams:")]
    status, said = command("plan", file(less))
    assert (status, "note: team `research` is no longer in the file; `--prune` removes it" in said) == (0, True)
    assert command("apply", file(less))[0] == 0
    assert one(here, Team, name="research") is not None
    status, said = command("apply", file("providers: []"), "--prune", typed="n\n")
    assert (status, one(here, Team, name="research") is None) == (1, False)
    status, said = command("apply", file("providers: []"), "--prune", typed="y\n")
    assert status == 0, said
    for kind in (Team, Limit, Route, Agent, SystemConfig):
        assert one(here, kind, managed_by="file") is None
    assert (one(here, Provider, name="acme"), one(here, Model, name="fast")) == (None, None)
    assert command("plan", file("providers: []"), "--prune") == (0, "nothing to change\n")


def test_only_what_was_confirmed_is_removed(here: Gateway, command: Run, file: Callable[..., str]) -> None:
    command("apply", file())
    path, wish = Path(file("providers: []")), configapply.Wish(prune=True, confirmed=frozenset({"agent clerk"}))
    with pytest.raises(ConfigFileError, match="team research would be removed too"):
        configapply.apply(here.engine, here.sealer, path, {}, ACTOR, wish)
    assert one(here, Agent, name="clerk") is not None


def test_a_provider_that_people_use_is_not_removed(
    command: Run, file: Callable[..., str], fresh: Flask, here: Gateway
) -> None:
    command("apply", file())
    add_model(fresh, one(here, Provider, name="acme").id, "theirs")
    status, said = command("apply", file("providers: []"), "--prune", "--yes")
    assert (status, "`acme` cannot be removed: model `theirs` is deployed there" in said) == (78, True)
    assert one(here, Team, name="research") is not None, "all or nothing"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("{team: research, unit: usd", "{team: nobody, unit: usd", "There is no team `nobody`"),
        ("{team: research, unit: usd", "{unit: usd", "name one of team, model, user, key"),
        ("limit: 12.5", "limit: 0.0000000001", "is too fine"),
        ("provider: acme, model: fast, timeout", "provider: acme, model: slow, timeout", "`slow` is not offered"),
        ("timeout: 5s", "timeout: soon", "`steps.0.timeout`"),
        ("temperature: 0.2", "temperature: warm", "`config`"),
        ("name: clerk", "name: default", "`default` is built in"),
        ("env:PROVIDER_ACME_API_KEY", "env:NOT_SET", "the variable `NOT_SET` is not set, and no key is stored"),
        ("unit: concurrent", "unit: concurrent, period: day", "Concurrent calls have the period"),
        ("{key: portal.keys,", "{key: portal keys,", "`key` has 1 to 100 letters"),
    ],
)
def test_mistakes_have_their_place_and_nothing_is_stored(
    command: Run, file: Callable[..., str], here: Gateway, old: str, new: str, problem: str
) -> None:
    line = WHOLE[: WHOLE.index(old)].count("\n") + 1
    status, said = command("apply", file(WHOLE.replace(old, new)))
    assert status == 78
    assert re.search(rf"line {line}: .*{re.escape(problem)}", said), said
    assert one(here, Provider, name="acme") is None


def test_a_plan_for_programs(command: Run, file: Callable[..., str]) -> None:
    command("apply", file())
    status, said = command("plan", file(WHOLE.replace("weight: 3", "weight: 4")), "--json")
    (change,) = json.loads(said)["changes"]
    assert (status, change["what"], change["kind"], change["name"]) == (2, "changed", "model", "fast")
    assert change["line"] == WHOLE[: WHOLE.index("name: fast")].count("\n") + 1
    assert [side["deployments"][0]["weight"] for side in (change["before"], change["after"])] == [3, 4]


def test_another_key_is_a_change_that_shows_neither(
    command: Run, file: Callable[..., str], make_app: Callable[..., Flask], database: str
) -> None:
    command("apply", file())
    other = make_app(database, **ENVIRONMENT | {"PROVIDER_ACME_API_KEY": "sk-another-0123456789"}).test_cli_runner()
    said = other.invoke(args=["config", "plan", file()]).output
    assert '    api_key: "env:PROVIDER_ACME_API_KEY" -> "another one"' in said
    assert (SECRET in said, "sk-another" in said) == (False, False)


def test_every_row_has_its_audit_entry(command: Run, file: Callable[..., str], here: Gateway) -> None:
    command("apply", file())
    with Session(here.engine) as session:
        found = list(session.scalars(select(AuditEntry).where(AuditEntry.actor == "operator").order_by(AuditEntry.id)))
    assert [entry.action for entry in found] == [
        *("provider_create", "model_create", "team_create", "limit_set", "limit_set"),
        *("rate_limit_set", "rate_limit_set", "route_create", "agent_create", "config_create", "config_apply"),
    ]
    assert SECRET not in str([entry.details for entry in found])


def test_a_row_of_the_file_changes_nowhere_else(command: Run, file: Callable[..., str], here: Gateway) -> None:
    command("apply", file())
    route = one(here, Route, path="/house/ask").uuid
    for change in (
        lambda: budgets.put(here.engine, ACTOR, scope="model", owner="fast", unit="tokens", limit="1", period="total"),
        lambda: limits.remove(here.engine, ACTOR, scope="team", owner="research", unit="requests", period="minute"),
        lambda: here.system_configs.change(ACTOR, "portal.keys", {"value": "yes"}),
        lambda: here.system_configs.remove(ACTOR, "portal.keys"),
        lambda: here.call_routes.update(ACTOR, route, {"name": "Other"}),
        lambda: here.call_routes.delete(ACTOR, route),
    ):
        with pytest.raises(InvalidRequest, match="comes from the configuration file"):
            change()
    assert command("plan", file()) == (0, "nothing to change\n")


def test_two_files_at_once_follow_each_other(here: Gateway, tmp_path: Path) -> None:
    barrier, failures = threading.Barrier(2), []

    def apply(amount: int) -> None:
        path = tmp_path / f"{amount}.yaml"
        path.write_text(WHOLE.replace("limit: 60", f"limit: {amount}"), encoding="utf-8")
        barrier.wait()
        try:
            configapply.apply(here.engine, here.sealer, path, ENVIRONMENT, ACTOR)
        except Exception as exc:  # noqa: BLE001 - told to the test
            failures.append(exc)

    threads = [threading.Thread(target=apply, args=(amount,)) for amount in (61, 62)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with Session(here.engine) as session:
        (limit,) = session.scalars(select(Limit).where(Limit.scope == "team"))
        assert limit.limit_amount in (61, 62)
        assert len(list(session.scalars(select(Team)))) == 1


def test_a_user_in_a_team_of_the_file_has_its_budget_at_once(
    command: Run, file: Callable[..., str], fresh: Flask, here: Gateway, upstream: Any
) -> None:
    add_model(fresh, add_provider(fresh, upstream), "open")
    client = fresh.test_client()
    assert client.post("/v1/chat/completions", json=chat(model="open"), headers=AUTH).status_code == 200
    text = "teams: [{name: all}]\nbudgets: [{team: all, unit: tokens, limit: 0}]\n"
    command("apply", file(text))
    with Session(here.engine) as session, session.begin():
        key = session.scalars(select(ApiKey).where(ApiKey.kind == "environment")).one()
        session.get_one(User, key.user_id).team_id = one(here, Team, name="all").id
    here.catalog.refresh()
    assert client.post("/v1/chat/completions", json=chat(model="open"), headers=AUTH).status_code == 402
    command("apply", file(text.replace("limit: 0", "limit: 100000")))
    here.catalog.refresh()
    assert client.post("/v1/chat/completions", json=chat(model="open"), headers=AUTH).status_code == 200


def test_the_commands_of_the_page_do_what_it_says(
    command: Run, file: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command("apply", file())
    monkeypatch.chdir(tmp_path)
    page = (settings.ROOT / "docs" / "gitops.md").read_text(encoding="utf-8")
    found = re.findall(r"^    flask config (.+)$", page, re.MULTILINE)
    assert [line.split()[0] for line in found] == ["export", "plan", "apply", "plan", "apply"]
    assert [command(*line.split())[0] for line in found] == [0] * len(found)
