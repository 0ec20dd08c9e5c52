/* Reads one HTTP/1.1 response as it arrives, in pieces of any size. */
#ifndef TOLLHOUSE_RESPONSE_H
#define TOLLHOUSE_RESPONSE_H

#include "hist.h"

#define SAMPLE_LEN 300

enum part { HEAD, BY_LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, UNTIL_CLOSE, WHOLE, MALFORMED };

struct response {
    enum part part;
    int status;
    bool keep;        /* the connection may carry another request */
    bool events;      /* wanted by the caller: read a 200 body as server-sent events */
    bool done;        /* "data: [DONE]" was seen */
    bool begun;       /* any byte has arrived */
    uint64_t left;    /* bytes left in the body or chunk */
    long tokens;
    int64_t head_at, first_token_at;
    struct buf text;  /* the head, then an unfinished line of the event stream */
    struct buf sample; /* start of a body that is not a good answer */
    struct hist *lag; /* where the one-way delay of each token goes */
};

void response_reset(struct response *r);

/* Takes bytes that were read at the given time; r->part tells what came of them. */
void response_feed(struct response *r, const char *data, size_t len, int64_t now);

/* The peer has closed: ends a body that lasts until then. */
void response_eof(struct response *r);

#endif
