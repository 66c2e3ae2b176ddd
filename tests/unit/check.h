/* check.h - what every CUnit program here shares: one suite, a name for each test, and a closing
 * line that tests/run adds up. A test is a function without arguments; failures are printed with
 * file and line.
 *
 *     static void adds_up(void) { CU_ASSERT_EQUAL(1 + 1, 2); }
 *     CHECK_MAIN("sums", CHECK(adds_up))
 */
#ifndef CHECK_H
#define CHECK_H

#include <CUnit/CUnit.h>
#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

struct check {
    const char *name;
    CU_TestFunc fn;
};
#define CHECK(fn)                                                                                  \
    {                                                                                              \
#fn, fn                                                                                    \
    }

static inline int check_run(const char *suite_name, const struct check *tests, size_t n,
                            const char *only)
{
    if (CU_initialize_registry() != CUE_SUCCESS)
        return 2;
    CU_pSuite suite = CU_add_suite(suite_name, NULL, NULL);
    for (size_t i = 0; i < n; i++)
        if (!only || strcmp(only, tests[i].name) == 0)
            CU_add_test(suite, tests[i].name, tests[i].fn);
    CU_basic_set_mode(CU_BRM_SILENT);
    CU_basic_run_tests();
    CU_basic_show_failures(CU_get_failure_list());
    unsigned failed = CU_get_number_of_tests_failed();
    unsigned ran = CU_get_number_of_tests_run();
    printf("\n%s: %u passed, %u failed\n", suite_name, ran - failed, failed);
    CU_cleanup_registry();
    return failed || ran == 0 ? 1 : 0;
}

/* The one argument that a program takes is the name of a single test to run. */
#define CHECK_MAIN(suite, ...)                                                                     \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        static const struct check tests[] = {__VA_ARGS__};                                         \
        return check_run(suite, tests, sizeof tests / sizeof tests[0], argc > 1 ? argv[1] : NULL); \
    }

#endif
