"""Any provider with an HTTP API of JSON, described by its settings: see services/providers/recipes.py.

Chats of text only: one text goes out and one comes back, whole or in pieces. A provider that says nowhere how it
streams is asked for the whole answer, which callers who stream get in one piece.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from services.errors import InvalidRequest, Unsupported, UpstreamError, UpstreamRefused
from services.providers import recipes
from services.providers.base import SHAPE_ERRORS, UpstreamRequest, WholeAnswer, expecting, refused, tokens
from services.providers.openai import error_detail
from services.providers.recipes import Location, Places, Recipe
from services.types import CHAT, COMPLETION, Call, Deployment, Usage
from utils import jsonx, sse

MAX_BYTES: Final = 8 * 1024 * 1024  # of a line, or of a whole answer that is streamed to its caller
READ: Final = frozenset({"model", "messages", "prompt", "stream", "stream_options", "n", "tools", "tool_choice"})
LIMITS: Final = ("max_completion_tokens", "max_tokens")
TOOLS: Final = ("tools", "functions")


class Custom:
    """See the module."""

    operations = frozenset({CHAT, COMPLETION})
    not_streams = ("text/html",)

    def hidden_tokens(self, call: Call, deployment: Deployment) -> int:
        """See Wire.hidden_tokens."""
        return 0

    def encode(self, call: Call, deployment: Deployment) -> UpstreamRequest:
        """See Wire.encode."""
        recipe, body = _recipe(deployment), call.body
        _refuse(call, recipe)
        streams = call.is_stream and recipe.event is not None
        messages = _messages(call)
        system = [text for role, text in messages if role == "system"]
        if "system" in recipe.used:  # what stands there is not said again
            messages = [message for message in messages if message[0] != "system"] or messages
        values = {name: body.get(name) for name in recipes.TUNING}
        values |= {
            "model": deployment.model,
            "messages": [
                recipes.fill(recipe.message, {"role": recipe.roles.get(role, role), "content": text})
                for role, text in messages
            ],
            "prompt": _prompt(messages),
            "system": "\n\n".join(system) or None,
            "last": messages[-1][1],
            "max_tokens": call.max_output_tokens or next((body[name] for name in LIMITS if body.get(name)), None),
            "stream": streams,
        }
        path = (recipe.stream_path if streams else recipe.path).replace("{model}", quote(deployment.model, safe=""))
        sent = jsonx.dumps(recipes.fill(recipe.request, values))
        headers = _headers(recipe, deployment.upstream.credential)
        return UpstreamRequest("POST", path, headers, sent, tuple(sorted(_dropped(body, recipe))))

    def decode(self, call: Call, body: bytes) -> WholeAnswer:
        """See Wire.decode."""
        recipe = _recipe(_tried(call))
        answer = _json(body)
        _raise_error(answer, recipe)
        places = recipe.answer
        with expecting("an answer as its settings describe it"):
            text = _text(answer, places.text)
            if text is None:
                raise UpstreamError("the upstream's answer has no text where its settings say")
            reason = _reason(answer, places, recipe) or "stop"
        usage = _usage(answer, places)
        said = {"message": {"role": "assistant", "content": text}} if call.operation == CHAT else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": reason}
        hub = {**_frame(call), "choices": [choice], **_hub_usage(usage)}
        return WholeAnswer(jsonx.dumps(hub), usage, (text,) if text else ())

    def stream(self, call: Call) -> "CustomStream":
        """See Wire.stream."""
        recipe = _recipe(_tried(call))
        return CustomStream(call, recipe) if recipe.event is not None else AtOnce(call, recipe, self)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment) -> UpstreamError:
        """See Wire.error."""
        try:
            said = _said(recipes.find(jsonx.loads(body), _recipe(deployment).error))
        except (jsonx.BadJson, Unsupported):
            said = ""
        detail = error_detail(body)
        return refused(status, headers, detail | ({"message": said} if said else {}), deployment)

    def model_list(self, settings: Mapping[str, Any], credential: str) -> tuple[str, Mapping[str, str]]:
        """See Wire.model_list.

        Raises:
            UpstreamError: the settings name no path for it.
        """
        try:
            recipe = recipes.read({name: value for name, value in settings.items() if name != "base_url"})
        except InvalidRequest as exc:
            raise UpstreamError(f"its settings cannot be used: {exc}") from exc
        if recipe.models_path is None:
            raise UpstreamError("its settings name no `models_path`, so its models must be named one by one")
        return recipe.models_path, dict(_headers(recipe, credential))

    def model_names(self, body: bytes) -> list[str]:
        """See Wire.model_names: a list of names or of objects with one, in the answer or in a member of it."""
        listed = _json(body)
        if isinstance(listed, dict):
            listed = next((value for value in listed.values() if isinstance(value, list)), None)
        if not isinstance(listed, list):
            raise UpstreamError("the upstream's model list is not one")
        names = [entry.get("id", entry.get("name")) if isinstance(entry, dict) else entry for entry in listed]
        return [name for name in names if isinstance(name, str)]


class CustomStream:
    """Events or lines of JSON in, OpenAI's events out."""

    def __init__(self, call: Call, recipe: Recipe) -> None:
        self.usage: Usage | None = None
        self.is_done = False
        self._call, self._recipe = call, recipe
        self._split = sse.EventSplitter() if recipe.is_sse else _Lines()
        self._reason: str | None = None
        self._has_role = call.operation != CHAT

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See StreamDecoder.feed."""
        try:
            for event in self._split.feed(data):
                if out := self._event(event):
                    yield out
        except sse.OversizedEvent as exc:
            raise UpstreamError(str(exc)) from exc

    def end(self) -> Iterator[bytes]:
        """See StreamDecoder.end: with the finish reason, since usage may come after it."""
        for event in self._split.end():
            if out := self._event(event):
                yield out
        if not self.is_done and (self._reason is None or self._recipe.end_mark):
            raise UpstreamError("the upstream ended its answer early")
        yield self._role() + self._chunk([self._choice({}, self._reason or "stop")])
        counts = _hub_usage(self.usage)
        if counts and self._call.wants_usage:
            yield self._chunk([], **counts)
        yield sse.DONE

    def _event(self, event: bytes) -> bytes:
        payload = sse.data_of(event) if self._recipe.is_sse else event
        if payload is None or self.is_done or not (payload := payload.strip()):
            return b""
        if payload == self._recipe.end_mark:
            self.is_done = True
            return b""
        try:
            return self._said(jsonx.peek(payload))
        except SHAPE_ERRORS as exc:
            raise UpstreamError("the upstream sent a malformed event, or one that its settings do not fit") from exc

    def _said(self, event: Any) -> bytes:
        recipe = self._recipe
        places = recipe.event
        assert places is not None  # noqa: S101 - else this class is not used
        _raise_error(event, recipe)
        self._reason = _reason(event, places, recipe) or self._reason
        if (usage := _usage(event, places)) is not None:
            self.usage = _joined(self.usage, usage)
        text = _text(event, places.text)
        if not text:
            return b""
        self._call.pieces.append(text)
        return self._role() + self._chunk([self._choice({"content": text})])

    def _role(self) -> bytes:
        if self._has_role:
            return b""
        self._has_role = True
        return self._chunk([self._choice({"role": "assistant", "content": ""})])

    def _choice(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        part = {"delta": delta} if self._call.operation == CHAT else {"text": delta.get("content", "")}
        return {"index": 0, **part, "logprobs": None, "finish_reason": reason}

    def _chunk(self, choices: list[Any], **more: Any) -> bytes:
        usage = more or ({"usage": None} if self._call.wants_usage else {})
        return sse.format_event({**_frame(self._call, chunk=True), "choices": choices, **usage})


class AtOnce(CustomStream):
    """The whole answer of a provider that does not stream, in one piece."""

    def __init__(self, call: Call, recipe: Recipe, wire: Custom) -> None:
        super().__init__(call, recipe)
        self._wire, self._body = wire, bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See StreamDecoder.feed."""
        self._body += data
        if len(self._body) > MAX_BYTES:
            raise UpstreamError(f"the upstream's answer is larger than {MAX_BYTES} bytes")
        yield from ()

    def end(self) -> Iterator[bytes]:
        """See StreamDecoder.end."""
        whole = self._wire.decode(self._call, bytes(self._body))
        (choice,) = jsonx.loads(whole.body)["choices"]
        self.usage, self.is_done, self._reason = whole.usage, True, choice["finish_reason"]
        self._call.pieces.extend(whole.pieces)
        if whole.pieces:
            yield self._role() + self._chunk([self._choice({"content": whole.pieces[0]})])
        yield from super().end()


class _Lines:
    """Cuts a byte stream into lines."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that became whole."""
        *lines, self._tail = (self._tail + data).split(b"\n")
        if len(self._tail) > MAX_BYTES:
            raise sse.OversizedEvent(f"a line is larger than {MAX_BYTES} bytes")
        yield from lines

    def end(self) -> Iterator[bytes]:
        """What was left without a line end."""
        tail, self._tail = self._tail, b""
        yield tail


def _recipe(deployment: Deployment) -> Recipe:
    """How the deployment's provider is called.

    Raises:
        Unsupported: nobody can say, since its settings were stored without being checked; another provider may do.
    """
    try:
        return recipes.read(deployment.upstream.settings)
    except InvalidRequest as exc:
        why = f"the settings of the provider `{deployment.upstream.name}` cannot be used: {exc}"
        raise Unsupported(why, param="model") from exc


def _tried(call: Call) -> Deployment:
    assert call.deployment is not None  # noqa: S101 - there is an answer
    return call.deployment


def _refuse(call: Call, recipe: Recipe) -> None:
    """What cannot be said in such a request.

    Raises:
        Unsupported: naming it.
    """
    body = call.body
    if (body.get("n") or 1) > 1:
        raise Unsupported("This provider gives one choice a call; `n` must be 1", param="n")
    if body.get("tool_choice") != "none" and (tools := next((name for name in TOOLS if body.get(name)), None)):
        raise Unsupported("This provider knows no tools", param=tools)
    for name in ("suffix", "echo", "logprobs", "audio"):
        if body.get(name):
            raise Unsupported(f"`{name}` cannot be had from this provider", param=name)
    if "max_tokens" not in recipe.used and (call.takes or call.max_output_tokens is not None):
        raise Unsupported(
            "A budget or a limit of tokens applies to this call, and this provider cannot be told how much to answer "
            "at most: its `request` has no {max_tokens}.",
            param="model",
        )


def _messages(call: Call) -> list[tuple[str, str]]:
    """Who said what.

    Raises:
        Unsupported: something is no text.
    """
    if call.operation == CHAT:
        return [_message(message) for message in call.body["messages"]]
    prompt = call.body["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise Unsupported("This provider takes one text as a prompt", param="prompt")
    return [("user", prompt)]


def _message(message: Mapping[str, Any]) -> tuple[str, str]:
    role = "system" if message["role"] == "developer" else message["role"]
    content = message.get("content") or ""
    if role not in recipes.ROLES or message.get("tool_calls") or message.get("function_call"):
        raise Unsupported("This provider knows no tools", param="messages")
    if isinstance(content, str):
        return role, content
    if other := next((part["type"] for part in content if part["type"] != "text"), None):
        raise Unsupported(f"This provider takes texts only; `{other}` cannot be sent", param="messages")
    return role, "".join(part["text"] for part in content)


def _prompt(messages: list[tuple[str, str]]) -> str:
    """A conversation as one text; what was said alone is that text."""
    if len(messages) == 1:
        return messages[0][1]
    return "\n\n".join([*(f"{role}: {text}" for role, text in messages), "assistant:"])


def _dropped(body: Mapping[str, Any], recipe: Recipe) -> Iterator[str]:
    """Members of the request that the template has no place for."""
    for name, value in body.items():
        used = "max_tokens" if name in LIMITS else name
        if name not in READ and used not in recipe.used and value not in (None, False, [], {}):
            yield name


def _headers(recipe: Recipe, credential: str) -> tuple[tuple[str, str], ...]:
    own = ((recipe.auth_header, recipe.auth_prefix + credential),) if credential else ()
    return (("content-type", "application/json"), *own, *recipe.headers)


def _json(body: bytes) -> Any:
    try:
        return jsonx.loads(body)
    except jsonx.BadJson as exc:
        raise UpstreamError("the upstream did not answer with JSON") from exc


def _raise_error(answer: Any, recipe: Recipe) -> None:
    """An error that came with status 200."""
    if error := recipes.find(answer, recipe.error):
        raise UpstreamRefused(_said(error) or "the upstream reported an error", status=502)


def _said(error: Any) -> str:
    """The text of an error, which may be an object that has it as its message."""
    if isinstance(error, dict):
        error = error.get("message")
    return error if isinstance(error, str) else ""


def _text(answer: Any, location: Location) -> str | None:
    found = recipes.find(answer, location)
    if isinstance(found, list):
        return "".join(found)  # of texts; whatever else is there raises
    if found is not None and not isinstance(found, str):
        raise TypeError(type(found).__name__)
    return found


def _reason(answer: Any, places: Places, recipe: Recipe) -> str | None:
    """Why the answer ended, if it did: any text, or true for an end that needs no reason."""
    found = recipes.find(answer, places.finish_reason) if places.finish_reason is not None else None
    if found is None or found is False or found == "":
        return None
    return recipe.reasons.get(found.lower(), "stop") if isinstance(found, str) else "stop"


def _usage(answer: Any, places: Places) -> Usage | None:
    """What the provider says it used; None where it says nothing."""
    given, output = (
        tokens(recipes.find(answer, location)) if location is not None else None
        for location in (places.input_tokens, places.output_tokens)
    )
    return None if given is None and output is None else Usage(given, output)


def _joined(before: Usage | None, now: Usage) -> Usage:
    """The latest count of each kind."""
    if before is None:
        return now
    return Usage(
        before.input_tokens if now.input_tokens is None else now.input_tokens,
        before.output_tokens if now.output_tokens is None else now.output_tokens,
    )


def _hub_usage(usage: Usage | None) -> dict[str, Any]:
    """The usage member, where the provider said enough for one."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return {}
    total = usage.input_tokens + usage.output_tokens
    counts = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens, "total_tokens": total}
    return {"usage": counts}


def _frame(call: Call, *, chunk: bool = False) -> dict[str, Any]:
    if call.operation == CHAT:
        kind, prefix = "chat.completion.chunk" if chunk else "chat.completion", "chatcmpl"
    else:
        kind, prefix = "text_completion", "cmpl"
    return {
        "id": f"{prefix}-{call.id.removeprefix('req_')}",
        "object": kind,
        "created": call.started_ms // 1000,
        "model": call.body["model"],
    }
