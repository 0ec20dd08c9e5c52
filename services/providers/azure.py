"""Azure OpenAI: OpenAI's dialect at other paths, with another header.

With dated versions the deployment stands in the path; the API called `v1` has OpenAI's paths under `/openai/v1`
(learn.microsoft.com/azure/ai-foundry/openai: reference, api-version-lifecycle; openai-python 3.52.0, read 2026-11-21).
A deployment's `model` is the name it has at Azure.

Settings: `api_version` (2024-10-21 when empty; `v1` for the other API), and those of services/providers/compatible.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote, urlsplit

from services.errors import UpstreamError
from services.providers import openai_other
from services.providers.base import UpstreamRequest, parse_object, refused
from services.providers.compatible import ASKS, Compatible, mend_request
from services.providers.openai import PATHS, error_detail, request_body, request_headers
from services.types import Call, Deployment
from utils import jsonx

USUAL_VERSION: Final = "2024-10-21"
UNDATED: Final = frozenset({"v1", "latest", "preview"})
ROOT, V1_ROOT = "/openai", "/openai/v1"
LIMIT: Final = {"max_tokens_field": "max_completion_tokens"}  # which the newer models demand and the older ones take
MAX_INNER: Final = 4096  # characters of the detail of a refusal


class Azure(Compatible):
    """See the module."""

    def encode(self, call: Call, deployment: Deployment) -> UpstreamRequest:
        """See Wire.encode."""
        upstream = deployment.upstream
        settings = {**LIMIT, **upstream.settings}
        path = _path(upstream.base_url, settings, PATHS[call.operation], deployment.model)
        headers = request_headers(call, _headers(upstream.credential))
        if call.operation in openai_other.PATHS:
            return replace(openai_other.encode(call, deployment, headers), path=path)
        body, dropped = request_body(call, deployment, settings)
        if settings.keys() & ASKS:
            dropped += mend_request(call, body, settings)
        return UpstreamRequest("POST", path, headers, jsonx.dumps(body), dropped)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment) -> UpstreamError:
        """See Wire.error; why a content filter refused stays with the error."""
        detail = error_detail(body)
        found = refused(status, headers, detail, deployment)
        inner, credential = detail.get("innererror"), deployment.upstream.credential
        text = str(inner)
        if isinstance(inner, dict) and len(text) <= MAX_INNER and not (credential and credential in text):
            found.details = {"innererror": inner}
        return found

    def model_list(self, settings: Mapping[str, Any], credential: str) -> tuple[str, Mapping[str, str]]:
        """See Wire.model_list; it has the models of the region, and not the deployments."""
        return _path(str(settings.get("base_url", "")), settings, "/models", ""), dict(_headers(credential))

    def model_names(self, body: bytes) -> list[str]:
        """See Wire.model_names: none, since deployments are not listed."""
        if not isinstance(parse_object(body).get("data"), list):
            raise UpstreamError("the upstream's model list is not one")
        return []


def _path(base_url: str, settings: Mapping[str, Any], path: str, model: str) -> str:
    """The path below a base URL: an endpoint, or one with `/openai` or `/openai/v1` as other clients want it."""
    given, version = urlsplit(base_url).path.rstrip("/"), str(settings.get("api_version") or "")
    if given.endswith(V1_ROOT) or version in UNDATED:
        missing = V1_ROOT if not given.endswith((ROOT, V1_ROOT)) else "/v1" if given.endswith(ROOT) else ""
        return f"{missing}{path}" + (f"?api-version={version}" if version in UNDATED - {"v1"} else "")
    missing = "" if given.endswith(ROOT) else ROOT
    place = f"/deployments/{quote(model, safe='')}" if model else ""
    return f"{missing}{place}{path}?api-version={quote(version or USUAL_VERSION, safe='')}"


def _headers(credential: str) -> tuple[tuple[str, str], ...]:
    """A key has a header of its own; tokens of Entra are JWTs and go where tokens go."""
    is_token = credential.startswith("eyJ") and credential.count(".") == 2  # noqa: PLR2004 - the parts of a JWT
    name, value = ("authorization", f"Bearer {credential}") if is_token else ("api-key", credential)
    return ("content-type", "application/json"), *(((name, value),) if credential else ())
