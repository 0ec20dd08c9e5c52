"""The pages about providers: credentials that go in and never out, their models, rows that are managed elsewhere."""

import re
from html import unescape
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import AuditEntry, Deployment, Model, Price, Provider
from routes.admin.providers import Providers
from services.providers.kinds import KINDS
from tests.admin.conftest import CANARY, Browser, add_model, add_provider, add_user, columns_of, row_of, rows_of
from tests.fakes.upstream import Upstream

TICKED = {"is_enabled": "y", "openai_stream_usage": "y"}  # the boxes that are ticked unless somebody changes that
SECRET = "sk-typed-canary-9876543210zyxwvu"


def make(browser: Browser, **data: Any) -> Any:
    form = {"kind": "openai", "name": "acme", "base_url": "https://api.acme.test/v1", **TICKED, **data}
    return browser.post("/admin/providers/new/", {name: value for name, value in form.items() if value is not None})


def named(app: Flask, name: str) -> Provider | None:
    return next((row for row in rows_of(app, Provider) if row.name == name), None)


def test_a_provider_is_stored_with_its_credential_sealed(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    answer = make(panel_anywhere_admin, credential=SECRET, openai_organization="org-7")
    row = named(app, "acme")
    assert row is not None
    assert answer.location == f"/admin/providers/details/?id={row.id}"
    assert (row.kind, row.base_url, row.settings) == ("openai", "https://api.acme.test/v1", {"organization": "org-7"})
    assert (row.managed_by, row.discover, row.is_enabled) == ("admin", False, True)
    assert row.credential is not None
    assert SECRET.encode() not in row.credential
    assert app.extensions["gateway"].sealer.open(row.credential) == SECRET
    entry = rows_of(app, AuditEntry)[-1]
    assert entry.action == "provider_create"
    assert entry.details["after"]["has_credential"] is True
    assert SECRET not in repr(entry.details)


def test_a_credential_is_shown_by_its_last_four_characters(panel_admin: Browser) -> None:
    make(panel_admin, credential=SECRET)
    row = named(panel_admin.app, "acme")
    assert row is not None
    for page in ("details", "edit"):
        text = panel_admin.get(f"/admin/providers/{page}/?id={row.id}").text
        assert "••••wvu" not in text
        assert "••••xwvu" in text
        assert SECRET not in text


def edit(browser: Browser, number: int, **data: Any) -> Any:
    form = {"kind": "openai", "name": "acme", "base_url": "http://127.0.0.1:9/v1", **TICKED, **data}
    return browser.post(
        f"/admin/providers/edit/?id={number}", {name: value for name, value in form.items() if value is not None}
    )


def test_a_credential_left_blank_stays(panel_admin: Browser) -> None:
    number = add_provider(panel_admin.app)
    before = row_of(panel_admin.app, Provider, number).credential
    assert edit(panel_admin, number, name="renamed").status_code == 303
    after = row_of(panel_admin.app, Provider, number)
    assert (after.name, after.credential) == ("renamed", before)


def test_a_credential_is_replaced_or_removed_and_the_log_says_only_that(panel_admin: Browser) -> None:
    app, number = panel_admin.app, add_provider(panel_admin.app)
    edit(panel_admin, number, credential=SECRET)
    assert app.extensions["gateway"].sealer.open(row_of(app, Provider, number).credential) == SECRET
    assert rows_of(app, AuditEntry)[-1].details["credential"] == "changed"
    edit(panel_admin, number, no_credential="y")
    assert row_of(app, Provider, number).credential is None
    assert rows_of(app, AuditEntry)[-1].details["credential"] == "removed"
    assert SECRET not in repr([entry.details for entry in rows_of(app, AuditEntry)])


def test_other_settings_of_a_provider_survive_the_form(panel_admin: Browser) -> None:
    kept = {"rename": {"seed": "random_seed"}, "ca_file": "/etc/ca.pem"}
    number = add_provider(panel_admin.app, settings={**kept, "organization": "old"})
    edit(panel_admin, number, openai_organization="new", openai_ca_file="/etc/ca.pem")
    assert row_of(panel_admin.app, Provider, number).settings == {**kept, "organization": "new"}


def test_what_a_client_stores_while_the_form_is_read_survives_it(
    panel_anywhere_admin: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, read = panel_anywhere_admin.app, Providers.edit_form
    number, stored = add_provider(app), {"cost_map": {"embeddingsCostPerModel": {"e": 1}}}

    def meanwhile(self: Providers, obj: Any = None) -> Any:
        form = read(self, obj)
        with Session(app.extensions["gateway"].engine) as session, session.begin():
            session.get_one(Provider, number).settings = stored
        return form

    monkeypatch.setattr(Providers, "edit_form", meanwhile)
    assert edit(panel_anywhere_admin, number, openai_organization="new").status_code == 303
    assert row_of(app, Provider, number).settings == {**stored, "organization": "new"}
    assert rows_of(app, AuditEntry)[-1].details["before"]["settings"] == stored


def test_what_every_kind_may_have_goes_there_and_back(panel_admin: Browser) -> None:
    given = {
        "operations": "chat, speech,chat",
        "on_disconnect": "drain",
        "drain_max_s": "2.5",
        "drain_max_streams": "3",
    }
    assert make(panel_admin, kind="anthropic", **given).status_code == 303
    row = named(panel_admin.app, "acme")
    assert row is not None
    assert row.settings == {
        "operations": ["chat", "speech"],
        "on_disconnect": "drain",
        "drain_max_s": 2.5,
        "drain_max_streams": 3,
    }
    form = panel_admin.get(f"/admin/providers/edit/?id={row.id}").text
    assert 'value="chat, speech"' in form
    assert '<option selected value="drain">' in form
    assert 'value="2.5"' in form
    assert "chat, speech" in panel_admin.get(f"/admin/providers/details/?id={row.id}").text
    again = {"kind": "anthropic", "base_url": row.base_url, "drain_max_s": "", "drain_max_streams": ""}
    assert edit(panel_admin, row.id, **again, operations="", on_disconnect="cancel").status_code == 303
    assert row_of(panel_admin.app, Provider, row.id).settings == {}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"operations": "chat, fax"}, id="an operation there is not"),
        pytest.param({"on_disconnect": "wait"}, id="another end"),
        pytest.param({"drain_max_s": "0"}, id="no time to read on"),
        pytest.param({"drain_max_streams": "0"}, id="no place to read on"),
        pytest.param({"name": ""}, id="no name"),
        pytest.param({"name": "echo"}, id="a taken name"),
        pytest.param({"kind": "fax"}, id="a kind there is not"),
        pytest.param({"kind": "azure", "base_url": ""}, id="no address, of a kind that has no usual one"),
        pytest.param({"vendor": "fax"}, id="a vendor there is not"),
        pytest.param({"base_url": "ftp://acme.test"}, id="another scheme"),
        pytest.param({"base_url": "https://user:pass@acme.test"}, id="a password in the address"),
        pytest.param({"base_url": "https://acme.test/v1?key=1"}, id="a query in the address"),
        pytest.param({"base_url": "https://acme.test/ v1"}, id="a space in the address"),
        pytest.param({"base_url": "file:///etc/passwd"}, id="a file"),
        pytest.param({"base_url": "https://"}, id="no host"),
        pytest.param({"base_url": "http://169.254.169.254/latest"}, id="metadata"),
        pytest.param({"base_url": "http://[::ffff:169.254.169.254]/"}, id="metadata in disguise"),
        pytest.param({"credential": "sk-\r\nx-evil: 1"}, id="a line break in the credential"),
        pytest.param({"credential": "sk-ünicode"}, id="letters no header takes"),
    ],
)
def test_a_provider_is_not_stored(panel_admin: Browser, data: dict[str, str]) -> None:
    before = len(rows_of(panel_admin.app, Provider))
    assert make(panel_admin, **data).status_code == 422
    assert len(rows_of(panel_admin.app, Provider)) == before


def test_no_other_column_can_be_set(panel_admin: Browser) -> None:
    number = add_provider(panel_admin.app)
    before = row_of(panel_admin.app, Provider, number)
    every = {column: "7" for column in columns_of(Provider) if column not in ("discover", "credential")}
    form = {**every, "managed_by": "file", "kind": "openai", "name": "acme", "base_url": before.base_url}
    assert edit(panel_admin, number, **form).status_code == 303
    after = row_of(panel_admin.app, Provider, number)
    for column in columns_of(Provider) - {"updated_at"}:
        assert getattr(after, column) == getattr(before, column), column


def test_without_an_address_it_is_the_usual_one(panel_admin: Browser) -> None:
    for name, data, expected in (
        ("plain", {}, "https://api.openai.com/v1"),
        ("local", {"kind": "ollama"}, "http://localhost:11434"),
        ("sber", {"kind": "gigachat"}, "https://api.giga.chat/v1"),
        ("fast", {"vendor": "groq"}, "https://api.groq.com/openai/v1"),
        ("mine", {"vendor": "vllm"}, "http://localhost:8000/v1"),
        ("other", {"kind": "ollama", "vendor": "groq"}, "http://localhost:11434"),
    ):
        assert make(panel_admin, name=name, base_url="", **data).status_code == 303
        row = named(panel_admin.app, name)
        assert row is not None
        assert row.base_url == expected
        wanted = {"vendor": "vllm"} if name == "mine" else {}
        assert row.settings == wanted, "known by its address, but for servers at home"


def test_a_vendor_at_a_known_address_is_that_of_the_address(panel_admin: Browser) -> None:
    make(panel_admin, vendor="groq", base_url="https://api.mistral.ai/v1")
    row = named(panel_admin.app, "acme")
    assert row is not None
    assert row.settings == {}
    page = panel_admin.get(f"/admin/providers/edit/?id={row.id}").text
    assert '<option data-url="https://api.mistral.ai/v1" selected value="mistral">' in page
    assert "<dd>Mistral</dd>" in panel_admin.get(f"/admin/providers/details/?id={row.id}").text


def test_a_form_asks_for_the_settings_of_every_kind_and_takes_those_of_one(panel_admin: Browser) -> None:
    page = panel_admin.get("/admin/providers/new/").text
    for name, kind in KINDS.items():
        for setting in kind.settings:
            assert f'name="{name}_{setting.name}"' in page
            assert f'aria-labelledby="settings-{name}" data-kind="{name}"' in page
    data = {"azure_api_version": "v1", "gigachat_scope": "S", "openai_organization": "o", "azure_ca_file": ""}
    make(panel_admin, kind="azure", base_url="https://a.openai.azure.com", **data)
    row = named(panel_admin.app, "acme")
    assert row is not None
    assert (row.kind, row.settings) == ("azure", {"api_version": "v1"})
    text = panel_admin.get(f"/admin/providers/details/?id={row.id}").text
    assert "Azure OpenAI" in text
    assert "<dt>API version</dt><dd>v1</dd>" in text


def test_settings_of_the_kind_that_it_was_do_not_stay(panel_admin: Browser) -> None:
    number = add_provider(panel_admin.app, settings={"organization": "o", "own": 7})
    edit(panel_admin, number, kind="gigachat", gigachat_scope="S", openai_organization="o")
    assert row_of(panel_admin.app, Provider, number).settings == {"scope": "S", "own": 7}


def test_a_flag_and_a_list_go_there_and_back(panel_admin: Browser) -> None:
    number = add_provider(panel_admin.app, settings={"drop": ["user", "seed"]})
    page = panel_admin.get(f"/admin/providers/edit/?id={number}").text
    assert 'value="user, seed"' in page
    edit(panel_admin, number, openai_drop="user, seed", openai_stream_usage=None)
    assert row_of(panel_admin.app, Provider, number).settings == {"drop": ["user", "seed"], "stream_usage": False}
    text = panel_admin.get(f"/admin/providers/details/?id={number}").text
    assert "<dt>Reports usage in streams when asked</dt><dd>no</dd>" in text
    edit(panel_admin, number, openai_drop="user")
    assert row_of(panel_admin.app, Provider, number).settings == {"drop": "user", "stream_usage": True}


def test_a_row_of_a_kind_or_vendor_that_is_gone_can_be_looked_at(panel_admin: Browser) -> None:
    odd = add_provider(panel_admin.app, "odd", kind="fax", settings={"vendor": "x"})
    assert panel_admin.get(f"/admin/providers/details/?id={odd}").status_code == 200
    assert panel_admin.get(f"/admin/providers/edit/?id={odd}").status_code == 200
    other = add_provider(panel_admin.app, "other", settings={"vendor": "gone"})
    assert panel_admin.get(f"/admin/providers/details/?id={other}").status_code == 200


def test_the_connection_is_tested_and_the_result_said(panel_anywhere_admin: Browser, upstream: Upstream) -> None:
    app = panel_anywhere_admin.app
    number = add_provider(app, base_url=upstream.base_url)
    assert "/admin/providers/test/" in panel_anywhere_admin.get(f"/admin/providers/details/?id={number}").text
    answer = panel_anywhere_admin.post("/admin/providers/test/", {"id": number}, follow_redirects=True)
    assert "It works and lists 2 models, such as" in answer.text
    assert rows_of(app, AuditEntry)[-1].details == {"finding": "works"}
    upstream.will(status=401)
    answer = panel_anywhere_admin.post("/admin/providers/test/", {"id": number}, follow_redirects=True)
    assert "It refuses the key (401): status 401" in answer.text
    assert rows_of(app, AuditEntry)[-1].action == "provider_test"


def test_the_result_is_said_in_the_language_of_its_reader(panel_app: Flask) -> None:
    add_user(panel_app, "bia", role="admin", locale="pt_BR")
    number = add_provider(panel_app, base_url="http://127.0.0.1:9/v1")
    browser = Browser(panel_app, "bia")
    answer = browser.post("/admin/providers/test/", {"id": number}, follow_redirects=True)
    assert "Ninguém responde em 127.0.0.1:9" in answer.text
    assert "OpenAI ou qualquer" in browser.get("/admin/providers/new/").text


def test_refreshing_shows_what_the_provider_lists(panel_anywhere_admin: Browser, upstream: Upstream) -> None:
    app = panel_anywhere_admin.app
    number = add_provider(app, base_url=upstream.base_url, discover=True)
    known = {row.name for row in rows_of(app, Model)}
    answer = panel_anywhere_admin.post("/admin/providers/refresh/", {"id": number}, follow_redirects=True)
    assert "It now serves 2 models; before: 0." in answer.text
    assert {row.name for row in rows_of(app, Model)} - known == set(upstream.models)
    assert row_of(app, Provider, number).discovered_at is not None
    assert rows_of(app, AuditEntry)[-1].action == "provider_refresh"


def test_of_a_provider_that_does_not_offer_all_models_they_are_chosen(panel_admin: Browser, upstream: Upstream) -> None:
    number = add_provider(panel_admin.app, base_url=upstream.base_url)
    known = {row.name for row in rows_of(panel_admin.app, Model)}
    assert "/admin/providers/refresh/" not in panel_admin.get(f"/admin/providers/details/?id={number}").text
    answer = panel_admin.post("/admin/providers/refresh/", {"id": number})
    assert answer.location.endswith(f"/admin/models/offers/?provider={number}")
    assert {row.name for row in rows_of(panel_admin.app, Model)} == known


def test_refreshing_says_what_went_wrong(panel_admin: Browser) -> None:
    number = add_provider(panel_admin.app, discover=True)
    answer = panel_admin.post("/admin/providers/refresh/", {"id": number}, follow_redirects=True)
    assert "could not be listed" in answer.text
    assert row_of(panel_admin.app, Provider, number).discovery_error
    assert "no connection" in panel_admin.get("/admin/providers/").text


def test_a_provider_that_offers_everything_is_asked_when_it_is_saved(panel_admin: Browser, upstream: Upstream) -> None:
    make(panel_admin, base_url=upstream.base_url, discover="y")
    assert set(upstream.models) <= {row.name for row in rows_of(panel_admin.app, Model)}


@pytest.mark.parametrize("manager", ["file", "environment"])
def test_rows_managed_elsewhere_are_refused_on_post_too(panel_admin: Browser, manager: str) -> None:
    number = add_provider(panel_admin.app, managed_by=manager)
    before = row_of(panel_admin.app, Provider, number)
    page = panel_admin.get(f"/admin/providers/details/?id={number}").text
    assert "change it there" in page
    assert f"/admin/providers/edit/?id={number}" not in page
    assert panel_admin.get(f"/admin/providers/edit/?id={number}").status_code == 403
    assert edit(panel_admin, number, name="mine").status_code == 403
    assert panel_admin.post("/admin/providers/delete/", {"id": number}).status_code == 403
    after = row_of(panel_admin.app, Provider, number)
    assert (after.name, after.managed_by, after.credential) == ("acme", manager, before.credential)


def test_deleting_names_the_models_that_lose_a_deployment(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    first, second = add_provider(app, "first"), add_provider(app, "second")
    add_model(app, [first, second], "shared")
    add_model(app, [first], "stranded")
    add_model(app, [first], "found", managed_by="discovery")
    add_model(app, [second], "other")
    text = panel_anywhere_admin.get(f"/admin/providers/delete/?id={first}").text
    assert "lose a deployment and keep others: shared." in text
    assert "lose their only deployment and answer no more: stranded." in text
    assert "go with it: found." in text
    assert "other" not in text.replace("keep others", "").replace("another", "")
    assert panel_anywhere_admin.post("/admin/providers/delete/", {"id": first}).status_code == 303
    assert row_of(app, Provider, first) is None
    assert {row.name for row in rows_of(app, Model)} >= {"shared", "stranded", "other"}
    assert "found" not in {row.name for row in rows_of(app, Model)}
    assert [row.provider_id for row in rows_of(app, Deployment) if row.provider_id == first] == []
    models = {row.id for row in rows_of(app, Model)}
    assert {row.model_id for row in rows_of(app, Price)} <= models


def test_no_page_shows_a_credential(panel_admin: Browser) -> None:
    number = add_provider(panel_admin.app)
    for path in ("/", f"/details/?id={number}", f"/edit/?id={number}", f"/delete/?id={number}"):
        assert CANARY not in panel_admin.get(f"/admin/providers{path}").text


@pytest.mark.parametrize(
    ("stored", "shown"), [(None, ""), ("", ""), ("TRUE", "true"), (True, "true"), (False, "false")]
)
def test_the_responses_setting_is_yes_no_or_not_known(panel_admin: Browser, stored: Any, shown: str) -> None:
    number = add_provider(panel_admin.app, settings={} if stored is None else {"responses": stored})
    page = panel_admin.get(f"/admin/providers/edit/?id={number}").text
    (select,) = re.findall(r'<select[^>]* name="openai_responses".*?</select>', page, re.DOTALL)
    assert re.findall(r'<option selected value="(\w*)"', select) == [shown]
    assert re.findall(r">([^<]+)</option>", select) == ["Not known: only api.openai.com has it", "Yes", "No"]


@pytest.mark.parametrize(
    ("kind", "field", "given", "said"),
    [
        ("openai", "responses", "perhaps", "Not a valid choice"),
        ("openai", "organization", "örg", "`organization` has characters other than ASCII"),
        ("anthropic", "auth", "basic", "`auth` must be `bearer`, or empty"),
        ("anthropic", "thinking", "much", "`thinking` must be `adaptive`, or empty"),
        ("custom", "request", "{bad", "`request` is not JSON"),
        ("custom", "answer_text", "", "`answer_text`"),
    ],
)
def test_settings_that_calls_could_not_use_are_refused_at_their_field(
    panel_anywhere_admin: Browser, kind: str, field: str, given: str, said: str
) -> None:
    custom = {"custom_path": "/chat", "custom_request": '{"ask": "{last}"}', "custom_answer_text": "text"}
    data = {"kind": kind, **(custom if kind == "custom" else {}), f"{kind}_{field}": given}
    answer = make(panel_anywhere_admin, **data)
    assert answer.status_code == 422
    assert said in unescape(answer.text)
    assert named(panel_anywhere_admin.app, "acme") is None


def test_a_bad_setting_leaves_a_stored_provider_as_it_was(panel_anywhere_admin: Browser) -> None:
    make(panel_anywhere_admin, openai_organization="org-7")
    row = named(panel_anywhere_admin.app, "acme")
    assert row is not None
    answer = edit(panel_anywhere_admin, row.id, openai_responses="perhaps", openai_organization="org-8")
    assert answer.status_code == 422
    kept = named(panel_anywhere_admin.app, "acme")
    assert kept is not None
    assert (kept.base_url, kept.settings) == ("https://api.acme.test/v1", {"organization": "org-7"})


def test_an_address_with_what_calls_add_by_themselves_is_stored_without(panel_anywhere_admin: Browser) -> None:
    make(panel_anywhere_admin, kind="anthropic", base_url="https://models.acme.test/v1/messages")
    row = named(panel_anywhere_admin.app, "acme")
    assert row is not None
    assert row.base_url == "https://models.acme.test"
