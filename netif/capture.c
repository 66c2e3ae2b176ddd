/* capture.c - what crosses a link, both ways, as pcapng that Wireshark and tcpdump read.
 *
 * One section, one interface, and an enhanced packet block for each frame, with its direction.
 * Times are nanoseconds of the wall clock, taken once for each burst. The blocks are in this
 * machine's byte order, as the format wants it. A full file or disk ends the capture, never the
 * traffic. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "link.h"

#define SHB       0x0a0d0d0au /* block types: section header, */
#define IDB       1u          /* interface description, */
#define EPB       6u          /* enhanced packet */
#define ORDER     0x1a2b3c4du
#define ETHERNET  1u
#define OPT_NAME  2u /* options of an interface */
#define OPT_TSRES 9u
#define OPT_FLAGS 2u /* option of a packet: its direction */
#define IN        1u
#define OUT       2u
#define BUFFER    (1u << 20)
#define HEAD_MAX  128u /* SHB and IDB together */

struct netif_capture {
    FILE *f;
    uint64_t written, max;
    struct netif_capture_stats stats;
};

static uint32_t padded(uint32_t n)
{
    return (n + 3) & ~3u;
}

static uint8_t *put(uint8_t *p, const void *data, size_t n)
{
    memcpy(p, data, n);
    return p + n;
}
static uint8_t *put_u32(uint8_t *p, uint32_t v)
{
    return put(p, &v, sizeof v);
}
static uint8_t *put_option(uint8_t *p, uint16_t code, const void *data, uint16_t len)
{
    memset(p, 0, 4 + padded(len));
    put(p, &code, 2);
    put(p + 2, &len, 2);
    put(p + 4, data, len);
    return p + 4 + padded(len);
}

static size_t head(uint8_t *out, const char *ifname)
{
    uint8_t *p = out;
    uint16_t version[2] = {1, 0}, linktype[2] = {ETHERNET, 0};
    p = put_u32(p, SHB);
    p = put_u32(p, 28);
    p = put_u32(p, ORDER);
    p = put(p, version, sizeof version);
    p = put(p, &(int64_t){-1}, 8); /* of unknown length */
    p = put_u32(p, 28);

    uint8_t *idb = p;
    p = put_u32(p, IDB);
    p = put_u32(p, 0); /* see below */
    p = put(p, linktype, sizeof linktype);
    p = put_u32(p, 0); /* frames are whole */
    p = put_option(p, OPT_NAME, ifname, (uint16_t)strlen(ifname));
    p = put_option(p, OPT_TSRES, &(uint8_t){9}, 1);
    p = put_u32(p, 0);
    uint32_t len = (uint32_t)(p - idb) + 4;
    p = put_u32(p, len);
    put_u32(idb + 4, len);
    return (size_t)(p - out);
}

int netif_capture_start(struct netif *nif, const struct netif_capture_config *cfg,
                        struct netif_error *err)
{
    uint8_t bytes[HEAD_MAX];

    if (nif->capture)
        return link_error(err, -EBUSY, "%s is being captured already", nif->caps.name);
    struct netif_capture *c = calloc(1, sizeof *c);
    if (!c)
        return link_error(err, -ENOMEM, "no memory to capture with");
    c->f = fopen(cfg->path, "wbe");
    if (!c->f) {
        int rc = -errno;
        free(c);
        return link_error(err, rc, "cannot write %s: %s", cfg->path, strerror(-rc));
    }
    setvbuf(c->f, NULL, _IOFBF, BUFFER);
    size_t n = head(bytes, *nif->caps.name ? nif->caps.name : nif->caps.kind);
    fwrite(bytes, n, 1, c->f);
    c->written = n;
    c->max = cfg->max_bytes ? cfg->max_bytes : UINT64_MAX;
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
    bool failed = ferror(c->f) != 0;
    failed |= fclose(c->f) != 0;
    c->stats.failed |= failed;
    if (out)
        *out = c->stats;
    free(c);
    nif->capture = NULL;
}

static uint64_t wall_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* False: this one does not fit any more, so nothing that follows is written either: a capture with
 * holes would mislead. */
static bool begin_packet(struct netif_capture *c, uint64_t now_ns, uint32_t len, uint32_t *block)
{
    uint8_t h[28], *p = h;

    *block = 28 + padded(len) + 12 + 4;
    if (c->stats.lost || c->stats.failed || c->written + *block > c->max) {
        c->stats.lost++;
        return false;
    }
    p = put_u32(p, EPB);
    p = put_u32(p, *block);
    p = put_u32(p, 0); /* the interface */
    p = put_u32(p, (uint32_t)(now_ns >> 32));
    p = put_u32(p, (uint32_t)now_ns);
    p = put_u32(p, len);
    put_u32(p, len);
    fwrite(h, sizeof h, 1, c->f);
    return true;
}

static void end_packet(struct netif_capture *c, uint32_t len, uint32_t block, uint32_t direction)
{
    uint8_t t[3 + 16] = {0}, *p = t + padded(len) - len;

    p = put_option(p, OPT_FLAGS, &direction, 4);
    p = put_u32(p, 0);
    p = put_u32(p, block);
    fwrite(t, (size_t)(p - t), 1, c->f);
    c->written += block;
    c->stats.frames++;
    c->stats.failed = ferror(c->f) != 0;
}

void capture_rx(struct netif_capture *c, struct zbuf *const *frames, unsigned n)
{
    uint64_t now_ns = n ? wall_ns() : 0;
    uint32_t block;

    for (unsigned i = 0; i < n; i++) {
        if (!begin_packet(c, now_ns, frames[i]->len, &block))
            continue;
        fwrite(frames[i]->data, frames[i]->len, 1, c->f);
        end_packet(c, frames[i]->len, block, IN);
    }
}

void capture_tx(struct netif_capture *c, const struct zest_frame *frames, unsigned n)
{
    uint64_t now_ns = n ? wall_ns() : 0;
    uint32_t block;

    for (unsigned i = 0; i < n; i++) {
        const struct zest_frame *f = &frames[i];
        uint32_t len = 0;
        for (unsigned s = 0; s < f->n; s++)
            len += f->seg[s].len;
        if (!begin_packet(c, now_ns, len, &block))
            continue;
        for (unsigned s = 0; s < f->n; s++)
            fwrite(f->seg[s].addr, f->seg[s].len, 1, c->f);
        end_packet(c, len, block, OUT);
    }
}
