// A product with a packed weight: what it is told, and its activations as tiles read them.
#pragma once

#include "kernels.h"
#include "matrix_unit.h"
#include "pool.h"
#include "tile_size.h"
#include "vec.h"
#include "weight.h"

// One product. The caller fills it; `packed` holds the activations as tiles want them.
struct Product {
    const Weight* weight;
    Rows x, out;
    int64_t rows;
    int32_t finish;
    float* packed;
};

INLINE unsigned long packed_bytes(int64_t rows, int64_t depth) {
    const int64_t bytes = rows * (depth * 4 + 64) + 64,
                  tiles = MATRIX_UNIT ? unit_tiles(rows) * unit_steps(depth) * UNIT_BYTES : 0;
    return (unsigned long)(tiles > bytes ? tiles : bytes);
}

constexpr int64_t STREAMED_ROWS = 4;  // up to here panels are read from start to end, several at a time
// Whether activations are packed as tiles of the matrix unit.
INLINE bool in_unit_tiles(const Product& product) {
    const int64_t format = product.weight->format;
    return MATRIX_UNIT && product.x.dtype == IN_BFLOAT16 && (format == BFLOAT16 || format == INT8) &&
           product.rows > STREAMED_ROWS;
}

#if defined(__AVX512BF16__)
constexpr bool DOTS_BFLOAT16 = true;
#else
constexpr bool DOTS_BFLOAT16 = false;
#endif
// Whether activations are packed as pairs of bfloat16 for the instruction that multiplies them.
INLINE bool in_pairs(const Weight& weight, const Rows& x) {
    return DOTS_BFLOAT16 && weight.format == BFLOAT16 && x.dtype == IN_BFLOAT16;
}

#if defined(__AVX512VNNI__)
constexpr bool DIGITS = true;
#else
constexpr bool DIGITS = false;
#endif
constexpr int64_t SPLIT_ROWS = 40;  // from here on splitting bfloat16 weights costs less than it saves
constexpr int64_t LONGEST_STEP = 128;
// Inputs that share an activation's scale; 0 where the weight's groups forbid it.
INLINE int64_t step_of(const Weight& weight) {
    if (weight.format != INT4 || weight.group >= weight.depth) return LONGEST_STEP;
    if (weight.group <= LONGEST_STEP) return weight.group;
    return weight.group % LONGEST_STEP ? 0 : LONGEST_STEP;
}
INLINE int64_t words_a_row(const Weight& weight) {
    const int64_t step = step_of(weight);
    return weight.depth / 2 + 3 * ((weight.depth + step - 1) / step);
}
// Whether activations are packed as whole numbers, see digits.h.
INLINE bool in_digits(const Product& product) {
    const Weight& weight = *product.weight;
    if (!DIGITS || product.x.dtype != IN_BFLOAT16 || weight.format == FLOAT32) return false;
    if (in_unit_tiles(product)) return false;
    return weight.format == BFLOAT16 ? !DOTS_BFLOAT16 && product.rows >= SPLIT_ROWS : step_of(weight) > 0;
}

// One tile of `x`: `[depth][rows of the tile]` float32, `[depth / 2][rows]` pairs, or digits.
void TABLE(pack_tile)(Product& product, int64_t tile);

// Which of several things job `job` belongs to, of which the jobs end at `ends`; `job` becomes its number there.
INLINE int64_t owner(const int64_t* ends, int64_t& job) {
    int64_t number = 0;
    while (job >= ends[number]) number++;
    if (number) job -= ends[number - 1];
    return number;
}
// Several products whose rows are packed, in one fork and join. `ends` is room for as many numbers.
void TABLE(multiply_all)(Product* products, int64_t count, int64_t* ends);

// The whole product, in jobs: rows are packed first unless they are already. SILU_MUL: halves are whole panels.
void TABLE(multiply)(Product& product, bool packs);
