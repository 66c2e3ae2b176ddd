/* stat_mem.c - see stat_mem.h. Counters are read from the file that the pool shows, holders and
 * ages from the process's memory (zbuf_reader_...); the process itself does nothing for it. */
#include "stat_mem.h"

#include "../stack/zest.h"
#include "say.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Names are another process's words: what could move a terminal's cursor is not passed on. */
static const char *plain(char *buf, size_t size, const char *name)
{
    size_t n = 0;
    for (; name[n] && name[n] != '\n' && n + 1 < size; n++) {
        buf[n] = name[n];
        if (name[n] < ' ' || name[n] > '~')
            buf[n] = '?';
    }
    buf[n] = 0;
    return buf;
}

/* ---- reading */

static void read_comm(int pid, char *comm, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    FILE *f = fopen(path, "re");
    if (!f || !fgets(comm, (int)size, f))
        snprintf(comm, size, "?");
    comm[strcspn(comm, "\n")] = 0;
    if (f)
        fclose(f);
}

static int read_ages(struct stat_mem *m, const struct zbuf_reader *rd, unsigned max)
{
    m->budget_age = calloc(ZBUF_BUDGETS, sizeof *m->budget_age);
    m->holder = calloc(max ? max : 1, sizeof *m->holder);
    if (!m->budget_age || !m->holder)
        return -ENOMEM;
    int live = zbuf_reader_ages(rd, m->cls_age, m->budget_age, ZBUF_BUDGETS);
    if (live >= 0 && max > 0)
        live = zbuf_reader_holders(rd, m->holder, max);
    if (live == -EPERM)
        return 0; /* the counters are worth having without it */
    if (live < 0)
        return live;
    m->have_ages = true;
    m->holders = (unsigned)live < max ? (unsigned)live : max;
    return 0;
}

/* Each followed by its children. */
static int by_family(const void *a, const void *b)
{
    const struct zbuf_budget_stat *x = a, *y = b;
    if (x->parent != y->parent)
        return x->parent < y->parent ? -1 : 1;
    bool child[2] = {x->parent != x->id, y->parent != y->id};
    return child[0] != child[1] ? child[0] - child[1] : (int)x->id - (int)y->id;
}

static int read_all(struct stat_mem *m, const struct zbuf_reader *rd, unsigned holders)
{
    int err = zbuf_reader_pool_stat(rd, &m->pool);
    int n = err ? err : zbuf_reader_budget_stats(rd, NULL, 0);
    if (n < 0)
        return n;
    m->budget = calloc((size_t)n + 1, sizeof *m->budget);
    if (!m->budget)
        return -ENOMEM;
    int now = zbuf_reader_budget_stats(rd, m->budget, (unsigned)n);
    if (now < 0)
        return now;
    m->budgets = (unsigned)(now < n ? now : n);
    qsort(m->budget, m->budgets, sizeof m->budget[0], by_family);
    return read_ages(m, rd, holders);
}

int stat_mem_read(struct stat_mem *m, int pid, unsigned index, unsigned holders)
{
    struct zbuf_reader *rd;
    *m = (struct stat_mem){.pid = pid, .index = index};
    read_comm(pid, m->comm, sizeof m->comm);
    int err = zbuf_reader_open(pid, index, &rd);
    if (err)
        return err;
    err = read_all(m, rd, holders);
    zbuf_reader_close(rd);
    if (err)
        stat_mem_free(m);
    return err;
}

void stat_mem_free(struct stat_mem *m)
{
    free(m->budget);
    free(m->budget_age);
    free(m->holder);
    *m = (struct stat_mem){0};
}

/* A number in hexadecimal with `after` right behind it; steps over both. */
static bool take_hex(const char **at, char after, uint64_t *out)
{
    char *end;
    if (!isxdigit((unsigned char)**at))
        return false;
    errno = 0;
    *out = strtoull(*at, &end, 16);
    if (errno || *end != after)
        return false;
    *at = end + 1;
    return true;
}

/* A field that may be anything, and the spaces after it. */
static void skip_field(const char **at)
{
    *at += strcspn(*at, " ");
    *at += strspn(*at, " ");
}

bool stat_mem_map_line(const char *line, uint64_t addr, char buf[STAT_PLACE])
{
    uint64_t from, to, off;
    if (!take_hex(&line, '-', &from) || !take_hex(&line, ' ', &to) || addr < from || addr >= to)
        return false;
    skip_field(&line); /* rights */
    if (!take_hex(&line, ' ', &off))
        return false;
    skip_field(&line); /* device */
    skip_field(&line); /* inode */
    const char *name = strrchr(line, '/');
    if (*line != '/' || !name)
        return false;
    char text[101];
    snprintf(buf, STAT_PLACE, "%s+0x%" PRIx64, plain(text, sizeof text, name + 1),
             addr - from + off);
    return true;
}

char *stat_mem_place(char buf[STAT_PLACE], int pid, uint64_t addr)
{
    char path[64], line[PATH_MAX + 128];
    snprintf(buf, STAT_PLACE, "0x%" PRIx64, addr);
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f) && !stat_mem_map_line(line, addr, buf))
        continue;
    if (f)
        fclose(f);
    return buf;
}

static const struct zbuf_budget_stat *budget_of(const struct stat_mem *m, unsigned id)
{
    for (unsigned i = 0; i < m->budgets; i++)
        if (m->budget[i].id == id)
            return &m->budget[i];
    return NULL;
}

/* ---- for people */

static const char *age_text(char buf[24], const struct stat_mem *m, const struct zbuf_age *a)
{
    if (!m->have_ages)
        return "?";
    if (!a->segs)
        return "-";
    snprintf(buf, 24, "%.2f s", (double)a->oldest_ns / 1e9);
    return buf;
}

static const char *bytes_or_dash(char buf[SAY_BYTES], uint64_t bytes)
{
    return bytes ? say_bytes(buf, bytes) : "-";
}

static void print_classes(const struct stat_mem *m, FILE *to)
{
    fprintf(to, "%8s %9s %9s %9s %9s %9s %10s %5s %10s\n", "class", "held", "free", "set aside",
            "peak", "failures", "fall-ups", "slabs", "oldest");
    for (unsigned i = 0; i < ZBUF_CLASSES; i++) {
        const struct zbuf_class_stat *c = &m->pool.cls[i];
        char age[24];
        if (!c->segs && !c->high_water && !c->failures && !c->fall_ups)
            continue;
        fprintf(to, "%7uK %9u %9u %9u %9u %9" PRIu64 " %10" PRIu64 " %5u %10s\n",
                c->seg_size / 1024, c->segs - c->free, c->free, c->set_aside, c->high_water,
                c->failures, c->fall_ups, c->slabs, age_text(age, m, &m->cls_age[i]));
    }
}

static void print_budgets(const struct stat_mem *m, FILE *to)
{
    fprintf(to, "%-24s %10s %10s %10s %10s %10s %9s %9s %10s\n", "budget", "held", "left",
            "minimum", "ceiling", "peak", "failures", "fall-ups", "oldest");
    for (unsigned i = 0; i < m->budgets; i++) {
        const struct zbuf_budget_stat *b = &m->budget[i];
        char used[SAY_BYTES], left[SAY_BYTES], min[SAY_BYTES], max[SAY_BYTES], peak[SAY_BYTES],
            age[24];
        char name[ZBUF_NAME_MAX];
        bool child = b->parent != b->id;
        fprintf(to, "%s%-*.*s %10s %10s %10s %10s %10s %9" PRIu64 " %9" PRIu64 " %10s%s\n",
                child ? "  " : "", child ? 22 : 24, child ? 22 : 24,
                plain(name, sizeof name, b->name), say_bytes(used, b->used),
                b->max ? say_bytes(left, b->max > b->used ? b->max - b->used : 0) : "-",
                bytes_or_dash(min, b->min), bytes_or_dash(max, b->max),
                say_bytes(peak, b->high_water), b->failures, b->fall_ups,
                age_text(age, m, &m->budget_age[b->id]), b->waiting ? "  waits for memory" : "");
    }
}

static void print_holders(const struct stat_mem *m, FILE *to)
{
    if (!m->have_ages) {
        fprintf(to,
                "Who holds segments, and for how long, can be read only with the right to trace "
                "the process.\n");
        return;
    }
    if (m->holders)
        fprintf(to, "held the longest:\n");
    for (unsigned i = 0; i < m->holders; i++) {
        const struct zbuf_holder *h = &m->holder[i];
        const struct zbuf_budget_stat *b = budget_of(m, h->owner);
        char who[ZEST_ADDR_TEXT], place[STAT_PLACE], name[ZBUF_NAME_MAX];
        struct zest_addr addr;
        fprintf(to, "  %3uK %9.2f s  %u reference%s  %s", h->size / 1024, (double)h->age_ns / 1e9,
                h->refcount, h->refcount == 1 ? "" : "s",
                plain(name, sizeof name, b ? b->name : "?"));
        if (zest_holder_addr(&addr, h->who))
            fprintf(to, "  connection with %s", zest_addr_text(&addr, who));
        if (h->site)
            fprintf(to, "  allocated by %s", stat_mem_place(place, m->pid, h->site));
        fputc('\n', to);
    }
}

void stat_mem_text(const struct stat_mem *m, FILE *to)
{
    char used[SAY_BYTES], size[SAY_BYTES], comm[sizeof m->comm], name[ZBUF_NAME_MAX];
    fprintf(to,
            "%s, process %d, pool %s: %s of %s held in %" PRIu64 " segments; %s pages; %u of %u "
            "slabs free; %" PRIu64 " drains%s\n",
            plain(comm, sizeof comm, m->comm), m->pid,
            m->pool.name[0] ? plain(name, sizeof name, m->pool.name) : "without a name",
            say_bytes(used, m->pool.used), say_bytes(size, m->pool.size), m->pool.live,
            zbuf_pages_name(m->pool.pages), m->pool.slabs_free, m->pool.slabs, m->pool.drains,
            m->pool.debug ? "; debug mode" : "");
    print_classes(m, to);
    print_budgets(m, to);
    print_holders(m, to);
}

/* ---- for programs */

static void json_string(FILE *to, const char *name, const char *text)
{
    fprintf(to, "\"%s\":\"", name);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\' || c < 0x20 || c >= 0x7f)
            fprintf(to, "\\u%04x", c);
        else
            fputc(c, to);
    }
    fputc('"', to);
}

static void json_age(const struct stat_mem *m, const struct zbuf_age *a, FILE *to)
{
    if (m->have_ages && a->segs)
        fprintf(to, ",\"oldest_ns\":%" PRIu64, a->oldest_ns);
}

static void json_classes(const struct stat_mem *m, FILE *to)
{
    for (unsigned i = 0; i < ZBUF_CLASSES; i++) {
        const struct zbuf_class_stat *c = &m->pool.cls[i];
        fprintf(
            to,
            "%s{\"size\":%u,\"held\":%u,\"free\":%u,\"set_aside\":%u,\"high_water\":%u,"
            "\"allocs\":%" PRIu64 ",\"failures\":%" PRIu64 ",\"fall_ups\":%" PRIu64
            ",\"fall_up_waste\":%" PRIu64 ",\"slabs\":%u,\"grown\":%" PRIu64 ",\"shrunk\":%" PRIu64,
            i ? "," : "", c->seg_size, c->segs - c->free, c->free, c->set_aside, c->high_water,
            c->allocs, c->failures, c->fall_ups, c->fall_up_waste, c->slabs, c->grown, c->shrunk);
        json_age(m, &m->cls_age[i], to);
        fputc('}', to);
    }
}

static void json_budgets(const struct stat_mem *m, FILE *to)
{
    for (unsigned i = 0; i < m->budgets; i++) {
        const struct zbuf_budget_stat *b = &m->budget[i];
        fprintf(to, "%s{\"id\":%u,", i ? "," : "", b->id);
        json_string(to, "name", b->name);
        if (b->parent != b->id)
            fprintf(to, ",\"parent\":%u", b->parent);
        fprintf(to, ",\"held\":%zu,\"min\":%zu,\"min_seg\":%u", b->used, b->min, b->min_seg);
        if (b->max)
            fprintf(to, ",\"max\":%zu,\"left\":%zu", b->max,
                    b->max > b->used ? b->max - b->used : 0);
        fprintf(to,
                ",\"high_water\":%zu,\"failures\":%" PRIu64 ",\"fall_ups\":%" PRIu64
                ",\"waiting\":%s",
                b->high_water, b->failures, b->fall_ups, b->waiting ? "true" : "false");
        json_age(m, &m->budget_age[b->id], to);
        fputc('}', to);
    }
}

static void json_holders(const struct stat_mem *m, FILE *to)
{
    for (unsigned i = 0; i < m->holders; i++) {
        const struct zbuf_holder *h = &m->holder[i];
        char text[ZEST_ADDR_TEXT], place[STAT_PLACE];
        struct zest_addr addr;
        fprintf(to,
                "%s{\"size\":%u,\"age_ns\":%" PRIu64 ",\"references\":%u,\"budget\":%u,"
                "\"address\":%" PRIu64,
                i ? "," : "", h->size, h->age_ns, h->refcount, h->owner, h->addr);
        if (zest_holder_addr(&addr, h->who)) {
            fputc(',', to);
            json_string(to, "connection", zest_addr_text(&addr, text));
        }
        if (h->site) {
            fputc(',', to);
            json_string(to, "site", stat_mem_place(place, m->pid, h->site));
        }
        fputc('}', to);
    }
}

void stat_mem_json(const struct stat_mem *m, FILE *to)
{
    fprintf(to, "{\"pid\":%d,\"pool\":%u,", m->pid, m->index);
    json_string(to, "comm", m->comm);
    fputc(',', to);
    json_string(to, "name", m->pool.name);
    fputc(',', to);
    json_string(to, "pages", zbuf_pages_name(m->pool.pages));
    fprintf(to,
            ",\"size\":%zu,\"held\":%zu,\"segments\":%" PRIu64 ",\"slabs\":%u,\"slabs_free\":%u,"
            "\"drains\":%" PRIu64 ",\"debug\":%s,\"ages\":%s,\"classes\":[",
            m->pool.size, m->pool.used, m->pool.live, m->pool.slabs, m->pool.slabs_free,
            m->pool.drains, m->pool.debug ? "true" : "false", m->have_ages ? "true" : "false");
    json_classes(m, to);
    fputs("],\"budgets\":[", to);
    json_budgets(m, to);
    fputs("],\"holders\":[", to);
    json_holders(m, to);
    fputs("]}\n", to);
    fflush(to);
}
