/* netif_rss_test.c - Toeplitz' hash against the published verification suite, the queue that
 * follows from it, and a driver that the test plays. */
#include <errno.h>
#include <linux/ethtool.h>
#include <stdlib.h>

#include "check.h"
#include "netif/rss.h"

/* "Verifying the RSS hash calculation" (Microsoft's NDIS documentation): key, tuples, hashes. */
static const uint8_t key[RSS_KEY] = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
                                     0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
                                     0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
                                     0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};
static const struct {
    struct rss_end from, to;
    uint32_t addresses, with_ports;
} v4[] = {
    {{{66, 9, 149, 187}, 2794}, {{161, 142, 100, 80}, 1766}, 0x323e8fc2, 0x51ccc178},
    {{{199, 92, 111, 2}, 14230}, {{65, 69, 140, 83}, 4739}, 0xd718262a, 0xc626b0ea},
    {{{24, 19, 198, 95}, 12898}, {{12, 22, 207, 184}, 38024}, 0xd2d0a5de, 0x5c2b394a},
    {{{38, 27, 205, 30}, 48228}, {{209, 142, 163, 6}, 2217}, 0x82989176, 0xafc7327f},
    {{{153, 39, 163, 191}, 44251}, {{202, 188, 127, 2}, 1303}, 0x5d1809c5, 0x10e828a2},
};
static const struct {
    uint8_t in[36];
    uint32_t addresses, with_ports;
} v6[] = {
    {{0x3f, 0xfe, 0x25, 0x01, 0x02, 0, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0,    7,    0x3f, 0xfe,
      0x25, 0x01, 0x02, 0,    0,    3, 0,    0,    0, 0, 0, 0, 0, 1, 0x0a, 0xea, 0x06, 0xe6},
     0x2cc18cd5,
     0x40207d3d},
};

static void hash_is_the_published_one(void)
{
    for (unsigned i = 0; i < sizeof v4 / sizeof v4[0]; i++) {
        const struct rss_end *f = &v4[i].from, *t = &v4[i].to;
        uint8_t in[12] = {f->ip[0],
                          f->ip[1],
                          f->ip[2],
                          f->ip[3],
                          t->ip[0],
                          t->ip[1],
                          t->ip[2],
                          t->ip[3],
                          (uint8_t)(f->port >> 8),
                          (uint8_t)f->port,
                          (uint8_t)(t->port >> 8),
                          (uint8_t)t->port};
        CU_ASSERT_EQUAL(rss_toeplitz(key, in, 8), v4[i].addresses);
        CU_ASSERT_EQUAL(rss_toeplitz(key, in, 12), v4[i].with_ports);
    }
    for (unsigned i = 0; i < sizeof v6 / sizeof v6[0]; i++) {
        CU_ASSERT_EQUAL(rss_toeplitz(key, v6[i].in, 32), v6[i].addresses);
        CU_ASSERT_EQUAL(rss_toeplitz(key, v6[i].in, 36), v6[i].with_ports);
    }
}

/* ---- a driver */

static struct {
    int says; /* 0 or -errno */
    uint32_t table, key_size;
    uint8_t hfunc, xfrm;
    int fields_say;
    uint64_t fields;
    bool shrinks; /* between the question for sizes and the other */
    unsigned asked;
} driver;

static int kernel(void *ctx, void *cmd)
{
    CU_ASSERT_PTR_EQUAL(ctx, &driver);
    driver.asked++;
    if (*(uint32_t *)cmd == ETHTOOL_GRXFH) {
        struct ethtool_rxnfc *what = cmd;
        CU_ASSERT_EQUAL(what->flow_type, TCP_V4_FLOW);
        what->data = driver.fields;
        return driver.fields_say;
    }
    CU_ASSERT_EQUAL_FATAL(*(uint32_t *)cmd, ETHTOOL_GRSSH);
    struct ethtool_rxfh *a = cmd;
    bool all = a->indir_size != 0;
    if (driver.says)
        return driver.says;
    if (all) { /* as the kernel does it: what was asked for has to fit exactly */
        CU_ASSERT_EQUAL_FATAL(a->indir_size, driver.table);
        CU_ASSERT_EQUAL_FATAL(a->key_size, driver.key_size);
        for (uint32_t i = 0; i < driver.table; i++)
            a->rss_config[i] = i % 4;
        for (uint32_t i = 0; i < driver.key_size; i++)
            ((uint8_t *)(a->rss_config + driver.table))[i] = i < RSS_KEY ? key[i] : 0xee;
        if (driver.shrinks)
            a->indir_size--;
    }
    a->indir_size = all ? a->indir_size : driver.table;
    a->key_size = driver.key_size;
    a->hfunc = driver.hfunc;
    a->rsvd8[0] = driver.xfrm;
    return 0;
}
static const struct ethtool asks = {kernel, &driver};
#define ALL_FIELDS (RXH_IP_SRC | RXH_IP_DST | RXH_L4_B_0_1 | RXH_L4_B_2_3)

static void new_driver(void)
{
    memset(&driver, 0, sizeof driver);
    driver.table = 128;
    driver.key_size = RSS_KEY;
    driver.hfunc = RSS_TOEPLITZ;
    driver.fields = ALL_FIELDS;
}

static void queue_is_the_tables(void)
{
    static const uint32_t sizes[] = {40, 16, 52};
    struct rss *r = NULL;
    new_driver();
    for (unsigned s = 0; s < 3; s++) {
        driver.key_size = sizes[s];
        CU_ASSERT_EQUAL_FATAL(rss_read(&asks, &r), 0);
        for (unsigned i = 0; i < sizeof v4 / sizeof v4[0]; i++)
            CU_ASSERT_EQUAL(rss_queue(r, &v4[i].from, &v4[i].to), v4[i].with_ports % 128 % 4);
        CU_ASSERT_TRUE(rss_has_queue(r, 0));
        CU_ASSERT_TRUE(rss_has_queue(r, 3));
        CU_ASSERT_FALSE(rss_has_queue(r, 4));
        free(r);
    }
    driver.table = 3; /* a table need not have a power of two */
    driver.key_size = RSS_KEY;
    CU_ASSERT_EQUAL_FATAL(rss_read(&asks, &r), 0);
    for (unsigned i = 0; i < sizeof v4 / sizeof v4[0]; i++)
        CU_ASSERT_EQUAL(rss_queue(r, &v4[i].from, &v4[i].to), v4[i].with_ports % 3);
    free(r);
}

/* Both directions of a connection alike, and by what the kernel's documentation says. */
static void symmetric_input(void)
{
    const struct rss_end *f = &v4[0].from, *t = &v4[0].to;
    uint8_t in[12];
    new_driver();
    for (uint8_t xfrm = 1; xfrm <= 2; xfrm++) {
        struct rss *r = NULL;
        driver.xfrm = xfrm;
        CU_ASSERT_EQUAL_FATAL(rss_read(&asks, &r), 0);
        for (unsigned i = 0; i < 4; i++) {
            in[4 + i] = f->ip[i] ^ t->ip[i];
            in[i] = xfrm == RSS_XFRM_SYM_XOR ? in[4 + i] : f->ip[i] | t->ip[i];
        }
        uint16_t x = f->port ^ t->port, y = xfrm == RSS_XFRM_SYM_XOR ? x : f->port | t->port;
        in[8] = (uint8_t)(y >> 8);
        in[9] = (uint8_t)y;
        in[10] = (uint8_t)(x >> 8);
        in[11] = (uint8_t)x;
        CU_ASSERT_EQUAL(rss_queue(r, f, t), rss_toeplitz(key, in, 12) % 128 % 4);
        CU_ASSERT_EQUAL(rss_queue(r, f, t), rss_queue(r, t, f));
        free(r);
    }
}

static void what_is_not_known_is_not_guessed(void)
{
    struct rss *r = NULL;
    new_driver();
    driver.says = -EOPNOTSUPP; /* veth */
    CU_ASSERT_EQUAL(rss_read(&asks, &r), -EOPNOTSUPP);
    CU_ASSERT_EQUAL(driver.asked, 1);
    new_driver();
    driver.hfunc = 2 * RSS_TOEPLITZ;
    CU_ASSERT_EQUAL(rss_read(&asks, &r), -EOPNOTSUPP);
    new_driver();
    driver.xfrm = 3;
    CU_ASSERT_EQUAL(rss_read(&asks, &r), -EOPNOTSUPP);
    new_driver();
    driver.key_size = 12; /* too short for what is hashed */
    CU_ASSERT_EQUAL(rss_read(&asks, &r), -EOPNOTSUPP);
    new_driver();
    driver.key_size = 0;
    CU_ASSERT_EQUAL(rss_read(&asks, &r), -EOPNOTSUPP);
    new_driver();
    driver.table = 0;
    CU_ASSERT_EQUAL(rss_read(&asks, &r), -EOPNOTSUPP);
    new_driver();
    driver.table = 1u << 31;
    CU_ASSERT_EQUAL(rss_read(&asks, &r), -EOPNOTSUPP);
    new_driver();
    driver.shrinks = true;
    CU_ASSERT_EQUAL(rss_read(&asks, &r), -EOPNOTSUPP);
    new_driver();
    driver.fields = RXH_IP_SRC | RXH_IP_DST; /* then no port changes anything */
    CU_ASSERT_EQUAL(rss_read(&asks, &r), -EOPNOTSUPP);
    CU_ASSERT_PTR_NULL(r);
    driver.fields_say = -EOPNOTSUPP; /* it does not say of what: as nearly all */
    CU_ASSERT_EQUAL(rss_read(&asks, &r), 0);
    free(r);
}

static void what_is_wrong_is_not_believed(void)
{
    struct rss r = {.n = 1};
    struct rss_use u = {.rss = &r};
    for (unsigned i = 0; i < 1000; i++) { /* a few in a long time are no proof */
        rss_foretold(&u);
        rss_was_wrong(&u, i / 8);
    }
    CU_ASSERT_PTR_EQUAL(u.rss, &r);
    rss_was_wrong(&u, 1000 / 8 + 8);
    CU_ASSERT_PTR_NULL(u.rss);
}

CHECK_MAIN("netif rss", CHECK(hash_is_the_published_one), CHECK(queue_is_the_tables),
           CHECK(symmetric_input), CHECK(what_is_not_known_is_not_guessed),
           CHECK(what_is_wrong_is_not_believed))
