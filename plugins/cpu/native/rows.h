// Elementwise work on rows of activations, 16 numbers at a time. Rounded where plain torch rounds, so that a row in
// bfloat16 is torch's own.
#pragma once

#include <cmath>

#include "vec.h"
#include "weight.h"

INLINE int size_of(int32_t dtype) { return dtype == IN_BFLOAT16 ? 2 : 4; }
INLINE char* place(const Rows& x, int64_t row, int64_t column) {
    return (char*)x.data + (row * x.stride + column) * size_of(x.dtype);
}
// `count` numbers, 16 at most, from any place; zeros after them.
INLINE V take(const void* from, int32_t dtype, int64_t count) {
    float lanes[LANES];
    if (count < LANES) {
        memset(lanes, 0, sizeof lanes);
        memcpy(lanes, from, count * size_of(dtype));
        from = lanes;
    }
    return dtype == IN_BFLOAT16 ? load_bf16((const uint16_t*)from) : load((const float*)from);
}
INLINE void give(void* to, int32_t dtype, int64_t count, V v) {
    if (count >= LANES) return dtype == IN_BFLOAT16 ? store_bf16((uint16_t*)to, v) : store((float*)to, v);
    float lanes[LANES];
    dtype == IN_BFLOAT16 ? store_bf16((uint16_t*)lanes, v) : store(lanes, v);
    memcpy(to, lanes, count * size_of(dtype));
}
INLINE int64_t some(int64_t left) { return left < LANES ? left : LANES; }

INLINE V rounded(V v, int32_t dtype) {
    if (dtype != IN_BFLOAT16) return v;
#if defined(__AVX512BF16__)
    const __m512i wide = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v.p[0]));
    return V{(FloatPart)_mm512_slli_epi32(wide, 16)};
#else
    uint16_t narrow[LANES];
    store_bf16(narrow, v);
    return load_bf16(narrow);
#endif
}
// One row of `x` from `column` on, `width` long, normed into `to` from `to_column` on.
INLINE void norm_row(const Rows& x, int64_t row, int64_t column, int64_t width, const void* weight, float eps,
                     const Rows& to, int64_t to_row, int64_t to_column) {
    V squares[4] = {zero(), zero(), zero(), zero()};
    for (int64_t i = 0; i < width; i += LANES) {
        V v = take(place(x, row, column + i), x.dtype, some(width - i));
        squares[i / LANES % 4] = fma(v, v, squares[i / LANES % 4]);
    }
    const float mean = sum((squares[0] + squares[1]) + (squares[2] + squares[3])) / float(width);
    const V root = all(1.0f / std::sqrt(mean + eps));
    for (int64_t i = 0; i < width; i += LANES) {
        const int64_t count = some(width - i);
        V v = rounded(take(place(x, row, column + i), x.dtype, count) * root, to.dtype);
        v = v * take((const char*)weight + i * size_of(to.dtype), to.dtype, count);
        give(place(to, to_row, to_column + i), to.dtype, count, v);
    }
}

// `to` = `x` + `y`, one row.
INLINE void add_row(const Rows& x, const Rows& y, int64_t row, int64_t width, const Rows& to) {
    for (int64_t i = 0; i < width; i += LANES) {
        const int64_t count = some(width - i);
        V v = take(place(x, row, i), x.dtype, count) + take(place(y, row, i), y.dtype, count);
        give(place(to, row, i), to.dtype, count, v);
    }
}

INLINE V silu(V x) { return x / (all(1.0f) + exp(zero() - x)); }
