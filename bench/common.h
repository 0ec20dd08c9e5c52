/* Small helpers shared by the two load-measurement programs. */
#ifndef TOLLHOUSE_COMMON_H
#define TOLLHOUSE_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#define SECOND_NS 1000000000LL
#define MILLI_NS 1000000LL

/* Every content chunk carries STAMP_MARK and the time it was written, in STAMP_DIGITS digits. */
#define STAMP_MARK "T@"
#define STAMP_MARK_LEN (sizeof STAMP_MARK - 1)
#define STAMP_DIGITS 20

struct buf {
    char *data;
    size_t len, cap;
};

static inline int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND_NS + t.tv_nsec;
}

static inline void die(const char *what)
{
    if (errno)
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
    else
        fprintf(stderr, "%s\n", what);
    exit(2);
}

static inline void buf_reserve(struct buf *b, size_t extra)
{
    size_t cap = b->cap ? b->cap : 512;
    if (b->len + extra <= b->cap)
        return;
    while (cap < b->len + extra)
        cap *= 2;
    b->data = realloc(b->data, cap);
    if (!b->data)
        die("out of memory");
    b->cap = cap;
}

static inline void buf_add(struct buf *b, const void *data, size_t len)
{
    if (!len)
        return;
    buf_reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

static inline void buf_add_text(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

static inline void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

/* One large body must not pin its memory for the rest of a connection's life. */
static inline void buf_clear(struct buf *b)
{
    if (b->cap > 64 * 1024)
        buf_free(b);
    b->len = 0;
}

/* Value of a header in a head that ends with an empty line, or NULL. The value ends at '\r'. */
static inline const char *find_header(const char *head, size_t len, const char *name)
{
    const char *end = head + len;
    size_t name_len = strlen(name);
    const char *line = memchr(head, '\n', len);
    while (line && (size_t)(end - ++line) > name_len) {
        if (line[name_len] == ':' && !strncasecmp(line, name, name_len)) {
            line += name_len + 1;
            while (*line == ' ')
                line++;
            return line;
        }
        line = memchr(line, '\n', (size_t)(end - line));
    }
    return NULL;
}

/* epoll_wait counts in milliseconds, too coarse for pacing: this one waits until a clock time. */
static inline int wait_events(int ep, struct epoll_event *events, int max, int64_t until)
{
    int64_t left = until - now_ns();
    if (left < 0)
        left = 0;
    struct timespec t = {.tv_sec = left / SECOND_NS, .tv_nsec = left % SECOND_NS};
    int n = epoll_pwait2(ep, events, max, &t, NULL);
    if (n < 0 && errno != EINTR)
        die("epoll_pwait2 (needs Linux 5.11 or newer)");
    return n < 0 ? 0 : n;
}

/* The kernel may otherwise delay every timer by 50 microseconds. */
static inline void sharpen_timers(void)
{
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
}

/* The usual soft limit of 1,024 open files is below the number of connections wanted. */
static inline void raise_file_limit(void)
{
    struct rlimit limit;
    if (!getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* A whole number from the command line within bounds, or an error that names the option. */
static inline long number_option(char option, const char *text, long low, long high)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < low || value > high) {
        fprintf(stderr, "-%c takes a whole number from %ld to %ld, not '%s'\n", option, low, high, text);
        exit(2);
    }
    return value;
}

#endif
