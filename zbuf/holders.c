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

void oldest_add(struct oldest *o, uint64_t addr, const struct zbuf *zb, uint32_t birth)
{
    struct zbuf_holder h = {.addr = addr,
                            .size = zb->size,
                            .refcount = zbuf_refcount(zb),
                            .generation = zb->generation,
                            .len = zb->len,
                            .owner = zb->owner,
                            .user = zb->user,
                            .age_ns = age_of(birth, o->now_ns)};
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
