/* watch.h - an interface under observation; see watch.c. */
#ifndef NETIF_WATCH_H
#define NETIF_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct watch_state {
    bool gone, up, carrier;
    uint32_t mtu;
    char name[32];
};
struct watch {
    int fd; /* readable when something happened; -1 = there is none */
    unsigned index;
    bool told; /* by the last look, something about it, be that new or not */
    struct watch_state now;
};

/* 0 or -errno, and then fd is -1. */
int watch_open(struct watch *w, unsigned index, const char *name, uint32_t mtu);
void watch_close(struct watch *w);
/* Takes what was told. True if something is different: *before is how it was. */
bool watch_look(struct watch *w, struct watch_state *before);

#endif
