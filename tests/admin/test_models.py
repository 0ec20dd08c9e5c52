"""The pages about models: deployments, prices, fallbacks, and rows that are managed elsewhere."""

import re
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import inspect
from sqlalchemy.orm import Session

from models import AuditEntry, Deployment, Model, Price
from tests.admin.conftest import Browser, add_model, add_provider, columns_of, row_of, rows_of

RATES = {"price_kind": "rates", "input_rate": "0.15", "output_rate": "0.60"}


def form(*deployments: tuple[int, str], **data: Any) -> dict[str, Any]:
    found = {"name": "fast", "is_enabled": "y", "fallbacks": "", **RATES}
    for place, (provider, upstream) in enumerate(deployments):
        found |= {
            f"deployments-{place}-provider_id": str(provider),
            f"deployments-{place}-upstream_model": upstream,
            f"deployments-{place}-priority": str(place),
            f"deployments-{place}-weight": "2",
        }
    return found | data


def make(browser: Browser, *deployments: tuple[int, str], **data: Any) -> Any:
    return browser.post("/admin/models/new/", form(*deployments, **data))


def edit(browser: Browser, number: int, *deployments: tuple[int, str], **data: Any) -> Any:
    return browser.post(f"/admin/models/edit/?id={number}", form(*deployments, **data))


def named(app: Flask, name: str) -> Model | None:
    return next((row for row in rows_of(app, Model) if row.name == name), None)


def prices_of(app: Flask, model_id: int) -> list[Price]:
    return [row for row in rows_of(app, Price) if row.model_id == model_id]


def test_a_model_with_deployments_and_a_price(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    first, second = add_provider(app, "first"), add_provider(app, "second")
    answer = make(
        panel_anywhere_admin,
        (first, "up-1"),
        (second, "up-2"),
        (first, ""),
        context_window="128000",
        max_output_tokens="4096",
        fallbacks="echo, echo-slow, echo",
        cache_read_rate="0.075",
    )
    row = named(app, "fast")
    assert row is not None
    assert answer.location == f"/admin/models/details/?id={row.id}"
    assert (row.managed_by, row.context_window, row.max_output_tokens) == ("admin", 128_000, 4096)
    assert row.fallbacks == ["echo", "echo-slow"]
    mine = [d for d in rows_of(app, Deployment) if d.model_id == row.id]
    assert [(d.provider_id, d.upstream_model, d.priority, d.weight) for d in mine] == [
        (first, "up-1", 0, 2),
        (second, "up-2", 1, 2),
    ]
    (price,) = prices_of(app, row.id)
    assert (price.input_rate, price.output_rate) == (150_000_000, 600_000_000)
    assert (price.cache_read_rate, price.cache_creation_rate, price.source) == (75_000_000, None, "admin")
    assert app.extensions["gateway"].catalog.snapshot().models["fast"].deployments[0].price.input_rate == 150_000_000
    assert rows_of(app, AuditEntry)[-1].action == "model_create"


@pytest.mark.parametrize(("kind", "expected"), [("free", (True, 0, 0)), ("none", None)])
def test_a_free_model_and_one_without_a_price(panel_admin: Browser, kind: str, expected: Any) -> None:
    make(panel_admin, (add_provider(panel_admin.app), "up"), price_kind=kind, input_rate="", output_rate="")
    row = named(panel_admin.app, "fast")
    assert row is not None
    found = [(p.is_free, p.input_rate, p.output_rate) for p in prices_of(panel_admin.app, row.id)]
    assert found == ([expected] if expected else [])


def test_a_price_from_the_catalogue(panel_admin: Browser) -> None:
    provider = add_provider(panel_admin.app, base_url="https://api.openai.com/v1")
    make(panel_admin, (provider, "gpt-4o-mini"), price_kind="catalogue")
    row = named(panel_admin.app, "fast")
    assert row is not None
    (price,) = prices_of(panel_admin.app, row.id)
    assert (price.input_rate, price.output_rate) == (150_000_000, 600_000_000)
    assert price.source.startswith("genai-prices")
    answer = make(panel_admin, (provider, "no-such-model"), name="other", price_kind="catalogue")
    assert answer.status_code == 422
    assert "The catalogue does not know" in answer.text


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"name": ""}, id="no name"),
        pytest.param({"name": "echo"}, id="a taken name"),
        pytest.param({"name": "x" * 201}, id="too long a name"),
        pytest.param({"deployments-0-upstream_model": ""}, id="no deployment"),
        pytest.param({"deployments-0-provider_id": "99999"}, id="a provider there is not"),
        pytest.param({"deployments-0-weight": "0"}, id="no weight"),
        pytest.param({"deployments-0-priority": "-1"}, id="a negative priority"),
        pytest.param({"deployments-0-priority": "first"}, id="a priority in words"),
        pytest.param({"input_rate": ""}, id="no input rate"),
        pytest.param({"output_rate": "cheap"}, id="a rate in words"),
        pytest.param({"input_rate": "-1"}, id="a negative rate"),
        pytest.param({"price_kind": "later"}, id="a kind of price there is not"),
        pytest.param({"fallbacks": "no-such-model"}, id="a fallback there is not"),
        pytest.param({"fallbacks": "fast"}, id="itself as fallback"),
        pytest.param({"context_fallbacks": "no-such-model"}, id="a detour there is not"),
        pytest.param({"content_fallbacks": "fast"}, id="itself as detour"),
        pytest.param({"aliases": "echo"}, id="an alias that is a model"),
        pytest.param({"aliases": "fast"}, id="its own name as alias"),
        pytest.param({"aliases": "two words"}, id="an alias with a space"),
        pytest.param({"retries": "11"}, id="too many repeats"),
        pytest.param({"first_byte_s": "0"}, id="no patience"),
        pytest.param({"strategy": "luck"}, id="an unknown strategy"),
        pytest.param({"context_window": "0"}, id="no context"),
        pytest.param({"max_output_tokens": "9" * 20}, id="more tokens than there are"),
    ],
)
def test_a_model_is_not_stored(panel_admin: Browser, data: dict[str, str]) -> None:
    provider = add_provider(panel_admin.app)
    before = len(rows_of(panel_admin.app, Model)), len(rows_of(panel_admin.app, Deployment))
    assert make(panel_admin, (provider, "up"), **data).status_code == 422
    assert (len(rows_of(panel_admin.app, Model)), len(rows_of(panel_admin.app, Deployment))) == before


def test_a_new_model_does_not_take_another_models_alias(panel_admin: Browser) -> None:
    provider = add_provider(panel_admin.app)
    number = add_model(panel_admin.app, [provider])
    assert edit(panel_admin, number, (provider, "up-fast"), aliases="gpt-5").status_code == 303
    answer = make(panel_admin, (provider, "up"), name="gpt-5")
    assert answer.status_code == 422
    assert "Another model has this name as an alias" in answer.text
    assert named(panel_admin.app, "gpt-5") is None
    renamed = edit(panel_admin, number, (provider, "up-fast"), name="gpt-5", aliases="")
    assert renamed.status_code == 303  # its own alias


def test_the_same_deployment_twice_is_refused(panel_admin: Browser) -> None:
    provider = add_provider(panel_admin.app)
    answer = make(panel_admin, (provider, "up"), (provider, "up"))
    assert answer.status_code == 422
    assert "twice" in answer.text


def test_saving_unchanged_changes_nothing(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    provider = add_provider(app)
    number = add_model(app, [provider])
    before = [row.id for row in rows_of(app, Deployment)], [row.id for row in rows_of(app, Price)]
    entries = len(rows_of(app, AuditEntry))
    data = {"deployments-0-priority": "1", "deployments-0-weight": "1"}
    assert edit(panel_anywhere_admin, number, (provider, "up-fast"), **data).status_code == 303
    assert ([row.id for row in rows_of(app, Deployment)], [row.id for row in rows_of(app, Price)]) == before
    assert rows_of(app, Price)[-1].source == "test"
    assert len(rows_of(app, AuditEntry)) == entries


def test_deployments_are_exchanged_and_their_own_prices_go_with_them(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    first, second = add_provider(app, "first"), add_provider(app, "second")
    number = add_model(app, [first, second])
    old = next(row for row in rows_of(app, Deployment) if row.provider_id == first)
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.add(Price(model_id=number, deployment_id=old.id, input_rate=7, output_rate=7, source="own"))
    answer = edit(panel_anywhere_admin, number, (second, "up-fast"), (second, "up-new"), input_rate="0.2")
    assert answer.status_code == 303
    mine = [(d.provider_id, d.upstream_model) for d in rows_of(app, Deployment) if d.model_id == number]
    assert mine == [(second, "up-fast"), (second, "up-new")]
    before, price = prices_of(app, number)
    assert (price.deployment_id, price.input_rate) == (None, 200_000_000)
    assert (before.source, before.valid_until_at) == ("test", price.valid_from_at), "the past stays"


def test_a_discovered_model_that_gets_a_price_is_the_panels(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    provider = add_provider(app)
    number = add_model(app, [provider], managed_by="discovery")
    assert "it is yours" in panel_anywhere_admin.get(f"/admin/models/edit/?id={number}").text
    assert edit(panel_anywhere_admin, number, (provider, "up-fast"), input_rate="9").status_code == 303
    assert row_of(app, Model, number).managed_by == "admin"
    assert [price.input_rate for price in prices_of(app, number)] == [150_000_000, 9_000_000_000]
    details = rows_of(app, AuditEntry)[-1].details
    assert details["before"]["managed_by"] == "discovery"
    assert details["after"]["price"]["input_rate"] == 9_000_000_000


def test_a_discovered_model_is_disabled_not_deleted(panel_admin: Browser) -> None:
    number = add_model(panel_admin.app, [add_provider(panel_admin.app)], managed_by="discovery")
    assert panel_admin.post("/admin/models/delete/", {"id": number}).status_code == 403
    assert row_of(panel_admin.app, Model, number) is not None


@pytest.mark.parametrize("manager", ["file", "environment"])
def test_rows_managed_elsewhere_are_refused_on_post_too(panel_admin: Browser, manager: str) -> None:
    provider = add_provider(panel_admin.app)
    number = add_model(panel_admin.app, [provider], managed_by=manager)
    assert "change it there" in panel_admin.get(f"/admin/models/details/?id={number}").text
    assert panel_admin.get(f"/admin/models/edit/?id={number}").status_code == 403
    assert edit(panel_admin, number, (provider, "up"), name="mine").status_code == 403
    assert panel_admin.post("/admin/models/delete/", {"id": number}).status_code == 403
    assert (row_of(panel_admin.app, Model, number).name, len(prices_of(panel_admin.app, number))) == ("fast", 1)


def test_routing_is_kept_as_given_and_can_be_taken_back(panel_admin: Browser) -> None:
    provider = add_provider(panel_admin.app)
    number = add_model(panel_admin.app, [provider])
    given = {
        "aliases": "quick, gpt-5, quick",
        "strategy": "latency",
        "retries": "1",
        "first_byte_s": "2.5",
        "silence_s": "",
        "total_s": "300",
        "context_fallbacks": "echo",
        "content_fallbacks": "",
    }
    assert edit(panel_admin, number, (provider, "up-fast"), **given).status_code == 303
    row = row_of(panel_admin.app, Model, number)
    assert row.aliases == ["quick", "gpt-5"]
    kept = {"strategy": "latency", "retries": 1, "first_byte_s": 2.5, "total_s": 300, "context_fallbacks": ["echo"]}
    assert row.routing == kept
    page = panel_admin.get(f"/admin/models/edit/?id={number}").text
    assert all(f'value="{value}"' in page for value in ("quick, gpt-5", "2.5", "300.0", "echo"))
    assert "quick, gpt-5" in panel_admin.get(f"/admin/models/details/?id={number}").text
    taken_back = dict.fromkeys(given, "") | {"strategy": "weight"}
    assert edit(panel_admin, number, (provider, "up-fast"), **taken_back).status_code == 303
    row = row_of(panel_admin.app, Model, number)
    assert (row.aliases, row.routing) == (None, None)


def test_no_other_column_can_be_set(panel_admin: Browser) -> None:
    provider = add_provider(panel_admin.app)
    number = add_model(panel_admin.app, [provider])
    before = row_of(panel_admin.app, Model, number)
    every = dict.fromkeys(inspect(Model).columns.keys(), "7")
    data = {**every, "managed_by": "environment", "name": "fast", "fallbacks": "", "is_enabled": "y"}
    data |= {"deployments-0-id": "7", "deployments-0-model_id": "7", "deployments-0-is_enabled": "", "source": "mine"}
    assert edit(panel_admin, number, (provider, "up-fast"), **data).status_code == 303
    after = row_of(panel_admin.app, Model, number)
    for column in columns_of(Model) - {"updated_at", "context_window", "max_output_tokens", "aliases"}:
        assert getattr(after, column) == getattr(before, column), column
    (deployment,) = [row for row in rows_of(panel_admin.app, Deployment) if row.model_id == number]
    assert deployment.is_enabled
    assert prices_of(panel_admin.app, number)[0].source == "test"


def test_deleting_says_whose_fallback_it_is(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    provider = add_provider(app)
    number = add_model(app, [provider], "target")
    add_model(app, [provider], "user-of-it", fallbacks=["target"])
    assert "fallback of: user-of-it" in panel_anywhere_admin.get(f"/admin/models/delete/?id={number}").text
    assert panel_anywhere_admin.post("/admin/models/delete/", {"id": number}).status_code == 303
    assert row_of(app, Model, number) is None
    assert [row for row in rows_of(app, Deployment) if row.model_id == number] == []
    assert prices_of(app, number) == []


def test_the_list_narrows_by_manager_state_and_price(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    provider = add_provider(app)
    add_model(app, [provider], "priced")
    make(panel_anywhere_admin, (provider, "up"), name="unpriced", price_kind="none")
    make(panel_anywhere_admin, (provider, "up"), name="off", is_enabled="")

    def has(query: str) -> set[str]:
        page = panel_anywhere_admin.get(f"/admin/models/?page_size=100&{query}").text
        return {name for name in ("priced", "unpriced", "off", "echo-slow") if f">{name}</span></a>" in page}

    assert has("") == {"priced", "unpriced", "off", "echo-slow"}
    assert has("managed_by=admin") == {"priced", "unpriced", "off"} - (set() if has("state=disabled") else {"off"})
    assert has("state=unpriced") == {"unpriced"}
    assert has("search=pri") == {"priced", "unpriced"}


def test_what_somebody_else_saved_meanwhile_is_not_overwritten_unseen(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    provider = add_provider(app)
    number = add_model(app, [provider])

    def seen() -> str:
        found = re.search(r'name="seen" value="(\w+)"', browser.get(f"/admin/models/edit/?id={number}").text)
        assert found is not None
        return found[1]

    mine = theirs = seen()
    assert edit(browser, number, (provider, "up-fast"), input_rate="1", seen=theirs).status_code == 303
    late = edit(browser, number, (provider, "up-fast"), input_rate="2", seen=mine)
    assert late.status_code == 422
    assert "Somebody else changed this meanwhile" in late.text
    now = seen().partition("_")[0]  # of the row; a moment follows
    assert f'name="seen" value="{now}_' in late.text, "saving again is a decision, and works"
    assert price_now(app, number) == 1_000_000_000
    assert edit(browser, number, (provider, "up-fast"), input_rate="2", seen=seen()).status_code == 303
    assert price_now(app, number) == 2_000_000_000


def price_now(app: Flask, number: int) -> int | None:
    return prices_of(app, number)[-1].input_rate
