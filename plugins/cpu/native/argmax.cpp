// The place of the highest number in each row, as torch has it: the first of equals, and of NaN before all numbers.
#include "kernels.h"
#include "pool.h"
#include "rows.h"

namespace {

constexpr int64_t CHUNK = 8192;  // numbers: a thread reads them twice, the second time out of its cache

struct Best {
    float value;
    bool is_nan;
    int64_t place;  // in the row

    bool beats(const Best& other) const { return !other.is_nan && (is_nan || value > other.value); }
};

struct Search {
    Rows x;
    int64_t width, chunks;
    Best* best;  // [rows][chunks]
};

INLINE V at(const Search& job, int64_t row, int64_t column) {
    return take(place(job.x, row, column), job.x.dtype, LANES);
}
INLINE float one(const Search& job, int64_t row, int64_t column) {
    const void* from = place(job.x, row, column);
    return job.x.dtype == IN_BFLOAT16 ? float_of(*(const uint16_t*)from) : *(const float*)from;
}
INLINE bool any(IntPart found) {
    int32_t lanes[WIDTH / 4], together = 0;
    memcpy(lanes, &found, sizeof lanes);
    for (int32_t lane : lanes) together |= lane;
    return together != 0;
}

// The first number of [begin, end) for which `fits`, looked for 16 at a time with `may_fit`.
template <class MayFit, class Fits>
INLINE int64_t first(const Search& job, int64_t row, int64_t begin, int64_t end, MayFit may_fit, Fits fits) {
    int64_t i = begin;
    for (; i + LANES <= end; i += LANES)
        if (may_fit(at(job, row, i))) break;
    while (i < end && !fits(one(job, row, i))) i++;
    return i;
}

void search(void* context, int64_t number) {
    const Search& job = *(const Search*)context;
    const int64_t row = number / job.chunks, begin = number % job.chunks * CHUNK;
    const int64_t end = begin + CHUNK < job.width ? begin + CHUNK : job.width;
    V most[4] = {all(-INFINITY), all(-INFINITY), all(-INFINITY), all(-INFINITY)};
    IntPart strange[PARTS] = {};
    int64_t i = begin;
    for (; i + 4 * LANES <= end; i += 4 * LANES)
        for (int k = 0; k < 4; k++) {
            const V v = at(job, row, i + k * LANES);
            most[k] = max(v, most[k]);
            for (int part = 0; part < PARTS; part++) strange[part] |= v.p[part] != v.p[part];
        }
    float top = highest(max(max(most[0], most[1]), max(most[2], most[3])));
    bool has_nan = false;
    for (int part = 0; part < PARTS; part++) has_nan |= any(strange[part]);
    for (; i < end; i++) {
        const float x = one(job, row, i);
        has_nan |= x != x;
        top = x > top ? x : top;
    }
    const auto is_nan = [](float x) { return x != x; };
    const auto is_top = [top](float x) { return x == top; };
    const auto may_be_nan = [](V v) {
        bool found = false;
        for (int part = 0; part < PARTS; part++) found |= any(v.p[part] != v.p[part]);
        return found;
    };
    const auto may_be_top = [top](V v) {
        bool found = false;
        for (int part = 0; part < PARTS; part++) found |= any(v.p[part] == top - (FloatPart){});
        return found;
    };
    job.best[number] = {
        top, has_nan,
        has_nan ? first(job, row, begin, end, may_be_nan, is_nan) : first(job, row, begin, end, may_be_top, is_top)};
}

void argmax(const Rows* x, int64_t rows, int64_t width, int64_t* places) {
    Turn turn;
    const int64_t chunks = (width + CHUNK - 1) / CHUNK;
    Search job{*x, width, chunks, (Best*)pool_shared(0, rows * chunks * sizeof(Best))};
    pool_run(search, &job, rows * chunks);
    for (int64_t row = 0; row < rows; row++) {
        const Best* best = job.best + row * chunks;
        for (int64_t chunk = 1; chunk < chunks; chunk++)
            if (job.best[row * chunks + chunk].beats(*best)) best = job.best + row * chunks + chunk;
        places[row] = best->place;
    }
}

}  // namespace

const SamplingKernels TABLE(sampling_kernels) = {argmax};
