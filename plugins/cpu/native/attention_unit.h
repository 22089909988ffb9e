// Queries and keys on the matrix unit: 32 rows by 32 keys at a time, then their weights by 32 values of 32 dims.
#pragma once

#include "attention_tile.h"
#include "matrix_unit.h"

#include <optional>

// Whether so many rows of queries meet their keys on the unit: fewer meet them in the order in which they lie. A row's
// highest score is found before it is scaled.
template <class Source>
INLINE bool on_unit(const AttentionShape& shape, int64_t rows) {
    return MATRIX_UNIT && Source::DOTS && rows > NARROW_ROWS && shape.k_dim % UNIT_DEPTH == 0 &&
           shape.v_dim % (2 * LANES) == 0 && shape.scale > 0;
}

#if defined(__AMX_BF16__)
constexpr int64_t UNIT_QUERIES = 2 * UNIT_ROWS;  // rows that go by a stretch together, in the first cache
constexpr int64_t UNIT_LOOKS = 16;               // stretches that stay in the second cache while rows go by
constexpr int64_t UNIT_KEYS = UNIT_LOOKS * STRETCH;

struct UnitStretch {
    Stretch panels;
    const uint8_t* values[LOOKS / 2];  // of two panels, as one tile reads them: 16 pairs of tokens one after the other
};
// Where the values of two panels do not lie so, they are put at `room`, `[4]` panels. What is not there counts as zero.
INLINE void put_together(UnitStretch& stretch, int64_t panel_bytes, uint8_t* room) {
    const auto& values = stretch.panels.values;
    for (int i = 0; i < stretch.panels.panels; i += 2) {
        const bool both = i + 1 < stretch.panels.panels;
        stretch.values[i / 2] = values[i];
        if (both && values[i + 1] == values[i] + panel_bytes) continue;
        uint8_t *first = room + i * panel_bytes, *second = first + panel_bytes;
        if (values[i] != first) memcpy(first, values[i], panel_bytes);
        if (!both) memset(second, 0, panel_bytes);
        else if (values[i + 1] != second) memcpy(second, values[i + 1], panel_bytes);
        stretch.values[i / 2] = first;
    }
}
INLINE void fetch_kilobyte(const uint8_t* from) {
    for (int line = 0; line < 16; line++) fetch(from + line * 64);
}

// Rows that go by a stretch: 16, or 32 where `two`. `next`, where it is not null, is fetched meanwhile.
struct UnitTile {
    Tile tile;
    int rows;
    const UnitStretch *stretch, *next;
    float* scores;  // `[32][64]`
};

// As `soften` does, row by row and with powers of two: a scale that holds log2(e) is one multiplication less. Earlier
// answers are scaled when a score is higher than the one that weights are relative to by more than SLACK: weights are
// up to 2^SLACK until then, which float32 sums and bfloat16 hold as well as they hold 1.
constexpr float SLACK = 8;
template <bool HIDES, int WHOLE>  // WHOLE: how many panels there are, or 0
INLINE void unit_soften_row(const Tile& tile, int r, float* scores) {
    const int panels = WHOLE ? WHOLE : tile.panels;
    const float scale = tile.scale * LOG2E;
    float* at = scores + r * STRETCH;
    V most = all(-__builtin_inff());
    if (HIDES) {
        const int64_t last = tile.position + (tile.row + r) / tile.group + 1;
        const int64_t first = tile.window ? last - tile.window : -1;
        for (int i = 0; i < panels; i++) {
            V x = load(at + i * PANEL);
            if (tile.soft_cap != 0) x = all(tile.soft_cap / tile.scale) * tanh(x * all(tile.scale / tile.soft_cap));
            x = visible(x, first - i * PANEL, last - i * PANEL);
            store(at + i * PANEL, x);
            most = max(x, most);
        }
    } else {
#pragma GCC unroll 4
        for (int i = 0; i < panels; i++) most = max(load(at + i * PANEL), most);
    }
    const float highest = most_of(most) * scale;
    float* sums = tile.sums + r * LANES;
    if (highest > tile.top[r] + SLACK) {
        const V scaled = power_to_round<true>(all(tile.top[r] - highest));
        tile.top[r] = highest;
        store(sums, load(sums) * scaled);
        float* answer = tile.answers + r * tile.v_dim;
        for (int64_t k = 0; k < tile.v_dim; k += LANES) store(answer + k, load(answer + k) * scaled);
    }
    const V top = all(-tile.top[r]), times = all(scale);
    V total = load(sums);
#pragma GCC unroll 2
    for (int i = 0; i < panels; i += 2) {
        const V even = power_to_round<HIDES>(fma(load(at + i * PANEL), times, top));
        V odd = zero();
        if (WHOLE || i + 1 < panels) odd = power_to_round<HIDES>(fma(load(at + (i + 1) * PANEL), times, top));
        total = total + (even + odd);
        _mm512_storeu_si512((uint16_t*)at + i * PANEL,
                            (__m512i)_mm512_cvtne2ps_pbh((__m512)odd.p[0], (__m512)even.p[0]));
    }
    store(sums, total);
}
// Whether a row of the tile does not see all of the stretch's panels, or scores are bent.
INLINE bool hides(const Tile& tile, int rows) {
    const int64_t first_query = tile.position + tile.row / tile.group,
                  last_query = tile.position + (tile.row + rows - 1) / tile.group;
    return tile.soft_cap != 0 || first_query + 1 < tile.panels * PANEL ||
           (tile.window && last_query + 1 - tile.window > 0);
}

// Scores in whole pairs of panels. The unit works on its own: `beside` is called once for every four of its products.
template <bool two, class Beside>
static void unit_score(const UnitTile& of, Beside beside) {
    const Tile& tile = of.tile;
    float* out = of.scores;
    const uint8_t* q = (const uint8_t*)tile.q;
    const int64_t stride = tile.k_dim * 2;
    for (int p = 0; p < tile.panels; p += 2) {
        unit_zero<0>(), unit_zero<1>();
        if (two) unit_zero<2>(), unit_zero<3>();
        const uint8_t *even = of.stretch->panels.keys[p], *odd = of.stretch->panels.keys[p + 1];
        for (int64_t step = 0; step < tile.k_dim / UNIT_DEPTH; step++) {
            const int64_t at = step * UNIT_BYTES;
            unit_load<4>(q + step * 64, stride);
            unit_load<6>(even + at, 64);
            unit_add<0, 4, 6>();
            unit_load<7>(odd + at, 64);
            unit_add<1, 4, 7>();
            if (two) {
                unit_load<5>(q + step * 64 + UNIT_ROWS * stride, stride);
                unit_add<2, 5, 6>();
                unit_add<3, 5, 7>();
            }
            if (of.next) fetch_kilobyte(of.next->panels.keys[p] + at), fetch_kilobyte(of.next->panels.keys[p + 1] + at);
            beside();
        }
        float *first = out + p * PANEL, *second = first + UNIT_ROWS * STRETCH;
        unit_store<0>(first, STRETCH * 4), unit_store<1>(first + PANEL, STRETCH * 4);
        if (two) unit_store<2>(second, STRETCH * 4), unit_store<3>(second + PANEL, STRETCH * 4);
    }
}

template <bool two>
static void unit_gather(const UnitTile& of) {
    const Tile& tile = of.tile;
    const float* weights = of.scores;
    const int64_t stride = tile.v_dim * 4;
    for (int64_t dim = 0; dim < tile.v_dim; dim += 2 * LANES) {
        float *first = tile.answers + dim, *second = first + UNIT_ROWS * tile.v_dim;
        unit_load<0>(first, stride), unit_load<1>(first + LANES, stride);
        if (two) unit_load<2>(second, stride), unit_load<3>(second + LANES, stride);
        for (int pair = 0; pair < (tile.panels + 1) / 2; pair++) {
            const uint8_t *weight = (const uint8_t*)weights + pair * 64, *values = of.stretch->values[pair] + dim * 4;
            unit_load<4>(weight, STRETCH * 4);
            unit_load<6>(values, stride);
            unit_add<0, 4, 6>();
            unit_load<7>(values + 64, stride);
            unit_add<1, 4, 7>();
            if (two) {
                unit_load<5>(weight + UNIT_ROWS * STRETCH * 4, STRETCH * 4);
                unit_add<2, 5, 6>();
                unit_add<3, 5, 7>();
            }
            if (of.next)
                for (int p = 2 * pair; p < 2 * pair + 2; p++) fetch_kilobyte(of.next->panels.values[p] + dim * 32);
        }
        unit_store<0>(first, stride), unit_store<1>(first + LANES, stride);
        if (two) unit_store<2>(second, stride), unit_store<3>(second + LANES, stride);
    }
}

// Softens a tile's rows, some at a time.
struct Softening {
    const UnitTile& of;
    bool bent = hides(of.tile, of.rows);
    int done = 0;
    void some(int count) {
        for (const int end = done + count < of.rows ? done + count : of.rows; done < end; done++)
            if (bent) unit_soften_row<true, 0>(of.tile, done, of.scores);
            else if (of.tile.panels == LOOKS) unit_soften_row<false, LOOKS>(of.tile, done, of.scores);
            else unit_soften_row<false, 0>(of.tile, done, of.scores);
    }
};
constexpr int SOFTENED_BESIDE = 4;  // rows, so that those of 32 are done with a stretch's scores

// Rows by stretches, one after the other: weights of one are made beside the scores of the next.
template <bool two>
struct UnitQueue {
    alignas(64) float scores[2][UNIT_QUERIES * STRETCH];
    std::optional<UnitTile> waiting;  // has scores
    int turn = 0;

    void add(UnitTile tile) {
        tile.scores = scores[turn], turn = 1 - turn;
        if (!waiting) unit_score<two>(tile, [] {});
        else {
            Softening softening{*waiting};
            unit_score<two>(tile, [&]() HERE { softening.some(SOFTENED_BESIDE); });
            finish(softening);
        }
        waiting = tile;
    }
    void finish(Softening softening) {
        softening.some(UNIT_QUERIES);
        unit_gather<two>(*waiting);
    }
    void finish() {
        if (waiting) finish(Softening{*waiting});
        waiting.reset();
    }
};

// Rows `first` to `first + rows - 1` by `count` stretches, of which the first starts at `begin`.
template <bool two>
static void rows_on_unit(const Queries& queries, int64_t first, int64_t rows, int64_t begin,
                         const UnitStretch* stretches, int64_t count) {
    UnitQueue<two> queue;
    for (int64_t i = 0; i < count; i++) {
        const int64_t start = begin + i * STRETCH;
        const int panels = panels_seen(queries, first, first + rows, start, stretches[i].panels.panels);
        if (!panels) continue;
        const UnitStretch* next = first == 0 && i + 1 < count ? &stretches[i + 1] : nullptr;
        queue.add({tile_of(queries, first, start, panels), int(rows), &stretches[i], next, nullptr});
    }
    queue.finish();
}

static void attend_on_unit(const Queries& queries) {
    const Job& job = queries.job;
    const AttentionShape& shape = *job.shape;
    const int64_t stop = queries.item.stop, panel_bytes = PANEL * shape.v_dim * 2;
    uint8_t* room = (uint8_t*)pool_scratch(5, UNIT_LOOKS * LOOKS * panel_bytes);
    UnitStretch stretches[UNIT_LOOKS];
    const UnitTiles configured;
    for (int64_t begin = queries.item.start; begin < stop; begin += UNIT_KEYS) {
        int64_t count = 0;
        for (int64_t start = begin; start < stop && count < UNIT_LOOKS; start += STRETCH, count++) {
            uint8_t* own = room + count * LOOKS * panel_bytes;
            UnitStretch& stretch = stretches[count];
            look<Bfloat16Dots>(job, queries.row, queries.head, start, stop, stretch.panels);
            clean_unseen<Bfloat16Dots>(queries, start, stretch.panels, own);
            put_together(stretch, panel_bytes, own);
        }
        for (int64_t first = 0; first < queries.rows; first += UNIT_QUERIES) {
            const int64_t left = queries.rows - first, rows = left < UNIT_QUERIES ? left : UNIT_QUERIES;
            (rows > UNIT_ROWS ? rows_on_unit<true> : rows_on_unit<false>)(queries, first, rows, begin, stretches,
                                                                          count);
        }
    }
    for (int64_t i = 0; i < queries.rows; i++) queries.top[i] *= LN2;  // from powers of two
}
#endif
