"""Prices change by new rows: the past stays, the future comes by itself, booked calls keep what they were charged."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEntry, Deployment, Model
from models import Price as PriceRow
from services import estimates, pricebook, prices, pricewords
from services.audit import Actor
from services.errors import GatewayError, InvalidRequest, ModelNotPriced, NotFound
from services.pricebook import Line, PriceFileError
from services.types import Price
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, chat, last, rows, with_upstream
from utils import clock, jsonx

ACTOR = Actor("tests")
DEAR = Price(10**9, 2 * 10**9, source="operator")


@pytest.fixture
def set_price(app):
    def of(price=DEAR, model="fast", **more):
        return pricebook.put(app.extensions["gateway"].engine, ACTOR, model, price, **more)

    return of


@pytest.fixture
def call(app, upstream):
    """A call in a worker that has just looked; gives what it cost."""

    def of(model="fast", status=200):
        app.extensions["gateway"].catalog.refresh()
        answer = app.test_client().post("/v1/chat/completions", json=chat(model=model), headers=AUTH)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return last(app.extensions["gateway"].engine).cost_nanousd if status == 200 else answer.get_json()["error"]

    return of


@pytest.fixture
def clock_moves(monkeypatch):
    """Let the wall clock go ahead."""

    def by(**span):
        ahead = timedelta(**span).total_seconds()
        now_s, now_ms = clock.now_s, clock.now_ms
        monkeypatch.setattr(clock, "now_s", lambda: now_s() + ahead)
        monkeypatch.setattr(clock, "now_ms", lambda: now_ms() + round(ahead * 1000))

    return by


def stored(session, model="fast"):
    session.rollback()
    session.expire_all()
    query = select(PriceRow).join(Model).where(Model.name == model).order_by(PriceRow.id)
    return list(session.scalars(query))


def test_a_new_price_counts_from_now_on_and_the_old_call_keeps_its_own(app, upstream, session, set_price, call):
    with_upstream(app, upstream)
    upstream.default.usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    assert call() == 1000 * 150 + 100 * 600
    before = rows(app.extensions["gateway"].engine)[0]
    change = set_price()
    assert str(change).startswith("fast: input $0.15, output $0.60 [test] -> input $1.00, output $2.00 [operator]")
    assert call() == 1000 * 1000 + 100 * 2000
    first, second = rows(app.extensions["gateway"].engine)
    assert (first.cost_nanousd, first.input_rate, first.charge_lines) == (
        before.cost_nanousd, 150_000_000, '[["input",1000,150000000],["output",100,600000000]]',
    )  # fmt: skip
    assert (second.input_rate, second.price_source) == (10**9, "operator")
    old, new = stored(session)
    assert (old.input_rate, old.valid_until_at) == (150_000_000, new.valid_from_at)
    assert set_price() is None, "it costs that already"
    assert len(stored(session)) == 2
    (entry,) = session.scalars(select(AuditEntry).where(AuditEntry.action == "price_set"))
    assert (entry.actor, entry.details["name"], entry.details["after"]) == (
        "tests", "fast", "input $1.00, output $2.00 [operator]",
    )  # fmt: skip
    assert_books_agree(app.extensions["gateway"].engine)


def test_every_kind_is_charged_and_explained_from_the_answer_to_the_row(app, upstream, set_price, call):
    with_upstream(app, upstream)
    upstream.default.usage = {
        "prompt_tokens": 300_000,
        "completion_tokens": 100,
        "prompt_tokens_details": {"cached_tokens": 200_000, "audio_tokens": 50},
        "completion_tokens_details": {"reasoning_tokens": 40, "audio_tokens": 10},
    }
    price = Price(10**9, 10**9, 10**8, None, None, 3 * 10**9, 4 * 10**9, 5 * 10**9, 7, source="operator")
    set_price(pricewords.add_tiers(price, pricewords.read_tiers("272000: input=2 cached_input=0.2")))
    cost = call()
    row = last(app.extensions["gateway"].engine)
    lines = jsonx.loads(row.charge_lines)
    assert lines == [
        ["cached_input", 200_000, 2 * 10**8], ["input_audio", 50, 3 * 10**9], ["input", 99_950, 2 * 10**9],
        ["output_audio", 10, 4 * 10**9], ["reasoning", 40, 5 * 10**9], ["output", 50, 10**9], ["request", 1, 7],
    ]  # fmt: skip
    assert cost == sum(units * rate for _, units, rate in lines[:-1]) // 10**6 + 7
    assert (row.input_rate, row.cache_read_rate) == (2 * 10**9, 2 * 10**8), "of the tier that applied"
    assert (row.input_audio_tokens, row.output_audio_tokens) == (50, 10)
    assert_books_agree(app.extensions["gateway"].engine)


def test_a_price_with_a_date_comes_into_force_by_itself(app, upstream, session, set_price, call, clock_moves):
    with_upstream(app, upstream)
    upstream.default.usage = {"prompt_tokens": 1000, "completion_tokens": 0}
    set_price(valid_from=datetime.now(UTC) + timedelta(days=2))
    assert set_price(valid_from=stored(session)[-1].valid_from_at) is None
    catalog = app.extensions["gateway"].catalog
    assert call() == 150_000
    snapshot = catalog.snapshot()
    clock_moves(days=1)
    assert call() == 150_000
    assert catalog.refresh() is snapshot, "nothing changed yet, nothing is read again"
    clock_moves(days=1, seconds=1)
    assert call() == 1_000_000
    assert [row.valid_until_at for row in stored(session)] == [None, None]
    assert catalog.refresh().ends_s == float("inf")


def test_a_price_that_was_ended_leaves_the_model_unpriced(make_app, database, upstream):
    app = make_app(database, UNPRICED_POLICY="refuse")
    with_upstream(app, upstream)
    here = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        prices.supersede(session.scalars(select(Model).where(Model.name == "fast")).one(), {}, prices.now())
    here.catalog.refresh()
    answer = app.test_client().post("/v1/chat/completions", json=chat(), headers=AUTH)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (402, "model_not_priced")
    assert pricebook.differences(here.engine, lambda *_: DEAR, lambda _: True) == [], "people ended it"


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"model": "slow"}, NotFound, "There is no model `slow`"),
        ({"provider": "nobody"}, NotFound, "not deployed at `nobody`"),
        ({"price": Price(0, 0, source="operator")}, InvalidRequest, "mark the model as free"),
        ({"valid_from": datetime(2020, 1, 1, tzinfo=UTC)}, InvalidRequest, "2020-01-01 00:00:00 UTC has passed"),
    ],
)
def test_a_price_that_cannot_be_set_is_not(app, session, set_price, more, error, said):
    add_model(app, add_provider(app, "http://127.0.0.1:1/v1"))
    with pytest.raises(error, match=said):
        set_price(**more)
    assert len(stored(session)) == 1


def test_one_deployment_may_have_a_price_of_its_own(app, upstream, session, set_price):
    model_id = add_model(app, add_provider(app, upstream))
    other = add_provider(app, upstream, "other")
    session.add(Deployment(model_id=model_id, provider_id=other, upstream_model="gpt-4o-mini"))
    session.add(Deployment(model_id=model_id, provider_id=other, upstream_model="gpt-4o"))
    session.commit()
    with pytest.raises(NotFound, match="deployed more than once at `other`"):
        set_price(provider="other")
    assert str(set_price(provider="fake")).startswith("fast (fake/gpt-4o-mini): input $0.15")
    found = app.extensions["gateway"].catalog.refresh().models["fast"].deployments
    assert [deployment.price.input_rate for deployment in found] == [10**9, 150_000_000, 150_000_000]
    set_price(Price(5, 5, source="operator"))
    found = app.extensions["gateway"].catalog.refresh().models["fast"].deployments
    assert [deployment.price.input_rate for deployment in found] == [10**9, 5, 5], "its own goes before its model's"


def test_a_price_that_stands_in_the_configuration_file_is_changed_there(app, upstream, session, set_price):
    with_upstream(app, upstream)
    stored(session)[0].source = "file"
    session.commit()
    for more in ({}, {"provider": "fake"}, {"valid_from": datetime.now(UTC) + timedelta(days=1)}):
        with pytest.raises(InvalidRequest, match="change it there"):
            set_price(**more)
    assert len(stored(session)) == 1


# A catalogue that has something new.


@pytest.fixture
def served(app, upstream):
    """Models with a price of the catalogue, of people, of none, and one that was imported."""
    provider = add_provider(app, upstream)
    for name, price in {
        "looked": {"input_rate": 1, "output_rate": 1}, "said": {"input_rate": 2, "output_rate": 2}, "unknown": None,
        "imported": {"input_rate": 3, "output_rate": 3},
    }.items():  # fmt: skip
        add_model(app, provider, name, price=price, upstream_model=f"up-{name}")
    sources = {"looked": "genai-prices 0.0.1", "said": "admin", "imported": "litellm x.json"}
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        for row in session.scalars(select(PriceRow).join(Model).where(Model.name.in_(sources))):
            row.source = sources[row.model.name]
    return app.extensions["gateway"].engine


def find(provider, model):
    return Price(9, 9, source="genai-prices 9") if provider.name == "fake" and model.startswith("up-") else None


def looked_up(price):
    return prices.is_catalogue(price.source)


def test_what_people_set_is_never_touched_by_the_catalogue(served, session):
    found = pricebook.differences(served, find, looked_up)
    assert [(change.model, change.where) for change in found] == [
        ("looked", "fake/up-looked"), ("unknown", "fake/up-unknown"),
    ]  # fmt: skip
    assert len(stored(session, "looked")) == 1, "looking changes nothing"
    assert pricebook.adopt(served, ACTOR, find, looked_up, action="price_refresh") == found
    old, new = stored(session, "looked")
    assert (old.valid_until_at, new.deployment_id, new.input_rate) == (new.valid_from_at, None, 9)
    assert [row.input_rate for row in stored(session, "unknown")] == [9]
    assert [row.input_rate for row in stored(session, "said")] == [2]
    assert [row.input_rate for row in stored(session, "imported")] == [3]
    assert pricebook.differences(served, find, looked_up) == []
    entries = session.scalars(select(AuditEntry).where(AuditEntry.action == "price_refresh")).all()
    assert [entry.details["deployment"] for entry in entries] == ["fake/up-looked", "fake/up-unknown"]


def test_an_imported_catalogue_also_replaces_an_imported_price(served):
    assert [c.model for c in pricebook.differences(served, find, pricebook.is_listed)] == [
        "imported", "looked", "unknown",
    ]  # fmt: skip


def test_what_the_catalogue_no_longer_knows_keeps_its_price(served, session):
    (change,) = pricebook.differences(served, lambda *_: None, looked_up)
    assert str(change).startswith("looked (fake/up-looked): no longer in the catalogue, keeps input $0.000000001")
    assert pricebook.adopt(served, ACTOR, lambda *_: None, looked_up, action="price_refresh") == []
    assert [row.valid_until_at for row in stored(session, "looked")] == [None]


# Files that name our models.


def test_a_file_is_stored_whole_or_not_at_all(served, session):
    lines = [Line(2, "said", DEAR), Line(3, "gone", DEAR), Line(4, "looked", DEAR, "nobody")]
    with pytest.raises(PriceFileError) as caught:
        pricebook.store(served, ACTOR, lines)
    assert caught.value.problems == (
        "line 3: There is no model `gone`.", "line 4: `looked` is not deployed at `nobody`.",
    )  # fmt: skip
    assert [row.input_rate for row in stored(session, "said")] == [2]
    later = prices.now() + timedelta(days=1)
    good = [Line(2, "said", DEAR), Line(3, "said", Price(7, 7, source="csv"), "fake", later), Line(4, "unknown", DEAR)]
    dry = pricebook.store(served, ACTOR, good, dry_run=True)
    assert len(stored(session, "said")) == 1
    assert pricebook.store(served, ACTOR, good) == dry
    assert [change.model for change in dry] == ["said", "said", "unknown"]
    assert [row.input_rate for row in stored(session, "said")] == [2, 10**9, 7]
    assert pricebook.store(served, ACTOR, good) == [], "twice is once"
    assert f"from {later:%Y-%m-%d}" in str(dry[1])


def test_the_book_in_lines_of_text(served, set_price):
    lines = list(pricebook.lines(served))
    assert "said (fake/up-said): input $0.000000002, output $0.000000002 [admin]" in lines
    assert "unknown (fake/up-unknown): unknown" in lines
    set_price(model="said", valid_from=prices.now() + timedelta(days=1))
    set_price(Price(2_500_000_000, 1, source="operator"), model="said", provider="fake")
    said = list(pricebook.lines(served, "said"))
    assert said[1] == "  input: $2.50 per million tokens, $0.0025 per 1k"
    assert said[3] == "History:"
    assert said[4].endswith("input $0.000000002, output $0.000000002 [admin]")
    assert "(fake/up-said): input $2.50" in said[5]
    assert " (to come): input $1.00" in said[6]
    with pytest.raises(NotFound):
        list(pricebook.lines(served, "gone"))


# What a call would cost.


def test_an_estimate_is_exact(app, upstream):
    with_upstream(app, upstream)
    catalog = app.extensions["gateway"].catalog
    found = estimates.estimate(catalog, "fast", 1001, 333)
    assert found == {
        "model_name": "fast", "prompt_tokens": 1001, "completion_tokens": 333,
        "prompt_cost": exactly(1001 * 150), "completion_cost": exactly(333 * 600),
        "total_cost": exactly(1001 * 150 + 333 * 600),
    }  # fmt: skip
    assert {name: str(value.normalize()) for name, value in estimates.unit_prices(catalog, "fast").items()} == {
        "prompt_per_1k": "0.00015", "completion_per_1k": "0.0006",
        "prompt_per_million": "0.15", "completion_per_million": "0.6",
    }  # fmt: skip


def exactly(nanousd):
    return Decimal(nanousd) / 10**9


def test_an_estimate_has_the_price_of_each_request_and_of_the_dearest_equal(app, upstream, session, set_price):
    model_id = add_model(app, add_provider(app, upstream))
    session.add(Deployment(model_id=model_id, provider_id=add_provider(app, upstream, "other"), upstream_model="x"))
    session.commit()
    set_price(Price(1_000, 10**9, request_nanousd=5, source="operator"), provider="other")
    app.extensions["gateway"].catalog.refresh()
    found = estimates.estimate(app.extensions["gateway"].catalog, "fast", 1, 1)
    assert (found["prompt_cost"], found["completion_cost"], found["total_cost"]) == (
        exactly(1) / 1000, exactly(1000), exactly(1) / 1000 + exactly(1005),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "tokens", "error"),
    [
        ("gone", (1, 1), NotFound),
        ("unpriced", (1, 1), ModelNotPriced),
        ("echo", (-1, 1), InvalidRequest),
        ("echo", (1, 2**40), InvalidRequest),
    ],
)
def test_what_cannot_be_estimated_is_said(app, upstream, model, tokens, error):
    add_model(app, add_provider(app, upstream), "unpriced", price=None)
    with pytest.raises(GatewayError) as caught:
        estimates.estimate(app.extensions["gateway"].catalog, model, *tokens)
    assert type(caught.value) is error
    assert estimates.estimate(app.extensions["gateway"].catalog, "echo", 9, 9)["total_cost"] == 0
