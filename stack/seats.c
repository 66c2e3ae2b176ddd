/* seats.c - which of our segments stands in for which of the recorded pool's. See replay.h. */
#include "replay.h"

#include "tcp_conn.h"

#define SEATED 1u /* until a connection takes it */

static bool is_seated(const struct replay *p, const struct seat *s)
{
    return s->zb && zbuf_of(p->pool, s->zb->first + ZBUF_GUARD) == s->zb &&
           s->zb->generation == s->our_generation;
}

/* A place in a segment, or -1 in *seat for one that was in none. */
bool seats_take_place(struct replay *p, struct record_place *at)
{
    if (!replay_take(p, at, sizeof *at))
        return false;
    if (at->unit == RECORD_NOWHERE)
        return true;
    uint32_t size = at->cls < ZBUF_CLASSES ? ZBUF_SEG_MIN << at->cls : 0;
    if (at->unit >= p->nseats || at->off < ZBUF_GUARD || at->off > size ||
        at->data_off < ZBUF_GUARD || at->data_off > size)
        return replay_damaged(p, "an address that is in no segment");
    return true;
}

/* A new stand-in. */
struct zbuf *seats_stand_in(struct replay *p, const struct record_place *at)
{
    struct seat *s = &p->seats[at->unit];
    struct zbuf *zb = zbuf_alloc(p->pool, (ZBUF_SEG_MIN << at->cls) - ZBUF_OVERHEAD);

    if (!zb || zb->cls != at->cls) {
        zbuf_free(zb);
        replay_fail(p, ZEST_REPLAY_DIFFERS, "the pool is too small to play it");
        return NULL;
    }
    if (is_seated(p, s) && s->lent)
        zbuf_free(s->zb); /* let go of without a zest_release() */
    zb->data = zb->first + at->data_off;
    zbuf_set_holder(zb, SEATED); /* or a next life could have the same generation */
    *s = (struct seat){.zb = zb, .generation = at->generation, .our_generation = zb->generation};
    p->seat_of[(size_t)(zb->first - zbuf_pool_base(p->pool)) / RECORD_UNIT] = at->unit;
    return zb;
}

bool seats_same(const struct replay *p, const struct record_place *at)
{
    const struct seat *s = &p->seats[at->unit];
    return is_seated(p, s) && s->generation == at->generation && s->zb->cls == at->cls;
}

static uint32_t place_in_pool(const struct replay *p, const struct zbuf *zb)
{
    return (uint32_t)((size_t)(zb->first - zbuf_pool_base(p->pool)) / RECORD_UNIT);
}

struct seat *seats_under(struct replay *p, const uint8_t *addr)
{
    return &p->seats[p->seat_of[place_in_pool(p, zbuf_of(p->pool, addr))]];
}

void seats_give_back(struct replay *p)
{
    for (uint32_t i = 0; i < p->nseats; i++)
        if (p->seats[i].lent && is_seated(p, &p->seats[i]))
            zbuf_free(p->seats[i].zb);
}

/* ---- checkpoints */

bool seats_name(void *ctx, const struct zbuf *zb, struct record_place *out)
{
    const struct replay *p = ctx;
    uint32_t unit = p->seat_of[place_in_pool(p, zb)];
    const struct seat *s = &p->seats[unit];

    if (s->zb != zb || s->our_generation != zb->generation)
        return false;
    out->unit = unit;
    out->generation = s->generation;
    return true;
}

struct zbuf *seats_restore(void *ctx, const struct record_place *at, bool alone)
{
    struct replay *p = ctx;

    if (at->unit >= p->nseats)
        return NULL;
    struct seat *s = &p->seats[at->unit];
    if (!is_seated(p, s)) {
        struct zbuf *zb = seats_stand_in(p, at);
        s->alone = alone;
        return zb;
    }
    return alone || s->alone || !seats_same(p, at) ? NULL : zbuf_ref(s->zb);
}

/* ---- what was lent before the recording begins */

void seats_restore_lent(void *ctx, uint32_t i, uint32_t len, uint32_t size)
{
    struct replay *p = ctx;
    p->lent[i] = (struct lent){len, size};
}

/* Of a connection that is gone nothing is known any more: what is given back to it is freed. */
bool seats_lent_before(struct replay *p, const struct record_place *at, uint32_t len,
                       zest_handle conn)
{
    const struct tcp_conn *c = tcp_conn_of(p->z, conn);
    uint32_t size = ZBUF_SEG_MIN << at->cls;
    struct seat *s = &p->seats[at->unit];

    if (p->res->from_start || len > size - at->off)
        return false;
    if (c) {
        struct lent *l = &p->lent[c - p->z->tcp.conns];
        /* All bytes and all memory go together: there is no view of nothing. */
        if (len == 0 || l->len < len || l->size < size || (l->len == len) != (l->size == size))
            return false;
        l->len -= len;
        l->size -= size;
    }
    if (seats_same(p, at)) {
        if (s->lent || s->alone)
            return false;
        zbuf_ref(s->zb);
    } else if (!seats_stand_in(p, at)) {
        return false;
    }
    s->lent = s->zb->first + at->off;
    s->lent_len = len;
    s->lent_by = conn;
    return true;
}
