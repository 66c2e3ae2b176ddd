/* stack.c - a stack as a whole: laying it out in the caller's memory, and its four verbs.
 *
 * Input carries each frame up through the layers; nothing is sent there: replies go to the
 * control queue, and connections that may have something to say go on TCP's ready list.
 * Output empties the queue, then lets the ready connections take turns. zest_deadline() is
 * "now" while either has something, else the earliest timer. */
#include "stack.h"

#include <stdio.h>
#include <stdlib.h>

#include "eth.h"

void stack_assert_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "zest: %s:%d: this must hold: %s\n", file, line, cond);
    abort();
}

#define GATHER_DEF    4u          /* descriptors of a frame */
#define RX_HOLD_LEAST (64u << 10) /* bytes */

static size_t round_up_64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

static bool is_v4_mapped(const struct zest_addr *a)
{
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(a->ip, prefix, sizeof prefix) == 0;
}
static bool is_zero(const struct zest_addr *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip, zero, sizeof zero) == 0;
}
static uint32_t v4_of(const struct zest_addr *a)
{
    uint32_t v;
    memcpy(&v, a->ip + 12, 4);
    return v;
}

/* The class that a payload of so many bytes needs: what is set aside must be of that size. */
static uint32_t segment_for(uint32_t bytes)
{
    uint32_t seg = ZBUF_SEG_MIN;

    while (seg < ZBUF_OVERHEAD + bytes)
        seg *= 2;
    return seg;
}

/* What a link that receives into segments of seg bytes needs for a frame: if that is longer, it
 * comes in parts, each with its own room in front. */
static uint32_t one_frame(uint32_t seg, uint32_t mtu)
{
    uint32_t room = seg - ZBUF_OVERHEAD - TCP_RX_FRONT, frame = ETH_HLEN + mtu;

    return seg <= ZBUF_OVERHEAD + TCP_RX_FRONT ? seg : (frame + room - 1) / room * seg;
}

/* cfg with its defaults put in. */
static int complete_config(struct zest_config *out, const struct zest_config *cfg)
{
    static const uint8_t no_mac[6];

    *out = *cfg;
    if (!cfg->pool || !is_v4_mapped(&cfg->ip) || v4_of(&cfg->ip) == 0 || cfg->prefix_len > 32 ||
        (cfg->mac[0] & 1) || memcmp(cfg->mac, no_mac, 6) == 0)
        return -EINVAL;
    if (!is_zero(&cfg->gateway) && !is_v4_mapped(&cfg->gateway))
        return -EINVAL;
    if (cfg->gather_max > ZEST_FRAME_SEGS || cfg->gather_max == 1)
        return -EINVAL;
    if (cfg->tso_segs > 1 && (cfg->gather != ZEST_GATHER_ALWAYS || !cfg->tx_csum_offload))
        return -EINVAL;
    if (!out->prefix_len)
        out->prefix_len = 24;
    if (!out->mtu)
        out->mtu = 1500;
    if (!out->gather_max)
        out->gather_max = GATHER_DEF;
    if (!out->max_conns)
        out->max_conns = 1024;
    if (!out->max_listeners)
        out->max_listeners = 16;
    if (!out->max_pbufs)
        out->max_pbufs = (uint32_t)max_u64(4096, 16ull * out->max_conns);
    if (!out->snd_buf)
        out->snd_buf = 1u << 20;
    if (!out->rcv_buf)
        out->rcv_buf = 1u << 20;
    if (!out->rx_hold_max)
        out->rx_hold_max = zbuf_pool_size(cfg->pool) / 2;
    if (!out->rx_seg)
        out->rx_seg = segment_for(TCP_RX_FRONT + ETH_HLEN + out->mtu);
    if (out->rx_hold_max >= RX_HOLD_LEAST) /* or nothing could be received at all */
        out->rx_hold_max = max_u64(out->rx_hold_max, out->rx_seg);
    if (!out->conn_mem_min)
        out->conn_mem_min = one_frame(out->rx_seg, out->mtu);
    if (out->conn_mem_min == ZEST_MEM_NONE)
        out->conn_mem_min = 0;
    if (!out->ctrl_reserve)
        out->ctrl_reserve = 2u << 20;
    if (out->share_count <= 1)
        out->share_count = 1, out->share_index = 0;
    if (out->share_index >= out->share_count)
        return -EINVAL;
    if (out->mtu < 576 || out->max_conns > 1u << 24 || out->max_listeners > 1u << 16 ||
        out->max_pbufs < out->max_conns || out->rx_seg < ZBUF_SEG_MIN ||
        out->rx_seg > ZBUF_SEG_MAX || (out->rx_seg & (out->rx_seg - 1)) != 0 ||
        out->conn_mem_min > 1u << 30 || out->snd_buf > 1u << 30 || out->rcv_buf > 1u << 30 ||
        out->rx_hold_max < RX_HOLD_LEAST || (cfg->record_mem && cfg->record_size < ZEST_RECORD_MIN))
        return -EINVAL;
    return 0;
}

size_t zest_size(const struct zest_config *cfg)
{
    struct zest_config full;

    if (!cfg || complete_config(&full, cfg) < 0)
        return 0;
    return round_up_64(sizeof(struct zest)) + tcp_size(&full);
}

/* Frames that a link still owns keep their budget alive: it goes with the pool then. */
static void destroy_budgets(struct zest *z)
{
    if (z->ctrl)
        zbuf_budget_destroy(z->ctrl);
    if (z->tx)
        zbuf_budget_destroy(z->tx);
}

int zest_init(void *mem, const struct zest_config *cfg, struct zest **out)
{
    struct zest_config full;

    if (!mem || !cfg || !out || (uintptr_t)mem % 64 != 0 || complete_config(&full, cfg) < 0)
        return -EINVAL;

    struct zest *z = mem;
    memset(z, 0, sizeof *z);
    z->cfg = full;
    z->pool = full.pool;
    z->watch = zbuf_debugging(full.pool);
    z->ip4_be = v4_of(&full.ip);
    z->ip = ipaddr_from_v4(z->ip4_be);
    z->mask_be = __builtin_bswap32(UINT32_MAX << (32 - full.prefix_len));
    z->gateway_be = is_zero(&full.gateway) ? 0 : v4_of(&full.gateway);
    /* A quarter of the reserve is for frames that data is copied into, so that these can always go
     * on, too. */
    z->ctrl = zbuf_budget_create(z->pool, "control", full.ctrl_reserve - full.ctrl_reserve / 4, 0);
    z->tx =
        zbuf_budget_open(z->pool, &(struct zbuf_budget_config){.name = "linear frames",
                                                               .min_bytes = full.ctrl_reserve / 4,
                                                               .min_seg = segment_for(full.mtu)});
    if (!z->ctrl || !z->tx || tcp_init(z, (uint8_t *)mem + round_up_64(sizeof *z)) < 0) {
        destroy_budgets(z);
        return -ENOBUFS;
    }
    arp_init(z);
    icmp_init(z);
    record_init(z);
    *out = z;
    return 0;
}

void zest_fini(struct zest *z)
{
    tcp_fini(z);
    arp_fini(z);
    while (z->ctrlq.head != z->ctrlq.tail)
        zbuf_free(z->ctrlq.frame[z->ctrlq.head++ % CTRLQ_LEN]);
    destroy_budgets(z);
}

/* A frame in several segments. */
static void chain_input(struct zest *z, struct pkt *pk)
{
    if (!pkt_pull_up(pk->zb, &pk->len)) {
        z->stats.drop_eth_chain++;
        zbuf_chain_free(pk->zb);
        return;
    }
    pk->parted = pk->zb->next != NULL;
    z->stats.rx_bytes += pk->len;
    eth_input(z, pk);
    zbuf_chain_free(pk->zb);
}

void stack_input(struct zest *z, uint64_t now_ns, struct zbuf **frames, unsigned n)
{
    assert(now_ns >= z->now_ns);
    z->now_ns = now_ns;
    for (unsigned i = 0; i < n; i++) {
        struct zbuf *zb = frames[i];
        struct pkt pk = {.zb = zb, .p = zb->data, .len = zb->len, .eth = zb->data};
        pk.csum_ok = zb->rx_csum != ZBUF_CSUM_UNKNOWN;
        zb->rx_csum = ZBUF_CSUM_UNKNOWN; /* it is of this frame, not of the segment */
        z->stats.rx_frames++;
        if (i + 1 < n)
            __builtin_prefetch(frames[i + 1]->data);
        if (zb->next) {
            chain_input(z, &pk);
            continue;
        }
        z->stats.rx_bytes += zb->len;
        eth_input(z, &pk);
        if (pk.zb)
            zbuf_free(pk.zb);
    }
    if (z->stats.rx_bytes >= z->tcp.mem.next_look || now_ns >= z->tcp.mem.next_look_ns)
        mem_look(z);
    tcp_settle(z);
}

static unsigned ctrlq_drain(struct zest *z, struct zest_frame *out, unsigned max)
{
    struct ctrlq *q = &z->ctrlq;
    unsigned n = 0;

    for (; n < max && q->head != q->tail; n++) {
        struct zbuf *zb = q->frame[q->head++ % CTRLQ_LEN];
        zest_frame_clear(&out[n]);
        out[n].n = 1;
        out[n].seg[0].addr = zb->data;
        out[n].seg[0].len = zb->len;
        z->stats.tx_bytes += zb->len;
    }
    return n;
}

unsigned stack_output(struct zest *z, uint64_t now_ns, struct zest_frame *out, unsigned max)
{
    assert(now_ns >= z->now_ns);
    z->now_ns = now_ns;
    arp_poll(z);
    unsigned n = ctrlq_drain(z, out, max);
    n += tcp_run(z, out + n, max - n);
    n += ctrlq_drain(z, out + n, max - n); /* what TCP asked of ARP */
    z->stats.tx_frames += n;
    tcp_settle(z);
    return n;
}

void stack_link_up(struct zest *z, uint64_t now_ns, uint32_t mtu)
{
    assert(now_ns >= z->now_ns);
    z->now_ns = now_ns;
    tcp_link_up(z, mtu);
    tcp_settle(z);
}

uint64_t zest_deadline(const struct zest *z)
{
    if (z->ctrlq.head != z->ctrlq.tail)
        return 0;
    return min_u64(tcp_deadline(z), arp_deadline(z));
}

void zest_stats(const struct zest *z, struct zest_stats *out)
{
    *out = z->stats;
    out->pbufs = z->cfg.max_pbufs - z->tcp.pbufs_free;
}

void ctrlq_push(struct zest *z, struct zbuf *zb)
{
    struct ctrlq *q = &z->ctrlq;

    if (q->tail - q->head == CTRLQ_LEN) {
        z->stats.drop_ctrl_queue++;
        zbuf_free(zb);
        return;
    }
    q->frame[q->tail++ % CTRLQ_LEN] = zb;
}

struct zbuf *ctrl_alloc(struct zest *z, uint32_t bytes)
{
    struct zbuf *zb = stack_alloc(z, z->ctrl, bytes);

    if (!zb)
        z->stats.drop_ctrl_queue++;
    return zb;
}
