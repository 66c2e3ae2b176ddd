/* serve.c - one file to whoever connects, from one place in memory.
 *
 *   serve FILE                          on a TAP interface; then: socat -u TCP:10.0.0.2:7777 - |
 * cmp - FILE serve FILE INTERFACE A.B.C.D/N      over AF_XDP, at that address
 *
 * The file is read into a chain of zbufs once. Every connection is given the same addresses; what
 * each has taken of them is all the state that it has. The stack counts who still needs which
 * segment, and a connection that reads slowly holds up nobody. */
#include <errno.h>
#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "netif/netif.h"

#define PORT 7777

static zest_handle listener;
static struct zbuf *file;

/* How far a connection is. */
struct reader {
    struct zbuf *link; /* of the chain; NULL = it has all */
    uint32_t done;     /* bytes of that link */
};

static void check(int rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "serve: %s: %s\n", what, strerror(-rc));
        exit(1);
    }
}

static struct zbuf *load(struct zbuf_pool *pool, const char *name, size_t size)
{
    struct zbuf *chain = zbuf_chain_alloc(zbuf_budget_app(pool), size, 0);
    FILE *in = fopen(name, "rb");
    if (!chain || !in)
        check(-errno, name);
    for (struct zbuf *link = chain; link; link = link->next)
        if (fread(link->data, 1, link->len, in) != link->len)
            check(-EIO, name);
    fclose(in);
    return chain;
}

static void end(struct zest *z, zest_handle conn, struct reader *r)
{
    free(r);
    zest_close(z, conn);
}

/* Hands over as much as the connection takes. The rest follows when it says that it is writable. */
static void serve(struct zest *z, zest_handle conn, struct reader *r)
{
    while (r->link) {
        ssize_t n = zest_write(z, conn, r->link->data + r->done, r->link->len - r->done);
        if (n == -EAGAIN)
            return;
        if (n < 0) { /* it ended; an event says so, too */
            r->link = NULL;
            return;
        }
        r->done += (uint32_t)n;
        if (r->done == r->link->len) {
            r->link = r->link->next;
            r->done = 0;
        }
    }
    zest_shutdown(z, conn);
}

static void accept_all(struct zest *z)
{
    zest_handle conn;
    while (zest_accept(z, listener, &conn, NULL) == 0) {
        struct reader *r = calloc(1, sizeof *r);
        if (!r) {
            zest_abort(z, conn);
            continue;
        }
        r->link = file;
        zest_set_user(z, conn, r);
        serve(z, conn, r);
    }
}

/* What a client says is of no interest, but has to be read: else closing would reset it. */
static void ignore(struct zest *z, zest_handle conn)
{
    struct zest_view views[16];
    int n;
    while ((n = zest_read(z, conn, views, 16)) > 0)
        zest_release(z, conn, views, (unsigned)n);
}

static void on_event(void *ctx, struct zest *z, const struct zest_event *ev, unsigned n)
{
    (void)ctx;
    for (unsigned i = 0; i < n; i++) {
        struct reader *r = ev[i].user;
        if (ev[i].handle == listener) {
            accept_all(z);
            continue;
        }
        if (ev[i].events & ZEST_EV_READABLE)
            ignore(z, ev[i].handle);
        if (ev[i].events & ZEST_EV_WRITABLE && r->link)
            serve(z, ev[i].handle, r);
        if (ev[i].events & (ZEST_EV_CLOSED | ZEST_EV_ERROR))
            end(z, ev[i].handle, r);
    }
}

static void stop(struct ev_loop *loop, ev_signal *w, int revents)
{
    (void)w;
    (void)revents;
    ev_break(loop, EVBREAK_ALL);
}

static struct netif *open_link(struct zbuf_pool *pool, const char *ifname, struct zest_addr ip)
{
    struct netif *nif;
    struct netif_error err;
    struct netif_xdp_config xdp = {.pool = pool, .ifname = ifname, .ip = ip};
    struct netif_tap_config tap = {.pool = pool, .ifname = "serve0", .host_cidr = "10.0.0.1/24"};
    if ((ifname ? netif_open_xdp(&xdp, &nif, &err) : netif_open_tap(&tap, &nif, &err)) == 0)
        return nif;
    fprintf(stderr, "serve: %s\n", err.text);
    exit(1);
}

int main(int argc, char **argv)
{
    struct stat st;
    struct netif_loop *nl;
    struct zest *z;
    char ip[64] = "10.0.0.2";
    int prefix_len = 24;

    if ((argc != 2 && argc != 4) ||
        (argc == 4 && sscanf(argv[3], "%63[0-9.]/%d", ip, &prefix_len) != 2)) {
        fputs("usage: serve FILE [INTERFACE A.B.C.D/N]\n", stderr);
        return 2;
    }
    check(stat(argv[1], &st) < 0 ? -errno : 0, argv[1]);
    size_t size = (size_t)st.st_size;

    /* Memory for the file and its segments' headers, and 64 MiB to receive into. */
    struct zbuf_pool *pool = zbuf_pool_create(
        &(struct zbuf_pool_config){.size = size + size / 16 + (64u << 20), .name = "serve"});
    check(pool ? 0 : -errno, "memory");
    file = load(pool, argv[1], size);

    struct zest_config cfg = {.pool = pool, .prefix_len = (uint8_t)prefix_len};
    check(zest_addr_parse(&cfg.ip, ip, 0), ip);
    struct netif *nif = open_link(pool, argc == 4 ? argv[2] : NULL, cfg.ip);
    check(netif_configure(nif, &cfg), "random bytes"); /* MAC address, MTU, ... */
    void *mem = aligned_alloc(64, zest_size(&cfg));
    check(mem ? 0 : -ENOMEM, "memory");
    check(zest_init(mem, &cfg, &z), "stack");
    check(zest_listen(z, &(struct zest_addr){.port = PORT}, 0, &listener), "port");

    struct ev_loop *loop = ev_default_loop(0);
    struct netif_loop_config how = {.loop = loop, .nif = nif, .z = z, .on_event = on_event};
    check(netif_loop_start(&how, &nl), "loop");
    ev_signal sigint, sigterm;
    ev_signal_init(&sigint, stop, SIGINT);
    ev_signal_init(&sigterm, stop, SIGTERM);
    ev_signal_start(loop, &sigint);
    ev_signal_start(loop, &sigterm);
    printf("serve: ready: %zu bytes on %s, port %d\n", size, ip, PORT);
    fflush(stdout);
    ev_run(loop, 0);

    struct zest_stats stats;
    zest_stats(z, &stats);
    printf("serve: %llu connections, %llu bytes copied to send them\n",
           (unsigned long long)stats.tcp_passive_opens, (unsigned long long)stats.tx_copied_bytes);
    netif_loop_stop(nl);
    zest_fini(z);
    netif_close(nif);
    free(mem);
    zbuf_chain_free(file);
    return zbuf_pool_destroy(pool) < 0; /* every segment is home, or this says which is not */
}
