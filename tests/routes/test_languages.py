"""In which language errors and messages come, and that numbers and names inside of them survive it."""

import pytest

from routes import wording
from services.errors import InvalidRequest, NotFound
from tests.people import ask, token

LOGIN = {"username": "maria", "password": "a good password"}
PT = {"accept-language": "pt-BR"}


@pytest.fixture
def maria(lite):
    assert lite.test_client().post("/register", json=LOGIN).status_code == 201
    return token(lite, **LOGIN)


def said(app, text, language="pt-BR"):
    with app.test_request_context(headers={"accept-language": language}):
        return wording.say(text)


@pytest.mark.parametrize(
    ("asked", "is_portuguese"),
    [
        ("pt-BR", True),
        ("pt", True),
        ("pt-PT", True),
        ("PT-br", True),
        ("fr, pt;q=0.4", True),
        ("en;q=0.3, pt-BR;q=0.9", True),
        ("de, *;q=0.1, pt-BR;q=0.5", True),
        ("en-GB, pt;q=0.9", False),
        ("pt;q=0, en;q=0.1", False),
        ("pt;q=0", False),
        ("fr", False),
        ("*", False),
        ("", False),
        ("ptolemaic", False),
    ],
)
def test_the_best_language_that_is_asked_for(lite, asked, is_portuguese):
    answer = lite.test_client().get("/users/me", headers={"accept-language": asked} if asked else {})
    assert answer.json["detail"] == ("Não autenticado" if is_portuguese else "Not authenticated")


def test_whoever_asks_for_none_gets_the_default(make_app, sqlite_database):
    app = make_app(sqlite_database, DEFAULT_LOCALE="pt_BR")
    for asked, text in ((None, "Não"), ("*", "Não"), ("fr", "Não"), ("en", "Not"), ("en-US,en;q=0.5", "Not")):
        answer = app.test_client().get("/users/me", headers={"accept-language": asked} if asked else {})
        assert answer.json["detail"].startswith(text), asked
    early = app.test_client().post("/v1/chat/completions", json={})
    assert early.json["error"]["message"].startswith("Nenhuma chave de API")


def test_what_a_person_chose_goes_before_what_a_request_asks_for(lite, maria):
    path = "/usage/admin"
    refused = "Only admins see what others use, with the token of /login."
    assert ask(lite, "GET", path, maria).json["error"] == refused
    chosen = ask(lite, "PATCH", "/users/me", maria, json={"language": "pt-BR"})
    assert (chosen.status_code, chosen.json) == (200, {"username": "maria", "language": "pt-BR"})
    lite.extensions["gateway"].catalog.refresh()
    assert ask(lite, "GET", path, maria).json["error"].startswith("Só administradores")
    assert ask(lite, "GET", path, {**maria, "accept-language": "en"}).json["error"].startswith("Só administradores")
    assert ask(lite, "GET", "/users/me", maria).json["language"] == "pt-BR"
    assert ask(lite, "PATCH", "/users/me", maria, json={"language": None}).json["language"] is None
    lite.extensions["gateway"].catalog.refresh()
    assert ask(lite, "GET", path, maria).json["error"] == refused
    assert ask(lite, "GET", path, {**maria, **PT}).json["error"].startswith("Só administradores")


@pytest.mark.parametrize("language", ["pt_BR", "PT-br", "en"])
def test_languages_are_named_in_any_usual_way(lite, maria, language):
    answer = ask(lite, "PATCH", "/users/me", maria, json={"language": language})
    assert answer.json["language"] == ("en" if language == "en" else "pt-BR")


@pytest.mark.parametrize("body", [{}, {"language": "fr"}, {"language": 5}, {"language": ["en"]}, [], "pt-BR"])
def test_a_language_must_be_one(lite, maria, body):
    assert ask(lite, "PATCH", "/users/me", maria, json=body).status_code == 400


def test_a_key_does_not_change_whose_it_is(lite, maria):
    key = lite.test_client().post("/login", json=LOGIN).json["api_key"]
    answer = ask(lite, "PATCH", "/users/me", {"authorization": f"Bearer {key}"}, json={"language": "en"})
    assert answer.status_code == 403


def test_choosing_is_audited_once(lite, maria):
    for _ in range(2):
        ask(lite, "PATCH", "/users/me", maria, json={"language": "pt-BR"})
    admin = token(lite)
    found = ask(lite, "GET", "/api/v1/admin/audit?action=language_change", admin)
    entries = found.json if isinstance(found.json, list) else found.json["items"]
    assert [entry["action"] for entry in entries] == ["language_change"]


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/v1/chat/completions", {"model": "nothing"}, "`messages` é obrigatório."),
        ("/v1/chat/completions", {"model": "nothing", "messages": [{"role": "user", "content": "x"}]},
         "O modelo 'nothing' não está disponível."),
        ("/api/v1/dialogs", {"model_name": "echo", "title": 5}, "`title` deve ser um texto."),
        ("/api/v1/dialogs", {"model_name": "echo", "agent_config": {"heat": 1}},
         "`agent_config` tem um membro `heat` que não é conhecido aqui."),
        ("/api/v1/dialogs", {"model_name": "echo", "wrong": 1}, "`wrong` não é conhecido aqui."),
        ("/v1/messages", {}, "`model` é obrigatório."),
    ],
)  # fmt: skip
def test_errors_with_names_in_them_are_translated(lite, maria, path, body, text):
    answer = ask(lite, "POST", path, {**maria, **PT}, json=body)
    message = answer.json.get("message") or answer.json["error"]["message"]
    assert (answer.status_code // 100, message) == (4, text)


def test_reasons_of_members_are_translated(lite):
    admin = {**token(lite), **PT}
    answer = ask(lite, "POST", "/users/create", admin, json={**LOGIN, "role": "king"})
    assert answer.json["details"] == {"role": "deve ser um destes: user, team_admin, auditor, admin"}


def test_texts_that_clients_compare_stay_as_they_are(lite):
    answer = ask(lite, "PUT", "/api/key-management/keys", {**token(lite), **PT}, json={})
    assert "is required" in str(answer.json["errors"])


def test_large_numbers_are_written_as_the_reader_does(lite):
    text = (
        "Too many tokens for team `Tokens, 24 h`: the limit is 12,500 per hour, 1 is used, "
        "this call needs at least 2,000. Try again in 60 s."
    )
    assert said(lite, text) == (
        "Excesso de tokens para equipe `Tokens, 24 h`: o limite é 12.500 por hora, em uso: 1; "
        "esta chamada precisa de pelo menos 2.000. Tente de novo em 60 s."
    )
    assert said(lite, text, "en") == text


def test_budgets_are_explained(lite):
    text = (
        "The budget of this month of key `sk-th-…` (#7) cannot take this call: limit $5.00, spent $4.99, held by calls "
        "under way $0.00, needed at least $0.02. It resets at 2026-12-01T00:00:00Z."
    )
    assert said(lite, text) == (
        "Esta chamada não cabe no orçamento por mês (chave `sk-th-…` (nº 7)): limite $5.00, gasto $4.99, reservado "
        "por chamadas em andamento $0.00, necessário pelo menos $0.02. Ele se renova em 2026-12-01T00:00:00Z."
    )


@pytest.mark.parametrize(
    "text",
    [
        "what a provider says, 100% of it, with %(name)s and %s",
        "`member` is something that nobody translated.",
        "Users",  # not an error's text, and exact
        "x" * 5000,
        "",
        "`" * 3000,
    ],
)
def test_what_is_not_known_stays_as_it_is(lite, text):
    assert said(lite, text) == ({"Users": "Usuários"}.get(text, text))


def test_names_that_people_gave_are_not_translated(lite):
    assert said(lite, "Model 'Users' is not available.") == "O modelo 'Users' não está disponível."
    assert said(lite, "The user name `Users` is reserved.") == "O nome de usuário `Users` é reservado."


@pytest.mark.timeout(60)
def test_a_long_text_of_many_shapes_takes_no_time(lite):
    text = ("`a` is a whole number from 1 to " * 60)[:1990]
    assert said(lite, text)


def test_details_that_are_numbers_stay_numbers(lite):
    refused = NotFound("x")
    refused.details = {"limit": 5, "text": "is required"}
    with lite.test_request_context(headers=PT):
        assert wording.details(refused) == {"limit": 5, "text": "is required"}
        assert wording.details(InvalidRequest("x")) == {}
