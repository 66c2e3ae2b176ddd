/* coverage_exit.c - linked to programs whose coverage is measured: one that ends by abort() (what
 * must not happen did) or _exit() (a child's way) writes its counts first, too. */
#include <gcov.h>
#include <stdlib.h>

_Noreturn void __real_abort(void);
_Noreturn void __real__exit(int status);
_Noreturn void __wrap_abort(void);
_Noreturn void __wrap__exit(int status);

_Noreturn void __wrap_abort(void)
{
    __gcov_dump();
    __real_abort();
}

_Noreturn void __wrap__exit(int status)
{
    __gcov_dump();
    __real__exit(status);
}
