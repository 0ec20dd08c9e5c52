"""Schemas of calls: what OpenAI's and Anthropic's clients send and read, as far as the gateway looks at it.

Members that are not named here are the provider's business and go through as they are.
"""

from typing import Any, Final

from routes.openapi.shapes import (
    Schema,
    always,
    either,
    flag,
    listed,
    number,
    one_of,
    opened,
    or_null,
    ref,
    text,
    whole,
)
from services.dialects import openai, responses_fields

MAX: Final = openai.MAX_INT
_object: Final[Schema] = {"type": "object"}
_model: Final = text("The public name of a model; `GET /v1/models` lists them.", minLength=1)
_stream: Final = flag("Whether the answer comes as events.")
_texts: Final = either(text(), listed(text()))

CHAT_EXAMPLE: Final = {"model": "echo", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 50}
MESSAGE_EXAMPLE: Final = {"model": "echo", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello!"}]}
RESPONSE_EXAMPLE: Final = {"model": "echo", "input": "Hello!", "store": False}

_tuning: Final[dict[str, Schema]] = {
    "stream": _stream,
    "stream_options": _object,
    "temperature": number(),
    "top_p": number(),
    "n": whole(minimum=1, maximum=openai.MAX_CHOICES),
    "stop": _texts,
    "seed": whole(),
    "presence_penalty": number(),
    "frequency_penalty": number(),
    "logit_bias": _object,
    "user": text(),
}
_told: Final[dict[str, Schema]] = {"id": text(), "created": whole("Unix seconds."), "model": text()}

SCHEMAS: Final[dict[str, Any]] = {
    "ChatRequest": opened(
        {
            "model": _model,
            "messages": listed(
                opened(
                    {"role": one_of(*sorted(openai.ROLES))},
                    {"content": either(text(), listed(_object), {"type": "null"}), "tool_calls": listed(_object)},
                ),
                minItems=1,
            ),
        },
        _tuning
        | {
            "max_tokens": whole(minimum=1, maximum=MAX),
            "max_completion_tokens": whole(minimum=1, maximum=MAX),
            "tools": listed(_object),
            "tool_choice": either(text(), _object),
            "response_format": _object,
            "metadata": _object,
        },
    ),
    "Usage": opened(
        {"prompt_tokens": whole(), "completion_tokens": whole(), "total_tokens": whole()},
        {"prompt_tokens_details": or_null(_object), "completion_tokens_details": or_null(_object)},
    ),
    "Chat": opened(
        _told
        | {
            "object": always("chat.completion"),
            "choices": listed(
                opened(
                    {"index": whole(), "message": opened({"role": text()}, {"content": or_null(text())})},
                    {"finish_reason": or_null(text())},
                )
            ),
        },
        {"usage": or_null(ref("Usage"))},
    ),
    "CompletionRequest": opened(
        {"model": _model, "prompt": either(text(), listed(either(text(), whole(), listed(whole()))))},
        _tuning | {"max_tokens": whole(minimum=0, maximum=MAX), "best_of": whole(minimum=1), "suffix": text()},
    ),
    "Completion": opened(
        _told | {"object": always("text_completion"), "choices": listed(opened({"index": whole(), "text": text()}))},
        {"usage": or_null(ref("Usage"))},
    ),
    "EmbeddingRequest": opened(
        {"model": _model, "input": either(text(), listed(either(text(), whole(), listed(whole())), minItems=1))},
        {"dimensions": whole(minimum=1), "encoding_format": one_of("float", "base64"), "user": text()},
    ),
    "Embeddings": opened(
        {
            "object": always("list"),
            "model": text(),
            "data": listed(opened({"index": whole(), "embedding": either(listed(number()), text("In base64."))})),
        },
        {"usage": _object},
    ),
    "Model": opened(
        {"id": text("The name to call it by."), "object": always("model"), "created": whole(), "owned_by": text()}
    ),
    "ModelList": opened({"object": always("list"), "data": listed(ref("Model"))}),
    "AnthropicModel": opened(
        {
            "type": always("model"),
            "id": text(),
            "display_name": text(),
            "created_at": text(format="date-time"),
            "max_input_tokens": or_null(whole()),
            "max_tokens": or_null(whole()),
        }
    ),
    "AnthropicModelList": opened(
        {
            "data": listed(ref("AnthropicModel")),
            "has_more": flag(),
            "first_id": or_null(text()),
            "last_id": or_null(text()),
        }
    ),
    "MessageRequest": opened(
        {
            "model": _model,
            "max_tokens": whole(minimum=0),
            "messages": listed(opened({"role": text(), "content": either(text(), listed(_object))}), minItems=1),
        },
        {
            "system": either(text(), listed(_object)),
            "stream": _stream,
            "stop_sequences": listed(text()),
            "temperature": number(),
            "top_p": number(),
            "top_k": whole(minimum=0),
            "tools": listed(_object),
            "tool_choice": _object,
            "thinking": _object,
            "metadata": _object,
        },
    ),
    "CountRequest": opened({"model": _model, "messages": listed(_object, minItems=1)}, {"tools": listed(_object)}),
    "Message": opened(
        {
            "id": text(),
            "type": always("message"),
            "role": always("assistant"),
            "model": text(),
            "content": listed(opened({"type": text()})),
            "stop_reason": or_null(text()),
            "stop_sequence": or_null(text()),
            "usage": _object,
        }
    ),
    "ResponseRequest": opened(
        {"model": _model},
        {
            "input": either(text(), listed(_object)),
            "instructions": text(),
            "previous_response_id": text("The id of an answer that was kept."),
            "store": flag("Whether the answer is kept."),
            "stream": _stream,
            "max_output_tokens": whole(minimum=1, maximum=MAX),
            "temperature": number(),
            "top_p": number(),
            "top_logprobs": whole(minimum=0, maximum=responses_fields.MAX_TOP_LOGPROBS),
            "tools": listed(_object),
            "tool_choice": either(text(), _object),
            "text": _object,
            "reasoning": _object,
            "metadata": _object,
        },
    ),
    "Response": opened(
        {
            "id": text(),
            "object": always("response"),
            "created_at": number("Unix seconds."),
            "status": text(),
            "model": text(),
            "output": listed(opened({"type": text()})),
        },
        {"usage": or_null(_object), "error": or_null(_object), "incomplete_details": or_null(_object)},
    ),
    "ResponseItems": opened(
        {
            "object": always("list"),
            "data": listed(opened({"id": text()})),
            "first_id": text(),
            "last_id": text(),
            "has_more": flag(),
        }
    ),
    "PromptRequest": opened(
        {"model_name": text(minLength=1), "prompt": text(minLength=1)},
        {
            "max_tokens": whole(minimum=1, maximum=MAX),
            "temperature": number(),
            "user_api_key": text("A key, where no header has one."),
        },
    ),
    "Event": opened(
        {"data": text()}, {"event": text()}, "Each server-sent event, as the API of this surface defines them."
    ),
}
