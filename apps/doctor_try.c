/* doctor_try.c - zest doctor --try: opens a link as a start would, measures, and closes it again.
 *
 * The address is one that no host has (RFC 5737), so that nothing is taken from the kernel. */
#include "doctor.h"

#include "host.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NOBODY "192.0.2.1"

void doctor_try(struct doctor_tried *t, const char *ifname, const struct doctor_wish *w)
{
    struct netif_error err = {""};
    struct netif *nif = NULL;
    struct netif_xdp_config cfg = {
        .ifname = ifname, .queue = w->queue, .measure = true, .quiet = true};
    *t = (struct doctor_tried){0};
    zest_addr_parse(&cfg.ip, NOBODY, 0);
    cfg.pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = w->pool_size});
    if (!cfg.pool) {
        snprintf(t->error, sizeof t->error, "no memory for the pool: %s", strerror(errno));
        return;
    }
    int rc = netif_open_xdp(&cfg, &nif, &err);
    if (rc == 0) {
        t->works = true;
        t->caps = *netif_caps(nif);
        netif_close(nif);
    } else {
        snprintf(t->error, sizeof t->error, "%s", err.text[0] ? err.text : strerror(-rc));
    }
    zbuf_pool_destroy(cfg.pool);
}

void doctor_tried_text(const struct doctor_tried *t, char *out, size_t size)
{
    const struct netif_caps *c = &t->caps;
    char sending[160];
    if (!t->works) {
        snprintf(out, size, "%s", t->error);
        return;
    }
    host_describe_sending(c, c->gather_cheap, false, sending, sizeof sending);
    int n = snprintf(out, size, "AF_XDP %s%s%s%s, MTU %u", c->mode,
                     c->why_copy ? " (no zero-copy: " : "", c->why_copy ? c->why_copy : "",
                     c->why_copy ? ")" : "", c->mtu);
    if (c->tx_budget)
        n += snprintf(out + n, size - (size_t)n, ", %u frames a send call", c->tx_budget);
    snprintf(out + n, size - (size_t)n, "; %s", sending);
}
