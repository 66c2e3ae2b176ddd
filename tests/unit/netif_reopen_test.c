/* netif_reopen_test.c - a socket that gives nothing back is closed and opened anew: what it held
 * comes home once, and the new one works. The test is the kernel, and libxdp. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "ring_fixture.h"

#define POOL (4u << 20)

static struct {
    int refuses;      /* -errno of binding; so many times: */
    unsigned times;   /* 0 = always */
    int umem_refuses; /* to register the region */
    bool shared;      /* others use the first's UMEM */
    int fd;           /* of the first's UMEM */
    unsigned umems, sockets, in_map, trials;
    bool map_refuses;
    unsigned flags;
} kernel;
static struct xdp_share share;
static struct netif *nif;

/* Handles: nobody looks inside. */
#define FIRST_UMEM ((struct xsk_umem *)(void *)&share)
#define OWN_UMEM   ((struct xsk_umem *)(void *)&kernel)
#define TRIAL_UMEM ((struct xsk_umem *)(void *)&x)
#define SOCKET     ((struct xsk_socket *)(void *)&nif)

int xsk_umem__create(struct xsk_umem **umem, void *area, __u64 size, struct xsk_ring_prod *f,
                     struct xsk_ring_cons *c, const struct xsk_umem_config *cfg)
{
    CU_ASSERT_PTR_EQUAL(area, x->base);
    CU_ASSERT_EQUAL(size, x->region_size);
    CU_ASSERT_EQUAL(cfg->frame_size, XDP_CHUNK);
    if (kernel.umem_refuses)
        return kernel.umem_refuses;
    if (f != &x->fill) { /* a trial: it has rings of its own */
        CU_ASSERT_EQUAL(kernel.sockets, 1);
        kernel.trials++;
        *umem = TRIAL_UMEM;
        return 0;
    }
    memset(&fill, 0, sizeof fill);
    memset(&comp, 0, sizeof comp);
    *f = link_produces(&fill);
    *c = link_consumes(&comp);
    *umem = OWN_UMEM;
    kernel.umems++;
    return 0;
}

int xsk_umem__delete(struct xsk_umem *umem)
{
    if (umem == FIRST_UMEM && kernel.shared)
        return -EBUSY;
    if (umem == TRIAL_UMEM) {
        kernel.trials--;
        return 0;
    }
    CU_ASSERT_EQUAL(kernel.sockets, 0); /* not before its socket */
    kernel.umems--;
    return 0;
}

int xsk_umem__fd(const struct xsk_umem *umem)
{
    CU_ASSERT_PTR_EQUAL(umem, FIRST_UMEM);
    return kernel.fd;
}

int xsk_socket__create(struct xsk_socket **xsk, const char *ifname, __u32 queue,
                       struct xsk_umem *umem, struct xsk_ring_cons *r, struct xsk_ring_prod *t,
                       const struct xsk_socket_config *cfg)
{
    CU_ASSERT_STRING_EQUAL(ifname, "z0");
    CU_ASSERT_EQUAL(queue, 3);
    CU_ASSERT_PTR_EQUAL(umem, OWN_UMEM);
    CU_ASSERT(fill.producer > 0); /* a driver may look for buffers only once, and now */
    kernel.flags = cfg->bind_flags;
    if (kernel.refuses && (kernel.times == 0 || kernel.times-- > 1)) {
        static uint32_t gone = 77; /* libxdp leaves rings that it has unmapped */
        r->producer = r->consumer = t->producer = t->consumer = &gone;
        r->size = t->size = RING;
        return kernel.refuses;
    }
    kernel.refuses = 0;
    memset(&rx, 0, sizeof rx);
    memset(&tx, 0, sizeof tx);
    *r = link_consumes(&rx);
    *t = link_produces(&tx);
    *xsk = SOCKET;
    kernel.sockets++;
    return 0;
}

int xsk_socket__create_shared(struct xsk_socket **xsk, const char *ifname, __u32 queue,
                              struct xsk_umem *umem, struct xsk_ring_cons *r,
                              struct xsk_ring_prod *t, struct xsk_ring_prod *f,
                              struct xsk_ring_cons *c, const struct xsk_socket_config *cfg)
{
    (void)xsk, (void)ifname, (void)queue, (void)umem, (void)r, (void)t, (void)f, (void)c, (void)cfg;
    CU_FAIL("the first's socket is gone: nobody can share with it");
    return -EBADF;
}

void xsk_socket__delete(struct xsk_socket *xsk)
{
    CU_ASSERT_PTR_EQUAL(xsk, SOCKET);
    kernel.sockets--;
}

int xsk_socket__fd(const struct xsk_socket *xsk)
{
    CU_ASSERT_PTR_EQUAL(xsk, SOCKET);
    return 1000000; /* no descriptor */
}

int bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags)
{
    (void)fd, (void)value, (void)flags;
    CU_ASSERT_EQUAL(*(const uint32_t *)key, 3);
    CU_ASSERT_EQUAL(kernel.sockets, 1);
    if (kernel.map_refuses)
        return -1;
    kernel.in_map = 1; /* whoever was there before */
    return 0;
}

int bpf_map_delete_elem(int fd, const void *key)
{
    (void)fd;
    CU_ASSERT_EQUAL(*(const uint32_t *)key, 3);
    kernel.in_map--;
    return 0;
}

/* A link in use: the kernel has buffers, a frame has come in, and half of one, and so many frames
 * were sent, some of them twice from the same segment. */
static void set_up(bool first, bool shared, unsigned sent)
{
    rings_open(POOL, RING * XDP_CHUNK);
    nif = &x->nif;
    memset(&kernel, 0, sizeof kernel);
    kernel.umems = kernel.sockets = kernel.in_map = 1;
    kernel.fd = -1;
    kernel.shared = shared;
    share = (struct xdp_share){.umem = FIRST_UMEM, .refs = 1};
    xdp_prog_init(&share.prog);
    pthread_mutex_init(&share.lock, NULL);
    x->share = &share;
    x->first = first;
    x->xsk = SOCKET;
    x->queue = 3;
    share.bind_flags = XDP_COPY;
    memcpy(nif->caps.name, "z0", 3);
    xdp_refill(x);
    for (unsigned i = 0; i < 2; i++)
        rx.descs[rx.producer++ % RING] = (struct xdp_desc){
            .addr = addrs(&fill)[fill.consumer++ % RING] | (uint64_t)(ZBUF_GUARD + XDP_HEADROOM)
                                                               << XSK_UNALIGNED_BUF_OFFSET_SHIFT,
            .len = 100,
            .options = i == 0 ? XDP_PKT_CONTD : 0};
    struct zbuf *in[1];
    rx.producer--; /* the half first */
    CU_ASSERT_EQUAL(xdp_rx(nif, in, 1), 0);
    rx.producer++;
    for (unsigned i = 0; i < sent; i++) {
        struct zbuf *zb = zbuf_alloc(nif->pool, 100);
        CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
        struct zest_frame f = {.seg[0] = {zb->data, 100}, .n = 1};
        if (i % 3 == 0) {
            zbuf_ref(zb);
            xdp_tx(nif, &f, 1);
            i++;
        }
        xdp_tx(nif, &f, 1);
    }
}

static void tear_down(void)
{
    rings_close(); /* looks whether all is home */
    pthread_mutex_destroy(&share.lock);
}

static void works(void)
{
    CU_ASSERT_EQUAL(kernel.in_map, 1);
    CU_ASSERT_EQUAL(kernel.sockets, 1);
    CU_ASSERT_EQUAL(xdp_in_flight(nif), 0);
    CU_ASSERT_EQUAL(xdp_tx_room(nif), RING);
    CU_ASSERT_EQUAL(fill.producer, RING);
    CU_ASSERT_EQUAL(kernel.flags, XDP_COPY | XDP_USE_NEED_WAKEUP);
    struct zbuf *zb = zbuf_alloc(nif->pool, 100), *in[1];
    struct zest_frame f = {.seg[0] = {zb->data, 100}, .n = 1};
    xdp_tx(nif, &f, 1);
    CU_ASSERT_EQUAL(xdp_in_flight(nif), 1);
    kernel_completes(tx.descs[0].addr);
    CU_ASSERT_EQUAL(xdp_kick(nif), 0);
    CU_ASSERT_EQUAL(xdp_in_flight(nif), 0);
    /* The rest of a frame whose beginning was lost is no frame of its own. */
    rx.descs[rx.producer++ % RING] = (struct xdp_desc){
        .addr = addrs(&fill)[fill.consumer++ % RING] | (uint64_t)(ZBUF_GUARD + XDP_HEADROOM)
                                                           << XSK_UNALIGNED_BUF_OFFSET_SHIFT,
        .len = 60};
    CU_ASSERT_EQUAL_FATAL(xdp_rx(nif, in, 1), 1);
    CU_ASSERT_EQUAL(in[0]->len, 60);
    CU_ASSERT_PTR_NULL(in[0]->next);
    zbuf_free(in[0]);
}

static void all_comes_home_once(void)
{
    for (unsigned sent = 0; sent < RING; sent += 7) {
        set_up(true, false, sent);
        CU_ASSERT_EQUAL(xdp_reopen(nif), 0);
        CU_ASSERT_EQUAL(kernel.umems, 1); /* its own instead of the first one */
        CU_ASSERT_PTR_NULL(share.umem);
        works();
        CU_ASSERT_EQUAL(xdp_reopen(nif), 0); /* and again */
        CU_ASSERT_EQUAL(kernel.umems, 1);
        works();
        tear_down();
    }
}

/* While the kernel does not let go of the queue the link is there, and does nothing. */
static void it_takes_its_time(void)
{
    set_up(true, false, 20);
    kernel.refuses = -EBUSY;
    kernel.times = 3;
    struct zbuf *in[1], *zb;
    for (unsigned i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(xdp_reopen(nif), -EAGAIN);
        CU_ASSERT_EQUAL(nif->fd, -1);
        CU_ASSERT_EQUAL(xdp_rx(nif, in, 1), 0);
        CU_ASSERT_FALSE(xdp_rx_waiting(nif));
        CU_ASSERT_EQUAL(xdp_tx_room(nif), 0);
        CU_ASSERT_EQUAL(xdp_kick(nif), 0);
        CU_ASSERT_EQUAL(xdp_in_flight(nif), 0);
        xdp_count(nif);
    }
    zb = zbuf_alloc(nif->pool, 100); /* the pool goes on */
    CU_ASSERT_PTR_NOT_NULL(zb);
    zbuf_free(zb);
    CU_ASSERT_EQUAL(xdp_reopen(nif), 0);
    CU_ASSERT_EQUAL(kernel.umems, 1);
    works();
    tear_down();
}

static void what_can_not_be_had_is_said(void)
{
    set_up(true, false, 20);
    kernel.refuses = -EINVAL; /* there is no such queue any more */
    CU_ASSERT_EQUAL(xdp_reopen(nif), -EINVAL);
    tear_down();
    set_up(true, false, 20);
    kernel.umem_refuses = -EPERM;
    CU_ASSERT_EQUAL(xdp_reopen(nif), -EPERM);
    CU_ASSERT_EQUAL(kernel.umems, 0);
    tear_down();
}

/* Whether it would be allowed can be asked of a link at work, which notices nothing. */
static void asking_is_free(void)
{
    set_up(true, false, 20);
    struct kernel_ring fill_was = fill;
    uint32_t lent = x->n_lent_free, sent = x->n_in_flight;
    CU_ASSERT_TRUE(xdp_may_reopen(nif));
    CU_ASSERT_EQUAL(kernel.trials, 0); /* and nothing of it is left */
    kernel.umem_refuses = -EPERM;
    CU_ASSERT_FALSE(xdp_may_reopen(nif));
    kernel.umem_refuses = 0;
    kernel.map_refuses = true;
    errno = EPERM;
    CU_ASSERT_FALSE(xdp_may_reopen(nif));
    kernel.map_refuses = false;
    CU_ASSERT_EQUAL(memcmp(&fill, &fill_was, sizeof fill), 0);
    CU_ASSERT_EQUAL(x->n_lent_free, lent);
    CU_ASSERT_EQUAL(x->n_in_flight, sent);
    CU_ASSERT_EQUAL(kernel.umems, 1);
    CU_ASSERT_PTR_EQUAL(x->xsk, SOCKET);
    CU_ASSERT_EQUAL(xdp_reopen(nif), 0);
    works();
    tear_down();
}

/* Others are on the first one's UMEM: its socket is let go of all the same, and the number of its
 * descriptor stays taken. One of the others leaves it alone. */
static void others_go_on(void)
{
    int ends[2];
    char c;
    CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
    set_up(true, true, 20);
    kernel.fd = ends[1];
    CU_ASSERT_EQUAL(xdp_reopen(nif), 0);
    CU_ASSERT_PTR_EQUAL(share.umem, FIRST_UMEM);
    CU_ASSERT_EQUAL(kernel.umems, 2);
    CU_ASSERT_EQUAL(read(ends[0], &c, 1), 0); /* nobody holds the other end any more */
    CU_ASSERT(fcntl(ends[1], F_GETFD) >= 0);
    works();
    tear_down();
    set_up(false, true, 20);
    CU_ASSERT_EQUAL(xdp_reopen(nif), 0);
    CU_ASSERT_EQUAL(kernel.umems, 2);
    works();
    tear_down();
    close(ends[0]);
    close(ends[1]);
}

CHECK_MAIN("netif reopen", CHECK(all_comes_home_once), CHECK(it_takes_its_time),
           CHECK(what_can_not_be_had_is_said), CHECK(asking_is_free), CHECK(others_go_on))
