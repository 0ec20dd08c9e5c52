"""Portuguese is complete: the catalogue covers every text, and its compiled form is up to date."""

from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from flask import Flask

from services.providers import settingchecks
from services.providers.kinds import KINDS
from tests.admin.conftest import Browser, add_user
from tests.conftest import PASSWORD

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "translations/pt_BR/LC_MESSAGES"
KEYWORDS = {"_": None, "gettext": None, "lazy_gettext": None, "N_": None}
METHODS = [("routes/**.py", "python"), ("templates/**.html", "jinja2")]


@pytest.fixture(scope="module")
def catalogue() -> Catalog:
    with (FOLDER / "messages.po").open("rb") as file:
        return read_po(file, locale="pt_BR")


@pytest.fixture(scope="module")
def texts() -> set[str]:
    """Every text in the code and the templates."""
    found = set()
    for folder in ("routes", "templates"):
        methods = [
            (pattern.removeprefix(f"{folder}/"), method) for pattern, method in METHODS if pattern.startswith(folder)
        ]
        for _file, _line, message, _comments, _context in extract_from_dir(
            str(ROOT / folder), methods, keywords=KEYWORDS
        ):
            found.add(message if isinstance(message, str) else message[0])
    return found | texts_of_kinds()


def texts_of_kinds() -> set[str]:
    """What the form of a provider shows of its kinds, which know no language."""
    settings = [setting for kind in KINDS.values() for setting in kind.settings]
    said = [kind.label for kind in KINDS.values()] + [text for one in settings for text in (one.label, one.help)]
    return {text for text in said if text} | refusals_of_settings()


def refusals_of_settings() -> set[str]:
    """What the form says of texts that a setting cannot be."""
    rules = {**settingchecks.COMPATIBLE, **settingchecks.ANTHROPIC}
    checked = [kind for kind in KINDS.values() if kind.check in {settingchecks.compatible, settingchecks.anthropic}]
    typed = {one.name for kind in checked for one in kind.settings if not one.is_flag}
    return {f"`{name}` {why}" for name, (takes, why) in rules.items() if name in typed and not takes("ö")}


def test_no_text_is_untranslated(catalogue: Catalog, texts: set[str]) -> None:
    assert len(texts) > 350
    missing = {text for text in texts if text and (catalogue.get(text) is None or not catalogue.get(text).string)}
    assert missing == set()


def test_no_translation_is_left_over(catalogue: Catalog, texts: set[str]) -> None:
    assert {message.id for message in catalogue if message.id} - texts == set()


def test_placeholders_survive_translation(catalogue: Catalog) -> None:
    for message in catalogue:
        assert list(message.check()) == []
        if message.id:
            assert not message.fuzzy, message.id


def test_the_compiled_catalogue_is_the_written_one(catalogue: Catalog) -> None:
    with (FOLDER / "messages.mo").open("rb") as file:
        compiled = read_mo(file)
    assert {message.id: message.string for message in compiled if message.id} == {
        message.id: message.string for message in catalogue if message.id
    }


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/register", {"username": "nova", "password": "uma senha boa"}, "Usuário registrado com sucesso"),
        ("/register", {"username": "admin", "password": "uma senha boa"}, "Nome de usuário já existe"),
        ("/register", {}, "Dados de registro inválidos"),
        ("/login", {}, "Dados de login inválidos"),
        ("/login", {"username": "admin", "password": PASSWORD}, "Login bem-sucedido"),
        ("/login", {"username": "admin", "password": "errada"}, "Credenciais inválidas"),
    ],
)
def test_the_api_answers_in_portuguese(panel_app: Flask, path: str, body: dict[str, str], expected: str) -> None:
    answer = panel_app.test_client().post(path, json=body, headers={"accept-language": "pt-BR"})
    assert expected in answer.get_data(as_text=True)


def test_keys_and_tokens_are_refused_in_portuguese(panel_app: Flask) -> None:
    client = panel_app.test_client()
    headers = {"accept-language": "pt-BR,pt;q=0.9,en;q=0.5"}
    assert "API key inválida ou ausente" in client.get("/user/usage", headers=headers).get_data(as_text=True)
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
    answer = client.get("/user/usage", headers={**headers, "authorization": f"Bearer {token}"})
    assert "Não foi possível validar as credenciais" in answer.get_data(as_text=True)


def test_the_panel_speaks_portuguese(panel_app: Flask) -> None:
    add_user(panel_app, "ana", role="admin", locale="pt_BR")
    browser = Browser(panel_app, "ana")
    for path, text in (("/", "Visão geral"), ("/users/", "Usuários"), ("/keys/new/", "Modelos permitidos"),
                       ("/audit/", "Auditoria"), ("/nothing", "Não há nada aqui")):  # fmt: skip
        assert text in browser.get(f"/admin{path}").text
    assert "Este campo é obrigatório." in browser.post("/admin/keys/new/", {}).text
