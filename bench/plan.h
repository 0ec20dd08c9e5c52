/* What a request asks of the stand-in provider: its own fields, and a tag such as
 * {{chunks=50 every_ms=20 first_ms=500 status=429}} anywhere in its text (the last one counts). */
#ifndef TOLLHOUSE_PLAN_H
#define TOLLHOUSE_PLAN_H

#include "common.h"

#define MAX_CHUNKS 100000

struct plan {
    long status;    /* 200 unless an error is wanted */
    long chunks;    /* content chunks of a stream */
    long every_ms;  /* pause between them; 0: all at once */
    long first_ms;  /* wait before the answer */
    long drop;      /* break the connection off after so many chunks; 0: never */
    long close;     /* 1: say "Connection: close" and hang up after the answer */
    bool stream, usage;
};

/* False when the tag is not understood. */
bool read_plan(const char *body, size_t len, struct plan *p);

#endif
