// All rows by some panels on the matrix unit: 32 rows by two panels at a time.
#pragma once

#include "matrix_unit.h"
#include "panels_finish.h"
#include "stream.h"

constexpr int64_t FEW_ROWS = 64;  // up to here panels are read once, from memory: small jobs share it best
// Panels that are taken together.
INLINE int64_t unit_block(const Product& product) { return product.rows <= FEW_ROWS ? 8 : 32; }

#if defined(__AMX_BF16__)
constexpr int64_t PASS_ROWS = 2 * UNIT_ROWS, SUMS = PASS_ROWS * 2 * LANES;  // of a pass: rows by two panels

template <class Source>
constexpr bool UNIT_READS = false;
template <>
constexpr bool UNIT_READS<Bfloat16Pairs> = true;
template <>
constexpr bool UNIT_READS<Int8Pairs> = true;

// Blocks of a product of many rows: while 256 rows go by, 8 steps' tiles of two panels stay in the first cache, and the
// rows' own of those steps in the second one, where eight pairs of panels meet them.
constexpr int64_t BLOCK_ROWS = 256, BLOCK_STEPS = 8, BLOCK_PAIRS = 8;

// What a pass fetches for those after it: in each step so many lines of two tiles of rows and of two panels.
struct UnitAhead {
    const uint8_t *x[2], *panels[2];
    int64_t x_lines, panel_lines;
};
// Two panels as the unit reads them, `[steps]` tiles; the last step's, where inputs end in it, lie apart.
struct UnitPanels {
    const uint8_t *at[2], *last[2];
};
// Steps `first` to `end - 1` of `steps`.
struct UnitSteps {
    int64_t first, end, steps;
};

// Added to `sums` `[32][2][16]`, which are new at the first step. `x` `[steps]` tiles, of the next 16 rows `tile_bytes`
// later where `two`.
template <bool two>
static void unit_product(const uint8_t* x, int64_t tile_bytes, const UnitPanels& panels, UnitSteps part,
                         const UnitAhead& ahead, float* sums) {
    constexpr int64_t STRIDE = 2 * LANES * 4;
    float* second = sums + UNIT_ROWS * 2 * LANES;
    if (part.first == 0) {
        unit_zero<0>(), unit_zero<1>();
        if (two) unit_zero<2>(), unit_zero<3>();
    } else {
        unit_load<0>(sums, STRIDE), unit_load<1>(sums + LANES, STRIDE);
        if (two) unit_load<2>(second, STRIDE), unit_load<3>(second + LANES, STRIDE);
    }
    for (int64_t step = part.first; step < part.end; step++) {
        const int64_t at = step * UNIT_BYTES;
        const bool apart = step == part.steps - 1;
        unit_load<4>(x + at, 64);
        unit_load<6>(apart ? panels.last[0] : panels.at[0] + at, 64);
        unit_add<0, 4, 6>();
        unit_load<7>(apart ? panels.last[1] : panels.at[1] + at, 64);
        unit_add<1, 4, 7>();
        if (two) {
            unit_load<5>(x + tile_bytes + at, 64);
            unit_add<2, 5, 6>();
            unit_add<3, 5, 7>();
        }
        for (int64_t line = 0; line < ahead.x_lines; line++)
            fetch(ahead.x[0] + at + line * 64), fetch(ahead.x[1] + at + line * 64);
        for (int64_t line = 0; line < ahead.panel_lines; line++)
            fetch(ahead.panels[0] + at + line * 64), fetch(ahead.panels[1] + at + line * 64);
    }
    unit_store<0>(sums, STRIDE), unit_store<1>(sums + LANES, STRIDE);
    if (two) unit_store<2>(second, STRIDE), unit_store<3>(second + LANES, STRIDE);
}

// A panel of another format as pairs of bfloat16: int8 numbers are that exactly.
template <class Source>
static void unit_widen(const Weight& weight, int64_t panel, uint8_t* to) {
    const uint8_t* from = weight.data + panel * weight.panel_bytes;
    for (int64_t k = 0; k < weight.depth; k += 2, to += 64) {
        V even, odd;
        Source::read(from, k, V{}, V{}, even, odd);
        W both = as_words(odd);
        const W low = as_words(even);
        for (int i = 0; i < PARTS; i++) both.p[i] |= low.p[i] >> 16;
        store((float*)to, as_float(both));
    }
    memset(to, 0, (unit_steps(weight.depth) * UNIT_DEPTH - weight.depth) * 32);
}

// The panels of one thread's job, in pairs, and what is multiplied by them.
template <class Source>
struct UnitJob {
    static constexpr bool WIDENS = Source::BYTES != 64;
    const Product& product;
    const Weight& weight = *product.weight;
    int64_t first, end;  // units: panels, or pairs of them from both halves
    int64_t steps = unit_steps(weight.depth), tile_bytes = steps * UNIT_BYTES;
    int64_t whole = weight.depth / UNIT_DEPTH;  // steps without what is behind the last input
    bool gated = product.finish == SILU_MUL;
    int64_t pairs = gated ? end - first : (end - first + 1) / 2;
    int64_t own_bytes = WIDENS ? tile_bytes : whole < steps ? UNIT_BYTES : 0;
    uint8_t* own = (uint8_t*)pool_scratch(0, pairs * 2 * own_bytes);  // [pairs][2][own_bytes]

    Panels panels(int64_t pair) const {
        if (gated) return {{first + pair, weight.panels / 2 + first + pair, 0, 0}};
        const int64_t panel = first + 2 * pair;  // of an odd number the last one is multiplied, and written, twice
        return {{panel, panel + 1 == end ? panel : panel + 1, 0, 0}};
    }
    UnitPanels tiles(int64_t pair) const {
        UnitPanels read;
        for (int p = 0; p < 2; p++) {
            uint8_t* here = own + (pair * 2 + p) * own_bytes;
            read.at[p] = WIDENS ? here : weight.data + panels(pair)[p] * weight.panel_bytes;
            read.last[p] = WIDENS || whole == steps ? read.at[p] + tile_bytes - UNIT_BYTES : here;
        }
        return read;
    }
    // What the unit cannot read where it lies.
    void prepare() const {
        if (!own_bytes) return;
        for (int64_t i = 0; i < 2 * pairs; i++) {
            const int64_t panel = panels(i / 2)[int(i % 2)], bytes = weight.depth % UNIT_DEPTH * 32;
            uint8_t* to = own + i * own_bytes;
            if (WIDENS) {
                unit_widen<Source>(weight, panel, to);
                continue;
            }
            memcpy(to, weight.data + panel * weight.panel_bytes + whole * UNIT_BYTES, bytes);
            memset(to + bytes, 0, UNIT_BYTES - bytes);
        }
    }
    // Rows `row` to `end_row - 1`, 32 at most, by some steps of a pair.
    void pass(int64_t row, int64_t end_row, int64_t pair, UnitSteps part, const UnitAhead& ahead, float* sums) const {
        const uint8_t* x = (const uint8_t*)product.packed + row / UNIT_ROWS * tile_bytes;
        (end_row - row > UNIT_ROWS ? unit_product<true> : unit_product<false>)(x, tile_bytes, tiles(pair), part, ahead,
                                                                               sums);
    }
    // A few rows: each pair from its start to its end, while the next one is fetched.
    void few_rows() const {
        const int64_t passes = (product.rows + PASS_ROWS - 1) / PASS_ROWS, lines = UNIT_BYTES / 64 / passes;
        float* sums = (float*)pool_scratch(1, passes * BLOCK_PAIRS * SUMS * 4);  // [passes][pairs][32][2][16]
        for (int64_t left = 0; left < pairs; left += BLOCK_PAIRS) {
            const int64_t right = left + BLOCK_PAIRS < pairs ? left + BLOCK_PAIRS : pairs;
            for (int64_t pair = left; pair < right; pair++)
                by_passes(0, product.rows, [&](int64_t pass_number, int64_t row, int64_t end_row) {
                    UnitAhead ahead{{}, {}, 0, WIDENS ? 0 : lines};
                    for (int p = 0; p < 2; p++)
                        ahead.panels[p] =
                            weight.data + panels(pair + 1)[p] * weight.panel_bytes + pass_number * lines * 64;
                    pass(row, end_row, pair, {0, steps, steps}, ahead,
                         sums + (pass_number * BLOCK_PAIRS + pair - left) * SUMS);
                });
            by_passes(0, product.rows, [&](int64_t pass_number, int64_t row, int64_t end_row) {
                finish_pairs(row, end_row, left, right, sums + pass_number * BLOCK_PAIRS * SUMS);
            });
        }
    }
    // Calls `body` with a pass's number, its first row and the one after its last.
    template <class Body>
    static void by_passes(int64_t top, int64_t bottom, Body body) {
        for (int64_t row = top; row < bottom; row += PASS_ROWS)
            body((row - top) / PASS_ROWS, row, row + PASS_ROWS < bottom ? row + PASS_ROWS : bottom);
    }
    void many_rows() const {
        constexpr int64_t PASSES = BLOCK_ROWS / PASS_ROWS;
        float* sums = (float*)pool_scratch(1, PASSES * BLOCK_PAIRS * SUMS * 4);  // [passes][pairs][32][2][16]
        for (int64_t top = 0; top < product.rows; top += BLOCK_ROWS) {
            const int64_t bottom = top + BLOCK_ROWS < product.rows ? top + BLOCK_ROWS : product.rows;
            for (int64_t left = 0; left < pairs; left += BLOCK_PAIRS) {
                const int64_t right = left + BLOCK_PAIRS < pairs ? left + BLOCK_PAIRS : pairs;
                for (int64_t step = 0; step < steps; step += BLOCK_STEPS) {
                    const int64_t end_step = step + BLOCK_STEPS < steps ? step + BLOCK_STEPS : steps;
                    by_passes(top, bottom, [&](int64_t pass_number, int64_t row, int64_t end_row) {
                        float* here = sums + pass_number * BLOCK_PAIRS * SUMS;
                        for (int64_t pair = left; pair < right; pair++)
                            pass(row, end_row, pair, {step, end_step, steps},
                                 next_block(top, row, left, pair, end_step), here + (pair - left) * SUMS);
                        if (end_step == steps) finish_pairs(row, end_row, left, right, here);
                    });
                }
            }
        }
    }
    // Outputs of neighbouring panels, row by row: whole lines one after the other.
    void finish_pairs(int64_t row, int64_t end_row, int64_t left, int64_t right, const float* sums) const {
        Lasts<2> last[BLOCK_PAIRS];
        for (int64_t pair = left; pair < right; pair++) last[pair - left] = lasts_of<2>(weight, panels(pair));
        for (int64_t i = row; i < end_row; i++, sums += 2 * LANES)
            for (int64_t at = 0; at < right - left; at++)
                finish_row<2>(product, panels(left + at), last[at], i, sums + at * SUMS);
    }
    // Its share of what the following steps, or the first ones of the following pairs, read.
    UnitAhead next_block(int64_t top, int64_t row, int64_t left, int64_t pair, int64_t end_step) const {
        constexpr int64_t X_LINES = UNIT_BYTES / 64 / BLOCK_PAIRS, LINES = UNIT_BYTES / 64 / (BLOCK_ROWS / PASS_ROWS);
        const bool over = end_step == steps;
        const int64_t further = over ? -(end_step - 1) / BLOCK_STEPS * BLOCK_STEPS : BLOCK_STEPS;
        UnitAhead ahead{{}, {}, X_LINES, WIDENS ? 0 : LINES};
        const uint8_t* x = (const uint8_t*)product.packed + row / UNIT_ROWS * tile_bytes;
        const Panels later = panels(over ? pair + BLOCK_PAIRS : pair);
        for (int p = 0; p < 2; p++) {
            ahead.x[p] = x + p * tile_bytes + further * UNIT_BYTES + (pair - left) * X_LINES * 64;
            ahead.panels[p] = weight.data + later[p] * weight.panel_bytes + further * UNIT_BYTES +
                              (row - top) / PASS_ROWS * LINES * 64;
        }
        return ahead;
    }
};

// Units `unit` to `end - 1`.
template <class Source>
static void by_matrix_unit(const Product& product, int64_t unit, int64_t end) {
    const UnitTiles tiles;
    const UnitJob<Source> job{.product = product, .first = unit, .end = end};
    job.prepare();
    product.rows <= FEW_ROWS ? job.few_rows() : job.many_rows();
}
#endif
