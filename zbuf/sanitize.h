/* sanitize.h - tells AddressSanitizer and valgrind which bytes of the region are alive, so that
 * users' bugs show up in the tools they know.
 *
 * AddressSanitizer is compiled in or not, so its calls are on the fast path of that build only.
 * valgrind can turn up at any time: a pool made under it takes the slow path always, and that is
 * where its requests are made (they cost nothing elsewhere). */
#ifndef ZBUF_SANITIZE_H
#define ZBUF_SANITIZE_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define ZBUF_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ZBUF_ASAN 1
#endif
#endif

#ifdef ZBUF_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(addr, size)   ((void)(addr), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#endif

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define ZBUF_VALGRIND 1
#endif
#endif
#ifndef ZBUF_VALGRIND
#define RUNNING_ON_VALGRIND                 0
#define VALGRIND_CREATE_MEMPOOL(pool, r, z) ((void)0)
#define VALGRIND_DESTROY_MEMPOOL(pool)      ((void)0)
#define VALGRIND_MEMPOOL_ALLOC(pool, a, s)  ((void)0)
#define VALGRIND_MEMPOOL_FREE(pool, a)      ((void)0)
#define VALGRIND_MAKE_MEM_NOACCESS(a, s)    ((void)0)
#define VALGRIND_MAKE_MEM_DEFINED(a, s)     ((void)0)
#endif

#endif
