/* A stand-in for an OpenAI-compatible provider, for load measurement only.
 * What it answers is steered by a tag in the request body; see README.md. */
#include "plan.h"
#include "texts.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_HEAD (64u << 10)
#define MAX_BODY (4u << 20)
#define READ_SIZE 4096
#define BATCH 512

enum route { CHAT, EMBEDDINGS, LIST_MODELS };

struct conn {
    int fd;
    struct buf in, out;
    size_t sent;          /* bytes of out already written */
    size_t head, request; /* lengths of the request at the front of in; 0 until its head is whole */
    bool busy, keep, writing;
    enum route route;
    struct plan plan;
    long next;            /* the next content chunk; -1 before the response head */
    int64_t began, due;
    size_t slot;          /* place in the timer heap, 0 when not in it */
};

static int ep;
static struct conn **heap; /* heap[1] is due first */
static size_t heap_len, heap_cap;
static char token_event[512];
static size_t token_len, stamp_at;

static void heap_place(struct conn *c, size_t slot)
{
    heap[slot] = c;
    c->slot = slot;
}

static void heap_settle(struct conn *c, size_t slot)
{
    for (; slot > 1 && heap[slot / 2]->due > c->due; slot /= 2)
        heap_place(heap[slot / 2], slot);
    for (size_t child; (child = slot * 2) <= heap_len; slot = child) {
        if (child < heap_len && heap[child + 1]->due < heap[child]->due)
            child++;
        if (heap[child]->due >= c->due)
            break;
        heap_place(heap[child], slot);
    }
    heap_place(c, slot);
}

static void wake_at(struct conn *c, int64_t due)
{
    c->due = due;
    if (!c->slot && heap_len + 1 >= heap_cap) {
        heap_cap = heap_cap ? heap_cap * 2 : 1024;
        heap = realloc(heap, heap_cap * sizeof *heap);
        if (!heap)
            die("out of memory");
    }
    heap_settle(c, c->slot ? c->slot : ++heap_len);
}

static void no_wake(struct conn *c)
{
    size_t slot = c->slot;
    if (!slot)
        return;
    c->slot = 0;
    struct conn *last = heap[heap_len--];
    if (last != c)
        heap_settle(last, slot);
}

static void hang_up(struct conn *c)
{
    no_wake(c);
    close(c->fd);
    buf_free(&c->in);
    buf_free(&c->out);
    free(c);
}

static void watch(struct conn *c, bool writing)
{
    struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    if (c->writing != writing && epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e))
        die("epoll_ctl");
    c->writing = writing;
}

/* Writes what is waiting. False when the connection is gone. */
static bool flush(struct conn *c)
{
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            watch(c, true);
            return true;
        }
        if (n < 0 && errno != EINTR) {
            hang_up(c);
            return false;
        }
        c->sent += n > 0 ? (size_t)n : 0;
    }
    c->sent = 0;
    buf_clear(&c->out);
    watch(c, false);
    if (!c->busy && !c->keep) {
        hang_up(c);
        return false;
    }
    return true;
}

static void add_chunk(struct conn *c, const char *text, size_t len)
{
    char size[24];
    buf_add(&c->out, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", len));
    buf_add(&c->out, text, len);
    buf_add(&c->out, "\r\n", 2);
}

static void add_token(struct conn *c, int64_t stamp)
{
    for (size_t i = STAMP_DIGITS; i-- > 0; stamp /= 10)
        token_event[stamp_at + i] = (char)('0' + stamp % 10);
    buf_add(&c->out, token_event, token_len);
}

static bool answer(struct conn *c, long status, const char *body)
{
    char head[256];
    const char *reason = status == 200 ? "OK" : status == 429 ? "Too Many Requests" : "Error";
    int n = snprintf(head, sizeof head, "HTTP/1.1 %ld %s\r\nContent-Type: application/json\r\n%s%s"
                     "Content-Length: %zu\r\n\r\n", status, reason, status == 429 ? "Retry-After: 1\r\n" : "",
                     c->keep ? "" : "Connection: close\r\n", strlen(body));
    buf_add(&c->out, head, (size_t)n);
    buf_add_text(&c->out, body);
    c->busy = false;
    return flush(c);
}

static bool answer_error(struct conn *c, long status, const char *why)
{
    char body[256];
    snprintf(body, sizeof body, "{\"error\":{\"message\":\"%s\",\"type\":\"fake_upstream\",\"param\":null,"
             "\"code\":\"%ld\"}}", why, status);
    return answer(c, status, body);
}

static void end_stream(struct conn *c)
{
    char usage[512];
    add_chunk(c, FINISH, sizeof FINISH - 1);
    if (c->plan.usage) {
        int n = snprintf(usage, sizeof usage, EVENT "[],\"usage\":" USAGE "}\n\n", c->plan.chunks,
                         c->plan.chunks + 12);
        add_chunk(c, usage, (size_t)n);
    }
    add_chunk(c, DONE, sizeof DONE - 1);
    buf_add_text(&c->out, "0\r\n\r\n");
    c->busy = false;
}

/* Writes every part of the stream that is due. False when the connection is gone. */
static bool stream_on(struct conn *c)
{
    int64_t now = now_ns(), first = c->began + c->plan.first_ms * MILLI_NS;
    if (c->next < 0) {
        buf_add_text(&c->out, c->keep ? STREAM_HEAD "\r\n" : STREAM_HEAD "Connection: close\r\n\r\n");
        add_chunk(c, ROLE, sizeof ROLE - 1);
        c->next = 0;
    }
    while (c->next < c->plan.chunks && first + c->next * c->plan.every_ms * MILLI_NS <= now) {
        if (c->plan.drop && c->next >= c->plan.drop) {
            if (flush(c))
                hang_up(c);
            return false;
        }
        add_token(c, now);
        c->next++;
    }
    if (c->next >= c->plan.chunks)
        end_stream(c);
    else
        wake_at(c, first + c->next * c->plan.every_ms * MILLI_NS);
    return flush(c);
}

static bool respond(struct conn *c)
{
    static char whole[1024];
    if (c->plan.status != 200)
        return answer_error(c, c->plan.status, "as the tag in the request asked");
    if (c->route == EMBEDDINGS)
        return answer(c, 200, VECTOR);
    if (c->route == LIST_MODELS)
        return answer(c, 200, MODELS);
    if (c->plan.stream)
        return stream_on(c);
    if (!*whole)
        snprintf(whole, sizeof whole, ANSWER, 10L, 22L);
    return answer(c, 200, whole);
}

static bool path_ends(const char *path, size_t len, const char *tail)
{
    size_t n = strlen(tail);
    return len >= n && !memcmp(path + len - n, tail, n);
}

static bool find_route(struct conn *c)
{
    const char *head = c->in.data, *path = memchr(head, ' ', c->head);
    if (!path++)
        return false;
    size_t len = strcspn(path, " ?\r");
    bool post = !memcmp(head, "POST ", 5), get = !memcmp(head, "GET ", 4);
    c->route = LIST_MODELS;
    if (path_ends(path, len, "/chat/completions"))
        c->route = CHAT;
    else if (path_ends(path, len, "/embeddings"))
        c->route = EMBEDDINGS;
    return c->route == LIST_MODELS ? get && path_ends(path, len, "/models") : post;
}

/* Answers the whole request at the front of in, now or by timer. False when the connection is gone. */
static bool take_request(struct conn *c)
{
    const char *body = c->in.data + c->head;
    size_t len = c->request - c->head;
    bool routed = find_route(c);
    bool clear = read_plan(body, len, &c->plan);
    c->keep = c->keep && !c->plan.close;
    c->next = -1;
    c->began = now_ns();
    c->busy = true;
    size_t left = c->in.len - c->request;
    memmove(c->in.data, c->in.data + c->request, left);
    c->head = c->request = 0;
    if (!left)
        buf_clear(&c->in);
    c->in.len = left;
    if (!routed)
        return answer_error(c, 404, "no such path");
    if (!clear)
        return answer_error(c, 400, "the tag in the request is not understood");
    if (!c->plan.first_ms)
        return respond(c);
    wake_at(c, c->began + c->plan.first_ms * MILLI_NS);
    return true;
}

/* Finds where the request at the front of in ends. False when the connection is gone. */
static bool measure_request(struct conn *c)
{
    const char *end = c->in.len ? memmem(c->in.data, c->in.len, "\r\n\r\n", 4) : NULL;
    bool too_long = !end && c->in.len >= MAX_HEAD;
    if (too_long)
        hang_up(c);
    if (!end)
        return !too_long;
    c->head = (size_t)(end - c->in.data) + 4;
    const char *length = find_header(c->in.data, c->head, "content-length");
    const char *connection = find_header(c->in.data, c->head, "connection");
    unsigned long body = length ? strtoul(length, NULL, 10) : 0;
    c->keep = !connection || strncasecmp(connection, "close", 5);
    if (body > MAX_BODY || find_header(c->in.data, c->head, "transfer-encoding")) {
        if (answer_error(c, 413, "the body is too large, or comes in chunks"))
            hang_up(c);
        return false;
    }
    c->request = c->head + body;
    if (c->request > c->in.len)
        buf_reserve(&c->in, c->request - c->in.len);
    if (c->request > c->in.len && find_header(c->in.data, c->head, "expect") &&
        send(c->fd, GO_ON, sizeof GO_ON - 1, MSG_NOSIGNAL) < 0) {
        hang_up(c);
        return false;
    }
    return true;
}

static void serve(struct conn *c)
{
    while (!c->busy && !c->out.len) {
        if (!c->request && !measure_request(c))
            return;
        if (!c->request || c->in.len < c->request || !take_request(c))
            return;
    }
}

static void readable(struct conn *c)
{
    for (;;) {
        buf_reserve(&c->in, READ_SIZE);
        size_t room = c->in.cap - c->in.len;
        ssize_t n = recv(c->fd, c->in.data + c->in.len, room, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        c->in.len += n > 0 ? (size_t)n : 0;
        if (n <= 0 || c->in.len > MAX_HEAD + MAX_BODY) {
            hang_up(c);
            return;
        }
        if ((size_t)n < room)
            break;
    }
    serve(c);
}

static void accept_all(int listener)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        if (!c)
            die("out of memory");
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e))
            die("epoll_ctl");
    }
}

static void run_timers(void)
{
    int64_t now = now_ns();
    while (heap_len && heap[1]->due <= now) {
        struct conn *c = heap[1];
        no_wake(c);
        if (c->next < 0 ? respond(c) : stream_on(c))
            serve(c);
    }
}

static int listen_on(long port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&a, &len))
        die("cannot listen");
    printf("listening on 127.0.0.1:%d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

/* The stamp has a fixed width, so that one event serves as the form for all. */
static void prepare_token(void)
{
    static const char event[] = TOKEN_HEAD "00000000000000000000" TOKEN_TAIL;
    token_len = (size_t)snprintf(token_event, sizeof token_event, "%zx\r\n%s\r\n", sizeof event - 1, event);
    stamp_at = (size_t)(strstr(token_event, STAMP_MARK) - token_event) + STAMP_MARK_LEN;
}

int main(int argc, char **argv)
{
    struct epoll_event events[BATCH];
    long port = -1;
    for (int option; (option = getopt(argc, argv, "p:")) == 'p';)
        port = number_option('p', optarg, 0, 65535);
    if (port < 0 || optind < argc) {
        fprintf(stderr, "usage: upstream -p PORT   (0: any free port)\n");
        return 2;
    }
    sharpen_timers();
    raise_file_limit();
    prepare_token();
    int listener = listen_on(port);
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN}))
        die("epoll");
    for (;;) {
        int n = wait_events(ep, events, BATCH, heap_len ? heap[1]->due : now_ns() + SECOND_NS);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c)
                accept_all(listener);
            else if (events[i].events & ~(unsigned)EPOLLOUT)
                readable(c);
            else if (flush(c))
                serve(c);
        }
        run_timers();
    }
}
