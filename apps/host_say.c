/* host_say.c - what a host tells people: at its start what it runs on, at its end (--counters) what
 * it counted. All of it goes to standard error. */
#include "host.h"

#include "../netif/probe.h"
#include "say.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void host_describe(const struct host *h)
{
    static const char *const pages[] = {"ordinary pages", "transparent huge pages",
                                        "2 MiB huge pages", "1 GiB huge pages"};
    const struct netif_caps *c = netif_caps(h->nif);
    char ip[ZEST_ADDR_TEXT] = "", size[SAY_BYTES];
    if (h->opt->have_ip)
        zest_addr_text(&h->opt->ip, ip);
    bool xdp = strcmp(c->kind, "xdp") == 0;
    char queues[72] = "", why[96] = "";
    if (c->why_copy)
        snprintf(why, sizeof why, " (no zero-copy: %s)", c->why_copy);
    if (h->members > 1)
        snprintf(queues, sizeof queues, ", queues %u to %u, a thread each%s", c->queue,
                 c->queue + h->members - 1,
                 c->steer_rules  ? ", steered by rules"
                 : c->hash_known ? ", hash known"
                                 : "");
    say("%s%s%s%s%s%s%s%s%s, MTU %u, pool %s (%s)", ip, *ip ? " on " : "", c->name,
        *c->name ? ", " : "", xdp ? "AF_XDP" : c->kind, xdp ? " " : "", xdp ? c->mode : "", why,
        queues, c->mtu, say_bytes(size, zbuf_pool_size(h->pool)), pages[zbuf_pool_pages(h->pool)]);
    if (xdp) {
        char sending[160];
        host_describe_sending(c, h->gather, h->opt->gather != HOST_GATHER_AUTO, sending,
                              sizeof sending);
        say("%s", sending);
    }
}

void host_describe_sending(const struct netif_caps *c, bool gather, bool asked, char *out,
                           size_t size)
{
    double copy_us = (c->linear_ns - c->send_ns) / 1e3;
    double gather_us = ((double)c->gather_ns - c->send_ns) / 1e3;
    const char *what = gather ? "gathered" : "copied";
    if (c->send_ns && gather)
        snprintf(out, size,
                 "a frame takes %.2f us to send; payload without headroom is gathered, %+.2f us "
                 "(copied, +%.2f us)",
                 c->send_ns / 1e3, gather_us, copy_us);
    else if (c->send_ns)
        snprintf(out, size,
                 "a frame takes %.2f us to send; payload without headroom is copied, +%.2f us "
                 "(gathered, %+.2f us)",
                 c->send_ns / 1e3, copy_us, gather_us);
    else
        snprintf(out, size, "payload without headroom is %s%s", what,
                 asked                         ? ", as --gather says"
                 : !c->gather                  ? ": this link does not gather"
                 : c->mtu > NETIF_XDP_PAGE_MTU ? ": frames of that size take several descriptors"
                                               : ": what either costs could not be measured");
}

/* ---- the end */

void host_print_counters(const struct host *h)
{
    struct zest_stats st;
    if (h->group)
        fprintf(stderr, "  queue %u\n", netif_caps(h->nif)->queue);
    zest_stats(h->z, &st);
#define PRINT(name, what)                                                                          \
    if (st.name)                                                                                   \
        fprintf(stderr, "  %-24s %12" PRIu64 "  %s\n", #name, st.name, what);
    ZEST_COUNTERS(PRINT)
#undef PRINT
    struct netif_stats ls;
    netif_get_stats(h->nif, &ls);
    fprintf(stderr,
            "  link: rx %" PRIu64 " frames, dropped %" PRIu64 " (no memory %" PRIu64
            "); tx %" PRIu64 " frames, invalid %" PRIu64 ", kicks %" PRIu64 "\n",
            ls.rx_frames, ls.rx_dropped, ls.rx_no_memory, ls.tx_frames, ls.tx_invalid, ls.tx_kicks);
    if (ls.reopened)
        fprintf(stderr, "  link: its socket was opened anew %" PRIu64 " times\n", ls.reopened);
    if (ls.rx_missed)
        fprintf(stderr, "  link: %" PRIu64 " frames for us came in on queues that are not ours\n",
                ls.rx_missed);
    if (h->group) {
        struct netif_group_stats gs;
        netif_group_get_stats(h->group, h->member, &gs);
        fprintf(stderr,
                "  queues: %" PRIu64 " frames were another's, %" PRIu64
                " handed to this one, %" PRIu64 " refused, %" PRIu64 " dropped; %" PRIu64
                " changes of port\n",
                gs.strays, gs.handed, gs.refused, gs.dropped, gs.port_changes);
    }
}

/* Who holds what of the pool, and which class ran out. */
void host_print_pool(const struct zbuf_pool *pool)
{
    struct zbuf_pool_stat st;
    static struct zbuf_budget_stat b[ZBUF_BUDGETS];
    unsigned n = zbuf_budget_stats(pool, b, ZBUF_BUDGETS);
    for (unsigned i = 0; i < n && i < ZBUF_BUDGETS; i++)
        fprintf(
            stderr,
            "  budget %-16s %10zu used, at most %zu; guaranteed %zu, ceiling %zu; refused %" PRIu64
            "\n",
            b[i].name, b[i].used, b[i].high_water, b[i].min, b[i].max, b[i].failures);
    zbuf_pool_stat(pool, &st);
    for (unsigned c = 0; c < ZBUF_CLASSES; c++)
        if (st.cls[c].segs)
            fprintf(stderr,
                    "  class %7u %6u segments, %6u free, at most %u used; refused %" PRIu64
                    ", fell up %" PRIu64 "\n",
                    st.cls[c].seg_size, st.cls[c].segs, st.cls[c].free, st.cls[c].high_water,
                    st.cls[c].failures, st.cls[c].fall_ups);
}
