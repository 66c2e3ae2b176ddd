/* host_pool.c - the pool of a host: as large as its queues need, of the pages and on the node that
 * were asked for. What can't be had is said in words, with what to do about it. */
#include "host.h"

#include "say.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define POOL_DEF   (64u << 20) /* for each queue */
#define DATA_LEAST (1u << 20)  /* besides what is set aside: with less it only crawls */

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
    return 0;
}

/* Of segments that frames are received in. The application's may be smaller, and takes those, too,
 * when its own are used up. */
static size_t room_for_data(struct zbuf_pool *pool, uint32_t seg)
{
    return zbuf_budget_room(zbuf_budget_app(pool), seg - ZBUF_OVERHEAD);
}

/* Besides what is set aside; part of it will be kept for connections as they come. */
static size_t data_least(uint32_t seg, unsigned stacks)
{
    return DATA_LEAST + stacks * (size_t)HOST_RX_SEGS * seg;
}

void host_say_pool_least(struct zbuf_pool *pool, uint32_t seg, unsigned stacks, size_t needed)
{
    char size[SAY_BYTES];
    size_t have = zbuf_pool_size(pool);
    size_t least = have + needed + data_least(seg, stacks) - room_for_data(pool, seg);
    least = (least + ZBUF_SLAB - 1) / ZBUF_SLAB * ZBUF_SLAB;
    say("the pool of %s is too small: what is received into and what control packets need is set "
        "aside in it, and the rest is for data; make it --pool %zuM at least",
        say_bytes(size, have), least >> 20);
}

int host_share_pool(const struct host *h, unsigned stacks)
{
    uint32_t seg = netif_caps(h->nif)->rx_seg;
    if (room_for_data(h->pool, seg) < data_least(seg, stacks)) {
        host_say_pool_least(h->pool, seg, stacks, 0);
        return -ENOBUFS;
    }
    return zbuf_budget_resize(zbuf_budget_app(h->pool), 0, room_for_data(h->pool, seg) / 2);
}
