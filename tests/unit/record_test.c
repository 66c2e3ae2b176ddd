/* record_test.c - what was recorded plays again, and what was tampered with is found out.
 *
 * The run is a bad one on purpose: frames are lost, corrupted and reordered, the link holds on to
 * what it was given (so headrooms are busy), receivers read late and are short of memory, and the
 * echo writes from the segments that it read. */
#include <errno.h>

#include "check.h"
#include "record_hash.h"
#include "stack/record.h"
#include "stack/zest_record.h"
#include "tests/lib/rng.h"
#include "tests/unit/pair.h"
#include "tests/unit/player.h"

#define RECORD_SIZE (24u << 20)
#define HOLD        64u

struct run {
    struct pair p;
    struct rng rng;
    uint8_t *mem[2];  /* the recordings */
    uint8_t *ring[2]; /* the recorders' memory */
    size_t len[2];
    bool full[2], from_start[2];
    struct zest_frame held[2][HOLD]; /* frames that the link has not given back */
    unsigned nheld[2];
    bool flaps;        /* the link goes down for a while, and carries less when it is up again */
    uint64_t up_at_ns; /* 0 = it has not been down, ZEST_NEVER = it is up again */
};

static uint32_t below(struct rng *r, size_t n)
{
    return (uint32_t)rng_below(r, n);
}

static void give_back(struct run *t, int side, unsigned keep)
{
    unsigned n = t->nheld[side] > keep ? t->nheld[side] - keep : 0;
    for (unsigned i = 0; i < n; i++)
        for (unsigned s = 0; s < t->held[side][i].n; s++)
            zbuf_tx_done(t->p.pool, t->held[side][i].seg[s].addr);
    t->nheld[side] -= n;
    memmove(t->held[side], t->held[side] + n, t->nheld[side] * sizeof t->held[side][0]);
}

static void deliver(struct run *t, int to, const struct zest_frame *f)
{
    static uint8_t buf[WIRE_MAX];
    uint32_t len = 0;
    if (t->flaps && t->up_at_ns && t->up_at_ns != ZEST_NEVER)
        return;
    for (unsigned s = 0; s < f->n; s++) {
        memcpy(buf + len, f->seg[s].addr, f->seg[s].len);
        len += f->seg[s].len;
    }
    if (below(&t->rng, 100) == 0)
        buf[below(&t->rng, len)] ^= 4;
    uint32_t cut = below(&t->rng, 10) == 0 ? 1 + below(&t->rng, 1000) : t->p.cut;
    struct zbuf *zb = wire_receive(zbuf_budget_app(t->p.pool), buf, len, 0, cut, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
    unsigned fate = below(&t->rng, 100);
    if (fate < 2 || t->p.tail - t->p.head == PAIR_WIRE) {
        zbuf_chain_free(zb);
        return;
    }
    t->p.wire[t->p.tail++ % PAIR_WIRE] = (struct pair_frame){zb, t->p.now_ns + PAIR_DELAY_NS, to};
    if (fate < 5 && t->p.tail - t->p.head > 1) { /* overtakes the one before */
        struct pair_frame *a = &t->p.wire[(t->p.tail - 1) % PAIR_WIRE],
                          *b = &t->p.wire[(t->p.tail - 2) % PAIR_WIRE];
        struct zbuf *first = a->zb;
        int first_to = a->to;
        a->zb = b->zb, a->to = b->to;
        b->zb = first, b->to = first_to;
    }
}

static void send_all(struct run *t, int from)
{
    struct zest_frame f[16];
    unsigned n;
    while ((n = zest_output(t->p.z[from], t->p.now_ns, f, 16)) > 0)
        for (unsigned i = 0; i < n; i++) {
            deliver(t, !from, &f[i]);
            if (t->nheld[from] == HOLD)
                give_back(t, from, HOLD / 2);
            t->held[from][t->nheld[from]++] = f[i];
        }
}

/* False: nothing happens any more before until_ns. */
static bool step(struct run *t, uint64_t until_ns)
{
    struct pair *p = &t->p;
    struct zbuf *in[8];
    while (p->head != p->tail && p->wire[p->head % PAIR_WIRE].at_ns <= p->now_ns) {
        int to = p->wire[p->head % PAIR_WIRE].to;
        unsigned n = 0;
        while (n < 8 && p->head != p->tail && p->wire[p->head % PAIR_WIRE].at_ns <= p->now_ns &&
               p->wire[p->head % PAIR_WIRE].to == to)
            in[n++] = p->wire[p->head++ % PAIR_WIRE].zb;
        zest_input(p->z[to], p->now_ns, in, n);
    }
    send_all(t, 0);
    send_all(t, 1);
    uint64_t next = p->head != p->tail ? p->wire[p->head % PAIR_WIRE].at_ns : ZEST_NEVER;
    for (int i = 0; i < 2; i++)
        if (zest_deadline(p->z[i]) < next)
            next = zest_deadline(p->z[i]);
    if (next > until_ns)
        return false;
    p->now_ns = next > p->now_ns ? next : p->now_ns;
    return true;
}

static void run_open(struct run *t, uint64_t seed, const struct zest_config *proto, size_t size)
{
    memset(t, 0, sizeof *t);
    t->rng = rng_seed(seed);
    struct pair *p = &t->p;
    p->now_ns = 1000000000;
    p->pool = zbuf_pool_create(&(struct zbuf_pool_config){.size = 32u << 20, .no_huge = true});
    for (int i = 0; i < 2; i++) {
        struct zest_config cfg = *proto;
        cfg.pool = p->pool;
        cfg.ip = pair_addr(i, 0);
        memcpy(cfg.mac, (uint8_t[6]){2, 0, 0, 0, 0, (uint8_t)(i + 1)}, 6);
        memset(cfg.secret, 'a' + i, sizeof cfg.secret);
        t->mem[i] = malloc(size);
        t->ring[i] = malloc(size);
        cfg.record_mem = t->ring[i];
        cfg.record_size = size;
        p->mem[i] = aligned_alloc(64, (zest_size(&cfg) + 63) & ~63ull);
        CU_ASSERT_EQUAL_FATAL(zest_init(p->mem[i], &cfg, &p->z[i]), 0);
    }
}

static void take_recording(struct run *t, int i)
{
    struct zest_recording rec;
    t->len[i] = player_gather(t->p.z[i], t->mem[i], &rec);
    t->full[i] = rec.full;
    t->from_start[i] = rec.from_start;
}

static void run_close(struct run *t)
{
    for (int i = 0; i < 2; i++) {
        give_back(t, i, 0);
        take_recording(t, i);
        free(t->ring[i]);
    }
    CU_ASSERT_EQUAL(pair_close(&t->p), 0);
}

static void run_free(struct run *t)
{
    player_end();
    free(t->mem[0]);
    free(t->mem[1]);
}

/* B's side: an echo that reads late and writes what it read. */
struct echo {
    struct zest_view v[16];
    unsigned n, next;
    uint32_t done;
};
static void echo_turn(struct run *t, struct echo *e, zest_handle h)
{
    struct zest *z = t->p.z[1];
    for (unsigned turns = 0; turns < 4; turns++) {
        while (e->next < e->n) {
            struct zest_view *v = &e->v[e->next];
            ssize_t n = zest_write(z, h, v->addr + e->done, v->len - e->done);
            if (n < 0)
                return;
            e->done += (uint32_t)n;
            if (e->done < v->len)
                return;
            e->done = 0;
            e->next++;
        }
        zest_release(z, h, e->v, e->n);
        e->n = e->next = 0;
        int n = zest_read(z, h, e->v, 1 + below(&t->rng, 16));
        if (n <= 0)
            return;
        e->n = (unsigned)n;
    }
}

/* Twenty seconds of silence, of which both hear when they are over; then one of them cuts its
 * segments smaller. */
static void flap(struct run *t)
{
    struct pair *p = &t->p;
    if (t->up_at_ns == 0)
        t->up_at_ns = p->now_ns + 20000000000;
    if (t->up_at_ns == ZEST_NEVER)
        return;
    p->now_ns += 500000000; /* timers that have backed off do not move it */
    if (p->now_ns < t->up_at_ns)
        return;
    t->up_at_ns = ZEST_NEVER;
    zest_link_up(p->z[0], p->now_ns, 1000);
    zest_link_up(p->z[1], p->now_ns, 0);
}

/* Bytes go to B and come back; returns how many did. */
static uint64_t converse(struct run *t, uint64_t bytes)
{
    struct pair *p = &t->p;
    struct zest_addr b = pair_addr(1, 7);
    zest_handle l = 0, c = 0, s = 0;
    struct echo e = {.n = 0};
    struct zest_view v[16];
    uint64_t sent = 0, back = 0;
    struct zbuf *zb = NULL;
    uint32_t off = 0, len = 0;
    char plain[300] = "plain memory";

    CU_ASSERT_EQUAL(zest_listen(p->z[1], &b, 0, &l), 0);
    CU_ASSERT_EQUAL(zest_set_option(p->z[1], l, ZEST_OPT_KEEPALIVE, 5), 0);
    CU_ASSERT_EQUAL(zest_connect(p->z[0], &b, NULL, &c), 0);
    CU_ASSERT_EQUAL(zest_set_user(p->z[0], c, t), 0);
    CU_ASSERT_EQUAL(zest_write(p->z[0], c, plain, 1), -EFAULT);
    CU_ASSERT_EQUAL(zest_write(p->z[0], c + 1, plain, 1), -EBADF);
    for (unsigned i = 0; i < 200000 && back < bytes; i++) {
        while (sent < bytes) {
            if (sent % 7 == 0) {
                ssize_t n = zest_write_copy(p->z[0], c, plain, sizeof plain);
                sent += n > 0 ? (uint64_t)n : 0;
                if (n < (ssize_t)sizeof plain)
                    break;
            }
            if (!zb) {
                len = 1 + below(&t->rng, below(&t->rng, 2) ? 6000 : 1448);
                zb = zbuf_alloc(p->pool, len);
                CU_ASSERT_PTR_NOT_NULL_FATAL(zb);
                memset(zb->data, (int)sent, len);
                off = 0;
            }
            uint32_t part = 1 + below(&t->rng, len - off);
            ssize_t n = zest_write(p->z[0], c, zb->data + off, part);
            if (n <= 0)
                break;
            off += (uint32_t)n;
            sent += (uint64_t)n;
            if (off == len) {
                zbuf_free(zb);
                zb = NULL;
            }
        }
        step(t, p->now_ns + 1000000000);
        if (t->flaps && back > bytes / 3)
            flap(t);
        pair_events(p, 0);
        pair_events(p, 1);
        if (!s)
            zest_accept(p->z[1], l, &s, NULL);
        if (s && below(&t->rng, 3) == 0)
            echo_turn(t, &e, s);
        if (below(&t->rng, 4) == 0) {
            int n = zest_read(p->z[0], c, v, 16);
            for (int k = 0; k < n; k++)
                back += v[k].len;
            if (n > 0)
                zest_release(p->z[0], c, v, (unsigned)n);
        }
        if (below(&t->rng, 8) == 0)
            for (int side = 0; side < 2; side++)
                give_back(t, side, below(&t->rng, HOLD));
    }
    zbuf_free(zb);
    CU_ASSERT_EQUAL(zest_shutdown(p->z[0], c), 0);
    for (unsigned i = 0; i < 200 && step(t, p->now_ns + 1000000000); i++)
        pair_events(p, 1);
    zest_release(p->z[1], s, e.v, e.n);
    zest_close(p->z[1], s);
    zest_close(p->z[1], l);
    zest_abort(p->z[0], c);
    while (step(t, p->now_ns + 10000000))
        ;
    return back;
}

static void check_identical(struct run *t)
{
    for (int i = 0; i < 2; i++) {
        struct zest_replay_result res, again;
        CU_ASSERT_EQUAL_FATAL(replay(t->mem[i], t->len[i], &res), 0);
        CU_ASSERT_EQUAL(res.end, ZEST_REPLAY_IDENTICAL);
        CU_ASSERT_EQUAL(res.full, t->full[i]);
        CU_ASSERT_EQUAL(res.from_start, t->from_start[i]);
        if (res.end != ZEST_REPLAY_IDENTICAL)
            printf("side %d: call %lu %s: %s (%ld, recorded %ld)\n", i, (unsigned long)res.inputs,
                   res.call, res.why, (long)res.result, (long)res.recorded_result);
        CU_ASSERT_EQUAL_FATAL(replay(t->mem[i], t->len[i], &again), 0);
        CU_ASSERT_EQUAL(res.hash, again.hash);
        CU_ASSERT_TRUE(res.inputs > 0 && (res.frames_in > 0 || t->full[i]));
    }
}

static const struct zest_config small = {.max_conns = 16, .max_pbufs = 256, .mtu = 1500};

static bool holds(const struct run *t, int side, uint8_t what)
{
    for (size_t i = 0; i + 1 < t->len[side]; i++)
        if (t->mem[side][i] == what)
            return true;
    return false;
}

static void a_lossy_run_plays_again(void)
{
    for (unsigned seed = 1; seed <= 4; seed++) {
        struct run t;
        struct zest_config cfg = small;
        cfg.gather = seed % 2 ? ZEST_GATHER_NEVER : ZEST_GATHER_ALWAYS;
        cfg.tx_csum_offload = seed == 4;
        cfg.rx_csum_trusted = seed == 4;
        run_open(&t, seed, &cfg, RECORD_SIZE);
        CU_ASSERT_TRUE(converse(&t, 700000) >= 700000 || seed == 4);
        run_close(&t);
        CU_ASSERT_FALSE(t.full[0] || t.full[1]);
        CU_ASSERT_TRUE(holds(&t, 0, REC_EXCEPTION));
        check_identical(&t);
        run_free(&t);
    }
}

/* What a stack is told of its link is an input like others. */
static void a_link_that_was_down_plays_again(void)
{
    struct run t;
    run_open(&t, 5, &small, RECORD_SIZE);
    t.flaps = true;
    CU_ASSERT_TRUE(converse(&t, 300000) >= 300000);
    CU_ASSERT_EQUAL(t.up_at_ns, ZEST_NEVER);
    run_close(&t);
    CU_ASSERT_TRUE(holds(&t, 0, REC_LINK_UP));
    check_identical(&t);
    run_free(&t);
}

/* Frames over several segments of memory, and larger than one can hold. */
static void large_frames_play_again(void)
{
    struct run t;
    struct zest_config cfg = small;
    cfg.mtu = 40000;
    run_open(&t, 11, &cfg, RECORD_SIZE);
    t.p.cut = 3776;
    CU_ASSERT_TRUE(converse(&t, 700000) >= 700000);
    run_close(&t);
    check_identical(&t);
    run_free(&t);
}

/* The run, its replay, and the same on every other machine and with every compiler: one hash. */
static void one_hash_everywhere(void)
{
    static const uint64_t hash[2] = {RECORD_HASH_A, RECORD_HASH_B};
    struct zest_config cfg = small;
    struct run t;

    cfg.gather = ZEST_GATHER_ALWAYS;
    run_open(&t, 2026, &cfg, RECORD_SIZE);
    converse(&t, 500000);
    run_close(&t);
    for (int i = 0; i < 2; i++) {
        struct zest_replay_result res;
        uint64_t live; /* as the run itself left it, with the last call */
        memcpy(&live, t.mem[i] + t.len[i] - sizeof live, sizeof live);
        CU_ASSERT_EQUAL(replay(t.mem[i], t.len[i], &res), 0);
        CU_ASSERT_EQUAL(res.end, ZEST_REPLAY_IDENTICAL);
        CU_ASSERT_EQUAL(res.hash, live);
        CU_ASSERT_EQUAL(res.hash, hash[i]);
        printf("  hash of what came out of %c: run %016llx, replay %016llx, recorded in "
               "tests/unit/record_hash.h %016llx\n",
               'A' + i, (unsigned long long)live, (unsigned long long)res.hash,
               (unsigned long long)hash[i]);
    }
    run_free(&t);
}

/* The receive memory is so small that what is held, and when it is given back, shows. */
static void short_memory_plays_again(void)
{
    struct run t;
    struct zest_config cfg = small;
    cfg.rx_hold_max = 64u << 10;
    cfg.ctrl_reserve = 64u << 10;
    run_open(&t, 9, &cfg, RECORD_SIZE);
    converse(&t, 300000);
    run_close(&t);
    CU_ASSERT_TRUE(holds(&t, 1, REC_EXCEPTION));
    check_identical(&t);
    run_free(&t);
}

/* The newest calls are there, from a state that the stack was in, and there is one more on the way.
 */
static void the_newest_part_is_kept(void)
{
    unsigned ended_early = 0;

    for (unsigned seed = 30; seed < 50; seed++) {
        struct run t;
        struct zest_config cfg = small;
        cfg.gather = seed % 2 ? ZEST_GATHER_NEVER : ZEST_GATHER_ALWAYS;
        if (seed % 4 == 0)
            cfg.rx_hold_max = 64u << 10;
        size_t size = 64000 + 4000 * (seed % 8);
        run_open(&t, seed, &cfg, size);
        converse(&t, 1200000);
        run_close(&t);
        for (int i = 0; i < 2; i++) {
            CU_ASSERT_FALSE(t.from_start[i]);
            ended_early += t.full[i]; /* the state may be too large just then */
            CU_ASSERT_TRUE(t.len[i] <= size);
        }
        check_identical(&t);
        run_free(&t);
    }
    CU_ASSERT(ended_early < 10); /* of 40 */
}

/* Where a call begins and ends, as the replay tells it: the offset of call n. */
static size_t offset_of_last(const uint8_t *rec, size_t len)
{
    struct zest_replay_result res = {.offset = 0};
    CU_ASSERT_EQUAL(replay(rec, len, &res), 0);
    return res.offset;
}

static void one_byte_is_found(void)
{
    struct run t;
    struct zest_replay_result res;
    run_open(&t, 5, &small, 2u << 20);
    converse(&t, 60000);
    run_close(&t);
    uint8_t *rec = t.mem[0];
    size_t len = t.len[0];
    CU_ASSERT_EQUAL(replay(rec, len, &res), 0);
    uint64_t calls = res.inputs;

    rec[len - 1] ^= 1; /* the hash of the last call */
    CU_ASSERT_EQUAL(replay(rec, len, &res), 0);
    CU_ASSERT_EQUAL(res.end, ZEST_REPLAY_DIFFERS);
    CU_ASSERT_EQUAL(res.inputs, calls);
    CU_ASSERT_STRING_EQUAL(res.why, "the same result, but other contents");
    rec[len - 1] ^= 1;
    rec[len - 9] ^= 1; /* its result */
    CU_ASSERT_EQUAL(replay(rec, len, &res), 0);
    CU_ASSERT_EQUAL(res.end, ZEST_REPLAY_DIFFERS);
    CU_ASSERT_EQUAL(res.result ^ res.recorded_result, 1ll << 56);
    rec[len - 9] ^= 1;
    rec[116] ^= 1; /* the secret: another ISN, so the first SYN */
    CU_ASSERT_EQUAL(replay(rec, len, &res), 0);
    CU_ASSERT_EQUAL(res.end, ZEST_REPLAY_DIFFERS);
    CU_ASSERT_STRING_EQUAL(res.call, "zest_output");
    CU_ASSERT_TRUE(res.frames_in < 4);
    rec[116] ^= 1;
    /* A clock that was a nanosecond late shows in the deadline. */
    size_t last_quarter = len / 4 * 3, at = 0;
    for (at = last_quarter; rec[at] != REC_END || rec[at + 17] != REC_OUTPUT; at++)
        CU_ASSERT_TRUE_FATAL(at + 30 < len);
    CU_ASSERT_EQUAL(offset_of_last(rec, at + 17 + 13), at + 17);
    rec[at + 17] = REC_OPS; /* no such call */
    CU_ASSERT_EQUAL(replay(rec, len, &res), 0);
    CU_ASSERT_EQUAL(res.end, ZEST_REPLAY_DAMAGED);
    CU_ASSERT_EQUAL(res.offset, at + 17);
    run_free(&t);
}

static void cut_short_is_an_error(void)
{
    struct run t;
    struct zest_replay_result res;
    run_open(&t, 6, &small, 2u << 20);
    converse(&t, 5000);
    run_close(&t);
    const uint8_t *rec = t.mem[1];
    size_t len = t.len[1];
    CU_ASSERT_EQUAL(replay(rec, len - 17, &res), 0); /* as an assertion leaves it */
    CU_ASSERT_EQUAL(res.end, ZEST_REPLAY_UNFINISHED);
    CU_ASSERT_STRING_EQUAL(res.call, "zest_output");
    CU_ASSERT_EQUAL(replay(rec, len - 16, &res), 0);
    CU_ASSERT_EQUAL(res.end, ZEST_REPLAY_DAMAGED);
    CU_ASSERT_EQUAL(replay(rec, 135, &res), -EINVAL);
    CU_ASSERT_EQUAL(replay(rec, 0, &res), -EINVAL);
    unsigned whole = 0;
    for (size_t n = 136; n < len; n += 37) {
        uint8_t *copy = malloc(n); /* so that reading past the end is seen */
        memcpy(copy, rec, n);
        CU_ASSERT_EQUAL(replay(copy, n, &res), 0);
        whole += res.end == ZEST_REPLAY_IDENTICAL;
        CU_ASSERT_NOT_EQUAL(res.end, ZEST_REPLAY_DIFFERS);
        free(copy);
    }
    CU_ASSERT_TRUE(whole < 20); /* only where a call happens to end there */
    run_free(&t);
}

/* Anything at all may be in the file. */
static void hostile_files_do_no_harm(void)
{
    struct run t;
    run_open(&t, 7, &small, 2u << 20);
    converse(&t, 20000);
    run_close(&t);
    struct rng rng = rng_seed(77);
    unsigned found = 0, runs = 400;
    for (unsigned i = 0; i < runs; i++) {
        int side = i % 2;
        size_t len = t.len[side];
        uint8_t *copy = malloc(len);
        memcpy(copy, t.mem[side], len);
        unsigned hits = 1 + below(&rng, 4);
        for (unsigned k = 0; k < hits; k++) {
            size_t at = below(&rng, 4) ? 128 + below(&rng, (uint32_t)len - 128) : below(&rng, 128);
            copy[at] = (uint8_t)below(&rng, 256);
        }
        struct zest_replay_result res = {.end = ZEST_REPLAY_IDENTICAL};
        int rc = replay(copy, len, &res);
        found += rc < 0 || res.end != ZEST_REPLAY_IDENTICAL;
        free(copy);
    }
    CU_ASSERT_TRUE(found > runs / 2); /* the rest of the bytes are fields that had no influence */
    run_free(&t);
}

static void off_costs_no_memory_and_says_so(void)
{
    struct pair p;
    struct zest_recording rec;
    pair_open(&p, &small);
    CU_ASSERT_EQUAL(zest_recording(p.z[0], &rec), -ENOENT);
    CU_ASSERT_EQUAL(rec.parts, 0);
    CU_ASSERT_EQUAL(pair_close(&p), 0);
    struct zest_config cfg = small;
    static uint8_t place[64];
    cfg.record_mem = place;
    cfg.record_size = ZEST_RECORD_MIN - 1;
    CU_ASSERT_EQUAL(zest_size(&cfg), 0);
}

CHECK_MAIN("record", CHECK(one_hash_everywhere), CHECK(a_lossy_run_plays_again),
           CHECK(a_link_that_was_down_plays_again), CHECK(large_frames_play_again),
           CHECK(short_memory_plays_again), CHECK(the_newest_part_is_kept),
           CHECK(one_byte_is_found), CHECK(cut_short_is_an_error), CHECK(hostile_files_do_no_harm),
           CHECK(off_costs_no_memory_and_says_so))
