"""Examples of calls on the pages about keys: they hold for any name of a model, and read the key from one variable."""

import ast
import json
import subprocess
from html import unescape

import pytest

from routes.admin import examples
from tests.admin.conftest import Browser, add_calls, add_user
from tests.helpers import add_model, add_provider
from tests.texts import ROOT

NAMES = ["fast", "<b>", "it's", 'a"b\\c', "$HOME `id` !x", "é 😀", "-d @/etc/passwd"]


@pytest.mark.parametrize("model", NAMES)
def test_a_shell_hands_the_name_on_as_it_is(model: str) -> None:
    line = examples.curl("https://llm.test", model)
    script = f"""curl() {{ for one; do printf '%s\\0' "$one"; done; }}\n{line}"""
    given = subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, check=True, env={"TOLLHOUSE_API_KEY": "sk-th-x"}
    ).stdout.decode()
    url, _header, key, _type, _json, _data, body, _end = given.split("\0")
    assert (url, key) == ("https://llm.test/v1/chat/completions", "Authorization: Bearer sk-th-x")
    assert json.loads(body) == {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}


@pytest.mark.parametrize("model", NAMES)
def test_python_reads_the_name_as_it_is(model: str) -> None:
    for text in (examples.python("https://llm.test", model), examples.anthropic("https://llm.test", model)):
        found = [
            node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.keyword) and node.arg == "model"
        ]
        assert [ast.literal_eval(one) for one in found] == [model]


def test_the_page_of_a_new_key_writes_names_plainly(panel_admin: Browser) -> None:
    provider = add_provider(panel_admin.app, "http://127.0.0.1:9")
    add_model(panel_admin.app, provider, "<b>it's")
    add_user(panel_admin.app, "ana")
    data = {"name": "prod", "owner": "ana", "scope": "all", "period": "month"}
    made = panel_admin.post("/admin/keys/new/", data)
    assert made.status_code == 303, made.text
    shown = panel_admin.get(made.location).text
    assert "u003c" not in shown
    assert "<b>it" not in shown
    assert examples.curl("http://localhost", "<b>it's") in unescape(shown)


def test_there_is_one_name_for_the_variable() -> None:
    places = (
        "routes",
        "services",
        "templates",
        "static",
        "docs",
        "bench",
        "translations/pt_BR/LC_MESSAGES/messages.po",
    )
    found = subprocess.run(
        ["git", "grep", "-lE", r"TOLLHOUSE_KEY\b", "--", *places, "README*"], cwd=ROOT, capture_output=True, check=False
    )
    assert (found.returncode, found.stdout) == (1, b"")


@pytest.mark.parametrize(("language", "words"), [("en", "Answer broke off"), ("pt-BR", "Resposta interrompida")])
def test_outcomes_are_words_with_their_code_in_the_hover(panel_admin: Browser, language: str, words: str) -> None:
    add_calls(panel_admin.app, 1, outcome="upstream_cut")
    shown = panel_admin.get("/admin/usage/", headers={"accept-language": language}).text
    assert f'title="upstream_cut">{words}</span>' in shown
    assert f'<option value="upstream_cut">{words}</option>' in shown


@pytest.mark.parametrize(("count", "words"), [(1, ("1 call,", "1 token")), (2, ("2 calls,", "2 tokens"))])
def test_one_call_is_not_calls(panel_admin: Browser, count: int, words: tuple[str, ...]) -> None:
    add_calls(panel_admin.app, count, input_tokens=1, output_tokens=0)
    shown = panel_admin.get("/admin/").text
    for one in (f"{words[0]} 0 failed", f"{words[1]} in, 0 out"):
        assert one in shown, one
