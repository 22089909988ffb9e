// Sums of a product to its outputs.
#pragma once

#include "product.h"
#include "rows.h"
#include "tiles.h"

// What a panel's 16 sums are scaled by, and what is added to them.
struct Last {
    V scale, bias;
};
INLINE V finished(const Last& last, const float* sums) { return fma(load(sums), last.scale, last.bias); }
INLINE Last last_of(const Weight& weight, int64_t panel) {
    return {weight.format == INT8 ? load(weight.scale + panel * LANES) : all(1.0f),
            weight.bias ? load(weight.bias + panel * LANES) : zero()};
}

template <int P>
struct Lasts {
    Last of[P];
};
template <int P>
INLINE Lasts<P> lasts_of(const Weight& weight, const Panels& panels) {
    Lasts<P> last;
    for (int p = 0; p < P; p++) last.of[p] = last_of(weight, panels[p]);
    return last;
}

// Writes a row's outputs of `panels`, of which `sums` `[P][16]` are the sums.
template <int P>
INLINE void finish_row(const Product& product, const Panels& panels, const Lasts<P>& last, int64_t row,
                       const float* sums) {
    const bool gated = product.finish == SILU_MUL;
    const int64_t width = gated ? product.weight->out / 2 : product.weight->out;
    for (int p = 0; p < (gated ? P / 2 : P); p++) {
        const int64_t column = panels[p] * LANES;
        V v = finished(last.of[p], sums + p * LANES);
        if (gated) v = silu(v) * finished(last.of[P / 2 + p], sums + (P / 2 + p) * LANES);
        give(place(product.out, row, column), product.out.dtype, some(width - column), v);
    }
}
// The same of so many rows, `sums` `[rows][P][16]`.
template <int P>
static void finish(const Product& product, const Panels& panels, int64_t first, int64_t rows, const float* sums) {
    const Lasts<P> last = lasts_of<P>(*product.weight, panels);
    for (int64_t row = 0; row < rows; row++) finish_row<P>(product, panels, last, first + row, sums + row * P * LANES);
}
