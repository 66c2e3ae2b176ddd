/* apps_test.c - what zest(1) is made of and needs no link for: the histogram, the records and the
 * pattern of zest perf, and its stream state machine on a wire that is a pair of byte queues. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>

#include "apps/hist.h"
#include "apps/perf_proto.h"
#include "apps/perf_stream.h"
#include "apps/say.h"

/* ---- hist */

static void quantiles_are_within_a_64th(void)
{
    static struct hist h;
    memset(&h, 0, sizeof h);
    for (uint64_t ns = 1; ns <= 100000; ns++)
        hist_add(&h, ns * 37);
    CU_ASSERT_EQUAL(h.count, 100000);
    CU_ASSERT_EQUAL(hist_quantile_ns(&h, 0), 37);
    CU_ASSERT_EQUAL(hist_quantile_ns(&h, 1), 3700000);
    for (double q = 0.001; q < 1; q += 0.001) {
        double want = q * 3700000, got = (double)hist_quantile_ns(&h, q);
        CU_ASSERT(got >= want - 37 && got <= want + want / 64 + 37);
    }
}

static void small_and_huge_durations_have_buckets(void)
{
    static struct hist h;
    memset(&h, 0, sizeof h);
    CU_ASSERT_EQUAL(hist_quantile_ns(&h, 0.5), 0);
    hist_add(&h, 0);
    CU_ASSERT_EQUAL(hist_quantile_ns(&h, 0.5), 0);
    hist_add(&h, UINT64_MAX);
    hist_add(&h, UINT64_MAX);
    CU_ASSERT_EQUAL(h.max_ns, UINT64_MAX);
    CU_ASSERT_EQUAL(hist_quantile_ns(&h, 1), UINT64_MAX);
    CU_ASSERT(hist_quantile_ns(&h, 0.6) >= 1ull << 40);
}

/* ---- records */

static void plan_survives_the_wire(void)
{
    struct perf_plan in = {.mode = PERF_BIDIR,
                           .verify = true,
                           .session = 0x0123456789abcdef,
                           .duration_ns = 7,
                           .amount = 1ull << 50,
                           .length = PERF_LENGTH_MAX,
                           .stream = 3,
                           .streams = 4};
    struct perf_plan out;
    uint8_t rec[PERF_RECORD];
    perf_plan_encode(rec, &in);
    CU_ASSERT_FATAL(perf_plan_decode(&out, rec));
    CU_ASSERT(out.mode == in.mode && out.verify && out.session == in.session);
    CU_ASSERT(out.duration_ns == 7 && out.amount == in.amount && out.length == in.length);
    CU_ASSERT(out.stream == 3 && out.streams == 4 && !out.frames);
    in.frames = true;
    in.verify = false;
    perf_plan_encode(rec, &in);
    CU_ASSERT_FATAL(perf_plan_decode(&out, rec));
    CU_ASSERT(out.frames && !out.verify);
}

static void nonsense_is_no_plan(void)
{
    static const struct perf_plan good = {
        .mode = PERF_SEND, .duration_ns = 1, .streams = 1, .length = 100};
    struct perf_plan p, out;
    uint8_t rec[PERF_RECORD];
    memset(rec, 0xa5, sizeof rec);
    CU_ASSERT_FALSE(perf_plan_decode(&out, rec));
#define BAD(change)                                                                                \
    p = good;                                                                                      \
    change;                                                                                        \
    perf_plan_encode(rec, &p);                                                                     \
    CU_ASSERT_FALSE(perf_plan_decode(&out, rec))
    BAD(p.mode = (enum perf_mode)(PERF_RR + 1));
    BAD(p.duration_ns = 0); /* would never end */
    BAD(p.length = PERF_LENGTH_MAX + 1);
    BAD(p.streams = 0);
    BAD(p.stream = 1);
    BAD((p.mode = PERF_RR, p.length = 0));
    BAD(p.streams = PERF_STREAMS + 1);
#undef BAD
    perf_plan_encode(rec, &good);
    CU_ASSERT(perf_plan_decode(&out, rec));
    perf_result_encode(rec, &(struct perf_result){0});
    CU_ASSERT_FALSE(perf_plan_decode(&out, rec)); /* a record, but another kind */
}

static void pattern_finds_each_wrong_byte(void)
{
    uint8_t whole[1000], part[1000];
    perf_pattern_fill(whole, sizeof whole, 12345);
    for (size_t at = 0; at < 40; at++) { /* any piece is a piece of the whole */
        perf_pattern_fill(part, 100 + at, 12345 + at);
        CU_ASSERT_EQUAL(memcmp(part, whole + at, 100 + at), 0);
    }
    CU_ASSERT_EQUAL(perf_pattern_check(whole, sizeof whole, 12345), 0);
    CU_ASSERT(perf_pattern_check(whole, sizeof whole, 12346) > 900);
    for (size_t i = 0; i < sizeof whole; i++) {
        whole[i] ^= 0x80;
        CU_ASSERT_EQUAL(perf_pattern_check(whole, sizeof whole, 12345), 1);
        whole[i] ^= 0x80;
    }
}

/* ---- streams: two ends on a wire of bounded queues, whose sizes are odd on purpose */

#define WIRE 4099u
struct end {
    struct perf_stream s; /* first */
    uint8_t queue[WIRE];  /* what was sent and not yet delivered */
    size_t queued;
    bool fin, fin_delivered;
};

static ssize_t put(struct perf_stream *s, const uint8_t *from, size_t len)
{
    struct end *e = (struct end *)(void *)s;
    size_t n = len < WIRE - e->queued ? len : WIRE - e->queued;
    CU_ASSERT_FALSE_FATAL(e->fin);
    if (n == 0)
        return -EAGAIN;
    memcpy(e->queue + e->queued, from, n);
    e->queued += n;
    return (ssize_t)n;
}
static ssize_t wire_copy(struct perf_stream *s, const void *from, size_t len)
{
    return put(s, from, len);
}
static ssize_t wire_payload(struct perf_stream *s, uint64_t max)
{
    uint8_t bytes[1448];
    size_t n = max < sizeof bytes ? (size_t)max : sizeof bytes;
    perf_pattern_fill(bytes, n, s->tx_bytes);
    return put(s, bytes, n);
}
static int wire_shutdown(struct perf_stream *s)
{
    ((struct end *)(void *)s)->fin = true;
    return 0;
}
static void wire_counters(struct perf_stream *s, struct perf_result *r)
{
    (void)s;
    r->copied_bytes = 1000;
}
static const struct perf_wire test_wire = {wire_copy, wire_payload, wire_shutdown, wire_counters};

/* Delivers some of what waits at `from`; 0 or what the receiver said. */
static int deliver(struct end *from, struct end *to, size_t most, uint64_t now_ns)
{
    size_t n = from->queued < most ? from->queued : most;
    int rc = 0;
    if (n) {
        rc = perf_stream_input(&to->s, now_ns, from->queue, n);
        memmove(from->queue, from->queue + n, from->queued - n);
        from->queued -= n;
    } else if (from->fin && !from->fin_delivered) {
        from->fin_delivered = true;
        rc = perf_stream_eof(&to->s, now_ns);
    }
    if (rc == 0)
        rc = perf_stream_push(&to->s, now_ns);
    return rc ? rc : perf_stream_push(&from->s, now_ns);
}

/* Runs a plan to its end, in deliveries of `most` bytes. */
static void run_plan(struct perf_plan plan, size_t most, struct end *client, struct end *server)
{
    uint64_t now_ns = 1000;
    plan.streams = 1;
    plan.verify = true;
    memset(client, 0, sizeof *client);
    memset(server, 0, sizeof *server);
    perf_stream_init_client(&client->s, &test_wire, &plan, NULL);
    perf_stream_init_server(&server->s, &test_wire);
    CU_ASSERT_EQUAL_FATAL(perf_stream_start(&client->s, now_ns), 0);
    for (unsigned i = 0; i < 2000000 && client->s.state != PERF_DONE; i++) {
        now_ns += 1000;
        CU_ASSERT_EQUAL_FATAL(deliver(client, server, most, now_ns), 0);
        CU_ASSERT_EQUAL_FATAL(deliver(server, client, most, now_ns), 0);
    }
    CU_ASSERT_EQUAL_FATAL(client->s.state, PERF_DONE);
    CU_ASSERT_EQUAL(server->s.state, PERF_DONE);
    CU_ASSERT_EQUAL(client->s.bad_bytes + client->s.peer.bad_bytes, 0);
    CU_ASSERT_EQUAL(client->s.peer.rx_bytes, client->s.tx_bytes);
    CU_ASSERT_EQUAL(client->s.peer.tx_bytes, client->s.rx_bytes);
    CU_ASSERT_EQUAL(client->s.peer.copied_bytes, 0); /* since the start, not since ever */
}

static const size_t deliveries[] = {1, 7, 63, 64, 65, 1448, 100000};
#define FOR_EACH_DELIVERY(d) for (unsigned d = 0; d < sizeof deliveries / sizeof *deliveries; d++)
static struct end client, server;

static void streams_carry_an_amount(void)
{
    FOR_EACH_DELIVERY(d)
    {
        uint64_t n = d == 0 ? 5000 : 200000;
        run_plan((struct perf_plan){.mode = PERF_SEND, .amount = n}, deliveries[d], &client,
                 &server);
        CU_ASSERT(client.s.tx_bytes == n && client.s.rx_bytes == 0);
        run_plan((struct perf_plan){.mode = PERF_RECEIVE, .amount = n}, deliveries[d], &client,
                 &server);
        CU_ASSERT(client.s.tx_bytes == 0 && client.s.rx_bytes == n);
        run_plan((struct perf_plan){.mode = PERF_BIDIR, .amount = n}, deliveries[d], &client,
                 &server);
        CU_ASSERT(client.s.tx_bytes == n && client.s.rx_bytes == n);
    }
}

static void streams_end_by_time(void)
{
    static const enum perf_mode modes[] = {PERF_SEND, PERF_RECEIVE, PERF_BIDIR, PERF_RR};
    for (unsigned m = 0; m < 4; m++) {
        run_plan((struct perf_plan){.mode = modes[m], .duration_ns = 500000, .length = 100}, 1448,
                 &client, &server);
        CU_ASSERT(client.s.tx_bytes + client.s.rx_bytes > 0);
    }
}

static void round_trips_are_counted(void)
{
    FOR_EACH_DELIVERY(d)
    {
        static const uint32_t lengths[] = {1, 64, 5000};
        for (unsigned l = 0; l < 3; l++) {
            run_plan((struct perf_plan){.mode = PERF_RR, .amount = 9, .length = lengths[l]},
                     deliveries[d], &client, &server);
            CU_ASSERT_EQUAL(client.s.rr_count, 9);
            CU_ASSERT_EQUAL(client.s.rx_bytes, 9 * lengths[l]);
        }
    }
}

static void broken_streams_are_errors(void)
{
    uint8_t junk[200];
    memset(junk, 1, sizeof junk);
    perf_stream_init_server(&server.s, &test_wire);
    CU_ASSERT_EQUAL(perf_stream_input(&server.s, 1, junk, sizeof junk), -EPROTO);
    perf_stream_init_server(&server.s, &test_wire);
    CU_ASSERT_EQUAL(perf_stream_eof(&server.s, 1), -EPROTO); /* before the hello */

    struct perf_plan plan = {.mode = PERF_RECEIVE, .amount = 1000, .streams = 1};
    perf_stream_init_client(&client.s, &test_wire, &plan, NULL);
    client.queued = 0;
    client.fin = false;
    CU_ASSERT_EQUAL(perf_stream_start(&client.s, 1), 0);
    CU_ASSERT_EQUAL(perf_stream_input(&client.s, 1, junk, sizeof junk), 0);
    CU_ASSERT_EQUAL(perf_stream_eof(&client.s, 1), -EPROTO); /* its end is no result */
}

/* ---- say */

static void sizes_are_readable(void)
{
    char b[SAY_BYTES];
    CU_ASSERT_STRING_EQUAL(say_bytes(b, 0), "0 bytes");
    CU_ASSERT_STRING_EQUAL(say_bytes(b, 1), "1 byte");
    CU_ASSERT_STRING_EQUAL(say_bytes(b, 1023), "1023 bytes");
    CU_ASSERT_STRING_EQUAL(say_bytes(b, 64ull << 20), "64 MiB");
    CU_ASSERT_STRING_EQUAL(say_bytes(b, 3ull << 29), "1.5 GiB");
    CU_ASSERT_STRING_EQUAL(say_bytes(b, UINT64_MAX), "16777216 TiB");
}

CHECK_MAIN("apps", CHECK(quantiles_are_within_a_64th), CHECK(small_and_huge_durations_have_buckets),
           CHECK(plan_survives_the_wire), CHECK(nonsense_is_no_plan),
           CHECK(pattern_finds_each_wrong_byte), CHECK(streams_carry_an_amount),
           CHECK(streams_end_by_time), CHECK(round_trips_are_counted),
           CHECK(broken_streams_are_errors), CHECK(sizes_are_readable))
