/* netif_capture_test.c - captures, read back by a reader of its own: every block, its length at
 * both ends, its options. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "netif/netif.h"

#define POOL (16u << 20)

static struct zbuf_pool *pool;
static struct netif *end[2];
static char path[] = "/tmp/netif_capture_test.XXXXXX";

static void open_pair(void)
{
    struct netif_error err = {""};
    pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = POOL, .no_huge = true});
    const struct netif_mem_config cfg = {.pool = {pool, pool}, .gather = true};
    CU_ASSERT_EQUAL_FATAL(netif_open_mem_pair(&cfg, end, &err), 0);
    strcpy(path + sizeof path - 7, "XXXXXX");
    int fd = mkstemp(path);
    CU_ASSERT_FATAL(fd >= 0);
    close(fd);
}
static void close_pair(void)
{
    netif_close(end[0]);
    netif_close(end[1]);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
    unlink(path);
}

/* ---- reading it back */

struct packet {
    const uint8_t *bytes;
    uint32_t len, direction;
    char comment[300];
    uint64_t ns;
};

static uint8_t file[4u << 20];
static size_t file_len;
static struct packet packets[8192];
static unsigned n_packets;
static char name[64], about[64];

static uint32_t u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static void text(char *out, size_t size, const uint8_t *p, uint32_t len)
{
    CU_ASSERT_FATAL(len < size);
    memcpy(out, p, len);
    out[len] = 0;
}

/* The options from p on, up to the block's closing length. */
static void options(const uint8_t *p, const uint8_t *stop, bool interface, struct packet *k)
{
    for (;;) {
        CU_ASSERT_FATAL(p + 4 <= stop);
        uint32_t code = u32(p) & 0xffff, len = u32(p) >> 16;
        p += 4;
        if (code == 0)
            break;
        CU_ASSERT_FATAL(p + len <= stop);
        if (interface && code == 2)
            text(name, sizeof name, p, len);
        if (interface && code == 3)
            text(about, sizeof about, p, len);
        if (interface && code == 9)
            CU_ASSERT_EQUAL(p[0], 9);
        if (k && code == 1)
            text(k->comment, sizeof k->comment, p, len);
        if (k && code == 2)
            k->direction = u32(p);
        p += (len + 3) & ~3u;
    }
    CU_ASSERT_PTR_EQUAL(p, stop);
}

static void read_back(void)
{
    FILE *f = fopen(path, "rb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    file_len = fread(file, 1, sizeof file, f);
    CU_ASSERT_FATAL(file_len < sizeof file);
    fclose(f);
    memset(packets, 0, sizeof packets);
    n_packets = 0;
    unsigned block = 0;
    for (size_t at = 0; at < file_len; block++) {
        const uint8_t *p = file + at;
        CU_ASSERT_FATAL(file_len - at >= 12);
        uint32_t type = u32(p), len = u32(p + 4);
        CU_ASSERT_FATAL(len >= 12 && len % 4 == 0 && len <= file_len - at);
        CU_ASSERT_EQUAL_FATAL(u32(p + len - 4), len);
        const uint8_t *stop = p + len - 4;
        if (block == 0) {
            CU_ASSERT_EQUAL_FATAL(type, 0x0a0d0d0a);
            CU_ASSERT_EQUAL(u32(p + 8), 0x1a2b3c4d);
            options(p + 24, stop, false, NULL);
        } else if (block == 1) {
            CU_ASSERT_EQUAL_FATAL(type, 1);
            CU_ASSERT_EQUAL(u32(p + 8), 1); /* Ethernet */
            options(p + 16, stop, true, NULL);
        } else {
            CU_ASSERT_EQUAL_FATAL(type, 6);
            CU_ASSERT_FATAL(n_packets < sizeof packets / sizeof packets[0]);
            struct packet *k = &packets[n_packets++];
            CU_ASSERT_EQUAL(u32(p + 8), 0);
            k->ns = (uint64_t)u32(p + 12) << 32 | u32(p + 16);
            k->len = u32(p + 20);
            CU_ASSERT_EQUAL(u32(p + 24), k->len);
            k->bytes = p + 28;
            CU_ASSERT_FATAL(28 + k->len <= len);
            options(p + 28 + ((k->len + 3) & ~3u), stop, false, k);
        }
        at += len;
    }
    CU_ASSERT(block >= 2);
}

/* ---- making frames */

static void start(unsigned which, uint64_t max, uint32_t ring_s)
{
    struct netif_error err = {""};
    const struct netif_capture_config cfg = {
        .path = path, .max_bytes = max, .ring_s = ring_s, .ring_bytes = 1u << 20};
    CU_ASSERT_EQUAL_FATAL(netif_capture_start(end[which], &cfg, &err), 0);
}

/* Frame `number`, of len bytes: in two parts if it is odd. */
static void send_frame(uint32_t number, uint32_t len)
{
    struct zbuf *zb = zbuf_alloc(pool, len);
    CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
    for (uint32_t i = 0; i < len; i++)
        zb->data[i] = (uint8_t)(number * 7 + i);
    memcpy(zb->data, &number, 4);
    struct zest_frame f = {.seg[0] = {zb->data, len}, .n = 1};
    if (number % 2) {
        f.seg[0].len = 20;
        f.seg[1].addr = zb->data + 20;
        f.seg[1].len = len - 20;
        f.n = 2;
        zbuf_ref(zb);
    }
    netif_tx(end[0], &f, 1);
}
static void drain(void)
{
    struct zbuf *in[64];
    unsigned n;
    while ((n = netif_rx(end[1], in, 64)) > 0)
        zbuf_free_bulk(in, n);
}
static uint32_t len_of(uint32_t number)
{
    return 60 + number * 131 % 1400;
}
/* Packets are the frames `first` and on, without a gap. */
static void follow(uint32_t first)
{
    for (unsigned i = 0; i < n_packets; i++) {
        uint32_t number = first + i;
        bool same = packets[i].len == len_of(number) && u32(packets[i].bytes) == number;
        for (uint32_t k = 4; same && k < packets[i].len; k++)
            same = packets[i].bytes[k] == (uint8_t)(number * 7 + k);
        CU_ASSERT_TRUE_FATAL(same);
        CU_ASSERT(i == 0 || packets[i].ns >= packets[i - 1].ns);
    }
}

/* ---- tests */

static void both_ways_with_name(void)
{
    open_pair();
    start(1, 0, 0);
    struct zbuf *in[4];
    send_frame(0, 61);
    CU_ASSERT_EQUAL_FATAL(netif_rx(end[1], in, 4), 1);
    netif_tx(end[1], &(struct zest_frame){.seg[0] = {in[0]->data, 60}, .n = 1}, 1);
    struct netif_capture_stats st;
    netif_capture_stop(end[1], &st);
    CU_ASSERT_EQUAL(st.frames, 2);
    CU_ASSERT_EQUAL(st.lost, 0);
    CU_ASSERT_FALSE(st.failed);
    read_back();
    CU_ASSERT_EQUAL_FATAL(n_packets, 2);
    CU_ASSERT_STRING_EQUAL(name, "mem1");
    CU_ASSERT_STRING_EQUAL(about, "mem");
    CU_ASSERT_EQUAL(packets[0].len, 61);
    CU_ASSERT_EQUAL(packets[0].direction, 1);
    CU_ASSERT_EQUAL(packets[1].len, 60);
    CU_ASSERT_EQUAL(packets[1].direction, 2);
    CU_ASSERT_STRING_EQUAL(packets[0].comment, "");
    netif_rx(end[0], in, 1);
    zbuf_free(in[0]);
    close_pair();
}

static void everything_reaches_the_file(void)
{
    open_pair();
    start(0, 0, 0);
    for (uint32_t i = 0; i < 4000; i++) {
        send_frame(i, len_of(i));
        drain();
    }
    netif_capture_stop(end[0], NULL);
    read_back();
    CU_ASSERT_EQUAL(n_packets, 4000);
    follow(0);
    close_pair();
}

static void ends_at_its_size(void)
{
    struct netif_capture_stats st;
    open_pair();
    start(0, 100000, 0);
    for (uint32_t i = 0; i < 1000; i++) {
        send_frame(i, len_of(i));
        drain();
    }
    netif_capture_stop(end[0], &st);
    read_back();
    CU_ASSERT(file_len <= 100000 && file_len > 98000);
    CU_ASSERT_EQUAL(st.frames, n_packets);
    CU_ASSERT_EQUAL(st.frames + st.lost, 1000);
    follow(0);
    close_pair();
}

static void a_full_disk_is_told(void)
{
    struct netif_capture_stats st;
    struct netif_error err = {""};
    open_pair();
    const struct netif_capture_config cfg = {.path = "/dev/full"};
    CU_ASSERT_EQUAL(netif_capture_start(end[0], &cfg, &err), -EIO);
    CU_ASSERT_NOT_EQUAL(err.text[0], 0);
    netif_capture_stop(end[0], &st); /* there is none */
    CU_ASSERT_EQUAL(st.frames, 0);
    CU_ASSERT_EQUAL(netif_capture_save(end[0], "?"), -EINVAL);
    close_pair();
}

/* A ring of 1 MiB: as many as fit, the last ones, whole; a second save adds what came since. */
static void a_ring_keeps_the_last(void)
{
    open_pair();
    start(0, 0, 60);
    for (uint32_t i = 0; i < 5000; i++) {
        send_frame(i, len_of(i));
        drain();
    }
    CU_ASSERT_EQUAL(netif_capture_save(end[0], "the test asks"), 0);
    read_back();
    CU_ASSERT(n_packets > 1000 && n_packets < 2000); /* of 800 bytes on average */
    unsigned first = 5000 - n_packets;
    follow(first);
    CU_ASSERT_STRING_EQUAL(packets[n_packets - 1].comment, "saved here: the test asks");
    CU_ASSERT_STRING_EQUAL(packets[n_packets - 2].comment, "");

    CU_ASSERT_EQUAL(netif_capture_save(end[0], "again"), 0); /* nothing new: nothing is written */
    for (uint32_t i = 5000; i < 5010; i++) {
        send_frame(i, len_of(i));
        drain();
    }
    CU_ASSERT_EQUAL(netif_capture_save(end[0], "once more"), 0);
    send_frame(5010, 60);
    drain();
    struct netif_capture_stats st;
    netif_capture_stop(end[0], &st); /* what nobody saved is forgotten */
    read_back();
    CU_ASSERT_EQUAL(n_packets, 5010 - first);
    CU_ASSERT_EQUAL(st.frames, n_packets);
    follow(first);
    CU_ASSERT_STRING_EQUAL(packets[n_packets - 1].comment, "saved here: once more");
    close_pair();
}

static void a_ring_forgets_what_is_old(void)
{
    open_pair();
    start(0, 0, 1);
    send_frame(0, len_of(0));
    usleep(1100000);
    send_frame(1, len_of(1));
    drain();
    CU_ASSERT_EQUAL(netif_capture_save(end[0], "now"), 0);
    netif_capture_stop(end[0], NULL);
    read_back();
    CU_ASSERT_EQUAL(n_packets, 1);
    follow(1);
    close_pair();
}

static void says_why_it_is_sent(void)
{
    static const char *const said[] = {
#define WHY(name, what) what,
        ZEST_WHYS(WHY)
#undef WHY
    };
    open_pair();
    start(0, 0, 0);
    for (unsigned i = 0; i < sizeof said / sizeof said[0]; i++) {
        struct zbuf *zb = zbuf_alloc(pool, 60);
        CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
        memset(zb->data, 0, 60);
        netif_tx(end[0], &(struct zest_frame){.seg[0] = {zb->data, 60}, .n = 1, .why = (uint8_t)i},
                 1);
    }
    drain();
    netif_capture_stop(end[0], NULL);
    read_back();
    CU_ASSERT_EQUAL_FATAL(n_packets, sizeof said / sizeof said[0]);
    for (unsigned i = 0; i < n_packets; i++)
        CU_ASSERT_STRING_EQUAL(packets[i].comment, said[i]);
    close_pair();
}

/* A checksum that the link is to fill in is there in the capture, and not yet in the frame. */
static void checksums_are_filled_in(void)
{
    open_pair();
    start(0, 0, 0);
    struct zbuf *zb = zbuf_alloc(pool, 61), *in[1];
    memset(zb->data, 0, 61);
    memcpy(zb->data + 34, (uint8_t[]){0x12, 0x34, 0xff, 0xff}, 4);
    zb->data[60] = 0x80; /* an odd last byte counts as the upper half of a word */
    netif_tx(
        end[0],
        &(struct zest_frame){
            .seg[0] = {zb->data, 61}, .n = 1, .csum = true, .csum_start = 34, .csum_offset = 16},
        1);
    netif_capture_stop(end[0], NULL);
    CU_ASSERT_EQUAL_FATAL(netif_rx(end[1], in, 1), 1);
    zbuf_free(in[0]);
    read_back();
    CU_ASSERT_EQUAL_FATAL(n_packets, 1);
    /* 0x1234 + 0xffff + 0x8000 = 0x19233 -> 0x9234, complemented */
    CU_ASSERT_EQUAL(packets[0].bytes[50], 0x6d);
    CU_ASSERT_EQUAL(packets[0].bytes[51], 0xcb);
    close_pair();
}

/* Of four frames the stack drops three, each for a reason of its own; what it did with each is
 * told of that one. */
static void says_why_it_was_dropped(void)
{
    static const struct {
        uint8_t frame[42];
        const char *comment;
    } in_frames[] = {
        {{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00, 0x55}, "drop_ip_version"},
        {{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x08, 0x00, 0x45}, "drop_eth_not_ours"},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0,  0, 0, 0, 1, 0x08, 0x06, 0, 1, 8, 0,  6, 4, 0,
          1,    2,    0,    0,    0,    0,    1, 10, 0, 0, 1, 0, 0,    0,    0, 0, 0, 10, 0, 0, 2},
         NULL},
        {{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd}, "drop_eth_type"},
    };
    const unsigned n = sizeof in_frames / sizeof in_frames[0];
    open_pair();
    struct zest_config cfg = {.pool = pool, .prefix_len = 24, .max_conns = 16};
    struct zest *z;
    memcpy(cfg.mac, netif_caps(end[1])->mac, 6);
    zest_addr_parse(&cfg.ip, "10.0.0.2", 0);
    void *mem = aligned_alloc(64, (zest_size(&cfg) + 63) & ~63ul);
    CU_ASSERT_EQUAL_FATAL(zest_init(mem, &cfg, &z), 0);
    start(1, 0, 0);
    for (unsigned i = 0; i < n; i++) {
        struct zbuf *zb = zbuf_alloc(pool, 42);
        memcpy(zb->data, in_frames[i].frame, 42);
        netif_tx(end[0], &(struct zest_frame){.seg[0] = {zb->data, 42}, .n = 1}, 1);
    }
    struct zbuf *in[8];
    CU_ASSERT_EQUAL_FATAL(netif_rx(end[1], in, 8), n);
    netif_input(end[1], z, 1000, in, n);
    netif_capture_stop(end[1], NULL);
    read_back();
    CU_ASSERT_EQUAL_FATAL(n_packets, n);
    for (unsigned i = 0; i < n; i++) {
        if (in_frames[i].comment) {
            CU_ASSERT_PTR_NOT_NULL(strstr(packets[i].comment, in_frames[i].comment));
            CU_ASSERT_PTR_EQUAL(strstr(packets[i].comment, "dropped: "), packets[i].comment);
        } else {
            CU_ASSERT_STRING_EQUAL(packets[i].comment, "");
        }
    }
    zest_fini(z);
    free(mem);
    close_pair();
}

CHECK_MAIN("netif_capture", CHECK(both_ways_with_name), CHECK(everything_reaches_the_file),
           CHECK(ends_at_its_size), CHECK(a_full_disk_is_told), CHECK(a_ring_keeps_the_last),
           CHECK(a_ring_forgets_what_is_old), CHECK(says_why_it_is_sent),
           CHECK(checksums_are_filled_in), CHECK(says_why_it_was_dropped))
