"""Custom providers: what their settings may be, what is sent and read by them, and answers of any shape."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from services import configfile
from services.errors import InvalidRequest, Unsupported, UpstreamError, UpstreamRefused
from services.providers import WIRES, recipes
from services.providers.custom import MAX_BYTES, Custom
from services.providers.kinds import KINDS
from services.types import COMPLETION, BudgetRef, Take
from tests.calls import DEPLOYMENT, UPSTREAM, attempted, make_call

SETTINGS = {"request": {"q": "{messages}", "n": "{max_tokens}"}, "answer_text": "out.text", "stream_text": "piece"}
TAKE = Take(BudgetRef(1, "user", "usd", "total", "UTC", is_prepaid=False), 0, 5)
SHAPES = [b"null", b"7", b'"x"', b"[]", b"{}", b'{"out": 1}', b'{"out": {"text": 1}}', b'{"out": {"text": [1]}}']


def deployment(**settings):
    return replace(DEPLOYMENT, upstream=replace(UPSTREAM, kind="custom", settings=SETTINGS | settings))


def sent(body=None, fields=None, **settings):
    request = Custom().encode(make_call(body, **(fields or {})), deployment(**settings))
    return request, json.loads(request.body)


def tried(fields=None, **settings):
    return attempted(make_call(**(fields or {})), deployment(**settings))


def streamed(*pieces, fields=None, **settings):
    call = tried({"is_stream": True, **(fields or {})}, **settings)
    decoder = Custom().stream(call)
    out = b"".join(event for piece in pieces for event in decoder.feed(piece))
    return out + b"".join(decoder.end()), decoder, call


def chat(*messages, **more):
    return {"model": "fast", "messages": [{"role": role, "content": content} for role, content in messages], **more}


def test_the_kind_is_there_with_a_check():
    assert isinstance(WIRES["custom"], Custom)
    KINDS["custom"].check(SETTINGS)
    assert {setting.name for setting in KINDS["custom"].settings} == recipes.DEFAULTS.keys()


def test_the_example_of_the_page_is_called_as_it_says(tmp_path):
    page = (Path(__file__).parents[2] / "docs/adding-a-provider.md").read_text(encoding="utf-8")
    file = tmp_path / "house.yaml"
    file.write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    (entry,) = configfile.read(file, {"HOUSE_KEY": "k-1"}).providers
    upstream = replace(UPSTREAM, kind="custom", credential=entry.api_key, settings=entry.settings)
    house = replace(DEPLOYMENT, upstream=upstream, model="large-2")
    asked = chat(("system", "Be brief."), ("user", "hi"), ("assistant", "hello"), ("user", "bye"), temperature=0.5)
    request = Custom().encode(make_call(asked), house)
    assert (request.path, dict(request.headers)["x-house-key"]) == ("/v2/models/large-2/generate", "k-1")
    assert json.loads(request.body) == {
        "turns": [{"who": "user", "said": "hi"}, {"who": "bot", "said": "hello"}, {"who": "user", "said": "bye"}],
        "instructions": "Be brief.",
        "stream": False,
        "options": {"max_tokens": 1024, "heat": 0.5},
    }
    call = attempted(make_call(asked), house)
    answer = {"results": [{"text": "Bye.", "why": "cut"}], "usage": {"in": 9, "out": 2}}
    (choice,) = json.loads(Custom().decode(call, json.dumps(answer).encode()).body)["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Bye.", "length")
    assert str(Custom().error(400, {}, b'{"problem": {"text": "no turns"}}', house)) == "no turns"
    assert recipes.DEFAULTS.keys() - entry.settings.keys() == {"stream_path", "models_path"}, "it shows nearly all"


def test_a_file_with_a_bad_location_is_refused_with_its_line(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(
        "providers:\n  - name: a\n    kind: custom\n    base_url: https://x.test\n"
        '    settings: {request: {q: "{last}"}, answer_text: "a..b"}\n',
        encoding="utf-8",
    )
    with pytest.raises(configfile.ConfigFileError, match=r"line 2: .*`answer_text` must be a location such as"):
        configfile.read(file, {})


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"request": None}, "`request` must be an object"),
        ({"request": "{"}, "`request` is not JSON"),
        ({"request": "[1]"}, "`request` must be an object"),
        ({"request": {"q": "{question}"}}, "placeholder {question}, which is none of"),
        ({"request": {"q": ["x {messages}"]}}, "{messages} within a text"),
        ({"request": {"q": "{model}"}}, "must have one of {messages}, {prompt} and {last}"),
        ({"message": {"who": "{model}"}}, "`message` has the placeholder {model}"),
        ({"roles": {"tool": "x"}}, "`roles` names `tool`"),
        ({"roles": {"user": 7}}, "must have a text for `user`"),
        ({"finish_reasons": {"eos": "done"}}, "makes `eos` into `done`"),
        ({"answer_text": None}, "`answer_text` is required"),
        ({"answer_text": 7}, "`answer_text` must be a location"),
        ({"answer_text": "a..b"}, "`answer_text` must be a location"),
        ({"answer_text": "a[b]"}, "`answer_text` must be a location"),
        ({"answer_text": "a."}, "`answer_text` must be a location"),
        ({"stream_input_tokens": "a b"}, "`stream_input_tokens` must be a location"),
        ({"error": ""}, "`error` must be a location"),
        ({"stream_format": "xml"}, "`stream_format` must be one of sse, lines"),
        ({"stream_format": ["sse"]}, "`stream_format` must be one of"),
        ({"stream_end": ""}, "`stream_end` must not be empty without"),
        ({"stream_end": "\n"}, "`stream_end` must be a text"),
        ({"path": "v1"}, "`path` must begin with a slash"),
        ({"path": "/a b"}, "`path` must begin with a slash and have no blanks"),
        ({"path": "/a\r\nx: y"}, "`path` must begin"),
        ({"path": "/" + "x" * 2000}, "`path` must begin"),
        ({"path": "/{prompt}"}, "may have the placeholder {model} only, not {prompt}"),
        ({"path": "/{model}}"}, "has braces that are no placeholder"),
        ({"models_path": "#"}, "`models_path` must begin"),
        ({"auth_header": "x key"}, "`auth_header` must name a header"),
        ({"auth_header": 7}, "`auth_header` must name a header"),
        ({"auth_header": "Host"}, "must not name `Host`"),
        ({"auth_prefix": "é"}, "`auth_prefix` must be a text of at most"),
        ({"headers": {"x-a": "1\r\nx-b: 2"}}, "`headers` must be a text"),
        ({"headers": {"Authorization": "x"}}, "must not have `authorization`"),
        ({"headers": {"content-length": "0"}}, "must not name `content-length`"),
        ({"answer_txt": "a"}, "`answer_txt` is no setting of a custom provider"),
        ({"path": date(2026, 1, 1), "request": {1, 2}}, "must be plain JSON"),
    ],
)
def test_settings_that_cannot_be_are_told_apart(settings, why):
    with pytest.raises(InvalidRequest) as caught:
        recipes.check(SETTINGS | settings)
    assert why in str(caught.value)
    assert str(caught.value.param).startswith("settings")
    with pytest.raises(Unsupported, match="settings of the provider `fake` cannot be used"):
        sent(**settings)


@pytest.mark.parametrize(
    ("location", "value", "found"),
    [
        ("a", {"a": 1}, 1),
        ("a.b", {"a": None}, None),
        ("a.b", {"a": "b"}, None),
        ("a.0", {"a": [5]}, 5),
        ("a[1]", {"a": [5]}, None),
        ("a[-1]", {"a": [5, 6]}, 6),
        ("a[-3]", {"a": [5, 6]}, None),
        ("a.0", {"a": {"0": 7}}, 7),
        ("a.b", {"a": [5]}, None),
        ("[0].b", [{"b": 1}], 1),
        ("a.*", {"a": {"*": 1}}, 1),
        ("a.*.b", {"a": {"x": {"b": 1}, "y": {"b": 2}}}, [1, 2]),
        ("a[*].b", {"a": [{"b": 1}, {}, {"b": None}, 7, {"b": 3}]}, [1, 3]),
        ("*", [1, None], [1]),
    ],
)
def test_locations(location, value, found):
    answer = recipes.read(SETTINGS | {"answer_text": location}).answer
    assert recipes.find(value, answer.text) == found


def test_a_request_with_all_placeholders():
    request = {
        "m": "{model}",
        "p": "{prompt}",
        "s": "{system}",
        "l": "is: {last} ({user})",
        "c": {"t": "{temperature=0.5}", "k": "{top_k=many}", "stop": "{stop}", "f": ["{seed}", 3, None]},
        "x": "{not one} {{}}",
    }
    body = chat(("system", "Be brief."), ("user", "One"), ("assistant", None), ("user", "Two"), stop=["a", "b"])
    _request, found = sent(body, request=request)
    assert found == {
        "m": "gpt-4o-mini",
        "p": "user: One\n\nassistant: \n\nuser: Two\n\nassistant:",
        "s": "Be brief.",
        "l": "is: Two ()",
        "c": {"t": 0.5, "k": "many", "stop": ["a", "b"], "f": [3, None]},
        "x": "{not one} {{}}",
    }
    assert sent(chat(("system", "Only this")), request=request)[1]["p"] == "Only this"


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({}, {"authorization": "Bearer sk-upstream-secret"}),
        ({"auth_prefix": "Key "}, {"authorization": "Key sk-upstream-secret"}),
        ({"auth_prefix": ""}, {"authorization": "sk-upstream-secret"}),
        ({"auth_header": "X-Api-Key", "headers": {"X-Org": "7"}}, {"x-api-key": "sk-upstream-secret", "x-org": "7"}),
    ],
)
def test_the_credential_goes_where_it_belongs(settings, headers):
    request, _body = sent(**settings)
    assert dict(request.headers) == {"content-type": "application/json"} | headers
    nobody = deployment(**settings)
    nobody = replace(nobody, upstream=replace(nobody.upstream, credential=""))
    assert "sk-" not in str(Custom().encode(make_call(), nobody).headers)


def test_a_model_in_the_path_stays_one_part_of_it():
    there = replace(deployment(path="/m/{model}?v=1"), model="a/b?c d")
    assert Custom().encode(make_call(), there).path == "/m/a%2Fb%3Fc%20d?v=1"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat(("user", "x"), n=2), "n"),
        (chat(("user", "x"), tools=[{}]), "tools"),
        (chat(("user", "x"), functions=[{}]), "functions"),
        (chat(("user", "x"), logprobs=True), "logprobs"),
        (chat(("user", "x"), audio={"voice": "a"}), "audio"),
        (chat(("tool", "x")), "messages"),
        (chat(("user", [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}])), "messages"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": "", "function_call": {"name": "f"}}]}, "messages"),
    ],
)
def test_what_would_be_lost_is_refused(body, param):
    with pytest.raises(Unsupported) as caught:
        sent(body)
    assert caught.value.param == param


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [[1]]])
def test_prompts_that_are_not_one_text_are_refused(prompt):
    with pytest.raises(Unsupported, match="one text"):
        sent({"model": "fast", "prompt": prompt}, {"operation": COMPLETION})
    with pytest.raises(Unsupported, match="suffix"):
        sent({"model": "fast", "prompt": "x", "suffix": "y"}, {"operation": COMPLETION})


def test_tools_that_may_not_be_used_are_no_tools():
    assert sent(chat(("user", "x"), tools=[{}], tool_choice="none"))[0].dropped == ()


def test_what_only_tunes_is_dropped_by_name():
    request, _body = sent(chat(("user", "x"), top_p=0.5, seed=None, store=False, metadata={}, made_up=1))
    assert request.dropped == ("made_up", "top_p")


@pytest.mark.parametrize("fields", [{"takes": (TAKE,)}, {"max_output_tokens": 9}])
def test_a_budget_needs_a_provider_that_can_be_limited(fields):
    assert sent(fields=fields)[1].get("n") == fields.get("max_output_tokens")
    with pytest.raises(Unsupported, match=r"has no \{max_tokens\}"):
        sent(fields=fields, request={"q": "{last}"})
    assert sent(chat(("user", "x"), max_tokens=5), request={"q": "{last}"})[0].dropped == ("max_tokens",)


@pytest.mark.parametrize("body", [*SHAPES, b"<html>", b"", b"\xff", b'{"out": {"text": null}}'])
def test_answers_of_any_shape_are_the_providers_fault(body):
    with pytest.raises(UpstreamError):
        Custom().decode(tried(), body)


@pytest.mark.parametrize("error", ['"no"', '{"message": "no"}', '{"detail": {}}', "[1]", "true"])
def test_an_error_with_a_good_status_is_one(error):
    with pytest.raises(UpstreamRefused) as caught:
        Custom().decode(tried(), b'{"error": %s, "out": {"text": "x"}}' % error.encode())
    assert str(caught.value) in ("no", "the upstream reported an error")
    with pytest.raises(UpstreamRefused):
        streamed(b'data: {"error": %s}\n\n' % error.encode())


@pytest.mark.parametrize(
    ("reason", "said"),
    [("eos", "stop"), ("MAX_TOKENS", "length"), (True, "stop"), (7, "stop"), (None, "stop"), ("x", "length")],
)
def test_finish_reasons(reason, said):
    settings = {"answer_finish_reason": "why", "finish_reasons": {"X": "length"}}
    whole = Custom().decode(tried(**settings), json.dumps({"out": {"text": ""}, "why": reason}).encode())
    assert json.loads(whole.body)["choices"][0]["finish_reason"] == said
    assert (whole.pieces, whole.usage) == ((), None)


def test_counts_that_are_none_are_not_believed():
    settings = {"answer_input_tokens": "in", "answer_output_tokens": "out.n"}
    whole = Custom().decode(tried(**settings), b'{"out": {"text": "x", "n": -1}, "in": 3}')
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (3, None)
    assert "usage" not in json.loads(whole.body)


@pytest.mark.parametrize("event", [b"7", b'"x"', b"[]", b"{}", b"null"])
def test_events_that_say_nothing_are_passed_over(event):
    out, decoder, call = streamed(
        b"data: %s\n\n" % event, b'data: {"piece": "a"}\n\ndata: [DONE]\n\ndata: {nonsense\n\n'
    )
    assert (call.pieces, decoder.usage, decoder.is_done) == (["a"], None, True)
    assert out.count(b'"role":"assistant"') == 1


@pytest.mark.parametrize("event", [b"{", b'{"piece": 1}', b'{"piece": {}}', b'{"piece": [1]}', b"<html>"])
def test_events_of_other_shapes_are_the_providers_fault(event):
    with pytest.raises(UpstreamError, match="malformed"):
        streamed(b"data: %s\n\n" % event)


def test_the_latest_count_of_each_kind():
    settings = {"stream_input_tokens": "i", "stream_output_tokens": "o"}
    events = [b'{"i": 9, "o": 1}', b'{"o": 2}', b'{"i": 8}', b"[DONE]"]
    out, decoder, _call = streamed(
        *(b"data: %s\n\n" % event for event in events), fields={"wants_usage": True}, **settings
    )
    assert (decoder.usage.input_tokens, decoder.usage.output_tokens) == (8, 2)
    assert b'"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}' in out


@pytest.mark.parametrize(
    ("settings", "raw"),
    [
        ({}, b'data: {"piece": "a"}\n\n'),
        ({"stream_finish_reason": "why"}, b'data: {"piece": "a", "why": "eos"}\n\n'),
        ({"stream_finish_reason": "why", "stream_end": ""}, b'data: {"piece": "a", "why": false}\n\n'),
        ({"stream_format": "lines"}, b'{"piece": "a"}\n'),
    ],
)
def test_a_stream_without_its_end_is_not_whole(settings, raw):
    with pytest.raises(UpstreamError, match="early"):
        streamed(raw, **settings)


@pytest.mark.parametrize("settings", [{"stream_format": "lines"}, {"stream_format": "sse"}, {"stream_text": ""}])
def test_nothing_grows_without_end(settings):
    decoder = Custom().stream(tried(**settings))
    list(decoder.feed(b"x" * MAX_BYTES))
    with pytest.raises(UpstreamError, match="larger than"):
        list(decoder.feed(b"x"))


@pytest.mark.parametrize("body", SHAPES)
def test_whole_answers_for_streams_are_read_as_carefully(body):
    with pytest.raises(UpstreamError):
        streamed(body, stream_text="")


def test_an_empty_answer_for_a_stream():
    out, _decoder, call = streamed(b'{"out": {"text": ""}}', stream_text=None)
    assert call.pieces == []
    assert out.endswith(b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'"x"', b'{"error": 7}', b'{"error": {"message": 7}}', b"\xff"])
def test_error_bodies_of_any_shape(body):
    assert Custom().error(400, {}, body, deployment()).status == 400
    assert Custom().error(400, {}, body, deployment(path="bad")).status == 400


def test_lists_of_models():
    wire = Custom()
    path, headers = wire.model_list(SETTINGS | {"models_path": "/models", "base_url": "https://x.test"}, "sk-1")
    assert (path, headers["authorization"]) == ("/models", "Bearer sk-1")
    for settings, why in ((SETTINGS, "one by one"), ({"path": "x"}, "cannot be used")):
        with pytest.raises(UpstreamError, match=why):
            wire.model_list(settings, "")
    assert wire.model_names(b'{"object": "list", "data": [{"id": "a"}, {"name": "b"}, {}, 7]}') == ["a", "b"]
    assert wire.model_names(b'["a", null]') == ["a"]
    for body in (b"{}", b"7", b"<html>"):
        with pytest.raises(UpstreamError):
            wire.model_names(body)
