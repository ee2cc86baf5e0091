/* Counts what a proxy asks of the allocator: preloaded into it, for a pass of its own that is not timed.
 *
 * The counts stand in a file that the runner reads while the proxy runs: two numbers of 64 bits, calls that hand out memory and calls that
 * give it back. Memory that a program cuts up by itself (pools, arenas) counts once, when it is taken.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic uint64_t unmapped[2];
static _Atomic uint64_t *counts = unmapped;

/* glibc's own names: no dlsym, which itself allocates. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static void taken(void) { atomic_fetch_add_explicit(&counts[0], 1, memory_order_relaxed); }
static void given(void) { atomic_fetch_add_explicit(&counts[1], 1, memory_order_relaxed); }

__attribute__((constructor)) static void map_counts(void) {
    const char *path = getenv("FERROGATE_BENCH_COUNTS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) counts = page;
}

void *malloc(size_t size) { taken(); return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { taken(); return __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { taken(); return __libc_realloc(old, size); }
void *memalign(size_t alignment, size_t size) { taken(); return __libc_memalign(alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { taken(); return __libc_memalign(alignment, size); }

int posix_memalign(void **result, size_t alignment, size_t size) {
    if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0) return EINVAL;
    taken();
    void *memory = __libc_memalign(alignment, size);
    if (memory == NULL) return ENOMEM;
    *result = memory;
    return 0;
}

void free(void *memory) { if (memory) given(); __libc_free(memory); }
