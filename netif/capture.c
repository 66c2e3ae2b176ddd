/* capture.c - what crosses a link, both ways, and why: kept in memory, and written as pcapng.
 *
 * Frames are copied into a ring in memory first. There each waits for its verdict: what the stack
 * made of a received frame is known only when it has been through (netif_input). In the ordinary
 * capture all of the ring goes to the file sooner or later; as a ring of the last seconds, only
 * when something has gone wrong. The frame that a save ends with says so in its comment.
 *
 * The stack tells nothing on purpose but zest_frame.why. Why it dropped a frame is read off its
 * counters: while a capture runs, frames go in one at a time, and the counter that grew is the
 * cause. Without one, this costs a test for each burst.
 *
 * Entries do not wrap: what does not fit before the end of the memory begins at the front, and a
 * mark fills the rest. Offsets count up for ever. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "link.h"
#include "pcapng.h"

#define FILE_RING  (8u << 20)  /* memory, when all goes to the file: more than a burst */
#define LAST_RING  (64u << 20) /* for the last seconds, unless told otherwise */
#define RING_MIN   (1u << 20)
#define FILE_CHUNK (1u << 20) /* so much is kept back at most */
#define ALIGN      16u
#define ETH_HEADER 14u
#define MARK       UINT32_MAX
#define STORM_RTOS 32u /* time-outs within a second that make a storm */
#define SECOND_NS  1000000000u

struct entry {
    uint32_t room; /* to the next one */
    uint32_t len;  /* of the frame, which follows; MARK = none */
    uint64_t wall_ns, mono_ns;
    const struct zbuf *zb; /* received: until its verdict */
    uint8_t direction, why;
    uint16_t drop; /* 1 + index of the counter; 0 = none */
    uint32_t pad;
};
_Static_assert(sizeof(struct entry) % 8 == 0, "what follows is aligned");

struct netif_capture {
    struct pcapng file;
    uint64_t frames;  /* in the file */
    uint64_t lost;    /* after it was full */
    uint64_t ring_ns; /* how far back it reaches; 0 = all goes to the file */
    uint8_t *mem;
    uint64_t size;
    uint64_t head, tail;             /* the ring */
    uint64_t saved;                  /* what lies before it is in the file */
    uint64_t verdict;                /* where to look for the next received frame */
    uint64_t aborted, rtos, rtos_ns; /* when trouble was last looked for */
};

/* ---- the causes: counters of the stack */

static const struct {
    const char *name, *what;
    size_t at;
} counters[] = {
#define COUNTER(name, what) {#name, what, offsetof(struct zest_stats, name)},
    ZEST_COUNTERS(COUNTER)
#undef COUNTER
};
#define COUNTERS (sizeof counters / sizeof counters[0])

/* Those that are about a received frame. Of the others called drop_, one is about an answer that
 * could not be sent, and one about what waited for an address. */
static bool is_cause(const char *name)
{
    return strcmp(name, "tcp_rx_dup") == 0 ||
           (strncmp(name, "drop_", 5) == 0 && strcmp(name, "drop_ctrl_queue") != 0 &&
            strcmp(name, "drop_no_route") != 0 && strcmp(name, "drop_arp_queue") != 0);
}

static uint64_t counter(const struct zest_stats *st, unsigned i)
{
    uint64_t v;
    memcpy(&v, (const char *)st + counters[i].at, sizeof v);
    return v;
}

static uint16_t cause(const struct zest_stats *before, const struct zest_stats *after)
{
    for (unsigned i = 0; i < COUNTERS; i++)
        if (counter(before, i) != counter(after, i) && is_cause(counters[i].name))
            return (uint16_t)(i + 1);
    return 0;
}

/* ---- comments; made by hand, as a signal handler may have to */

static void add_text(char *out, const char *text)
{
    size_t have = strlen(out), n = strlen(text);

    if (n > PCAPNG_COMMENT - 1 - have)
        n = PCAPNG_COMMENT - 1 - have;
    memcpy(out + have, text, n);
    out[have + n] = 0;
}

static void comment(char *out, const struct entry *e, const char *saved)
{
    static const char *const whys[] = {
#define WHY(name, what) what,
        ZEST_WHYS(WHY)
#undef WHY
    };

    out[0] = 0;
    if (e->why < sizeof whys / sizeof whys[0])
        add_text(out, whys[e->why]);
    if (e->drop > 0 && e->drop <= COUNTERS) {
        add_text(out, "dropped: ");
        add_text(out, counters[e->drop - 1].what);
        add_text(out, " (");
        add_text(out, counters[e->drop - 1].name);
        add_text(out, ")");
    }
    if (saved) {
        add_text(out, *out ? "; saved here: " : "saved here: ");
        add_text(out, saved);
    }
}

/* ---- the ring */

static struct entry *entry_at(const struct netif_capture *c, uint64_t off)
{
    return (struct entry *)(void *)(c->mem + off % c->size);
}

/* For a signal handler that may have come at any time: can what lies there be an entry? */
static bool is_sound(const struct netif_capture *c, uint64_t off)
{
    const struct entry *e = entry_at(c, off);

    return e->room >= ALIGN && e->room % ALIGN == 0 && e->room <= c->size - off % c->size &&
           e->room <= c->tail - off && (e->len == MARK || sizeof *e + e->len <= e->room);
}

/* The last frame before `to`, from `from` on; `to` if there is none. */
static uint64_t last_frame(const struct netif_capture *c, uint64_t from, uint64_t to)
{
    uint64_t last = to;

    for (uint64_t off = from; off < to && is_sound(c, off); off += entry_at(c, off)->room)
        if (entry_at(c, off)->len != MARK)
            last = off;
    return last;
}

/* Writes what is not written yet, up to `to`. saved: why, if that is worth a comment. */
static void save_to(struct netif_capture *c, uint64_t to, const char *saved)
{
    char text[PCAPNG_COMMENT];
    uint64_t last = saved ? last_frame(c, c->saved, to) : to;

    while (c->saved < to && is_sound(c, c->saved)) {
        const struct entry *e = entry_at(c, c->saved);
        if (e->len != MARK) {
            comment(text, e, c->saved == last ? saved : NULL);
            struct pcapng_packet k = {e->wall_ns, (const uint8_t *)(e + 1), e->len, e->direction,
                                      *text ? text : NULL};
            if (pcapng_packet(&c->file, &k))
                c->frames++;
            else
                c->lost++;
        }
        c->saved += e->room;
    }
}

static void drop_first(struct netif_capture *c)
{
    uint64_t next = c->head + entry_at(c, c->head)->room;

    if (c->saved < next) {
        if (!c->ring_ns)
            save_to(c, next, NULL);
        c->saved = next;
    }
    if (c->verdict < next)
        c->verdict = next;
    c->head = next;
}

static void make_room(struct netif_capture *c, uint64_t bytes)
{
    while (c->tail - c->head + bytes > c->size)
        drop_first(c);
}

/* An entry with room for len bytes; the caller fills it. NULL: longer than any frame may be. */
static struct entry *append(struct netif_capture *c, uint32_t len, const struct timespec *wall,
                            uint64_t mono_ns)
{
    uint32_t room = (uint32_t)(sizeof(struct entry) + len + ALIGN - 1) & ~(ALIGN - 1);

    if (len > RING_MIN / 2)
        return NULL;
    uint64_t left = c->size - c->tail % c->size;
    if (left < room) {
        make_room(c, left);
        struct entry *mark = entry_at(c, c->tail);
        mark->room = (uint32_t)left;
        mark->len = MARK;
        c->tail += left;
    }
    make_room(c, room);
    while (
        c->ring_ns && c->head != c->tail &&
        (entry_at(c, c->head)->len == MARK || mono_ns - entry_at(c, c->head)->mono_ns > c->ring_ns))
        drop_first(c);
    struct entry *e = entry_at(c, c->tail);
    *e = (struct entry){
        .room = room,
        .len = len,
        .wall_ns = (uint64_t)wall->tv_sec * SECOND_NS + (uint64_t)wall->tv_nsec,
        .mono_ns = mono_ns,
    };
    c->tail += room;
    return e;
}

/* The capture is over: the rest is only counted. */
static bool is_over(struct netif_capture *c, unsigned n)
{
    if (!c->file.full && !c->file.failed)
        return false;
    c->lost += n;
    return true;
}

static void now(struct timespec *wall, uint64_t *mono_ns)
{
    clock_gettime(CLOCK_REALTIME, wall);
    *mono_ns = netif_now();
}

/* ---- frames */

/* What the link would have put into the checksum field: it holds the sum of the pseudo-header. */
static void complete_csum(uint8_t *p, uint32_t len, uint32_t start, uint32_t offset)
{
    uint64_t sum = 0;

    if (start + offset + 2 > len)
        return;
    for (uint32_t i = start; i < len; i++)
        sum += (i - start) % 2 ? p[i] : (uint64_t)p[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    sum = ~sum & 0xffff;
    p[start + offset] = (uint8_t)(sum >> 8);
    p[start + offset + 1] = (uint8_t)sum;
}

/* A frame whose sender left the checksum out: as it would have looked on a wire. */
static void complete_received(uint8_t *p, uint32_t len)
{
    uint32_t start = ETH_HEADER + (len > ETH_HEADER ? (p[ETH_HEADER] & 15u) * 4 : 0);

    if (start < ETH_HEADER + 20 || start > len || p[12] != 0x08 || p[13] != 0x00)
        return;
    if (p[ETH_HEADER + 9] == 6)
        complete_csum(p, len, start, 16);
    else if (p[ETH_HEADER + 9] == 17)
        complete_csum(p, len, start, 6);
}

void capture_rx(struct netif_capture *c, struct zbuf *const *frames, unsigned n)
{
    struct timespec wall;
    uint64_t mono_ns;

    if (n == 0 || is_over(c, n))
        return;
    now(&wall, &mono_ns);
    if (!c->ring_ns && c->tail - c->saved >= FILE_CHUNK)
        save_to(c, c->tail, NULL); /* all earlier ones have had their verdict */
    c->verdict = c->tail;
    for (unsigned i = 0; i < n; i++) {
        struct entry *e = append(c, (uint32_t)zbuf_chain_len(frames[i]), &wall, mono_ns);
        if (!e)
            continue;
        e->direction = PCAPNG_IN;
        e->zb = frames[i];
        uint8_t *p = (uint8_t *)(e + 1);
        bool partial = frames[i]->rx_csum == ZBUF_CSUM_PARTIAL;
        for (const struct zbuf *zb = frames[i]; zb; p += zb->len, zb = zb->next)
            memcpy(p, zb->data, zb->len);
        if (partial)
            complete_received((uint8_t *)(e + 1), e->len);
    }
}

void capture_tx(struct netif_capture *c, const struct zest_frame *frames, unsigned n)
{
    struct timespec wall;
    uint64_t mono_ns;

    if (n == 0 || is_over(c, n))
        return;
    now(&wall, &mono_ns);
    for (unsigned i = 0; i < n; i++) {
        const struct zest_frame *f = &frames[i];
        uint32_t len = 0;
        for (unsigned s = 0; s < f->n; s++)
            len += f->seg[s].len;
        struct entry *e = append(c, len, &wall, mono_ns);
        if (!e)
            continue;
        e->direction = PCAPNG_OUT;
        e->why = f->why;
        uint8_t *p = (uint8_t *)(e + 1);
        for (unsigned s = 0; s < f->n; p += f->seg[s++].len)
            memcpy(p, f->seg[s].addr, f->seg[s].len);
        if (f->csum)
            complete_csum((uint8_t *)(e + 1), len, f->csum_start, f->csum_offset);
    }
}

/* The entry of a received frame that has no verdict yet; NULL if it was not captured. */
static struct entry *entry_of(struct netif_capture *c, const struct zbuf *zb)
{
    for (uint64_t off = c->verdict; off < c->tail; off += entry_at(c, off)->room) {
        struct entry *e = entry_at(c, off);
        if (e->len == MARK || e->zb != zb)
            continue;
        e->zb = NULL;
        c->verdict = off + e->room;
        return e;
    }
    return NULL;
}

void capture_input(struct netif_capture *c, struct zest *z, uint64_t now_ns, struct zbuf **frames,
                   unsigned n)
{
    struct zest_stats st[2];

    zest_stats(z, &st[0]);
    for (unsigned i = 0; i < n; i++) {
        struct entry *e = entry_of(c, frames[i]);
        struct zest_stats *before = &st[i % 2], *after = &st[(i + 1) % 2];
        zest_input(z, now_ns, &frames[i], 1);
        zest_stats(z, after);
        if (e)
            e->drop = cause(before, after);
    }
}

/* ---- trouble */

const char *capture_trouble(struct netif_capture *c, const struct zest *z, uint64_t now_ns)
{
    struct zest_stats st;
    const char *why = NULL;

    if (!c->ring_ns)
        return NULL;
    zest_stats(z, &st);
    if (st.tcp_conns_aborted != c->aborted)
        why = "a connection ended in an error";
    c->aborted = st.tcp_conns_aborted;
    if (st.tcp_rtos - c->rtos >= STORM_RTOS)
        why = "a storm of retransmission time-outs";
    if (why || now_ns - c->rtos_ns >= SECOND_NS) {
        c->rtos = st.tcp_rtos;
        c->rtos_ns = now_ns;
    }
    return why;
}

int netif_capture_save(struct netif *nif, const char *why)
{
    struct netif_capture *c = nif->capture;

    if (!c)
        return -EINVAL;
    save_to(c, c->tail, why);
    return pcapng_flush(&c->file) ? 0 : -EIO;
}

/* ---- from beginning to end */

int netif_capture_start(struct netif *nif, const struct netif_capture_config *cfg,
                        struct netif_error *err)
{
    const struct netif_caps *caps = &nif->caps;
    int rc;

    if (nif->capture)
        return link_error(err, -EBUSY, "%s is being captured already", caps->name);
    struct netif_capture *c = calloc(1, sizeof *c);
    if (!c)
        return link_error(err, -ENOMEM, "no memory to capture with");
    uint64_t size = !cfg->ring_s ? FILE_RING : cfg->ring_bytes ? cfg->ring_bytes : LAST_RING;
    c->size = (size < RING_MIN ? RING_MIN : size) & ~(uint64_t)(ALIGN - 1);
    c->ring_ns = cfg->ring_s * (uint64_t)SECOND_NS;
    c->mem = mmap(NULL, c->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (c->mem == MAP_FAILED) {
        rc = -errno;
        free(c);
        return link_error(err, rc, "no memory to capture with: %s", strerror(-rc));
    }
    rc = pcapng_open(&c->file, cfg->path, *caps->name ? caps->name : caps->kind, caps->mode,
                     cfg->max_bytes ? cfg->max_bytes : UINT64_MAX);
    if (rc < 0) {
        munmap(c->mem, c->size);
        free(c);
        return link_error(err, rc, "cannot write %s: %s", cfg->path, strerror(-rc));
    }
    nif->capture = c;
    return 0;
}

void netif_capture_stop(struct netif *nif, struct netif_capture_stats *out)
{
    struct netif_capture *c = nif->capture;

    if (out)
        *out = (struct netif_capture_stats){0};
    if (!c)
        return;
    nif->capture = NULL;
    if (!c->ring_ns)
        save_to(c, c->tail, NULL);
    bool failed = !pcapng_close(&c->file);
    if (out)
        *out = (struct netif_capture_stats){c->frames, failed ? 0 : c->lost, failed};
    munmap(c->mem, c->size);
    free(c);
}
