/* expr.c - the assertions: a little of Python's expressions, over tcp_info's fields.
 *
 * Names are those of struct tcp_info (tcpi_snd_cwnd in segments, times in microseconds), the
 * stack's own for what has no Linux name (cwnd, ssthresh in bytes), its counters (stat_tcp_rtos),
 * and the states' (TCP_ESTABLISHED). */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script.h"

struct expr {
    struct run *r;
    const char *p;
    bool failed;
};

static int64_t either(struct expr *e);

static void complain(struct expr *e, const char *what)
{
    if (!e->failed)
        snprintf(e->r->why, sizeof e->r->why, "%s: %.60s", what, e->p);
    e->failed = true;
}

static void blanks(struct expr *e)
{
    while (isspace((unsigned char)*e->p))
        e->p++;
}

static bool take(struct expr *e, const char *word)
{
    blanks(e);
    size_t n = strlen(word);
    if (strncmp(e->p, word, n) != 0)
        return false;
    if (isalpha((unsigned char)word[0]) && (isalnum((unsigned char)e->p[n]) || e->p[n] == '_'))
        return false;
    e->p += n;
    return true;
}

/* Linux's numbers for the states, which zest's enum does not have. */
static const struct {
    const char *name;
    int64_t linux_number;
    enum zest_tcp_state state;
} states[] = {{"TCP_ESTABLISHED", 1, ZEST_ESTABLISHED},
              {"TCP_SYN_SENT", 2, ZEST_SYN_SENT},
              {"TCP_SYN_RECV", 3, ZEST_SYN_RECEIVED},
              {"TCP_FIN_WAIT1", 4, ZEST_FIN_WAIT_1},
              {"TCP_FIN_WAIT2", 5, ZEST_FIN_WAIT_2},
              {"TCP_TIME_WAIT", 6, ZEST_TIME_WAIT},
              {"TCP_CLOSE", 7, ZEST_CLOSED},
              {"TCP_CLOSE_WAIT", 8, ZEST_CLOSE_WAIT},
              {"TCP_LAST_ACK", 9, ZEST_LAST_ACK},
              {"TCP_LISTEN", 10, ZEST_LISTEN},
              {"TCP_CLOSING", 11, ZEST_CLOSING}};
#define STATES (sizeof states / sizeof states[0])

static bool of_stats(struct expr *e, const char *name, int64_t *v)
{
    struct zest_stats st;
    zest_stats(e->r->z, &st);
#define COUNTER(field, what)                                                                       \
    if (strcmp(name, #field) == 0) {                                                               \
        *v = (int64_t)st.field;                                                                    \
        return true;                                                                               \
    }
    ZEST_COUNTERS(COUNTER)
#undef COUNTER
    *v = strcmp(name, "conns") == 0 ? st.conns : st.time_wait;
    return strcmp(name, "conns") == 0 || strcmp(name, "time_wait") == 0;
}

static bool of_conn(struct expr *e, const char *name, int64_t *v)
{
    struct run *r = e->r;
    struct zest_conn_info i = {0};
    if (r->current >= 0)
        (void)zest_conn_info(r->z, r->fd[r->current].handle, &i); /* a closed one is all zero */
    const struct {
        const char *name;
        int64_t value;
    } fields[] = {
        {"tcpi_snd_mss", i.mss},
        {"tcpi_snd_cwnd", i.mss ? i.cwnd / i.mss : 0},
        {"tcpi_snd_ssthresh", i.mss ? i.ssthresh / i.mss : 0},
        {"tcpi_rto", (int64_t)i.rto_ns / 1000},
        {"tcpi_rtt", (int64_t)i.srtt_ns / 1000},
        {"tcpi_rttvar", (int64_t)i.rttvar_ns / 1000},
        {"tcpi_total_retrans", (int64_t)i.segs_retransmitted},
        {"tcpi_bytes_acked", (int64_t)i.bytes_acked},
        {"tcpi_bytes_received", (int64_t)i.bytes_received},
        {"tcpi_notsent_bytes", i.snd_unsent},
        {"tcpi_segs_out", (int64_t)i.segs_sent},
        {"tcpi_segs_in", (int64_t)i.segs_received},
        {"cwnd", i.cwnd},
        {"ssthresh", i.ssthresh},
        {"snd_wnd", i.snd_wnd},
        {"bytes_read", (int64_t)i.bytes_read},
        {"urgent_end", (int64_t)i.urgent_end},
        {"rcv_wnd", i.rcv_wnd},
        {"snd_queued", i.snd_queued},
        {"rcv_queued", i.rcv_queued},
        {"rtos", (int64_t)i.rtos},
        {"fast_retransmits", (int64_t)i.fast_retransmits},
    };
    if (strcmp(name, "tcpi_state") == 0) {
        for (size_t k = 0; k < STATES; k++)
            if (states[k].state == i.state)
                *v = states[k].linux_number;
        return true;
    }
    for (size_t k = 0; k < sizeof fields / sizeof fields[0]; k++) {
        if (strcmp(fields[k].name, name) == 0) {
            *v = fields[k].value;
            return true;
        }
    }
    return false;
}

static int64_t atom(struct expr *e)
{
    int64_t v = 0;
    char name[64];
    size_t n = 0;

    if (take(e, "(")) {
        v = either(e);
        if (!take(e, ")"))
            complain(e, "\")\" expected");
        return v;
    }
    if (take(e, "-"))
        return -atom(e);
    blanks(e);
    if (isdigit((unsigned char)*e->p)) {
        char *end;
        v = strtoll(e->p, &end, 0);
        e->p = end;
        return v;
    }
    while (n < sizeof name - 1 && (isalnum((unsigned char)e->p[n]) || e->p[n] == '_'))
        n++;
    memcpy(name, e->p, n);
    name[n] = 0;
    for (size_t k = 0; k < STATES; k++) {
        if (strcmp(states[k].name, name) == 0) {
            e->p += n;
            return states[k].linux_number;
        }
    }
    bool known = strncmp(name, "stat_", 5) == 0 ? of_stats(e, name + 5, &v) : of_conn(e, name, &v);
    if (strcmp(name, "True") == 0 || strcmp(name, "False") == 0) {
        known = true;
        v = name[0] == 'T';
    }
    if (!known)
        complain(e, "a name that is not known");
    e->p += n;
    return v;
}

static int64_t product(struct expr *e)
{
    int64_t v = atom(e);
    for (;;) {
        if (take(e, "*")) {
            v *= atom(e);
        } else if (take(e, "//") || take(e, "/")) {
            int64_t by = atom(e);
            v = by ? v / by : 0;
        } else {
            return v;
        }
    }
}

static int64_t sum(struct expr *e)
{
    int64_t v = product(e);
    for (;;) {
        if (take(e, "+"))
            v += product(e);
        else if (take(e, "-"))
            v -= product(e);
        else
            return v;
    }
}

/* As in Python, a < b < c. */
static int64_t comparison(struct expr *e)
{
    int64_t left = sum(e), truth = 1;
    bool compared = false;
    for (;;) {
        int op = take(e, "==") ? 1 : take(e, "!=") ? 2 : take(e, "<=") ? 3 : take(e, ">=") ? 4 : 0;
        if (!op)
            op = take(e, "<") ? 5 : take(e, ">") ? 6 : 0;
        if (!op)
            return compared ? truth : left;
        int64_t right = sum(e);
        compared = true;
        truth &= op == 1   ? left == right
                 : op == 2 ? left != right
                 : op == 3 ? left <= right
                 : op == 4 ? left >= right
                 : op == 5 ? left < right
                           : left > right;
        left = right;
    }
}

static int64_t negation(struct expr *e)
{
    return take(e, "not") ? !negation(e) : comparison(e);
}

static int64_t both(struct expr *e)
{
    int64_t v = negation(e);
    while (take(e, "and")) {
        int64_t w = negation(e);
        v = v && w;
    }
    return v;
}

static int64_t either(struct expr *e)
{
    int64_t v = both(e);
    while (take(e, "or")) {
        int64_t w = both(e);
        v = v || w;
    }
    return v;
}

bool code_run(struct run *r, const char *code)
{
    struct expr e = {r, code, false};
    for (blanks(&e); *e.p && !e.failed; blanks(&e)) {
        if (take(&e, ";"))
            continue;
        if (!take(&e, "assert")) {
            complain(&e, "only \"assert\" is known here");
            break;
        }
        const char *from = e.p;
        int64_t v = either(&e);
        const char *to = e.p;
        const char *comma = take(&e, ",") ? e.p : NULL;
        int64_t shown = comma && !e.failed ? either(&e) : 0;
        if (!e.failed && !v) {
            int n = snprintf(r->why, sizeof r->why, "does not hold:%.*s", (int)(to - from), from);
            if (comma && n > 0 && (size_t)n < sizeof r->why)
                snprintf(r->why + n, sizeof r->why - (size_t)n, ", but %lld", (long long)shown);
            return false;
        }
    }
    return !e.failed;
}
