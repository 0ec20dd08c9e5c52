/* What the stand-in provider says, in the shape of OpenAI's answers. */
#ifndef TOLLHOUSE_TEXTS_H
#define TOLLHOUSE_TEXTS_H

#include "common.h"

#define ABOUT "\"created\":1735689600,\"model\":\"gpt-4o-mini-2024-07-18\""
#define USAGE "{\"prompt_tokens\":12,\"completion_tokens\":%ld,\"total_tokens\":%ld}"
#define EVENT \
    "data: {\"id\":\"chatcmpl-fake0000000001\",\"object\":\"chat.completion.chunk\"," ABOUT ",\"choices\":"
#define CHOICE EVENT "[{\"index\":0,\"delta\":"
#define ROLE CHOICE "{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n"
#define TOKEN_HEAD CHOICE "{\"content\":\"" STAMP_MARK
#define TOKEN_TAIL " \"},\"finish_reason\":null}]}\n\n"
#define FINISH CHOICE "{},\"finish_reason\":\"stop\"}]}\n\n"
#define DONE "data: [DONE]\n\n"
#define GO_ON "HTTP/1.1 100 Continue\r\n\r\n"
#define STREAM_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
#define ANSWER \
    "{\"id\":\"chatcmpl-fake0000000001\",\"object\":\"chat.completion\"," ABOUT \
    ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":" \
    "\"The quick brown fox jumps over the lazy dog.\"," \
    "\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":" USAGE \
    ",\"system_fingerprint\":\"fp_0000000001\"}"
#define VECTOR \
    "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":" \
    "[0.0125,-0.25,0.5,0.0625,-0.125,0.75,-0.375,0.03125]}],\"model\":\"text-embedding-3-small\"," \
    "\"usage\":{\"prompt_tokens\":12,\"total_tokens\":12}}"
#define MODELS \
    "{\"object\":\"list\",\"data\":[{\"id\":\"gpt-4o-mini\",\"object\":\"model\",\"created\":1735689600," \
    "\"owned_by\":\"fake\"}]}"

#endif
