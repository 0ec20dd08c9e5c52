"""Azure OpenAI where it differs: its header, its lists, its content filter. Its paths are in tests/golden/azure."""

from dataclasses import replace
from typing import Any

import pytest

from services.dialects.openai import error_body
from services.errors import UpstreamError
from services.providers import WIRES
from tests.calls import DEPLOYMENT, UPSTREAM, make_call
from utils import jsonx

WIRE = WIRES["azure"]
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2ln"
INNER = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}}


@pytest.mark.parametrize(
    ("credential", "expected"),
    [("k3y", {"api-key": "k3y"}), (JWT, {"authorization": f"Bearer {JWT}"}), ("", {})],
    ids=["a key", "a token of Entra", "none"],
)
def test_where_the_credential_goes(credential: str, expected: dict[str, str]) -> None:
    deployment = replace(DEPLOYMENT, upstream=replace(UPSTREAM, kind="azure", credential=credential))
    sent = dict(WIRE.encode(make_call(forwarded=(("x-ms-own", "1"),)), deployment).headers)
    assert sent == {"content-type": "application/json", "x-ms-own": "1", **expected}
    assert dict(WIRE.model_list({}, credential)[1]) == {"content-type": "application/json", **expected}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"base_url": "https://a.openai.azure.com"}, "/openai/models?api-version=2024-10-21"),
        ({"base_url": "https://a.openai.azure.com", "api_version": "v1"}, "/openai/v1/models"),
        ({"base_url": "https://a.openai.azure.com/openai/v1/"}, "/models"),
    ],
)
def test_where_the_list_of_models_is(settings: dict[str, Any], expected: str) -> None:
    assert WIRE.model_list(settings, "k")[0] == expected


def test_models_of_the_region_are_no_deployments() -> None:
    assert WIRE.model_names(b'{"data": [{"id": "gpt-4o"}]}') == []
    with pytest.raises(UpstreamError, match="model list"):
        WIRE.model_names(b'{"data": {}}')


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        pytest.param(INNER, INNER, id="as it came"),
        pytest.param("text", None, id="no object"),
        pytest.param({"code": "x" * 5000}, None, id="too large"),
        pytest.param({"code": UPSTREAM.credential}, None, id="with our key in it"),
    ],
)
def test_why_the_content_filter_refused_is_kept(inner: Any, expected: Any) -> None:
    body = {"error": {"message": "filtered", "code": "content_filter", "param": "prompt", "innererror": inner}}
    exc = WIRE.error(400, {}, jsonx.dumps(body), replace(DEPLOYMENT, upstream=replace(UPSTREAM, kind="azure")))
    shown = error_body(exc)["error"]
    assert (shown["code"], shown["param"], shown["message"]) == ("content_filter", "prompt", "filtered")
    assert shown.get("innererror") == expected


def test_without_a_key_nothing_is_hidden() -> None:
    deployment = replace(DEPLOYMENT, upstream=replace(UPSTREAM, kind="azure", credential=""))
    exc = WIRE.error(400, {}, jsonx.dumps({"error": {"message": "m", "innererror": INNER}}), deployment)
    assert exc.details == {"innererror": INNER}
