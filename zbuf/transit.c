/* transit.c - see transit.h.
 *
 * The other process goes on meanwhile, so a batch may be seen in two places or in none; and it may
 * mean harm, so every list has an end here, and every number from there a limit. */
#include "transit.h"

#define LOOKS_MAX 32768u /* at pieces of its memory: more than any program needs */

static int add(struct transit *t, const uint32_t *unit, uint32_t n)
{
    if (t->space - t->n < n) {
        size_t space = 2 * t->space + MAG_SLOTS;
        uint32_t *bigger = realloc(t->unit, space * sizeof *bigger);
        if (!bigger)
            return -ENOMEM;
        t->unit = bigger;
        t->space = space;
    }
    memcpy(t->unit + t->n, unit, n * sizeof *unit);
    t->n += n;
    return 0;
}

struct other {
    transit_fetch fetch;
    const void *process;
    uint32_t looks;
};

/* Each step of each list comes past here. */
static int get(struct other *o, uint64_t addr, void *dst, size_t len)
{
    if (o->looks++ == LOOKS_MAX)
        return -EPROTO;
    return o->fetch(o->process, addr, dst, len);
}

static int add_depot(struct transit *t, struct other *o, uint64_t at, const struct depot *d)
{
    struct bay bay;
    uint32_t full = d->in - d->out;
    if (d->batch > BAY_SEGS || d->bays == 0)
        return -EPROTO;
    full = full < d->bays ? full : d->bays;
    int err = 0;
    for (uint32_t i = 0; !err && i < full; i++) {
        uint32_t ticket = d->out + i;
        uint64_t bay_at = at + offsetof(struct depot, bay) + ticket % d->bays * sizeof bay;
        err = get(o, bay_at, &bay, sizeof bay);
        if (!err && bay.turn == ticket + 1)
            err = add(t, bay.unit, d->batch);
    }
    return err;
}

static int add_mags(struct transit *t, struct other *o, uint64_t at)
{
    struct mag mag;
    uint32_t unit[MAG_SLOTS];
    int err = 0;
    for (; !err && at; at = (uintptr_t)mag.next) {
        err = get(o, at, &mag, sizeof mag);
        if (err || !mag.marked || mag.n == 0)
            continue;
        if (mag.n > MAG_SLOTS)
            return -EPROTO;
        err = get(o, at + offsetof(struct mag, unit), unit, mag.n * sizeof unit[0]);
        if (!err)
            err = add(t, unit, mag.n);
    }
    return err;
}

static int by_unit(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

int transit_open(struct transit *t, const struct mirror *m, transit_fetch fetch,
                 const void *process)
{
    struct other o = {fetch, process, 0};
    struct depot d;
    struct cache c;
    uint64_t at = 0;
    *t = (struct transit){0};
    int err = get(&o, m->depots, &at, sizeof at);
    if (err || !at)
        return err; /* where nobody made a depot, nothing came out of one */
    for (; !err && at; at = (uintptr_t)d.next) {
        err = get(&o, at, &d, sizeof d);
        if (!err)
            err = add_depot(t, &o, at, &d);
    }
    if (!err)
        err = get(&o, m->caches, &at, sizeof at);
    for (; !err && at; at = (uintptr_t)c.next_in_pool) {
        err = get(&o, at, &c, sizeof c);
        if (!err)
            err = add_mags(t, &o, (uintptr_t)c.in_use);
    }
    if (!err && t->n)
        qsort(t->unit, t->n, sizeof t->unit[0], by_unit);
    return err;
}

bool transit_has(const struct transit *t, uint32_t unit)
{
    return t->n && bsearch(&unit, t->unit, t->n, sizeof unit, by_unit);
}

void transit_close(struct transit *t)
{
    free(t->unit);
}
