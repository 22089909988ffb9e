// All rows by some panels, and panels in jobs.
#pragma once

#include "digits.h"
#include "panels_finish.h"
#include "stream.h"
#include "tiles.h"
#include "unit_panels.h"

constexpr int64_t DEPTH_BLOCK = 256;  // inputs of a widened block: 32 KiB for two panels
constexpr int64_t ROW_BLOCK = 40;     // tiles whose activations stay in the second cache beside it

// The panels after these.
INLINE Panels following(const Product& product, const Panels& panels, int count) {
    const int64_t step = product.finish == SILU_MUL ? count / 2 : count;
    return {panels[0] + step, panels[1] + step, panels[2] + step, panels[3] + step};
}
// What tile `tile` of `tiles` fetches: its share of the panels that come next, so that memory is read all the time.
// Where they do not fit into the second cache beside these, each tile fetches its own.
constexpr int64_t NEXT_BYTES = 1 << 18;
template <class Source, int P>
INLINE Ahead share_of_next(const Product& product, const Panels& panels, int64_t tile, int64_t tiles) {
    const Weight& weight = *product.weight;
    const bool fits = P * weight.panel_bytes <= NEXT_BYTES;
    Ahead ahead{{}, fits ? (Source::BYTES + tiles - 1) / tiles : Source::BYTES};
    if (fits && tile * ahead.step >= Source::BYTES) ahead.step = 0;
    const Panels next = following(product, panels, P);
    for (int p = 0; p < P; p++)
        ahead.at[p] = weight.data + (fits ? next[p] : panels[p]) * weight.panel_bytes +
                      (fits ? tile * ahead.step * (weight.depth / 2) : FETCHED);
    return ahead;
}

// Calls `body` with a constant: `height`, which is 1 to R.
template <int R, class Body>
INLINE void by_height(int64_t height, Body body) {
    if constexpr (R > 0) {
        if (height == R) return body(std::integral_constant<int, R>{});
        by_height<R - 1>(height, body);
    }
}

struct RowBlock {  // tiles `first` to `last` of a product
    int64_t first, last, row, rows;
};
template <class Body>
INLINE void by_row_blocks(const Product& product, Body body) {
    const int64_t tiles = tiles_of(product.rows);
    for (int64_t first = 0; first < tiles; first += ROW_BLOCK) {
        const int64_t last = first + ROW_BLOCK < tiles ? first + ROW_BLOCK : tiles;
        const int64_t row = tile_start(product.rows, first);
        body(RowBlock{first, last, row, tile_start(product.rows, last) - row});
    }
}
// Calls `body` with each tile's first row and, as a constant, its height.
template <int R, class Body>
INLINE void by_tiles(const Product& product, const RowBlock& block, Body body) {
    for (int64_t tile = block.first; tile < block.last; tile++) {
        const int64_t row = tile_start(product.rows, tile);
        by_height<R>(tile_start(product.rows, tile + 1) - row, [&](auto height) { body(row, height); });
    }
}

template <class Source, int P>
static void by_floats(const Product& product, const Panels& panels, float* sums) {
    const Weight& weight = *product.weight;
    float* wide = (float*)pool_scratch(0, DEPTH_BLOCK * P * LANES * 4);
    by_row_blocks(product, [&](const RowBlock& block) {
        memset(sums, 0, block.rows * P * LANES * 4);
        for (int64_t k = 0; k < weight.depth; k += DEPTH_BLOCK) {
            const int64_t last = k + DEPTH_BLOCK < weight.depth ? k + DEPTH_BLOCK : weight.depth;
            widen<Source, P>(weight, panels, k, last, wide);
            int64_t tile = 0;  // the first ones fetch what is widened next, a panel each
            by_tiles<ROWS>(product, block, [&](int64_t row, auto height) {
                const uint8_t* next = weight.data + panels[tile % P] * weight.panel_bytes + last / 2 * Source::BYTES;
                widened_tile<height, P>(product.packed + row * weight.depth + k * height, wide, last - k,
                                        sums + (row - block.row) * P * LANES, next, tile < P ? Source::BYTES / 2 : 0);
                tile++;
            });
        }
        finish<P>(product, panels, block.row, block.rows, sums);
    });
}

#if defined(__AVX512VNNI__)
template <class Source>
constexpr bool SPLITS = false;
template <>
constexpr bool SPLITS<Bfloat16Pairs> = true;
template <class Source>
struct BytesOf;
template <>
struct BytesOf<Bfloat16Pairs> : SplitBytes {};
template <>
struct BytesOf<Int8Pairs> : Int8Bytes {};
template <>
struct BytesOf<Int4Pairs> : Int4Bytes {};

template <class Source, int P>
static void by_digits(const Product& product, const Panels& panels, float* sums) {
    using Read = BytesOf<Source>;
    const Weight& weight = *product.weight;
    const int64_t step = step_of(weight);
    const int64_t depth_block = DEPTH_BLOCK / step * step, groups = (weight.depth + weight.group - 1) / weight.group;
    uint8_t* planes = nullptr;
    float* scales = nullptr;
    if constexpr (SPLITS<Source>) {
        planes = (uint8_t*)pool_scratch(0, DEPTH_BLOCK * P * LANES * 2 + (DEPTH_BLOCK / LONGEST_STEP) * P * LANES * 4);
        scales = (float*)(planes + DEPTH_BLOCK * P * LANES * 2);
    }
    const Panels next = following(product, panels, P);
    by_row_blocks(product, [&](const RowBlock& block) {
        memset(sums, 0, block.rows * P * LANES * 4);
        for (int64_t k = 0; k < weight.depth; k += depth_block) {
            const int64_t last = k + depth_block < weight.depth ? k + depth_block : weight.depth;
            Bytes bytes{};
            const int64_t quads = (last - k) / 4;
            bytes.shares = block.last - block.first;
            for (int p = 0; p < P; p++) {
                const uint8_t* from = weight.data + panels[p] * weight.panel_bytes;
                if constexpr (SPLITS<Source>) {
                    bytes.data[p] = planes + p * DEPTH_BLOCK * LANES * 2;
                    bytes.scale[p] = scales + p * (DEPTH_BLOCK / LONGEST_STEP) * LANES;
                    split(from, k, last, step, (uint8_t*)bytes.data[p], (float*)bytes.scale[p]);
                    bytes.group = step;
                } else {
                    bytes.data[p] = from + k / 4 * Read::BYTES;
                    bytes.scale[p] = weight.scale + panels[p] * groups * LANES;
                    bytes.offset[p] = weight.offset + panels[p] * groups * LANES;
                    bytes.group = weight.group, bytes.origin = k;
                }
                // what is read after this block: of these panels, or of the following
                bytes.ahead[p] =
                    last < weight.depth ? from + last / 4 * Read::BYTES : weight.data + next[p] * weight.panel_bytes;
            }
            const int64_t share = quads * Read::BYTES / bytes.shares;
            by_tiles<(P > PANELS ? STREAMED_ROWS : ROWS)>(product, block, [&](int64_t row, auto height) {
                const uint32_t* x =
                    (const uint32_t*)product.packed + row * words_a_row(weight) + (k / 2 + k / step * 3) * height;
                digits_tile<Read, height, P>(bytes, x, last - k, step, sums + (row - block.row) * P * LANES);
                for (int p = 0; p < P; p++) bytes.ahead[p] += share;
            });
        }
        finish<P>(product, panels, block.row, block.rows, sums);
    });
}
#endif

// All rows by P panels.
template <class Source, int P>
static void by_panels(const Product& product, const Panels& panels) {
    const Weight& weight = *product.weight;
    float* sums = (float*)pool_scratch(1, ROW_BLOCK * ROWS * P * LANES * 4);
#if defined(__AVX512VNNI__)
    // many rows go by two panels, and bfloat16 is split for many rows only
    if constexpr (!std::is_same_v<Source, Float32Pairs> && !(SPLITS<Source> && (P > 2 || DOTS_BFLOAT16)))
        if (in_digits(product)) return by_digits<Source, P>(product, panels, sums);
#endif
    if (product.rows <= STREAMED_ROWS) {
        by_height<STREAMED_ROWS>(product.rows, [&](auto rows) {
            stream<Source, rows, P>(product, panels, following(product, panels, P), sums);
        });
        return finish<P>(product, panels, 0, product.rows, sums);
    }
    if constexpr (P <= 2) {
        if (tiles_of(product.rows) > 1 && !(Source::BYTES == 64 && in_pairs(weight, product.x)))
            return by_floats<Source, P>(product, panels, sums);
        int64_t tile = 0;
        by_row_blocks(product, [&](const RowBlock& block) {
            by_tiles<ROWS>(product, block, [&](int64_t row, auto height) {
                const Ahead ahead = share_of_next<Source, P>(product, panels, tile++, tiles_of(product.rows));
                direct<Source, height, P>(product, panels, row, ahead, sums);
                finish<P>(product, panels, row, height, sums);
            });
        });
    }
}

// Panels `panel` to `end - 1`, or so many pairs of them.
template <class Source>
static void multiply_some(const Product& product, int64_t panel, int64_t end) {
#if defined(__AMX_BF16__)
    if constexpr (UNIT_READS<Source>)
        if (in_unit_tiles(product)) return by_matrix_unit<Source>(product, panel, end);
#endif
    const bool streams = product.rows <= STREAMED_ROWS;
    const int64_t half = product.weight->panels / 2;
    if (product.finish == SILU_MUL) {
        if constexpr (STREAMED_PANELS == 4)
            for (; streams && panel + 2 <= end; panel += 2)
                by_panels<Source, 4>(product, {panel, panel + 1, half + panel, half + panel + 1});
        for (; panel < end; panel++) by_panels<Source, 2>(product, {panel, half + panel});
        return;
    }
    if constexpr (STREAMED_PANELS == 4)
        for (; streams && panel + 4 <= end; panel += 4)
            by_panels<Source, 4>(product, {panel, panel + 1, panel + 2, panel + 3});
    if constexpr (PANELS == 2) {
        for (; panel + 2 <= end; panel += 2) by_panels<Source, 2>(product, {panel, panel + 1});
        if (panel < end) by_panels<Source, 2>(product, {panel, panel});  // an odd one: written twice
    } else {
        for (; panel < end; panel++) by_panels<Source, 1>(product, {panel});
    }
}

// How a product reads its weight: in units, panels or pairs of them from both halves, so many of them `together`.
INLINE Stream stream_of(const Product& product) {
    const Weight& weight = *product.weight;
    const int64_t halves = product.finish == SILU_MUL ? 2 : 1;
    const int64_t panels = in_unit_tiles(product)          ? unit_block(product)
                           : product.rows <= STREAMED_ROWS ? STREAMED_PANELS
                                                           : PANELS;
    const int64_t together = panels / halves;
    return {weight.data, weight.panel_bytes, weight.panels / halves, halves, together ? together : 1};
}
// How many units are taken towards the end of what a thread has to do.
INLINE int64_t fewest_together(const Product& product, const Stream& stream) {
    if (product.rows <= STREAMED_ROWS) return 1;
    if (!in_unit_tiles(product)) return stream.together;
    const int64_t panels = product.rows <= FEW_ROWS ? 2 : unit_block(product) / 4;
    return panels < 2 * stream.halves ? 1 : panels / stream.halves;
}
