"""Models of a provider: what it lists and nobody offers yet, ticked and priced at once; tests of its connection."""

import threading
import time

import pytest
from flask import Flask

from models import AuditEntry, Model
from services import checks
from services.exchange import Patience
from tests.admin.conftest import Browser, add_provider, add_user, rows_of
from tests.fakes.upstream import Upstream

OPENAI = "https://api.openai.com/v1"


def own_models(app: Flask) -> dict[str, Model]:
    return {row.name: row for row in rows_of(app, Model) if row.managed_by == "admin"}


def test_what_is_ticked_becomes_models_with_prices(panel_anywhere_admin: Browser, upstream: Upstream) -> None:
    app = panel_anywhere_admin.app
    upstream.models = ["alpha", "beta", "echo"]
    number = add_provider(app, base_url=upstream.base_url)
    page = panel_anywhere_admin.get(f"/admin/models/offers/?provider={number}").text
    assert "alpha" in page
    assert "nobody knows" in page
    data = {
        "provider": str(number),
        "upstream": ["alpha", "beta", "echo"],
        "tick-0": "on",
        "name-0": "alpha",
        "input-0": "0.15",
        "output-0": "$0.60",
        "tick-2": "on",
        "name-2": "acme-echo",
        "input-2": "",
        "output-2": "",
    }
    made = panel_anywhere_admin.post("/admin/models/offers/add", data)
    assert made.status_code == 303
    found = own_models(app)
    assert set(found) == {"alpha", "acme-echo"}
    entries = [entry.details["after"] for entry in rows_of(app, AuditEntry) if entry.action == "model_create"]
    assert [entry["name"] for entry in entries] == ["alpha", "acme-echo"]
    assert entries[0]["price"]["input_rate"] == 150_000_000
    assert entries[1]["price"] is None
    again = panel_anywhere_admin.get(f"/admin/models/offers/?provider={number}").text
    assert 'value="alpha"' not in again
    assert 'value="beta"' in again


def test_an_auditor_sees_what_is_offered_and_adds_nothing(panel_admin: Browser, upstream: Upstream) -> None:
    app = panel_admin.app
    number = add_provider(app, base_url=upstream.base_url)
    add_user(app, "olga", role="auditor")
    page = Browser(app, "olga").get(f"/admin/models/offers/?provider={number}").text
    assert upstream.models[0] in page
    assert "<fieldset disabled>" in page
    for mark in ("/admin/models/offers/add", "/admin/models/new/", "Add the ticked models"):
        assert mark not in page
        assert mark in panel_admin.get(f"/admin/models/offers/?provider={number}").text


def test_the_catalogue_suggests_prices_with_their_source(panel_admin: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    app = panel_admin.app
    number = add_provider(app, base_url=OPENAI)
    monkeypatch.setattr(
        app.extensions["gateway"].discovery, "names", lambda _number: ({"gpt-4o-mini", "unheard-of"}, None)
    )
    page = panel_admin.get(f"/admin/models/offers/?provider={number}").text
    assert "genai-prices" in page
    assert 'name="input-0" value="0.15"' in page
    assert "$0.00015 per 1K" in page
    data = {"provider": str(number), "upstream": ["gpt-4o-mini"], "tick-0": "on", "name-0": "gpt-4o-mini"}
    assert (
        panel_admin.post("/admin/models/offers/add", data | {"input-0": "0.15", "output-0": "0.6"}).status_code == 303
    )
    details = panel_admin.get(f"/admin/models/details/?id={own_models(app)['gpt-4o-mini'].id}").text
    assert "genai-prices" in details
    assert "Cached input" in details, "a suggestion is taken with all it has"


def test_a_model_that_nobody_serves_is_filled(panel_anywhere_admin: Browser, upstream: Upstream) -> None:
    app = panel_anywhere_admin.app
    (vacant,) = [row for row in rows_of(app, Model) if row.name == "gpt-3.5-turbo"]
    upstream.models = ["gpt-3.5-turbo"]
    number = add_provider(app, base_url=upstream.base_url)
    page = panel_anywhere_admin.get(f"/admin/models/offers/?provider={number}").text
    assert 'name="name-0" value="gpt-3.5-turbo"' in page
    data = {"provider": str(number), "upstream": ["gpt-3.5-turbo"], "tick-0": "on", "name-0": "gpt-3.5-turbo"}
    data |= {"input-0": "0.5", "output-0": "2"}
    assert panel_anywhere_admin.post("/admin/models/offers/add", data).status_code == 303
    row = own_models(app)["gpt-3.5-turbo"]
    assert (row.id, row.owned_by, row.context_window) == (vacant.id, "acme", 16_385)
    details = panel_anywhere_admin.get(f"/admin/models/details/?id={row.id}").text
    assert "$2.00" in details


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "Tick at least one model."),
        ({"tick-0": "on", "name-0": "echo"}, "There is a model of that name already."),
        ({"tick-0": "on", "name-0": ""}, "Give it a name"),
        ({"tick-0": "on", "name-0": "a", "input-0": "1"}, "or neither"),
        ({"tick-0": "on", "name-0": "a", "input-0": "1", "output-0": "<b>"}, "not an amount"),
        ({"tick-0": "on", "name-0": "a", "input-0": "0", "output-0": "0"}, "A price of zero must be said"),
        ({"tick-0": "on", "name-0": "a", "tick-1": "on", "name-1": "a"}, "There is a model of that name already."),
        ({"tick-0": "on", "name-0": "a", "input-0": "2000000", "output-0": "1"}, "No price may be higher"),
    ],
)
def test_all_or_none_and_what_was_typed_stays(panel_admin: Browser, data: dict[str, str], said: str) -> None:
    app = panel_admin.app
    number = add_provider(app)
    sent = {"provider": str(number), "upstream": ["alpha", "beta"], "name-1": "kept-name", **data}
    answer = panel_admin.post("/admin/models/offers/add", sent)
    assert answer.status_code == 422
    assert said in answer.text
    assert f'value="{sent["name-1"]}"' in answer.text
    assert own_models(app) == {}


def test_without_a_provider_the_page_says_what_to_do(panel_admin: Browser) -> None:
    assert "No provider yet" in panel_admin.get("/admin/models/offers/").text
    number = add_provider(panel_admin.app)
    assert "Choose a provider" in panel_admin.get("/admin/models/offers/").text
    page = panel_admin.get(f"/admin/models/offers/?provider={number}").text
    assert "could not be listed" in page
    assert panel_admin.post("/admin/models/offers/add", {"provider": "987"}).status_code == 404


def test_a_provider_is_saved_and_tested_in_one_go(panel_admin: Browser, upstream: Upstream) -> None:
    data = {"kind": "openai", "name": "mine", "base_url": upstream.base_url, "is_enabled": "y", "then": "test"}
    made = panel_admin.post("/admin/providers/new/", data, follow_redirects=True)
    assert "It works and lists 2 models" in made.text


def test_a_provider_that_hangs_holds_up_nobody_and_is_given_up(
    panel_anywhere: Flask, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "PATIENCE", Patience(connect_s=1.0, silence_s=6.0, total_s=8.0))
    upstream.will(first_s=90.0)
    number, said = add_provider(panel_anywhere, base_url=upstream.base_url), []
    tester, other = Browser(panel_anywhere, "admin"), Browser(panel_anywhere, "admin")
    other.get("/admin/"), tester.token()
    began = time.monotonic()

    def test() -> None:
        said.append(tester.post(f"/admin/providers/test/?id={number}", {"id": str(number)}, follow_redirects=True))

    thread = threading.Thread(target=test)
    thread.start()
    upstream.wait_for(1)
    add_user(panel_anywhere, "ana")  # a write, while the provider thinks
    assert other.get("/admin/users/").status_code == 200
    assert thread.is_alive(), "it still waits"
    thread.join(80)
    assert time.monotonic() - began < 70
    assert "note-bad" in said[0].text


def test_a_provider_that_redirects_is_not_followed(panel_admin: Browser, upstream: Upstream) -> None:
    upstream.will(status=302, headers={"location": "http://127.0.0.1:1/secret"})
    number = add_provider(panel_admin.app, base_url=upstream.base_url)
    page = panel_admin.post("/admin/providers/test/", {"id": str(number)}, follow_redirects=True).text
    assert "redirect" in page
    assert "/secret" not in page
