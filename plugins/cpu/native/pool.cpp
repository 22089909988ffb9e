// See pool.h. One pool a process; a call from a second thread waits for the first one's to end.
#include "pool.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include <pthread.h>

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto SPIN = std::chrono::microseconds(200);    // for the next call: about what Python takes between two layers
constexpr auto PATIENCE = std::chrono::microseconds(30);  // at a barrier, before the core is offered to others

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Turns until `done()`, for so long at most; whether it was reached. A turn of `pause` takes 10 to 50 nanoseconds.
template <class Done>
bool spin(Done done, Clock::duration longest) {
    for (int turn = 0; turn < 64; turn++, relax())
        if (done()) return true;
    const auto end = Clock::now() + longest;
    do {
        for (int turn = 0; turn < 64; turn++, relax())
            if (done()) return true;
    } while (Clock::now() < end);
    return done();
}
template <class Done>
void wait_for(Done done) {
    while (!spin(done, PATIENCE)) std::this_thread::yield();
}

struct Pool {
    std::mutex one_at_a_time;
    std::vector<std::thread> workers;
    int threads = 1;
    std::atomic<uint32_t> epoch{0};
    std::atomic<int> running{0};
    std::atomic<bool> stopping{false};
    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<uint32_t> generation{0};
    Work work = nullptr;
    void* context = nullptr;
};

Pool* pool = new Pool;  // never destroyed: workers may outlive static destructors

struct Buffer {
    void* memory = nullptr;
    unsigned long bytes = 0;
    void* of(unsigned long wanted) {
        if (wanted > bytes) {
            std::free(memory);
            bytes = (wanted + 4095) / 4096 * 4096;
            memory = std::aligned_alloc(4096, bytes);
            if (!memory) std::abort();
        }
        return memory;
    }
};
constexpr int BUFFERS = 8;
thread_local Buffer scratch[BUFFERS];
Buffer shared[BUFFERS];

void worker(Pool* own, int thread) {
    uint32_t seen = 0;
    for (;;) {
        if (!spin([&] { return own->epoch.load(std::memory_order_acquire) != seen; }, SPIN)) {
            own->epoch.wait(seen, std::memory_order_acquire);
            continue;
        }
        seen = own->epoch.load(std::memory_order_acquire);
        if (own->stopping.load()) return;
        own->work(own->context, thread, own->threads);
        own->running.fetch_sub(1, std::memory_order_release);
    }
}

void stop(Pool* own) {
    own->stopping = true;
    own->epoch.fetch_add(1, std::memory_order_release);
    own->epoch.notify_all();
    for (auto& one : own->workers) one.join();
    own->workers.clear();
    own->stopping = false;
    own->epoch = 0;
}

void forked() { pool = new Pool; }  // a child has none of the parent's threads; the parent's pool is left alone

}  // namespace

extern "C" {

void pool_lock() { pool->one_at_a_time.lock(); }
void pool_unlock() { pool->one_at_a_time.unlock(); }

void pool_run(Work work, void* context) {
    if (pool->threads == 1) return work(context, 0, 1);
    pool->work = work, pool->context = context;
    pool->running.store(pool->threads - 1, std::memory_order_relaxed);
    pool->epoch.fetch_add(1, std::memory_order_release);
    pool->epoch.notify_all();
    work(context, 0, pool->threads);
    wait_for([] { return pool->running.load(std::memory_order_acquire) == 0; });
}

void pool_barrier(int threads) {
    if (threads == 1) return;
    uint32_t mine = pool->generation.load(std::memory_order_acquire);
    if (pool->arrived.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
        pool->arrived.store(0, std::memory_order_relaxed);
        pool->generation.fetch_add(1, std::memory_order_release);
        return;
    }
    wait_for([mine] { return pool->generation.load(std::memory_order_acquire) != mine; });
}

void* pool_scratch(int which, unsigned long bytes) { return scratch[which].of(bytes); }
void* pool_shared(int which, unsigned long bytes) { return shared[which].of(bytes); }

// How many threads work together, the caller's among them.
__attribute__((visibility("default"))) void jackfield_set_threads(int threads) {
    static std::once_flag once;
    std::call_once(once, [] { pthread_atfork(nullptr, nullptr, forked); });
    std::lock_guard<std::mutex> hold(pool->one_at_a_time);
    if (threads < 1) threads = 1;
    if (threads == pool->threads && int(pool->workers.size()) == threads - 1) return;
    stop(pool);
    pool->threads = threads;
    for (int thread = 1; thread < threads; thread++) pool->workers.emplace_back(worker, pool, thread);
}

__attribute__((visibility("default"))) int jackfield_threads() { return pool->threads; }
}
