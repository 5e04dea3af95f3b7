
/*
 * The load of t/bench/run: requests for related runs, as many as possible or
 * at a rate.  Each asks for a random trace with a random key of its project,
 * over connections that are kept alive.  Prints one line of figures.
 *
 * With a rate, requests are scheduled as a Poisson process, and the time of a
 * request starts when it is due, as with pgbench -R.  A response is right if
 * its status is 200, its body begins and ends as an array, and has the length
 * of the last response for that trace.  With -n requests are conditional, and
 * a 304 is right, too.
 */


#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>


#define LOAD_HEAD    4096
#define LOAD_BUFFER  (256 * 1024)
#define LOAD_EVENTS  64
#define LOAD_ID      64

/* nanoseconds to wait at most for the first responses, and for the last */
#define LOAD_WAIT    5000000000ULL

/* an id is a prefix and this number plus the place, in decimal digits */
#define LOAD_FIRST   10000000000000ULL


typedef enum {
    LOAD_IDLE = 0,
    LOAD_HEADER,
    LOAD_BODY,
    LOAD_CHUNK_SIZE,
    LOAD_CHUNK,
    LOAD_CHUNK_END,
    LOAD_TRAILER
} load_state_e;


typedef struct {
    int           fd;
    load_state_e  state;
    int           fresh;        /* no response on this connection yet */
    int           had;          /* a response, on any connection */
    int           last;         /* nginx closes it after this response */
    int           chunked;
    int           status;
    uint64_t      left;         /* of a chunk, or of the body */
    uint64_t      body;         /* bytes received */
    char          begin;
    char          end;
    size_t        nhead;
    char          head[LOAD_HEAD];
    uint32_t      trace;
    uint64_t      started;
    uint64_t      first;
} load_conn_t;


typedef struct {
    uint32_t     *p;
    size_t        n;
    size_t        size;
} load_times_t;


static int           load_epoll;
static int           load_timer;
static int           load_port;
static int           load_nconns = 1;
static load_conn_t  *load_conns;

static const char   *load_prefix = "";
static int           load_conditional;
static uint64_t      load_base;
static uint32_t      load_traces = 1;
static uint32_t      load_projects = 1;
static uint32_t      load_keys = 1;

static uint64_t      load_from;         /* responses count since then */
static uint64_t      load_until;
static uint64_t      load_length;
static int           load_counting;
static int           load_waiting;      /* clients without a response */
static double        load_rate;
static uint64_t      load_next;         /* request, at a rate */
static uint64_t      load_max;          /* requests */

static uint64_t      load_requests;
static uint64_t      load_responses;
static uint64_t      load_served;       /* in all, for CPU a request */
static uint64_t      load_ok;
static uint64_t      load_refused;
static uint64_t      load_wrong;
static uint64_t      load_bytes;
static uint32_t     *load_lengths;
static load_times_t  load_whole;
static load_times_t  load_begun;


static void
load_die(const char *what)
{
    perror(what);
    exit(1);
}


static uint64_t
load_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}


/* xorshift64* by S. Vigna */

static uint64_t
load_random(void)
{
    static uint64_t  x;

    if (x == 0) {
        x = load_now() | 1;
    }

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;

    return (x * 2685821657736338717ULL) >> 11;
}


static void
load_uuid(char *p, char kind, uint64_t n)
{
    n += LOAD_FIRST;

    snprintf(p, LOAD_ID, "%c0000000-0000-4000-80%02u-%012llu", kind,
             (unsigned) (n / 1000000000000ULL % 100),
             (unsigned long long) (n % 1000000000000ULL));
}


static void
load_time(load_times_t *times, uint64_t ns)
{
    if (times->n == times->size) {
        times->size = times->size ? 2 * times->size : 65536;
        times->p = realloc(times->p, times->size * sizeof(uint32_t));

        if (times->p == NULL) {
            load_die("realloc");
        }
    }

    times->p[times->n++] = ns / 1000;
}


static int
load_compare(const void *one, const void *two)
{
    uint32_t  a, b;

    a = *(const uint32_t *) one;
    b = *(const uint32_t *) two;

    return (a > b) - (a < b);
}


/* in milliseconds; the times have to be sorted */

static double
load_percentile(load_times_t *times, double part)
{
    if (times->n == 0) {
        return NAN;
    }

    return times->p[(size_t) (part * (times->n - 1) + 0.5)] / 1e3;
}


static void
load_connect(load_conn_t *c)
{
    int                 one;
    struct epoll_event  ee;
    struct sockaddr_in  sin;

    one = 1;

    memset(&sin, 0, sizeof(sin));
    sin.sin_family = AF_INET;
    sin.sin_port = htons(load_port);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    c->fd = socket(AF_INET, SOCK_STREAM, 0);

    /* connect() to a local listener does not block */

    if (c->fd == -1
        || connect(c->fd, (struct sockaddr *) &sin, sizeof(sin)) == -1
        || setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(int))
           == -1)
    {
        load_die("connect");
    }

    ee.events = EPOLLIN;
    ee.data.ptr = c;

    if (epoll_ctl(load_epoll, EPOLL_CTL_ADD, c->fd, &ee) == -1) {
        load_die("epoll_ctl");
    }

    c->fresh = 1;
    c->last = 0;
}


static void
load_send(load_conn_t *c)
{
    int   n;
    char  run[LOAD_ID], key[LOAD_ID], request[512];

    load_uuid(run, 'b', load_base + c->trace);
    load_uuid(key, 'c', load_random() % load_keys * load_projects
                        + c->trace % load_projects);

    n = snprintf(request, sizeof(request),
                 "GET %s/v1/runs/%s/related HTTP/1.1\r\n"
                 "Host: bench\r\n%s"
                 "Authorization: Bearer %s\r\n\r\n",
                 load_prefix, run,
                 load_conditional ? "If-None-Match: *\r\n" : "", key);

    c->state = LOAD_HEADER;
    c->nhead = 0;
    c->body = 0;
    c->first = 0;
    c->status = 0;

    if (send(c->fd, request, n, MSG_NOSIGNAL) != n && errno != EPIPE
        && errno != ECONNRESET)
    {
        load_die("send");
    }
}


static void
load_ask(load_conn_t *c, uint64_t started)
{
    load_requests++;

    c->trace = load_random() % load_traces;
    c->started = started;

    load_send(c);
}


static void
load_schedule(void)
{
    double  u;

    u = (double) (load_random() + 1) / 9007199254740993.0;
    load_next += -log(u) / load_rate * 1e9;
}


/* sends what is due, on this connection or, at a rate, on idle ones */

static void
load_more(load_conn_t *c)
{
    int       i;
    uint64_t  now;

    now = load_now();

    if ((load_counting && now >= load_until)
        || (load_max && load_requests == load_max))
    {
        return;
    }

    if (load_rate == 0) {
        load_ask(c, now);
        return;
    }

    for (i = 0; load_next <= now && i < load_nconns; i++) {

        if (load_conns[i].state == LOAD_IDLE) {
            load_ask(&load_conns[i], load_next);
            load_schedule();
        }
    }
}


static void
load_wake(void)
{
    struct itimerspec  its;

    memset(&its, 0, sizeof(its));
    its.it_value.tv_sec = load_next / 1000000000;
    its.it_value.tv_nsec = load_next % 1000000000;

    if (timerfd_settime(load_timer, TFD_TIMER_ABSTIME, &its, NULL) == -1) {
        load_die("timerfd_settime");
    }
}


static void
load_bad(load_conn_t *c, const char *what)
{
    if (load_wrong++ == 0) {
        fprintf(stderr, "%s: status %d, %llu bytes, of trace %u\n", what,
                c->status, (unsigned long long) c->body, c->trace);
    }
}


static int
load_right(load_conn_t *c)
{
    if (c->status == 304) {
        return load_conditional && c->body == 0;
    }

    return c->status == 200 && c->begin == '[' && c->end == ']'
           && (load_lengths[c->trace] == 0
               || load_lengths[c->trace] == c->body);
}


/* starts to count after the warm-up, once every client had a response */

static void
load_count(uint64_t now)
{
    if (load_counting || now < load_from
        || (load_waiting && now < load_from + LOAD_WAIT && load_rate == 0
            && load_max == 0))
    {
        return;
    }

    load_counting = 1;
    load_from = now;
    load_until = now + load_length;
}


static void
load_done(load_conn_t *c)
{
    uint64_t  now;

    now = load_now();

    load_responses++;
    load_served += c->status == 200 || c->status == 304;
    load_waiting -= !c->had;
    c->had = 1;

    load_count(now);

    if (load_counting && now < load_until) {

        if (c->status == 503) {
            load_refused++;

        } else if (!load_right(c)) {
            load_bad(c, "wrong");

        } else {
            if (c->body) {
                load_lengths[c->trace] = c->body;
            }

            load_ok++;
            load_bytes += c->body;
            load_time(&load_whole, now - c->started);

            if (c->first) {
                load_time(&load_begun, c->first - c->started);
            }
        }
    }

    c->state = LOAD_IDLE;
    c->fresh = 0;

    if (c->last) {
        close(c->fd);
        load_connect(c);
    }

    load_more(c);
}


static void
load_header(load_conn_t *c)
{
    char  *p;

    c->status = atoi(c->head + sizeof("HTTP/1.1 ") - 1);
    c->chunked = strcasestr(c->head, "\r\nTransfer-Encoding: chunked") != NULL;
    c->last = strcasestr(c->head, "\r\nConnection: close") != NULL;

    p = strcasestr(c->head, "\r\nContent-Length:");
    c->left = p ? strtoull(p + sizeof("\r\nContent-Length:") - 1, NULL, 10)
                : 0;
    c->state = c->chunked ? LOAD_CHUNK_SIZE : LOAD_BODY;
}


/* a part of the body */

static size_t
load_body(load_conn_t *c, char *p, size_t n)
{
    if (n > c->left) {
        n = c->left;
    }

    if (n) {
        if (c->body == 0) {
            c->begin = *p;
            c->first = load_now();
        }

        c->end = p[n - 1];
        c->body += n;
        c->left -= n;
    }

    return n;
}


/* a line of the header, or of the chunked encoding */

static size_t
load_line(load_conn_t *c, char *p, size_t n)
{
    char    *end;
    size_t   len;

    end = memchr(p, '\n', n);
    len = end ? (size_t) (end - p) + 1 : n;

    if (c->nhead + len >= LOAD_HEAD) {
        fprintf(stderr, "too long a header\n");
        exit(1);
    }

    memcpy(c->head + c->nhead, p, len);
    c->nhead += len;
    c->head[c->nhead] = '\0';

    return len;
}


static void
load_feed(load_conn_t *c, char *p, size_t n)
{
    int     line;
    size_t  len;

    while (n && c->state != LOAD_IDLE) {

        if (c->state == LOAD_BODY || c->state == LOAD_CHUNK) {
            len = load_body(c, p, n);
            line = 0;

        } else {
            len = load_line(c, p, n);
            line = p[len - 1] == '\n';
        }

        p += len;
        n -= len;

        switch (c->state) {

        case LOAD_HEADER:
            if (line && c->nhead >= 4
                && memcmp(c->head + c->nhead - 4, "\r\n\r\n", 4) == 0)
            {
                load_header(c);
                c->nhead = 0;

                if (!c->chunked && c->left == 0) {
                    load_done(c);
                }
            }

            break;

        case LOAD_BODY:
            if (c->left == 0) {
                load_done(c);
            }

            break;

        case LOAD_CHUNK_SIZE:
            if (line) {
                c->left = strtoull(c->head, NULL, 16);
                c->state = c->left ? LOAD_CHUNK : LOAD_TRAILER;
                c->nhead = 0;
            }

            break;

        case LOAD_CHUNK:
            if (c->left == 0) {
                c->state = LOAD_CHUNK_END;
            }

            break;

        case LOAD_CHUNK_END:
            if (line) {
                c->state = LOAD_CHUNK_SIZE;
                c->nhead = 0;
            }

            break;

        case LOAD_TRAILER:
            if (line) {
                load_done(c);
            }

            break;

        default:
            break;
        }
    }
}


/* nginx may close an idle connection just as a request is sent on it */

static void
load_lost(load_conn_t *c)
{
    load_state_e  state;

    state = c->state;
    close(c->fd);

    if (state != LOAD_IDLE
        && (c->fresh || state != LOAD_HEADER || c->nhead != 0))
    {
        load_bad(c, "lost");
        load_responses++;
        state = LOAD_IDLE;
        c->state = LOAD_IDLE;
        load_connect(c);
        load_more(c);
        return;
    }

    load_connect(c);

    if (state == LOAD_HEADER) {
        load_send(c);
    }
}


static void
load_read(load_conn_t *c)
{
    ssize_t      n;
    static char  buf[LOAD_BUFFER];

    n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);

    if (n > 0) {
        load_feed(c, buf, n);

    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        load_lost(c);
    }
}


static void
load_run(void)
{
    int                 i, n;
    uint64_t            now, expired;
    struct epoll_event  ee, events[LOAD_EVENTS];

    load_conns = calloc(load_nconns, sizeof(load_conn_t));
    load_lengths = calloc(load_traces, sizeof(uint32_t));
    load_epoll = epoll_create1(0);
    load_timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);

    if (load_conns == NULL || load_lengths == NULL || load_epoll == -1
        || load_timer == -1)
    {
        load_die("start");
    }

    ee.events = EPOLLIN;
    ee.data.ptr = NULL;

    if (epoll_ctl(load_epoll, EPOLL_CTL_ADD, load_timer, &ee) == -1) {
        load_die("epoll_ctl");
    }

    for (i = 0; i < load_nconns; i++) {
        load_connect(&load_conns[i]);
    }

    load_next = load_now();
    load_waiting = load_nconns;

    for (i = 0; i < load_nconns; i++) {
        load_more(&load_conns[i]);
    }

    for ( ;; ) {
        now = load_now();
        load_count(now);

        /* wait for all responses: their requests used CPU, too */

        if ((load_counting && now >= load_until)
            || (load_max && load_requests == load_max))
        {
            if (load_responses == load_requests
                || now >= load_until + LOAD_WAIT)
            {
                break;
            }

        } else if (load_rate != 0) {
            load_wake();
        }

        n = epoll_wait(load_epoll, events, LOAD_EVENTS, 100);

        for (i = 0; i < n; i++) {

            if (events[i].data.ptr != NULL) {
                load_read(events[i].data.ptr);

            } else if (read(load_timer, &expired, sizeof(expired)) > 0) {
                load_more(NULL);
            }
        }
    }
}


static void
load_report(void)
{
    double    seconds;
    uint64_t  now;

    now = load_now();
    seconds = ((now < load_until ? now : load_until) - load_from) / 1e9;

    qsort(load_whole.p, load_whole.n, sizeof(uint32_t), load_compare);
    qsort(load_begun.p, load_begun.n, sizeof(uint32_t), load_compare);

    printf("rps=%.2f p50=%.3f p99=%.3f first=%.3f ok=%llu refused=%llu"
           " wrong=%llu all=%llu bytes=%.0f\n",
           load_ok / seconds, load_percentile(&load_whole, 0.5),
           load_percentile(&load_whole, 0.99),
           load_percentile(&load_begun, 0.5),
           (unsigned long long) load_ok, (unsigned long long) load_refused,
           (unsigned long long) load_wrong,
           (unsigned long long) load_served,
           load_ok ? (double) load_bytes / load_ok : 0);
}


int
main(int argc, char **argv)
{
    int     opt;
    double  seconds, warm;

    seconds = 1;
    warm = 0;

    while ((opt = getopt(argc, argv, "p:c:d:w:r:m:u:b:t:P:K:n")) != -1) {

        switch (opt) {
        case 'p': load_port = atoi(optarg); break;
        case 'c': load_nconns = atoi(optarg); break;
        case 'd': seconds = atof(optarg); break;
        case 'w': warm = atof(optarg); break;
        case 'r': load_rate = atof(optarg); break;
        case 'm': load_max = strtoull(optarg, NULL, 10); break;
        case 'u': load_prefix = optarg; break;
        case 'b': load_base = strtoull(optarg, NULL, 10); break;
        case 't': load_traces = atoi(optarg); break;
        case 'P': load_projects = atoi(optarg); break;
        case 'K': load_keys = atoi(optarg); break;
        case 'n': load_conditional = 1; break;
        default: return 2;
        }
    }

    load_length = seconds * 1e9;
    load_from = load_now() + warm * 1e9;
    load_count(load_now());

    load_run();
    load_report();

    return 0;
}
