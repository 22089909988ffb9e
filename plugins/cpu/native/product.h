// A product with a packed weight: what it is told, and its activations as tiles read them.
#pragma once

#include "kernels.h"
#include "pool.h"
#include "tile_size.h"
#include "vec.h"
#include "weight.h"

// One product. The caller fills it; `packed` holds the activations as tiles want them, `next` hands out jobs.
struct Product {
    const Weight* weight;
    Rows x, out;
    int64_t rows;
    int32_t finish;
    float* packed;
};

INLINE unsigned long packed_bytes(int64_t rows, int64_t depth) { return (unsigned long)(rows * depth * 4 + 64); }

#if defined(__AVX512BF16__)
constexpr bool DOTS_BFLOAT16 = true;
#else
constexpr bool DOTS_BFLOAT16 = false;
#endif
// Whether activations are packed as pairs of bfloat16 for the instruction that multiplies them.
INLINE bool in_pairs(const Weight& weight, const Rows& x) {
    return DOTS_BFLOAT16 && weight.format == BFLOAT16 && x.dtype == IN_BFLOAT16;
}

INLINE float number(const Rows& x, int64_t row, int64_t column) {
    return x.dtype == IN_BFLOAT16 ? float_of(((const uint16_t*)x.data)[row * x.stride + column])
                                  : ((const float*)x.data)[row * x.stride + column];
}

// One tile of `x`: `[depth][rows of the tile]` float32, or `[depth / 2][rows]` pairs.
static void pack_tile(Product& product, int64_t tile) {
    const Weight& weight = *product.weight;
    const int64_t first = tile_start(product.rows, tile), height = tile_start(product.rows, tile + 1) - first;
    if (in_pairs(weight, product.x)) {
        uint32_t* to = (uint32_t*)product.packed + first * (weight.depth / 2);
        for (int64_t row = 0; row < height; row++) {
            const uint16_t* from = (const uint16_t*)product.x.data + (first + row) * product.x.stride;
            int64_t pair = 0;
            for (; 2 * pair + 1 < weight.in; pair++) memcpy(&to[pair * height + row], from + 2 * pair, 4);
            if (weight.in & 1) to[pair++ * height + row] = from[weight.in - 1];
            for (; pair < weight.depth / 2; pair++) to[pair * height + row] = 0;
        }
        return;
    }
    float* to = product.packed + first * weight.depth;
    if (product.x.dtype == IN_BFLOAT16) {
        for (int64_t row = 0; row < height; row++) {
            const uint16_t* from = (const uint16_t*)product.x.data + (first + row) * product.x.stride;
            for (int64_t k = 0; k < weight.in; k++) to[k * height + row] = float_of(from[k]);
        }
    } else {
        for (int64_t row = 0; row < height; row++) {
            const float* from = (const float*)product.x.data + (first + row) * product.x.stride;
            for (int64_t k = 0; k < weight.in; k++) to[k * height + row] = from[k];
        }
    }
    for (int64_t k = weight.in; k < weight.depth; k++)
        for (int64_t row = 0; row < height; row++) to[k * height + row] = 0;
}

// The whole product, in jobs: rows are packed first unless they are already. SILU_MUL: halves are whole panels.
void TABLE(multiply)(Product& product, bool packs);
