#include "response.h"

#include <ctype.h>

#define MAX_HEAD (64u << 10)
#define MAX_LINE (1u << 20)

void response_reset(struct response *r)
{
    buf_clear(&r->text);
    buf_clear(&r->sample);
    *r = (struct response){.events = r->events, .lag = r->lag, .text = r->text, .sample = r->sample};
}

static void keep_sample(struct response *r, const char *data, size_t len)
{
    size_t room = SAMPLE_LEN - r->sample.len;
    buf_add(&r->sample, data, len < room ? len : room);
}

static void read_event_line(struct response *r, const char *line, size_t len, int64_t now)
{
    while (len && (line[len - 1] == '\r' || line[len - 1] == ' '))
        len--;
    if (len >= 6 && !memcmp(line, "data:", 5) &&
        (!memcmp(line + len - 6, "[DONE]", 6) || memmem(line, len, "\"message_stop\"", 14))) {
        r->done = true;
        return;
    }
    const char *mark = memmem(line, len, STAMP_MARK, STAMP_MARK_LEN);
    if (!mark || (size_t)(line + len - mark) < STAMP_MARK_LEN + STAMP_DIGITS) {
        if (memmem(line, len, "\"error\"", 7))
            keep_sample(r, line, len);
        return;
    }
    uint64_t stamp = 0;
    for (const char *p = mark + STAMP_MARK_LEN; p < mark + STAMP_MARK_LEN + STAMP_DIGITS; p++) {
        if (!isdigit((unsigned char)*p))
            return;
        stamp = stamp * 10 + (uint64_t)(*p - '0');
    }
    hist_add(r->lag, (int64_t)((uint64_t)now - stamp));
    if (!r->tokens++)
        r->first_token_at = now;
}

static void read_events(struct response *r, const char *data, size_t len, int64_t now)
{
    const char *end = data + len, *stop;
    while ((stop = memchr(data, '\n', (size_t)(end - data)))) {
        if (r->text.len) {
            buf_add(&r->text, data, (size_t)(stop - data));
            read_event_line(r, r->text.data, r->text.len, now);
            r->text.len = 0;
        } else {
            read_event_line(r, data, (size_t)(stop - data), now);
        }
        data = stop + 1;
    }
    buf_add(&r->text, data, (size_t)(end - data));
    if (r->text.len > MAX_LINE)
        r->part = MALFORMED;
}

static void read_body(struct response *r, const char *data, size_t len, int64_t now)
{
    if (r->events && r->status == 200)
        read_events(r, data, len, now);
    else
        keep_sample(r, data, len);
}

static bool value_is(const char *value, const char *word)
{
    return value && !strncasecmp(value, word, strlen(word));
}

static void read_head(struct response *r, size_t len, int64_t now)
{
    const char *head = r->text.data;
    if (len < 16 || memcmp(head, "HTTP/1.", 7) || head[8] != ' ' || !isdigit((unsigned char)head[9])) {
        r->part = MALFORMED;
        return;
    }
    r->status = atoi(head + 9);
    if (r->status >= 100 && r->status < 200)
        return;
    const char *connection = find_header(head, len, "connection");
    const char *length = find_header(head, len, "content-length");
    r->head_at = now;
    r->keep = head[7] == '0' ? value_is(connection, "keep-alive") : !value_is(connection, "close");
    if (r->status == 204 || r->status == 304) {
        r->part = WHOLE;
    } else if (value_is(find_header(head, len, "transfer-encoding"), "chunked")) {
        r->part = CHUNK_SIZE;
    } else if (length) {
        r->left = strtoull(length, NULL, 10);
        r->part = r->left ? BY_LENGTH : WHOLE;
    } else {
        r->keep = false;
        r->part = UNTIL_CLOSE;
    }
}

/* Returns how many of the new bytes belonged to the head. */
static size_t feed_head(struct response *r, const char *data, size_t len, int64_t now)
{
    size_t before = r->text.len;
    buf_add(&r->text, data, len);
    const char *end = memmem(r->text.data, r->text.len, "\r\n\r\n", 4);
    if (!end) {
        if (r->text.len > MAX_HEAD)
            r->part = MALFORMED;
        return len;
    }
    size_t head = (size_t)(end - r->text.data) + 4;
    read_head(r, head, now);
    r->text.len = 0;
    return head - before;
}

static size_t feed_chunk_size(struct response *r, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = data[i];
        if (c == '\n') {
            r->part = r->left ? CHUNK_DATA : TRAILER;
            return i + 1;
        }
        if (c == '\r')
            continue;
        if (!isxdigit((unsigned char)c) || r->left >> 32) {
            r->part = MALFORMED;
            return len;
        }
        r->left = r->left * 16 + (uint64_t)(isdigit((unsigned char)c) ? c - '0' : (c | 32) - 'a' + 10);
    }
    return len;
}

/* The lines after the last chunk end with an empty one; left counts the bytes of the current line. */
static size_t feed_trailer(struct response *r, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n' && !r->left) {
            r->part = WHOLE;
            return i + 1;
        }
        r->left = data[i] == '\n' ? 0 : r->left + (data[i] != '\r');
    }
    return len;
}

static size_t feed_data(struct response *r, const char *data, size_t len, int64_t now)
{
    size_t n = len < r->left ? len : (size_t)r->left;
    read_body(r, data, n, now);
    r->left -= n;
    if (!r->left && r->part != MALFORMED)
        r->part = r->part == BY_LENGTH ? WHOLE : CHUNK_END;
    return n;
}

void response_feed(struct response *r, const char *data, size_t len, int64_t now)
{
    r->begun = r->begun || len;
    while (len && r->part != WHOLE && r->part != MALFORMED) {
        size_t used = 1;
        if (r->part == HEAD)
            used = feed_head(r, data, len, now);
        else if (r->part == CHUNK_SIZE)
            used = feed_chunk_size(r, data, len);
        else if (r->part == CHUNK_END)
            r->part = *data == '\n' ? CHUNK_SIZE : CHUNK_END;
        else if (r->part == TRAILER)
            used = feed_trailer(r, data, len);
        else if (r->part == UNTIL_CLOSE)
            read_body(r, data, used = len, now);
        else
            used = feed_data(r, data, len, now);
        data += used;
        len -= used;
    }
    if (len)
        r->keep = false;
}

void response_eof(struct response *r)
{
    r->keep = false;
    if (r->part == UNTIL_CLOSE)
        r->part = WHOLE;
}
