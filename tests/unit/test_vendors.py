"""Every row of the vendors, in the same way; and what compatible servers do that recordings do not show."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from config import Config, marks
from services.errors import UpstreamError, UpstreamRefused
from services.providers import WIRES, compatible, vendors
from services.providers.vendors import VENDORS, Vendor
from services.transport import origin_of
from services.types import EMBEDDING, Deployment
from tests.calls import DEPLOYMENT, UPSTREAM, attempted, make_call
from utils import jsonx, sse

WIRE = WIRES["openai"]
KNOWN = {*compatible.ASKS, *compatible.ANSWERS, "stream_usage", "max_tokens_field", "lists_models"}
ROWS = pytest.mark.parametrize(("name", "vendor"), VENDORS.items(), ids=VENDORS)
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def at(base_url: str, **settings: Any) -> Deployment:
    return replace(DEPLOYMENT, upstream=replace(UPSTREAM, base_url=base_url, settings=settings))


def of(name: str, **settings: Any) -> Deployment:
    """A deployment at a vendor; servers at home are known by name only."""
    named = {"vendor": name} if VENDORS[name].is_local else {}
    return at(VENDORS[name].base_url, **named, **settings)


@ROWS
def test_a_row_is_complete(name: str, vendor: Vendor) -> None:
    assert vendor.label
    assert urlsplit(vendor.docs).scheme == "https"
    assert origin_of(vendor.base_url).scheme == ("http" if vendor.is_local else "https")
    assert not vendor.base_url.endswith("/")
    assert vendor.settings.keys() <= KNOWN, "a setting that nobody reads"
    if vendor.is_local:
        assert vendors.name_at(vendor.base_url) == ""
    else:
        hosts = [urlsplit(vendor.base_url).hostname, *vendor.hosts]
        assert {vendors.name_at(f"https://{host}/anything") for host in hosts} == {name}


@ROWS
def test_a_chat_goes_out_and_comes_back(name: str, vendor: Vendor) -> None:
    body = {
        "model": "fast",
        "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "max_tokens": 9,
        "stream": True,
    }
    call = make_call(body, is_stream=True)
    sent = WIRE.encode(call, of(name))
    assert (sent.method, sent.path, sent.dropped) == ("POST", "/chat/completions", ())
    wanted = {**body, "model": DEPLOYMENT.model}
    if vendor.settings.get("stream_usage", True):
        wanted["stream_options"] = {"include_usage": True}
    assert jsonx.loads(sent.body) == wanted
    assert dict(sent.headers)["authorization"] == f"Bearer {UPSTREAM.credential}"
    frame = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    words = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "one"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    events = [sse.format_event({**frame, **word}) for word in words]
    decoder = WIRE.stream(attempted(call, of(name)))
    usage = sse.format_event({**frame, "choices": [], "usage": USAGE})
    out = [*decoder.feed(b"".join([*events, usage, sse.DONE])), *decoder.end()]
    assert b"".join(out) == b"".join([*events, sse.DONE]), "what has no quirk passes byte for byte"
    assert call.pieces == ["one"]
    assert decoder.usage is not None
    assert (decoder.usage.input_tokens, decoder.usage.output_tokens) == (5, 2)


@ROWS
def test_what_is_dropped_is_named_and_gone(name: str, vendor: Vendor) -> None:
    drops = [one for one in vendor.settings.get("drop", ()) if one not in vendor.settings.get("rename", {})]
    call = make_call({"model": "fast", "messages": [{"role": "user", "content": "hi"}], **dict.fromkeys(drops, 1)})
    sent = WIRE.encode(call, of(name))
    assert sorted(drops) == list(sent.dropped)
    assert jsonx.loads(sent.body).keys() == {"model", "messages"}


@ROWS
def test_every_finish_reason_is_one_of_openais_or_an_error(name: str, vendor: Vendor) -> None:
    for theirs, ours in vendor.settings.get("finish_reasons", {}).items():
        body = jsonx.dumps({"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": theirs}]})
        call = attempted(make_call(), of(name))
        if ours == "error":
            with pytest.raises(UpstreamError, match=f"ended its answer with `{theirs}`"):
                WIRE.decode(call, body)
        else:
            found = jsonx.loads(WIRE.decode(call, body).body)["choices"][0]["finish_reason"]
            assert found == ours
            assert ours in {"stop", "length", "content_filter"}


def test_no_two_rows_have_the_same_host() -> None:
    hosts = [[urlsplit(one.base_url).hostname, *one.hosts] for one in VENDORS.values() if not one.is_local]
    every = list(itertools.chain(*hosts))
    assert len(every) == len(set(every))


def test_vendors_with_a_key_in_the_environment_are_rows() -> None:
    own = {"openai", "azure_openai", "anthropic", "gemini", "gigachat", "login_returns"}
    fields = Config.model_fields
    keys = {name.removesuffix("_api_key") for name in fields if name.endswith("_api_key")} - own
    assert keys
    assert keys <= {name for name, one in VENDORS.items() if not one.is_local}
    assert {marks(fields[f"{name}_api_key"])["env"] for name in keys} == {f"{name.upper()}_API_KEY" for name in keys}


@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        pytest.param(at("https://API.Mistral.ai:443/v1/").upstream, "mistral", id="by its host"),
        pytest.param(at("http://10.0.0.5:8000/v1", vendor="mistral").upstream, "mistral", id="by its name"),
        pytest.param(at("https://api.mistral.ai/v1", vendor="groq").upstream, "groq", id="the name goes first"),
        pytest.param(at("https://api.mistral.ai/v1", vendor="").upstream, None, id="named as none"),
        pytest.param(at("https://evil-api.mistral.ai/v1").upstream, None, id="another host"),
        pytest.param(at("https://[broken").upstream, None, id="no address"),
        pytest.param(at("https://api.x.ai/v1").upstream, None, id="a row without quirks"),
    ],
)
def test_whose_settings_apply(upstream: Any, expected: str | None) -> None:
    found = vendors.settings_of(upstream)
    wanted: Mapping[str, Any] = VENDORS[expected].settings if expected else {}
    assert found == {**wanted, **upstream.settings}


def test_a_chunk_that_ends_with_an_error_is_one() -> None:
    decoder = WIRE.stream(attempted(make_call(is_stream=True), of("openrouter")))
    event = sse.format_event({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]})
    with pytest.raises(UpstreamError, match="ended its answer with `error`"):
        list(decoder.feed(event))


@pytest.mark.parametrize(("code", "status", "retryable"), [(429, 429, True), (401, 502, True), (400, 400, False),
                                                          ("x", 502, True), (True, 502, True)])  # fmt: skip
def test_a_number_in_an_error_within_an_answer_is_its_status(code: Any, status: int, retryable: bool) -> None:
    call, error = attempted(make_call(), of("openrouter")), {"message": "no room", "code": code}
    body = jsonx.dumps({"error": {**error, "metadata": {"raw": "raw words"}}})
    with pytest.raises(UpstreamRefused, match="no room: raw words") as caught:
        WIRE.decode(call, body)
    assert (caught.value.status, caught.value.is_retryable, caught.value.code) == (status, retryable, str(code))


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [7]},
        {"choices": [{"finish_reason": {}}]},
        {"choices": [{"delta": {"content": [7]}}]},
        {"choices": [{"delta": {"content": [{"type": "thinking", "thinking": 7}]}}]},
        {"choices": [{"delta": 7}]},
        {"choices": 7},
    ],
)
def test_events_of_any_shape_are_the_vendors_fault(chunk: dict[str, Any]) -> None:
    call = attempted(make_call(is_stream=True), of("mistral"))
    with pytest.raises(UpstreamError, match="malformed"):
        list(WIRE.stream(call).feed(sse.format_event(chunk)))
    whole = {"choices": [{**choice, "message": choice["delta"]} if isinstance(choice, dict) and "delta" in choice
             else choice for choice in chunk["choices"]] if isinstance(chunk["choices"], list) else 7}  # fmt: skip
    with pytest.raises(UpstreamError, match=r"did not send|no completion"):
        WIRE.decode(call, jsonx.dumps(whole))


@pytest.mark.parametrize("data", [7, [7], [{"embedding": ["a"]}], [{}]])
def test_embeddings_of_any_shape_are_the_vendors_fault(data: Any) -> None:
    body = {"model": "fast", "input": "a", "encoding_format": "base64"}
    call = attempted(make_call(body, operation=EMBEDDING), of("sambanova"))
    with pytest.raises(UpstreamError, match="did not send"):
        WIRE.decode(call, jsonx.dumps({"data": data}))


def test_usage_of_any_shape_is_not_believed() -> None:
    for usage in (7, {"usage": 7}, [{"usage": None}, 7]):
        call = attempted(make_call(is_stream=True, wants_usage=True), of("groq"))
        decoder = WIRE.stream(call)
        out = b"".join(decoder.feed(sse.format_event({"choices": [], "x_groq": usage}) + sse.DONE))
        assert out + b"".join(decoder.end()) == sse.format_event({"choices": [], "x_groq": usage}) + sse.DONE
        assert decoder.usage is None


def test_an_event_without_choices_is_handed_on() -> None:
    """It is not for us to say what it means; only an empty list breaks clients."""
    decoder = WIRE.stream(make_call(is_stream=True))
    assert list(decoder.feed(b'data: {"timings":{}}\n\ndata: {"choices":[]}\n\n')) == [b'data: {"timings":{}}\n\n', b""]


def test_a_bare_list_of_models_is_one() -> None:
    assert WIRE.model_names(b' [ {"id": "a"}, {"id": "b"}]') == ["a", "b"]


def test_a_vendor_without_a_list_says_so() -> None:
    with pytest.raises(UpstreamError, match="add them by name"):
        WIRE.model_list({"base_url": "https://api.perplexity.ai"}, "sk-1")
    assert WIRE.model_list({"base_url": "https://api.perplexity.ai", "lists_models": True}, "")[0] == "/models"
    assert WIRE.model_list({}, "sk-1")[0] == "/models"


def test_ids_of_tool_calls_are_shortened_the_same_way_everywhere() -> None:
    ids = [compatible.short_id(one) for one in ("call_1", "call_1", "call_2", "", "Ab3dEf6h9")]
    assert ids[0] == ids[1] != ids[2]
    assert ids[4] == "Ab3dEf6h9"
    assert all(compatible.SHORT_ID.fullmatch(one) for one in ids)


def test_headers_of_the_caller_are_passed_to_servers_of_the_same_dialect_only() -> None:
    for dialect, expected in (("openai", "yes"), ("anthropic", None)):
        call = make_call(forwarded=(("x-own", "yes"),), dialect=dialect)
        assert dict(WIRE.encode(call, of("mistral")).headers).get("x-own") == expected
