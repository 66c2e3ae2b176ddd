/* perf_stream.c - see perf_stream.h, and perf_proto.h for what goes over the wire. */
#include "perf_stream.h"

#include <errno.h>
#include <string.h>

/* ---- start */

static void queue_hello(struct perf_stream *s)
{
    perf_plan_encode(s->out, &s->plan);
    s->out_len = PERF_RECORD;
    s->out_done = 0;
}

void perf_stream_init_client(struct perf_stream *s, const struct perf_wire *wire,
                             const struct perf_plan *plan, struct hist *hist)
{
    memset(s, 0, sizeof *s);
    s->wire = wire;
    s->plan = *plan;
    s->hist = hist;
    queue_hello(s);
}

void perf_stream_init_server(struct perf_stream *s, const struct perf_wire *wire)
{
    memset(s, 0, sizeof *s);
    s->wire = wire;
    s->server = true;
}

/* Does this side send a stream of payload (as opposed to answering, or nothing)? */
static bool is_sender(const struct perf_stream *s)
{
    switch (s->plan.mode) {
    case PERF_SEND:
        return !s->server;
    case PERF_RECEIVE:
        return s->server;
    case PERF_BIDIR:
        return true;
    case PERF_RR:
        return false;
    }
    return false;
}

/* The plan is known to this side: set out what it is to send. */
static void begin_data(struct perf_stream *s, uint64_t now_ns)
{
    s->state = PERF_DATA;
    s->start_ns = now_ns;
    s->rx_last_ns = now_ns;
    s->wire->counters(s, &s->before);
    if (is_sender(s)) {
        s->tx_grant = s->plan.amount ? s->plan.amount : UINT64_MAX;
    } else if (s->plan.mode == PERF_RR) {
        s->tx_grant = s->server ? 0 : s->plan.length;
        s->rr_start_ns = now_ns;
    } else {
        s->tx_ended = true;
    }
}

int perf_stream_start(struct perf_stream *s, uint64_t now_ns)
{
    begin_data(s, now_ns);
    return perf_stream_push(s, now_ns);
}

void perf_stream_stop(struct perf_stream *s)
{
    s->tx_grant = 0;
    s->tx_ended = true;
}

/* ---- receiving */

/* A whole request or response is there. */
static void turn(struct perf_stream *s, uint64_t now_ns)
{
    s->rr_got = 0;
    s->rr_count++;
    if (!s->server) {
        if (s->hist)
            hist_add(s->hist, now_ns - s->rr_start_ns);
        s->rr_start_ns = now_ns;
        if (s->tx_ended)
            return;
        if (s->plan.amount && s->rr_count >= s->plan.amount) {
            s->tx_ended = true;
            return;
        }
    }
    s->tx_grant = s->plan.length;
}

static int take_payload(struct perf_stream *s, uint64_t now_ns, const uint8_t *bytes, size_t len)
{
    if (len == 0)
        return 0;
    if (s->plan.verify)
        s->bad_bytes += perf_pattern_check(bytes, len, s->rx_bytes);
    s->rx_bytes += len;
    s->rx_last_ns = now_ns;
    if (s->plan.mode != PERF_RR)
        return 0;
    /* One transaction at a time: more than a whole one is not what was agreed. */
    s->rr_got += (uint32_t)len;
    if (s->rr_got > s->plan.length)
        return -EPROTO;
    if (s->rr_got == s->plan.length)
        turn(s, now_ns);
    return 0;
}

/* Server: the first record is the hello. Returns bytes used, or -EPROTO. */
static ssize_t take_hello(struct perf_stream *s, uint64_t now_ns, const uint8_t *bytes, size_t len)
{
    size_t n = PERF_RECORD - s->in_len;
    n = n < len ? n : len;
    memcpy(s->in + s->in_len, bytes, n);
    s->in_len += (uint32_t)n;
    if (s->in_len < PERF_RECORD)
        return (ssize_t)n;
    if (!perf_plan_decode(&s->plan, s->in))
        return -EPROTO;
    begin_data(s, now_ns);
    return (ssize_t)n;
}

/* Client: the last record is the result, and which bytes are the last is known at the end only. So
 * the latest 64 bytes are always held back, and payload is what came before them. */
static int take_through_tail(struct perf_stream *s, uint64_t now_ns, const uint8_t *bytes,
                             size_t len)
{
    size_t total = s->in_len + len;
    size_t payload = total > PERF_RECORD ? total - PERF_RECORD : 0;
    size_t from_tail = payload < s->in_len ? payload : s->in_len;
    size_t from_new = payload - from_tail;
    int rc = take_payload(s, now_ns, s->in, from_tail);
    if (rc == 0)
        rc = take_payload(s, now_ns, bytes, from_new);
    memmove(s->in, s->in + from_tail, s->in_len - from_tail);
    s->in_len -= (uint32_t)from_tail;
    memcpy(s->in + s->in_len, bytes + from_new, len - from_new);
    s->in_len += (uint32_t)(len - from_new);
    return rc;
}

int perf_stream_input(struct perf_stream *s, uint64_t now_ns, const uint8_t *bytes, size_t len)
{
    if (s->state == PERF_DONE)
        return 0;
    if (!s->server) {
        /* Responses are of known length, and the next one waits for our request. */
        bool counted = s->plan.mode == PERF_RR && s->rr_got + len <= s->plan.length &&
                       s->tx_grant == 0 && !s->fin_sent;
        return counted ? take_payload(s, now_ns, bytes, len)
                       : take_through_tail(s, now_ns, bytes, len);
    }
    if (s->state == PERF_HELLO) {
        ssize_t used = take_hello(s, now_ns, bytes, len);
        if (used < 0)
            return (int)used;
        bytes += used;
        len -= (size_t)used;
    }
    return take_payload(s, now_ns, bytes, len);
}

int perf_stream_eof(struct perf_stream *s, uint64_t now_ns)
{
    s->rx_eof = true;
    if (s->server)
        return s->state == PERF_HELLO ? -EPROTO : perf_stream_push(s, now_ns);
    if (s->in_len != PERF_RECORD || !perf_result_decode(&s->peer, s->in))
        return -EPROTO;
    s->tx_ended = true;
    s->tx_grant = 0;
    s->state = PERF_DONE;
    return 0;
}

/* ---- sending */

static int send_record(struct perf_stream *s)
{
    while (s->out_done < s->out_len) {
        ssize_t n = s->wire->send_copy(s, s->out + s->out_done, s->out_len - s->out_done);
        if (n < 0)
            return (int)n;
        s->out_done += (uint32_t)n;
    }
    return 0;
}

static int send_granted(struct perf_stream *s)
{
    while (s->tx_grant) {
        ssize_t n = s->wire->send_payload(s, s->tx_grant);
        if (n < 0)
            return (int)n;
        s->tx_bytes += (uint64_t)n;
        if (s->tx_grant != UINT64_MAX)
            s->tx_grant -= (uint64_t)n;
    }
    if (is_sender(s))
        s->tx_ended = true;
    return 0;
}

static void queue_result(struct perf_stream *s)
{
    struct perf_result r = {0};
    s->wire->counters(s, &r);
    r.copied_bytes -= s->before.copied_bytes;
    r.retransmits -= s->before.retransmits;
    r.rx_bytes = s->rx_bytes;
    r.rx_ns = s->rx_last_ns - s->start_ns;
    r.tx_bytes = s->tx_bytes;
    r.bad_bytes = s->bad_bytes;
    perf_result_encode(s->out, &r);
    s->out_len = PERF_RECORD;
    s->out_done = 0;
    s->state = PERF_RESULT;
}

/* Has the server all that its result is to say? */
static bool result_due(const struct perf_stream *s)
{
    bool sent_all = s->tx_ended || s->plan.mode == PERF_RR;
    bool got_all = s->rx_eof || s->plan.mode == PERF_RECEIVE;
    return s->server && s->state == PERF_DATA && sent_all && got_all;
}

static int try_push(struct perf_stream *s, uint64_t now_ns)
{
    if (s->state == PERF_HELLO || s->state == PERF_DONE)
        return 0;
    int rc = send_record(s);
    if (rc < 0)
        return rc;
    bool over = s->plan.duration_ns && now_ns - s->start_ns >= s->plan.duration_ns;
    /* A transaction that has begun is finished first. */
    bool between = s->plan.mode != PERF_RR || s->tx_grant == s->plan.length;
    if (over && between && !(s->server && s->plan.mode == PERF_RR))
        perf_stream_stop(s);
    rc = send_granted(s);
    if (rc < 0)
        return rc;
    if (result_due(s)) {
        queue_result(s);
        rc = send_record(s);
        if (rc < 0)
            return rc;
    }
    bool closing = s->server ? s->state == PERF_RESULT
                             : s->tx_ended && (s->plan.mode != PERF_RECEIVE || s->rx_eof);
    if (closing && !s->fin_sent) {
        rc = s->wire->shutdown(s);
        if (rc < 0)
            return rc;
        s->fin_sent = true;
        s->state = s->server ? PERF_DONE : PERF_RESULT;
    }
    return 0;
}

int perf_stream_push(struct perf_stream *s, uint64_t now_ns)
{
    int rc = try_push(s, now_ns);
    return rc == -EAGAIN ? 0 : rc;
}
