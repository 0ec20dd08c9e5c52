"""Cost maps of provider settings: exact prices of one account, live at once, shown back as they were given."""

from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEntry, Deployment, Model, Price, Provider
from services import audit, pricebook
from services.types import Price as Record
from tests.helpers import chat, last
from tests.management import SETTINGS, ask, make, refused
from utils import jsonx

SECRET = "sk-of-the-provider-0123456789"
CHAT = {"promptCostPerModel": {"gpt-4o-mini": 0.002}, "completionCostPerModel": {"gpt-4o-mini": 0.00405}}


@pytest.fixture
def served(database, make_app, upstream):
    return make_app(database, OPENAI_BASE_URL=upstream.base_url)


def create(app, **more):
    answer = ask(app, "PUT", SETTINGS, {"provider": "openai", "setting": {"apikey": SECRET}, "name": "main", **more})
    assert answer.status_code == 200, answer.text
    return answer.json


def patch(app, made, **members):
    answer = ask(app, "PATCH", f"{SETTINGS}/{made['id']}", members)
    assert answer.status_code == 200, answer.text
    return answer.json


def cost(app, made):
    """What a call costs now that can only go to that account: the row that was booked."""
    headers = {"Authorization": f"Bearer {make(app, settingId=made['id'])['key']}"}
    body = chat(model="gpt-4o-mini")
    answer = app.test_client().post("/v1/chat/completions", json=body, headers=headers, buffered=True)
    assert answer.status_code == 200, answer.text
    row = last(app.extensions["gateway"].engine)
    return row.price_source, row.input_rate, row.output_rate, row.cost_nanousd, row.input_tokens, row.output_tokens


def test_calls_cost_what_the_map_says_and_it_is_shown_back(served):
    made = create(served, costMap=CHAT)
    assert made["costMap"] == CHAT | {"embeddingsCostPerModel": {}}
    source, prompt, completion, paid, tokens_in, tokens_out = cost(served, made)
    assert (source, prompt, completion) == ("costMap", 2_000_000_000, 4_050_000_000)
    assert paid == (tokens_in * prompt + tokens_out * completion + 500_000) // 1_000_000 > 0
    changed = {"promptCostPerModel": {"gpt-4o-mini": 1}, "completionCostPerModel": {"gpt-4o-mini": 0}}
    assert patch(served, made, costMap=changed)["costMap"] == changed | {"embeddingsCostPerModel": {}}
    assert cost(served, made)[1:3] == (1_000_000_000_000, 0), "in this worker at once"
    assert patch(served, made, name="renamed")["costMap"]["promptCostPerModel"] == {"gpt-4o-mini": 1}
    [listed] = ask(served, "GET", SETTINGS).json
    assert listed["costMap"] == changed | {"embeddingsCostPerModel": {}}
    assert patch(served, made, costMap={})["costMap"] is None
    assert cost(served, made)[0] == "unpriced", "nobody says what it costs"
    with Session(served.extensions["gateway"].engine) as session:
        noted = [
            entry.details["after"].get("cost_map")
            for entry in session.scalars(select(AuditEntry))
            if "provider_" in entry.action
        ]
    assert noted[0] == {
        name: {"gpt-4o-mini": rate} for name, rate in zip(CHAT, (2_000_000_000, 4_050_000_000), strict=True)
    }


def test_a_map_holds_for_its_own_account_only_and_for_models_that_come_later(served, upstream):
    double = {name: {"gpt-4o-mini": 1} for name in CHAT}
    mapped, other = create(served, costMap=CHAT), create(served, name="other", costMap=double)
    assert cost(served, mapped)[:2] == ("costMap", 2_000_000_000)
    assert cost(served, other)[:2] == ("costMap", 1_000_000_000_000)
    patch(served, mapped, allowedModels=["nothing"])
    patch(served, mapped, allowedModels=["gpt-4o-mini"])
    assert cost(served, mapped)[0] == "costMap", "its deployment was made anew"


def test_a_price_that_people_set_afterwards_counts(served):
    made, here = create(served, costMap=CHAT), served.extensions["gateway"]
    pricebook.put(here.engine, audit.Actor("admin"), "gpt-4o-mini", Record(7, 8, source="test"), provider="main")
    here.discovery.ask_due(0)
    here.catalog.refresh()
    assert cost(served, made)[:3] == ("test", 7, 8)
    patch(served, made, name="main account", allowedModels=["gpt-4o-mini"])
    assert cost(served, made)[:3] == ("test", 7, 8), "no other change brings the cost map back"
    patch(served, made, costMap=CHAT)
    assert cost(served, made)[0] == "costMap", "until the next cost map"


def test_prices_of_the_configuration_file_stay(served):
    made, engine = create(served), served.extensions["gateway"].engine
    with Session(engine) as session, session.begin():
        place = session.scalars(select(Deployment).join(Model).join(Provider).where(Model.name == "gpt-4o-mini")).one()
        session.add(Price(model_id=place.model_id, deployment_id=place.id, input_rate=5, output_rate=6, source="file"))
    patch(served, made, costMap=CHAT)
    assert cost(served, made)[:3] == ("file", 5, 6)


def test_embeddings(served):
    made = create(served, costMap={"embeddingsCostPerModel": {"gpt-4o-mini": 0.0001}})
    assert cost(served, made)[:3] == ("costMap", 100_000_000, 0)


def test_numbers_are_exact(served):
    digits = "0.000000000001"
    body = b'{"provider": "openai", "setting": {"apikey": "%s"}, "costMap": {"embeddingsCostPerModel": {"e": %s}}}'
    answer = served.test_client().put(SETTINGS, data=body % (SECRET.encode(), digits.encode()))
    assert answer.status_code == 200, answer.text
    assert jsonx.exact(answer.data)["costMap"]["embeddingsCostPerModel"] == {"e": Decimal(digits)}
    answer = served.test_client().put(SETTINGS, data=body % (SECRET.encode(), b"1e-13"))
    refused(answer, 400, "/errors/validation")
    assert answer.json["errors"] == {"costMap.embeddingsCostPerModel.e": "may have 12 decimals"}


@pytest.mark.parametrize(
    ("given", "member"),
    [
        (7, ""),
        ("x", ""),
        ({"promptcostpermodel": {"a": 1}}, ".promptcostpermodel"),
        ({"promptCostPerModel": []}, ".promptCostPerModel"),
        ({"promptCostPerModel": {"": 1}}, ".promptCostPerModel"),
        ({"promptCostPerModel": {"a\x00": 1}}, ".promptCostPerModel"),
        ({"promptCostPerModel": {"a": "1"}}, ".promptCostPerModel.a"),
        ({"promptCostPerModel": {"a": True}}, ".promptCostPerModel.a"),
        ({"promptCostPerModel": {"a": -1}}, ".promptCostPerModel.a"),
        ({"promptCostPerModel": {"a": 1e300}}, ".promptCostPerModel.a"),
        ({"promptCostPerModel": {"a": 1}}, ".completionCostPerModel.a"),
        ({"completionCostPerModel": {"a": 1}}, ".promptCostPerModel.a"),
        ({"promptCostPerModel": {"a": 0}, "completionCostPerModel": {"a": 0}}, ".promptCostPerModel.a"),
        ({"embeddingsCostPerModel": {"a": 0}}, ".embeddingsCostPerModel.a"),
        (
            {name: {"a": 1} for name in ("promptCostPerModel", "completionCostPerModel", "embeddingsCostPerModel")},
            ".embeddingsCostPerModel.a",
        ),
        ({"embeddingsCostPerModel": {f"m{place}": 1 for place in range(201)}}, ".embeddingsCostPerModel"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(lite, given, member):
    answer = ask(lite, "PUT", SETTINGS, {"provider": "openai", "setting": {"apikey": SECRET}, "costMap": given})
    refused(answer, 400, "/errors/validation")
    assert list(answer.json["errors"]) == [f"costMap{member}"]
    assert ask(lite, "GET", SETTINGS).json == []
