// See stream.h. What follows is kept by address; nothing there is read, only fetched, so that it may be gone.
#include "stream.h"

#include "pool.h"

namespace {

struct Pair {
    const uint8_t* data;
    Stream next;
};
constexpr int PAIRS = 1024;
Pair pairs[PAIRS];
const uint8_t* last;

Pair& of(const uint8_t* data) { return pairs[uint64_t(data) * 0x9e3779b97f4a7c15 >> 54]; }

}  // namespace

extern "C" void expect_what_follows(const Stream& now) {
    if (last) of(last) = {last, now};
    last = now.data;
    const Pair& known = of(now.data);
    if (known.data != now.data) return;
    const Stream& next = known.next;
    for (int thread = 0; thread < pool_threads(); thread++) {
        const int64_t first = pool_stretch(next.units, next.together, thread);
        const uint8_t* streams[4];
        for (int64_t i = 0; i < 4; i++) {
            const int64_t unit = first + i / next.halves, panel = i % next.halves * next.units + unit;
            streams[i] = next.data + panel * next.panel_bytes;
        }
        pool_expect(thread, streams, next.panel_bytes);
    }
}
