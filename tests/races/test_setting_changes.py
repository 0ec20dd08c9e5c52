"""Clients and discovery, which change a provider setting at the same moment: nothing that was said is lost.

The prices in force are those of the cost map that is shown, one row for each deployment.
"""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEntry, Deployment, Price, Provider
from services import audit, costmaps, modelbook, prices
from tests.management import SETTINGS, ask
from tests.races.conftest import SOAK, crowd
from tests.routes.test_cost_maps import SECRET, create, patch

ROUNDS = 40 if SOAK else 4
MODEL, OTHER = "gpt-4o-mini", "gpt-4o"
ME = audit.Actor("tests")


@pytest.fixture
def served(database, make_app, upstream):
    return make_app(database, OPENAI_BASE_URL=upstream.base_url)


@pytest.fixture
def here(served):
    return served.extensions["gateway"]


def cost_map(usd, *models):
    return {name: dict.fromkeys(models or (MODEL,), usd) for name in ("promptCostPerModel", "completionCostPerModel")}


def row_of(session, made):
    return session.scalars(select(Provider).where(Provider.uuid == made["id"])).one()


def agreed(here, made):
    """The rates of the cost map by model, which are also the only prices of that origin that are valid."""
    now = prices.now()
    with Session(here.engine) as session:
        row = row_of(session, made)
        found = {}
        for one in session.scalars(select(Deployment).where(Deployment.provider_id == row.id)):
            rows = session.scalars(select(Price).where(Price.deployment_id == one.id)).all()
            valid = [price for price in rows if price.valid_until_at is None and price.source == costmaps.SOURCE]
            wanted = costmaps.price_of(row.settings, one.upstream_model)
            assert [prices.record_of(price) for price in valid] == ([] if wanted is None else [wanted])
            if valid:
                assert prices.in_force(rows, one.id, now) is valid[0]
                found[one.upstream_model] = valid[0].input_rate / costmaps.PER_1K
        return found


def test_of_cost_maps_given_at_once_the_one_that_is_shown_is_the_price(served, here):
    made = create(served)
    for turn in range(ROUNDS):
        usd = [turn * 8 + number + 1 for number in range(8)]
        answers = crowd(8, usd, lambda amount: patch(served, made, costMap=cost_map(amount)))
        assert {answer["costMap"]["promptCostPerModel"][MODEL] for answer in answers} == set(usd), "each its own"
        shown = ask(served, "GET", SETTINGS).json[0]["costMap"]["promptCostPerModel"][MODEL]
        assert agreed(here, made) == {MODEL: shown}
    with Session(here.engine) as session:
        noted = session.scalars(select(AuditEntry).where(AuditEntry.action == "provider_update")).all()
    assert len(noted) == 8 * ROUNDS
    assert noted[-1].details["after"]["cost_map"][costmaps.PROMPT] == {MODEL: shown * costmaps.PER_1K}, (
        "the last one that is noted is the last one that was stored"
    )


def test_changes_of_different_members_at_once_are_all_there(served, here):
    made = create(served)
    for turn in range(ROUNDS):
        wanted = [
            {"name": f"name {turn}"},
            {"allowedModels": [MODEL, OTHER, f"{turn}"]},
            {"costMap": cost_map(turn + 1, MODEL, OTHER)},
            {"setting": {"apikey": f"{SECRET}-{turn}"}},
        ]
        crowd(4, wanted, lambda members: patch(served, made, **members))
        [shown] = ask(served, "GET", SETTINGS).json
        assert (shown["name"], shown["allowedModels"]) == (f"name {turn}", [MODEL, OTHER, f"{turn}"])
        assert agreed(here, made) == {MODEL: turn + 1, OTHER: turn + 1}
        with Session(here.engine) as session:
            assert here.sealer.open(row_of(session, made).credential) == f"{SECRET}-{turn}"


def test_models_that_come_and_go_meanwhile_cost_what_is_shown(served, here):
    made = create(served, costMap=cost_map(1, MODEL, OTHER))
    for turn in range(ROUNDS):
        wanted = [
            {"allowedModels": [MODEL]},
            {"costMap": cost_map(turn + 2, MODEL, OTHER)},
            {"allowedModels": [MODEL, OTHER]},
            {"costMap": cost_map(turn + 102, MODEL, OTHER)},
        ]
        crowd(4, wanted, lambda members: patch(served, made, **members))
        [shown] = ask(served, "GET", SETTINGS).json
        usd = shown["costMap"]["promptCostPerModel"][MODEL]
        assert agreed(here, made) == dict.fromkeys(shown["allowedModels"], usd)


def test_settings_that_are_made_at_once_find_the_same_models(served, here):
    made = crowd(4, range(4), lambda number: create(served, name=f"s{number}", costMap=cost_map(number + 1)))
    assert sorted(agreed(here, one)[MODEL] for one in made) == [1, 2, 3, 4]


def test_a_stored_cost_map_is_a_price_though_everything_ends_right_after(served, here, monkeypatch):
    made = create(served)

    def ends(_number):
        raise KeyboardInterrupt

    monkeypatch.setattr(here.discovery, "ask", ends)
    with pytest.raises(KeyboardInterrupt):
        here.provider_settings.update(ME, made["id"], {"costMap": cost_map(3)})
    assert agreed(here, made) == {MODEL: 3}


def test_models_that_are_found_cost_what_is_stored_when_they_are_offered(served, here, monkeypatch):
    """The setting is changed while its provider thinks about the list."""
    made = create(served, costMap=cost_map(1), allowedModels=["nothing"])
    with Session(here.engine) as session, session.begin():
        row = row_of(session, made)
        number, row.settings = row.id, row.settings | {"allowed_models": [MODEL, OTHER]}
    find, listed = here.discovery.ask, here.discovery._listed

    def meanwhile(row):
        patch(served, made, costMap=cost_map(2), allowedModels=[MODEL])
        return listed(row)

    monkeypatch.setattr(here.discovery, "ask", lambda _number: None)
    monkeypatch.setattr(here.discovery, "_listed", meanwhile)
    assert find(number) is None
    assert agreed(here, made) == {MODEL: 2}
    with Session(here.engine) as session:
        mine = session.scalars(select(Deployment.upstream_model).where(Deployment.provider_id == number)).all()
    assert mine == [MODEL], "the other one is not allowed any more"


def test_a_setting_that_is_removed_while_it_is_asked_brings_nothing(served, here, monkeypatch):
    made = create(served)
    with Session(here.engine) as session:
        number = row_of(session, made).id
    listed = here.discovery._listed

    def meanwhile(row):
        with Session(here.engine) as session, session.begin():
            modelbook.remove_provider(session, number)
        return listed(row)

    monkeypatch.setattr(here.discovery, "_listed", meanwhile)
    assert here.discovery.ask(number) is None
    with Session(here.engine) as session:
        assert session.scalars(select(Deployment).where(Deployment.provider_id == number)).all() == []


def test_a_price_of_a_host_whose_clock_is_ahead_does_not_outlive_the_next_map(served, here, monkeypatch):
    made, now = create(served, costMap=cost_map(4)), prices.now()
    for wanted in (cost_map(6), {}):
        with monkeypatch.context() as ahead:
            ahead.setattr(prices, "now", lambda: now + timedelta(hours=1))
            patch(served, made, costMap=cost_map(5))
        patch(served, made, costMap=wanted)
        assert agreed(here, made) == ({MODEL: 6} if wanted else {})


def test_a_setting_that_is_removed_while_it_is_changed_is_gone_with_its_prices(served, here):
    for turn in range(ROUNDS):
        made = create(served, name=f"n{turn}", costMap=cost_map(1, MODEL, OTHER))
        with Session(here.engine) as session:
            number = row_of(session, made).id

        def work(usd, made=made, number=number):
            if usd:
                return ask(served, "PATCH", f"{SETTINGS}/{made['id']}", {"costMap": cost_map(usd, MODEL, OTHER)})
            with Session(here.engine) as session, session.begin():
                return modelbook.remove_provider(session, number)

        answers = [answer for answer in crowd(4, range(4), work) if answer is not None]
        assert {answer.status_code for answer in answers} <= {200, 404}, [answer.text for answer in answers]
        with Session(here.engine) as session:
            assert session.scalars(select(Deployment).where(Deployment.provider_id == number)).all() == []
            assert session.scalars(select(Price).where(Price.source == costmaps.SOURCE)).all() == []
