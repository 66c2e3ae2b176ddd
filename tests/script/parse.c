/* parse.c - from text to events. The grammar is packetdrill's, as far as script.h says. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script.h"
#include "tests/lib/wire.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

struct parser {
    const char *path, *p;
    unsigned line;
    bool failed;
    char *why;
    size_t size;
};

__attribute__((format(printf, 2, 3))) static void fail(struct parser *s, const char *fmt, ...)
{
    if (s->failed)
        return;
    s->failed = true;
    va_list ap;
    va_start(ap, fmt);
    int n = snprintf(s->why, s->size, "%s:%u: ", s->path, s->line);
    if (n > 0 && (size_t)n < s->size)
        n += vsnprintf(s->why + n, s->size - (size_t)n, fmt, ap);
    if (n > 0 && (size_t)n < s->size)
        snprintf(s->why + n, s->size - (size_t)n, ", at: %.*s", (int)strcspn(s->p, "\n"), s->p);
    va_end(ap);
}

/* ---- words */

static void skip(struct parser *s)
{
    for (;;) {
        if (*s->p == '\n') {
            s->line++;
            s->p++;
        } else if (*s->p == ' ' || *s->p == '\t' || *s->p == '\r') {
            s->p++;
        } else if (s->p[0] == '/' && s->p[1] == '/') {
            s->p += strcspn(s->p, "\n");
        } else if (s->p[0] == '/' && s->p[1] == '*') {
            const char *end = strstr(s->p + 2, "*/");
            if (!end) {
                fail(s, "a comment without end");
                s->p += strlen(s->p);
                return;
            }
            for (; s->p < end + 2; s->p++)
                s->line += *s->p == '\n';
        } else {
            return;
        }
    }
}

static bool got(struct parser *s, const char *word)
{
    skip(s);
    size_t n = strlen(word);
    if (strncmp(s->p, word, n) != 0)
        return false;
    s->p += n;
    return true;
}

static void must(struct parser *s, const char *word)
{
    if (!got(s, word))
        fail(s, "\"%s\" expected", word);
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* A name; false (and nothing taken) if there is none. */
static bool name(struct parser *s, char *buf, size_t size)
{
    skip(s);
    size_t n = 0;
    while (is_name_char(s->p[n]))
        n++;
    if (n == 0 || n >= size || (s->p[0] >= '0' && s->p[0] <= '9'))
        return false;
    memcpy(buf, s->p, n);
    buf[n] = 0;
    s->p += n;
    return true;
}

/* A name that may stand right here only: "S." is flags, and "mss" an option. */
static bool keyword(struct parser *s, const char *word)
{
    skip(s);
    size_t n = strlen(word);
    if (strncmp(s->p, word, n) != 0 || is_name_char(s->p[n]))
        return false;
    s->p += n;
    return true;
}

static int64_t number(struct parser *s)
{
    skip(s);
    char *end;
    errno = 0;
    long long v = strtoll(s->p, &end, 0);
    if (end == s->p || errno)
        fail(s, "a number expected");
    s->p = end;
    return v;
}

static uint32_t number32(struct parser *s)
{
    int64_t v = number(s);
    if (v < 0 || v > UINT32_MAX)
        fail(s, "the number is too large");
    return (uint32_t)v;
}

/* ---- constants */

struct constant {
    const char *name;
    int64_t value;
};
#define C(x)                                                                                       \
    {                                                                                              \
#x, x                                                                                      \
    }
static const struct constant constants[] = {
    C(AF_INET),       C(SOCK_STREAM),  C(IPPROTO_TCP),      C(IPPROTO_IP),   C(SOL_SOCKET),
    C(SOL_TCP),       C(SO_REUSEADDR), C(SO_ERROR),         C(SO_KEEPALIVE), C(SO_SNDBUF),
    C(SO_RCVBUF),     C(SO_LINGER),    C(TCP_NODELAY),      C(TCP_CORK),     C(TCP_KEEPIDLE),
    C(TCP_KEEPINTVL), C(TCP_KEEPCNT),  C(TCP_USER_TIMEOUT), C(F_GETFL),      C(F_SETFL),
    C(O_RDWR),        C(O_NONBLOCK),   C(SHUT_RD),          C(SHUT_WR),      C(SHUT_RDWR),
    C(POLLIN),        C(POLLOUT),      C(POLLERR),          C(POLLHUP),      C(POLLRDHUP),
    C(MSG_DONTWAIT),  C(MSG_NOSIGNAL), C(MSG_OOB),          C(POLLPRI),
};
static const struct constant errnos[] = {
    C(EPERM),        C(EBADF),      C(EAGAIN),      C(EWOULDBLOCK),  C(EFAULT),
    C(EINVAL),       C(EPIPE),      C(ENOTSUP),     C(EADDRINUSE),   C(EADDRNOTAVAIL),
    C(ENETUNREACH),  C(ECONNRESET), C(ENOBUFS),     C(EISCONN),      C(ENOTCONN),
    C(ETIMEDOUT),    C(EALREADY),   C(EINPROGRESS), C(EHOSTUNREACH), C(ECONNREFUSED),
    C(ECONNABORTED), C(ENOTSOCK),   C(EOPNOTSUPP),  C(EPROTO),
};
#undef C

int script_errno(const char *text)
{
    for (size_t i = 0; i < sizeof errnos / sizeof errnos[0]; i++)
        if (strcmp(errnos[i].name, text) == 0)
            return (int)errnos[i].value;
    return -1;
}

const char *script_errno_name(int error)
{
    for (size_t i = 0; i < sizeof errnos / sizeof errnos[0]; i++)
        if (errnos[i].value == error)
            return errnos[i].name;
    return error ? "?" : "";
}

/* A number, a constant, or several of them joined by |. */
static int64_t value(struct parser *s)
{
    int64_t v = 0;
    char word[32];
    do {
        skip(s);
        if (!name(s, word, sizeof word)) {
            v |= number(s);
            continue;
        }
        size_t i = 0;
        while (i < sizeof constants / sizeof constants[0] && strcmp(constants[i].name, word) != 0)
            i++;
        if (i == sizeof constants / sizeof constants[0])
            fail(s, "%s is not known", word);
        else
            v |= constants[i].value;
    } while (got(s, "|"));
    return v;
}

/* ---- times */

/* Digits, and a fraction; "0...1" is a 0 and three dots. */
static int64_t seconds(struct parser *s)
{
    int64_t ns = 0, digit_ns = 100000000;
    unsigned digits = 0;
    skip(s);
    for (; *s->p >= '0' && *s->p <= '9' && digits < 6; s->p++, digits++)
        ns = ns * 10 + (*s->p - '0');
    ns *= 1000000000;
    if (s->p[0] == '.' && s->p[1] >= '0' && s->p[1] <= '9') {
        for (s->p++; *s->p >= '0' && *s->p <= '9'; s->p++, digits++, digit_ns /= 10)
            ns += (*s->p - '0') * digit_ns;
    } else if (s->p[0] == '.' && s->p[1] != '.') {
        s->p++;
    }
    if (!digits)
        fail(s, "a time in seconds expected");
    return ns;
}

static void time_of(struct parser *s, struct script_time *t)
{
    *t = (struct script_time){0};
    if (got(s, "*")) {
        t->any = true;
        return;
    }
    t->relative = got(s, "+");
    t->from_ns = seconds(s);
    if (*s->p == '~') {
        s->p++;
        t->range = true;
        if (t->relative && *s->p == '+')
            s->p++;
        t->to_ns = seconds(s);
    }
}

/* ---- segments */

static void put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static uint8_t *option(struct parser *s, struct script_packet *k, uint8_t kind, uint8_t len)
{
    static uint8_t waste[40];
    if (k->options_len + len > sizeof k->options) {
        fail(s, "too many options");
        return waste;
    }
    uint8_t *p = k->options + k->options_len;
    k->options_len += len;
    p[0] = kind;
    if (len > 1)
        p[1] = len;
    return p;
}

static void sack_option(struct parser *s, struct script_packet *k)
{
    uint32_t edge[8];
    unsigned n = 0;
    do {
        edge[n++] = number32(s);
        must(s, ":");
        edge[n++] = number32(s);
        skip(s);
    } while (n < 8 && *s->p >= '0' && *s->p <= '9');
    uint8_t *p = option(s, k, 5, (uint8_t)(2 + 4 * n));
    for (unsigned i = 0; i < n; i++)
        put32(p + 2 + 4 * i, edge[i]);
}

static void options(struct parser *s, struct script_packet *k)
{
    if (got(s, "...")) {
        k->any_options = true;
        must(s, ">");
        return;
    }
    while (!s->failed && !got(s, ">")) {
        if (keyword(s, "mss")) {
            uint32_t v = number32(s);
            uint8_t *p = option(s, k, 2, 4);
            p[2] = (uint8_t)(v >> 8);
            p[3] = (uint8_t)v;
        } else if (keyword(s, "wscale")) {
            uint8_t v = (uint8_t)number32(s);
            option(s, k, 3, 3)[2] = v;
        } else if (keyword(s, "sackOK")) {
            option(s, k, 4, 2);
        } else if (keyword(s, "nop")) {
            option(s, k, 1, 1);
        } else if (keyword(s, "eol")) {
            option(s, k, 0, 1);
        } else if (keyword(s, "sack")) {
            sack_option(s, k);
        } else if (keyword(s, "TS")) {
            must(s, "val");
            uint32_t val = number32(s);
            must(s, "ecr");
            uint32_t ecr = number32(s);
            uint8_t *p = option(s, k, 8, 10);
            k->ts_at = (int)(p + 2 - k->options);
            put32(p + 2, val);
            put32(p + 6, ecr);
        } else {
            fail(s, "an option expected");
        }
        got(s, ",");
    }
}

static void flags(struct parser *s, struct script_packet *k)
{
    static const char letters[] = "FSRP.UEW";
    skip(s);
    if (got(s, "-"))
        return;
    for (; *s->p && *s->p != ' '; s->p++) {
        const char *f = strchr(letters, *s->p);
        if (!f) {
            fail(s, "flags expected");
            return;
        }
        k->flags |= (uint8_t)(1u << (f - letters));
    }
}

/* seq:end(len) */
static void sequence(struct parser *s, struct script_packet *k)
{
    k->seq = number32(s);
    must(s, ":");
    uint32_t end = number32(s);
    must(s, "(");
    k->len = number32(s);
    must(s, ")");
    if (k->seq + k->len != end)
        fail(s, "%u:%u(%u) does not add up", k->seq, end, k->len);
}

static void icmp(struct parser *s, struct script_packet *k)
{
    static const struct {
        const char *name;
        uint8_t code;
    } codes[] = {{"net_unreachable", 0},  {"host_unreachable", 1}, {"protocol_unreachable", 2},
                 {"port_unreachable", 3}, {"frag_needed", 4},      {"source_route_failed", 5},
                 {"net_prohibited", 9},   {"host_prohibited", 10}, {"admin_prohibited", 13}};
    k->icmp = true;
    if (keyword(s, "unreachable")) {
        char word[32];
        k->icmp_type = 3;
        if (!name(s, word, sizeof word))
            fail(s, "an ICMP code expected");
        size_t i = 0;
        while (i < sizeof codes / sizeof codes[0] && strcmp(codes[i].name, word) != 0)
            i++;
        if (i == sizeof codes / sizeof codes[0])
            fail(s, "%s is not known", word);
        else
            k->icmp_code = codes[i].code;
    } else if (keyword(s, "time_exceeded")) {
        k->icmp_type = 11;
    } else {
        fail(s, "an ICMP type expected");
    }
    if (keyword(s, "mtu"))
        k->mtu = (uint16_t)number32(s);
    must(s, "[");
    sequence(s, k);
    must(s, "]");
}

static void packet(struct parser *s, struct script_packet *k)
{
    *k = (struct script_packet){.ts_at = -1};
    if (keyword(s, "icmp")) {
        icmp(s, k);
        return;
    }
    flags(s, k);
    sequence(s, k);
    if (keyword(s, "ack")) {
        k->has_ack = true;
        k->ack = number32(s);
    }
    if (keyword(s, "win")) {
        k->has_win = true;
        k->win = (uint16_t)number32(s);
    }
    if (keyword(s, "urg"))
        k->urg = (uint16_t)number32(s);
    if (got(s, "<"))
        options(s, k);
    if (k->has_ack != ((k->flags & WIRE_ACK) != 0))
        fail(s, "ack and the flag \".\" go together");
}

/* ---- calls */

static void argument(struct parser *s, struct script_value *v);

/* a, b] or name=a, name=b}; structures within a list are taken as its elements. */
static void list(struct parser *s, struct script_value *v, const char *close)
{
    v->kind = VALUE_LIST;
    while (!s->failed && !got(s, close)) {
        if (got(s, "{")) {
            list(s, v, "}");
        } else if (v->n == 2 * SCRIPT_FIELDS) {
            fail(s, "the list is too long");
        } else {
            const char *before = s->p;
            char *field = v->field[v->n].name;
            if (!name(s, field, sizeof v->field[0].name) || !got(s, "=")) {
                s->p = before;
                field[0] = 0;
            }
            v->field[v->n++].number = value(s);
        }
        got(s, ",");
    }
}

static void argument(struct parser *s, struct script_value *v)
{
    *v = (struct script_value){0};
    if (got(s, "...")) {
        v->kind = VALUE_ANY;
    } else if (got(s, "[")) {
        list(s, v, "]");
    } else if (got(s, "{")) {
        list(s, v, "}");
    } else {
        v->number = value(s);
    }
}

static void call(struct parser *s, struct script_call *c)
{
    *c = (struct script_call){0};
    if (!name(s, c->name, sizeof c->name))
        fail(s, "a call, \"<\", \">\" or \"%%{\" expected");
    must(s, "(");
    while (!s->failed && !got(s, ")")) {
        if (c->nargs == SCRIPT_ARGS)
            fail(s, "too many arguments");
        else
            argument(s, &c->arg[c->nargs++]);
        got(s, ",");
    }
    if (!got(s, "="))
        return;
    char word[24];
    c->has_result = true;
    c->result = number(s);
    if (c->result == -1 && name(s, word, sizeof word)) {
        c->error = script_errno(word);
        if (c->error < 0)
            fail(s, "%s is not known", word);
        if (got(s, "("))
            s->p += strcspn(s->p, ")\n");
        got(s, ")");
    }
}

/* ---- the whole */

static void event(struct parser *s, struct script_event *e)
{
    e->line = s->line;
    time_of(s, &e->at);
    if (got(s, "...")) {
        e->blocking = true;
        time_of(s, &e->until);
    }
    if (got(s, "%{")) {
        const char *end = strstr(s->p, "}%");
        e->kind = EVENT_CODE;
        if (!end) {
            fail(s, "%%{ without }%%");
            return;
        }
        e->code = strndup(s->p, (size_t)(end - s->p));
        for (; s->p < end + 2; s->p++)
            s->line += *s->p == '\n';
    } else if (got(s, "<")) {
        e->kind = EVENT_IN;
        packet(s, &e->packet);
    } else if (got(s, ">")) {
        e->kind = EVENT_OUT;
        packet(s, &e->packet);
    } else {
        e->kind = EVENT_CALL;
        call(s, &e->call);
    }
}

/* --mtu=1400 */
static void setting(struct parser *s, struct script *out)
{
    char word[32];
    if (!name(s, word, sizeof word) || !got(s, "=")) {
        fail(s, "--name=value expected");
        return;
    }
    uint32_t v = number32(s);
    struct zest_config *c = &out->cfg;
    if (strcmp(word, "tolerance_usecs") == 0)
        out->tolerance_ns = v * 1000ull;
    else if (strcmp(word, "mtu") == 0)
        c->mtu = (uint16_t)v;
    else if (strcmp(word, "snd_buf") == 0)
        c->snd_buf = v;
    else if (strcmp(word, "rcv_buf") == 0)
        c->rcv_buf = v;
    else if (strcmp(word, "gather") == 0)
        c->gather = v ? ZEST_GATHER_ALWAYS : ZEST_GATHER_NEVER;
    else if (strcmp(word, "write_copy") == 0)
        out->write_copy = v;
    else
        fail(s, "--%s is not known", word);
}

struct script *script_parse(const char *path, const char *text, char *why, size_t size)
{
    struct parser s = {.path = path, .p = text, .line = 1, .why = why, .size = size};
    struct script *out = calloc(1, sizeof *out);
    if (!out)
        return NULL;
    out->path = path;
    out->tolerance_ns = 4000000; /* packetdrill's */
    struct script_event **last = &out->first;
    for (skip(&s); *s.p && !s.failed; skip(&s)) {
        if (got(&s, "--")) {
            setting(&s, out);
            continue;
        }
        struct script_event *e = calloc(1, sizeof *e);
        if (!e)
            break;
        *last = e;
        last = &e->next;
        event(&s, e);
    }
    if (!s.failed)
        return out;
    script_free(out);
    return NULL;
}

void script_free(struct script *s)
{
    for (struct script_event *e = s->first, *next; e; e = next) {
        next = e->next;
        free(e->code);
        free(e);
    }
    free(s);
}
