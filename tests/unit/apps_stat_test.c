/* apps_stat_test.c - what zest stat --mem makes of another process's memory: in order, exhausted,
 * dying, and made to mislead it. */
#include <fcntl.h>
#include <sys/mman.h>

#include "apps/stat_mem.h"
#include "tests/unit/zbuf_fixture.h"
#include "zbuf/mirror.h"

#define HOLDERS 8u

/* ---- a line of /proc/PID/maps */

static bool place(const char *line, uint64_t addr, const char *want)
{
    char buf[STAT_PLACE] = "untouched";
    bool found = stat_mem_map_line(line, addr, buf);
    return found == (want != NULL) && strcmp(buf, want ? want : "untouched") == 0;
}

static void an_address_is_found_in_its_file(void)
{
    const char *zest = "55d0c000-55d0e000 r-xp 00002000 08:01 1234567      /usr/bin/zest\n";
    CU_ASSERT(place(zest, 0x55d0c000, "zest+0x2000"));
    CU_ASSERT(place(zest, 0x55d0dfff, "zest+0x3fff"));
    CU_ASSERT(place(zest, 0x55d0e000, NULL));
    CU_ASSERT(place(zest, 0x55d0bfff, NULL));
    CU_ASSERT(place("1000-2000 r-xp 0 00:00 1 /a b/c d (deleted)\n", 0x1001, "c d (deleted)+0x1"));
    CU_ASSERT(place("1000-2000 rw-p 0 00:00 0 \n", 0x1001, NULL)); /* no file */
    CU_ASSERT(place("1000-2000 rw-p 0 00:00 0 [heap]\n", 0x1001, NULL));
}

static void what_is_no_line_of_maps_is_passed_over(void)
{
    static const char *const lines[] = {
        "",
        "\n",
        "1000",
        "1000-",
        "1000-2000",
        "1000-2000 r-xp",
        "1000-2000 r-xp ",
        "1000-2000 r-xp 0",
        "1000-2000 r-xp 0 00:00",
        "1000-2000 r-xp 0 00:00 1",
        "-1000-2000 r-xp 0 00:00 1 /x",
        " 1000-2000 r-xp 0 00:00 1 /x",
        "+1000-2000 r-xp 0 00:00 1 /x",
        "1000 -2000 r-xp 0 00:00 1 /x",
        "1000-2000r-xp 0 00:00 1 /x",
        "1000-2000 r-xp 0x 00:00 1 /x",
        "1000-2000 r-xp 10000000000000000 00:00 1 /x",
        "1000-10000000000000000 r-xp 0 00:00 1 /x",
        "2000-1000 r-xp 0 00:00 1 /x",
        "1000-2000 r-xp 0 00:00 1 x/x", /* the rest of a line that was too long */
    };
    for (unsigned i = 0; i < sizeof lines / sizeof lines[0]; i++)
        CU_ASSERT(place(lines[i], 0x1800, NULL));
}

static void a_hostile_file_name_is_tamed(void)
{
    char line[8192], buf[STAT_PLACE];
    CU_ASSERT(place("1000-2000 r-xp 0 00:00 1 /tmp/\x1b[2J\x9b\tx\n", 0x1000, "?[2J??x+0x0"));
    int n = snprintf(line, sizeof line, "1000-2000 r-xp ffffffffffffffff 00:00 1 /");
    memset(line + n, 'x', sizeof line - 1 - (size_t)n);
    line[sizeof line - 1] = 0;
    CU_ASSERT_TRUE(stat_mem_map_line(line, 0x1001, buf)); /* the offset wraps */
    CU_ASSERT_EQUAL(strlen(buf), 100 + strlen("+0x0"));
}

/* ---- what is printed */

/* All that it prints, as text and as JSON. */
static char out[1 << 20];

static size_t print(const struct stat_mem *m, bool json)
{
    FILE *to = fmemopen(out, sizeof out, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(to);
    json ? stat_mem_json(m, to) : stat_mem_text(m, to);
    long n = ftell(to);
    fclose(to);
    CU_ASSERT_FATAL(n > 0 && (size_t)n < sizeof out);
    return (size_t)n;
}

static bool prints_plain_text(const struct stat_mem *m)
{
    for (int json = 0; json < 2; json++) {
        size_t n = print(m, json);
        for (size_t i = 0; i < n; i++)
            if (out[i] != '\n' && (out[i] < ' ' || out[i] > '~'))
                return false;
        /* Balanced, and on one line: the names could have ended a string. */
        if (json &&
            (out[0] != '{' || strcmp(out + n - 3, "]}\n") != 0 || strchr(out, '\n') != out + n - 1))
            return false;
    }
    return true;
}

static void garbage_is_printed_as_such(void)
{
    static const unsigned char fill[] = {0x00, 0x1b, 0x22, 0x5c, 0x7f, 0x80, 0x9b, 0xff};
    static struct zbuf_age age[ZBUF_BUDGETS];
    for (unsigned i = 0; i < sizeof fill; i++) {
        struct zbuf_budget_stat budget[3];
        struct zbuf_holder holder[2];
        struct stat_mem m;
        memset(&m, fill[i], sizeof m);
        memset(budget, fill[i], sizeof budget);
        memset(holder, fill[i], sizeof holder);
        memset(age, fill[i], sizeof age);
        for (unsigned b = 0; b < 3; b++) { /* as the reader leaves them */
            budget[b].id = (uint16_t)b;
            budget[b].name[ZBUF_NAME_MAX - 1] = 0;
        }
        m.pool.name[ZBUF_NAME_MAX - 1] = m.comm[sizeof m.comm - 1] = 0;
        m.pool.debug = m.have_ages = true;
        m.pid = getpid();
        m.budget = budget;
        m.budgets = 3;
        m.budget_age = age;
        m.holder = holder;
        m.holders = 2;
        CU_ASSERT_TRUE(prints_plain_text(&m));
    }
}

/* ---- pools in order, and exhausted */

static void an_exhausted_pool_is_read(void)
{
    static struct zbuf *all[1024];
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct stat_mem m;
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), all, 1024), 1024);
    CU_ASSERT_PTR_NULL(zbuf_alloc(pool, 1));
    CU_ASSERT_EQUAL_FATAL(stat_mem_read(&m, getpid(), 0, HOLDERS), 0);
    CU_ASSERT_EQUAL(m.pool.live, 1024);
    CU_ASSERT_EQUAL(m.pool.cls[1].free, 0);
    CU_ASSERT_EQUAL(m.pool.cls[0].failures, 1);
    CU_ASSERT_EQUAL(m.budgets, 1);
    CU_ASSERT_EQUAL(m.budget[0].used, 2 * MIB);
    CU_ASSERT_EQUAL(m.budget[0].failures, 1);
    if (m.have_ages) { /* we may trace ourselves, unless a sandbox forbids it */
        CU_ASSERT_EQUAL(m.holders, HOLDERS);
        CU_ASSERT_EQUAL(m.cls_age[1].segs, 1024);
        CU_ASSERT_EQUAL(m.budget_age[0].bytes, 2 * MIB);
    }
    CU_ASSERT_TRUE(prints_plain_text(&m));
    print(&m, false);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, "2 MiB of 2 MiB held in 1024 segments"));
    stat_mem_free(&m);
    CU_ASSERT_EQUAL(stat_mem_read(&m, getpid(), 1, 0), -ENOENT); /* there is no second one */
    zbuf_free_bulk(all, 1024);
    done_with(pool);
}

/* ---- a process that lies */

/* A file as a pool's, of our own process: what is in it is ours to choose. */
static struct mirror *false_mirror(int *fd)
{
    *fd = memfd_create(MIRROR_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CU_ASSERT_FATAL(*fd >= 0 && ftruncate(*fd, sizeof(struct mirror)) == 0);
    CU_ASSERT_EQUAL_FATAL(fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    struct mirror *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    CU_ASSERT_FATAL(m != MAP_FAILED);
    return m;
}
static void plausible(struct mirror *m)
{
    m->magic = MIRROR_MAGIC;
    m->version = MIRROR_VERSION;
    m->stat_size = sizeof m->pool;
    m->budget_size = sizeof m->budget[0];
    m->side_size = sizeof(struct debug_side);
    m->closed = 0;
}

/* What lies where a lie points to: so that it is read, and not merely refused. */
static uint8_t *trap_memory(size_t *size)
{
    *size = 64 * MIB;
    uint8_t *p = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CU_ASSERT_FATAL(p != MAP_FAILED);
    return p;
}

/* Lists without an end, and numbers without a limit. */
struct trap_lists {
    struct depot *depots, *depot; /* two bays */
    struct cache *caches, cache;
    struct mag *mag; /* MAG_SLOTS */
};

static void *zeros(size_t bytes)
{
    bytes = (bytes + 63) & ~(size_t)63;
    void *p = aligned_alloc(64, bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    return memset(p, 0, bytes);
}

enum lie {
    NO_LIST,
    NO_LIE,
    ENDLESS_DEPOTS,
    LONG_BATCH,
    NO_BAY,
    MANY_BAYS,
    ENDLESS_CACHES,
    ENDLESS_MAGS,
    LONG_MAG,
    LIES
};

static struct trap_lists *trap_lists(void)
{
    struct trap_lists *t = zeros(sizeof *t);
    t->depot = zeros(sizeof *t->depot + 2 * sizeof t->depot->bay[0]);
    t->mag = zeros(sizeof *t->mag + MAG_SLOTS * sizeof t->mag->unit[0]);
    t->depot->bay[0].turn = 1;
    t->depot->bay[1].turn = 2;
    t->caches = &t->cache;
    t->cache.in_use = t->mag;
    return t;
}

static void set_lists(struct mirror *m, struct trap_lists *t, enum lie lie)
{
    t->depots = lie == NO_LIST ? NULL : t->depot;
    t->depot->next = lie == ENDLESS_DEPOTS ? t->depot : NULL;
    t->depot->batch = lie == LONG_BATCH ? BAY_SEGS + 1 : BAY_SEGS;
    t->depot->bays = lie == NO_BAY ? 0 : lie == MANY_BAYS ? UINT32_MAX : 2;
    t->depot->in = lie == MANY_BAYS ? UINT32_MAX : 2;
    t->cache.next_in_pool = lie == ENDLESS_CACHES ? &t->cache : NULL;
    t->mag->next = lie == ENDLESS_MAGS ? t->mag : NULL;
    t->mag->n = lie == LONG_MAG ? UINT32_MAX : MAG_SLOTS;
    t->mag->marked = 1;
    m->depots = (uintptr_t)&t->depots;
    m->caches = (uintptr_t)&t->caches;
}

static void a_lying_file_does_no_harm(void)
{
    struct trap_lists *lists = trap_lists();
    int fd;
    size_t size;
    struct mirror *m = false_mirror(&fd);
    uint8_t *trap = trap_memory(&size);
    uint64_t rng = 88172645463325252u;
    unsigned read = 0;
    for (size_t i = 0; i < 2 * MIB; i += 1021) /* some of the headers and marks are not zero */
        trap[i] = (uint8_t)i;
    for (unsigned round = 0; round < 60; round++) {
        struct stat_mem seen;
        uint8_t *raw = (uint8_t *)m;
        for (size_t i = 0; i < sizeof *m; i += round % 2 ? 1 : 97) {
            rng ^= rng << 13;
            rng ^= rng >> 7;
            rng ^= rng << 17;
            raw[i] = round % 3 ? (uint8_t)rng : 0xff;
        }
        plausible(m);
        m->seq = round % 5 ? m->seq & ~1u : m->seq | 1; /* also: for ever being written */
        if (round % 4) {
            m->slabs = round % 4 == 1 ? 2 : round % 4 == 2 ? POOL_SLABS_MAX : UINT32_MAX;
            m->base = m->header = m->slab_cls = m->live = m->birth = m->side = (uintptr_t)trap;
            set_lists(m, lists, (enum lie)(round % LIES));
        }
        int err = stat_mem_read(&seen, getpid(), 0, HOLDERS);
        CU_ASSERT(err == 0 || err == -ESTALE || err == -EPROTO);
        if (err)
            continue;
        read++;
        unsigned wrong = 0;
        for (unsigned i = 0; i < seen.budgets; i++)
            wrong += seen.budget[i].id >= ZBUF_BUDGETS || seen.budget[i].parent >= ZBUF_BUDGETS;
        CU_ASSERT_EQUAL(wrong, 0); /* they are indices */
        if (seen.budgets > 100)
            seen.budgets = 100; /* prints soon enough */
        CU_ASSERT_TRUE(prints_plain_text(&seen));
        stat_mem_free(&seen);
    }
    CU_ASSERT(read > 0);
    free(lists->depot);
    free(lists->mag);
    free(lists);
    munmap(trap, size);
    munmap(m, sizeof *m);
    close(fd);
}

/* ---- a process that goes */

/* A process with a pool that ends by itself a little later than it is ready, or never. */
static pid_t mayfly(unsigned life_us)
{
    int ready[2];
    char c;
    CU_ASSERT_EQUAL_FATAL(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct zbuf_pool *pool =
            zbuf_pool_create(&(struct zbuf_pool_config){.size = 4 * MIB, .no_huge = true});
        for (unsigned i = 0; i < 500; i++)
            zbuf_alloc(pool, 1000);
        if (write(ready[1], "r", 1) != 1)
            _exit(1);
        usleep(life_us);
        _exit(0);
    }
    close(ready[1]);
    CU_ASSERT_EQUAL_FATAL(read(ready[0], &c, 1), 1);
    close(ready[0]);
    return pid;
}

static void a_process_may_end_while_it_is_read(void)
{
    for (unsigned i = 0; i < 20; i++) {
        struct stat_mem m;
        pid_t pid = mayfly(i * 300);
        int err;
        do {
            err = stat_mem_read(&m, pid, 0, HOLDERS);
            if (err == 0) {
                CU_ASSERT(!m.have_ages || m.cls_age[1].segs == 500);
                stat_mem_free(&m);
            }
        } while (err == 0);
        /* Nothing is left to be freed, and it is called what it is. */
        CU_ASSERT_PTR_NULL(m.budget);
        CU_ASSERT_PTR_NULL(m.holder);
        CU_ASSERT(err == -ESTALE || err == -ESRCH || err == -ENOENT || err == -EACCES ||
                  err == -EPERM);
        waitpid(pid, NULL, 0);
        CU_ASSERT_EQUAL(stat_mem_read(&m, pid, 0, 0), -ESRCH);
    }
}

CHECK_MAIN("apps_stat", CHECK(an_address_is_found_in_its_file),
           CHECK(what_is_no_line_of_maps_is_passed_over), CHECK(a_hostile_file_name_is_tamed),
           CHECK(garbage_is_printed_as_such), CHECK(an_exhausted_pool_is_read),
           CHECK(a_lying_file_does_no_harm), CHECK(a_process_may_end_while_it_is_read))
