/* timer.c - connections by deadline: a binary heap, so there is no tick, and time-outs are exact to
 * the nanosecond.
 *
 * A deadline that moves later (every ACK puts the RTO off) leaves the heap as it is: the entry is
 * looked at when it comes to the front, and sinks then. Only one that moves earlier is sifted at
 * once. */
#include "tcp_conn.h"

static void place(struct tcp *t, uint32_t pos, struct tcp_conn *c)
{
    t->heap[pos] = c;
    c->heap_pos = pos;
}

static void sift_up(struct tcp *t, uint32_t pos)
{
    struct tcp_conn *c = t->heap[pos];

    for (; pos > 1 && t->heap[pos / 2]->heap_key > c->heap_key; pos /= 2)
        place(t, pos, t->heap[pos / 2]);
    place(t, pos, c);
}

static void sift_down(struct tcp *t, uint32_t pos)
{
    struct tcp_conn *c = t->heap[pos];

    for (uint32_t child; (child = 2 * pos) <= t->heap_len; pos = child) {
        if (child < t->heap_len && t->heap[child + 1]->heap_key < t->heap[child]->heap_key)
            child++;
        if (t->heap[child]->heap_key >= c->heap_key)
            break;
        place(t, pos, t->heap[child]);
    }
    place(t, pos, c);
}

void timer_set(struct zest *z, struct tcp_conn *c, uint64_t when_ns)
{
    struct tcp *t = &z->tcp;

    if (when_ns == ZEST_NEVER) {
        timer_off(z, c);
        return;
    }
    uint64_t before = c->heap_pos ? c->heap_key : ZEST_NEVER;
    c->heap_key = when_ns;
    if (!c->heap_pos) {
        place(t, ++t->heap_len, c);
        sift_up(t, t->heap_len);
    } else if (when_ns < before) {
        sift_up(t, c->heap_pos);
    } else if (when_ns > before) {
        sift_down(t, c->heap_pos);
    }
}

void timer_off(struct zest *z, struct tcp_conn *c)
{
    struct tcp *t = &z->tcp;
    uint32_t pos = c->heap_pos;

    if (!pos)
        return;
    c->heap_pos = 0;
    struct tcp_conn *last = t->heap[t->heap_len--];
    if (last == c)
        return;
    place(t, pos, last);
    sift_up(t, pos);
    sift_down(t, last->heap_pos);
}

struct tcp_conn *timer_first(const struct zest *z)
{
    return z->tcp.heap_len ? z->tcp.heap[1] : NULL;
}
