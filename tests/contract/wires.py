"""Every recorded request, through the gateway, to every wire whose vendor publishes a document; and what comes back.

A request is sent to each target as it is and streamed. A target's complaint counts, unless it is about JSON that the
caller wrote itself and the gateway passes on: asked directly, the target then says the same.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests import published, vendor_schemas
from tests.contract import documents, served
from tests.contract.strict import Strict, Verdict
from tests.fakes.served import Served
from tests.test_golden import cases, dialect_of, name_of, told
from utils import sse

PATHS = {
    ("openai", "chat"): "/v1/chat/completions",
    ("openai", "completion"): "/v1/completions",
    ("openai", "embedding"): "/v1/embeddings",
    ("openai", "moderation"): "/v1/moderations",
    ("openai", "image"): "/v1/images/generations",
    ("openai", "speech"): "/v1/audio/speech",
    ("openai", "rerank"): "/v1/rerank",
    ("responses", "chat"): "/v1/responses",
    ("anthropic", "chat"): "/v1/messages",
    ("prompts", "chat"): "/api/call",
}
STREAMED = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/images/generations")
ANSWERS = {  # by our path: whose schema a whole answer must fit, and an event of a stream
    "/v1/chat/completions": ("openai", "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse"),
    "/v1/completions": ("openai", "CreateCompletionResponse", "CreateCompletionResponse"),
    "/v1/embeddings": ("openai", "CreateEmbeddingResponse", ""),
    "/v1/moderations": ("openai", "CreateModerationResponse", ""),
    "/v1/images/generations": ("openai", "ImagesResponse", "ImageGenStreamEvent"),
    "/v1/responses": ("openai", "Response", "ResponseStreamEvent"),
    "/v1/messages": ("anthropic", "Message", "MessageStreamEvent"),
}
NATIVE = {  # our path and where it goes at a target that speaks the caller's dialect
    "/v1/responses": "/responses",
    "/v1/messages": "/v1/messages",
    "/v1/chat/completions": "/chat/completions",
    "/v1/completions": "/completions",
    "/v1/embeddings": "/embeddings",
    "/v1/images/generations": "/images/generations",
    "/v1/moderations": "/moderations",
    "/v1/audio/speech": "/audio/speech",
    "/v1/rerank": "/rerank",
}


@dataclass(frozen=True)
class Target:
    """A wire in front of a document; `below` is what its base URL has before the document's paths."""

    name: str
    document: str
    kind: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    below: str = ""


def _targets() -> Iterator[Target]:
    yield Target("openai", "openai", "openai", "gpt-4o", {"responses": True})
    yield Target("openai-chats", "openai", "openai", "gpt-4o", {"responses": False})
    for vendor in ("groq", "deepseek", "together", "xai"):  # they publish none, and promise OpenAI's
        yield Target(vendor, "openai", "openai", "gpt-4o", {"vendor": vendor})
    yield Target("azure-2024-10-21", "azure", "azure", "gpt-4o", {"api_version": "2024-10-21"})
    yield Target("azure-2025-04-01", "azure-preview", "azure", "gpt-4o", {"api_version": "2025-04-01-preview"})
    yield Target("azure-v1", "openai", "azure", "gpt-4o", {"api_version": "v1"})
    for model in ("claude-sonnet-4-5", "claude-opus-4-6", "claude-opus-5-5", "claude-3-5-haiku-20241022"):
        yield Target(model, "anthropic", "anthropic", model)
    for model in ("gemini-2.0-flash", "gemini-2.5-flash", "gemini-3-pro-preview"):
        yield Target(model, "gemini", "gemini", model)
    yield Target("cohere", "cohere", "openai", "rerank-v3.5", {"operations": ["rerank"]}, "/v2")


TARGETS = tuple(_targets())


@dataclass(frozen=True)
class Result:
    """What became of one request: `good`, `refused` here before anything was sent, `own` mistake, or `bad`."""

    target: str
    case: str
    outcome: str
    said: tuple[str, ...] = ()


def run(steady: Path, folder: Path) -> list[Result]:
    """All results."""
    with ExitStack() as stack:
        strict: dict[str, Strict] = {}
        for name in sorted({target.document for target in TARGETS}):
            strict[name] = Strict(steady, documents.DOCUMENTS[name](folder), folder)
            stack.callback(strict[name].stop)
        providers = [
            {
                "name": f"at {target.name}",
                "kind": target.kind,
                "api_key": "sk-x",
                "discover": False,
                "base_url": strict[target.document].url + target.below,
                "settings": target.settings,
            }
            for target in TARGETS
        ]
        models = [served.free_model(target.name, f"at {target.name}", target.model) for target in TARGETS]
        running = stack.enter_context(served.gateway(folder / "wires", providers, models))
        pool = stack.enter_context(ThreadPoolExecutor(len(strict)))
        asked = [pool.submit(_ask_all, running, upstream, name) for name, upstream in strict.items()]
        return [result for future in asked for result in future.result()]


def _ask_all(running: Served, upstream: Strict, document: str) -> list[Result]:
    """Every request to the targets of one document, one after another, so that each verdict has its request."""
    return [
        _ask(running, upstream, target, case, path, body)
        for target in TARGETS
        if target.document == document
        for case, path, body in _requests()
    ]


RERANK = {
    "query": "capital?",
    "documents": ["Paris", "Rome"],
    "top_n": 1,
}  # the recorded ones have objects, or no texts


def _requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A name, our path and a body for each recorded request, whole and streamed."""
    yield "rerank", "/v1/rerank", RERANK
    for case in cases("request.in"):
        said = told(case)
        operation = said.get("call", {}).get("operation", "chat")
        path = PATHS.get((dialect_of(case) or said.get("dialect", "openai"), operation))
        if path is None:
            continue
        body = json.loads((case / "request.in").read_bytes())
        body.pop("stream", None)
        body.pop("user_api_key", None)
        yield name_of(case), path, {name: value for name, value in body.items() if name != "stream_options"}
        if path in STREAMED:
            yield f"{name_of(case)} streamed", path, body | {"stream": True}


def _ask(running: Served, upstream: Strict, target: Target, case: str, path: str, body: dict[str, Any]) -> Result:
    before = len(upstream.verdicts)
    named = {"model_name" if path == "/api/call" else "model": target.name}
    answer = served.post(running, path, body | named)
    verdicts = upstream.verdicts[before:]
    complaints = tuple(said for verdict in verdicts for said in verdict.complaints)
    if complaints:
        outcome = "own" if _is_own(upstream, target, path, body, verdicts[-1]) else "bad"
        return Result(target.name, case, outcome, complaints)
    if not verdicts and 400 <= answer.status_code < 500:
        return Result(target.name, case, "refused", (answer.text[:300],))
    if not answer.ok:
        return Result(target.name, case, "bad", (f"answered {answer.status_code}: {answer.text[:300]}",))
    is_passed = verdicts and verdicts[-1].path.partition("?")[0].endswith(NATIVE.get(path, "-"))
    problems = tuple(_problems(path, answer, is_passed=bool(is_passed)))
    return Result(target.name, case, "bad" if problems else "good", problems)


def _is_own(upstream: Strict, target: Target, path: str, body: dict[str, Any], verdict: Verdict) -> bool:
    """Whether the caller's own JSON, sent to the same place, gets the same complaints."""
    if verdict.path.partition("?")[0].endswith(NATIVE.get(path, "-")):
        sent = json.dumps(body | {"model": target.model}).encode()
        headers = {"content-type": "application/json", "authorization": "Bearer x", "x-api-key": "x"}
        headers |= {"anthropic-version": "2023-06-01", "api-key": "x"}
        upstream.ask("POST", verdict.path, headers, sent)
        return set(verdict.complaints) <= set(upstream.verdicts.pop().complaints)
    return False


def _problems(path: str, answer: requests.Response, *, is_passed: bool) -> Iterator[str]:
    """What of our answer does not fit the document of its dialect; what is passed on is as good as the target's own."""
    vendor, whole, event = ANSWERS.get(path, ("", "", ""))
    if not vendor:
        return
    check = vendor_schemas.faults if path == "/v1/responses" else published.problems
    if "event-stream" not in answer.headers["content-type"]:
        yield from () if is_passed else check(vendor, whole, answer.json())
        return
    split = sse.EventSplitter()
    for raw in (*split.feed(answer.content), *split.end()):
        payload = sse.data_of(raw)
        if payload is None or payload == b"[DONE]":
            continue
        value = json.loads(payload)
        if "error" in value and value.get("type") in (None, "error"):
            yield f"an error event: {value}"[:300]
        elif not is_passed:
            yield from (f"{value.get('type', 'chunk')} {problem}" for problem in check(vendor, event, value))
