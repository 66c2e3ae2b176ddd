/* pcapng.c - see pcapng.h. The format is that of draft-ietf-opsawg-pcapng; blocks are in this
 * machine's byte order, as it wants it. */
#include "pcapng.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define SHB       0x0a0d0d0au /* block types: section header, */
#define IDB       1u          /* interface description, */
#define EPB       6u          /* enhanced packet */
#define ORDER     0x1a2b3c4du
#define ETHERNET  1u
#define OPT_END   0u
#define OPT_NOTE  1u /* a comment, of any block */
#define OPT_APPL  4u /* options of a section: who wrote it */
#define OPT_NAME  2u /* of an interface */
#define OPT_ABOUT 3u
#define OPT_TSRES 9u
#define OPT_FLAGS 2u /* of a packet: its direction */

static uint32_t padded(uint32_t n)
{
    return (n + 3) & ~3u;
}

/* ---- bytes */

static bool write_all(int fd, const uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        p += done;
        n -= (size_t)done;
    }
    return true;
}

bool pcapng_flush(struct pcapng *p)
{
    if (p->used > 0 && !p->failed)
        p->failed = !write_all(p->fd, p->buf, p->used);
    p->used = 0;
    return !p->failed;
}

static void put(struct pcapng *p, const void *data, size_t n)
{
    const uint8_t *from = data;

    while (n > 0) {
        if (p->used == sizeof p->buf)
            pcapng_flush(p);
        size_t part = sizeof p->buf - p->used;
        part = part < n ? part : n;
        memcpy(p->buf + p->used, from, part);
        p->used += part;
        from += part;
        n -= part;
    }
}
static void put_u32(struct pcapng *p, uint32_t v)
{
    put(p, &v, sizeof v);
}
static void put_padded(struct pcapng *p, const void *data, uint32_t n)
{
    static const uint8_t zero[4];
    put(p, data, n);
    put(p, zero, padded(n) - n);
}

static uint32_t option_size(uint32_t len)
{
    return 4 + padded(len);
}
static void put_option(struct pcapng *p, uint16_t code, const void *data, uint32_t len)
{
    uint16_t head[2] = {code, (uint16_t)len};
    put(p, head, sizeof head);
    put_padded(p, data, len);
}

static uint32_t text_len(const char *text)
{
    return (uint32_t)strnlen(text, PCAPNG_COMMENT);
}

/* ---- blocks */

static void put_head(struct pcapng *p, const char *ifname, const char *what)
{
    static const char appl[] = "zest";
    uint16_t version[2] = {1, 0}, linktype[2] = {ETHERNET, 0};
    uint32_t appl_len = sizeof appl - 1;
    uint32_t shb = 28 + option_size(appl_len) + 4;
    uint32_t idb =
        20 + option_size(text_len(ifname)) + option_size(text_len(what)) + option_size(1) + 4;

    put_u32(p, SHB);
    put_u32(p, shb);
    put_u32(p, ORDER);
    put(p, version, sizeof version);
    put(p, &(int64_t){-1}, 8); /* of unknown length */
    put_option(p, OPT_APPL, appl, appl_len);
    put_u32(p, OPT_END);
    put_u32(p, shb);

    put_u32(p, IDB);
    put_u32(p, idb);
    put(p, linktype, sizeof linktype);
    put_u32(p, 0); /* frames are whole */
    put_option(p, OPT_NAME, ifname, text_len(ifname));
    put_option(p, OPT_ABOUT, what, text_len(what));
    put_option(p, OPT_TSRES, &(uint8_t){9}, 1); /* nanoseconds */
    put_u32(p, OPT_END);
    put_u32(p, idb);
    p->bytes = shb + idb;
}

bool pcapng_packet(struct pcapng *p, const struct pcapng_packet *k)
{
    uint32_t note = k->comment ? text_len(k->comment) : 0;
    uint32_t block = 28 + padded(k->len) + option_size(4) + (note ? option_size(note) : 0) + 4 + 4;

    p->full |= p->bytes + block > p->max; /* for good: a capture with holes would mislead */
    if (p->full || p->failed)
        return false;
    put_u32(p, EPB);
    put_u32(p, block);
    put_u32(p, 0); /* the interface */
    put_u32(p, (uint32_t)(k->wall_ns >> 32));
    put_u32(p, (uint32_t)k->wall_ns);
    put_u32(p, k->len);
    put_u32(p, k->len);
    put_padded(p, k->bytes, k->len);
    put_option(p, OPT_FLAGS, &k->direction, 4);
    if (note)
        put_option(p, OPT_NOTE, k->comment, note);
    put_u32(p, OPT_END);
    put_u32(p, block);
    p->bytes += block;
    return !p->failed;
}

/* ---- from beginning to end */

int pcapng_open(struct pcapng *p, const char *path, const char *ifname, const char *what,
                uint64_t max_bytes)
{
    p->failed = p->full = false;
    p->used = 0;
    p->max = max_bytes;
    p->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (p->fd < 0)
        return -errno;
    put_head(p, ifname, what);
    if (!pcapng_flush(p)) {
        close(p->fd);
        return -EIO;
    }
    return 0;
}

bool pcapng_close(struct pcapng *p)
{
    bool done = pcapng_flush(p);

    return close(p->fd) == 0 && done;
}
