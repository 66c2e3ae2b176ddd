/* holders.c - the oldest of many, in the space for a few: a heap with the youngest on top, which
 * gives way to each that is older. */
#include "holders.h"

static void sift_down(struct zbuf_holder *h, unsigned n, unsigned i)
{
    for (;;) {
        unsigned top = i, left = 2 * i + 1;
        if (left < n && h[left].age_ns < h[top].age_ns)
            top = left;
        if (left + 1 < n && h[left + 1].age_ns < h[top].age_ns)
            top = left + 1;
        if (top == i)
            return;
        struct zbuf_holder t = h[i];
        h[i] = h[top];
        h[top] = t;
        i = top;
    }
}

static void sum(struct zbuf_age *a, const struct zbuf_holder *h)
{
    a->segs++;
    a->bytes += h->size;
    if (h->age_ns > a->oldest_ns)
        a->oldest_ns = h->age_ns;
}

void oldest_begin(struct oldest *o)
{
    if (o->cls)
        memset(o->cls, 0, ZBUF_CLASSES * sizeof *o->cls);
    if (o->budget)
        memset(o->budget, 0, o->budgets * sizeof *o->budget);
}

/* What was noted in a former life of the segment does not count. */
static uint64_t who_holds(const struct zbuf *zb)
{
    uint64_t note = __atomic_load_n(&zb->priv, __ATOMIC_RELAXED);
    bool valid = !(zb->flags & FLAG_BORROWED) && (uint16_t)note == (uint16_t)zb->generation;
    return valid ? note >> 16 : 0;
}

void oldest_add(struct oldest *o, uint64_t addr, const struct zbuf *zb, uint32_t birth)
{
    struct zbuf_holder h = {.addr = addr,
                            .size = zb->size,
                            .refcount = zbuf_refcount(zb),
                            .generation = zb->generation,
                            .len = zb->len,
                            .owner = zb->owner,
                            .user = zb->user,
                            .who = who_holds(zb),
                            .age_ns = age_of(birth, o->now_ns)};
    if (o->cls && zb->cls < ZBUF_CLASSES)
        sum(&o->cls[zb->cls], &h);
    if (o->budget && zb->owner < o->budgets)
        sum(&o->budget[zb->owner], &h);
    unsigned n = o->live++;
    if (n < o->max) {
        o->out[n] = h;
        while (n && o->out[(n - 1) / 2].age_ns > h.age_ns) {
            o->out[n] = o->out[(n - 1) / 2];
            n = (n - 1) / 2;
        }
        o->out[n] = h;
    } else if (o->max && h.age_ns > o->out[0].age_ns) {
        o->out[0] = h;
        sift_down(o->out, o->max, 0);
    }
}

void oldest_finish(struct oldest *o)
{
    unsigned n = o->live < o->max ? o->live : o->max;
    for (unsigned left = n; left > 1; left--) { /* the youngest goes to the end, again and again */
        struct zbuf_holder t = o->out[0];
        o->out[0] = o->out[left - 1];
        o->out[left - 1] = t;
        sift_down(o->out, left - 1, 0);
    }
}
