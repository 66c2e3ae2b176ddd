/* record_ring_test.c - recordings that have overwritten their beginning: they begin with a
 * checkpoint, and whatever the stack was in the middle of then goes on in the replay.
 *
 * Each test brings two stacks into some situation, lets both recorders begin anew there, twice, so
 * that nothing older is left, and goes on. The replay then starts in that situation, and compares
 * its own state with the second checkpoint. */
#include "check.h"
#include "stack/record.h"
#include "tests/lib/rng.h"
#include "tests/unit/pair.h"
#include "tests/unit/player.h"

#define MEM (128u << 10)

struct ring {
    struct pair p;
    uint8_t *mem[2], *file;
    zest_handle l, c, s; /* B's listener, A's connection, and B's */
};

static struct zbuf *filled(struct ring *t, uint32_t len)
{
    struct zbuf *zb = zbuf_alloc(t->p.pool, len);
    CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
    memset(zb->data, 7, len);
    return zb;
}

static void settle(struct ring *t, uint64_t ns)
{
    uint64_t until = t->p.now_ns + ns;
    while (pair_step(&t->p, until)) {
        pair_events(&t->p, 0);
        pair_events(&t->p, 1);
    }
}

static void ring_open(struct ring *t, const struct zest_config *proto, size_t size)
{
    memset(t, 0, sizeof *t);
    struct zest_config cfg = proto ? *proto : (struct zest_config){.max_conns = 16};
    struct zest_addr b = pair_addr(1, 7);
    t->mem[0] = malloc(2 * size);
    t->file = malloc(2 * size);
    cfg.record_mem = t->mem[0];
    cfg.record_size = 2 * size;
    pair_open(&t->p, &cfg);
    CU_ASSERT_EQUAL_FATAL(zest_listen(t->p.z[1], &b, 0, &t->l), 0);
    CU_ASSERT_EQUAL_FATAL(zest_connect(t->p.z[0], &b, NULL, &t->c), 0);
    settle(t, 1000000);
    CU_ASSERT_EQUAL_FATAL(zest_accept(t->p.z[1], t->l, &t->s, NULL), 0);
}

/* Calls that do nothing, until a recorder has begun anew. */
static void begin_anew(struct ring *t, int i)
{
    struct zest_recording rec;
    size_t before = 0;
    for (unsigned n = 0;; n++) {
        CU_ASSERT_EQUAL(zest_set_user(t->p.z[i], 0, NULL), -EBADF);
        CU_ASSERT_EQUAL_FATAL(zest_recording(t->p.z[i], &rec), 0);
        /* the newest part is shorter than it was */
        size_t now = rec.part[rec.parts - 1].len;
        if (n > 0 && now < before)
            return;
        before = now;
        CU_ASSERT_FATAL(n < 100000);
    }
}

static void both_begin_anew(struct ring *t)
{
    for (int i = 0; i < 2; i++) {
        begin_anew(t, i);
        begin_anew(t, i);
    }
}

static void ring_close(struct ring *t, unsigned states)
{
    for (int i = 0; i < 2; i++) {
        struct zest_recording rec;
        struct zest_replay_result res;
        size_t len = player_gather(t->p.z[i], t->file, &rec);
        CU_ASSERT_FALSE(rec.full || rec.from_start);
        CU_ASSERT_EQUAL_FATAL(replay(t->file, len, &res), 0);
        CU_ASSERT_EQUAL(res.end, ZEST_REPLAY_IDENTICAL);
        if (res.end != ZEST_REPLAY_IDENTICAL)
            printf("%c: call %lu %s: %s (%ld, recorded %ld)\n", 'A' + i, (unsigned long)res.inputs,
                   res.call, res.why, (long)res.result, (long)res.recorded_result);
        CU_ASSERT_FALSE(res.from_start);
        CU_ASSERT_EQUAL(res.states, states);
    }
    CU_ASSERT_EQUAL(pair_close(&t->p), 0);
    free(t->mem[0]);
    free(t->file);
    player_end();
}

static unsigned drop_every, drop_from;
static bool every_nth(struct pair *p, int from, const uint8_t *frame, uint32_t len)
{
    static unsigned n;
    (void)p, (void)frame;
    return from == (int)drop_from && len > 200 && ++n % drop_every == 0;
}

/* ---- what it was in the middle of */

static void in_flight_and_lost(void)
{
    struct ring t;
    ring_open(&t, NULL, MEM);
    struct zbuf *zb = filled(&t, 60000);
    CU_ASSERT_EQUAL(zest_write(t.p.z[0], t.c, zb->data, 30000), 30000);
    CU_ASSERT_EQUAL(zest_write(t.p.z[0], t.c, zb->data + 40000, 20000), 20000); /* a second pbuf */
    char plain[700] = {0};
    CU_ASSERT_EQUAL(zest_write_copy(t.p.z[0], t.c, plain, sizeof plain), sizeof plain);
    zbuf_free(zb);
    t.p.drop = every_nth;
    drop_every = 1;
    drop_from = 0;
    pair_step(&t.p, t.p.now_ns + 1000); /* all of it is lost */
    both_begin_anew(&t);
    t.p.drop = NULL;
    settle(&t, 5000000000);
    struct zest_conn_info info;
    CU_ASSERT_EQUAL(zest_conn_info(t.p.z[0], t.c, &info), 0);
    CU_ASSERT(info.snd_queued == 0 && info.rtos > 0);
    ring_close(&t, 1);
}

static void out_of_order_and_unread(void)
{
    struct ring t;
    ring_open(&t, &(struct zest_config){.max_conns = 16, .gather = ZEST_GATHER_ALWAYS}, MEM);
    struct zbuf *zb = filled(&t, 90000);
    t.p.drop = every_nth;
    drop_every = 4;
    drop_from = 0;
    CU_ASSERT_EQUAL(zest_write(t.p.z[0], t.c, zb->data, 90000), 90000);
    zbuf_free(zb);
    settle(&t, 25000); /* holes at B; A does not know yet */
    both_begin_anew(&t);
    t.p.drop = NULL;
    settle(&t, 5000000000);
    struct zest_view v[128];
    int n = zest_read(t.p.z[1], t.s, v, 128);
    CU_ASSERT(n > 10);
    CU_ASSERT_EQUAL(zest_release(t.p.z[1], t.s, v, (unsigned)n), 0);
    ring_close(&t, 1);
}

/* An echo: what is lent is written, too, and lent and sent when the recording begins. */
static void lent_views(void)
{
    struct ring t;
    ring_open(&t, NULL, MEM);
    struct zbuf *zb = filled(&t, 20000);
    CU_ASSERT_EQUAL(zest_write(t.p.z[0], t.c, zb->data, 20000), 20000);
    zbuf_free(zb);
    settle(&t, 100000000);
    struct zest_view v[32];
    int n = zest_read(t.p.z[1], t.s, v, 32);
    CU_ASSERT_FATAL(n >= 10);
    for (int i = 0; i < 4; i++) /* echoed before */
        CU_ASSERT_EQUAL(zest_write(t.p.z[1], t.s, v[i].addr, v[i].len), v[i].len);
    both_begin_anew(&t);
    for (int i = 2; i < 8; i++) /* again, and first */
        CU_ASSERT_EQUAL(zest_write(t.p.z[1], t.s, v[i].addr, v[i].len), v[i].len);
    CU_ASSERT_EQUAL(zest_release(t.p.z[1], t.s, v, 3), 0);
    settle(&t, 100000000);
    CU_ASSERT_EQUAL(zest_release(t.p.z[1], t.s, v + 3, (unsigned)n - 3), 0);
    settle(&t, 100000000);
    struct zest_conn_info info;
    CU_ASSERT_EQUAL(zest_conn_info(t.p.z[1], t.s, &info), 0);
    CU_ASSERT(info.mem_held == 0 && info.rcv_lent == 0);
    n = zest_read(t.p.z[0], t.c, v, 32);
    CU_ASSERT_EQUAL(zest_release(t.p.z[0], t.c, v, (unsigned)n), 0);
    ring_close(&t, 1);
}

static void urgent_and_marked(void)
{
    struct ring t;
    ring_open(&t, NULL, MEM);
    zest_handle c, s;
    struct zest_addr b = pair_addr(1, 7);
    CU_ASSERT_EQUAL(zest_set_option(t.p.z[1], t.l, ZEST_OPT_ECN, ZEST_ECN_ASK), 0);
    CU_ASSERT_EQUAL(zest_connect(t.p.z[0], &b, NULL, &c), 0);
    CU_ASSERT_EQUAL(zest_set_option(t.p.z[0], c, ZEST_OPT_ECN, ZEST_ECN_ASK), 0);
    settle(&t, 1000000);
    CU_ASSERT_EQUAL(zest_accept(t.p.z[1], t.l, &s, NULL), 0);
    char plain[3000] = {0};
    CU_ASSERT_EQUAL(zest_write_copy(t.p.z[0], c, plain, sizeof plain), sizeof plain);
    CU_ASSERT_EQUAL(zest_urgent(t.p.z[0], c), 0);
    CU_ASSERT_EQUAL(zest_set_option(t.p.z[0], t.c, ZEST_OPT_KEEPALIVE, 1), 0);
    CU_ASSERT_EQUAL(zest_set_option(t.p.z[0], t.c, ZEST_OPT_CORK, 1), 0);
    CU_ASSERT_EQUAL(zest_set_option(t.p.z[0], t.c, ZEST_OPT_DSCP, 46), 0);
    CU_ASSERT_EQUAL(zest_write_copy(t.p.z[0], t.c, plain, 100), 100);
    both_begin_anew(&t);
    settle(&t, 3500000000);          /* keepalive probes, too */
    CU_ASSERT(t.p.events[1][8] > 0); /* ZEST_EV_URGENT */
    CU_ASSERT_EQUAL(zest_set_option(t.p.z[0], t.c, ZEST_OPT_CORK, 0), 0);
    settle(&t, 3500000000);
    ring_close(&t, 1);
}

/* Opening, waiting to be accepted, closing, ended but still known, in TIME-WAIT, and free again. */
static void every_age(void)
{
    struct ring t;
    ring_open(&t, NULL, MEM);
    struct pair *p = &t.p;
    struct zest_addr b = pair_addr(1, 7), nobody = pair_addr(1, 9), away;
    zest_handle c[6], s, more;
    zest_addr_parse(&away, "10.0.0.77", 80);
    for (int i = 0; i < 6; i++)
        CU_ASSERT_EQUAL_FATAL(zest_connect(p->z[0], &b, NULL, &c[i]), 0);
    settle(&t, 1000000);
    CU_ASSERT_EQUAL_FATAL(zest_accept(p->z[1], t.l, &s, NULL), 0);
    CU_ASSERT_EQUAL(zest_close(p->z[0], c[0]), 0); /* TIME-WAIT at A, after B's */
    settle(&t, 1000000);
    CU_ASSERT_EQUAL(zest_close(p->z[1], s), 0);
    settle(&t, 1000000);
    CU_ASSERT_EQUAL(zest_abort(p->z[0], c[1]), 0);    /* B has it in its queue, and loses it */
    CU_ASSERT_EQUAL(zest_shutdown(p->z[0], c[2]), 0); /* half closed */
    CU_ASSERT_EQUAL(zest_connect(p->z[0], &nobody, NULL, &more), 0); /* refused: known, but ended */
    settle(&t, 1000000);
    CU_ASSERT_EQUAL(zest_connect(p->z[0], &away, NULL, &more), 0); /* ARP asks for it */
    CU_ASSERT_EQUAL(zest_connect(p->z[0], &b, NULL, &more), 0);
    pair_send(p, 0); /* its SYN is on its way */
    CU_ASSERT_EQUAL(zest_write_copy(p->z[0], c[3], "here", 4), 4);
    both_begin_anew(&t);
    struct zest_stats st;
    zest_stats(p->z[0], &st);
    CU_ASSERT(st.time_wait == 1 && st.conns >= 8);
    settle(&t, 5000000000);
    for (int i = 0; i < 4; i++) {
        struct zest_view v;
        if (zest_accept(p->z[1], t.l, &s, NULL) < 0)
            break;
        if (zest_read(p->z[1], s, &v, 1) == 1)
            CU_ASSERT_EQUAL(zest_release(p->z[1], s, &v, 1), 0);
        CU_ASSERT_EQUAL(zest_close(p->z[1], s), 0);
    }
    settle(&t, 70000000000);    /* TIME-WAIT ends, ARP gives up and ages */
    for (int i = 0; i < 3; i++) /* slots are used again, in the order in which they were freed */
        CU_ASSERT_EQUAL(zest_connect(p->z[0], &b, NULL, &more), 0);
    settle(&t, 1000000);
    CU_ASSERT_EQUAL(zest_close(p->z[1], t.l), 0);
    settle(&t, 1000000);
    ring_close(&t, 1);
}

/* Frames that wait to be sent, limits on memory, and a writer who was refused some. */
static void waiting_for_memory(void)
{
    struct ring t;
    struct zest_config cfg = {.max_conns = 16, .rx_hold_max = 256u << 10, .snd_buf = 8u << 20};
    ring_open(&t, &cfg, MEM);
    struct pair *p = &t.p;
    static struct zbuf *hoard[100000];
    unsigned n = 0;
    CU_ASSERT_EQUAL(zest_set_option(p->z[1], t.l, ZEST_OPT_LISTENER_MEM_MAX, 128u << 10), 0);
    CU_ASSERT_EQUAL(zest_set_option(p->z[1], t.s, ZEST_OPT_MEM_MIN, 16u << 10), 0);
    struct zbuf *zb = filled(&t, 120000);
    for (int i = 0; i < 3; i++)
        (void)zest_write(p->z[0], t.c, zb->data, 120000);
    settle(&t, 1000000000); /* B's memory is full, its window closed */
    while (n < 100000 && (hoard[n] = zbuf_alloc(p->pool, 800)))
        n++;
    char plain[3000] = {0};
    CU_ASSERT_EQUAL(zest_write_copy(p->z[1], t.s, plain, sizeof plain), -ENOBUFS);
    /* A ping, whose answer is not fetched. */
    struct zbuf *ping = hoard[--n];
    static const uint8_t echo[] = {8, 0, 0xf7, 0xff, 0, 0, 0, 0};
    memset(ping->data, 0, 60);
    memcpy(ping->data, "\2\0\0\0\0\2\2\0\0\0\0\1\10\0", 14);
    memcpy(ping->data + 14, "\x45\0\0\x1c\0\0\0\0\x40\1\x66\xdf\x0a\0\0\1\x0a\0\0\2", 20);
    memcpy(ping->data + 34, echo, 8);
    ping->len = 60;
    zest_input(p->z[1], p->now_ns, &ping, 1);
    both_begin_anew(&t);
    while (n > 0)
        zbuf_free(hoard[--n]);
    settle(&t, 1000000000);
    struct zest_stats st;
    zest_stats(p->z[1], &st);
    CU_ASSERT_EQUAL(st.drop_icmp_csum + st.drop_ip_csum, 0);
    CU_ASSERT(t.p.events[1][3] > 0); /* ZEST_EV_WRITABLE */
    struct zest_view v[256];
    for (int k; (k = zest_read(p->z[1], t.s, v, 256)) > 0; settle(&t, 1000000000))
        CU_ASSERT_EQUAL(zest_release(p->z[1], t.s, v, (unsigned)k), 0);
    zbuf_free(zb);
    ring_close(&t, 1);
}

/* ---- its bounds */

/* A call that is longer than what is left takes the half before it along. */
static void a_call_too_long(void)
{
    struct ring t;
    ring_open(&t, NULL, 16u << 10);
    struct zbuf *in[64];
    both_begin_anew(&t);
    for (unsigned i = 0; i < 64; i++) { /* not IP: kept whole */
        in[i] = filled(&t, 1000);
        in[i]->len = 1000;
    }
    zest_input(t.p.z[1], t.p.now_ns, in, 64);
    struct zest_recording rec;
    CU_ASSERT_EQUAL(zest_recording(t.p.z[1], &rec), 0);
    CU_ASSERT(rec.parts == 2 && !rec.full && !rec.from_start);
    settle(&t, 1000000);
    CU_ASSERT_EQUAL(zest_write_copy(t.p.z[1], t.s, "x", 1), 1);
    settle(&t, 1000000);
    struct zest_replay_result res;
    size_t len = player_gather(t.p.z[1], t.file, &rec);
    CU_ASSERT_EQUAL(replay(t.file, len, &res), 0);
    CU_ASSERT_EQUAL(res.end, ZEST_REPLAY_IDENTICAL);
    CU_ASSERT(res.inputs > 0 && res.states == 0 && !res.full);
    begin_anew(&t, 1);
    ring_close(&t, 1);
}

/* The state is too large to go on from: what is there stays, and it says so, until it is smaller.
 */
static void a_state_too_large(void)
{
    struct ring t;
    struct zest_recording rec;
    struct zest_replay_result res;
    ring_open(&t, NULL, ZEST_RECORD_MIN);
    for (unsigned i = 0; i < 1000; i++)
        zest_set_user(t.p.z[0], 0, NULL);
    size_t len = player_gather(t.p.z[0], t.file, &rec);
    CU_ASSERT(rec.full && rec.from_start && len > 1000);
    CU_ASSERT_EQUAL(replay(t.file, len, &res), 0);
    CU_ASSERT_EQUAL(res.end, ZEST_REPLAY_IDENTICAL);
    CU_ASSERT(res.full && res.from_start);
    CU_ASSERT_EQUAL(pair_close(&t.p), 0);
    free(t.mem[0]);
    free(t.file);
    player_end();
}

/* Any byte of a checkpoint may be another: it is noticed, or has no meaning, and does no harm. */
static void hostile_states(void)
{
    struct ring t;
    ring_open(&t, NULL, MEM);
    struct zbuf *zb = filled(&t, 9000);
    CU_ASSERT_EQUAL(zest_write(t.p.z[0], t.c, zb->data, 9000), 9000);
    zbuf_free(zb);
    struct zest_view v[4];
    settle(&t, 200000);
    CU_ASSERT(zest_read(t.p.z[1], t.s, v, 2) == 2);
    zb = filled(&t, 3000);
    CU_ASSERT_EQUAL(zest_write(t.p.z[1], t.s, zb->data, 3000), 3000);
    zbuf_free(zb);
    begin_anew(&t, 1);
    settle(&t, 50000000);
    CU_ASSERT_EQUAL(zest_release(t.p.z[1], t.s, v, 2), 0);
    settle(&t, 50000000);
    struct zest_recording rec;
    CU_ASSERT_EQUAL_FATAL(zest_recording(t.p.z[1], &rec), 0);
    /* The head and the newer half alone. */
    size_t head = rec.part[0].len, len = head + rec.part[rec.parts - 1].len;
    uint8_t *copy = malloc(len);
    uint64_t state;
    memcpy(copy, rec.part[0].p, head);
    memcpy(copy + head, rec.part[rec.parts - 1].p, len - head);
    CU_ASSERT_EQUAL(copy[head], REC_STATE);
    memcpy(&state, copy + head + 1, 8);
    struct zest_replay_result res;
    CU_ASSERT_EQUAL(replay(copy, len, &res), 0);
    CU_ASSERT_EQUAL(res.end, ZEST_REPLAY_IDENTICAL);
    unsigned found = 0, n = 0;
    static const uint8_t poke[] = {1, 0x80, 0xff};
    for (size_t at = head; at < head + RECORD_STATE_LEN + state; at++)
        for (unsigned k = 0; k < sizeof poke; k++, n++) {
            copy[at] ^= poke[k];
            CU_ASSERT_EQUAL(replay(copy, len, &res), 0);
            found += res.end != ZEST_REPLAY_IDENTICAL;
            copy[at] ^= poke[k];
        }
    CU_ASSERT(found > n / 4); /* counters and timers that are off have no influence */
    for (size_t cut = head; cut < head + RECORD_STATE_LEN + state; cut += 7) {
        uint8_t *part = malloc(cut);
        memcpy(part, copy, cut);
        CU_ASSERT_EQUAL(replay(part, cut, &res), 0);
        CU_ASSERT(cut == head || res.end == ZEST_REPLAY_DAMAGED);
        free(part);
    }
    free(copy);
    int more = zest_read(t.p.z[1], t.s, v, 4);
    CU_ASSERT_FATAL(more > 0);
    CU_ASSERT_EQUAL(zest_release(t.p.z[1], t.s, v, (unsigned)more), 0);
    begin_anew(&t, 0);
    begin_anew(&t, 0);
    begin_anew(&t, 1);
    ring_close(&t, 1);
}

CHECK_MAIN("record ring", CHECK(in_flight_and_lost), CHECK(out_of_order_and_unread),
           CHECK(lent_views), CHECK(urgent_and_marked), CHECK(every_age), CHECK(waiting_for_memory),
           CHECK(a_call_too_long), CHECK(a_state_too_large), CHECK(hostile_states))
