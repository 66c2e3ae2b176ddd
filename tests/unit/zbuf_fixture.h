/* zbuf_fixture.h - what the tests of zbuf/ share: small pools, and last words. */
#ifndef ZBUF_FIXTURE_H
#define ZBUF_FIXTURE_H

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/check.h"
#include "zbuf/zbuf.h"

#define MIB     (1024u * 1024u)
#define FITS(n) ((n)-ZBUF_OVERHEAD) /* the most payload that a segment of n bytes holds */

static inline struct zbuf_pool *pool_of(size_t size)
{
    struct zbuf_pool *pool =
        zbuf_pool_create(&(struct zbuf_pool_config){.size = size, .no_huge = true});
    CU_ASSERT_PTR_NOT_NULL_FATAL(pool);
    return pool;
}

static inline struct zbuf_pool_stat stat_of(const struct zbuf_pool *pool)
{
    struct zbuf_pool_stat st;
    zbuf_pool_stat(pool, &st);
    return st;
}

/* Everything is home, and the pool goes. */
static inline void done_with(struct zbuf_pool *pool)
{
    CU_ASSERT_EQUAL(stat_of(pool).live, 0);
    CU_ASSERT_EQUAL(zbuf_pool_destroy(pool), 0);
}

/* Runs fn in a child; what it wrote to standard error is in `words`. The signal that ended it, or
 * -(exit status). */
static char words[8192];

static inline int last_words(void (*fn)(void))
{
    int fd[2];
    if (pipe(fd) != 0)
        return 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        dup2(fd[1], STDERR_FILENO);
        fn();
        _exit(0);
    }
    close(fd[1]);
    size_t n = 0;
    for (ssize_t r; n < sizeof words - 1 && (r = read(fd[0], words + n, sizeof words - 1 - n)) > 0;)
        n += (size_t)r;
    words[n] = 0;
    close(fd[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}
#define ABORTS(fn)  CU_ASSERT_EQUAL(last_words(fn), SIGABRT)
#define SAYS(text)  CU_ASSERT_PTR_NOT_NULL(strstr(words, (text)))
#define QUIET(text) CU_ASSERT_PTR_NULL(strstr(words, (text)))

#endif
