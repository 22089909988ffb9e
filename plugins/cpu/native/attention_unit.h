// A tile of queries and a stretch of keys on the matrix unit: 16 rows by 64 keys, then weights by values.
#pragma once

#include "attention_tile.h"
#include "matrix_unit.h"

// Whether so many rows of queries meet their keys on the unit: fewer meet them in the order in which they lie.
template <class Source>
INLINE bool on_unit(const AttentionShape& shape, int64_t rows) {
    return MATRIX_UNIT && Source::DOTS && rows > NARROW_ROWS && shape.k_dim % UNIT_DEPTH == 0 &&
           shape.v_dim % LANES == 0;
}

#if defined(__AMX_BF16__)
// Values of two panels as one tile reads them, 16 pairs of tokens one after the other: where they do not lie so, they
// are put at `room` `[4]` panels. A panel that is not there counts as zero.
struct UnitValues {
    const uint8_t* of[LOOKS / 2];
};
INLINE UnitValues unit_values(const Stretch& stretch, int64_t panel_bytes, uint8_t* room) {
    UnitValues values{};
    for (int i = 0; i < stretch.panels; i += 2) {
        const bool both = i + 1 < stretch.panels;
        values.of[i / 2] = stretch.values[i];
        if (both && stretch.values[i + 1] == stretch.values[i] + panel_bytes) continue;
        uint8_t *first = room + i * panel_bytes, *second = first + panel_bytes;
        if (stretch.values[i] != first) memcpy(first, stretch.values[i], panel_bytes);
        if (!both) memset(second, 0, panel_bytes);
        else if (stretch.values[i + 1] != second) memcpy(second, stretch.values[i + 1], panel_bytes);
        values.of[i / 2] = first;
    }
    return values;
}

// P panels, 2 or 4, from `first` on; `out` `[16][64]`.
template <int P>
static void unit_score(const Tile& tile, float* out) {
    const uint8_t* q = (const uint8_t*)tile.q;
    times<P>([](auto p) HERE { unit_zero<p>(); });
    for (int64_t step = 0; step < tile.k_dim / UNIT_DEPTH; step++) {
        unit_load<4>(q + step * 64, tile.k_dim * 2);
        times<P>([&](auto p) HERE {
            unit_load<5 + p % 2>(tile.stretch->keys[p] + step * UNIT_BYTES, 64);
            unit_add<p, 4, 5 + p % 2>();
        });
    }
    times<P>([&](auto p) HERE { unit_store<p>(out + p * PANEL, STRETCH * 4); });
}

// Sums of D times 16 dims from `dim` on.
template <int D>
static void unit_gather(const Tile& tile, const UnitValues& values, int64_t dim, const float* weights) {
    times<D>([&](auto d) HERE { unit_load<d>(tile.answers + dim + d * LANES, tile.v_dim * 4); });
    for (int pair = 0; pair < (tile.panels + 1) / 2; pair++) {
        unit_load<4>((const uint8_t*)weights + pair * 64, STRETCH * 4);
        times<D>([&](auto d) HERE {
            unit_load<5 + d % 2>(values.of[pair] + (dim + d * LANES) * 4, tile.v_dim * 4);
            unit_add<d, 4, 5 + d % 2>();
        });
    }
    times<D>([&](auto d) HERE { unit_store<d>(tile.answers + dim + d * LANES, tile.v_dim * 4); });
}

// `fetches`: values and the next keys are not in the first caches yet.
static void unit_tile(const Tile& tile, int rows, const UnitValues& values, bool fetches) {
    alignas(64) float scores[UNIT_ROWS * STRETCH], scaled[LANES] = {};
    const int64_t value_bytes = PANEL * tile.v_dim * 2, key_bytes = PANEL * tile.k_dim * 2;
    if (fetches)
        for (int i = 0; i < tile.panels; i++)
            for (int64_t at = 0; at < value_bytes; at += 64) fetch(tile.stretch->values[i] + at);
    (tile.panels > 2 ? unit_score<4> : unit_score<2>)(tile, scores);
    if (fetches)
        for (int i = 0; i < tile.ahead->panels; i++)
            for (int64_t at = 0; at < key_bytes; at += 64) fetch(tile.ahead->keys[i] + at);
    soften<Bfloat16Dots>(tile, rows, scores, scaled);
    for (int r = 0; r < rows; r++) {
        if (tile.panels % 2) memset((uint16_t*)(scores + r * STRETCH) + tile.panels * PANEL, 0, PANEL * 2);
        if (scaled[r] == 1) continue;
        float* at = tile.answers + r * tile.v_dim;
        for (int64_t k = 0; k < tile.v_dim; k += LANES) store(at + k, load(at + k) * all(scaled[r]));
    }
    int64_t dim = 0;
    for (; dim + 4 * LANES <= tile.v_dim; dim += 4 * LANES) unit_gather<4>(tile, values, dim, scores);
    for (; dim < tile.v_dim; dim += LANES) unit_gather<1>(tile, values, dim, scores);
}
#endif
