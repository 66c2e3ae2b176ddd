/* doctor.c - zest doctor: what this host and its interfaces can do for zest, what they can't and
 * why, and for each problem the command that mends it. Asks only; changes nothing. */
#include "doctor.h"

#include "commands.h"
#include "opts.h"
#include "say.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POOL_DEFAULT (64ull << 20)
#define INDENT       27
#define WIDTH        (100u - INDENT)
#define FAILED_SHOWN 4u /* findings, after a start that failed */

struct doctor_options {
    const char *ifname; /* NULL: the host, and a line for each */
    bool json, try;
    struct doctor_wish wish;
};

static void find_program(char *path, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    path[n > 0 ? n : 0] = '\0';
    if (n <= 0)
        snprintf(path, size, "zest");
}

/* ---- for people */

/* Text in lines of WIDTH columns, all but the first of them indented. */
static void print_wrapped(const char *text)
{
    while (strlen(text) > WIDTH) {
        unsigned n = WIDTH;
        while (n > 0 && text[n] != ' ')
            n--;
        if (n == 0)
            break; /* one long word */
        printf("%.*s\n%*s", (int)n, text, INDENT, "");
        text += n + 1;
    }
    printf("%s\n", text);
}

/* Mends are left in one piece, to be copied. */
static void print_report(const struct doctor_report *r)
{
    for (unsigned k = 0; k < r->n; k++) {
        const struct doctor_finding *f = &r->f[k];
        printf("  %-8s %-15s ", doctor_levels[f->level], f->topic);
        print_wrapped(f->text);
        if (*f->mend)
            printf("%*s  # %s\n", INDENT, "", f->mend);
    }
}

/* "veth, MTU 1500, part of br0". */
static const char *brief(const struct netif_probe_if *i, char *buf, size_t size)
{
    const char *what = *i->driver ? i->driver : *i->kind ? i->kind : i->loopback ? "loopback" : "?";
    bool more = *i->driver && *i->kind && strcmp(i->kind, i->driver) != 0;
    snprintf(buf, size, "%s%s%s, MTU %u%s%s", what, more ? "/" : "", more ? i->kind : "", i->mtu,
             *i->master ? ", part of " : "", i->master);
    return buf;
}

static void print_interface(const struct netif_probe_host *h, const struct netif_probe_if *i,
                            const struct doctor_report *r, const struct doctor_report *host)
{
    char text[128], verdict[128];
    printf("%s: %s\n", i->name, brief(i, text, sizeof text));
    print_report(r);
    doctor_verdict(verdict, sizeof verdict, h, i);
    if (host->afxdp && r->afxdp)
        printf("%s: a start with -I would get: %s\n", i->name, verdict);
    else
        printf("%s: a start with -I would fail; mended, it would get: %s\n", i->name, verdict);
}

/* ---- for programs */

static void json_string(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if ((unsigned char)*s < ' ')
            printf("\\u%04x", *s);
        else
            putchar(*s);
    }
    putchar('"');
}

static void json_pair(const char *name, const char *value)
{
    printf(",\"%s\":", name);
    json_string(value);
}

static void json_report(const struct doctor_report *r)
{
    printf("\"works\":%s,\"findings\":[", r->afxdp ? "true" : "false");
    for (unsigned k = 0; k < r->n; k++) {
        const struct doctor_finding *f = &r->f[k];
        printf("%s{\"level\":\"%s\"", k ? "," : "", doctor_levels[f->level]);
        json_pair("topic", f->topic);
        json_pair("text", f->text);
        json_pair("mend", f->mend);
        putchar('}');
    }
    putchar(']');
}

static const char *json_answer(enum netif_answer a)
{
    static const char *const words[] = {"null", "false", "true"};
    return words[a];
}

static void json_host(const struct netif_probe_host *h, const struct doctor_report *r)
{
    printf("\"host\":{");
    json_report(r);
    json_pair("kernel", h->release);
    printf(",\"capabilities\":\"%016" PRIx64 "\",\"af_xdp\":%s,\"gather\":%s,\"tx_metadata\":%s,"
           "\"tx_budget\":%s,\"busy_poll\":%s",
           h->caps, h->xsk == 0 ? "true" : "false", json_answer(h->gather),
           json_answer(h->tx_metadata), json_answer(h->tx_budget), json_answer(h->busy_poll));
    printf(",\"huge_pages_free\":%" PRIu64 ",\"bpf_fs\":%s}", h->huge_free, json_answer(h->bpf_fs));
}

static void json_interface(const struct netif_probe_host *h, const struct netif_probe_if *i,
                           const struct doctor_report *r, const struct doctor_tried *tried)
{
    char verdict[128];
    doctor_verdict(verdict, sizeof verdict, h, i);
    putchar('{');
    json_report(r);
    json_pair("name", i->name);
    json_pair("driver", i->driver);
    json_pair("kind", i->kind);
    json_pair("expected", verdict);
    printf(",\"mtu\":%u,\"up\":%s,\"rx_queues\":%u,\"xdp_features\":", i->mtu,
           i->up ? "true" : "false", i->rx_queues);
    if (i->xdp_known == NETIF_YES)
        printf("%" PRIu64, i->xdp_features);
    else
        printf("null");
    if (tried) {
        const struct netif_caps *c = &tried->caps;
        printf(",\"tried\":{\"works\":%s", tried->works ? "true" : "false");
        json_pair("error", tried->error);
        if (tried->works)
            printf(",\"mode\":\"%s\",\"mtu\":%u,\"gather\":%s,\"gather_max\":%u,"
                   "\"gather_cheap\":%s,\"send_ns\":%u,\"gather_ns\":%u,\"linear_ns\":%u,"
                   "\"tx_budget\":%u",
                   c->mode, c->mtu, c->gather ? "true" : "false", c->gather_max,
                   c->gather_cheap ? "true" : "false", c->send_ns, c->gather_ns, c->linear_ns,
                   c->tx_budget);
        putchar('}');
    }
    printf(",\"programs\":[");
    for (unsigned k = 0; k < i->n_xdp; k++) {
        const struct netif_probe_xdp *x = &i->xdp[k];
        static const char *const places[] = {"native", "generic", "offloaded"};
        printf("%s{\"mode\":\"%s\",\"id\":%u,\"link\":%u,\"pid\":%d", k ? "," : "",
               places[x->place], x->prog_id, x->link_id, x->holder);
        json_pair("name", x->name);
        json_pair("pinned", x->pinned);
        putchar('}');
    }
    printf("]}");
}

/* ---- the command */

static const struct opt doctor_opts[] = {
    OPT_HEAD("Doctor:"),
    {'q', "queue", "N", "the receive queue that would be used (default: 0)"},
    {'s', "pool", "SIZE", "the pool that would be used (default: 64M)"},
    {'t', "try", NULL,
     "also open a link, as a start would (the queue may pause for a moment), send up to 384 frames "
     "to nobody, and say what it got"},
    {'J', "json", NULL, "one JSON object"},
    OPT_END,
};

static void take(void *ctx, int key, const char *name, const char *arg)
{
    struct doctor_options *o = ctx;
    switch (key) {
    case 'q':
        o->wish.queue = (uint32_t)opt_number(name, arg, 0, 4095);
        break;
    case 's':
        o->wish.pool_size = opt_size(name, arg, 8ull << 20, 64ull << 30);
        break;
    case 't':
        o->try = true;
        break;
    case 'J':
        o->json = true;
        break;
    default:
        break;
    }
}

static void operand(void *ctx, const char *text)
{
    struct doctor_options *o = ctx;
    if (o->ifname)
        say_usage("one interface at a time: %s or %s?", o->ifname, text);
    o->ifname = text;
}

static const struct opt_command doctor_command = {
    .name = "zest doctor",
    .about = "Usage: zest doctor [INTERFACE] [OPTION]...\n"
             "What this host and that interface can do for zest, what they can't and why, and for "
             "each problem\nthe command that mends it. Without an interface: the host, and a line "
             "for each interface.\nWithout --try it asks only: it changes nothing, and sends "
             "nothing. Status 1 if a start would fail.\n",
    .tables = {doctor_opts},
    .epilogue = "Examples:\n  zest doctor eth1\n  zest doctor eth1 --json | jq '.interfaces[]"
                ".findings[] | select(.mend != \"\")'\n",
    .take = take,
    .operand = operand,
};

static int one(const struct doctor_options *o, const struct netif_probe_host *h,
               const struct doctor_report *host)
{
    struct netif_probe_if i;
    struct doctor_report r;
    int rc = netif_probe_if(&i, o->ifname, "");
    if (rc) {
        say("%s: %s", o->ifname,
            rc == -ENODEV ? "there is no such interface here (ip link shows which are)"
                          : strerror(-rc));
        return EXIT_FAILED;
    }
    doctor_plain_names(&i);
    doctor_examine_if(&r, h, &i, &o->wish);
    struct doctor_tried tried = {0};
    if (o->try)
        doctor_try(&tried, o->ifname, &o->wish);
    if (o->json) {
        putchar('{');
        json_host(h, host);
        printf(",\"interfaces\":[");
        json_interface(h, &i, &r, o->try ? &tried : NULL);
        printf("]}\n");
    } else {
        printf("host\n");
        print_report(host);
        print_interface(h, &i, &r, host);
        if (o->try) {
            char text[NETIF_ERROR];
            doctor_tried_text(&tried, text, sizeof text);
            printf("%s: tried: %s\n", i.name, text);
        }
    }
    return (o->try ? tried.works : host->afxdp && r.afxdp) ? EXIT_OK : EXIT_FAILED;
}

static int every(const struct doctor_options *o, const struct netif_probe_host *h,
                 const struct doctor_report *host)
{
    static char names[NETIF_PROBE_IFS][NETIF_PROBE_NAME];
    unsigned n = netif_probe_list(names, NETIF_PROBE_IFS), shown = 0;
    if (o->json) {
        putchar('{');
        json_host(h, host);
        printf(",\"interfaces\":[");
    } else {
        printf("host\n");
        print_report(host);
    }
    for (unsigned k = 0; k < n && k < NETIF_PROBE_IFS; k++) {
        struct netif_probe_if i;
        struct doctor_report r;
        if (netif_probe_if(&i, names[k], "") != 0)
            continue; /* gone meanwhile */
        doctor_plain_names(&i);
        doctor_examine_if(&r, h, &i, &o->wish);
        if (o->json) {
            printf("%s", shown++ ? "," : "");
            json_interface(h, &i, &r, NULL);
            continue;
        }
        char text[128], verdict[128];
        doctor_verdict(verdict, sizeof verdict, h, &i);
        printf("%-12s %-8s %s; %s\n", i.name, doctor_levels[doctor_worst(&r)],
               brief(&i, text, sizeof text), verdict);
    }
    if (o->json)
        printf("]}\n");
    else
        printf("'zest doctor INTERFACE' says why, and what to do.\n");
    return host->afxdp ? EXIT_OK : EXIT_FAILED;
}

int cmd_doctor(int argc, char **argv)
{
    char program[256];
    struct netif_probe_host h;
    struct doctor_report host;
    find_program(program, sizeof program);
    struct doctor_options o = {.wish = {.program = program, .pool_size = POOL_DEFAULT}};
    opt_parse(&doctor_command, argc, argv, &o);
    if (o.try && !o.ifname)
        say_usage("--try which interface?");
    netif_probe_host(&h, "");
    doctor_examine_host(&host, &h, &o.wish);
    return o.ifname ? one(&o, &h, &host) : every(&o, &h, &host);
}

/* ---- after a start that failed */

static unsigned say_problems(const struct doctor_report *r, const char *asked, unsigned shown)
{
    for (unsigned k = 0; k < r->n && shown < FAILED_SHOWN; k++) {
        const struct doctor_finding *f = &r->f[k];
        bool lacks = asked && f->level != DOCTOR_OK && strcmp(f->topic, asked) == 0;
        if (f->level != DOCTOR_PROBLEM && !lacks)
            continue;
        say("doctor: %s: %s", f->topic, f->text);
        if (*f->mend)
            say("doctor:   # %s", f->mend);
        shown++;
    }
    return shown;
}

void doctor_start_failed(const char *ifname, uint32_t queue, uint64_t pool_size, const char *asked)
{
    char program[256];
    struct netif_probe_host h;
    struct netif_probe_if i;
    struct doctor_report r;
    find_program(program, sizeof program);
    const struct doctor_wish w = {.program = program, .pool_size = pool_size, .queue = queue};
    if (netif_probe_if(&i, ifname, "") != 0)
        return; /* there is no more to it than that */
    doctor_plain_names(&i);
    netif_probe_host(&h, "");
    doctor_examine_host(&r, &h, &w);
    unsigned shown = say_problems(&r, NULL, 0);
    doctor_examine_if(&r, &h, &i, &w);
    shown = say_problems(&r, asked, shown);
    if (shown == 0)
        say("doctor: nothing is known to be wrong with %s; 'zest doctor %s' shows all", ifname,
            ifname);
}
