// See pool.h. One pool a process.
#include "pool.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <pthread.h>

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto SPIN = std::chrono::microseconds(200);  // for the next call: about what Python takes between two layers
constexpr auto PATIENCE = std::chrono::microseconds(30);  // for jobs under way, before the core is offered to others
constexpr int INDEX_BITS = 24;
constexpr uint64_t INDEX = (uint64_t(1) << INDEX_BITS) - 1;

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Numbers that are left of a thread's stretch: the first one, and in the upper half the one after the last.
struct alignas(64) Stretch {
    std::atomic<uint64_t> left{0};
};
// What a thread will read. Written by the caller, read by its owner: a mixture of old and new is fetched in vain.
struct alignas(64) Expected {
    std::atomic<const uint8_t*> streams[4]{};
    std::atomic<int64_t> bytes{0};
    std::atomic<uint64_t> version{0};
};
thread_local int64_t number = 0;  // of this thread; 0 is whoever calls
thread_local uint64_t fetched_version = 0;
thread_local int64_t fetched = 0;
constexpr int64_t FETCHED_AT_REST = 1 << 16;  // of each stream: half of the second cache in all

// The jobs of one call. `ticket` holds the call's number and the next job; taking a job is one compare and exchange, so
// that a thread which read of an older call can take none of a newer one. What it points to is valid as long as the job
// that it took is not done, since the call does not return before.
struct Pool {
    std::mutex one_at_a_time;
    std::vector<std::thread> workers;
    std::unique_ptr<Stretch[]> stretches{new Stretch[1]};
    std::unique_ptr<Expected[]> expected{new Expected[1]};
    alignas(64) std::atomic<uint64_t> ticket{INDEX};
    std::atomic<Work> work{nullptr};
    std::atomic<void*> context{nullptr};
    std::atomic<uint64_t> jobs{0};
    alignas(64) std::atomic<uint64_t> done{0};
    alignas(64) std::atomic<int> sleepers{0};
    std::atomic<uint32_t> bell{0};
    std::atomic<bool> stopping{false};

    // Takes one job and does it; false where none is left.
    bool help() {
        uint64_t seen = ticket.load(std::memory_order_acquire);
        for (;;) {
            const uint64_t index = seen & INDEX;
            if (index >= jobs.load(std::memory_order_acquire)) return false;
            Work what = work.load(std::memory_order_acquire);
            void* with = context.load(std::memory_order_acquire);
            if (!ticket.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel, std::memory_order_acquire))
                continue;
            what(with, int64_t(index));
            done.fetch_add(1, std::memory_order_release);
            return true;
        }
    }
    bool has_jobs() const {
        // the ticket in one order with `sleepers`: who goes to sleep sees the jobs, or is seen asleep
        return (ticket.load() & INDEX) < jobs.load(std::memory_order_acquire) || stopping.load();
    }
    void ring() {
        bell.fetch_add(1);
        bell.notify_all();
    }
};

// Fetches the next lines of what this thread will read to the second cache; false where none is left.
bool fetch_some(const Pool& of) {
    const Expected& mine = of.expected[number];
    const uint64_t version = mine.version.load(std::memory_order_acquire);
    if (version != fetched_version) fetched_version = version, fetched = 0;
    const int64_t bytes = mine.bytes.load(std::memory_order_relaxed);
    if (fetched >= bytes || fetched >= FETCHED_AT_REST) return false;
    for (const auto& stream : mine.streams) __builtin_prefetch(stream.load(std::memory_order_relaxed) + fetched, 0, 2);
    fetched += 64;
    return true;
}

// Turns until `done()`, for so long at most; whether it was reached. A turn of `pause` takes 10 to 50 nanoseconds.
template <class Done>
bool spin(const Pool& of, Done done, Clock::duration longest) {
    while (fetch_some(of))
        if (done()) return true;
    for (int turn = 0; turn < 64; turn++, relax())
        if (done()) return true;
    const auto end = Clock::now() + longest;
    do {
        for (int turn = 0; turn < 64; turn++, relax())
            if (done()) return true;
    } while (Clock::now() < end);
    return done();
}

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

void worker(Pool* own, int64_t which) {
    number = which;
    while (!own->stopping.load()) {
        if (own->help()) continue;
        if (spin(*own, [own] { return own->has_jobs(); }, SPIN)) continue;
        const uint32_t heard = own->bell.load();
        own->sleepers.fetch_add(1);
        if (!own->has_jobs()) own->bell.wait(heard);
        own->sleepers.fetch_sub(1);
    }
}

void stop(Pool* own) {
    own->stopping = true;
    own->ring();
    for (auto& one : own->workers) one.join();
    own->workers.clear();
    own->stopping = false;
}

void forked() { pool = new Pool; }  // a child has none of the parent's threads; the parent's pool is left alone

}  // namespace

extern "C" {

void pool_lock() { pool->one_at_a_time.lock(); }
void pool_unlock() { pool->one_at_a_time.unlock(); }
int pool_threads() { return int(pool->workers.size()) + 1; }

void pool_run(Work work, void* context, int64_t jobs) {
    if (jobs == 1 || pool->workers.empty()) {
        for (int64_t job = 0; job < jobs; job++) work(context, job);
        return;
    }
    if (jobs <= 0) return;
    // first a ticket without jobs: whoever reads one of the new values below can take no job of the old call
    const uint64_t last = pool->ticket.load(std::memory_order_relaxed);
    pool->ticket.store(((last >> INDEX_BITS) + 1) << INDEX_BITS | INDEX, std::memory_order_relaxed);
    pool->work.store(work, std::memory_order_release);
    pool->context.store(context, std::memory_order_release);
    pool->done.store(0, std::memory_order_relaxed);
    pool->jobs.store(uint64_t(jobs), std::memory_order_release);
    pool->ticket.store(((last >> INDEX_BITS) + 2) << INDEX_BITS);
    if (pool->sleepers.load()) pool->ring();
    while (pool->help()) {
    }
    while (!spin(*pool, [jobs] { return pool->done.load(std::memory_order_acquire) == uint64_t(jobs); }, PATIENCE))
        std::this_thread::yield();
}

int64_t pool_stretch(int64_t count, int64_t step, int64_t thread) {
    const int64_t steps = (count + step - 1) / step, at = steps * thread / pool_threads() * step;
    return at < count ? at : count;
}

void pool_share(int64_t count, int64_t step) {
    for (int64_t thread = 0; thread < pool_threads(); thread++) {
        const uint64_t begin = pool_stretch(count, step, thread), end = pool_stretch(count, step, thread + 1);
        pool->stretches[thread].left.store(end << 32 | begin, std::memory_order_relaxed);
    }
}

bool pool_take(int64_t most, int64_t least, int64_t* begin, int64_t* end) {
    const int64_t threads = pool_threads();
    for (int64_t i = 0; i < threads; i++) {
        auto& left = pool->stretches[(number + i) % threads].left;
        uint64_t seen = left.load(std::memory_order_relaxed);
        for (;;) {
            const int64_t first = int64_t(seen & 0xffffffff), last = int64_t(seen >> 32), count = last - first;
            if (count <= 0) break;
            const int64_t wanted = count >= 3 * most ? most : least, taken = wanted < count ? wanted : count;
            *begin = i ? last - taken : first, *end = *begin + taken;
            const uint64_t after = i ? uint64_t(*begin) << 32 | uint64_t(first) : uint64_t(last) << 32 | uint64_t(*end);
            if (left.compare_exchange_weak(seen, after, std::memory_order_relaxed)) return true;
        }
    }
    return false;
}

void pool_expect(int thread, const uint8_t* const (&streams)[4], int64_t bytes) {
    Expected& of = pool->expected[thread];
    for (int i = 0; i < 4; i++) of.streams[i].store(streams[i], std::memory_order_relaxed);
    of.bytes.store(bytes, std::memory_order_relaxed);
    of.version.fetch_add(1, std::memory_order_release);
}

void* pool_scratch(int which, unsigned long bytes) { return scratch[which].of(bytes); }
void* pool_shared(int which, unsigned long bytes) { return shared[which].of(bytes); }

// How many threads work together, the caller's among them.
__attribute__((visibility("default"))) void jackfield_set_threads(int threads) {
    static std::once_flag once;
    std::call_once(once, [] { pthread_atfork(nullptr, nullptr, forked); });
    Turn turn;
    if (threads < 1) threads = 1;
    if (threads == pool_threads()) return;
    stop(pool);
    pool->stretches.reset(new Stretch[threads]);
    pool->expected.reset(new Expected[threads]);
    for (int thread = 1; thread < threads; thread++) pool->workers.emplace_back(worker, pool, thread);
}
}
