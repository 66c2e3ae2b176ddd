/* xdp_measure.c - what it costs to have a frame sent on this link, measured when it is opened.
 *
 * Payload that has room for its headers in front of it leaves as one descriptor, everywhere:
 * nothing is cheaper. Payload without that room can go as a second descriptor, or be copied behind
 * headers of its own. Which is cheaper is a matter of the driver, the mode, the kernel and the
 * processor: in copy mode a second descriptor is a page reference and a fragment more, in zero-copy
 * mode next to nothing. So where a link can do both, both are tried, in turns, a few batches each;
 * the least of each counts, as whatever disturbs a measurement only ever adds to it. What is timed
 * is what this core spends in the link's own calls, as it will be later on.
 *
 * The frames are for nobody: from our own MAC address to our own MAC address, of a type that is set
 * aside for experiments (IEEE Std 802, 9.2.4). A switch drops them, as they would have to leave
 * where they came in; a host at the other end of a cable drops them, as they are not for it. There
 * are at most 12 batches of 32, and no new one after 10 ms: a slow line is soon left alone, and
 * then nothing is claimed. */
#include <string.h>

#include "xdp.h"

#define BATCH       32u
#define ROUNDS      6u
#define WARM_UP     1u
#define DEADLINE_NS 10000000u

#define ETH_P_EXPERIMENT 0x88b5u
#define TCPIP_HEADERS    (ETH_HEADER + 40u)

struct measure {
    struct xdp *x;
    struct zbuf *head[BATCH], *payload[BATCH];
    uint32_t len; /* of a frame */
    uint64_t deadline_ns;
    uint32_t one_ns, gather_ns, copy_ns; /* least so far; 0 = none yet */
};

static void fill_in(const struct measure *m, struct zbuf *zb)
{
    static const char text[] = "zest measures what sending on this link costs";
    memset(zb->data, 0, m->len);
    memcpy(zb->data, m->x->nif.caps.mac, 6);
    memcpy(zb->data + 6, m->x->nif.caps.mac, 6);
    zb->data[12] = ETH_P_EXPERIMENT >> 8;
    zb->data[13] = ETH_P_EXPERIMENT & 0xff;
    memcpy(zb->data + ETH_HEADER, text, sizeof text);
}

static void note(uint32_t *least, uint64_t took_ns)
{
    uint32_t each = (uint32_t)((took_ns + BATCH / 2) / BATCH);
    if (each == 0)
        each = 1;
    if (*least == 0 || each < *least)
        *least = each;
}

/* Until the kernel has given everything back. False if that takes too long. */
static bool settle(const struct measure *m)
{
    while (m->x->n_in_flight > 0) {
        if (xdp_kick(&m->x->nif) != 0 || netif_now() > m->deadline_ns)
            return false;
    }
    return true;
}

/* Sends a batch. False if the device does not keep up: then nothing can be said. */
static bool send_batch(struct measure *m, bool gather, uint32_t *least)
{
    struct zest_frame f[BATCH];
    for (unsigned i = 0; i < BATCH; i++) {
        zbuf_ref(m->head[i]);
        f[i] = (struct zest_frame){.n = 1, .seg[0] = {m->head[i]->data, m->len}};
        if (gather) {
            zbuf_ref(m->payload[i]);
            f[i].n = 2;
            f[i].seg[0].len = TCPIP_HEADERS;
            f[i].seg[1].addr = m->payload[i]->data;
            f[i].seg[1].len = m->len - TCPIP_HEADERS;
        }
    }
    uint64_t before = netif_now();
    xdp_tx(&m->x->nif, f, BATCH);
    int rc = xdp_kick(&m->x->nif);
    uint64_t took = netif_now() - before;
    if (rc != 0 || m->x->hold_ns > 0 || !settle(m))
        return false;
    if (least)
        note(least, took);
    return true;
}

static void copy_batch(struct measure *m)
{
    uint64_t before = netif_now();
    for (unsigned i = 0; i < BATCH; i++)
        memcpy(m->head[i]->data + TCPIP_HEADERS, m->payload[i]->data, m->len - TCPIP_HEADERS);
    /* As if somebody read it: the copies are not to be left out. */
    __asm__ volatile("" ::: "memory");
    note(&m->copy_ns, netif_now() - before);
}

static bool run(struct measure *m)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        bool counts = round >= WARM_UP;
        if (netif_now() > m->deadline_ns || !send_batch(m, false, counts ? &m->one_ns : NULL))
            return false;
        if (!send_batch(m, true, counts ? &m->gather_ns : NULL))
            return false;
        copy_batch(m);
    }
    return true;
}

void xdp_measure(struct xdp *x)
{
    struct netif_caps *c = &x->nif.caps;
    struct measure m = {.x = x, .len = ETH_HEADER + c->mtu};
    /* There must be a choice; and larger ones take several descriptors in any case. */
    if (!c->gather || c->mtu > XDP_RX_ROOM - ETH_HEADER || m.len <= 2 * TCPIP_HEADERS ||
        x->tx_ring < 2 * BATCH)
        return;
    size_t bytes = XDP_CHUNK - ZBUF_OVERHEAD;
    unsigned heads = zbuf_alloc_bulk(x->budget, bytes, m.head, BATCH);
    unsigned payloads = zbuf_alloc_bulk(x->budget, bytes, m.payload, BATCH);
    struct netif_stats before = x->nif.stats;
    if (heads == BATCH && payloads == BATCH) {
        for (unsigned i = 0; i < BATCH; i++) {
            fill_in(&m, m.head[i]);
            fill_in(&m, m.payload[i]);
        }
        m.deadline_ns = netif_now() + DEADLINE_NS;
        if (run(&m)) {
            c->send_ns = m.one_ns;
            c->gather_ns = m.gather_ns;
            c->linear_ns = m.one_ns + m.copy_ns;
            c->gather_cheap = c->gather_ns <= c->linear_ns;
        }
    }
    zbuf_free_bulk(m.head, heads);
    zbuf_free_bulk(m.payload, payloads);
    x->nif.stats = before;
    x->hold_ns = x->held_until_ns = 0;
}
