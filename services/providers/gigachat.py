"""GigaChat: close to OpenAI's chat, with functions instead of tools, and a token that must be fetched first.

Source: the Python library gigachat 0.2.3 and developers.sber.ru/docs/ru/gigachat/api (read 2026-11-21). A system
message must be the first one, a turn calls one function, its arguments are an object, and a result must be JSON. What
was cached is not in `prompt_tokens`: those are the tokens that are charged.

Settings: `scope`, `auth_url` (where tokens are had; the public service when empty), `ca_file`. The credential is the
authorization key (base64), or `user:password` of an installation of one's own, which gives tokens itself.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from services.errors import Unsupported, UpstreamError
from services.providers import gigachat_answers as answers
from services.providers.base import UpstreamRequest, WholeAnswer, error_event, expecting, parse_object, refused
from services.providers.openai import error_detail
from services.types import CHAT, EMBEDDING, Call, Deployment, Upstream
from utils import jsonx

PATHS: Final = {CHAT: "/chat/completions", EMBEDDING: "/embeddings"}
AUTH_URL: Final = "https://ngw.devices.sberbank.ru:9443/api/v2/oauth"
USUAL_SCOPE: Final = "GIGACHAT_API_PERS"
SENT: Final = frozenset(
    {"temperature", "top_p", "n", "max_tokens", "repetition_penalty", "update_interval", "profanity_check", "flags"}
    | {"function_ranker", "storage"}
)
READ: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "tools", "tool_choice", "functions", "function_call"}
    | {"response_format", "reasoning_effort", "max_completion_tokens"}
    | SENT
)
EFFORTS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
NO_PARAMETERS: Final = {"type": "object", "properties": {}}
SECONDS_BELOW: Final = 10**11  # as milliseconds that would be 1973
TOKEN: Final = re.compile(r"eyJ[\w.-]{20,}")  # what is sent as a token, if an error repeats it


class GigaChat:
    """See the module."""

    operations = frozenset(PATHS)
    not_streams = ("text/html", "application/json")

    def token_request(self, upstream: Upstream, unique: str) -> tuple[str, UpstreamRequest]:
        """See TokenWire."""
        settings, credential = upstream.settings, upstream.credential
        if ":" in credential:
            basic = base64.b64encode(credential.encode()).decode()
            return upstream.base_url, UpstreamRequest("POST", "/token", (("authorization", f"Basic {basic}"),), b"")
        headers = (
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept", "application/json"),
            ("authorization", f"Basic {credential}"),
            ("rquid", unique),
        )
        body = f"scope={quote(str(settings.get('scope') or USUAL_SCOPE), safe='')}".encode()
        url = urlsplit(str(settings.get("auth_url") or AUTH_URL))
        return f"{url.scheme}://{url.netloc}", UpstreamRequest("POST", url.path or "/", headers, body)

    def token_of(self, body: bytes) -> tuple[str, int]:
        """See TokenWire."""
        answer = parse_object(body)
        token = answer.get("access_token") or answer.get("tok")
        ends = answer.get("expires_at") or answer.get("exp")
        if not isinstance(token, str) or not isinstance(ends, int | float):
            raise UpstreamError("the upstream answered without a token")
        return token, int(ends * 1000 if ends < SECONDS_BELOW else ends)

    def hidden_tokens(self, call: Call, deployment: Deployment) -> int:
        """See Wire.hidden_tokens."""
        return 0

    def encode(self, call: Call, deployment: Deployment) -> UpstreamRequest:
        """See Wire.encode."""
        sent, dropped = _embedding(call) if call.operation == EMBEDDING else _chat(call)
        sent["model"] = deployment.model
        headers = (("content-type", "application/json"), ("accept", _accepted(call)))
        return UpstreamRequest("POST", PATHS[call.operation], headers, jsonx.dumps(sent), tuple(sorted(dropped)))

    def decode(self, call: Call, body: bytes) -> WholeAnswer:
        """See Wire.decode."""
        answer = parse_object(body)
        if answer.get("error"):
            raise error_event(answer["error"])
        with expecting("an answer of GigaChat"):
            if call.operation == EMBEDDING:
                return answers.embeddings(call, answer)
            return answers.completion(call, answer)

    def stream(self, call: Call) -> "answers.GigaChatStream":
        """See Wire.stream."""
        return answers.GigaChatStream(call)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment) -> UpstreamError:
        """See Wire.error."""
        detail = error_detail(body)
        detail = {**detail, "code": None, "message": TOKEN.sub("***", str(detail.get("message") or ""))}
        return refused(status, headers, detail, deployment)

    def model_list(self, settings: Mapping[str, Any], credential: str) -> tuple[str, Mapping[str, str]]:
        """See Wire.model_list; the credential is a token here."""
        return "/models", {"accept": "application/json", "authorization": f"Bearer {credential}"}

    def model_names(self, body: bytes) -> list[str]:
        """See Wire.model_names."""
        listed = parse_object(body).get("data")
        if not isinstance(listed, list):
            raise UpstreamError("the upstream's model list is not one")
        return [entry["id"] for entry in listed if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def _accepted(call: Call) -> str:
    return "text/event-stream" if call.is_stream else "application/json"


def _chat(call: Call) -> tuple[dict[str, Any], set[str]]:
    body = call.body
    dropped = {name for name, value in body.items() if name not in READ and value is not None}
    sent: dict[str, Any] = {"messages": _messages(body["messages"])}
    sent |= {name: value for name, value in body.items() if name in SENT and value is not None}
    if sent.get("temperature") == 0:  # must be more than that; with a top_p of zero it takes the likeliest as well
        del sent["temperature"]
        sent["top_p"] = 0
    limit = call.max_output_tokens or body.get("max_completion_tokens")
    if limit is not None:
        sent["max_tokens"] = limit
    if call.is_stream:
        sent["stream"] = True
    if (effort := body.get("reasoning_effort")) is not None:
        sent |= {"reasoning_effort": EFFORTS[effort]} if effort in EFFORTS else {}
        dropped |= set() if effort in EFFORTS else {"reasoning_effort"}
    if (wanted := body.get("response_format")) and wanted.get("type") != "text":
        sent["response_format"] = _format(wanted)
    _add_functions(body, sent, dropped)
    return sent, dropped


def _format(wanted: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's form has the schema one level deeper."""
    if wanted.get("type") != "json_schema":
        return wanted
    given = wanted["json_schema"]
    strict = {"strict": given["strict"]} if isinstance(given.get("strict"), bool) else {}
    return {"type": "json_schema", "schema": given.get("schema", {}), **strict}


def _add_functions(body: dict[str, Any], sent: dict[str, Any], dropped: set[str]) -> None:
    functions = [_function(tool) for tool in body.get("tools") or ()] or list(body.get("functions") or ())
    if not functions:
        return
    sent["functions"] = functions
    choice = body.get("tool_choice") if body.get("tools") else body.get("function_call")
    if isinstance(choice, dict):
        name = choice.get("name") or (choice.get("function") or {}).get("name")
        if name:
            sent["function_call"] = {"name": name}
            return
        dropped.add("tool_choice")  # such as a list of allowed ones
    elif choice == "required" and len(functions) == 1:
        sent["function_call"] = {"name": functions[0]["name"]}
        return
    elif choice == "required":
        dropped.add("tool_choice")
    sent["function_call"] = "none" if choice == "none" else "auto"


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type", "function") != "function":
        raise Unsupported(f"`{tool.get('type')}` tools cannot be sent to GigaChat, only functions", param="tools")
    function = {name: value for name, value in tool["function"].items() if name != "strict" and value is not None}
    return {"parameters": NO_PARAMETERS} | function


def _messages(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One system message at most, then turns with at most one function call each and its result."""
    system = [_text(message) for message in given if message["role"] in ("system", "developer")]
    sent: list[dict[str, Any]] = [{"role": "system", "content": "\n\n".join(system)}] if system else []
    results = {message.get("tool_call_id"): message for message in given if message["role"] == "tool"}
    names: dict[Any, str] = {}
    for message in given:
        role = message["role"]
        if role == "assistant" and message.get("tool_calls"):
            sent += _called(message, results, names)
        elif role == "function" or (role == "tool" and message.get("tool_call_id") not in names):
            sent.append(_result(message, message.get("name") or ""))
        elif role in ("user", "assistant"):
            sent.append(_turn(message))
    return sent


def _called(message: dict[str, Any], results: Mapping[Any, Any], names: dict[Any, str]) -> Iterator[dict[str, Any]]:
    """Calls made in one turn become turns of their own, each before its result."""
    for place, call in enumerate(message["tool_calls"]):
        turn = _turn({**message, "content": message.get("content") if place == 0 else ""})
        function, number = call.get("function") or {}, call.get("id")
        turn["function_call"] = {"name": function.get("name") or "", "arguments": _arguments(function)}
        if (state := answers.state_of(number)) is not None:
            turn["functions_state_id"] = state
        yield turn
        names[number] = function.get("name") or ""
        if number in results:
            yield _result(results[number], names[number])


def _turn(message: dict[str, Any]) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message["role"], "content": _text(message)}
    for name in ("functions_state_id", "attachments"):
        if message.get(name) is not None:
            turn[name] = message[name]
    function = message.get("function_call")
    if isinstance(function, dict):
        turn["function_call"] = {"name": function.get("name") or "", "arguments": _arguments(function)}
    return turn


def _result(message: dict[str, Any], name: str) -> dict[str, Any]:
    """What a function gave. It must be JSON; a plain text becomes an object that holds it."""
    text = _text(message)
    try:
        is_object = isinstance(jsonx.loads(text), dict)
    except jsonx.BadJson:
        is_object = False
    content = text if is_object else jsonx.dumps({"result": text}).decode()
    return {"role": "function", "content": content} | ({"name": name} if name else {})


def _arguments(function: dict[str, Any]) -> Any:
    given = function.get("arguments") or "{}"
    try:
        return jsonx.loads(given) if isinstance(given, str) else given
    except jsonx.BadJson as exc:
        raise Unsupported("`arguments` of a tool call must be JSON to be sent to GigaChat", param="messages") from exc


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if not isinstance(content, list):
        return content or ""
    if other := next((part["type"] for part in content if part["type"] not in ("text", "refusal")), None):
        raise Unsupported(
            f"`{other}` content cannot be sent to GigaChat; upload it there and name it in `attachments`",
            param="messages",
        )
    return "".join(str(part.get("text") or part.get("refusal") or "") for part in content)


def _embedding(call: Call) -> tuple[dict[str, Any], set[str]]:
    given = call.body["input"]
    texts = given if isinstance(given, list) else [given]
    if any(not isinstance(text, str) for text in texts):
        raise Unsupported("GigaChat embeds texts; token ids cannot be sent", param="input")
    known = {"model", "input", "encoding_format"}
    return {"input": texts}, {name for name, value in call.body.items() if name not in known and value is not None}
