"""Portuguese is complete: the catalogue covers every text, and its compiled form is up to date."""

from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from flask import Flask

from routes import wording
from routes.wording import PLACE
from services.errors import FieldsInvalid
from services.providers import settingchecks
from services.providers.kinds import KINDS
from tests.admin.conftest import Browser, add_user
from tests.conftest import PASSWORD
from tests.helpers import AUTH
from tests.texts import ENGLISH, ROOT, of_everything, refusals

FOLDER = ROOT / "translations/pt_BR/LC_MESSAGES"

FEWER = {  # Portuguese needs no verb here, and of places side by side the first takes all
    "Too many %(what)s for %(whose)s: the limit is %(amount)s %(span)s, %(gone)s %(verb)s used%(needed)s. %(again)s": {
        "verb"
    },
    "The %(kind)s%(span)s of %(call)s cannot take this call: limit %(limit)s, spent %(spent)s, held by calls under way "
    "%(held)s, needed %(value)s%(needed)s. %(never)s": {"span", "needed"},
}
ERRORS = """
WORDS: Final = "Named."
MORE = " and more."

def fail(name, row):
    raise NotFound("Plain.")
    raise NotFound(f"`{name}` of {row.limit:,} is 100% wrong.")
    raise NotFound(WORDS)
    raise NotFound("This." if name else "That.")
    raise FieldsInvalid({"name": "of a member"})
    wrong = {}
    wrong["name"] = "put in later"
    raise FieldsInvalid(wrong)
    raise NotFound("One" + MORE)
    raise ValueError("nobody reads it")
    raise NotFound(str(exc))
"""


@pytest.fixture(scope="module")
def catalogue() -> Catalog:
    with (FOLDER / "messages.po").open("rb") as file:
        return read_po(file, locale="pt_BR")


@pytest.fixture(scope="module")
def texts() -> set[str]:
    """Every text in the code and the templates."""
    return of_everything() | texts_of_kinds()


def texts_of_kinds() -> set[str]:
    """What the form of a provider shows of its kinds, which know no language."""
    settings = [setting for kind in KINDS.values() for setting in kind.settings]
    said = [text for one in settings for text in (one.label, one.help, one.otherwise)]
    said += [kind.label for kind in KINDS.values()]
    return {text for text in said if text} | refusals_of_settings()


def refusals_of_settings() -> set[str]:
    """What the form says of texts that a setting cannot be."""
    rules = {**settingchecks.COMPATIBLE, **settingchecks.ANTHROPIC}
    checked = [kind for kind in KINDS.values() if kind.check in {settingchecks.compatible, settingchecks.anthropic}]
    typed = {one.name for kind in checked for one in kind.settings if not one.is_flag}
    return {f"`{name}` {why}" for name, (takes, why) in rules.items() if name in typed and not takes("ö")}


def test_no_text_is_untranslated(catalogue: Catalog, texts: set[str]) -> None:
    assert len(texts) > 850
    missing = {text for text in texts if text and (catalogue.get(text) is None or not catalogue.get(text).string)}
    assert missing == set()


def test_what_stays_english_says_why_and_is_there() -> None:
    """Each entry of the list has errors; a text that people read elsewhere belongs in the catalogue."""
    paths = [path for folder in ("routes", "services") for path in (ROOT / folder).rglob("*.py")]
    files = [path.relative_to(ROOT).as_posix() for path in paths]
    for start, why in ENGLISH.items():
        assert why
        assert any(any(refusals(ROOT / name)) for name in files if name.startswith(start)), start


def test_errors_are_found_in_every_way_they_are_written(tmp_path: Path) -> None:
    source = tmp_path / "example.py"
    source.write_text(ERRORS)
    assert [text for _line, text in refusals(source)] == [
        "Plain.",
        "`%(name)s` of %(limit)s is 100%% wrong.",
        "Named.",
        "This.",
        "That.",
        "of a member",
        "put in later",
        "One and more.",
    ]


def test_no_translation_is_left_over(catalogue: Catalog, texts: set[str]) -> None:
    assert said(catalogue).keys() - texts == set()


def test_placeholders_survive_translation(catalogue: Catalog) -> None:
    """A translation has the places of its text. Some say the same with fewer of them."""
    assert not catalogue.obsolete
    for message in catalogue:
        assert list(message.check()) == []
        if not message.id:
            continue
        assert not message.fuzzy, message.id
        texts = message.id if isinstance(message.id, tuple) else (message.id,)
        wanted = {place for text in texts for place in PLACE.findall(text)}
        said = message.string if isinstance(message.string, tuple) else (message.string,)
        for text in said:
            assert set(PLACE.findall(text)) <= wanted, message.id
            assert wanted - set(PLACE.findall(text)) <= FEWER.get(texts[0], set()), message.id


def said(catalogue: Catalog) -> dict[str, tuple[str, ...]]:
    """The translations by their texts; those of a number of things have several."""
    found = {}
    for message in filter(lambda one: one.id, catalogue):
        text = message.id if isinstance(message.id, str) else message.id[0]
        found[text] = (message.string,) if isinstance(message.string, str) else tuple(message.string)
    return found


def test_the_compiled_catalogue_is_the_written_one(catalogue: Catalog) -> None:
    with (FOLDER / "messages.mo").open("rb") as file:
        compiled = read_mo(file)
    assert said(compiled) == said(catalogue)


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


def test_what_is_wrong_with_a_body_is_said_in_portuguese(panel_app: Flask) -> None:
    client, headers = panel_app.test_client(), AUTH | {"Accept-Language": "pt-BR"}
    panel_app.config["MAX_CONTENT_LENGTH"] = 12_000
    large = client.post("/v1/chat/completions", headers=headers, json={"model": "x" * 13_000})
    assert (large.json or {})["error"]["message"].endswith("pode ter 12.000 bytes.")
    with panel_app.test_request_context(headers=headers):
        assert wording.say(str(FieldsInvalid({"unit": "", "limit": ""}))) == "os campos [unit, limit] são inválidos"


def test_the_panel_speaks_portuguese(panel_app: Flask) -> None:
    add_user(panel_app, "ana", role="admin", locale="pt_BR")
    browser = Browser(panel_app, "ana")
    for path, text in (("/", "Visão geral"), ("/users/", "Usuários"), ("/keys/new/", "Modelos permitidos"),
                       ("/audit/", "Auditoria"), ("/nothing", "Não há nada aqui")):  # fmt: skip
        assert text in browser.get(f"/admin{path}").text
    assert "Este campo é obrigatório." in browser.post("/admin/keys/new/", {}).text
