/* pcapng.h - a pcapng file, block by block. Private to netif/.
 *
 * One section, one interface. Everything that is called after opening only copies and calls
 * write(2), so a signal handler may do it, too. A full file or disk ends the file, with a whole
 * block, and never the traffic. */
#ifndef NETIF_PCAPNG_H
#define NETIF_PCAPNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PCAPNG_COMMENT 256u /* bytes of a comment, at most */

enum { PCAPNG_IN = 1, PCAPNG_OUT = 2 }; /* as in the file */

struct pcapng {
    int fd;
    bool failed, full;
    uint64_t bytes, max; /* in the file, buffered ones included */
    size_t used;
    uint8_t buf[64u << 10];
};

struct pcapng_packet {
    uint64_t wall_ns;
    const uint8_t *bytes;
    uint32_t len, direction;
    const char *comment; /* NULL = none; cut at PCAPNG_COMMENT */
};

/* An empty file at path, with the headers in it: 0 or -errno. ifname, what: the interface, for
 * people. */
int pcapng_open(struct pcapng *p, const char *path, const char *ifname, const char *what,
                uint64_t max_bytes);
/* False: it does not fit any more, or could not be written, and nor will what follows. */
bool pcapng_packet(struct pcapng *p, const struct pcapng_packet *k);
bool pcapng_flush(struct pcapng *p);
/* False if something of it is not in the file. */
bool pcapng_close(struct pcapng *p);

#endif
