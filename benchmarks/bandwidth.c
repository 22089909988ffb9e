// Reads memory as fast as it will go: every thread its own part of a buffer, cut into streams that advance together.
// `bandwidth.py` builds this with the system's compiler.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>

enum { LINE = 64, STEP = 4 * LINE, MAX_THREADS = 1024 };
typedef int64_t Vector __attribute__((vector_size(LINE)));

typedef struct {
    const char *begin;
    size_t bytes;
    int cpu, streams, ahead;
    pthread_barrier_t *barrier;
    int64_t sum;
} Part;

void *bandwidth_allocate(size_t bytes, int huge) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
    madvise(memory, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);  // refused by some kernels: then the pages are plain
#endif
    for (size_t at = 0; at < bytes; at += sizeof(int64_t)) *(int64_t *)((char *)memory + at) = (int64_t)at;
    return memory;
}

void bandwidth_free(void *memory, size_t bytes) { munmap(memory, bytes); }

// Inlined with constants, so that the loop over the streams is unrolled. `ahead`: bytes to prefetch ahead, 0 for none.
static inline __attribute__((always_inline)) int64_t read_streams(const char *begin, size_t bytes, int streams, int ahead) {
    Vector sums[4] = {{0}};
    size_t length = bytes / streams / STEP * STEP;
    for (size_t at = 0; at < length; at += STEP)
        for (int stream = 0; stream < streams; stream++) {
            const char *from = begin + stream * length + at;
            for (int line = 0; line < 4; line++) {
                if (ahead) __builtin_prefetch(from + ahead + line * LINE, 0, 3);
                sums[line] += *(const Vector *)(from + line * LINE);
            }
        }
    Vector total = sums[0] + sums[1] + sums[2] + sums[3];
    int64_t sum = 0;
    for (int lane = 0; lane < LINE / 8; lane++) sum += total[lane];
    return sum;
}

static int64_t read_part(const Part *part) {
#define CASE(streams_, ahead_) \
    if (part->streams == streams_ && part->ahead == ahead_) return read_streams(part->begin, part->bytes, streams_, ahead_)
    CASE(1, 0);
    CASE(1, 1024);
    CASE(1, 4096);
    CASE(2, 0);
    CASE(2, 1024);
    CASE(4, 0);
    CASE(4, 1024);
    CASE(8, 0);
    CASE(8, 1024);
#undef CASE
    return -1;
}

static void *work(void *argument) {
    Part *part = argument;
#ifdef __linux__
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(part->cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
#endif
    pthread_barrier_wait(part->barrier);
    part->sum = read_part(part);
    pthread_barrier_wait(part->barrier);
    return NULL;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

// Seconds to read `bytes` once, a thread a CPU; negative for a kernel that there is not or threads that did not start.
double bandwidth_read(const char *memory, size_t bytes, const int *cpus, int threads, int streams, int ahead) {
    if (threads < 1 || threads > MAX_THREADS) return -1;
    static pthread_t handles[MAX_THREADS];
    static Part parts[MAX_THREADS];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, threads + 1);
    size_t each = bytes / threads / 4096 * 4096;
    for (int thread = 0; thread < threads; thread++) {
        parts[thread] = (Part){memory + thread * each, each, cpus[thread], streams, ahead, &barrier, 0};
        if (pthread_create(&handles[thread], NULL, work, &parts[thread])) return -1;
    }
    pthread_barrier_wait(&barrier);
    double start = now();
    pthread_barrier_wait(&barrier);
    double seconds = now() - start;
    int known = 1;
    for (int thread = 0; thread < threads; thread++) {
        pthread_join(handles[thread], NULL);
        known &= parts[thread].sum != -1;
    }
    pthread_barrier_destroy(&barrier);
    return known ? seconds : -1;
}
