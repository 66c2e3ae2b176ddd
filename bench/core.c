/* core.c - what the protocol core itself costs: nanoseconds for each data segment sent, and for
 * each received, ACKs and the application's calls included, with no link under it. Two stacks
 * exchange frames in memory; the wire's copying is timed apart and not counted. Checksums are
 * computed in software, once in each direction, and are part of it.
 *
 * usage: core [MTU [SEGMENTS]]; prints JSON lines, mode "mem". */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/unit/pair.h"

#define RUNS  7
#define BURST 64u

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct cost {
    uint64_t send_ns, receive_ns;
};

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

static struct cost run(uint16_t mtu, uint64_t segments)
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

    pair_open(&p, &(struct zest_config){.mtu = mtu});
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
    pair_close(&p);
    return cost;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    uint16_t mtu = (uint16_t)(argc > 1 ? atoi(argv[1]) : 1500);
    uint64_t segments = argc > 2 ? strtoull(argv[2], NULL, 10) : 200000;
    uint64_t send[RUNS], receive[RUNS];
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    for (int i = 0; i < RUNS; i++) {
        struct cost c = run(mtu, segments);
        send[i] = c.send_ns;
        receive[i] = c.receive_ns;
    }
    qsort(send, RUNS, sizeof send[0], by_value);
    qsort(receive, RUNS, sizeof receive[0], by_value);
    printf("{\"name\":\"core_send_segment\",\"mode\":\"mem\",\"mtu\":%u,\"unit\":\"ns\",\"value\":%"
           ".1f}\n",
           mtu, (double)send[RUNS / 2] / 10);
    printf("{\"name\":\"core_receive_segment\",\"mode\":\"mem\",\"mtu\":%u,\"unit\":\"ns\","
           "\"value\":%.1f}\n",
           mtu, (double)receive[RUNS / 2] / 10);
    return 0;
}
