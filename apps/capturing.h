/* capturing.h - --pcap of a host's link: all of it, or the last seconds (--pcap-ring), which are
 * written out when something goes wrong. The loop looks after connections and time-outs; here, an
 * assertion that fails (abort) and SIGUSR1. */
#ifndef APPS_CAPTURING_H
#define APPS_CAPTURING_H

struct host;

/* As the host's options say. number 0, or that of a further host, whose file is FILE.number. 0 or
 * -errno, said. */
int capture_open(struct host *h, unsigned number);
/* Says how many frames there are. Before netif_close(). */
void capture_close(struct host *h);

#endif
