"""Errors of the proxy surface: one fixed text for each cause, everything the gateway knows beside it."""

import pytest

from services import errors
from services.counting import Room
from services.dialects import proxy
from services.types import LimitRef
from utils import jsonx

ROOM = Room(LimitRef("1", "key", "requests", 2, "minute"), 0, 1.0)


def budget(**more):
    details = {"scope": "key", "unit": "usd", "period": "total", "is_prepaid": False}
    return errors.BudgetExceeded("spent", resets_in_s=more.pop("resets_in_s", None), is_spent=True, details=details)


CASES = [
    (errors.AuthenticationFailed("x", code="missing_api_key"), 401, "[BricksLLM] bearer token is not present"),
    (errors.AuthenticationFailed("x", code="invalid_auth_format"), 401, "[BricksLLM] bearer token is not present"),
    (errors.AuthenticationFailed("x", code="invalid_key_format"), 401, "[BricksLLM] api key is not registered"),
    (errors.AuthenticationFailed("x"), 401, "[BricksLLM] api key is not registered"),
    (errors.AuthenticationFailed("x", code="key_revoked"), 401, "[BricksLLM] api key has been revoked"),
    (errors.AuthenticationFailed("x", code="key_expired"), 401, "[BricksLLM] key has expired"),
    (errors.RateLimited("x", wait_s=1, room=ROOM, details={}), 429, "[BricksLLM] too many requests"),
    (budget(resets_in_s=5), 429, "[BricksLLM] too many requests"),
    (errors.ModelNotAllowed("x"), 403, "[BricksLLM] model is not allowed"),
    (errors.PermissionDenied("x", code="path_not_allowed"), 403, "[BricksLLM] path is not allowed"),
    (errors.PolicyViolation("x"), 403, "[BricksLLM] request blocked"),
    (errors.NotFound("x", code="route_not_found"), 404, "[BricksLLM] route config not found"),
    (errors.BodyEmpty("x"), 400, "[BricksLLM] request is empty"),
    (errors.BodyUnreadable("x"), 400, "[BricksLLM] error when parsing the request body"),
    (errors.BodyTooLarge("x"), 413, "[BricksLLM] error when reading the request body"),
    (errors.UpstreamUnreachable("x"), 502, "[BricksLLM] failed to send http request to openai"),
]


@pytest.mark.parametrize(("exc", "status", "text"), CASES, ids=lambda value: getattr(value, "code", None))
def test_each_cause_has_its_text(exc, status, text):
    exc.param = "model"
    assert proxy.error_body(exc) == {
        "error": {"message": text, "type": exc.type, "param": "model", "code": status, "detail": str(exc)}
    }


@pytest.mark.parametrize(
    "exc",
    [
        errors.InvalidRequest("`n` must be a whole number.", param="n"),
        errors.PermissionDenied("closed"),
        errors.TooManyAttempts("Too many tries."),
        errors.UpstreamTimeout("silent"),
        errors.UpstreamRefused("vendor says no", status=422, code="missing_api_key"),
        budget(),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_what_has_no_text_speaks_for_itself(exc):
    error = proxy.error_body(exc)["error"]
    assert (error["message"], error["detail"], error["code"]) == (str(exc), str(exc), exc.status)


def test_every_text_has_a_case():
    assert {text for _, _, text in CASES} == {text for _, _, text in proxy.TEXTS}


def test_an_error_in_a_stream_is_the_same_as_an_event():
    exc = errors.UpstreamError("ended early")
    event = proxy.error_event(exc)
    assert event.endswith(b"\n\n")
    assert jsonx.loads(event.removeprefix(b"data: ")) == proxy.error_body(exc)
