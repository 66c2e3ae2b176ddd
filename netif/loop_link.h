/* loop_link.h - a loop's eye on its link; see loop_link.c. Private to netif/. */
#ifndef NETIF_LOOP_LINK_H
#define NETIF_LOOP_LINK_H

#include "link.h"
#include "watch.h"

struct loop_link {
    const struct netif_loop_config *cfg;
    struct netif *nif;
    struct watch watch; /* fd -1: the link is no interface, or cannot be watched */
    bool down;
    bool stalled;
    bool waited;        /* for something, when last looked at */
    uint64_t done;      /* frames sent and given back then */
    uint64_t looked_ns; /* when that was */
    uint64_t still_ns;  /* for how long that has not grown with something to wait for */
    bool closed;        /* being opened anew, which takes some tries */
    bool fd_changed;    /* for the loop to see, and clear */
    bool quietly;       /* because it may be deaf */
    unsigned attempts;  /* to open it anew, since something came back */
    unsigned tries;     /* of this attempt */
    uint64_t again_ns;  /* not before */
    struct loop_ear {
        uint64_t heard, sent; /* frames, when last looked at */
        uint64_t since_ns;    /* when the first was sent since something came in; 0 = none was */
        unsigned asks;        /* looks that found that more had been sent since */
        bool tried, opened;   /* to open it anew since then; and that worked */
        uint64_t tried_ns;    /* when; also of an earlier silence */
        uint64_t silent_ns;   /* for how long it had been silent */
        uint64_t patience_ns; /* for how long it may be */
    } ear;
};

void loop_link_open(struct loop_link *l, const struct netif_loop_config *cfg);
void loop_link_close(struct loop_link *l);
/* The watch is readable. What it leads to in the stack is done here; false: the interface is gone,
 * and nif->error is set. */
bool loop_link_heard(struct loop_link *l, uint64_t now_ns);
/* Is what brings us frames still attached? False: no, and nif->error is set. For every now and
 * then, as not all ways to take it off are told by rtnetlink. */
#define LOOP_LINK_EVERY_S 30u
bool loop_link_attached(struct loop_link *l);
/* Does the link give back what it is given? */
void loop_link_check(struct loop_link *l, uint64_t now_ns);

#endif
