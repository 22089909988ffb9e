// Threads that share jobs. Nobody waits for a thread that holds no job: where another process has the cores, the caller
// does all of the work itself, and a worker that comes late finds nothing left.
#pragma once

#include <cstdint>

typedef void (*Work)(void* context, int64_t job);

extern "C" {
void pool_lock();  // one caller at a time: shared buffers are its own until `pool_unlock`
void pool_unlock();
int pool_threads();
void pool_run(Work work, void* context, int64_t jobs);  // under the lock; returns when jobs 0 .. jobs - 1 are done
void* pool_scratch(int which, unsigned long bytes);     // of this thread, page-aligned, kept between calls
void* pool_shared(int which, unsigned long bytes);      // of all threads; under the lock, before `pool_run`
}

struct Turn {
    Turn() { pool_lock(); }
    ~Turn() { pool_unlock(); }
};
