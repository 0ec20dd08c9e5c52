"""Provider settings: accounts that keys are bound to, as in the other gateway's README."""

import pytest
from sqlalchemy.orm import Session

from models import AuditEntry, Provider
from tests.helpers import chat

SECRET = "sk-of-the-provider-0123456789"
OTHER = "sk-of-another-0123456789abcd"


@pytest.fixture
def served(database, make_app, upstream):
    """An app whose OpenAI is the fake upstream."""
    return make_app(database, OPENAI_BASE_URL=upstream.base_url)


def send(app, method, path, body=None):
    return app.test_client().open(path, method=method, json=body, headers={"Host": "localhost"})


def create(app, **more):
    answer = send(app, "PUT", "/api/provider-settings", {"provider": "openai", "setting": {"apikey": SECRET}, **more})
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_a_setting_a_key_and_a_call(served, upstream):
    made = create(served, name="main account")
    assert made == made | {"provider": "openai", "name": "main account", "allowedModels": []}
    assert SECRET not in str(made)
    body = {"name": "My Secret Key", "key": "my-secret-key", "tags": ["mykey"], "settingIds": [made["id"]]}
    key = send(served, "PUT", "/api/key-management/keys", body | {"rateLimitOverTime": 2, "rateLimitUnit": "m"})
    assert key.status_code == 200, key.text
    assert (key.get_json()["settingIds"], key.get_json()["settingId"]) == ([made["id"]], made["id"])
    auth = {"Authorization": "Bearer my-secret-key"}
    model = next(iter(served.test_client().get("/v1/models", headers=auth).get_json()["data"]))["id"]
    answer = served.test_client().post(
        "/api/providers/openai/v1/chat/completions", json=chat(model=model), headers=auth
    )
    assert answer.status_code == 200, answer.text
    assert upstream.served[-1].headers["authorization"] == f"Bearer {SECRET}"
    refused = served.test_client().post(
        "/api/providers/openai/v1/chat/completions", json=chat(model="echo"), headers=auth
    )
    assert refused.status_code == 400, "other accounts are not for this key"


def test_settings_are_listed_and_changed_without_their_credential(served, upstream):
    first, second = create(served, name="one"), create(served)
    assert second["name"].startswith("openai-")
    listed = send(served, "GET", "/api/provider-settings")
    assert {setting["id"] for setting in listed.get_json()} == {first["id"], second["id"]}
    only = send(served, "GET", f"/api/provider-settings?ids={second['id']}").get_json()
    assert [setting["id"] for setting in only] == [second["id"]]
    path = f"/api/provider-settings/{first['id']}"
    changed = send(served, "PATCH", path, {"setting": {"apiKey": OTHER}, "allowedModels": ["gpt-4o-mini"]})
    assert changed.get_json()["allowedModels"] == ["gpt-4o-mini"]
    assert upstream.served[-1].headers["authorization"] == f"Bearer {OTHER}"
    gateway = served.extensions["gateway"]
    with Session(gateway.engine) as session:
        assert gateway.sealer.open(session.query(Provider).filter_by(name="one").one().credential) == OTHER
        noted = [str(entry.details) for entry in session.query(AuditEntry)]
    assert not [text for text in (*noted, listed.text, changed.text) if SECRET in text or OTHER in text]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"provider": "openai"},
        {"provider": "openai", "setting": {}},
        {"provider": "openai", "setting": "sk"},
        {"provider": "openai", "setting": {"apikey": 7}},
        {"provider": "openai", "setting": {"apikey": "a\nb"}},
        {"provider": "openai", "setting": {"apikey": "sk-1\u65e5\u672c"}, "name": "\u65e5\u672c \U0001f642"},
        {"provider": "openai", "setting": {"apikey": SECRET, "url": "http://169.254.169.254"}},
        {"provider": "mars", "setting": {"apikey": SECRET}},
        {"provider": ["openai"], "setting": {"apikey": SECRET}},
        {"provider": "openai", "setting": {"apikey": SECRET}, "allowedModels": "gpt"},
        {"provider": "openai", "setting": {"apikey": SECRET}, "costMap": []},
        {"provider": "openai", "setting": {"apikey": SECRET}, "name": "x" * 101},
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_stored(served, body):
    answer = send(served, "PUT", "/api/provider-settings", body)
    assert (answer.status_code, answer.get_json()["type"]) == (400, "/errors/validation"), answer.text
    assert send(served, "GET", "/api/provider-settings").get_json() == []


def test_all_mistakes_are_named_at_once_each_with_its_own_reason(served):
    def reasons(method, path, body):
        answer = send(served, method, path, body)
        assert answer.get_json()["detail"].endswith("] are invalid")
        return answer.get_json()["errors"]

    body = {"provider": "mars", "setting": "x", "costMap": {"colour": {}}, "name": 5}
    found = reasons("PUT", "/api/provider-settings", body)
    assert found.keys() == {"provider", "setting", "costMap.colour", "name"}
    assert reasons("PUT", "/api/provider-settings", {}) == {"provider": "is required", "setting.apikey": "is required"}
    path = f"/api/provider-settings/{create(served)['id']}"
    found = reasons("PATCH", path, {"setting": {"apikey": "sk-\u2026", "url": "x"}, "colour": 1})
    assert found.keys() == {"setting.apikey", "setting.url", "colour"}
    assert send(served, "PATCH", path, {"name": "good"}).status_code == 200


def test_names_are_taken_once_and_unknown_ids_are_told(served):
    create(served, name="one")
    other = create(served, name="two")
    body = {"provider": "openai", "setting": {"apikey": SECRET}, "name": "one"}
    again = send(served, "PUT", "/api/provider-settings", body)
    renamed = send(served, "PATCH", f"/api/provider-settings/{other['id']}", {"name": "one"})
    for answer in (again, renamed):
        assert (answer.status_code, answer.get_json()["type"]) == (409, "/errors/duplicate-provider-setting")
        assert answer.get_json()["detail"] == "There is a provider `one` already."
    assert send(served, "GET", f"/api/provider-settings?ids={other['id']}").get_json() == [other]
    missing = send(served, "PATCH", "/api/provider-settings/nothing", {"name": "two"})
    assert (missing.status_code, missing.get_json()["type"]) == (404, "/errors/provider-setting-not-found")
    body = {"name": "k", "key": "another-secret-key", "settingIds": ["no-such-setting"]}
    refused = send(served, "PUT", "/api/key-management/keys", body)
    assert (refused.status_code, refused.get_json()["detail"]) == (400, "fields [settingIds] are invalid")


def test_a_key_is_let_go_by_an_empty_list(served):
    made = create(served)
    body = {"name": "k", "key": "another-secret-key", "settingId": made["id"]}
    key = send(served, "PUT", "/api/key-management/keys", body).get_json()
    path = f"/api/key-management/keys/{key['keyId']}"
    assert send(served, "PATCH", path, {"name": "k2"}).get_json()["settingIds"] == [made["id"]]
    both = send(served, "PATCH", path, {"settingId": made["id"], "settingIds": []})
    assert (both.status_code, list(both.get_json()["errors"])) == (400, ["settingIds"]), "one says none, one says one"
    assert send(served, "PATCH", path, {"settingIds": []}).get_json()["settingIds"] == []


def test_an_admin_is_needed(served):
    answer = served.test_client().get("/api/provider-settings", headers={"Origin": "https://evil.test"})
    assert answer.status_code == 401
