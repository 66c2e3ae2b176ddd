/* netif_link_test.c - a link that gives nothing back is told of once, and so is that it does again.
 */
#include <errno.h>
#include <linux/if.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "netif/loop_link.h"

static unsigned waiting;
static unsigned in_flight(const struct netif *nif)
{
    (void)nif;
    return waiting;
}
static const struct netif_ops ops = {.in_flight = in_flight};

static unsigned told[8];
static uint32_t value;
static void note(void *ctx, const struct netif_link_event *e)
{
    (void)ctx;
    told[e->what]++;
    value = e->value;
}

#define SECOND 1000000000ull

static struct netif nif;
static struct netif_loop_config cfg = {.nif = &nif, .on_link_change = note};
static struct loop_link l;

static void begin(void)
{
    nif = (struct netif){.ops = &ops, .caps.kind = "mem"};
    memset(told, 0, sizeof told);
    waiting = 0;
    loop_link_open(&l, &cfg);
    CU_ASSERT_EQUAL(l.watch.fd, -1);
    loop_link_check(&l, SECOND);
}

static void no_completion_ever(void)
{
    begin();
    uint64_t now = 100 * SECOND;
    loop_link_check(&l, now);
    for (int i = 0; i < 20; i++) { /* goes on sending; nothing comes back */
        nif.stats.tx_frames += 2;
        waiting += 2;
        now += SECOND / 2;
        loop_link_check(&l, now);
        CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], i >= 10); /* 5 s after the first look at it */
    }
    CU_ASSERT_EQUAL(told[NETIF_LINK_RESUMED], 0);
    waiting -= 1;
    loop_link_check(&l, now);
    CU_ASSERT_EQUAL(told[NETIF_LINK_RESUMED], 1);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 1);
    for (int i = 0; i < 5; i++) /* and again nothing */
        loop_link_check(&l, now += SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 2);
    CU_ASSERT_EQUAL(value, 39);
}

static void slow_is_not_stalled(void)
{
    begin();
    uint64_t now = SECOND;
    for (int i = 0; i < 20; i++) { /* a frame comes back every 4 s, while more are sent */
        nif.stats.tx_frames += 2;
        waiting += 1;
        now += 4 * SECOND;
        loop_link_check(&l, now);
    }
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
    waiting = 0;
    loop_link_check(&l, now + 100 * SECOND); /* idle is not stalled */
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
    now += 200 * SECOND;
    nif.stats.tx_frames += 1; /* the first frame after a long time is not late yet */
    waiting = 1;
    loop_link_check(&l, now);
    loop_link_check(&l, now + SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
    loop_link_check(&l, now + 30 * SECOND); /* it was us who did not look */
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
    l.down = true; /* what is down need not give back */
    waiting = 5;
    loop_link_check(&l, now + 101 * SECOND);
    loop_link_check(&l, now + 201 * SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
}

/* Nobody looks while there is nothing to do, and then not in the very moment that something is. */
static void after_an_idle_time_is_not_stalled(void)
{
    begin();
    for (int i = 1; i <= 3; i++) {
        uint64_t now = (uint64_t)i * 100 * SECOND;
        nif.stats.tx_frames++;
        waiting = 1;
        loop_link_check(&l, now);
        CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
        waiting = 0;
        loop_link_check(&l, now + SECOND);
    }
    nif.stats.tx_frames++;
    waiting = 1;
    for (uint64_t now = 400 * SECOND; now < 405 * SECOND; now += SECOND)
        loop_link_check(&l, now);
    loop_link_check(&l, 405 * SECOND - 1);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 0);
    loop_link_check(&l, 405 * SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 1);
}

/* ---- a kind that can be opened anew */

static int reopen_says;
static unsigned reopens;
static int reopen(struct netif *n)
{
    CU_ASSERT_PTR_EQUAL(n, &nif);
    reopens++;
    if (reopen_says == 0)
        waiting = 0; /* taken back */
    return reopen_says;
}
static const struct netif_ops reopens_ops = {.in_flight = in_flight, .reopen = reopen};
static struct zbuf_pool *pool;
static void *mem;

static void begin_with_stack(void)
{
    begin();
    nif.ops = &reopens_ops;
    reopen_says = 0;
    reopens = 0;
    pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = 8u << 20, .no_huge = true});
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool);
    struct zest_config zc = {.pool = pool, .mac = {2}, .secret = {1}};
    CU_ASSERT_EQUAL_FATAL(zest_addr_parse(&zc.ip, "10.0.0.1", 0), 0);
    mem = aligned_alloc(64, (zest_size(&zc) + 63) & ~(size_t)63);
    CU_ASSERT_EQUAL_FATAL(zest_init(mem, &zc, &cfg.z), 0);
}

static void end_with_stack(void)
{
    zest_fini(cfg.z);
    cfg.z = NULL;
    free(mem);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

static uint64_t send_and_wait(uint64_t now)
{
    nif.stats.tx_frames++;
    waiting++;
    loop_link_check(&l, now);
    for (int i = 0; i < 5; i++)
        loop_link_check(&l, now += SECOND);
    return now;
}

static void a_stall_is_mended(void)
{
    begin_with_stack();
    uint64_t now = send_and_wait(10 * SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 1);
    CU_ASSERT_EQUAL(told[NETIF_LINK_REOPENED], 1);
    CU_ASSERT_EQUAL(value, 1);
    CU_ASSERT_EQUAL(nif.stats.reopened, 1);
    CU_ASSERT_TRUE(l.fd_changed);
    loop_link_check(&l, now += SECOND); /* it has nothing, so it gave nothing back */
    CU_ASSERT_EQUAL(told[NETIF_LINK_RESUMED], 0);
    nif.stats.tx_frames++;
    waiting = 1;
    loop_link_check(&l, now += SECOND);
    waiting = 0;
    loop_link_check(&l, now += SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_RESUMED], 1);
    for (unsigned i = 0; i < 3; i++) /* the next stall has all its attempts again */
        now = send_and_wait(now + SECOND);
    CU_ASSERT_EQUAL(value, 3);
    CU_ASSERT_EQUAL(reopens, 4);
    end_with_stack();
}

static void attempts_are_bounded(void)
{
    begin_with_stack();
    uint64_t now = 10 * SECOND;
    for (unsigned i = 0; i < 10; i++)
        now = send_and_wait(now + SECOND);
    CU_ASSERT_EQUAL(reopens, 5);
    CU_ASSERT_EQUAL(told[NETIF_LINK_REOPENED], 5);
    CU_ASSERT_EQUAL(value, 5);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 1);
    CU_ASSERT_EQUAL(nif.error, 0);
    waiting--; /* what nobody believed in any more */
    loop_link_check(&l, now + SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_RESUMED], 1);
    end_with_stack();
}

static void the_kernel_takes_its_time(void)
{
    begin_with_stack();
    reopen_says = -EAGAIN;
    uint64_t now = send_and_wait(10 * SECOND);
    waiting = 0;
    CU_ASSERT_EQUAL(reopens, 1);
    CU_ASSERT_TRUE(l.closed);
    loop_link_check(&l, now + 1000000); /* not with every turn */
    CU_ASSERT_EQUAL(reopens, 1);
    loop_link_check(&l, now += SECOND);
    CU_ASSERT_EQUAL(reopens, 2);
    CU_ASSERT_EQUAL(told[NETIF_LINK_REOPENED], 0);
    reopen_says = 0;
    loop_link_check(&l, now += SECOND);
    CU_ASSERT_FALSE(l.closed);
    CU_ASSERT_EQUAL(told[NETIF_LINK_REOPENED], 1);
    CU_ASSERT_EQUAL(nif.error, 0);

    reopen_says = -EAGAIN; /* and now it never lets go: that ends, too */
    now = send_and_wait(now + SECOND);
    for (unsigned i = 0; i < 200 && nif.error == 0; i++)
        loop_link_check(&l, now += SECOND);
    CU_ASSERT_EQUAL(nif.error, -EBUSY);
    CU_ASSERT_EQUAL(reopens, 3 + 100);
    end_with_stack();
}

static void what_can_not_be_had_again_is_gone(void)
{
    begin_with_stack();
    reopen_says = -EINVAL;
    send_and_wait(10 * SECOND);
    CU_ASSERT_EQUAL(nif.error, -EINVAL);
    CU_ASSERT_EQUAL(told[NETIF_LINK_REOPENED], 0);
    CU_ASSERT_FALSE(l.closed);
    end_with_stack();
}

/* ---- a kind whose frames somebody can keep from us */

static int attached_says;
static unsigned asked;
static int attached(struct netif *n)
{
    CU_ASSERT_PTR_EQUAL(n, &nif);
    asked++;
    return attached_says;
}
static const struct netif_ops attached_ops = {.in_flight = in_flight, .attached = attached};

/* A loop of one's own asks at once, and then every half a minute, if nothing else happens. */
static void what_brings_us_frames_is_looked_for(void)
{
    struct netif_watch *w;
    uint64_t again = 0, now = 5 * SECOND;
    begin();
    nif.ops = &attached_ops;
    asked = 0;
    attached_says = 0;
    struct zest *none = (struct zest *)(void *)&nif; /* nothing is to be told to it */
    const struct netif_loop_config with = {.nif = &nif, .z = none, .on_link_change = note};
    CU_ASSERT_EQUAL_FATAL(netif_watch_open(&with, &w), 0);
    CU_ASSERT_EQUAL(netif_watch_turn(w, false, now, &again), 0);
    CU_ASSERT_EQUAL(asked, 1);
    CU_ASSERT_EQUAL(again, now + 30 * SECOND);
    CU_ASSERT_EQUAL(netif_watch_turn(w, false, now + SECOND, &again), 0);
    CU_ASSERT_EQUAL(asked, 1);
    CU_ASSERT_EQUAL(again, now + 30 * SECOND);
    attached_says = -EUNATCH;
    CU_ASSERT_EQUAL(netif_watch_turn(w, false, again, &again), -EUNATCH);
    CU_ASSERT_EQUAL(asked, 2);
    CU_ASSERT_EQUAL(again, ZEST_NEVER);
    attached_says = 0; /* that is the end of it */
    CU_ASSERT_EQUAL(netif_watch_turn(w, false, now + 100 * SECOND, &again), -EUNATCH);
    CU_ASSERT_EQUAL(asked, 2);
    netif_watch_close(w);
    struct netif_error why;
    netif_explain(&nif, -EUNATCH, &why);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "took zest's XDP program off"));
    netif_explain(&nif, -ENODEV, &why);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "is gone: No such device"));
}

/* Whatever rtnetlink tells of the interface, it may be about its program. */
static void a_message_about_it_is_a_reason_to_look(void)
{
    int fd[2];
    struct {
        struct nlmsghdr h;
        struct ifinfomsg m;
    } msg = {.h = {.nlmsg_len = sizeof msg, .nlmsg_type = RTM_NEWLINK},
             .m = {.ifi_index = 8, .ifi_flags = IFF_UP | IFF_LOWER_UP}};
    begin();
    nif.ops = &attached_ops;
    asked = 0;
    attached_says = 0;
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd), 0);
    l.watch = (struct watch){.fd = fd[0], .index = 7, .now = {.up = true, .carrier = true}};
    CU_ASSERT_EQUAL(send(fd[1], &msg, sizeof msg, 0), sizeof msg);
    CU_ASSERT_TRUE(loop_link_heard(&l, SECOND)); /* another interface */
    CU_ASSERT_EQUAL(asked, 0);
    msg.m.ifi_index = 7;
    CU_ASSERT_EQUAL(send(fd[1], &msg, sizeof msg, 0), sizeof msg);
    CU_ASSERT_TRUE(loop_link_heard(&l, SECOND));
    CU_ASSERT_EQUAL(asked, 1);
    attached_says = -EUNATCH;
    CU_ASSERT_EQUAL(send(fd[1], &msg, sizeof msg, 0), sizeof msg);
    CU_ASSERT_FALSE(loop_link_heard(&l, SECOND));
    CU_ASSERT_EQUAL(nif.error, -EUNATCH);
    loop_link_close(&l);
    close(fd[1]);
}

/* ---- nothing comes in */

static bool may_say;
static bool may(struct netif *n)
{
    CU_ASSERT_PTR_EQUAL(n, &nif);
    return may_say;
}
static const struct netif_ops ear_ops = {
    .in_flight = in_flight, .reopen = reopen, .may_reopen = may, .attached = attached};

static struct netif_group_stats in_group;
void netif_group_get_stats(const struct netif_group *g, unsigned member,
                           struct netif_group_stats *out)
{
    CU_ASSERT_PTR_EQUAL(g, cfg.group);
    CU_ASSERT_EQUAL(member, 0);
    *out = in_group;
}

static void begin_to_listen(void)
{
    begin_with_stack();
    nif.ops = &ear_ops;
    may_say = true;
    attached_says = 0;
    nif.stats.rx_frames = 1;
    loop_link_check(&l, 2 * SECOND);
}

/* A frame a second, n times, which leave at once. */
static uint64_t send_into_silence(uint64_t now, unsigned n)
{
    while (n-- > 0) {
        nif.stats.tx_frames++;
        loop_link_check(&l, now += SECOND);
    }
    return now;
}

static void who_hears_nothing_listens_anew(void)
{
    begin_to_listen();
    uint64_t now = send_into_silence(10 * SECOND, 10);
    CU_ASSERT_EQUAL(reopens, 0);
    now = send_into_silence(now, 1); /* ten seconds after the first */
    CU_ASSERT_EQUAL(reopens, 1);
    CU_ASSERT_EQUAL(nif.stats.reopened, 1);
    CU_ASSERT_TRUE(l.fd_changed);
    CU_ASSERT_EQUAL(told[NETIF_LINK_REOPENED], 0);
    CU_ASSERT_EQUAL(told[NETIF_LINK_DEAF], 0);
    nif.stats.rx_frames++; /* and that was it */
    loop_link_check(&l, now += SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_DEAF], 1);
    CU_ASSERT_EQUAL(value, 10);
    now = send_into_silence(now, 11); /* so the next one is as soon */
    CU_ASSERT_EQUAL(reopens, 2);
    CU_ASSERT_EQUAL(told[NETIF_LINK_DEAF], 1);
    CU_ASSERT_EQUAL(nif.error, 0);
    end_with_stack();
}

/* A peer that died: once in each silence, without a word, and less and less often. */
static void nobody_there_is_not_deaf(void)
{
    begin_to_listen();
    uint64_t now = 10 * SECOND;
    for (unsigned i = 0; i < 10; i++) {
        unsigned wait = i < 6 ? 10u << i : 640;
        now = send_into_silence(now, wait);
        CU_ASSERT_EQUAL(reopens, i);
        now = send_into_silence(now, 1);
        CU_ASSERT_EQUAL(reopens, i + 1);
        now = send_into_silence(now, 1000);
        CU_ASSERT_EQUAL(reopens, i + 1);
        nif.stats.rx_frames++; /* it comes back, on its own */
        loop_link_check(&l, now += SECOND);
    }
    for (unsigned i = 0; i < 8; i++)
        CU_ASSERT_EQUAL(told[i], 0);
    CU_ASSERT_EQUAL(nif.error, 0);
    now += 2 * 3600 * SECOND; /* long ago */
    nif.stats.rx_frames++;
    loop_link_check(&l, now);
    send_into_silence(now, 11);
    CU_ASSERT_EQUAL(reopens, 11);
    end_with_stack();
}

static void silence_may_be_golden(void)
{
    begin_to_listen(); /* nothing sent, nothing to be heard */
    uint64_t now = 10 * SECOND;
    for (unsigned i = 0; i < 100; i++)
        loop_link_check(&l, now += SECOND);
    now = send_into_silence(now, 3); /* said, and that was all */
    for (unsigned i = 0; i < 100; i++)
        loop_link_check(&l, now += SECOND);
    nif.stats.rx_frames++;
    loop_link_check(&l, now);
    for (unsigned i = 0; i < 100; i++) { /* answered, each time late */
        now = send_into_silence(now, 9);
        nif.stats.rx_frames++;
        loop_link_check(&l, now);
    }
    l.down = true; /* it can't hear */
    now = send_into_silence(now, 100);
    l.down = false;
    now = send_into_silence(now, 9);
    cfg.group = (struct netif_group *)(void *)&in_group;
    for (unsigned i = 0; i < 10; i++) { /* it comes in on another queue */
        in_group.handed++;
        now = send_into_silence(now, 9);
    }
    cfg.group = NULL;
    in_group.handed = 0;
    CU_ASSERT_EQUAL(reopens, 0);
    nif.stats.rx_frames = 0; /* never yet heard anything */
    loop_link_check(&l, now);
    send_into_silence(now, 100);
    CU_ASSERT_EQUAL(reopens, 0);
    end_with_stack();
}

/* On a mere suspicion nothing is given up that can't be had again. */
static void what_works_is_not_put_at_risk(void)
{
    begin_to_listen();
    may_say = false;
    uint64_t now = send_into_silence(10 * SECOND, 100);
    CU_ASSERT_EQUAL(reopens, 0);
    nif.stats.rx_frames++;
    loop_link_check(&l, now);
    may_say = true;
    send_into_silence(now, 100);
    CU_ASSERT_EQUAL(reopens, 1);
    CU_ASSERT_EQUAL(told[NETIF_LINK_DEAF], 0);
    end_with_stack();

    begin_to_listen(); /* the kernel takes its time, and meanwhile the link goes down */
    reopen_says = -EAGAIN;
    now = send_into_silence(10 * SECOND, 11);
    CU_ASSERT_EQUAL(reopens, 1);
    CU_ASSERT_TRUE(l.closed);
    l.down = true;
    for (unsigned i = 0; i < 1000; i++)
        loop_link_check(&l, now += SECOND);
    CU_ASSERT_EQUAL(reopens, 1);
    l.down = false;
    reopen_says = 0;
    loop_link_check(&l, now += SECOND);
    CU_ASSERT_FALSE(l.closed);
    CU_ASSERT_EQUAL(nif.error, 0);
    end_with_stack();

    begin_to_listen(); /* somebody took our program off: that is why */
    attached_says = -EUNATCH;
    send_into_silence(10 * SECOND, 11);
    CU_ASSERT_EQUAL(reopens, 0);
    CU_ASSERT_EQUAL(nif.error, -EUNATCH);
    end_with_stack();
}

/* Of both at a time, what is known comes first. */
static void a_stall_is_no_deafness(void)
{
    begin_to_listen();
    uint64_t now = send_into_silence(10 * SECOND, 11);
    CU_ASSERT_EQUAL(reopens, 1);
    for (unsigned i = 0; i < 2; i++)
        now = send_and_wait(now + SECOND);
    CU_ASSERT_EQUAL(reopens, 3);
    CU_ASSERT_EQUAL(told[NETIF_LINK_STALLED], 1);
    CU_ASSERT_EQUAL(told[NETIF_LINK_REOPENED], 2);
    nif.stats.rx_frames++;
    loop_link_check(&l, now + SECOND);
    CU_ASSERT_EQUAL(told[NETIF_LINK_DEAF], 0);
    end_with_stack();
}

CHECK_MAIN("netif link", CHECK(no_completion_ever), CHECK(slow_is_not_stalled),
           CHECK(after_an_idle_time_is_not_stalled), CHECK(a_stall_is_mended),
           CHECK(attempts_are_bounded), CHECK(the_kernel_takes_its_time),
           CHECK(what_can_not_be_had_again_is_gone), CHECK(what_brings_us_frames_is_looked_for),
           CHECK(a_message_about_it_is_a_reason_to_look), CHECK(who_hears_nothing_listens_anew),
           CHECK(nobody_there_is_not_deaf), CHECK(silence_may_be_golden),
           CHECK(what_works_is_not_put_at_risk), CHECK(a_stall_is_no_deafness))
