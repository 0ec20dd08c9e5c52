/* What the load generator was asked to do. */
#ifndef TOLLHOUSE_OPTIONS_H
#define TOLLHOUSE_OPTIONS_H

#include "common.h"

#include <netinet/in.h>

struct options {
    const char *host, *path, *body_file;
    long port, connections, requests, seconds, ramp_ms, chunks, timeout_s, status;
    struct sockaddr_in server;
    struct buf request; /* the same bytes for every request */
};

extern struct options opt;

/* Fills opt, or ends the program with a message. */
void read_options(int argc, char **argv);

#endif
