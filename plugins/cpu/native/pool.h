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
// Shares numbers 0 .. count - 1 out among the threads, a stretch each that starts at a multiple of `step`; under the
// lock, before `pool_run`, of which each job takes numbers until there are none.
void pool_share(int64_t count, int64_t step);
// The next ones, `most` of them or, towards a stretch's end, `least`: first this thread's own, from the front, then
// others', from the back. False where none is left.
bool pool_take(int64_t most, int64_t least, int64_t* begin, int64_t* end);
int64_t pool_stretch(int64_t count, int64_t step, int64_t thread);  // where a thread's stretch starts
// What thread `thread` reads from memory after this call, in four streams of `bytes`: fetched while it has no job.
// Under the lock, before the `pool_run` after which it holds.
void pool_expect(int thread, const uint8_t* const (&streams)[4], int64_t bytes);
void* pool_scratch(int which, unsigned long bytes);  // of this thread, page-aligned, kept between calls
void* pool_shared(int which, unsigned long bytes);   // of all threads; under the lock, before `pool_run`
}

struct Turn {
    Turn() { pool_lock(); }
    ~Turn() { pool_unlock(); }
};
