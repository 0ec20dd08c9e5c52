/* Sends one request over and over on many connections and prints what came back as one JSON object. */
#include "options.h"
#include "response.h"

#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 512
#define READ_SIZE (256 * 1024)
#define SWEEP_NS (20 * MILLI_NS)
#define CONNECT_PAUSE_NS (50 * MILLI_NS)

enum phase { WAITING, CONNECTING, ACTIVE, PARKED };
enum failure { CONNECT, BROKEN, CLOSED, TIMEOUT, STATUS, BAD_RESPONSE, INCOMPLETE, FAILURES };

static const char *const failure_names[FAILURES] = {"connect", "broken", "closed", "timeout", "status",
                                                    "malformed", "incomplete"};

struct conn {
    int fd;
    enum phase phase;
    size_t sent;
    int64_t begun, wake;
    bool writing, used, resent, open_stream;
    struct response response;
};

static struct {
    long started, ok, failed[FAILURES], status[600], reconnects, resends, streams, max_streams, live;
    int64_t begun, ended, stop_at;
    struct buf first_error;
    struct hist headers, first_token, total, lag;
} run;

static int ep;
static struct conn *conns;
static volatile sig_atomic_t interrupted;

static void start_request(struct conn *c);

static void close_conn(struct conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->writing = c->used = false;
}

static void park(struct conn *c)
{
    close_conn(c);
    c->phase = PARKED;
    run.live--;
}

static void note_error(const char *what, const struct buf *sample)
{
    if (run.first_error.len)
        return;
    buf_add_text(&run.first_error, what);
    if (sample && sample->len) {
        buf_add_text(&run.first_error, ": ");
        buf_add(&run.first_error, sample->data, sample->len);
    }
}

/* Books the end of a request that was sent, good or not. */
static void end_request(struct conn *c, int64_t now)
{
    run.ended = now;
    run.streams -= c->open_stream;
    c->open_stream = false;
    if (c->response.head_at) {
        int status = c->response.status;
        run.status[status < 600 ? status : 0]++;
        hist_add(&run.headers, c->response.head_at - c->begun);
    }
}

static void fail(struct conn *c, enum failure kind, const char *what)
{
    end_request(c, now_ns());
    run.failed[kind]++;
    note_error(what, &c->response.sample);
    close_conn(c);
    c->phase = WAITING;
    c->wake = now_ns() + (kind == CONNECT ? CONNECT_PAUSE_NS : 0);
}

static void watch(struct conn *c, bool writing, int how)
{
    struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    if ((how == EPOLL_CTL_ADD || c->writing != writing) && epoll_ctl(ep, how, c->fd, &e))
        die("epoll_ctl");
    c->writing = writing;
}

static void send_more(struct conn *c)
{
    while (c->sent < opt.request.len) {
        ssize_t n = send(c->fd, opt.request.data + c->sent, opt.request.len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        /* A server may answer and hang up before it has read everything: the answer counts, so read on. */
        if (n < 0 && errno != EAGAIN)
            break;
        if (n < 0) {
            watch(c, true, EPOLL_CTL_MOD);
            return;
        }
        c->sent += (size_t)n;
    }
    watch(c, false, EPOLL_CTL_MOD);
}

static void open_conn(struct conn *c)
{
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->phase = CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&opt.server, sizeof opt.server) && errno != EINPROGRESS)
        fail(c, CONNECT, strerror(errno));
    else
        watch(c, true, EPOLL_CTL_ADD);
}

static void send_request(struct conn *c)
{
    response_reset(&c->response);
    c->sent = 0;
    if (c->fd < 0) {
        open_conn(c);
        return;
    }
    c->phase = ACTIVE;
    send_more(c);
}

static void start_request(struct conn *c)
{
    int64_t now = now_ns();
    if (interrupted || run.started >= opt.requests || now >= run.stop_at) {
        park(c);
        return;
    }
    run.started++;
    c->begun = now;
    c->resent = false;
    send_request(c);
}

/* A kept-alive connection may be closed by the server just as it is used again: that is no failure,
 * every HTTP client sends once more. */
static void lost(struct conn *c, enum failure kind, const char *what)
{
    if (!c->used || c->response.begun || c->resent) {
        fail(c, kind, what);
        return;
    }
    close_conn(c);
    c->resent = true;
    run.resends++;
    run.reconnects++;
    send_request(c);
}

static void finish(struct conn *c, int64_t now)
{
    struct response *r = &c->response;
    char what[64];
    c->used = true;
    if (r->part == MALFORMED) {
        fail(c, BAD_RESPONSE, "the response is malformed");
        return;
    }
    if (r->status != opt.status) {
        snprintf(what, sizeof what, "HTTP %d", r->status);
        note_error(what, &r->sample);
        run.failed[STATUS]++;
    } else if (r->events && r->status == 200 && (r->tokens != opt.chunks || !r->done)) {
        snprintf(what, sizeof what, "%ld of %ld chunks, %s end mark", r->tokens, opt.chunks,
                 r->done ? "with" : "no");
        note_error(what, &r->sample);
        run.failed[INCOMPLETE]++;
    } else {
        run.ok++;
        hist_add(&run.total, now - c->begun);
        if (r->tokens)
            hist_add(&run.first_token, r->first_token_at - c->begun);
    }
    end_request(c, now);
    if (!r->keep || c->sent < opt.request.len) {
        close_conn(c);
        run.reconnects++;
    }
    start_request(c);
}

static void read_more(struct conn *c)
{
    static char data[READ_SIZE];
    struct response *r = &c->response;
    for (;;) {
        ssize_t n = recv(c->fd, data, sizeof data, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        int64_t now = now_ns();
        if (n > 0)
            response_feed(r, data, (size_t)n, now);
        else if (n == 0)
            response_eof(r);
        if (r->head_at && r->part < WHOLE && !c->open_stream && r->events) {
            c->open_stream = true;
            if (++run.streams > run.max_streams)
                run.max_streams = run.streams;
        }
        if (r->part == WHOLE || r->part == MALFORMED) {
            finish(c, now);
            return;
        }
        if (n <= 0) {
            lost(c, n ? BROKEN : CLOSED, n ? strerror(errno) : "closed before the response was complete");
            return;
        }
        if ((size_t)n < sizeof data)
            return;
    }
}

static void on_event(struct conn *c, unsigned events)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (c->phase == CONNECTING) {
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error) {
            fail(c, CONNECT, strerror(error));
            return;
        }
        c->phase = ACTIVE;
        events = EPOLLOUT;
    }
    if (events & EPOLLOUT)
        send_more(c);
    if (events & ~(unsigned)EPOLLOUT)
        read_more(c);
}

static void sweep(int64_t now)
{
    for (long i = 0; i < opt.connections; i++) {
        struct conn *c = &conns[i];
        if (c->phase == WAITING && c->wake <= now)
            start_request(c);
        else if ((c->phase == CONNECTING || c->phase == ACTIVE) && now - c->begun > opt.timeout_s * SECOND_NS)
            fail(c, TIMEOUT, "no complete response within the time limit");
    }
}

/* The ramp needs finer steps than the search for timeouts. */
static int64_t next_sweep(int64_t now)
{
    int64_t step = opt.ramp_ms * MILLI_NS / opt.connections;
    bool ramping = now < run.begun + opt.ramp_ms * MILLI_NS;
    return now + (ramping && step < SWEEP_NS ? step + MILLI_NS / 10 : SWEEP_NS);
}

static void run_load(void)
{
    struct epoll_event events[BATCH];
    conns = calloc((size_t)opt.connections, sizeof *conns);
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (!conns || ep < 0)
        die("cannot start");
    run.begun = run.ended = now_ns();
    run.stop_at = run.begun + opt.seconds * SECOND_NS;
    run.live = opt.connections;
    for (long i = 0; i < opt.connections; i++) {
        conns[i].fd = -1;
        conns[i].wake = run.begun + opt.ramp_ms * MILLI_NS * i / opt.connections;
        conns[i].response.events = opt.chunks > 0;
        conns[i].response.lag = &run.lag;
    }
    for (int64_t next = 0; run.live && !interrupted;) {
        int64_t now = now_ns();
        if (now >= next) {
            sweep(now);
            next = next_sweep(now);
        }
        int n = wait_events(ep, events, BATCH, next);
        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr, events[i].events);
    }
}

static void print_text(const struct buf *b)
{
    putchar('"');
    for (size_t i = 0; i < b->len; i++) {
        unsigned char c = (unsigned char)b->data[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 32 || c > 126)
            printf("\\u%04x", c < 128 ? c : '?');
        else
            putchar(c);
    }
    putchar('"');
}

static void print_result(void)
{
    double elapsed = (double)(run.ended - run.begun) / SECOND_NS;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"requests\": %ld, \"ok\": %ld, \"failures\": {", run.started, run.ok);
    for (int i = 0; i < FAILURES; i++)
        printf("%s\"%s\": %ld", i ? ", " : "", failure_names[i], run.failed[i]);
    printf("}, \"status\": {");
    for (int i = 0, any = 0; i < 600; i++)
        if (run.status[i])
            printf("%s\"%d\": %ld", any++ ? ", " : "", i, run.status[i]);
    printf("}, \"first_error\": ");
    print_text(&run.first_error);
    printf(", \"elapsed_s\": %.4f, \"rps\": %.2f", elapsed, elapsed > 0 ? (double)run.ok / elapsed : 0);
    printf(", \"reconnects\": %ld, \"resends\": %ld", run.reconnects, run.resends);
    printf(", \"max_open_streams\": %ld", run.max_streams);
    printf(", \"load_cpu_s\": %.3f",
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    hist_print(&run.headers, "headers");
    hist_print(&run.first_token, "first_token");
    hist_print(&run.total, "total");
    hist_print(&run.lag, "token_lag");
    printf("}\n");
}

static void interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    sharpen_timers();
    raise_file_limit();
    signal(SIGINT, interrupt);
    signal(SIGTERM, interrupt);
    run_load();
    print_result();
    return 0;
}
