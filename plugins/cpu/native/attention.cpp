// One layer's attention: keys rotated and written, then queries against them, with a running softmax.
#include "attention.h"

#include "kernels.h"
#include "pool.h"
#include "vec.h"

namespace {

#if defined(__AVX512F__)
constexpr int ROWS = 12, PANELS = 2;               // sums of a tile: 24 of 32 registers
constexpr int NARROW_ROWS = 4, NARROW_PANELS = 4;  // few rows: more panels, so that no sum waits for the one before
#else
constexpr int ROWS = 6, PANELS = 1;
constexpr int NARROW_ROWS = 2, NARROW_PANELS = 2;
#endif
constexpr int LOOKS = STRETCH / PANEL;  // panels of a stretch
constexpr float LOWEST = -1e30f;        // where a softmax starts: finite, so that differences are numbers

// Readers of pairs: of numbers for 16 lanes, multiplied by numbers that all lanes share.
struct Float32Pairs {
    static constexpr int BYTES = 128, SIZE = 4;
    static constexpr bool DOTS = false;
    INLINE void read(const uint8_t* at, V& even, V& odd) {
        even = load((const float*)at), odd = load((const float*)at + LANES);
    }
};
struct Bfloat16Pairs {
    static constexpr int BYTES = 64, SIZE = 2;
    static constexpr bool DOTS = false;
    INLINE void read(const uint8_t* at, V& even, V& odd) {
        W pair = load_words(at);
        even = even_bf16(pair), odd = odd_bf16(pair);
    }
};
struct Bfloat16Dots {  // by the instruction that multiplies pairs
    static constexpr int BYTES = 64, SIZE = 2;
    static constexpr bool DOTS = true;
    INLINE void read(const uint8_t*, V&, V&) {}
};

INLINE V below(V x, V limit, V then, V otherwise) {
    for (int i = 0; i < PARTS; i++) x.p[i] = x.p[i] < limit.p[i] ? then.p[i] : otherwise.p[i];
    return x;
}
INLINE V weight_of(V x) {  // e^x for x <= 0; nothing of what is hidden remains, and NaN stays
    V y = below(x, all(-87.0f), zero(), exp(x));
    for (int i = 0; i < PARTS; i++) y.p[i] = x.p[i] == x.p[i] ? y.p[i] : x.p[i];
    return y;
}
INLINE V tanh(V x) {
    V size = max(x, zero() - x), square = x * x;
    V near = all(62.0f / 2835);
    near = fma(near, square, all(-17.0f / 315));
    near = fma(near, square, all(2.0f / 15));
    near = fma(near, square, all(-1.0f / 3));
    near = fma(near * square, x, x);
    V far = all(1.0f) - all(2.0f) / (exp(size + size) + all(1.0f));
    far = below(x, zero(), zero() - far, far);
    return below(size, all(0.25f), near, far);
}
INLINE float most_of(V v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v.p[0]);
#else
    return highest(v);
#endif
}
// `x` in lanes `first` to `last`, minus infinity in the others.
INLINE V visible(V x, int64_t first, int64_t last) {
    int32_t number[LANES];
    for (int i = 0; i < LANES; i++) number[i] = i;
    const int32_t from = int32_t(first < 0 ? 0 : first), to = int32_t(last > LANES ? LANES : last);
    IntPart lane[PARTS];
    memcpy(lane, number, sizeof lane);
    for (int i = 0; i < PARTS; i++)
        x.p[i] = (lane[i] >= from) & (lane[i] < to) ? x.p[i] : (FloatPart){} - __builtin_inff();
    return x;
}

struct Job {
    const AttentionShape* shape;
    const AttentionStep* step;
    const AttentionCall* call;
    int64_t k_block, v_block;  // bytes of one head of a block
    uint8_t* parts;            // [slots][kv_heads], each `part_bytes`: answers, highest scores, sums of weights
    int64_t part_bytes;
    int32_t* left;  // [groups][kv_heads]: parts that are not done
};

INLINE int64_t group_of(const AttentionShape& shape) { return shape.query_heads / shape.kv_heads; }
INLINE int64_t block_at(const Job& job, const StepRow& row, int64_t position) {
    return job.step->table[row.table + position / job.shape->block_size];
}
template <class Source>
INLINE uint8_t* keys_at(const Job& job, const StepRow& row, int64_t head,
                        int64_t panel) {  // `panel`: its first position
    const AttentionShape& shape = *job.shape;
    const int64_t block = block_at(job, row, panel) * shape.kv_heads + head;
    return (uint8_t*)job.call->k_cache + block * job.k_block + panel % shape.block_size * shape.k_dim * Source::SIZE;
}
template <class Source>
INLINE uint8_t* values_at(const Job& job, const StepRow& row, int64_t head, int64_t panel) {
    const AttentionShape& shape = *job.shape;
    const int64_t block = block_at(job, row, panel) * shape.kv_heads + head;
    return (uint8_t*)job.call->v_cache + block * job.v_block + panel % shape.block_size * shape.v_dim * Source::SIZE;
}

// One head of a token in float32.
INLINE void read_head(const Heads& from, int32_t dtype, int64_t token, int64_t head, int64_t dim, float* to) {
    const int64_t at = token * from.token_stride + head * from.head_stride;
    if (dtype == IN_FLOAT32) {
        memcpy(to, (const float*)from.data + at, dim * 4);
        return;
    }
    const uint16_t* x = (const uint16_t*)from.data + at;
    int64_t i = 0;
    for (; i + LANES <= dim; i += LANES) store(to + i, load_bf16(x + i));
    for (; i < dim; i++) to[i] = float_of(x[i]);
}
static void rotate(const AttentionCall& call, int64_t token, float* x) {
    if (!call.rope) return;
    const int64_t half = call.rotary_dim / 2;
    const float *cosine = call.rope + call.positions[token] * call.rotary_dim, *sine = cosine + half;
    if (call.interleaved) {
        for (int64_t i = 0; i < half; i++) {
            const float a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = a * cosine[i] - b * sine[i], x[2 * i + 1] = b * cosine[i] + a * sine[i];
        }
        return;
    }
    int64_t i = 0;
    for (; i + LANES <= half; i += LANES) {
        const V a = load(x + i), b = load(x + half + i), c = load(cosine + i), s = load(sine + i);
        store(x + i, a * c - b * s), store(x + half + i, b * c + a * s);
    }
    for (; i < half; i++) {
        const float a = x[i], b = x[half + i];
        x[i] = a * cosine[i] - b * sine[i], x[half + i] = b * cosine[i] + a * sine[i];
    }
}
INLINE void narrow(const float* from, int64_t dim, uint16_t* to) {
    int64_t i = 0;
    for (; i + LANES <= dim; i += LANES) store_bf16(to + i, load(from + i));
    for (; i < dim; i++) to[i] = bf16_of(from[i]);
}

template <class Source>
static void write(const Job& job, const StepWrite& tokens) {
    const AttentionShape& shape = *job.shape;
    const AttentionCall& call = *job.call;
    const StepRow& row = job.step->row[tokens.row];
    const int64_t panel = tokens.position / PANEL * PANEL, first = tokens.position - panel;
    const int64_t token = row.first_token + tokens.position - (row.kv_len - row.num_new);
    const int64_t widest = (shape.k_dim > shape.v_dim ? shape.k_dim : shape.v_dim) + LANES;
    float* x = (float*)pool_scratch(2, widest * 6);
    uint16_t* rounded = (uint16_t*)(x + widest);
    for (int64_t head = 0; head < shape.kv_heads; head++) {
        uint8_t *keys = keys_at<Source>(job, row, head, panel), *values = values_at<Source>(job, row, head, panel);
        for (int64_t i = 0; i < tokens.count; i++) {
            const int64_t lane = first + i, pair = lane / 2, odd = lane % 2;
            read_head(call.k, shape.dtype, token + i, head, shape.k_dim, x);
            rotate(call, token + i, x);
            if (Source::SIZE == 4) {
                for (int64_t k = 0; k < shape.k_dim; k++) ((float*)keys)[k * LANES + lane] = x[k];
                const float* v =
                    (const float*)call.v.data + (token + i) * call.v.token_stride + head * call.v.head_stride;
                float* to = (float*)values + pair * 2 * shape.v_dim;
                for (int64_t k = 0; k < shape.v_dim; k += LANES) memcpy(to + 2 * k + odd * LANES, v + k, LANES * 4);
                continue;
            }
            narrow(x, shape.k_dim, rounded);
            for (int64_t k = 0; k < shape.k_dim / 2; k++) memcpy(keys + k * 64 + lane * 4, rounded + 2 * k, 4);
            const uint16_t* v =
                (const uint16_t*)call.v.data + (token + i) * call.v.token_stride + head * call.v.head_stride;
            uint16_t* to = (uint16_t*)values + pair * 2 * shape.v_dim + odd;
            for (int64_t k = 0; k < shape.v_dim; k++) to[2 * k] = v[k];
        }
    }
}

// Up to 64 keys of one row and head, and the values beside them.
struct Stretch {
    int panels;
    const uint8_t *keys[LOOKS], *values[LOOKS];
};
template <class Source>
static void look(const Job& job, const StepRow& row, int64_t head, int64_t start, int64_t stop, Stretch& to) {
    to.panels = 0;
    for (int i = 0; i < LOOKS; i++) {
        const int64_t panel = start + i * PANEL;
        if (panel >= stop) {  // keys are read by several panels: the last one again
            to.keys[i] = to.keys[i - 1], to.values[i] = to.values[i - 1];
            continue;
        }
        to.keys[i] = keys_at<Source>(job, row, head, panel), to.values[i] = values_at<Source>(job, row, head, panel);
        to.panels++;
    }
}

// A panel of values in which tokens outside of `first` to `last` are zero instead of whatever they are.
template <class Source>
static void clean(const uint8_t* from, int64_t dim, int64_t first, int64_t last, uint8_t* to) {
    for (int64_t lane = 0; lane < PANEL; lane++) {
        const bool valid = lane >= first && lane < last;
        const int64_t pair = lane / 2, odd = lane % 2;
        if (Source::SIZE == 4) {
            const float* x = (const float*)from + pair * 2 * dim + odd * LANES;
            float* y = (float*)to + pair * 2 * dim + odd * LANES;
            for (int64_t k = 0; k < dim; k += LANES)
                valid ? memcpy(y + 2 * k, x + 2 * k, LANES * 4) : memset(y + 2 * k, 0, LANES * 4);
            continue;
        }
        const uint16_t* x = (const uint16_t*)from + pair * 2 * dim + odd;
        uint16_t* y = (uint16_t*)to + pair * 2 * dim + odd;
        for (int64_t k = 0; k < dim; k++) y[2 * k] = valid ? x[2 * k] : 0;
    }
}

// Rows of queries that are multiplied together, and the stretch that they are multiplied with.
struct Tile {
    const Stretch *stretch, *ahead;  // fetched meanwhile: values by the keys' product, the next keys by the values'
    const void* q;                   // [k_dim][rows] float32, or [k_dim / 2][rows] pairs
    float* answers;                  // [rows][v_dim]
    float* top;                      // [rows]: highest scores so far
    float* sums;                     // [rows][16]: weights so far, lane by lane
    int64_t k_dim, v_dim;
    int64_t group;     // rows of one query
    int64_t row;       // the first one's number among the item's
    int64_t position;  // of the item's first query, from the stretch's start on
    int64_t window;
    float scale, soft_cap;
};

template <class Source, int R, int P>
static void score(const Tile& tile, int first, float* out) {  // `out` [R][64]
    const uint8_t *keys[P], *values[P];
    for (int p = 0; p < P; p++) keys[p] = tile.stretch->keys[first + p], values[p] = tile.stretch->values[first + p];
    V sums[P][R];
    for (int p = 0; p < P; p++)
        for (int r = 0; r < R; r++) sums[p][r] = zero();
    for (int64_t pair = 0; pair < tile.k_dim / 2; pair++) {
#pragma GCC unroll 4
        for (int p = 0; p < P; p++) {
            __builtin_prefetch(values[p] + pair * Source::BYTES);
            if (Source::BYTES > 64) __builtin_prefetch(values[p] + pair * Source::BYTES + 64);
        }
        if constexpr (Source::DOTS) {
#if defined(__AVX512BF16__)
            const uint32_t* q = (const uint32_t*)tile.q + pair * R;
            W w[P];
#pragma GCC unroll 4
            for (int p = 0; p < P; p++) w[p] = load_words(keys[p] + pair * Source::BYTES);
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                __m512bh x = (__m512bh)_mm512_set1_epi32(int(q[r]));
#pragma GCC unroll 4
                for (int p = 0; p < P; p++)
                    sums[p][r].p[0] = (FloatPart)_mm512_dpbf16_ps((__m512)sums[p][r].p[0], (__m512bh)w[p].p[0], x);
            }
#endif
        } else {
            const float* q = (const float*)tile.q + pair * 2 * R;
            V even[P], odd[P];
#pragma GCC unroll 4
            for (int p = 0; p < P; p++) Source::read(keys[p] + pair * Source::BYTES, even[p], odd[p]);
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                V x = all(q[r]);
#pragma GCC unroll 4
                for (int p = 0; p < P; p++) sums[p][r] = fma(even[p], x, sums[p][r]);
            }
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                V x = all(q[R + r]);
#pragma GCC unroll 4
                for (int p = 0; p < P; p++) sums[p][r] = fma(odd[p], x, sums[p][r]);
            }
        }
    }
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++) store(out + r * STRETCH + (first + p) * PANEL, sums[p][r]);
}

// Scores to weights, in place, or as bfloat16 at the place of the first half; `scaled` becomes what earlier answers are
// multiplied by.
template <class Source>
static void soften(const Tile& tile, int rows, float* scores, float* scaled) {
    const int panels = tile.stretch->panels;
    const V scale = all(tile.scale);
    for (int r = 0; r < rows; r++) {
        const int64_t last = tile.position + (tile.row + r) / tile.group + 1;
        const int64_t first = tile.window ? last - tile.window : -1;
        float* at = scores + r * STRETCH;
        V x[LOOKS], most = all(LOWEST);
        for (int i = 0; i < panels; i++) {
            x[i] = load(at + i * PANEL) * scale;
            if (tile.soft_cap != 0) x[i] = all(tile.soft_cap) * tanh(x[i] / all(tile.soft_cap));
            if (first > i * PANEL || last < (i + 1) * PANEL) x[i] = visible(x[i], first - i * PANEL, last - i * PANEL);
            most = max(x[i], most);
        }
        const float before = tile.top[r], highest = most_of(most), top = highest > before ? highest : before;
        tile.top[r] = top, scaled[r] = before - top;
        V total = zero();
        for (int i = 0; i < panels; i++) {
            x[i] = weight_of(x[i] - all(top));
            total = total + x[i];
            if (Source::DOTS) store_bf16((uint16_t*)at + i * PANEL, x[i]);
            else store(at + i * PANEL, x[i]);
        }
        store(tile.sums + r * LANES, fma(load(tile.sums + r * LANES), weight_of(all(scaled[r])), total));
    }
    store(scaled, weight_of(load(scaled)));
}

template <class Source, int R, int P>
static void gather(const Tile& tile, int64_t first, const float* weights, const float* scaled) {
    const int64_t panels = tile.v_dim / LANES, pair_bytes = panels * Source::BYTES;
    int64_t at[P];
    for (int p = 0; p < P; p++)
        at[p] = first + p < panels ? first + p : panels - 1;  // the last one again: the same sums
    V sums[P][R];
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++) sums[p][r] = load(tile.answers + r * tile.v_dim + at[p] * LANES) * all(scaled[r]);
    for (int i = 0; i < tile.stretch->panels; i++) {
        const uint8_t *values = tile.stretch->values[i], *ahead = tile.ahead->keys[i];
        for (int64_t pair = 0; pair < PANEL / 2; pair++, values += pair_bytes, ahead += pair_bytes) {
#pragma GCC unroll 4
            for (int p = 0; p < P; p++) {
                __builtin_prefetch(ahead + at[p] * Source::BYTES);
                if (Source::BYTES > 64) __builtin_prefetch(ahead + at[p] * Source::BYTES + 64);
            }
            if constexpr (Source::DOTS) {
#if defined(__AVX512BF16__)
                const uint32_t* weight = (const uint32_t*)weights + i * PANEL / 2 + pair;
                W w[P];
#pragma GCC unroll 4
                for (int p = 0; p < P; p++) w[p] = load_words(values + at[p] * Source::BYTES);
#pragma GCC unroll 12
                for (int r = 0; r < R; r++) {
                    __m512bh x = (__m512bh)_mm512_set1_epi32(int(weight[r * STRETCH]));
#pragma GCC unroll 4
                    for (int p = 0; p < P; p++)
                        sums[p][r].p[0] = (FloatPart)_mm512_dpbf16_ps((__m512)sums[p][r].p[0], (__m512bh)w[p].p[0], x);
                }
#endif
            } else {
                const float* weight = weights + i * PANEL + pair * 2;
                V even[P], odd[P];
#pragma GCC unroll 4
                for (int p = 0; p < P; p++) Source::read(values + at[p] * Source::BYTES, even[p], odd[p]);
#pragma GCC unroll 12
                for (int r = 0; r < R; r++) {
                    V x = all(weight[r * STRETCH]);
#pragma GCC unroll 4
                    for (int p = 0; p < P; p++) sums[p][r] = fma(even[p], x, sums[p][r]);
                }
#pragma GCC unroll 12
                for (int r = 0; r < R; r++) {
                    V x = all(weight[r * STRETCH + 1]);
#pragma GCC unroll 4
                    for (int p = 0; p < P; p++) sums[p][r] = fma(odd[p], x, sums[p][r]);
                }
            }
        }
    }
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++) store(tile.answers + r * tile.v_dim + at[p] * LANES, sums[p][r]);
}

template <class Source, int R>
static void one_tile(const Tile& tile) {
    constexpr int P = R <= NARROW_ROWS ? NARROW_PANELS : PANELS;
    alignas(64) float scores[R * STRETCH], scaled[LANES] = {};
    for (int panel = 0; panel < tile.stretch->panels; panel += P) score<Source, R, P>(tile, panel, scores);
    soften<Source>(tile, R, scores, scaled);
    for (int64_t panel = 0; panel < tile.v_dim / LANES; panel += P) gather<Source, R, P>(tile, panel, scores, scaled);
}
template <class Source, int R = ROWS>
INLINE void tile_of_height(int64_t height, const Tile& tile) {
    if constexpr (R > 0) {
        if (height == R) return one_tile<Source, R>(tile);
        tile_of_height<Source, R - 1>(height, tile);
    }
}

INLINE int64_t tile_start(int64_t rows, int64_t tile) {  // tiles differ by one row at most
    int64_t tiles = (rows + ROWS - 1) / ROWS, base = rows / tiles, extra = rows % tiles;
    return tile * base + (tile < extra ? tile : extra);
}

// Queries of an item as tiles want them.
template <class Source>
static void pack_queries(const Job& job, const StepItem& item, int64_t head, float* packed, float* x) {
    const AttentionShape& shape = *job.shape;
    const int64_t group = group_of(shape), rows = item.queries * group, dim = shape.k_dim;
    const int64_t token = job.step->row[item.row].first_token + item.first_query;
    uint16_t* rounded = (uint16_t*)(x + dim + LANES);
    int64_t tile = 0, first = 0, end = tile_start(rows, 1);
    for (int64_t row = 0; row < rows; row++) {
        if (row == end) tile++, first = end, end = tile_start(rows, tile + 1);
        const int64_t height = end - first;
        read_head(job.call->q, shape.dtype, token + row / group, head * group + row % group, dim, x);
        rotate(*job.call, token + row / group, x);
        if (Source::DOTS) {
            narrow(x, dim, rounded);
            uint8_t* to = (uint8_t*)packed + (first * dim / 2 + row - first) * 4;
            for (int64_t pair = 0; pair < dim / 2; pair++) memcpy(to + pair * height * 4, rounded + 2 * pair, 4);
            continue;
        }
        float* to = packed + first * dim + row - first;
        for (int64_t k = 0; k < dim; k++) to[k * height] = x[k];
    }
}

// One query's answer of one head.
static void finish(const Job& job, const StepItem& item, int64_t head, int64_t row, const float* answer, float top,
                   float sum) {
    const AttentionShape& shape = *job.shape;
    const Heads& out = job.call->out;
    const int64_t group = group_of(shape), own = head * group + row % group;
    const int64_t token = job.step->row[item.row].first_token + item.first_query + row / group;
    float factor = 1;
    if (job.call->sinks) {
        const float sink = job.call->sinks[own], most = sink > top ? sink : top;
        alignas(64) float powers[LANES] = {top - most, sink - most};
        store(powers, weight_of(load(powers)));
        factor = powers[0], sum = sum * factor + powers[1];
    }
    const V scale = all(factor / sum);
    const int64_t at = token * out.token_stride + own * out.head_stride;
    for (int64_t k = 0; k < shape.v_dim; k += LANES) {
        const V v = load(answer + k) * scale;
        if (shape.dtype == IN_BFLOAT16) store_bf16((uint16_t*)out.data + at + k, v);
        else store((float*)out.data + at + k, v);
    }
}

INLINE float* part_at(const Job& job, int64_t slot, int64_t head) {
    return (float*)(job.parts + (slot * job.shape->kv_heads + head) * job.part_bytes);
}

// All parts of an item's answers are there: weigh them by their highest scores.
static void merge(const Job& job, const StepItem& item, int64_t head, float* answer) {
    const AttentionShape& shape = *job.shape;
    const StepGroup& group = job.step->group[item.group];
    const int64_t rows = item.queries * group_of(shape);
    for (int64_t row = 0; row < rows; row++) {
        float top = LOWEST, sum = 0;
        for (int64_t part = 0; part < group.parts; part++) {
            const float here = part_at(job, group.slot + part, head)[rows * shape.v_dim + row];
            top = here > top ? here : top;
        }
        memset(answer, 0, shape.v_dim * 4);
        for (int64_t part = 0; part < group.parts; part++) {
            const float* own = part_at(job, group.slot + part, head);
            const V scale = weight_of(all(own[rows * shape.v_dim + row] - top));
            float lanes[LANES];
            store(lanes, scale);
            sum += lanes[0] * own[rows * (shape.v_dim + 1) + row];
            for (int64_t k = 0; k < shape.v_dim; k += LANES)
                store(answer + k, fma(load(own + row * shape.v_dim + k), scale, load(answer + k)));
        }
        finish(job, item, head, row, answer, top, sum);
    }
}

template <class Source>
static void attend(const Job& job, const StepItem& item, int64_t head) {
    const AttentionShape& shape = *job.shape;
    const StepRow& row = job.step->row[item.row];
    const int64_t group = group_of(shape), rows = item.queries * group, tiles = (rows + ROWS - 1) / ROWS;
    const int64_t position = row.kv_len - row.num_new + item.first_query;  // of the first query
    const int64_t seen = shape.window && position >= shape.window ? position - shape.window + 1 : 0;  // the first key
    const int64_t last_key = position + item.queries;
    float* packed = (float*)pool_scratch(3, (rows + 2) * (shape.k_dim + LANES) * 4);
    float* answers = (float*)pool_scratch(4, rows * (shape.v_dim + 1 + LANES) * 4);
    uint8_t* cleaned = (uint8_t*)pool_scratch(5, LOOKS * PANEL * shape.v_dim * Source::SIZE);
    float *top = answers + rows * shape.v_dim, *sums = top + rows;
    pack_queries<Source>(job, item, head, packed, packed + rows * shape.k_dim);
    memset(answers, 0, rows * shape.v_dim * 4);
    memset(sums, 0, rows * LANES * 4);
    for (int64_t i = 0; i < rows; i++) top[i] = LOWEST;
    Stretch here, ahead;
    look<Source>(job, row, head, item.start, item.stop, ahead);
    for (int64_t start = item.start; start < item.stop; start += STRETCH) {
        here = ahead;
        if (start + STRETCH < item.stop) look<Source>(job, row, head, start + STRETCH, item.stop, ahead);
        for (int i = 0; i < here.panels; i++) {
            const int64_t from = seen - start - i * PANEL, to = last_key - start - i * PANEL;
            if (from <= 0 && to >= PANEL) continue;
            uint8_t* place = cleaned + i * PANEL * shape.v_dim * Source::SIZE;
            clean<Source>(here.values[i], shape.v_dim, from, to, place);
            here.values[i] = place;
        }
        for (int64_t tile = 0; tile < tiles; tile++) {
            const int64_t first = tile_start(rows, tile), end = tile_start(rows, tile + 1);
            const int64_t first_query = position + first / group, last_query = position + (end - 1) / group;
            if (last_query < start || (shape.window && first_query - shape.window + 1 >= start + STRETCH)) continue;
            const int64_t q = first * shape.k_dim / (Source::DOTS ? 2 : 1);
            tile_of_height<Source>(end - first,
                                   Tile{&here, &ahead, packed + q, answers + first * shape.v_dim, top + first,
                                        sums + first * LANES, shape.k_dim, shape.v_dim, group, first, position - start,
                                        shape.window, shape.scale, shape.soft_cap});
        }
    }
    if (item.group < 0) {
        for (int64_t i = 0; i < rows; i++)
            finish(job, item, head, i, answers + i * shape.v_dim, top[i], sum(load(sums + i * LANES)));
        return;
    }
    float* part = part_at(job, item.slot, head);
    memcpy(part, answers, rows * (shape.v_dim + 1) * 4);
    for (int64_t i = 0; i < rows; i++) part[rows * (shape.v_dim + 1) + i] = sum(load(sums + i * LANES));
    if (__atomic_sub_fetch(&job.left[item.group * shape.kv_heads + head], 1, __ATOMIC_ACQ_REL) == 0)
        merge(job, item, head, answers);
}

constexpr int64_t WRITES_A_JOB = 4;
template <class Source>
static void write_job(void* context, int64_t number) {
    const Job& job = *(const Job*)context;
    for (int64_t i = number * WRITES_A_JOB; i < (number + 1) * WRITES_A_JOB && i < job.step->writes; i++)
        write<Source>(job, job.step->write[i]);
}
template <class Source>
static void attend_job(void* context, int64_t number) {
    const Job& job = *(const Job*)context;
    attend<Source>(job, job.step->item[number / job.shape->kv_heads], number % job.shape->kv_heads);
}
template <class Source>
static void run(Job& job) {
    pool_run(write_job<Source>, &job, (job.step->writes + WRITES_A_JOB - 1) / WRITES_A_JOB);
    pool_run(attend_job<Source>, &job, job.step->items * job.shape->kv_heads);
}

void attention(const AttentionShape* shape, const AttentionStep* step, const AttentionCall* call) {
    Turn turn;
    const int64_t rows = step->most_queries * group_of(*shape), size = shape->dtype == IN_BFLOAT16 ? 2 : 4;
    const int64_t part_bytes = (rows * (shape->v_dim + 2) * 4 + 63) / 64 * 64,
                  parts = step->slots * shape->kv_heads * part_bytes;
    const int64_t counters = step->groups * shape->kv_heads;
    uint8_t* memory = step->groups ? (uint8_t*)pool_shared(1, (unsigned long)(parts + counters * 4)) : nullptr;
    Job job{shape,
            step,
            call,
            shape->block_size * shape->k_dim * size,
            shape->block_size * shape->v_dim * size,
            memory,
            part_bytes,
            (int32_t*)(memory + parts)};
    for (int64_t i = 0; i < counters; i++) job.left[i] = step->group[i / shape->kv_heads].parts;
    if (shape->dtype == IN_FLOAT32) return run<Float32Pairs>(job);
#if defined(__AVX512BF16__)
    run<Bfloat16Dots>(job);
#else
    run<Bfloat16Pairs>(job);
#endif
}

}  // namespace

const AttentionKernels TABLE(attention_kernels) = {attention};
