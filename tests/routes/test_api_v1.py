"""Errors of `/api/v1`: one form for every kind of them, and who may come in at all."""

import pytest

from routes import render_v1
from services import errors
from tests.conftest import PASSWORD
from tests.helpers import AUTH
from tests.routes.test_balances import ME, engine, register, token

TOKENS = "/api/v1/admin/users/1/tokens"


def test_every_error_has_the_same_form(lite):
    client, admin = lite.test_client(), token(lite, "admin", PASSWORD)
    cases = [
        (client.get(ME), 401, "UNAUTHORIZED"),
        (client.get(ME, headers={"Authorization": "Bearer wrong"}), 401, "UNAUTHORIZED"),
        (client.get("/api/v1"), 404, "NOT_FOUND"),
        (client.get("/api/v1/nothing"), 404, "NOT_FOUND"),
        (client.get("/api/v1/admin/users/x/tokens/history", headers=admin), 404, "NOT_FOUND"),
        (client.delete(ME), 405, "METHOD_NOT_ALLOWED"),
        (client.post(TOKENS, data=b"{oops", headers=admin), 400, "VALIDATION_ERROR"),
        (client.post(TOKENS, data=b"\xff", headers=admin), 400, "VALIDATION_ERROR"),
        (client.post(TOKENS, data=b"[" * 1000, headers=admin), 400, "VALIDATION_ERROR"),
        (client.post(TOKENS, data=b"[1]", headers=admin), 400, "VALIDATION_ERROR"),
        (client.post(TOKENS, data=b"[" * 70_000, headers=admin), 413, "PAYLOAD_TOO_LARGE"),
    ]
    for answer, status, code in cases:
        assert (answer.status_code, answer.json["code"]) == (status, code)
        assert answer.json.keys() - {"details"} == {"code", "message", "request_id"}
        assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert cases[0][0].headers["www-authenticate"] == "Bearer"
    assert cases[5][0].headers["allow"]


def test_other_surfaces_keep_their_own_forms(lite):
    client = lite.test_client()
    assert client.get("/v1/nothing").json.keys() == {"error"}
    assert client.get("/api/v1x").json.keys() == {"detail", "error", "code", "request_id"}


def test_a_failure_of_ours_says_nothing_of_the_inside(lite, monkeypatch):
    def fail(*_more):
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("services.balances.state", fail)
    answer = lite.test_client().get(ME, headers=AUTH)
    assert (answer.status_code, answer.json["code"]) == (500, "INTERNAL_ERROR")
    assert "hunter2" not in answer.get_data(as_text=True)


def test_only_an_admin_who_signed_in_gets_through(app):
    _number, key = register(app)
    client = app.test_client()
    own = client.post("/login", json={"username": "admin", "password": PASSWORD}).json["api_key"]
    for headers, status, code in [
        (None, 401, "UNAUTHORIZED"),
        (key, 403, "FORBIDDEN"),
        (token(app, "maria", "senha-da-maria"), 403, "FORBIDDEN"),
        ({"Authorization": f"Bearer {own}"}, 403, "FORBIDDEN"),
    ]:
        for method, path in (("POST", TOKENS), ("GET", f"{TOKENS}/history"), ("PATCH", "/api/v1/admin/users/1/limits")):
            answer = client.open(path, method=method, json={"amount": 5, "limit": 5}, headers=headers)
            assert (answer.status_code, answer.json["code"]) == (status, code)
    assert client.get(ME, headers={"Authorization": f"Bearer {own}"}).json["balance"] is None
    with engine(app).connect() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM budgets WHERE scope_id = 1").scalar() == 0


@pytest.mark.parametrize(
    ("exc", "code", "details"),
    [
        (errors.GatewayError("x"), "INTERNAL_ERROR", None),
        (errors.ModelNotPriced("x"), "INSUFFICIENT_TOKENS", None),
        (errors.BudgetExceeded("x", resets_in_s=None, is_spent=False, details={"held": 5}), "INSUFFICIENT_TOKENS",
         {"held": 5, "retry_after": 1}),
        (errors.TooManyAttempts("x", retry_after_s=9), "RATE_LIMIT_EXCEEDED", {"retry_after": 9}),
        (errors.RateLimited("x", wait_s=7.2, room=None, details={"limit": 100, "window_seconds": 60}),
         "RATE_LIMIT_EXCEEDED", {"limit": 100, "window_seconds": 60, "retry_after": 8}),
        (errors.AccountingUnavailable("x"), "SERVICE_UNAVAILABLE", None),
        (errors.UpstreamRefused("x", status=400), "LLM_ERROR", None),
        (errors.UpstreamUnreachable("x"), "LLM_ERROR", None),
        (errors.UpstreamTimeout("x"), "LLM_TIMEOUT", None),
        (errors.CallerGone("x"), "VALIDATION_ERROR", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_every_kind_of_error_has_its_code(lite, exc, code, details):
    with lite.test_request_context():
        expected = {"code": code, "message": "x", "request_id": "req_1"}
        assert render_v1.body(exc, "req_1") == (expected | {"details": details} if details else expected)


def test_messages_come_in_portuguese(lite):
    headers = token(lite, "admin", PASSWORD) | {"accept-language": "pt-BR"}
    answer = lite.test_client().post(TOKENS, json={"amount": 0}, headers=headers)
    assert "número inteiro de tokens" in answer.json["message"]
    assert "Não há nada neste caminho" in lite.test_client().get("/api/v1/x", headers=headers).json["message"]
