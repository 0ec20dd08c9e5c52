"""Storing a configuration file: all or nothing, twice is once, and what people made is left alone."""

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, text

from models import AuditEntry, Model, Price, Provider
from services import configapply, pricebook
from services.audit import Actor
from services.configfile import ConfigFileError
from services.credentials import Sealer
from services.types import Price as PriceRecord
from tests.helpers import AUTH, add_model, add_provider, chat

FILE = """
providers:
  - {name: main, kind: openai, base_url: "https://api.openai.com/v1", api_key: "${KEY}"}
  - {name: house, kind: ollama, base_url: "http://127.0.0.1:11434"}
models:
  - name: fast
    deployments:
      - {provider: main, model: gpt-4o-mini, priority: 1, weight: 3}
      - {provider: house, model: llama3.2, priority: 2}
    fallbacks: [spare, nobody]
    max_output_tokens: 100
  - name: spare
    deployments: [{provider: main, model: our-own}]
    price: {input_per_million: 0.15, output_per_million: "0.6", cached_input_per_million: 0.075}
  - {name: gratis, deployments: [{provider: main, model: x}], price: {free: true}}
"""


@pytest.fixture
def apply(app, tmp_path):
    here = app.extensions["gateway"]

    def of(text=FILE, sealer=None, **environ):
        path = tmp_path / "house.yaml"
        path.write_text(text, encoding="utf-8")
        return configapply.apply(here.engine, sealer or here.sealer, path, {"KEY": "sk-1"} | environ, Actor("tests"))

    return of


@pytest.fixture
def version(session):
    def now():
        session.rollback()
        return session.execute(text("SELECT version FROM catalog_version")).scalar_one()

    return now


def stored(session, kind, name):
    session.rollback()
    session.expire_all()
    return session.scalar(select(kind).where(kind.name == name))


def entries(session):
    session.rollback()
    return list(session.scalars(select(AuditEntry).where(AuditEntry.action == "config_apply").order_by(AuditEntry.id)))


def test_fallbacks_for_a_reason_that_do_not_exist_are_noted_too(apply):
    routing = "    routing: {context_fallbacks: [longer], content_fallbacks: [milder]}\n"
    changes = apply(FILE.replace("    max_output_tokens: 100\n", routing))
    assert [note.split("`")[3] for note in changes.notes] == ["nobody", "longer", "milder"]


def test_a_file_becomes_rows(app, apply, session):
    changes = apply()
    assert sorted(changes.added) == ["model fast", "model gratis", "model spare", "provider house", "provider main"]
    assert (changes.changed, changes.switched_off) == ([], [])
    assert changes.notes == ["model `fast` names the fallback `nobody`, which does not exist"]
    main, fast, spare = (
        stored(session, Provider, "main"),
        stored(session, Model, "fast"),
        stored(session, Model, "spare"),
    )
    assert app.extensions["gateway"].sealer.open(main.credential) == "sk-1"
    assert (main.managed_by, main.discover, stored(session, Provider, "house").discover) == ("file", False, True)
    assert [(d.upstream_model, d.priority, d.weight) for d in fast.deployments] == [
        ("gpt-4o-mini", 1, 3),
        ("llama3.2", 2, 1),
    ]
    assert (fast.max_output_tokens, fast.fallbacks) == (100, ["spare", "nobody"])
    (price,) = spare.prices
    assert (price.input_rate, price.output_rate, price.cache_read_rate) == (150_000_000, 600_000_000, 75_000_000)
    assert (price.cache_creation_rate, price.source, price.is_free) == (None, "file", False)
    assert [price.is_free for price in stored(session, Model, "gratis").prices] == [True]
    assert [(entry.actor, entry.resource_id, sorted(entry.details)) for entry in entries(session)] == [
        ("tests", "house.yaml", ["added", "changed", "removed", "switched_off"])
    ]
    assert "sk-1" not in str(entries(session)[0].details)


def test_without_a_price_the_catalogue_is_asked_for_each_deployment(apply, session):
    apply()
    fast = stored(session, Model, "fast")
    by_model = {d.upstream_model: d.id for d in fast.deployments}
    prices = {price.deployment_id: price for price in fast.prices}
    assert prices.keys() == set(by_model.values())
    assert prices[by_model["gpt-4o-mini"]].source.startswith("genai-prices")
    assert prices[by_model["gpt-4o-mini"]].input_rate > 0
    assert prices[by_model["llama3.2"]].is_free
    assert fast.context_window is None, "nobody knows what llama3.2 takes, and the call may go there"
    apply(FILE.replace("      - {provider: house, model: llama3.2, priority: 2}\n", ""))
    assert stored(session, Model, "fast").context_window == 128_000


@pytest.mark.parametrize(
    ("models", "window"),
    [
        pytest.param(["gpt-3.5-turbo", "gpt-4.1"], 1_000_000, id="the widest"),
        pytest.param(["gpt-4.1", "gpt-3.5-turbo"], 1_000_000, id="whatever the order"),
        pytest.param(["gpt-4.1", "our-own"], None, id="one is unknown"),
        pytest.param(["our-own"], None, id="all are unknown"),
    ],
)
def test_the_window_is_the_widest_a_call_may_meet(apply, session, models, window):
    apply(
        """
providers: [{name: main, kind: openai, base_url: "https://api.openai.com/v1", api_key: "${KEY}"}]
models:
  - name: mixed
    price: {free: true}
    deployments:
"""
        + "".join(f"      - {{provider: main, model: {model}}}\n" for model in models)
    )
    assert stored(session, Model, "mixed").context_window == window


def test_applying_twice_changes_nothing(apply, session, version):
    apply()
    before = version(), [(row.id, row.valid_from_at) for row in session.scalars(select(Price))]
    changes = apply()
    assert (changes.added, changes.changed, changes.switched_off) == ([], [], [])
    assert (version(), [(row.id, row.valid_from_at) for row in session.scalars(select(Price))]) == before
    assert len(entries(session)) == 1


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("${KEY}", "sk-2", ["provider main"]),
        ("127.0.0.1:11434", "127.0.0.1:11435", ["provider house"]),
        ("weight: 3", "weight: 4", ["model fast"]),
        ("0.15", "0.16", ["model spare"]),
        ("price: {free: true}", "price: {input_per_million: 1, output_per_million: 1}", ["model gratis"]),
        ("[spare, nobody]", "[spare]", ["model fast"]),
        ("      - {provider: house, model: llama3.2, priority: 2}\n", "", ["model fast"]),
        ("model: our-own", "model: our-other", ["model spare"]),
    ],
)
def test_what_changed_in_the_file_changes_and_nothing_else(apply, session, version, old, new, changed):
    apply()
    before = version()
    changes = apply(FILE.replace(old, new))
    assert (changes.added, changes.changed, changes.switched_off) == ([], changed, [])
    assert version() > before, "workers are told"
    assert entries(session)[-1].details["changed"] == changed
    assert apply(FILE.replace(old, new)).changed == []


def test_what_left_the_file_is_switched_off_and_comes_back(apply, session):
    apply()
    shorter = FILE.replace("  - {name: house", "#").partition("\n      - {provider: house")[0]
    changes = apply(shorter)
    assert sorted(changes.switched_off) == ["model gratis", "model spare", "provider house"]
    assert not stored(session, Model, "spare").is_enabled
    changes = apply()
    assert sorted(changes.changed) == ["model fast", "model gratis", "model spare", "provider house"]
    assert stored(session, Model, "spare").is_enabled


def test_a_file_may_switch_off_by_itself(apply, session):
    text = FILE.replace("price: {free: true}", "price: {free: true}, enabled: false")
    apply(text)
    assert not stored(session, Model, "gratis").is_enabled


def test_names_that_people_took_are_not_touched(app, apply, session, upstream):
    add_model(app, add_provider(app, upstream, "main"), "spare")
    with pytest.raises(ConfigFileError) as caught:
        apply()
    assert caught.value.problems == [
        "line 3: provider `main` was made in the admin panel; rename one of the two, or adopt it",
        "line 12: model `spare` was made in the admin panel; rename one of the two, or adopt it",
    ]
    assert stored(session, Model, "fast") is None, "all or nothing"
    assert stored(session, Provider, "main").managed_by == "admin"
    assert entries(session) == []


@pytest.mark.parametrize("manager", ["discovery", "environment"])
def test_a_model_that_was_only_found_becomes_the_files(app, apply, session, upstream, manager):
    add_model(app, add_provider(app, upstream), "spare", managed_by=manager)
    apply()
    spare = stored(session, Model, "spare")
    assert spare.managed_by == "file"
    assert [deployment.upstream_model for deployment in spare.deployments] == ["our-own"]


def test_a_deployment_needs_a_provider_there_is(apply, session):
    with pytest.raises(ConfigFileError) as caught:
        apply(FILE.replace("{provider: house", "{provider: shed"))
    assert caught.value.problems == ["line 9: model `fast` is deployed at `shed`, and there is no such provider"]
    assert stored(session, Provider, "main") is None


def test_providers_of_the_database_may_be_named(app, apply, upstream):
    add_provider(app, upstream, "fake")
    apply("models: [{name: mine, deployments: [{provider: fake, model: x}], price: {free: true}}]")
    app.extensions["gateway"].catalog.refresh()
    assert app.test_client().post("/v1/chat/completions", json=chat(model="mine"), headers=AUTH).status_code == 200


def test_a_credential_that_no_key_opens_is_sealed_anew(app, apply, session):
    apply(sealer=Sealer((Fernet.generate_key().decode(),)))
    assert apply().changed == ["provider main"]
    assert app.extensions["gateway"].sealer.open(stored(session, Provider, "main").credential) == "sk-1"
    assert apply(FILE.replace(', api_key: "${KEY}"', "")).changed == ["provider main"]
    assert stored(session, Provider, "main").credential is None


def prices_of(session, name):
    return [(row.source, row.input_rate, row.valid_until_at is None) for row in stored(session, Model, name).prices]


def test_another_price_in_the_file_is_a_new_row_and_the_old_one_stays(apply, session):
    apply()
    apply(FILE.replace("0.15", "0.16"))
    assert prices_of(session, "spare") == [("file", 150_000_000, False), ("file", 160_000_000, True)]
    old, new = stored(session, Model, "spare").prices
    assert old.valid_until_at == new.valid_from_at
    apply()
    assert prices_of(session, "spare") == [
        ("file", 150_000_000, False), ("file", 160_000_000, False), ("file", 150_000_000, True),
    ]  # fmt: skip


def test_a_price_that_leaves_the_file_gives_way_to_the_catalogue(apply, session):
    text = FILE.replace("model: our-own}", "model: gpt-4o-mini}")
    apply(text)
    changes = apply(text.replace("    price: {input_per_million: 0.15", "    #"))
    assert changes.changed == ["model spare"]
    (ended, looked_up) = stored(session, Model, "spare").prices
    assert (ended.source, ended.valid_until_at) == ("file", looked_up.valid_from_at)
    assert (looked_up.source.split()[0], looked_up.deployment_id is None) == ("genai-prices", False)


def test_a_file_without_a_price_leaves_the_one_that_people_set(app, apply, session):
    text = FILE.replace("    price: {input_per_million: 0.15", "    #")
    apply(text)
    engine = app.extensions["gateway"].engine
    pricebook.put(engine, Actor("tests"), "spare", PriceRecord(7, 7, source="operator"))
    assert apply(text).changed == []
    assert prices_of(session, "spare") == [("operator", 7, True)]
    apply()
    assert prices_of(session, "spare") == [("operator", 7, False), ("file", 150_000_000, True)]


def test_a_newer_catalogue_with_the_same_price_changes_nothing(apply, session, monkeypatch):
    apply()
    before = [row.id for row in session.scalars(select(Price))]
    monkeypatch.setattr("genai_prices.__version__", "99.0")
    assert apply().changed == []
    session.rollback()
    assert [row.id for row in session.scalars(select(Price))] == before
