// All rows by some panels on the matrix unit: 32 rows by two panels at a time.
#pragma once

#include "matrix_unit.h"
#include "panels_finish.h"
#include "stream.h"
#include "unit_pass.h"

constexpr int64_t FEW_ROWS = 64;  // up to here panels are read once, from memory: small jobs share it best
// Panels that are taken together.
INLINE int64_t unit_block(const Product& product) { return product.rows <= FEW_ROWS ? 8 : 32; }

#if defined(__AMX_BF16__)
template <class Source>
constexpr bool UNIT_READS = false;
template <>
constexpr bool UNIT_READS<Bfloat16Pairs> = true;
template <>
constexpr bool UNIT_READS<Int8Pairs> = true;

// Of a few rows eight pairs of panels are written together.
constexpr int64_t FEW_PAIRS = 8;
// A product of many rows: up to 512 of them go by four pairs of panels, which stay in the second cache meanwhile. Up to
// 64 steps of them do whole, so that sums never leave the unit; of longer ones 32 steps at a time. In a block's last
// eight passes the next block's panels are fetched.
constexpr int64_t BLOCK_ROWS = 512, BLOCK_PAIRS = 4, WHOLE_STEPS = 64, BLOCK_STEPS = 32, LAST_PASSES = 8;
static_assert(FEW_ROWS == 2 * PASS_ROWS, "few rows are one pass or two");
static_assert(BLOCK_PAIRS <= FEW_PAIRS, "finish_pairs holds so many");

// Rows `top` to `bottom - 1` by some steps of pairs `left` to `right - 1`.
struct UnitBlock {
    int64_t left, right, top, bottom;
    UnitSteps part;
    bool over = part.end == part.steps;
};

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
    // What the unit cannot read where it lies, of pairs `left` to `right - 1`.
    void prepare(int64_t left, int64_t right) const {
        if (!own_bytes) return;
        for (int64_t i = 2 * left; i < 2 * right; i++) {
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
    template <int X_LINES, int PANEL_LINES>
    void pass(int64_t row, int64_t end_row, int64_t pair, UnitSteps part, const UnitAhead& ahead, float* sums) const {
        const uint8_t* x = (const uint8_t*)product.packed + row / UNIT_ROWS * tile_bytes;
        constexpr int LINES = WIDENS ? 0 : PANEL_LINES;
        if (end_row - row > UNIT_ROWS)
            unit_product<true, X_LINES, LINES>(x, tile_bytes, tiles(pair), part, ahead, sums);
        else unit_product<false, X_LINES, LINES>(x, tile_bytes, tiles(pair), part, ahead, sums);
    }
    // A few rows: each pair from its start to its end, while the next one is fetched.
    template <int PASSES>
    void few_rows() const {
        constexpr int LINES = UNIT_BYTES / 64 / PASSES;
        prepare(0, pairs);
        float* sums = (float*)pool_scratch(1, PASSES * FEW_PAIRS * SUMS * 4);  // [passes][pairs][32][2][16]
        for (int64_t left = 0; left < pairs; left += FEW_PAIRS) {
            const int64_t right = left + FEW_PAIRS < pairs ? left + FEW_PAIRS : pairs;
            for (int64_t pair = left; pair < right; pair++)
                by_passes(0, product.rows, [&](int64_t pass_number, int64_t row, int64_t end_row) {
                    UnitAhead ahead{};
                    for (int p = 0; p < 2; p++)
                        ahead.panels[p] =
                            weight.data + panels(pair + 1)[p] * weight.panel_bytes + pass_number * LINES * 64;
                    pass<0, LINES>(row, end_row, pair, {0, steps, steps}, ahead,
                                   sums + (pass_number * FEW_PAIRS + pair - left) * SUMS);
                });
            by_passes(0, product.rows, [&](int64_t pass_number, int64_t row, int64_t end_row) {
                finish_pairs(row, end_row, left, right, sums + pass_number * FEW_PAIRS * SUMS);
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
        const int64_t block_steps = steps <= WHOLE_STEPS ? steps : BLOCK_STEPS;
        const int64_t places = block_steps < steps ? BLOCK_ROWS / PASS_ROWS : 1;  // of sums that are not whole
        float* sums = (float*)pool_scratch(1, places * BLOCK_PAIRS * SUMS * 4);   // [places][pairs][32][2][16]
        for (int64_t left = 0; left < pairs; left += BLOCK_PAIRS) {
            const int64_t right = left + BLOCK_PAIRS < pairs ? left + BLOCK_PAIRS : pairs;
            prepare(left, right);
            for (int64_t top = 0; top < product.rows; top += BLOCK_ROWS) {
                const int64_t bottom = top + BLOCK_ROWS < product.rows ? top + BLOCK_ROWS : product.rows;
                for (int64_t step = 0; step < steps; step += block_steps) {
                    const int64_t end_step = step + block_steps < steps ? step + block_steps : steps;
                    multiply({left, right, top, bottom, {step, end_step, steps}}, places, sums);
                }
            }
        }
    }
    void multiply(const UnitBlock& block, int64_t places, float* sums) const {
        by_passes(block.top, block.bottom, [&](int64_t pass_number, int64_t row, int64_t end_row) {
            float* here = sums + (places == 1 ? 0 : pass_number) * BLOCK_PAIRS * SUMS;
            for (int64_t pair = block.left; pair < block.right; pair++) {
                if (block.over) fetch_outputs(block, row, pair);
                const UnitAhead ahead = following(block, row, pair);
                pass<UNIT_BYTES / 64 / BLOCK_PAIRS, UNIT_BYTES / 64 / LAST_PASSES>(
                    row, end_row, pair, block.part, ahead, here + (pair - block.left) * SUMS);
            }
            if (block.over) finish_pairs(row, end_row, block.left, block.right, here);
        });
    }
    // Outputs of neighbouring panels, row by row: whole lines one after the other.
    void finish_pairs(int64_t row, int64_t end_row, int64_t left, int64_t right, const float* sums) const {
        Lasts<2> last[FEW_PAIRS];
        for (int64_t pair = left; pair < right; pair++) last[pair - left] = lasts_of<2>(weight, panels(pair));
        for (int64_t i = row; i < end_row; i++, sums += 2 * LANES)
            for (int64_t at = 0; at < right - left; at++)
                finish_row<2>(product, panels(left + at), last[at], i, sums + at * SUMS);
    }
    // Its share of the lines that the outputs of these rows are written to.
    void fetch_outputs(const UnitBlock& block, int64_t row, int64_t pair) const {
        constexpr int64_t SHARE = PASS_ROWS / BLOCK_PAIRS;
        const int64_t bytes = (block.right - block.left) * (gated ? 1 : 2) * LANES * size_of(product.out.dtype);
        const int64_t first = row + (pair - block.left) * SHARE;
        for (int64_t i = first; i < first + SHARE; i++) {
            const char* to = place(product.out, i, panels(block.left)[0] * LANES);
            for (int64_t at = 0; at < bytes; at += 64) fetch_to_write(to + at);
        }
    }
    // Its share of the rows that go by next and, in the last passes, of the panels that the next block reads.
    UnitAhead following(const UnitBlock& block, int64_t row, int64_t pair) const {
        constexpr int64_t X_SHARE = UNIT_BYTES / BLOCK_PAIRS, SHARE = UNIT_BYTES / LAST_PASSES;
        const int64_t passes_left = (block.bottom - row - 1) / PASS_ROWS, passed = (row - block.top) / PASS_ROWS;
        const bool last = passes_left == 0, leaves = block.over && block.bottom == product.rows;
        const int64_t turn = ((block.over ? 0 : block.part.end) - block.part.first) * UNIT_BYTES;
        const int64_t next_row = !last ? row + PASS_ROWS : leaves ? 0 : block.over ? block.bottom : block.top;
        const uint8_t* x = (const uint8_t*)product.packed + next_row / UNIT_ROWS * tile_bytes + (last ? turn : 0);
        // Shares in their order: with the lines before them the device fetches those after them by itself. Before the
        // last passes what is there already: that reads no memory.
        const bool reads = passes_left < LAST_PASSES;
        const int64_t share = passed < LAST_PASSES - 1 - passes_left ? passed : LAST_PASSES - 1 - passes_left;
        const Panels later = panels(reads && leaves ? pair + BLOCK_PAIRS : pair);
        UnitAhead ahead;
        for (int p = 0; p < 2; p++) {
            ahead.x[p] = x + p * tile_bytes + (pair - block.left) * X_SHARE;
            ahead.panels[p] = weight.data + later[p] * weight.panel_bytes + (reads ? turn + share * SHARE : 0);
        }
        return ahead;
    }
};

// Units `unit` to `end - 1`.
template <class Source>
static void by_matrix_unit(const Product& product, int64_t unit, int64_t end) {
    const UnitTiles tiles;
    const UnitJob<Source> job{.product = product, .first = unit, .end = end};
    if (product.rows <= PASS_ROWS) return job.template few_rows<1>();
    if (product.rows <= FEW_ROWS) return job.template few_rows<2>();
    job.many_rows();
}
#endif
