/* hello.c - the smallest program on zest's write API: a server that greets whoever connects.
 *
 *   hello    then, from this host:   socat - TCP:10.0.0.2:7777
 *
 * It runs on a TAP interface. netif_open_xdp() instead of netif_open_tap() is all that changes for
 * AF_XDP. */
#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netif/netif.h"

static struct zbuf_pool *pool;
static zest_handle listener;

/* hello: begin */
static void greet(struct zest *z, zest_handle conn)
{
    struct zbuf *zb = zbuf_alloc(pool, 64);
    if (!zb) { /* the pool is used up */
        zest_abort(z, conn);
        return;
    }
    int n = snprintf((char *)zb->data, 64, "hello from %p\n", (void *)zb->data);
    zest_write(z, conn, zb->data, (size_t)n); /* the address: nothing is copied */
    zbuf_free(zb);                            /* the stack keeps its own reference until the ACK */
    zest_shutdown(z, conn);                   /* FIN, after the last byte */
}
/* hello: end */

static void on_event(void *ctx, struct zest *z, const struct zest_event *ev, unsigned n)
{
    zest_handle conn;
    (void)ctx;
    for (unsigned i = 0; i < n; i++) {
        if (ev[i].handle == listener)
            while (zest_accept(z, listener, &conn, NULL) == 0)
                greet(z, conn);
        else if (ev[i].events & (ZEST_EV_CLOSED | ZEST_EV_ERROR))
            zest_close(z, ev[i].handle);
    }
}

static void stop(struct ev_loop *loop, ev_signal *w, int revents)
{
    (void)w;
    (void)revents;
    ev_break(loop, EVBREAK_ALL);
}

static void check(int rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "hello: %s: %s\n", what, strerror(-rc));
        exit(1);
    }
}

int main(void)
{
    struct netif *nif;
    struct netif_error err;
    struct netif_loop *nl;
    struct zest *z;

    pool = zbuf_pool_create(NULL); /* this memory is what is sent from and received into */
    check(pool ? 0 : -1, "memory");
    check(netif_open_tap(&(struct netif_tap_config){.pool = pool,
                                                    .ifname = "hello0",
                                                    .host_cidr = "10.0.0.1/24"},
                         &nif, &err),
          "TAP interface");

    struct zest_config cfg = {.pool = pool};
    zest_addr_parse(&cfg.ip, "10.0.0.2", 0);
    check(netif_configure(nif, &cfg), "random bytes"); /* MAC address, MTU, ... */
    void *mem = aligned_alloc(64, zest_size(&cfg));
    check(zest_init(mem, &cfg, &z), "stack");
    check(zest_listen(z, &(struct zest_addr){.port = 7777}, 0, &listener), "port 7777");

    struct ev_loop *loop = ev_default_loop(0);
    check(netif_loop_start(
              &(struct netif_loop_config){.loop = loop, .nif = nif, .z = z, .on_event = on_event},
              &nl),
          "loop");
    ev_signal sigint, sigterm;
    ev_signal_init(&sigint, stop, SIGINT);
    ev_signal_init(&sigterm, stop, SIGTERM);
    ev_signal_start(loop, &sigint);
    ev_signal_start(loop, &sigterm);
    puts("hello: ready on 10.0.0.2, port 7777");
    fflush(stdout);
    ev_run(loop, 0);

    netif_loop_stop(nl);
    zest_fini(z);
    netif_close(nif);
    free(mem);
    return zbuf_pool_destroy(pool) < 0; /* every segment is home, or this says which is not */
}
