"""A model name that several providers list: each has its own price there, or does not serve it."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Deployment, Price
from services import prices
from services.prices import find_entry
from tests.helpers import AUTH, add_provider, chat, last

OFFICIAL = "https://api.openai.com/v1"


@pytest.fixture
def known(monkeypatch, upstream):
    """The catalogue takes the fake provider for OpenAI."""
    monkeypatch.setattr(
        prices,
        "find_entry",
        lambda kind, base_url, model: find_entry(kind, OFFICIAL if base_url == upstream.base_url else base_url, model),
    )


@pytest.fixture
def offered(lite, upstream):
    """Let providers of these kinds, one after the other, list `gpt-4o`; gives their prices by name."""
    upstream.models = ["gpt-4o"]
    gateway = lite.extensions["gateway"]

    def ask(*kinds):
        numbers = [add_provider(lite, upstream, kind, kind=kind, discover=True) for kind in kinds]
        for number in [*numbers, *numbers]:
            assert gateway.discovery.ask(number) is None
        gateway.catalog.refresh()
        model = gateway.catalog.snapshot().models["gpt-4o"]
        return {deployment.upstream.name: deployment.price for deployment in model.deployments}

    return ask


def test_a_paid_provider_that_joins_a_free_one_has_its_own_price(known, offered):
    found = offered("ollama", "openai")
    assert found["ollama"].is_free
    assert found["openai"] == find_entry("openai", OFFICIAL, "gpt-4o").price
    assert found["openai"].output_rate > 0


def test_a_free_provider_that_joins_a_paid_one_is_free(known, offered):
    found = offered("openai", "ollama")
    assert found["ollama"].is_free
    assert found["openai"] == find_entry("openai", OFFICIAL, "gpt-4o").price


def test_a_provider_nobody_knows_the_price_of_does_not_join_at_anothers(lite, upstream, offered):
    assert offered("ollama", "openai").keys() == {"ollama"}
    response = lite.test_client().post("/v1/chat/completions", json=chat("hi", "gpt-4o"), headers=AUTH)
    assert response.status_code == 200
    assert last(lite.extensions["gateway"].engine).provider == "ollama"


def test_a_provider_with_a_price_that_joins_one_without_does_not_give_it_away(offered):
    found = offered("openai", "ollama")
    assert (found["openai"], found["ollama"].is_free) == (None, True)


def test_providers_without_a_price_join_each_other(lite, upstream, offered):
    add_provider(lite, upstream, "third", kind="openai", discover=True)
    found = offered("openai")
    lite.extensions["gateway"].discovery.ask_now()
    lite.extensions["gateway"].catalog.refresh()
    model = lite.extensions["gateway"].catalog.snapshot().models["gpt-4o"]
    assert found == {"openai": None}
    assert {deployment.upstream.name: deployment.price for deployment in model.deployments} == {
        "openai": None,
        "third": None,
    }


@pytest.mark.usefixtures("known")
def test_a_provider_that_no_longer_has_a_model_takes_its_own_price_along(app, upstream):
    upstream.models = ["gpt-4o"]
    here = app.extensions["gateway"]
    ollama, openai = (add_provider(app, upstream, kind, kind=kind, discover=True) for kind in ("ollama", "openai"))
    for number in (ollama, openai):
        assert here.discovery.ask(number) is None
    with Session(here.engine) as session:
        assert [row.deployment_id is None for row in session.scalars(select(Price)).all()[-2:]] == [True, False]
    upstream.models = ["gpt-4o-mini"]
    assert here.discovery.ask(openai) is None
    found = here.catalog.refresh().models["gpt-4o"].deployments
    assert [(one.upstream.name, one.price.is_free) for one in found] == [("ollama", True)]
    with Session(here.engine) as session:
        numbers = set(session.scalars(select(Deployment.id)))
        assert all(row.deployment_id in {None, *numbers} for row in session.scalars(select(Price)))


def test_what_goes_wrong_with_one_provider_keeps_nobody_from_the_others(lite, upstream, monkeypatch):
    upstream.models = ["gpt-x"]
    broken, _good = (add_provider(lite, upstream, name, discover=True) for name in ("broken", "good"))
    discovery = lite.extensions["gateway"].discovery
    ask = discovery.ask

    def fails(number):
        if number == broken:
            raise KeyError(number)
        return ask(number)

    monkeypatch.setattr(discovery, "ask", fails)
    monkeypatch.setattr(discovery, "_asked_s", -1e9)
    response = lite.test_client().post("/v1/chat/completions", json=chat("hi", "gpt-x"), headers=AUTH)
    assert response.status_code == 200
    assert discovery.ask_due(0) >= 2


def test_an_unknown_model_is_unknown_whatever_credentials_are_stored(lite, upstream):
    add_provider(lite, upstream, "bad", credential="sk-\u65e5\u672c", discover=True)
    response = lite.test_client().post("/v1/chat/completions", json=chat("hi", "nobody-has-it"), headers=AUTH)
    assert response.status_code in (400, 404)
