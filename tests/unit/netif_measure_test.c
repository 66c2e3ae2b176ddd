/* netif_measure_test.c - how a link chooses between gathering and copying, on a kernel that the
 * test plays: it has two rings, a clock, and a price for everything. */
#include <errno.h>
#include <sys/socket.h>
#include <time.h>

#include "ring_fixture.h"

#define MTU 1500u

static struct {
    uint64_t clock_ns;
    unsigned desc_ns, frame_ns, read_ns; /* what a descriptor, a frame, a look at the clock takes */
    int error;                           /* of each send call */
    bool completes;
    unsigned disturbed; /* the first so many calls, by a millisecond each */
    unsigned frames, gathered, sends, oddities;
} k;

static void see(const struct xdp_desc *d, bool begins, bool ends)
{
    const uint8_t *p = x->base + d->addr;
    uint32_t whole = begins && ends ? ETH_HEADER + MTU : begins ? 54 : MTU - 40;
    if (d->len != whole)
        k.oddities++;
    if (begins && (memcmp(p, x->nif.caps.mac, 6) != 0 || memcmp(p + 6, x->nif.caps.mac, 6) != 0 ||
                   p[12] != 0x88 || p[13] != 0xb5))
        k.oddities++;
    k.frames += ends;
    k.gathered += ends && !begins;
}

ssize_t sendto(int fd, const void *p, size_t n, int flags, const struct sockaddr *to, socklen_t len)
{
    (void)fd, (void)p, (void)n, (void)flags, (void)to, (void)len;
    bool begins = true;
    if (k.sends++ < k.disturbed)
        k.clock_ns += 1000000;
    for (; tx.consumer != tx.producer; tx.consumer++) {
        const struct xdp_desc *d = &tx.descs[tx.consumer % RING];
        bool ends = !(d->options & XDP_PKT_CONTD);
        see(d, begins, ends);
        k.clock_ns += k.desc_ns + (ends ? k.frame_ns : 0);
        if (k.completes)
            kernel_completes(d->addr);
        begins = ends;
    }
    errno = k.error;
    return k.error ? -1 : 0;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    (void)id;
    k.clock_ns += k.read_ns;
    *ts = (struct timespec){(time_t)(k.clock_ns / 1000000000u), (long)(k.clock_ns % 1000000000u)};
    return 0;
}

static void begin(bool gather)
{
    rings_open(4u << 20, 2 * RING * XDP_CHUNK);
    x->nif.caps = (struct netif_caps){.mtu = MTU, .gather = gather, .mac = {2, 1, 2, 3, 4, 5}};
    tx.flags = XDP_RING_NEED_WAKEUP;
    memset(&k, 0, sizeof k);
    k.clock_ns = 1000000000;
    k.desc_ns = 150;
    k.frame_ns = 850;
    k.completes = true;
}

static void end(void)
{
    struct netif_stats zero = {0};
    CU_ASSERT(memcmp(&x->nif.stats, &zero, sizeof zero) == 0); /* not the application's frames */
    CU_ASSERT_EQUAL(x->hold_ns, 0);
    CU_ASSERT_EQUAL(k.oddities, 0);
    rings_close();
}

static void nothing_is_claimed(void)
{
    CU_ASSERT_EQUAL(x->nif.caps.send_ns, 0);
    CU_ASSERT_EQUAL(x->nif.caps.gather_ns, 0);
    CU_ASSERT_EQUAL(x->nif.caps.linear_ns, 0);
    CU_ASSERT_FALSE(x->nif.caps.gather_cheap);
}

static void a_dear_descriptor_is_not_cheap(void)
{
    begin(true);
    xdp_measure(x);
    CU_ASSERT_EQUAL(x->nif.caps.send_ns, 1000);
    CU_ASSERT_EQUAL(x->nif.caps.gather_ns, 1150);
    CU_ASSERT_EQUAL(x->nif.caps.linear_ns, 1001); /* copying stops no clock here */
    CU_ASSERT_FALSE(x->nif.caps.gather_cheap);
    CU_ASSERT_EQUAL(k.frames, 384); /* as the documentation promises */
    CU_ASSERT_EQUAL(k.gathered, 192);
    end();
}

static void a_cheap_one_is(void)
{
    begin(true);
    k.desc_ns = 0;
    k.read_ns = 32 * 40; /* so that copying takes 40 ns a frame, and sending as much more */
    xdp_measure(x);
    CU_ASSERT(x->nif.caps.gather_ns > 0);
    CU_ASSERT(x->nif.caps.gather_ns <= x->nif.caps.linear_ns);
    CU_ASSERT(x->nif.caps.gather_cheap);
    end();
}

static void what_disturbs_one_batch_does_not_count(void)
{
    begin(true);
    k.disturbed = 6;
    xdp_measure(x);
    CU_ASSERT_EQUAL(x->nif.caps.send_ns, 1000);
    CU_ASSERT_EQUAL(x->nif.caps.gather_ns, 1150);
    end();
}

static void without_gather_there_is_no_choice(void)
{
    begin(false);
    xdp_measure(x);
    nothing_is_claimed();
    CU_ASSERT_EQUAL(k.sends, 0);
    end();
}

static void a_device_that_drops_is_left_alone(void)
{
    begin(true);
    k.error = EBUSY;
    xdp_measure(x);
    nothing_is_claimed();
    CU_ASSERT_EQUAL(k.sends, 1);
    end();
}

static void a_device_that_is_gone(void)
{
    begin(true);
    k.error = ENXIO;
    xdp_measure(x);
    nothing_is_claimed();
    CU_ASSERT_EQUAL(k.sends, 1);
    end();
}

static void completions_that_never_come_are_not_waited_for(void)
{
    begin(true);
    k.completes = false;
    k.read_ns = 1000;
    uint64_t before = k.clock_ns;
    xdp_measure(x);
    nothing_is_claimed();
    CU_ASSERT_EQUAL(k.frames, 32);
    CU_ASSERT(k.clock_ns - before < 11000000);
    CU_ASSERT_EQUAL(x->n_in_flight, 32);
    end();
}

static void a_slow_line_is_soon_left_alone(void)
{
    begin(true);
    k.frame_ns = 200000;
    xdp_measure(x);
    nothing_is_claimed();
    CU_ASSERT(k.frames <= 3 * 32);
    end();
}

static void a_pool_that_is_empty(void)
{
    struct zbuf *all[2048];
    begin(true);
    unsigned n = zbuf_alloc_bulk(x->budget, XDP_CHUNK - ZBUF_OVERHEAD, all, 2048);
    CU_ASSERT_FATAL(n < 2048);
    zbuf_free_bulk(all + n - 40, 40); /* enough for the heads only */
    xdp_measure(x);
    nothing_is_claimed();
    CU_ASSERT_EQUAL(k.sends, 0);
    zbuf_free_bulk(all, n - 40);
    end();
}

static void frames_that_need_several_anyway(void)
{
    begin(true);
    x->nif.caps.mtu = XDP_RX_ROOM - ETH_HEADER + 1;
    xdp_measure(x);
    nothing_is_claimed();
    CU_ASSERT_EQUAL(k.sends, 0);
    end();
}

CHECK_MAIN("netif_measure", CHECK(a_dear_descriptor_is_not_cheap), CHECK(a_cheap_one_is),
           CHECK(what_disturbs_one_batch_does_not_count), CHECK(without_gather_there_is_no_choice),
           CHECK(a_device_that_drops_is_left_alone), CHECK(a_device_that_is_gone),
           CHECK(completions_that_never_come_are_not_waited_for),
           CHECK(a_slow_line_is_soon_left_alone), CHECK(a_pool_that_is_empty),
           CHECK(frames_that_need_several_anyway))
