// Rows of queries against a stretch of keys and values: scores, their weights, weighted values.
#pragma once

#include "attention_cache.h"
#include "softmax.h"
#include "tile_size.h"

#if defined(__AVX512F__)
constexpr int NARROW_ROWS = 4, NARROW_PANELS = 4;  // few rows: more panels, so that no sum waits for the one before
#else
constexpr int NARROW_ROWS = 2, NARROW_PANELS = 2;
#endif

// Whether four panels go by side by side where a stretch has them: fewer instructions a line. Intel's cores then read
// up to 10 % faster (decision 27), AMD's slower (decision 17).
#if defined(__AMX_BF16__)
constexpr bool SIDE_BY_SIDE = true;
#else
constexpr bool SIDE_BY_SIDE = false;
#endif

#if defined(__AVX512BF16__)
INLINE bool packs_pairs(const AttentionShape& shape) { return shape.dtype == IN_BFLOAT16; }
#else
INLINE bool packs_pairs(const AttentionShape&) { return false; }
#endif

// Rows of queries that are multiplied together, and the stretch that they are multiplied with.
struct Tile {
    const Stretch *stretch, *ahead;  // fetched meanwhile: values by the keys' product, the next keys by the values'
    int panels;                      // of the stretch, that the last row sees
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

// An item's queries of one head.
struct Queries {
    const Job& job;
    const StepItem& item;
    int64_t head;
    const StepRow& row;
    int64_t group, rows;
    int64_t position;        // of the first query
    int64_t seen, last_key;  // the first key that any query sees, and the one after the last
    float *packed, *answers, *top, *sums;
};
// Where values of a stretch are partly nobody's, they are replaced by their cleaned copies in `room`, `[4]` panels.
template <class Source>
static void clean_unseen(const Queries& queries, int64_t start, Stretch& stretch, uint8_t* room) {
    const int64_t dim = queries.job.shape->v_dim;
    for (int i = 0; i < stretch.panels; i++) {
        const int64_t from = queries.seen - start - i * PANEL, to = queries.last_key - start - i * PANEL;
        if (from <= 0 && to >= PANEL) continue;
        uint8_t* place = room + i * PANEL * dim * Source::SIZE;
        clean<Source>(stretch.values[i], dim, from, to, place);
        stretch.values[i] = place;
    }
}
// How many panels of the stretch from `start` on rows `first` to `end - 1` see.
INLINE int panels_seen(const Queries& queries, int64_t first, int64_t end, int64_t start, int panels) {
    const int64_t window = queries.job.shape->window;
    const int64_t first_query = queries.position + first / queries.group,
                  last_query = queries.position + (end - 1) / queries.group;
    if (last_query < start || (window && first_query - window + 1 >= start + STRETCH)) return 0;
    const int64_t reach = (last_query - start) / PANEL + 1;
    return reach < panels ? int(reach) : panels;
}
INLINE Tile tile_of(const Queries& queries, int64_t first, int64_t start, int panels) {
    const AttentionShape& shape = *queries.job.shape;
    Tile tile{};
    tile.panels = panels;
    tile.q = queries.packed + first * shape.k_dim / (packs_pairs(shape) ? 2 : 1);
    tile.answers = queries.answers + first * shape.v_dim;
    tile.top = queries.top + first, tile.sums = queries.sums + first * LANES;
    tile.k_dim = shape.k_dim, tile.v_dim = shape.v_dim;
    tile.group = queries.group, tile.row = first, tile.position = queries.position - start;
    tile.window = shape.window, tile.scale = shape.scale, tile.soft_cap = shape.soft_cap;
    return tile;
}

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
            fetch(values[p] + pair * Source::BYTES);
            if (Source::BYTES > 64) fetch(values[p] + pair * Source::BYTES + 64);
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
            for (int p = 0; p < P; p++) Source::read(keys[p] + pair * Source::BYTES, 0, V{}, V{}, even[p], odd[p]);
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

#if defined(__AVX512BF16__)
// Few rows: panel after panel, as they lie in memory, with several sums for each row in turn.
template <class Source, int R>
static void score_in_order(const Tile& tile, float* out) {  // `out` [R][64]
    constexpr int U = R <= 2 ? 4 : 2;
    const uint32_t* q = (const uint32_t*)tile.q;
    const int64_t pairs = tile.k_dim / 2;
    for (int panel = 0; panel < tile.panels; panel++) {
        const uint8_t *keys = tile.stretch->keys[panel], *values = tile.stretch->values[panel];
        V sums[U][R];
        times<U>([&](auto u) HERE { times<R>([&](auto r) HERE { sums[u][r] = zero(); }); });
        const auto add = [&](V(&to)[R], int64_t pair) HERE {
            fetch(values + pair * Source::BYTES);
            const W keys_of_pair = load_words(keys + pair * Source::BYTES);
            times<R>([&](auto r) HERE { add_pair(to[r], keys_of_pair, q[pair * R + r]); });
        };
        int64_t pair = 0;
        for (; pair + U <= pairs; pair += U) times<U>([&](auto u) HERE { add(sums[u], pair + u); });
        for (; pair < pairs; pair++) add(sums[0], pair);
        times<R>([&](auto r) HERE {
            V total = sums[0][r];
            times<U - 1>([&](auto u) HERE { total = total + sums[u + 1][r]; });
            store(out + r * STRETCH + panel * PANEL, total);
        });
    }
}
#endif

// Scores to weights, in place, or as bfloat16 at the place of the first half; `scaled` becomes what earlier answers are
// multiplied by. First all rows' highest scores, so that what they are scaled by is one power for all of them.
template <class Source>
static void soften(const Tile& tile, int rows, float* scores, float* scaled) {
    const int panels = tile.panels;
    const V scale = all(tile.scale);
    for (int r = 0; r < rows; r++) {
        const int64_t last = tile.position + (tile.row + r) / tile.group + 1;
        const int64_t first = tile.window ? last - tile.window : -1;
        float* at = scores + r * STRETCH;
        V most = all(LOWEST);
        for (int i = 0; i < panels; i++) {
            V x = load(at + i * PANEL) * scale;
            if (tile.soft_cap != 0) x = all(tile.soft_cap) * tanh(x / all(tile.soft_cap));
            if (first > i * PANEL || last < (i + 1) * PANEL) x = visible(x, first - i * PANEL, last - i * PANEL);
            store(at + i * PANEL, x);
            most = max(x, most);
        }
        const float before = tile.top[r], highest = most_of(most), top = highest > before ? highest : before;
        tile.top[r] = top, scaled[r] = before - top;
    }
    store(scaled, weight_of(load(scaled)));
    for (int r = 0; r < rows; r++) {
        float* at = scores + r * STRETCH;
        const V top = all(tile.top[r]);
        V total = zero();
        for (int i = 0; i < panels; i++) {
            const V x = load(at + i * PANEL) - top, weight = Source::DOTS ? weight_to_round(x) : weight_of(x);
            total = total + weight;
            if (Source::DOTS) store_bf16((uint16_t*)at + i * PANEL, weight);
            else store(at + i * PANEL, weight);
        }
        store(tile.sums + r * LANES, fma(load(tile.sums + r * LANES), all(scaled[r]), total));
    }
}

// Values of `TOGETHER` panels side by side, 1 or all of a stretch.
template <class Source, int R, int P, int TOGETHER = 1>
static void gather(const Tile& tile, int64_t first, const float* weights, const float* scaled) {
    const int64_t panels = tile.v_dim / LANES, pair_bytes = panels * Source::BYTES;
    int64_t at[P];
    for (int p = 0; p < P; p++)
        at[p] = first + p < panels ? first + p : panels - 1;  // the last one again: the same sums
    V sums[P][R];
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++) sums[p][r] = load(tile.answers + r * tile.v_dim + at[p] * LANES) * all(scaled[r]);
    const auto add_pair_of = [&](int i, int64_t pair) HERE {
        const uint8_t *values = tile.stretch->values[i] + pair * pair_bytes,
                      *ahead = tile.ahead->keys[i] + pair * pair_bytes;
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) {
            fetch(ahead + at[p] * Source::BYTES);
            if (Source::BYTES > 64) fetch(ahead + at[p] * Source::BYTES + 64);
        }
        if constexpr (Source::DOTS) {
#if defined(__AVX512BF16__)
            const uint32_t* weight = (const uint32_t*)weights + i * PANEL / 2 + pair;
            W w[P];
#pragma GCC unroll 8
            for (int p = 0; p < P; p++) w[p] = load_words(values + at[p] * Source::BYTES);
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                __m512bh x = (__m512bh)_mm512_set1_epi32(int(weight[r * STRETCH]));
#pragma GCC unroll 8
                for (int p = 0; p < P; p++)
                    sums[p][r].p[0] = (FloatPart)_mm512_dpbf16_ps((__m512)sums[p][r].p[0], (__m512bh)w[p].p[0], x);
            }
#endif
        } else {
            const float* weight = weights + i * PANEL + pair * 2;
            V even[P], odd[P];
#pragma GCC unroll 8
            for (int p = 0; p < P; p++) Source::read(values + at[p] * Source::BYTES, 0, V{}, V{}, even[p], odd[p]);
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                V x = all(weight[r * STRETCH]);
#pragma GCC unroll 8
                for (int p = 0; p < P; p++) sums[p][r] = fma(even[p], x, sums[p][r]);
            }
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                V x = all(weight[r * STRETCH + 1]);
#pragma GCC unroll 8
                for (int p = 0; p < P; p++) sums[p][r] = fma(odd[p], x, sums[p][r]);
            }
        }
    };
    for (int begin = 0; begin < tile.panels; begin += TOGETHER)
        for (int64_t pair = 0; pair < PANEL / 2; pair++)
            times<TOGETHER>([&](auto i) HERE { add_pair_of(begin + i, pair); });
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++) store(tile.answers + r * tile.v_dim + at[p] * LANES, sums[p][r]);
}

template <class Source, int R>
static void one_tile(const Tile& tile) {
    alignas(64) float scores[R * STRETCH], scaled[LANES] = {};
#if defined(__AVX512BF16__)
    if constexpr (Source::DOTS && R <= NARROW_ROWS) {
        constexpr int P = R <= 2 ? 8 : 4;  // a row of values at once where there are registers for it
        const bool together = SIDE_BY_SIDE && tile.panels == LOOKS;
        if (together) score<Source, R, LOOKS>(tile, 0, scores);
        else score_in_order<Source, R>(tile, scores);
        soften<Source>(tile, R, scores, scaled);
        for (int64_t at = 0; at < tile.v_dim / LANES; at += P)
            if (together) gather<Source, R, P, LOOKS>(tile, at, scores, scaled);
            else gather<Source, R, P>(tile, at, scores, scaled);
    } else
#endif
    {
        constexpr int P = R <= NARROW_ROWS ? NARROW_PANELS : PANELS;
        for (int panel = 0; panel < tile.panels; panel += P) score<Source, R, P>(tile, panel, scores);
        soften<Source>(tile, R, scores, scaled);
        for (int64_t at = 0; at < tile.v_dim / LANES; at += P) gather<Source, R, P>(tile, at, scores, scaled);
    }
}
template <class Source, int R = ROWS>
INLINE void tile_of_height(int64_t height, const Tile& tile) {
    if constexpr (R > 0) {
        if (height == R) return one_tile<Source, R>(tile);
        tile_of_height<Source, R - 1>(height, tile);
    }
}
