/* group.h - a ring of mailboxes between the loops of one address. Private to netif/. */
#ifndef NETIF_GROUP_H
#define NETIF_GROUP_H

#include "link.h"

unsigned group_size(const struct netif_group *g);
/* Sorts n frames that member's link received: those that are not for its stack go on to the next
 * member, the others move to the front. Returns how many those are. */
unsigned group_sort(struct netif_group *g, unsigned member, struct zest *z, struct zbuf **frames,
                    unsigned n);
/* Frames from the other members that are for this one's stack, or that nobody wants and that came
 * back here, where they had arrived. *looked: there were some, whosever they are. */
unsigned group_take(struct netif_group *g, unsigned member, struct zest *z, struct zbuf **frames,
                    unsigned max, bool *looked);
/* Becomes readable when group_take() has something; group_woken() makes it quiet again. */
int group_fd(const struct netif_group *g, unsigned member);
void group_woken(struct netif_group *g, unsigned member);

#endif
