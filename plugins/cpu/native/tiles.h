// Products with packed weights: a few rows stream the weights once, many rows go through blocks that stay in the cache.
#pragma once

#include "pairs.h"
#include "product.h"
#include "rows.h"

constexpr int STREAMED_ROWS = 4;  // up to here one panel at a time, with several sums for each of its lanes
constexpr int DEPTH_BLOCK = 256;  // inputs of a widened block: 32 KiB for two panels
constexpr int ROW_BLOCK = 40;     // tiles whose activations stay in the second cache beside it
constexpr int64_t JOB_BYTES = 1 << 16;

// Scale and bias of 16 outputs.
INLINE V scaled(const Weight& weight, int64_t panel, V v) {
    if (weight.format == INT8) v = v * load(weight.scale + panel * LANES);
    return weight.bias ? v + load(weight.bias + panel * LANES) : v;
}

// Panels that a tile computes together: neighbours, or one of each half where the halves are multiplied.
struct Pair {
    int64_t first, second;
    int64_t operator[](int p) const { return p ? second : first; }
};

// Writes what `sums` `[rows][P][16]` hold of the outputs of `panels`.
template <int P>
static void finish(const Product& product, Pair panels, int64_t first, int64_t rows, const float* sums) {
    const Weight& weight = *product.weight;
    const int64_t column = panels.first * LANES;
    const int64_t width = product.finish == SILU_MUL ? weight.out / 2 : weight.out;
    for (int64_t row = 0; row < rows; row++) {
        const float* at = sums + row * P * LANES;
        V v = scaled(weight, panels.first, load(at));
        if (P == 2) {
            V second = scaled(weight, panels.second, load(at + (P - 1) * LANES));
            if (product.finish == SILU_MUL) {
                v = silu(v) * second;
            } else {
                const int64_t at = panels.second * LANES;
                give(place(product.out, first + row, at), product.out.dtype, some(width - at), second);
            }
        }
        give(place(product.out, first + row, column), product.out.dtype, some(width - column), v);
    }
}

struct Segment {  // the inputs that share scales
    int64_t first, last;
    V scale, offset;
};
template <class Source>
INLINE Segment segment(const Weight& weight, int64_t panel, int64_t k, int64_t end) {
    if (!Source::GROUPED) return {k, end, V{}, V{}};
    const int64_t groups = (weight.depth + weight.group - 1) / weight.group, group = k / weight.group;
    const int64_t at = (panel * groups + group) * LANES, last = (group + 1) * weight.group;
    return {k, last < end ? last : end, load(weight.scale + at), load(weight.offset + at)};
}

// R rows by one panel, with U sums a lane and row in turn, so that no sum waits for the one before. Into `out`,
// `[R][step]`.
template <class Source, int R>
static void stream(const Product& product, int64_t panel, float* out, int step) {
    constexpr int U = R == 1 ? 4 : 2;
    const Weight& weight = *product.weight;
    const uint8_t* data = weight.data + panel * weight.panel_bytes;
    V sums[U][R];
    for (int u = 0; u < U; u++)
        for (int r = 0; r < R; r++) sums[u][r] = zero();
    if (DOTS_BFLOAT16 && Source::BYTES == 64 && in_pairs(weight, product.x)) {
#if defined(__AVX512BF16__)
        const uint32_t* a = (const uint32_t*)product.packed;
        for (int64_t pair = 0; pair < weight.depth / 2; pair += U) {
            __builtin_prefetch(data + pair * 64 + 2048);
#pragma GCC unroll 4
            for (int u = 0; u < U; u++) {
                W w = load_words(data + (pair + u) * 64);
#pragma GCC unroll 4
                for (int r = 0; r < R; r++)
                    sums[u][r].p[0] =
                        (FloatPart)_mm512_dpbf16_ps((__m512)sums[u][r].p[0], (__m512bh)w.p[0],
                                                    (__m512bh)_mm512_set1_epi32(int(a[(pair + u) * R + r])));
            }
        }
#endif
    } else {
        const float* a = product.packed;
        for (int64_t k = 0; k < weight.depth;) {
            Segment part = segment<Source>(weight, panel, k, weight.depth);
            for (; k < part.last; k += 2 * U) {
                const uint8_t* at = data + k / 2 * Source::BYTES;
                __builtin_prefetch(at + 2048);
                if (Source::BYTES * U > 64) __builtin_prefetch(at + 2048 + 64);
                if (Source::BYTES * U > 128) __builtin_prefetch(at + 2048 + 128), __builtin_prefetch(at + 2048 + 192);
#pragma GCC unroll 4
                for (int u = 0; u < U; u++) {
                    V even, odd;
                    Source::read(at + u * Source::BYTES, part.scale, part.offset, even, odd);
#pragma GCC unroll 4
                    for (int r = 0; r < R; r++) {
                        sums[u][r] = fma(even, all(a[(k + 2 * u) * R + r]), sums[u][r]);
                        sums[u][r] = fma(odd, all(a[(k + 2 * u + 1) * R + r]), sums[u][r]);
                    }
                }
            }
        }
    }
    for (int r = 0; r < R; r++) {
        V total = sums[0][r];
        for (int u = 1; u < U; u++) total = total + sums[u][r];
        store(out + r * step * LANES, total);
    }
}

// A tile: R rows by P panels, read as they are stored. Into `out`, `[R][P]`.
template <class Source, int R, int P>
static void direct(const Product& product, Pair panels, int64_t first, float* out) {
    const Weight& weight = *product.weight;
    const uint8_t* data[2] = {weight.data + panels[0] * weight.panel_bytes,
                              weight.data + panels[P - 1] * weight.panel_bytes};
    V sums[P][R];
    for (int p = 0; p < P; p++)
        for (int r = 0; r < R; r++) sums[p][r] = zero();
    if (DOTS_BFLOAT16 && Source::BYTES == 64 && in_pairs(weight, product.x)) {
#if defined(__AVX512BF16__)
        const uint32_t* a = (const uint32_t*)product.packed + first * (weight.depth / 2);
        for (int64_t pair = 0; pair < weight.depth / 2; pair++) {
            W w[P];
#pragma GCC unroll 2
            for (int p = 0; p < P; p++) {
                w[p] = load_words(data[p] + pair * 64);
                __builtin_prefetch(data[p] + pair * 64 + 1024);
            }
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                __m512bh x = (__m512bh)_mm512_set1_epi32(int(a[pair * R + r]));
#pragma GCC unroll 2
                for (int p = 0; p < P; p++)
                    sums[p][r].p[0] = (FloatPart)_mm512_dpbf16_ps((__m512)sums[p][r].p[0], (__m512bh)w[p].p[0], x);
            }
        }
#endif
    } else {
        const float* a = product.packed + first * weight.depth;
        for (int64_t k = 0; k < weight.depth;) {
            Segment part[P];
#pragma GCC unroll 2
            for (int p = 0; p < P; p++) part[p] = segment<Source>(weight, panels[p], k, weight.depth);
            for (; k < part[0].last; k += 2) {
                V even[P], odd[P];
#pragma GCC unroll 2
                for (int p = 0; p < P; p++) {
                    const uint8_t* at = data[p] + k / 2 * Source::BYTES;
                    __builtin_prefetch(at + 1024);
                    Source::read(at, part[p].scale, part[p].offset, even[p], odd[p]);
                }
#pragma GCC unroll 12
                for (int r = 0; r < R; r++) {
                    V x = all(a[k * R + r]);
#pragma GCC unroll 2
                    for (int p = 0; p < P; p++) sums[p][r] = fma(even[p], x, sums[p][r]);
                }
#pragma GCC unroll 12
                for (int r = 0; r < R; r++) {
                    V x = all(a[(k + 1) * R + r]);
#pragma GCC unroll 2
                    for (int p = 0; p < P; p++) sums[p][r] = fma(odd[p], x, sums[p][r]);
                }
            }
        }
    }
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++) store(out + (r * P + p) * LANES, sums[p][r]);
}

// A tile over widened panels `[k][P][16]`; sums come from and go to `sums`, `[R][P]`.
template <int R, int P>
static void widened_tile(const float* a, const float* wide, int64_t depth, float* sums) {
    V acc[P][R];
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++) acc[p][r] = load(sums + (r * P + p) * LANES);
    for (int64_t k = 0; k < depth; k++) {
        V w[P];
#pragma GCC unroll 2
        for (int p = 0; p < P; p++) w[p] = load(wide + (k * P + p) * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            V x = all(a[k * R + r]);
#pragma GCC unroll 2
            for (int p = 0; p < P; p++) acc[p][r] = fma(w[p], x, acc[p][r]);
        }
    }
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++) store(sums + (r * P + p) * LANES, acc[p][r]);
}

template <class Source, int P>
static void widen(const Weight& weight, Pair panels, int64_t first, int64_t last, float* wide) {
    for (int p = 0; p < P; p++) {
        const uint8_t* data = weight.data + panels[p] * weight.panel_bytes;
        for (int64_t k = first; k < last;) {
            Segment part = segment<Source>(weight, panels[p], k, last);
            for (; k < part.last; k += 2) {
                V even, odd;
                Source::read(data + k / 2 * Source::BYTES, part.scale, part.offset, even, odd);
                store(wide + ((k - first) * P + p) * LANES, even);
                store(wide + ((k + 1 - first) * P + p) * LANES, odd);
            }
        }
    }
}

template <template <int> class Body, int R, class... Args>
INLINE void by_height(int64_t height, Args... args) {  // calls Body<height>
    if constexpr (R > 0) {
        if (height == R) return Body<R>::run(args...);
        by_height<Body, R - 1>(height, args...);
    }
}
template <class Source>
struct Streams {
    template <int R>
    struct Body {
        INLINE void run(const Product* product, int64_t panel, float* out, int step) {
            stream<Source, R>(*product, panel, out, step);
        }
    };
};
template <class Source, int P>
struct Directs {
    template <int R>
    struct Body {
        INLINE void run(const Product* product, Pair panels, int64_t first, float* out) {
            direct<Source, R, P>(*product, panels, first, out);
        }
    };
};
template <int P>
struct Wides {
    template <int R>
    struct Body {
        INLINE void run(const float* a, const float* wide, int64_t depth, float* sums) {
            widened_tile<R, P>(a, wide, depth, sums);
        }
    };
};

// All rows by P panels.
template <class Source, int P>
static void by_panels(const Product& product, Pair panels) {
    const Weight& weight = *product.weight;
    float* sums = (float*)pool_scratch(1, ROW_BLOCK * ROWS * P * LANES * 4);
    if (product.rows <= STREAMED_ROWS) {
        for (int p = 0; p < P; p++)
            by_height<Streams<Source>::template Body, STREAMED_ROWS>(product.rows, &product, panels[p],
                                                                     sums + p * LANES, P);
        return finish<P>(product, panels, 0, product.rows, sums);
    }
    const int64_t tiles = tiles_of(product.rows);
    if (tiles == 1 || (Source::BYTES == 64 && in_pairs(weight, product.x))) {
        for (int64_t tile = 0; tile < tiles; tile++) {
            const int64_t first = tile_start(product.rows, tile), height = tile_start(product.rows, tile + 1) - first;
            by_height<Directs<Source, P>::template Body, ROWS>(height, &product, panels, first, sums);
            finish<P>(product, panels, first, height, sums);
        }
        return;
    }
    float* wide = (float*)pool_scratch(0, DEPTH_BLOCK * P * LANES * 4);
    for (int64_t block = 0; block < tiles; block += ROW_BLOCK) {
        const int64_t end = block + ROW_BLOCK < tiles ? block + ROW_BLOCK : tiles;
        const int64_t block_row = tile_start(product.rows, block), rows = tile_start(product.rows, end) - block_row;
        memset(sums, 0, rows * P * LANES * 4);
        for (int64_t k = 0; k < weight.depth; k += DEPTH_BLOCK) {
            const int64_t last = k + DEPTH_BLOCK < weight.depth ? k + DEPTH_BLOCK : weight.depth;
            widen<Source, P>(weight, panels, k, last, wide);
            for (int64_t tile = block; tile < end; tile++) {
                const int64_t first = tile_start(product.rows, tile),
                              height = tile_start(product.rows, tile + 1) - first;
                by_height<Wides<P>::template Body, ROWS>(
                    height, (const float*)product.packed + first * weight.depth + k * height, (const float*)wide,
                    last - k, sums + (first - block_row) * P * LANES);
            }
        }
        finish<P>(product, panels, block_row, rows, sums);
    }
}

// How many panels a job takes; where halves are multiplied, pairs of panels.
INLINE int64_t panels_a_job(const Product& product) {
    const int64_t fitting = JOB_BYTES / product.weight->panel_bytes / 2;
    const int64_t pairs = product.rows > ROWS || fitting < 1 ? 1 : fitting;
    return product.finish == SILU_MUL ? pairs : 2 * pairs;
}
INLINE int64_t panels_of(const Product& product) {
    return product.finish == SILU_MUL ? product.weight->panels / 2 : product.weight->panels;
}

template <class Source>
static void multiply_job(void* context, int64_t job) {
    const Product& product = *(const Product*)context;
    const int64_t count = panels_of(product), step = panels_a_job(product);
    int64_t panel = job * step;
    const int64_t end = panel + step < count ? panel + step : count;
    if (product.finish == SILU_MUL) {
        for (; panel < end; panel++) by_panels<Source, 2>(product, {panel, panel + count});
    } else if (PANELS == 2 && product.rows > STREAMED_ROWS) {
        for (; panel + 2 <= end; panel += 2) by_panels<Source, 2>(product, {panel, panel + 1});
    }
    for (; panel < end; panel++) by_panels<Source, 1>(product, {panel, panel});
}
