/* zbuf_debug_test.c - the pool that explains itself: debug mode, who holds what, and other
 * processes' pools. */
#include <stdio.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/unit/zbuf_fixture.h"
#include "zbuf/sanitize.h" /* whether this build has AddressSanitizer */

static struct zbuf_pool *debug_pool(void)
{
    struct zbuf_pool *pool = zbuf_pool_create(
        &(struct zbuf_pool_config){.size = 4 * MIB, .no_huge = true, .debug = true});
    if (!pool)
        _exit(99);
    return pool;
}

/* ---- damage */

static void write_past_the_end(void)
{
    struct zbuf_pool *pool = debug_pool();
    struct zbuf_budget *b = zbuf_budget_create(pool, "careless", 0, 0);
    struct zbuf *first = zbuf_alloc_from(b, FITS(2048)), *second = zbuf_alloc(pool, FITS(2048));
    if (zbuf_end(first) != second->first)
        _exit(98);
    /* One byte too many; through a volatile pointer, so that no compiler sees it coming. */
    uint8_t *volatile end = zbuf_end(first);
    *end = 0xff;
    zbuf_free(second);
}
static void a_write_past_the_end_is_found(void)
{
#ifndef ZBUF_ASAN
    ABORTS(write_past_the_end);
    SAYS("written to before its headroom");
    SAYS("careless"); /* whose segment lies before it */
#else
    CU_ASSERT_NOT_EQUAL(last_words(write_past_the_end), 0);
    SAYS("use-after-poison"); /* where it happens, and without debug mode, too */
#endif
}

static void check_finds_it_too(void)
{
    struct zbuf_pool *pool = debug_pool();
    struct zbuf *zb = zbuf_alloc(pool, FITS(2048));
    zbuf_debug_check(pool); /* nothing yet */
    fputs("so far so good\n", stderr);
    zb->first = NULL;
    zbuf_debug_check(pool);
}
static void write_after_free(void)
{
    struct zbuf_pool *pool = debug_pool();
    struct zbuf *zb = zbuf_alloc(pool, FITS(2048));
    uint8_t *volatile data = zb->data;
    zbuf_free(zb);
    data[100] = 0;
    zbuf_debug_check(pool);
}
static void write_after_free_then_alloc(void)
{
    struct zbuf_pool *pool = debug_pool();
    struct zbuf *zb = zbuf_alloc(pool, FITS(ZBUF_SEG_MAX));
    uint8_t *volatile last = zbuf_end(zb) - 1;
    zbuf_free(zb);
    *last = 0;
    zbuf_alloc(pool, FITS(ZBUF_SEG_MAX));
}
static void header_after_free(void)
{
    struct zbuf_pool *pool = debug_pool();
    struct zbuf *zb = zbuf_alloc(pool, FITS(2048));
    zbuf_free(zb);
    zb->len = 5;
    zbuf_alloc(pool, FITS(2048));
}
static void damage_is_found_sooner_or_later(void)
{
    ABORTS(check_finds_it_too);
    SAYS("so far so good");
    SAYS("header overwritten");
#ifndef ZBUF_ASAN /* which finds these two before we do */
    ABORTS(write_after_free);
    SAYS("freed memory was written to");
    SAYS("offset 292 in free segment"); /* guard 64, headroom 128, and 100 */
    ABORTS(write_after_free_then_alloc);
    SAYS("offset 131071");
#else
    (void)write_after_free;
    (void)write_after_free_then_alloc;
#endif
    ABORTS(header_after_free);
    SAYS("the header of a free segment was written to");
}

static void double_free_in_debug(void)
{
    struct zbuf *zb = zbuf_alloc(debug_pool(), 3000);
    zbuf_free(zb);
    zbuf_free(zb);
}
static void a_call_site_is_named(void)
{
    ABORTS(double_free_in_debug);
    SAYS("allocated by ");
    SAYS("zbuf_debug_test(");
}

static void debug_by_environment(void)
{
    setenv("ZBUF_DEBUG", "1", 1);
    if (!zbuf_debugging(zbuf_pool_create(NULL)))
        _exit(1);
    setenv("ZBUF_DEBUG", "0", 1);
    if (zbuf_debugging(zbuf_pool_create(NULL)))
        _exit(2);
}
static void the_environment_turns_it_on(void)
{
    CU_ASSERT_EQUAL(last_words(debug_by_environment), 0);
}

#ifdef ZBUF_ASAN
static void read_after_free(void)
{
    struct zbuf *zb = zbuf_alloc(zbuf_pool_create(NULL), 3000);
    uint8_t *volatile data = zb->data;
    zbuf_free(zb);
    _exit(data[0]);
}
static void address_sanitizer_knows_what_is_free(void)
{
    CU_ASSERT_NOT_EQUAL(last_words(read_after_free), 0);
    SAYS("use-after-poison");
}
#else
static void address_sanitizer_knows_what_is_free(void)
{
    CU_PASS("not in this build");
}
#endif

/* Under valgrind this reads freed memory; otherwise it does nothing. */
static void a_victim_for_valgrind(void)
{
    if (!RUNNING_ON_VALGRIND)
        return;
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf *zb = zbuf_alloc(pool, 1000);
    volatile uint8_t *data = zb->data;
    zbuf_free(zb);
    words[0] = (char)data[10]; /* used, or valgrind does not bother to look */
    done_with(pool);
}
static void valgrind_knows_what_is_free(void)
{
/* Debian 12's valgrind gives up on the debugging information of its clang. */
#if !defined(ZBUF_ASAN) && !defined(__SANITIZE_THREAD__) && defined(ZBUF_VALGRIND) &&              \
    !defined(__clang__)
    char self[512], command[700];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0 || RUNNING_ON_VALGRIND || system("command -v valgrind >/dev/null") != 0)
        return;
    self[n] = 0;
    snprintf(command, sizeof command, "valgrind -q '%s' a_victim_for_valgrind 2>&1", self);
    FILE *f = popen(command, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    words[fread(words, 1, sizeof words - 1, f)] = 0;
    pclose(f);
    SAYS("Invalid read of size 1");
    SAYS("138 bytes inside a block of size 1,984 free'd"); /* 128 of headroom, and 10 */
#endif
}

/* ---- bytes that change between write and acknowledgement */

static void change_early(void)
{
    struct zbuf_pool *pool = debug_pool();
    struct zbuf *zb = zbuf_alloc(pool, 5000);
    memset(zb->data, 'A', 5000);
    zbuf_watch_begin(pool, zb->data, 5000, "10.0.0.1:80");
    zbuf_watch_end(pool, zb->data, 1000, "10.0.0.1:80");
    zb->data[999] = 'x'; /* acknowledged: free to change */
    zbuf_watch_end(pool, zb->data + 1000, 1000, "10.0.0.1:80");
    fputs("so far so good\n", stderr);
    zb->data[2345] = 'B';
    zbuf_watch_end(pool, zb->data + 2000, 3000, "10.0.0.1:80");
}
static void change_before_a_second_write(void)
{
    struct zbuf_pool *pool = debug_pool();
    struct zbuf *zb = zbuf_alloc(pool, 5000);
    memset(zb->data, 'A', 5000);
    zbuf_watch_begin(pool, zb->data, 5000, "first");
    zb->data[7] = 'B';
    zbuf_watch_begin(pool, zb->data + 7, 1, "second");
}
static void change_while_watched_twice(void)
{
    struct zbuf_pool *pool = debug_pool();
    struct zbuf *zb = zbuf_alloc(pool, 5000);
    memset(zb->data, 'A', 5000);
    zbuf_watch_begin(pool, zb->data, 5000, "first");
    zbuf_watch_begin(pool, zb->data, 5000, "second");
    zbuf_watch_end(pool, zb->data, 5000, "first");
    zb->data[0] = 'B';
    zbuf_watch_end(pool, zb->data, 5000, "second");
}
static void change_while_watched_often(void)
{
    struct zbuf_pool *pool = debug_pool();
    struct zbuf *zb = zbuf_alloc(pool, 5000);
    for (unsigned i = 0; i < 256; i++)
        zbuf_watch_begin(pool, zb->data, 1, "often");
    zb->data[0]++;
    zbuf_watch_end(pool, zb->data, 1, "often");
}
static void a_byte_that_changes_early_is_named(void)
{
    ABORTS(change_while_watched_often);
    ABORTS(change_early);
    SAYS("so far so good");
    SAYS("10.0.0.1:80");
    SAYS("was 0x41, is 0x42");
    SAYS("offset 2537"); /* 2345 after header and headroom */
    ABORTS(change_before_a_second_write);
    ABORTS(change_while_watched_twice);
    SAYS("second");
}

static void no_fuss_without_a_change(void)
{
    struct zbuf_pool *debug = debug_pool(), *plain = pool_of(2 * MIB);
    struct zbuf *zb = zbuf_alloc(debug, 5000), *other = zbuf_alloc(plain, 5000);
    memset(zb->data, 1, 5000);
    for (unsigned i = 0; i < 600; i++) /* more watchers than are counted */
        zbuf_watch_begin(debug, zb->data, 50, "a");
    for (unsigned i = 0; i < 600; i++)
        zbuf_watch_end(debug, zb->data, 50, "a");
    zbuf_free(zb);
    zb = zbuf_alloc(debug, 5000); /* a new life is not watched */
    memset(zb->data, 2, 50);
    zbuf_watch_end(debug, zb->data, 50, "late");
    int local = 0; /* outside, and over the edge */
    zbuf_watch_begin(debug, &local, sizeof local, "a");
    zbuf_watch_end(debug, zbuf_pool_base(debug) + zbuf_pool_size(debug) - 1, 100, "a");
    zbuf_free(zb);
    zbuf_watch_begin(plain, other->data, 5000, "a");
    other->data[0]++;
    zbuf_watch_end(plain, other->data, 5000, "a");
    CU_ASSERT_TRUE(zbuf_debugging(debug));
    CU_ASSERT_FALSE(zbuf_debugging(plain));
    zbuf_free(other);
    zbuf_debug_check(debug);
    zbuf_debug_check(plain);
    done_with(debug);
    done_with(plain);
}

/* Debug mode changes nothing else: the same exhaustion, the same charges. */
static void debug_mode_keeps_to_the_contract(void)
{
    static struct zbuf *zb[2048];
    struct zbuf_pool *pool = debug_pool();
    struct zbuf_budget *b = zbuf_budget_create(pool, "b", 0, 100 * 2048);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(b, FITS(2048), zb, 2048), 100);
    for (unsigned i = 0; i < 50; i++)
        CU_ASSERT_EQUAL(zbuf_charge(zb[i], zbuf_budget_app(pool)), 0);
    struct zbuf *fresh = zbuf_exchange(zb[0], b);
    CU_ASSERT_PTR_NOT_NULL_FATAL(fresh);
    zbuf_debug_check(pool);
    zbuf_free(fresh);
    zbuf_free_bulk(zb, 100);
    CU_ASSERT_EQUAL(zbuf_alloc_bulk(zbuf_budget_app(pool), FITS(2048), zb, 2048), 2048);
    zbuf_free_bulk(zb, 2048);
    zbuf_debug_check(pool);
    done_with(pool);
}

/* ---- who holds what */

static void holders_are_listed_oldest_first(void)
{
    const uint64_t second = 1000000000u;
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf_budget *b = zbuf_budget_create(pool, "b", 0, 0);
    struct zbuf *zb[50];
    struct zbuf_holder h[50];
    for (unsigned i = 0; i < 50; i++) {
        zbuf_tick(pool, (100 + i * 7 % 50) * second); /* in no order of address */
        zb[i] = zbuf_alloc_from(b, i % 2 ? 100 : 5000);
        zb[i]->user = i * 7 % 50;
        zb[i]->len = i;
    }
    zbuf_ref(zb[3]);
    zbuf_tick(pool, 200 * second);
    CU_ASSERT_EQUAL(zbuf_holders(pool, NULL, 0), 50);
    for (unsigned max = 1; max <= 50; max += 7) {
        CU_ASSERT_EQUAL(zbuf_holders(pool, h, max), 50);
        for (unsigned k = 0; k < max; k++) {
            CU_ASSERT_EQUAL(h[k].user, k);
            uint64_t age = (100 - k) * second;
            CU_ASSERT(h[k].age_ns > age - second / 20 && h[k].age_ns < age + second / 20);
        }
    }
    CU_ASSERT_EQUAL(h[0].addr, (uintptr_t)zb[0]->first);
    CU_ASSERT_EQUAL(h[0].size, 8192);
    CU_ASSERT_EQUAL(h[0].owner, zbuf_budget_id(b));
    CU_ASSERT_EQUAL(h[0].refcount, 1);
    CU_ASSERT_EQUAL(h[21].refcount, 2); /* zb[3] */
    CU_ASSERT_EQUAL(h[21].len, 3);
    CU_ASSERT_EQUAL(h[0].site, 0);
    zbuf_free(zb[3]);
    zbuf_free_bulk(zb, 50);
    CU_ASSERT_EQUAL(zbuf_holders(pool, h, 50), 0);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
    done_with(pool);
}

static void the_oldest_of_each_class_and_budget(void)
{
    const uint64_t second = 1000000000u;
    struct zbuf_pool *pool = pool_of(4 * MIB);
    struct zbuf_budget *b = zbuf_budget_create(pool, "b", 0, 0);
    struct zbuf_age cls[ZBUF_CLASSES], budget[2];
    struct zbuf *zb[4];
    for (unsigned i = 0; i < 4; i++) { /* 2K of b, 2K of the application, 1K of b, 1K of b */
        zbuf_tick(pool, (100 + 10 * i) * second);
        zb[i] = zbuf_alloc_from(i == 1 ? zbuf_budget_app(pool) : b, i < 2 ? FITS(2048) : 1);
    }
    zbuf_tick(pool, 200 * second);
    CU_ASSERT_EQUAL(zbuf_ages(pool, cls, budget, 2), 4);
    CU_ASSERT_EQUAL(cls[0].segs, 2);
    CU_ASSERT_EQUAL(cls[0].bytes, 2048);
    CU_ASSERT_EQUAL((cls[0].oldest_ns + second / 2) / second, 80);
    CU_ASSERT_EQUAL((cls[1].oldest_ns + second / 2) / second, 100);
    CU_ASSERT_EQUAL(cls[2].segs, 0);
    CU_ASSERT_EQUAL(cls[2].oldest_ns, 0);
    CU_ASSERT_EQUAL(budget[0].segs, 1);
    CU_ASSERT_EQUAL((budget[0].oldest_ns + second / 2) / second, 90);
    CU_ASSERT_EQUAL(budget[1].segs, 3);
    CU_ASSERT_EQUAL(budget[1].bytes, 2 * 1024 + 2048);
    CU_ASSERT_EQUAL((budget[1].oldest_ns + second / 2) / second, 100);
    zbuf_free(zb[0]);
    CU_ASSERT_EQUAL(zbuf_ages(pool, NULL, budget, 2), 3);
    CU_ASSERT_EQUAL((budget[1].oldest_ns + second / 2) / second, 80);
    CU_ASSERT_EQUAL(zbuf_ages(pool, cls, NULL, 0), 3);
    CU_ASSERT_EQUAL((cls[1].oldest_ns + second / 2) / second, 90);
    zbuf_free_bulk(zb + 1, 3);
    CU_ASSERT_EQUAL(zbuf_budget_destroy(b), 0);
    done_with(pool);
}

/* Who holds a segment is asked of its present life only. */
static void a_holder_is_forgotten_with_the_segment(void)
{
    struct zbuf_pool *pool = pool_of(2 * MIB);
    struct zbuf_holder h[2];
    struct zbuf *zb = zbuf_alloc(pool, 100), *again, *tail;
    CU_ASSERT_EQUAL(zbuf_holders(pool, h, 1), 1);
    CU_ASSERT_EQUAL(h[0].who, 0);
    zbuf_set_holder(zb, 0xfedcba987654u);
    CU_ASSERT_EQUAL(zbuf_holders(pool, h, 1), 1);
    CU_ASSERT_EQUAL(h[0].who, 0xfedcba987654u);
    zbuf_free(zb);
    again = zbuf_alloc(pool, 100);
    CU_ASSERT_PTR_EQUAL(zb, again);
    CU_ASSERT_EQUAL(zbuf_holders(pool, h, 1), 1);
    CU_ASSERT_EQUAL(h[0].who, 0);
    /* A borrowed link has other things to remember. */
    again->len = 100;
    CU_ASSERT_EQUAL_FATAL(zbuf_chain_split(again, 50, zbuf_budget_app(pool), &tail), 0);
    zbuf_set_holder(tail, 1);
    zbuf_chain_free(tail);
    zbuf_free(again);
    done_with(pool);
}

static void leak(void)
{
    struct zbuf_pool *pool = debug_pool();
    struct zbuf_budget *a = zbuf_budget_create(pool, "conn 7", 0, 0);
    struct zbuf_budget *b = zbuf_budget_create(pool, "tidy", 0, 0);
    zbuf_alloc_from(a, 3000);
    zbuf_alloc_from(a, 3000);
    zbuf_free(zbuf_alloc_from(b, 3000));
    zbuf_alloc(pool, 100);
    if (zbuf_pool_destroy(pool) != -EBUSY)
        _exit(1);
}
static void leaks_are_listed_by_owner(void)
{
    CU_ASSERT_EQUAL(last_words(leak), 0);
    SAYS("3 segments (9216 bytes)");
    SAYS("conn 7 holds 2 segments, 8192 bytes");
    SAYS("app holds 1 segments, 1024 bytes");
    QUIET("tidy");
    SAYS("allocated by ");
}

/* In debug mode that is also said of a pool that nobody destroyed: by its own process only. */
static void leak_and_exit(void)
{
    struct zbuf_pool *pool = zbuf_pool_create(&(struct zbuf_pool_config){
        .size = 2 * MIB, .no_huge = true, .debug = true, .name = "left"});
    zbuf_alloc_from(zbuf_budget_create(pool, "conn 8", 0, 0), 3000);
    if (fork() == 0)
        exit(0);
    wait(NULL);
    fputs("the child has ended\n", stderr);
    exit(0);
}
static void leave_nothing_and_exit(void)
{
    struct zbuf_pool *pool = debug_pool();
    zbuf_free(zbuf_alloc(pool, 100));
    exit(0);
}
static void leaks_are_listed_at_exit(void)
{
    last_words(leak_and_exit);
    SAYS("zbuf: pool left not destroyed at exit, with 1 segments (4096 bytes) still held:");
    SAYS("conn 8 holds 1 segments, 4096 bytes");
    const char *child_ended = strstr(words, "the child has ended");
    CU_ASSERT_PTR_NOT_NULL_FATAL(child_ended);
    CU_ASSERT(strstr(words, "conn 8") > child_ended);
    last_words(leave_nothing_and_exit);
    QUIET("not destroyed");
}

/* ---- from outside */

static struct zbuf_reader *open_child(pid_t pid, unsigned index, int err)
{
    struct zbuf_reader *rd = NULL;
    CU_ASSERT_EQUAL(zbuf_reader_open(pid, index, &rd), err);
    return rd;
}

static void child(int ready, int go)
{
    static struct zbuf *zb[2048];
    struct zbuf_pool_config cfg = {.size = 4 * MIB, .no_huge = true, .name = "child's"};
    struct zbuf_pool *pool = zbuf_pool_create(&cfg);
    cfg.private_stat = true;
    struct zbuf_pool *hidden = zbuf_pool_create(&cfg);
    struct zbuf_budget *b = zbuf_budget_create(pool, "b", 8 * 2048, 0);
    unsigned n = zbuf_alloc_bulk(b, FITS(2048), zb, 10);
    zb[0]->user = 4711;
    zbuf_set_holder(zb[0], 815);
    char c = (char)n;
    if (!hidden || write(ready, &c, 1) != 1 || read(go, &c, 1) != 1)
        _exit(1);
    n += zbuf_alloc_bulk(b, FITS(2048), zb + n, 2048 - n); /* exhausted now */
    zbuf_alloc(pool, 1);
    if (write(ready, &c, 1) != 1 || read(go, &c, 1) != 1)
        _exit(1);
    zbuf_free_bulk(zb, n);
    zbuf_pool_destroy(pool);
    if (write(ready, &c, 1) != 1 || read(go, &c, 1) != 1)
        _exit(1);
    _exit(0);
}

static void another_process_can_look(void)
{
    int ready[2], go[2];
    char c = 0;
    struct zbuf_pool_stat st;
    struct zbuf_budget_stat b[4];
    struct zbuf_holder h[10];
    struct zbuf_age age[ZBUF_CLASSES + 2];
    CU_ASSERT_EQUAL_FATAL(pipe(ready) + pipe(go), 0);
    struct zbuf_pool *mine = pool_of(2 * MIB); /* the child must not show it as its own */
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        child(ready[1], go[0]);

    CU_ASSERT_EQUAL_FATAL(read(ready[0], &c, 1), 1);
    struct zbuf_reader *rd = open_child(pid, 0, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(rd);
    open_child(pid, 1, -ENOENT);
    CU_ASSERT_EQUAL(zbuf_reader_pool_stat(rd, &st), 0);
    CU_ASSERT_STRING_EQUAL(st.name, "child's");
    CU_ASSERT_EQUAL(st.size, 4 * MIB);
    CU_ASSERT_EQUAL(st.live, 10);
    CU_ASSERT_EQUAL(zbuf_reader_budget_stats(rd, b, 4), 2);
    CU_ASSERT_STRING_EQUAL(b[1].name, "b");
    CU_ASSERT_EQUAL(b[1].used, 10 * 2048);
    CU_ASSERT_EQUAL(b[1].min, 8 * 2048);
    int live = zbuf_reader_holders(rd, h, 10);
    if (live != -EPERM) {
        CU_ASSERT_EQUAL(live, 10);
        unsigned found = 0;
        for (unsigned i = 0; i < 10; i++) {
            CU_ASSERT_EQUAL(h[i].size, 2048);
            CU_ASSERT(h[i].age_ns < 60 * (uint64_t)1000000000);
            found += h[i].user == 4711 && h[i].who == 815;
        }
        CU_ASSERT_EQUAL(found, 1);
        CU_ASSERT_EQUAL(zbuf_reader_holders(rd, h, 3), 10);
        CU_ASSERT_EQUAL(zbuf_reader_ages(rd, age, age + ZBUF_CLASSES, 2), 10);
        CU_ASSERT_EQUAL(age[1].segs, 10);
        CU_ASSERT_EQUAL(age[ZBUF_CLASSES + 1].segs, 10);
        CU_ASSERT_EQUAL(age[ZBUF_CLASSES].segs, 0);
    }

    CU_ASSERT_EQUAL(write(go[1], &c, 1), 1);
    CU_ASSERT_EQUAL(read(ready[0], &c, 1), 1);
    CU_ASSERT_EQUAL(zbuf_reader_pool_stat(rd, &st), 0); /* also when there is nothing left */
    CU_ASSERT_EQUAL(st.live, 2048);
    CU_ASSERT_EQUAL(st.used, 4 * MIB);
    CU_ASSERT_EQUAL(st.cls[0].failures, 1);
    CU_ASSERT_EQUAL(zbuf_reader_budget_stats(rd, b, 1), 2);
    CU_ASSERT_EQUAL(b[0].failures, 1);
    if (live != -EPERM) { /* more than are fetched at a time */
        CU_ASSERT_EQUAL(zbuf_reader_ages(rd, age, NULL, 0), 2048);
        CU_ASSERT_EQUAL(age[1].bytes, 4 * MIB);
    }

    CU_ASSERT_EQUAL(write(go[1], &c, 1), 1);
    CU_ASSERT_EQUAL(read(ready[0], &c, 1), 1);
    CU_ASSERT_EQUAL(zbuf_reader_pool_stat(rd, &st), -ESTALE); /* the pool has gone */
    CU_ASSERT_EQUAL(zbuf_reader_holders(rd, h, 3), -ESTALE);
    CU_ASSERT_EQUAL(zbuf_reader_ages(rd, age, NULL, 0), -ESTALE);
    zbuf_reader_close(rd);
    CU_ASSERT_EQUAL(write(go[1], &c, 1), 1);
    int status = 1;
    waitpid(pid, &status, 0);
    CU_ASSERT_EQUAL(status, 0);
    open_child(pid, 0, -ESRCH);
    rd = open_child(getpid(), 0, 0); /* one's own is as good as another's */
    zbuf_reader_close(rd);
    zbuf_reader_close(NULL);
    for (unsigned i = 0; i < 2; i++) {
        close(ready[i]);
        close(go[i]);
    }
    done_with(mine);
}

static void a_killed_process_is_noticed(void)
{
    int ready[2];
    char c = 0;
    struct zbuf_pool_stat st;
    CU_ASSERT_EQUAL_FATAL(pipe(ready), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        zbuf_pool_create(NULL);
        if (write(ready[1], &c, 1) == 1)
            pause();
        _exit(1);
    }
    CU_ASSERT_EQUAL(read(ready[0], &c, 1), 1);
    struct zbuf_reader *rd = open_child(pid, 0, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(rd);
    CU_ASSERT_EQUAL(zbuf_reader_pool_stat(rd, &st), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    CU_ASSERT_EQUAL(zbuf_reader_pool_stat(rd, &st), -ESTALE);
    zbuf_reader_close(rd);
    close(ready[0]);
    close(ready[1]);
}

/* What calls itself a pool and is none that we know. */
static void another_version_is_refused(void)
{
    struct zbuf_reader *rd = NULL;
    struct stat st;
    struct zbuf_pool *pool = pool_of(2 * MIB); /* for its size */
    int other = memfd_create("zbuf-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING), own = -1;
    char path[64], link[64] = "";
    for (int fd = 3; fd < other; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, link, sizeof link - 1);
        if (n > 0 && strncmp(link, "/memfd:zbuf-pool", 16) == 0)
            own = fd;
    }
    CU_ASSERT_FATAL(own >= 0 && fstat(own, &st) == 0);
    CU_ASSERT_EQUAL(zbuf_reader_open(getpid(), 1, &rd), -EPROTO); /* empty */
    CU_ASSERT_EQUAL(ftruncate(other, st.st_size), 0);
    CU_ASSERT_EQUAL(zbuf_reader_open(getpid(), 1, &rd), -EPROTO); /* of the right size */
    char head[128];
    CU_ASSERT_EQUAL(pread(own, head, sizeof head, 0), sizeof head);
    CU_ASSERT_EQUAL(pwrite(other, head, sizeof head, 0), sizeof head);
    CU_ASSERT_EQUAL(zbuf_reader_open(getpid(), 1, &rd), -EPROTO); /* it could shrink */
    CU_ASSERT_EQUAL(fcntl(other, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    CU_ASSERT_EQUAL(zbuf_reader_open(getpid(), 1, &rd), 0);
    zbuf_reader_close(rd);
    head[8]++; /* the version */
    CU_ASSERT_EQUAL(pwrite(other, head, sizeof head, 0), sizeof head);
    CU_ASSERT_EQUAL(zbuf_reader_open(getpid(), 1, &rd), -EPROTO);
    close(other);
    done_with(pool);
}

CHECK_MAIN("zbuf_debug", CHECK(a_write_past_the_end_is_found),
           CHECK(damage_is_found_sooner_or_later), CHECK(a_call_site_is_named),
           CHECK(the_environment_turns_it_on), CHECK(address_sanitizer_knows_what_is_free),
           CHECK(a_victim_for_valgrind), CHECK(valgrind_knows_what_is_free),
           CHECK(a_byte_that_changes_early_is_named), CHECK(no_fuss_without_a_change),
           CHECK(debug_mode_keeps_to_the_contract), CHECK(holders_are_listed_oldest_first),
           CHECK(leaks_are_listed_by_owner), CHECK(leaks_are_listed_at_exit),
           CHECK(another_process_can_look), CHECK(a_killed_process_is_noticed),
           CHECK(another_version_is_refused), CHECK(the_oldest_of_each_class_and_budget),
           CHECK(a_holder_is_forgotten_with_the_segment))
