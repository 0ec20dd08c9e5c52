"""Amazon Bedrock's Converse API, for chats with every model that Bedrock offers it for.

The credential is `ACCESS_KEY_ID:SECRET_ACCESS_KEY` or `ACCESS_KEY_ID:SECRET_ACCESS_KEY:SESSION_TOKEN`, with which
requests are signed, or else one of Bedrock's API keys, which is sent as it is. Setting: `region`, where the host does
not name it. A request is signed when it is encoded, which every try does anew, so that a late retry is not stale.

Bedrock lists its models on another host than the one that serves them (`bedrock.` instead of `bedrock-runtime.`), so
they must be named. Embeddings have another shape for each family there and are not offered.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn
from urllib.parse import quote

from services.errors import GatewayError, UpstreamError
from services.providers import bedrock_models
from services.providers.base import UpstreamRequest, WholeAnswer, claudes_tokens, expecting, parse_object, refused
from services.providers.bedrock_answer import BedrockStream, finish_of, read_message, usage_of
from services.providers.bedrock_request import chat_request
from services.providers.hubanswers import frame, hub_usage, unstreamed
from services.providers.sigv4 import Headers, Keys, signature
from services.types import CHAT, Call, Deployment, Upstream
from utils import clock, jsonx

SERVICE: Final = "bedrock"
JSON: Final[Headers] = (("content-type", "application/json"),)
TOO_MANY: Final = 429
MODEL_FAILED: Final = 424  # the model, not the request: another one may do better
TOO_LONG: Final = ("too long", "input")  # no type of error says it
_REGION: Final = re.compile(r"\bbedrock-runtime(?:-fips)?\.([a-z]{2}(?:-[a-z]+)+-\d+)\.")
_SIGNING: Final = re.compile(r"([A-Z0-9]{16,128}):([^:]+)(?::([^:]+))?")


class Bedrock:
    """See the module."""

    operations = frozenset({CHAT})
    not_streams = ("text/html", "application/json")

    def hidden_tokens(self, call: Call, deployment: Deployment) -> int:
        """See Wire.hidden_tokens."""
        return claudes_tokens(call) if bedrock_models.claude_version(deployment.model) else 0

    def encode(self, call: Call, deployment: Deployment) -> UpstreamRequest:
        """See Wire.encode."""
        sent, dropped = chat_request(call, deployment.model)
        body = jsonx.dumps(sent)
        path = f"/model/{quote(deployment.model, safe='')}/{'converse-stream' if call.is_stream else 'converse'}"
        return UpstreamRequest("POST", path, JSON + _authorization(deployment.upstream, path, body), body, dropped)

    def decode(self, call: Call, body: bytes) -> WholeAnswer:
        """See Wire.decode."""
        answer = parse_object(body)
        pieces: list[str] = []
        with expecting("an answer of Converse"):
            message = read_message(call, answer["output"]["message"], pieces)
            if "tool_calls" in message:
                message["tool_calls"] = [unstreamed(made) for made in message["tool_calls"]]
            finish = finish_of(answer["stopReason"])
            usage = usage_of(answer.get("usage"))
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            hub = {**frame(call, is_chunk=False), "choices": [choice]}
            if (counts := hub_usage(usage)) is not None:
                hub["usage"] = counts
            return WholeAnswer(jsonx.dumps(hub), usage, tuple(pieces))

    def stream(self, call: Call) -> BedrockStream:
        """See Wire.stream."""
        return BedrockStream(call)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment) -> UpstreamError:
        """See Wire.error. The type of an error stands in a header, its text in the body."""
        try:
            raw = jsonx.loads(body)
            message = str(raw.get("message") or raw.get("Message") or "")
        except (jsonx.BadJson, AttributeError):
            message = ""
        code = headers.get("x-amzn-errortype", "").partition(":")[0] or None
        if code == "ValidationException" and all(word in message.lower() for word in TOO_LONG):
            code = "context_length_exceeded"
        kind = "rate_limit_error" if status == TOO_MANY else None
        status = 502 if status == MODEL_FAILED else status
        return refused(status, headers, {"message": message, "code": code, "type": kind}, deployment)

    def model_list(self, settings: Mapping[str, Any], credential: str) -> NoReturn:
        """See Wire.model_list.

        Raises:
            UpstreamError: always; see the module.
        """
        raise UpstreamError("Bedrock lists its models on another host; name the models that this provider shall offer")

    def model_names(self, body: bytes) -> NoReturn:
        """See Wire.model_names.

        Raises:
            UpstreamError: always; see the module.
        """
        raise UpstreamError("Bedrock lists no models where it serves them")


def _authorization(upstream: Upstream, path: str, body: bytes) -> Headers:
    """What proves who we are.

    Raises:
        GatewayError: nobody says in which region the host is, which no other try would change.
    """
    keys = _SIGNING.fullmatch(upstream.credential)
    if keys is None:
        return (("authorization", f"Bearer {upstream.credential}"),) if upstream.credential else ()
    found = _REGION.search(upstream.base_url)
    region = str(upstream.settings.get("region") or (found.group(1) if found else ""))
    if not region:
        raise GatewayError(f"set `region` for the provider `{upstream.name}`: its host does not name one")
    return signature(
        Keys(keys[1], keys[2], keys[3]),
        SERVICE,
        region,
        base_url=upstream.base_url,
        path=path,
        headers=JSON,
        body=body,
        at_ms=clock.now_ms(),
    )
