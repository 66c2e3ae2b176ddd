/* doctor.h - what follows from a probe: findings, each with the command that mends it. No I/O here,
 * so that tests can ask about any host there could be. */
#ifndef APPS_DOCTOR_H
#define APPS_DOCTOR_H

#include "../netif/probe.h"

enum doctor_level {
    DOCTOR_OK,      /* as it should be */
    DOCTOR_NOTE,    /* good to know; or could be better */
    DOCTOR_WARNING, /* it starts, and then does less than it seems to, or nothing */
    DOCTOR_PROBLEM  /* it does not start */
};
extern const char *const doctor_levels[]; /* "ok", "note", "warning", "problem" */

#define DOCTOR_TEXT     384
#define DOCTOR_FINDINGS 40
struct doctor_finding {
    enum doctor_level level;
    const char *topic; /* a word that stays the same, for scripts: "capabilities" */
    char text[DOCTOR_TEXT];
    char mend[DOCTOR_TEXT]; /* a command for a shell; "" = there is none */
};
struct doctor_report {
    unsigned n;
    struct doctor_finding f[DOCTOR_FINDINGS];
    bool afxdp; /* a start over AF_XDP would work, for all that is known */
};

/* What a start would ask for. */
struct doctor_wish {
    const char *program; /* path of the executable, for setcap */
    uint64_t pool_size;
    uint32_t queue;
};

/* Others chose some of the names in there, and they go into commands for root and onto a terminal:
 * every character that a shell or a terminal could take for more than itself becomes a '_'. */
void doctor_plain_names(struct netif_probe_if *i);

/* Each begins a report of its own. */
void doctor_examine_host(struct doctor_report *r, const struct netif_probe_host *h,
                         const struct doctor_wish *w);
void doctor_examine_if(struct doctor_report *r, const struct netif_probe_host *h,
                       const struct netif_probe_if *i, const struct doctor_wish *w);
/* "AF_XDP, native, copy; up to 4 descriptors a frame": what a start would get. */
void doctor_verdict(char *out, size_t size, const struct netif_probe_host *h,
                    const struct netif_probe_if *i);

enum doctor_level doctor_worst(const struct doctor_report *r);

/* For rules, in doctor_host.c and doctor_if.c: the finding, whose mend may be filled in. */
struct doctor_finding *doctor_find(struct doctor_report *r, enum doctor_level level,
                                   const char *topic, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void doctor_mend(struct doctor_finding *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Root needs no "sudo ", and may not have it. */
void doctor_without_sudo(struct doctor_report *r);

/* A link is opened as a start would, and closed again. */
struct doctor_tried {
    bool works;
    struct netif_caps caps;
    char error[NETIF_ERROR];
};
void doctor_try(struct doctor_tried *t, const char *ifname, const struct doctor_wish *w);
void doctor_tried_text(const struct doctor_tried *t, char *out, size_t size);

/* A start over AF_XDP on ifname failed: says, short, what of it the doctor knows to mend. asked:
 * the topic of what was asked for and is no problem for others to lack ("zero-copy"); NULL:
 * nothing. */
void doctor_start_failed(const char *ifname, uint32_t queue, uint64_t pool_size, const char *asked);

#endif
