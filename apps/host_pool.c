/* host_pool.c - the pool of a host: as large as its queues need, of the pages and on the node that
 * were asked for. What can't be had is said in words, with what to do about it. */
#include "host.h"

#include "say.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define POOL_DEF (64u << 20) /* for each queue */

/* "0-1": as the kernel lists them. */
static const char *nodes_online(char buf[64])
{
    FILE *f = fopen("/sys/devices/system/node/online", "re");
    if (!f || !fgets(buf, 64, f))
        snprintf(buf, 64, "0");
    buf[strcspn(buf, "\n")] = 0;
    if (f)
        fclose(f);
    return buf;
}

static void say_refused(const struct host_options *o, uint64_t bytes, int err)
{
    char size[SAY_BYTES], nodes[64];
    if (o->have_node && err == EINVAL)
        say("there is no NUMA node %u here; there are %s", o->node, nodes_online(nodes));
    else if (o->have_node && err == ENOSYS)
        say("this kernel knows no NUMA nodes: leave out --node");
    else
        say("cannot get %s of memory for the pool%s: %s; try a smaller --pool",
            say_bytes(size, bytes), o->have_node ? " on that NUMA node" : "", strerror(err));
}

/* What was asked for and is not what it became. */
static void say_got(const struct host_options *o, enum zbuf_pages pages)
{
    char node[24] = "";
    if (o->have_node)
        snprintf(node, sizeof node, " on NUMA node %u", o->node);
    if (o->huge_1g && pages != ZBUF_PAGES_HUGE_1G)
        say("no 1 GiB pages are free%s, so the pool is of %s pages; to set some aside: "
            "hugepagesz=1G hugepages=N on the kernel's command line, or, while memory is not yet "
            "in pieces, echo N | sudo tee /sys/devices/system/node/node%u/hugepages/"
            "hugepages-1048576kB/nr_hugepages",
            node, zbuf_pages_name(pages), o->have_node ? o->node : 0);
    else if (o->have_node || o->huge_1g)
        say("the pool is of %s pages%s", zbuf_pages_name(pages), node);
}

int host_open_pool(struct host *h, const struct host_options *o, unsigned n)
{
    struct zbuf_pool_config cfg = {.size = o->pool_size ? o->pool_size : n * (size_t)POOL_DEF,
                                   .no_huge = o->no_huge,
                                   .try_1g = o->huge_1g,
                                   .bind_node = o->have_node,
                                   .node = o->node};
    h->pool = zbuf_pool_create(&cfg);
    if (!h->pool) {
        int err = errno;
        say_refused(o, cfg.size, err);
        return -err;
    }
    say_got(o, zbuf_pool_pages(h->pool));
    /* What is sent shall leave room for what is received and for the link. */
    return zbuf_budget_resize(zbuf_budget_app(h->pool), 0, zbuf_pool_size(h->pool) / 2);
}
