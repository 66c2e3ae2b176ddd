/* core.c - what the protocol core itself costs: nanoseconds for each data segment sent, and for
 * each received, ACKs and the application's calls included, with no link under it. Two stacks
 * exchange frames in memory; the wire's copying is timed apart and not counted. Checksums are
 * computed in software, once in each direction, and are part of it. Then the same with both stacks'
 * flight recorders on (zest_record.h): what they add, and what one checkpoint takes, which there is
 * one of for each half of a recorder's memory.
 *
 * usage: core [MTU [SEGMENTS]]; prints JSON lines, mode "mem". */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "stack/record.h"
#include "tests/unit/pair.h"

#define RUNS   7
#define BURST  64u
#define RECORD (512u << 20) /* bytes, for both stacks */

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct cost {
    uint64_t send_ns, receive_ns;
};
static double recorded[2]; /* bytes a segment, of the sender and of the receiver */

static unsigned carry(struct pair *p, const struct zest_frame *f, unsigned n, struct zbuf **to)
{
    for (unsigned i = 0; i < n; i++) {
        to[i] = zbuf_alloc(p->pool, 3800);
        if (!to[i])
            abort();
        for (unsigned s = 0; s < f[i].n; s++) {
            memcpy(to[i]->data + to[i]->len, f[i].seg[s].addr, f[i].seg[s].len);
            to[i]->len += f[i].seg[s].len;
            zbuf_tx_done(p->pool, f[i].seg[s].addr);
        }
    }
    return n;
}

/* record: memory for the recorders, or NULL. */
static struct cost run(uint16_t mtu, uint64_t segments, void *record)
{
    struct pair p;
    zest_handle c[2];
    struct zest_conn_info info;
    struct cost cost = {0};
    struct zest_frame f[BURST];
    struct zbuf *in[BURST];
    struct zest_view v[BURST];
    struct zbuf *zb = NULL;
    uint32_t off = 0;
    uint64_t received = 0;

    pair_open(&p, &(struct zest_config){
                      .mtu = mtu, .record_mem = record, .record_size = record ? RECORD : 0});
    if (pair_connect(&p, c, NULL) < 0 || zest_conn_info(p.z[0], c[0], &info) < 0)
        abort();
    while (received < segments * info.mss) {
        uint64_t t0 = now_ns();
        while (zb || (zb = zbuf_alloc(p.pool, info.mss))) {
            ssize_t n = zest_write(p.z[0], c[0], zb->data + off, info.mss - off);
            if (n < 0)
                break;
            off += (uint32_t)n;
            if (off < info.mss)
                break;
            zbuf_free(zb);
            zb = NULL;
            off = 0;
        }
        unsigned n = zest_output(p.z[0], p.now_ns, f, BURST);
        uint64_t t1 = now_ns();
        n = carry(&p, f, n, in);
        uint64_t t2 = now_ns();
        zest_input(p.z[1], p.now_ns, in, n);
        for (int k; (k = zest_read(p.z[1], c[1], v, BURST)) > 0;
             zest_release(p.z[1], c[1], v, (unsigned)k))
            for (int i = 0; i < k; i++)
                received += v[i].len;
        n = zest_output(p.z[1], p.now_ns, f, BURST);
        uint64_t t3 = now_ns();
        n = carry(&p, f, n, in);
        uint64_t t4 = now_ns();
        zest_input(p.z[0], p.now_ns, in, n);
        pair_events(&p, 0);
        uint64_t t5 = now_ns();
        cost.send_ns += (t1 - t0) + (t5 - t4);
        cost.receive_ns += t3 - t2;
        pair_events(&p, 1);
        p.now_ns += 10000;
    }
    cost.send_ns = cost.send_ns * 10 / segments;
    cost.receive_ns = cost.receive_ns * 10 / segments;
    zbuf_free(zb);
    for (int i = 0; record && i < 2; i++) {
        struct zest_recording rec;
        (void)zest_recording(p.z[i], &rec);
        recorded[i] = (double)rec.len / (double)segments;
        if (!rec.from_start)
            abort(); /* it would not have recorded all that was timed */
    }
    pair_close(&p);
    return cost;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void report(const char *name, uint16_t mtu, uint64_t tenths)
{
    printf("{\"name\":\"%s\",\"mode\":\"mem\",\"mtu\":%u,\"unit\":\"ns\",\"value\":%.1f}\n", name,
           mtu, (double)tenths / 10);
}

/* What recording adds; the peer is the same stack without. */
static void report_record(const char *name, uint16_t mtu, uint64_t on, uint64_t off, double bytes)
{
    printf("{\"name\":\"%s\",\"mode\":\"mem\",\"mtu\":%u,\"unit\":\"ns\",\"value\":%.1f,"
           "\"bytes\":%.1f,\"peer\":\"recorder off\",\"peer_value\":%.1f,\"ratio\":%.3f}\n",
           name, mtu, (double)on / 10, bytes, (double)off / 10, (double)on / (double)off);
}

/* So many connections, with nothing under way. */
static void checkpoint(uint32_t conns, void *record)
{
    struct pair p;
    zest_handle l, h;
    struct zest_addr b = pair_addr(1, 7);
    uint64_t took[RUNS];

    pair_open(&p, &(struct zest_config){.max_conns = conns,
                                        .conn_mem_min = ZEST_MEM_NONE,
                                        .record_mem = record,
                                        .record_size = 128u << 20});
    if (zest_listen(p.z[1], &b, 0, &l) < 0)
        abort();
    for (uint32_t i = 0; i < conns; i++) {
        uint64_t until = p.now_ns + 1000000;
        if (zest_connect(p.z[0], &b, NULL, &h) < 0)
            abort();
        while (pair_step(&p, until))
            pair_events(&p, 0), pair_events(&p, 1);
        if (zest_accept(p.z[1], l, &h, NULL) < 0)
            abort();
    }
    struct zest_recording rec;
    for (int i = 0; i < RUNS; i++) {
        uint64_t t0 = now_ns();
        record_turn(p.z[1]);
        took[i] = now_ns() - t0;
    }
    zest_recording(p.z[1], &rec);
    qsort(took, RUNS, sizeof took[0], by_value);
    printf("{\"name\":\"record_checkpoint\",\"mode\":\"mem\",\"conns\":%u,\"unit\":\"us\","
           "\"value\":%.1f,\"bytes\":%zu}\n",
           conns, (double)took[RUNS / 2] / 1000, rec.part[rec.parts - 1].len);
    pair_close(&p);
}

int main(int argc, char **argv)
{
    uint16_t mtu = (uint16_t)(argc > 1 ? atoi(argv[1]) : 1500);
    uint64_t segments = argc > 2 ? strtoull(argv[2], NULL, 10) : 200000;
    uint64_t send[2][RUNS], receive[2][RUNS];
    cpu_set_t one;
    void *record = malloc(RECORD);

    if (!record)
        return 1;
    memset(record, 1, RECORD); /* page faults are not what is timed */
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    for (int i = 0; i < 2 * RUNS; i++) { /* in turn: the machine's moods are shared */
        struct cost c = run(mtu, segments, i % 2 ? record : NULL);
        send[i % 2][i / 2] = c.send_ns;
        receive[i % 2][i / 2] = c.receive_ns;
    }
    for (int on = 0; on < 2; on++) {
        qsort(send[on], RUNS, sizeof send[on][0], by_value);
        qsort(receive[on], RUNS, sizeof receive[on][0], by_value);
    }
    report("core_send_segment", mtu, send[0][RUNS / 2]);
    report("core_receive_segment", mtu, receive[0][RUNS / 2]);
    report_record("record_send_segment", mtu, send[1][RUNS / 2], send[0][RUNS / 2], recorded[0]);
    report_record("record_receive_segment", mtu, receive[1][RUNS / 2], receive[0][RUNS / 2],
                  recorded[1]);
    checkpoint(1, record);
    checkpoint(10000, record);
    free(record);
    return 0;
}
