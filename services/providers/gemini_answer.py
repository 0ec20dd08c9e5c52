"""What Gemini answers, whole or streamed, in the hub format.

It has no end mark: a stream is whole when every candidate has a finish reason and the body ends. Text may come with or
after a finish reason, and usage with every event, so both are kept until then; so is the signature of a text, because
clients join texts of the same name.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.errors import UpstreamError
from services.providers.base import SHAPE_ERRORS, error_event, tokens
from services.providers.hubanswers import Chunks, tool_call
from services.types import Call, Usage
from utils import jsonx, sse

FILTERED: Final = frozenset(
    {"SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"}
    | {"IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER"}
)
BROKEN: Final = frozenset(  # the model began something that it could not finish
    {"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL"}
    | {"TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"}
)
FINISH: Final = {"MAX_TOKENS": "length", **dict.fromkeys(FILTERED, "content_filter")}  # whatever else is a stop


def index_of(candidate: Mapping[str, Any]) -> int:
    """Which choice a candidate is.

    Raises:
        TypeError: its index is no number.
    """
    index = candidate.get("index", 0)
    if not isinstance(index, int):
        raise TypeError("index")
    return index


def read_candidate(call: Call, candidate: Mapping[str, Any], first_tool: int, pieces: list[str]) -> dict[str, Any]:
    """What a candidate says, as a delta of the hub; its texts are added to the pieces.

    Tool calls are numbered from `first_tool`. A signature that came with a text stands in `extra_content`, one that
    came with a tool call beside that, as on Google's own OpenAI endpoint.

    Raises:
        SHAPE_ERRORS: it is not what Gemini answers.
    """
    delta: dict[str, Any] = {}
    index = index_of(candidate)
    for part in (candidate.get("content") or {}).get("parts") or ():
        signature = part.get("thoughtSignature")
        extra = {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}
        if "functionCall" in part:
            made = part["functionCall"]
            arguments = jsonx.dumps(made.get("args") or {}).decode()
            tools = delta.setdefault("tool_calls", [])
            number = first_tool + len(tools)
            tools.append(tool_call(call, number, made["name"], arguments, given=made.get("id"), choice=index) | extra)
            pieces += (made["name"], arguments)
            continue
        if text := part.get("text"):
            name = "reasoning_content" if part.get("thought") else "content"
            delta[name] = delta.get(name, "") + text
            pieces.append(text)
        elif (inline := part.get("inlineData")) and inline["mimeType"].startswith("image/"):
            url = f"data:{inline['mimeType']};base64,{inline['data']}"
            images = delta.setdefault("images", [])
            images.append({"index": len(images), "type": "image_url", "image_url": {"url": url}})
        delta |= extra
    return delta


def logprobs_of(candidate: Mapping[str, Any]) -> dict[str, Any] | None:
    """The log probabilities of a candidate's tokens, where they were asked for."""
    result = candidate.get("logprobsResult")
    if not result:
        return None
    chosen, tops = result.get("chosenCandidates") or (), result.get("topCandidates") or ()
    content = [
        _logprob(token) | {"top_logprobs": [_logprob(top) for top in tops[at]["candidates"]] if at < len(tops) else []}
        for at, token in enumerate(chosen)
    ]
    return {"content": content, "refusal": None}


def _logprob(entry: Mapping[str, Any]) -> dict[str, Any]:
    token = entry.get("token", "")
    return {"token": token, "logprob": entry.get("logProbability", 0.0), "bytes": list(token.encode())}


def finish_of(reason: str, *, has_tools: bool) -> str:
    """Why an answer ended, in the hub's words.

    Raises:
        UpstreamError: the model broke it off.
    """
    if reason in BROKEN:
        raise UpstreamError(f"the model could not finish its answer ({reason})")
    return FINISH.get(reason, "tool_calls" if has_tools else "stop")


def refusal_of(answer: Mapping[str, Any]) -> str | None:
    """Why Gemini took no notice of a prompt; None = it did."""
    reason = (answer.get("promptFeedback") or {}).get("blockReason")
    return f"The prompt was blocked: {reason}" if reason and not answer.get("candidates") else None


def usage_of(raw: Any) -> Usage | None:
    """Gemini's usage; None when it counts nothing.

    Thoughts stand beside the output there, prompts of tools beside the input. A count that is 0 may be missing: the
    output then follows from the total.
    """
    if not isinstance(raw, dict):
        return None
    prompt, tool, said, thought, total, cached = (
        tokens(raw.get(name))
        for name in (
            "promptTokenCount",
            "toolUsePromptTokenCount",
            "candidatesTokenCount",
            "thoughtsTokenCount",
            "totalTokenCount",
            "cachedContentTokenCount",
        )
    )
    given = None if prompt is None else prompt + (tool or 0)
    output = None if said is None else said + (thought or 0)
    if output is None and given is not None and total is not None and total >= given:
        output = total - given
    if given is None and output is None:
        return None
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cache_read_input_tokens=_part(cached, given),
        reasoning_output_tokens=_part(thought, output),
        input_audio_tokens=_part(_audio(raw.get("promptTokensDetails")), given),
        output_audio_tokens=_part(_audio(raw.get("candidatesTokensDetails")), output),
    )


def _part(part: int | None, whole: int | None) -> int | None:
    """What is more than its whole is no report of a part."""
    return part if part is None or part <= (whole or 0) else None


def _audio(details: Any) -> int | None:
    for entry in details if isinstance(details, list) else ():
        if isinstance(entry, dict) and entry.get("modality") == "AUDIO":
            return tokens(entry.get("tokenCount"))
    return None


class GeminiStream:
    """Gemini's events in, the hub's out."""

    is_done = False  # only the end of the body tells

    def __init__(self, call: Call) -> None:
        self._call, self._chunks, self._split = call, Chunks(call), sse.EventSplitter()
        self._counts: Any = None
        self._tools: dict[int, int] = {}
        self._images: dict[int, int] = {}
        self._extra: dict[int, Any] = {}
        self._finish: dict[int, str | None] = {}

    @property
    def usage(self) -> Usage | None:
        """See StreamDecoder."""
        return usage_of(self._counts)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See StreamDecoder.feed."""
        try:
            for event in self._split.feed(data):
                yield from self._events(event)
        except sse.OversizedEvent as exc:
            raise UpstreamError(str(exc)) from exc
        except SHAPE_ERRORS as exc:
            raise UpstreamError("the upstream sent a malformed event") from exc

    def end(self) -> Iterator[bytes]:
        """See StreamDecoder.end."""
        try:
            for event in self._split.end():
                yield from self._events(event)
        except SHAPE_ERRORS as exc:
            raise UpstreamError("the upstream sent a malformed event") from exc
        if not self._finish or None in self._finish.values():
            raise UpstreamError("the upstream ended its answer early")
        for index, reason in sorted(self._finish.items()):
            if index in self._extra:
                yield from self._chunks.delta({"extra_content": self._extra[index]}, index)
            yield self._chunks.finish(finish_of(reason or "", has_tools=self._tools.get(index, 0) > 0), index)
        yield from self._chunks.usage(self.usage)
        yield sse.DONE

    def _events(self, event: bytes) -> Iterator[bytes]:
        payload = sse.data_of(event)
        if payload is None:
            if not event.lstrip().startswith((b"{", b"[")):
                return
            payload = event  # an error that is no event
        answer = jsonx.peek(payload)
        if isinstance(answer, list):
            answer = answer[0]
        if answer.get("error"):
            raise error_event(answer["error"])
        self._counts = answer.get("usageMetadata") or self._counts
        for candidate in answer.get("candidates") or ():
            yield from self._candidate(candidate)
        if answer.get("usageMetadata"):
            self._call.told_pieces = len(self._call.pieces)
        if 0 not in self._finish and (refusal := refusal_of(answer)) is not None:
            self._finish[0] = "SAFETY"
            yield from self._chunks.delta({"refusal": refusal})

    def _candidate(self, candidate: dict[str, Any]) -> Iterator[bytes]:
        index, reason = index_of(candidate), candidate.get("finishReason")
        if not isinstance(reason, str | None):
            raise TypeError("finishReason")
        first_tool = self._tools.get(index, 0)
        delta = read_candidate(self._call, candidate, first_tool, self._call.pieces)
        if "tool_calls" in delta:
            self._tools[index] = first_tool + len(delta["tool_calls"])
        if "images" in delta:
            first_image = self._images.get(index, 0)
            self._images[index] = first_image + len(delta["images"])
            delta["images"] = [{**image, "index": number} for number, image in enumerate(delta["images"], first_image)]
        if "extra_content" in delta:
            self._extra[index] = delta.pop("extra_content")
        self._finish[index] = reason or self._finish.get(index)
        yield from self._chunks.delta(delta, index, logprobs_of(candidate))
