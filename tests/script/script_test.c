/* script_test.c - plays packet scripts: those named, or all in tests/script/rfc, and
 * those in tests/script/wrong, which have to fail.
 *
 *     build/gcc/script/script_test [FILE...] */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script.h"

#define SCRIPTS_MAX 4096
#define MUST_FAIL   "// must fail: "

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f) {
        printf("%s: %s\n", path, strerror(errno));
        return NULL;
    }
    size_t size = 0, n;
    char *text = NULL, buf[4096];
    while ((n = fread(buf, 1, sizeof buf, f)) > 0) {
        char *more = realloc(text, size + n + 1);
        if (!more)
            break;
        text = more;
        memcpy(text + size, buf, n);
        size += n;
        text[size] = 0;
    }
    fclose(f);
    return text ? text : calloc(1, 1);
}

/* A script that begins with "// must fail: WORDS" has to, for a reason with those words in it: the
 * runner itself is tested so. */
static bool fails_as_said(const char *path, const char *text, const char *why)
{
    const char *words = text + strlen(MUST_FAIL);
    size_t n = strcspn(words, "\n");
    char *said = strndup(words, n);
    bool ok = said && why && strstr(why, said);
    if (!ok)
        printf("%s: must fail with \"%s\", but: %s\n", path, said ? said : "",
               why ? why : "passes");
    free(said);
    return ok;
}

static bool one(const char *path)
{
    static struct run r;
    static char why[1024];
    char *text = read_file(path);
    if (!text)
        return false;
    struct script *s = script_parse(path, text, why, sizeof why);
    bool ok = s && script_play(&r, s);
    /* However the bytes are sent, the segments are the same. */
    if (ok) {
        s->cfg.gather = ZEST_GATHER_ALWAYS;
        ok = script_play(&r, s);
    }
    if (ok) {
        s->write_copy = true;
        s->cfg.gather = ZEST_GATHER_NEVER;
        ok = script_play(&r, s);
    }
    if (s && !ok)
        memcpy(why, r.why, sizeof why);
    if (strncmp(text, MUST_FAIL, strlen(MUST_FAIL)) == 0)
        ok = fails_as_said(path, text, ok ? NULL : why);
    else if (!ok)
        printf("%s\n", why);
    if (s)
        script_free(s);
    free(text);
    return ok;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int all_in(const char *dir, char **paths, int max)
{
    DIR *d = opendir(dir);
    int n = 0;
    if (!d)
        return 0;
    for (struct dirent *e; n < max && (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len > 4 && strcmp(e->d_name + len - 4, ".pkt") == 0 &&
            asprintf(&paths[n], "%s/%s", dir, e->d_name) > 0)
            n++;
    }
    closedir(d);
    qsort(paths, (size_t)n, sizeof *paths, by_name);
    return n;
}

int main(int argc, char **argv)
{
    static char *paths[SCRIPTS_MAX];
    unsigned passed = 0, failed = 0;
    if (argc > 1) {
        for (int i = 1; i < argc; i++)
            *(one(argv[i]) ? &passed : &failed) += 1;
    } else {
        int n = all_in("tests/script/rfc", paths, SCRIPTS_MAX);
        n += all_in("tests/script/wrong", paths + n, SCRIPTS_MAX - n);
        for (int i = 0; i < n; i++) {
            *(one(paths[i]) ? &passed : &failed) += 1;
            free(paths[i]);
        }
    }
    printf("scripts: %u passed, %u failed\n", passed, failed);
    return failed || passed == 0;
}
