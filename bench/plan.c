#include "plan.h"

#include <ctype.h>

#define MAX_TAG 200

/* Whether the body holds "key": true, with or without space around the colon. */
static bool is_true(const char *body, size_t len, const char *key)
{
    const char *end = body + len, *at = body;
    size_t key_len = strlen(key);
    while ((at = memmem(at, (size_t)(end - at), key, key_len))) {
        at += key_len;
        const char *p = at;
        while (p < end && (isspace((unsigned char)*p) || *p == ':'))
            p++;
        if (p > at && end - p >= 4 && !memcmp(p, "true", 4))
            return true;
    }
    return false;
}

static const char *find_last_tag(const char *body, size_t len)
{
    const char *at;
    while ((at = memrchr(body, '{', len))) {
        len = (size_t)(at - body);
        if (len && at[-1] == '{')
            return at + 1;
    }
    return NULL;
}

/* False when the tag has a word that is not known: a typing error must not pass for a measurement. */
static bool read_tag(const char *body, size_t len, struct plan *p)
{
    struct { const char *name; long *to; long max; } known[] = {
        {"chunks", &p->chunks, MAX_CHUNKS}, {"every_ms", &p->every_ms, 60000},
        {"first_ms", &p->first_ms, 600000}, {"status", &p->status, 599},
        {"drop", &p->drop, MAX_CHUNKS}, {"close", &p->close, 1}};
    const char *tag = find_last_tag(body, len);
    if (!tag)
        return true;
    size_t room = (size_t)(body + len - tag);
    const char *end = memmem(tag, room < MAX_TAG ? room : MAX_TAG, "}}", 2);
    if (!end)
        return false;
    char text[MAX_TAG + 1], *rest = NULL;
    snprintf(text, sizeof text, "%.*s", (int)(end - tag), tag);
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        size_t i = 0, known_len = sizeof known / sizeof *known;
        char *value = strchr(word, '='), *stop;
        if (!value)
            return false;
        *value++ = 0;
        while (i < known_len && strcmp(word, known[i].name))
            i++;
        long number = strtol(value, &stop, 10);
        if (i == known_len || stop == value || *stop || number < 0 || number > known[i].max)
            return false;
        *known[i].to = number;
    }
    return p->status >= 200;
}

bool read_plan(const char *body, size_t len, struct plan *p)
{
    *p = (struct plan){.status = 200, .chunks = 10};
    p->stream = is_true(body, len, "\"stream\"");
    p->usage = is_true(body, len, "\"include_usage\"");
    return read_tag(body, len, p);
}
