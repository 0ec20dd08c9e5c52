#include "options.h"

#include <arpa/inet.h>
#include <unistd.h>

#define MAX_CONNECTIONS 10000
#define MAX_REQUESTS 1000000000L

struct options opt = {.host = "127.0.0.1", .path = "/v1/chat/completions", .port = -1, .connections = 1,
                      .requests = MAX_REQUESTS, .seconds = 10, .timeout_s = 30, .status = 200};
static struct buf headers;

static void build_request(void)
{
    struct buf body = {0};
    char head[512];
    if (opt.body_file) {
        FILE *f = fopen(opt.body_file, "rb");
        if (!f)
            die(opt.body_file);
        for (size_t n = 1; n; body.len += n) {
            buf_reserve(&body, 65536);
            n = fread(body.data + body.len, 1, 65536, f);
        }
        fclose(f);
    }
    int n = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: %s:%ld\r\nUser-Agent: tollhouse-load\r\n",
                     opt.body_file ? "POST" : "GET", opt.path, opt.host, opt.port);
    if (n < 0 || (size_t)n >= sizeof head)
        die("the path is too long");
    buf_add(&opt.request, head, (size_t)n);
    buf_add(&opt.request, headers.data, headers.len);
    if (opt.body_file) {
        snprintf(head, sizeof head, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.len);
        buf_add_text(&opt.request, head);
    }
    buf_add_text(&opt.request, "\r\n");
    buf_add(&opt.request, body.data, body.len);
    buf_free(&body);
}

void read_options(int argc, char **argv)
{
    for (int o; (o = getopt(argc, argv, "h:p:u:b:H:c:n:t:r:e:T:s:")) != -1;) {
        switch (o) {
        case 'h': opt.host = optarg; break;
        case 'p': opt.port = number_option('p', optarg, 1, 65535); break;
        case 'u': opt.path = optarg; break;
        case 'b': opt.body_file = optarg; break;
        case 'H': buf_add_text(&headers, optarg); buf_add_text(&headers, "\r\n"); break;
        case 'c': opt.connections = number_option('c', optarg, 1, MAX_CONNECTIONS); break;
        case 'n': opt.requests = number_option('n', optarg, 1, MAX_REQUESTS); break;
        case 't': opt.seconds = number_option('t', optarg, 1, 3600); break;
        case 'r': opt.ramp_ms = number_option('r', optarg, 0, 600000); break;
        case 'e': opt.chunks = number_option('e', optarg, 0, 1000000); break;
        case 'T': opt.timeout_s = number_option('T', optarg, 1, 3600); break;
        case 's': opt.status = number_option('s', optarg, 100, 599); break;
        default: opt.port = -1; optind = argc + 1; break;
        }
    }
    errno = 0;
    if (opt.port < 0 || optind != argc)
        die("usage: load [-h 127.x.x.x] -p PORT [-u PATH] [-b BODYFILE] [-H 'k: v']... [-c CONNECTIONS]\n"
            "            [-n MAX_REQUESTS] [-t SECONDS] [-r RAMP_MS] [-e EXPECTED_CHUNKS] [-T TIMEOUT_S]\n"
            "            [-s STATUS]\n"
            "Without -b it sends GET. An answer is good when it is complete and has STATUS (200).");
    opt.server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    if (inet_pton(AF_INET, opt.host, &opt.server.sin_addr) != 1 ||
        ntohl(opt.server.sin_addr.s_addr) >> 24 != 127)
        die("the host must be 127.x.x.x: this tool loads no other machine");
    build_request();
}
