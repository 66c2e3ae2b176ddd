/* link_watch.c - what netif_loop does about its link (loop_link.c), for loops that are not libev's.
 */
#include <errno.h>
#include <stdlib.h>

#include "loop_link.h"

#define LOOK_NS  250000000u /* while something is under way */
#define WAIT_NS  20000000u  /* while the link is opened anew */
#define EVERY_NS (LOOP_LINK_EVERY_S * UINT64_C(1000000000))

struct netif_watch {
    struct netif_loop_config cfg;
    struct loop_link link;
    uint64_t look_ns; /* when to ask what nobody tells of */
};

int netif_watch_open(const struct netif_loop_config *cfg, struct netif_watch **out)
{
    if (!cfg->nif || !cfg->z)
        return -EINVAL;
    struct netif_watch *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->cfg = *cfg;
    loop_link_open(&w->link, &w->cfg);
    *out = w;
    return 0;
}

int netif_watch_fd(const struct netif_watch *w)
{
    return w->link.watch.fd;
}

int netif_watch_turn(struct netif_watch *w, bool readable, uint64_t now_ns, uint64_t *again_ns)
{
    struct netif *nif = w->cfg.nif;
    *again_ns = ZEST_NEVER;
    if (!nif->error && readable)
        loop_link_heard(&w->link, now_ns);
    if (nif->error)
        return nif->error;
    if (nif->ops->attached && now_ns >= w->look_ns) {
        w->look_ns = now_ns + EVERY_NS;
        if (!loop_link_attached(&w->link))
            return nif->error;
    }
    loop_link_check(&w->link, now_ns);
    if (nif->error)
        return nif->error;
    if (w->link.closed)
        *again_ns = now_ns + WAIT_NS;
    else if (link_in_flight(nif) > 0)
        *again_ns = now_ns + LOOK_NS;
    else if (nif->ops->attached)
        *again_ns = w->look_ns;
    return nif->error;
}

void netif_watch_close(struct netif_watch *w)
{
    if (!w)
        return;
    loop_link_close(&w->link);
    free(w);
}
