"""Providers that the environment names: which rows a start makes of which variables."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Provider
from services import bootstrap
from services.providers.kinds import KINDS
from services.providers.vendors import VENDORS
from tests.conftest import make_config

GIGA = {"GIGACHAT_AUTH_KEY": "a2V5"}
AZURE = {"AZURE_OPENAI_ENDPOINT": "https://a.openai.azure.com", "AZURE_OPENAI_API_KEY": "k"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, {}),
        ({"OPENAI_API_KEY": "k", "OPENAI_ORG_ID": "o"},
         {"openai": ("openai", "https://api.openai.com/v1", "k", {"organization": "o"}, True)}),
        ({"OLLAMA_BASE_URL": "http://h:1"}, {"ollama": ("ollama", "http://h:1", "", {}, True)}),
        (AZURE, {"azure": ("azure", "https://a.openai.azure.com", "k", {}, False)}),
        ({**AZURE, "OPENAI_API_VERSION": "v1"},
         {"azure": ("azure", "https://a.openai.azure.com", "k", {"api_version": "v1"}, False)}),
        ({"AZURE_OPENAI_API_KEY": "k"}, {}),
        (GIGA, {"gigachat": ("gigachat", "https://api.giga.chat/v1", "a2V5", {"scope": "GIGACHAT_API_PERS"}, True)}),
        ({"GIGACHAT_CREDENTIALS": "a2V5", "GIGACHAT_SCOPE": "S", "GIGACHAT_BASE_URL": "https://g.test",
          "GIGACHAT_AUTH_URL": "https://t.test/x", "GIGACHAT_CA_BUNDLE_FILE": "/ca.pem"},
         {"gigachat": ("gigachat", "https://g.test", "a2V5",
                       {"scope": "S", "auth_url": "https://t.test/x", "ca_file": "/ca.pem"}, True)}),
        ({"MISTRAL_API_KEY": "k"}, {"mistral": ("openai", "https://api.mistral.ai/v1", "k", {}, True)}),
        ({"PERPLEXITY_API_KEY": "k"}, {"perplexity": ("openai", "https://api.perplexity.ai", "k", {}, False)}),
    ],
    ids=lambda value: "+".join(value) or "nothing",
)  # fmt: skip
def test_what_the_environment_names(tmp_path: Any, environ: dict[str, str], expected: dict[str, Any]) -> None:
    found = bootstrap.wanted(make_config(tmp_path, **environ))
    assert {
        name: (one.kind, one.base_url, one.credential, one.settings, one.discover) for name, one in found.items()
    } == expected


@pytest.mark.parametrize("kind", ["anthropic", "gemini"])
def test_a_key_makes_a_provider_of_every_kind_there_is(tmp_path: Any, kind: str) -> None:
    found = bootstrap.wanted(make_config(tmp_path, **{f"{kind.upper()}_API_KEY": "k"}))
    assert set(found) == ({kind} if kind in KINDS else set())


def test_every_key_of_a_vendor_makes_its_provider(tmp_path: Any) -> None:
    environ = {f"{name.upper()}_API_KEY": f"key-{name}" for name, one in VENDORS.items() if not one.is_local}
    found = bootstrap.wanted(make_config(tmp_path, **environ))
    assert len(found) > 15
    assert {name: one.credential for name, one in found.items()} == {name: f"key-{name}" for name in found}


def test_a_row_follows_the_environment(sqlite_database: str, make_app: Any, upstream: Any) -> None:
    def row(app: Any) -> Provider:
        with Session(app.extensions["gateway"].engine) as session:
            return session.scalars(select(Provider).where(Provider.name == "azure")).one()

    app = make_app(sqlite_database, **AZURE)
    first = row(app)
    assert (first.kind, first.is_enabled, first.discover, first.managed_by) == ("azure", True, False, "environment")
    assert app.extensions["gateway"].sealer.open(first.credential) == "k"
    changed = {"AZURE_OPENAI_ENDPOINT": "https://b.openai.azure.com", "AZURE_OPENAI_API_KEY": "k2"}
    app = make_app(sqlite_database, **changed)
    second = row(app)
    assert (second.id, second.base_url) == (first.id, "https://b.openai.azure.com")
    assert app.extensions["gateway"].sealer.open(second.credential) == "k2"
    assert not row(make_app(sqlite_database, ECHO_PROVIDER="true")).is_enabled
