// Threads that run one function together. They spin between calls that follow each other closely, and sleep otherwise.
#pragma once

typedef void (*Work)(void* context, int thread, int threads);

extern "C" {
void pool_lock();  // one product at a time: shared buffers are its own until `pool_unlock`
void pool_unlock();
void pool_run(Work work, void* context);  // on every thread, the caller's among them; returns when all are done
void pool_barrier(int threads);           // inside of `work`: waits until every thread is here
void* pool_scratch(int which, unsigned long bytes);  // of this thread, 64-byte aligned, kept between calls
void* pool_shared(int which, unsigned long bytes);   // of all threads: the caller asks for it before `pool_run`, under the lock
}

struct Turn {
    Turn() { pool_lock(); }
    ~Turn() { pool_unlock(); }
};
