/* plan.c - what a seed's world is like. */
#include "sim.h"

#include <string.h>

static bool yes(struct rng *r, unsigned percent)
{
    return rng_chance(r, percent * 10000);
}

/* Most worlds do not have this trouble at all; those that have it, more or less of it. */
static uint32_t maybe(struct rng *r, unsigned percent, uint32_t max_ppm)
{
    return yes(r, percent) ? (uint32_t)rng_log(r, max_ppm / 100 + 1, max_ppm) : 0;
}

static void draw_stack(struct plan *p, struct rng *r, unsigned i)
{
    static const uint16_t mtu[] = {1500, 1500, 1500, 576, 1280, 3400, 9000};
    struct zest_config *c = &p->cfg[i];

    c->mtu = p->cfg[0].mtu && yes(r, 80) ? p->cfg[0].mtu : mtu[rng_below(r, 7)];
    c->gather = yes(r, 50) ? ZEST_GATHER_ALWAYS : ZEST_GATHER_NEVER;
    c->gather_max = (uint8_t)(yes(r, 50) ? 0 : rng_range(r, 2, 4));
    c->tx_csum_offload = yes(r, 20);
    c->rx_csum_trusted = !p->corrupt && yes(r, 20);
    c->max_conns = (uint32_t)rng_range(r, 24, 64);
    c->max_listeners = 2;
    c->max_pbufs = yes(r, 30) ? c->max_conns + (uint32_t)rng_below(r, 100) : 4096;
    c->snd_buf = yes(r, 50) ? 1u << 20 : (uint32_t)rng_log(r, 1000, 1u << 20);
    c->rcv_buf = yes(r, 50) ? 1u << 20 : (uint32_t)rng_log(r, 1000, 1u << 20);
    c->rx_hold_max = yes(r, 30) ? rng_log(r, 64u << 10, 1u << 20) : 0;
    c->ctrl_reserve = yes(r, 30) ? 128u << 10 : 512u << 10;
    for (unsigned k = 0; k < sizeof c->secret; k++)
        c->secret[k] = (uint8_t)rng_next(r);
    /* A link that cuts frames up. Drawn from what is drawn anyway: other worlds stay as they are.
     */
    if (c->secret[15] % 4 == 0) {
        c->gather = ZEST_GATHER_ALWAYS;
        c->tx_csum_offload = true;
        c->tso_segs = c->secret[14] % 2 ? 255 : (uint8_t)(2 + c->secret[14] % 9);
        c->gather_max = c->secret[14] % 4 == 0 ? c->gather_max : ZEST_FRAME_SEGS;
    }
    p->burst[i] = yes(r, 60) ? 32 : (uint32_t)rng_range(r, 1, 64);
    p->front[i] = yes(r, 50) ? 0 : (uint32_t)rng_below(r, HOST_FRONT_MAX + 1);
    p->tx_hold_ns[i] = yes(r, 60) ? 0 : rng_log(r, US, 20 * MS);
    p->app_lag_ns[i] = yes(r, 70) ? 0 : rng_log(r, US, 50 * MS);
    p->rx_budget[i] = yes(r, 80) ? 4u << 20 : rng_log(r, 32u << 10, 1u << 20);
}

static void draw_network(struct plan *p, struct rng *r)
{
    p->delay_ns = rng_log(r, US, yes(r, 80) ? 20 * MS : 300 * MS);
    p->jitter_ns = yes(r, 30) ? rng_log(r, US, p->delay_ns + 2 * US) : 0;
    p->bits_per_s = yes(r, p->clean ? 90 : 40) ? rng_log(r, 100000, 1000000000) : 0;
    p->queue_bytes = rng_log(r, 3000, 1u << 20);
    if (p->clean) {
        p->queue_bytes = 65536 + 4 * (p->bits_per_s / 8000) * p->delay_ns / MS; /* two BDPs */
        return;
    }
    p->lose = maybe(r, 30, 200000);
    p->lose_ack = maybe(r, 15, 500000);
    p->lose_last = maybe(r, 15, 500000);
    p->lose_syn = maybe(r, 15, 700000);
    p->lose_arp = maybe(r, 15, 700000);
    p->reorder = maybe(r, 25, 300000);
    p->reorder_ns = rng_log(r, US, 500 * MS);
    p->duplicate = maybe(r, 25, 300000);
    p->old = maybe(r, 15, 20000);
    p->corrupt = maybe(r, 25, 200000);
    if (yes(r, 15)) {
        p->burst_start = (uint32_t)rng_log(r, 100, 50000);
        p->burst_end = (uint32_t)rng_log(r, 20000, 500000);
    }
    p->lose_every = yes(r, 10) ? (uint32_t)rng_range(r, 2, 50) : 0;
    if (yes(r, 10)) {
        p->mtu_low = (uint16_t)rng_range(r, 576, 1400);
        p->mtu_from_ns = rng_below(r, p->calm_ns);
    }
    if (yes(r, 12)) {
        p->down_every_ns = rng_log(r, 10 * MS, 30 * S) + p->calm_ns / 1000;
        p->down_for_ns = rng_log(r, MS, 20 * S);
    }
}

static void draw_machines(struct plan *p, struct rng *r)
{
    p->crash_node = STACKS;
    if (p->clean)
        return;
    if (yes(r, 12)) {
        p->stall_every_ns = rng_log(r, 5 * MS, 10 * S) + p->calm_ns / 1000;
        p->stall_for_ns = rng_log(r, MS, 5 * S);
    }
    if (yes(r, 5)) {
        p->jump_at_ns = rng_range(r, 1, p->calm_ns);
        p->jump_by_ns =
            rng_log(r, S, 20 * 24 * 3600 * S); /* less than half a round of timestamps */
    }
    if (yes(r, 8)) {
        p->crash_node = (unsigned)rng_below(r, p->stacks);
        p->crash_at_ns = rng_range(r, 1, p->calm_ns);
        p->restart_after_ns = yes(r, 60) ? rng_log(r, MS, 60 * S) : 0;
    }
    if (yes(r, 15)) {
        p->hoard_every_ns = rng_log(r, MS, 10 * S) + p->calm_ns / 500;
        p->hoard_for_ns = rng_log(r, MS, 2 * S);
    }
    p->starve = maybe(r, 15, 200000);
    p->starve_nth = yes(r, 15) ? (uint32_t)rng_log(r, 1, 2000) : 0;
}

static void draw_mischief(struct plan *p, struct rng *r)
{
    if (p->clean || !yes(r, 25))
        return;
    p->hostile_conns = (unsigned)rng_below(r, 4);
    p->hostile_every_ns = rng_log(r, 100 * US, S) + p->calm_ns / 5000;
    for (unsigned f = F_ack_division; f < SIM_FAULT_COUNT; f++)
        if (yes(r, 35))
            p->mischief |= 1ull << f;
}

/* Segments that a frame arrives in: each must be had, or the frame is lost. */
static uint32_t most_parts(const struct plan *p)
{
    uint32_t most = 1;
    for (unsigned i = 0; i < p->stacks; i++) {
        uint32_t parts = p->cut[i] ? (p->cfg[i].mtu + 14u) / p->cut[i] + 1 : 1;
        most = parts > most ? parts : most;
    }
    return most < 128 ? most : 128; /* see wire_receive() */
}

/* Zero windows for hours: trouble that lasts as long would rightly end connections (R2). */
static void spare_the_patient(struct plan *p)
{
    uint32_t starve_max = 50000 / most_parts(p);

    p->lose = p->lose > 50000 ? 50000 : p->lose;
    p->corrupt = p->corrupt > 50000 ? 50000 : p->corrupt; /* is lost, too */
    p->burst_start = p->lose_ack = p->lose_last = p->lose_syn = p->lose_arp = 0;
    p->lose_every = p->lose_every ? 50 : 0;
    p->down_every_ns = p->stall_every_ns = 0;
    p->starve = p->starve > starve_max ? starve_max : p->starve;
    p->mischief &= ~(1ull << F_arp_lie | 1ull << F_syn_flood);
}

/* Bytes that the smallest buffer lets through in five minutes, half of it in each round trip. */
static uint64_t window_carries(const struct plan *p)
{
    uint64_t rtt_ns = 2 * (p->delay_ns + p->jitter_ns), buf = UINT32_MAX;
    for (unsigned i = 0; i < p->stacks; i++) {
        const struct zest_config *c = &p->cfg[i];
        rtt_ns += p->app_lag_ns[i] + p->tx_hold_ns[i];
        buf = c->snd_buf < buf ? c->snd_buf : buf;
        buf = c->rcv_buf < buf ? c->rcv_buf : buf;
    }
    return (300 * S / rtt_ns + 1) * (buf / 2);
}

/* Large frames, and frames that arrive in parts: a page's, or smaller ones. */
static void draw_frames(struct plan *p, struct rng *r, unsigned i)
{
    static const uint16_t mtu[] = {9000, 16384, 40000, 65535};

    if (i == 0 ? yes(r, 8) : p->cfg[0].mtu >= 9000 && yes(r, 80))
        p->cfg[i].mtu = i == 0 ? mtu[rng_below(r, 4)] : p->cfg[0].mtu;
    if (p->cfg[i].mtu > 9000)
        p->pool_size = 32u << 20; /* a frame may take 128 KiB of it */
    if (p->cfg[i].mtu > 3762 && yes(r, 80))
        p->cut[i] = 3776;
    else if (yes(r, 15))
        p->cut[i] = (uint32_t)rng_log(r, 1, 4000);
}

void plan_draw(struct plan *p, struct rng r)
{
    memset(p, 0, sizeof *p);
    p->clean = yes(&r, 10);
    p->stacks = yes(&r, 75) ? 2 : 3;
    p->conns = (unsigned)(yes(&r, 40) ? 1 : rng_range(&r, 1, 10));
    p->long_pauses = !p->clean && yes(&r, 10);
    p->calm_ns =
        p->long_pauses ? rng_log(&r, 10 * S, 3 * 3600 * S) : rng_log(&r, 100 * MS, 100 * S);
    draw_network(p, &r);
    for (unsigned i = 0; i < p->stacks; i++)
        draw_stack(p, &r, i);
    draw_machines(p, &r);
    draw_mischief(p, &r);
    p->one_pool = yes(&r, 30);
    p->pool_size = (yes(&r, 30) ? 16u : 8u) << 20;

    /* What a slow line can carry in twenty seconds is enough. */
    uint64_t fits = p->bits_per_s ? p->bits_per_s / 8 * 20 / p->conns : UINT64_MAX;
    p->bytes_max = rng_log(&r, 100, yes(&r, 80) ? 200000 : 1500000);
    if (p->bytes_max > fits)
        p->bytes_max = fits;
    fits = window_carries(p);
    if (p->bytes_max > fits)
        p->bytes_max = fits;
    p->odd_sizes = !p->clean && yes(&r, 50);
    if (!p->clean) {
        p->slow_readers = yes(&r, 30);
        p->mind_changes = yes(&r, 20);
        p->options = yes(&r, 25);
        p->simultaneous = yes(&r, 10);
        p->pings = yes(&r, 10);
        p->urgent = yes(&r, 20);
        p->ecn = maybe(&r, 25, 1000000);
        p->ecn_mark = p->ecn ? (uint32_t)rng_log(&r, 100, 500000) : 0;
    }
    for (unsigned i = 0; i < p->stacks; i++)
        draw_frames(p, &r, i);
    /* A minimum takes a slab of 2 MiB of its class at least: with frames whole and in parts, of
     * several stacks, that may be all five classes from 1K to 16K. */
    if (p->one_pool && most_parts(p) > 1 && p->pool_size < 16u << 20)
        p->pool_size = 16u << 20;
    if (p->calm_ns > 200 * S)
        spare_the_patient(p);
}

void plan_print(const struct plan *p, FILE *f)
{
    fprintf(f,
            "plan: stacks %u conns %u bytes %llu calm %.3f s%s%s\n"
            "  net: delay %.3f ms jitter %.3f ms %llu bit/s queue %llu; lose %u ack %u last %u syn "
            "%u arp %u burst %u/%u every %u; reorder %u by %.3f ms, dup %u old %u corrupt %u; mtu "
            "%u from %.3f s; down every %.3f s for %.3f s\n"
            "  machines: stall every %.3f s for %.3f s; jump at %.3f s by %.3f s; crash %u at %.3f "
            "s restart %.3f s; starve %u nth %u\n"
            "  apps: slow %d pauses %d odd %d mind %d options %d simultaneous %d urgent %d ecn "
            "%u/%u; hostile %u "
            "mischief %llx every %.3f ms\n",
            p->stacks, p->conns, (unsigned long long)p->bytes_max, (double)p->calm_ns / 1e9,
            p->clean ? " clean" : "", p->one_pool ? " one pool" : "", (double)p->delay_ns / 1e6,
            (double)p->jitter_ns / 1e6, (unsigned long long)p->bits_per_s,
            (unsigned long long)p->queue_bytes, p->lose, p->lose_ack, p->lose_last, p->lose_syn,
            p->lose_arp, p->burst_start, p->burst_end, p->lose_every, p->reorder,
            (double)p->reorder_ns / 1e6, p->duplicate, p->old, p->corrupt, p->mtu_low,
            (double)p->mtu_from_ns / 1e9, (double)p->down_every_ns / 1e9,
            (double)p->down_for_ns / 1e9, (double)p->stall_every_ns / 1e9,
            (double)p->stall_for_ns / 1e9, (double)p->jump_at_ns / 1e9, (double)p->jump_by_ns / 1e9,
            p->crash_node, (double)p->crash_at_ns / 1e9, (double)p->restart_after_ns / 1e9,
            p->starve, p->starve_nth, p->slow_readers, p->long_pauses, p->odd_sizes,
            p->mind_changes, p->options, p->simultaneous, p->urgent, p->ecn, p->ecn_mark,
            p->hostile_conns, (unsigned long long)p->mischief, (double)p->hostile_every_ns / 1e6);
    for (unsigned i = 0; i < p->stacks; i++) {
        const struct zest_config *c = &p->cfg[i];
        fprintf(f,
                "  stack %u: mtu %u gather %d/%u tso %u csum tx %d rx %d conns %u pbufs %u snd %u "
                "rcv %u "
                "hold %llu ctrl %llu; burst %u front %u cut %u tx hold %.3f ms app lag %.3f ms rx "
                "%zu\n",
                i, c->mtu, c->gather, c->gather_max, c->tso_segs, c->tx_csum_offload,
                c->rx_csum_trusted, c->max_conns, c->max_pbufs, c->snd_buf, c->rcv_buf,
                (unsigned long long)c->rx_hold_max, (unsigned long long)c->ctrl_reserve,
                p->burst[i], p->front[i], p->cut[i], (double)p->tx_hold_ns[i] / 1e6,
                (double)p->app_lag_ns[i] / 1e6, p->rx_budget[i]);
    }
}
