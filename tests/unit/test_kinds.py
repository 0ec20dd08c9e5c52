"""The address that is meant where somebody gives one with more than the vendor's own SDK takes."""

import pytest

from services import configentries
from services.bootstrap import Wanted
from services.providers.kinds import KINDS


@pytest.mark.parametrize(
    ("kind", "given", "meant"),
    [
        ("anthropic", "https://models.example.com/v1", "https://models.example.com"),
        ("anthropic", "https://models.example.com/anthropic/v1/", "https://models.example.com/anthropic"),
        ("anthropic", "https://models.example.com/v1/messages", "https://models.example.com"),
        ("anthropic", "https://models.example.com/anthropic", "https://models.example.com/anthropic"),
        ("anthropic", "https://models.example.com/api/dev1", "https://models.example.com/api/dev1"),
        ("anthropic", "", "https://api.anthropic.com"),
        ("gemini", "https://models.example.com/v1beta", "https://models.example.com"),
        ("gemini", "https://models.example.com/v1", "https://models.example.com"),
        ("ollama", "http://127.0.0.1:11434/v1", "http://127.0.0.1:11434"),
        ("ollama", "http://127.0.0.1:11434/api/", "http://127.0.0.1:11434"),
        ("ollama", "http://127.0.0.1:11434/api/chat", "http://127.0.0.1:11434"),
        ("openai", "https://models.example.com/v1/chat/completions", "https://models.example.com/v1"),
        ("openai", "https://models.example.com/v1/", "https://models.example.com/v1/"),
        ("openai", "", "https://api.openai.com/v1"),
        ("custom", "https://models.example.com/v1", "https://models.example.com/v1"),
    ],
)
def test_what_calls_add_by_themselves_is_taken_off_an_address(kind: str, given: str, meant: str) -> None:
    assert KINDS[kind].address(given) == meant


def test_the_file_and_the_environment_take_such_addresses_too() -> None:
    given = {"name": "house", "kind": "anthropic", "base_url": "https://models.example.com/v1"}
    entry = configentries.ProviderEntry.model_validate(given)
    assert entry.base_url == "https://models.example.com"
    wanted = Wanted("ollama", "http://127.0.0.1:11434/v1")
    assert wanted.completed().base_url == "http://127.0.0.1:11434"
