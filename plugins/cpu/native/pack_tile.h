// Activations as tiles read them.
#pragma once

#include "digits.h"
#include "product.h"
#include "transpose.h"

// [depth / 2][rows] pairs of bfloat16.
static void pack_pairs(Product& product, int64_t first, int64_t height) {
    const Weight& weight = *product.weight;
    uint32_t* to = (uint32_t*)product.packed + first * (weight.depth / 2);
    const uint16_t* x = (const uint16_t*)product.x.data + first * product.x.stride;
    turn_pairs(x, product.x.stride, height, weight.in / 2, to);
    for (int64_t row = 0; row < height; row++) {
        int64_t pair = weight.in / 2;
        if (weight.in & 1) to[pair++ * height + row] = x[row * product.x.stride + weight.in - 1];
        for (; pair < weight.depth / 2; pair++) to[pair * height + row] = 0;
    }
}

// [depth][rows] float32.
static void pack_floats(Product& product, int64_t first, int64_t height) {
    const Weight& weight = *product.weight;
    float* to = product.packed + first * weight.depth;
    for (int64_t row = 0; row < height; row++) {
        if (product.x.dtype == IN_BFLOAT16) {
            const uint16_t* from = (const uint16_t*)product.x.data + (first + row) * product.x.stride;
            for (int64_t k = 0; k < weight.in; k++) to[k * height + row] = float_of(from[k]);
        } else {
            const float* from = (const float*)product.x.data + (first + row) * product.x.stride;
            for (int64_t k = 0; k < weight.in; k++) to[k * height + row] = from[k];
        }
        for (int64_t k = weight.in; k < weight.depth; k++) to[k * height + row] = 0;
    }
}

// [rows / 16][depth / 32][16][32] bfloat16.
static void pack_unit_tiles(Product& product, int64_t first, int64_t height) {
    const Weight& weight = *product.weight;
    const int64_t steps = unit_steps(weight.depth);
    for (int64_t row = first; row < first + height; row++) {
        const uint16_t* x = (const uint16_t*)product.x.data + row * product.x.stride;
        uint8_t* to = (uint8_t*)product.packed + row / UNIT_ROWS * steps * UNIT_BYTES + row % UNIT_ROWS * 64;
        int64_t k = 0;
        for (; k + UNIT_DEPTH <= weight.in; k += UNIT_DEPTH, to += UNIT_BYTES) memcpy(to, x + k, 64);
        if (k == weight.in) continue;
        memset(to, 0, 64);
        memcpy(to, x + k, (weight.in - k) * 2);
    }
}

void TABLE(pack_tile)(Product& product, int64_t tile) {
    const int64_t first = tile_start(product.rows, tile), height = tile_start(product.rows, tile + 1) - first;
    if (in_unit_tiles(product)) return pack_unit_tiles(product, first, height);
#if defined(__AVX512VNNI__)
    if (in_digits(product)) return pack_digits(product, first, height);
#endif
    (in_pairs(*product.weight, product.x) ? pack_pairs : pack_floats)(product, first, height);
}
