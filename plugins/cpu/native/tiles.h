// Products in float32: a few rows stream the weights once, many rows go through blocks that stay in the cache.
#pragma once

#include "pairs.h"
#include "product.h"

#if defined(__AVX512F__)
constexpr int STREAMED_PANELS = 4;
#else
constexpr int STREAMED_PANELS = 1;
#endif
constexpr int64_t FETCHED = 2048;  // bytes that a stream is fetched ahead: about what arrives while one number does

constexpr int64_t ROWS_AHEAD = 128;  // pairs of activations that a tile fetches ahead: they lie in the third cache

// Panels that are computed together. Where halves are multiplied, the second half of them is of the second half.
struct Panels {
    int64_t at[4];
    int64_t operator[](int p) const { return at[p]; }
};

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
// What a pass over panels fetches meanwhile: `step` bytes of each stream for a pair of inputs.
struct Ahead {
    const uint8_t* at[4];
    int64_t step;
};
template <int BYTES>
INLINE void fetch(const Ahead& ahead, int p, int64_t pair) {
    for (int line = 0; line < (BYTES + 63) / 64; line++) fetch(ahead.at[p] + pair * ahead.step + line * 64);
}

// R rows by P panels, with U sums for each lane and row in turn, so that no sum waits for the one before. U is the same
// for any P where panels are streamed together: who takes how many of them changes no sum.
template <class Source, int R, int P>
static void stream(const Product& product, const Panels& panels, const Panels& next, float* out) {  // [R][P][16]
    constexpr int TOGETHER = STREAMED_PANELS > 1 ? STREAMED_PANELS : P;
    constexpr int U = R * TOGETHER >= 8 ? 1 : R * TOGETHER >= 4 ? 2 : 4;
    const Weight& weight = *product.weight;
    const uint8_t* data[P];
    int64_t turn[P];  // from what is fetched past a panel's end to the start of the next one of its stream
    V sums[U][R][P];
    times<P>([&](auto p) HERE {
        data[p] = weight.data + panels[p] * weight.panel_bytes;
        turn[p] = (next[p] - panels[p] - 1) * weight.panel_bytes;
    });
    const int64_t inside = weight.panel_bytes - FETCHED;
    times<U>([&](auto u)
                 HERE { times<R>([&](auto r) HERE { times<P>([&](auto p) HERE { sums[u][r][p] = zero(); }); }); });
    if (DOTS_BFLOAT16 && Source::BYTES == 64 && in_pairs(weight, product.x)) {
#if defined(__AVX512BF16__)
        const uint32_t* a = (const uint32_t*)product.packed;
        for (int64_t pair = 0; pair < weight.depth / 2; pair += U)
            times<U>([&](auto u) HERE {
                times<P>([&](auto p) HERE {
                    const uint8_t* at = data[p] + (pair + u) * 64;
                    fetch(at + FETCHED + (pair * 64 < inside ? 0 : turn[p]));
                    const W w = load_words(at);
                    times<R>([&](auto r) HERE { add_pair(sums[u][r][p], w, a[(pair + u) * R + r]); });
                });
            });
#endif
    } else {
        const float* a = product.packed;
        for (int64_t k = 0; k < weight.depth;) {
            Segment part[P];
            times<P>([&](auto p) HERE { part[p] = segment<Source>(weight, panels[p], k, weight.depth); });
            for (; k < part[0].last; k += 2 * U)
                times<U>([&](auto u) HERE {
                    const int64_t at = k + 2 * u;
                    times<P>([&](auto p) HERE {
                        V even, odd;
                        const int64_t place = at / 2 * Source::BYTES;
                        if (u * Source::BYTES % 64 == 0)
                            for (int line = 0; line < (Source::BYTES + 63) / 64; line++)
                                fetch(data[p] + place + FETCHED + line * 64 + (place < inside ? 0 : turn[p]));
                        Source::read(data[p], at, part[p].scale, part[p].offset, even, odd);
                        times<R>([&](auto r) HERE {
                            sums[u][r][p] = fma(even, all(a[at * R + r]), sums[u][r][p]);
                            sums[u][r][p] = fma(odd, all(a[(at + 1) * R + r]), sums[u][r][p]);
                        });
                    });
                });
        }
    }
    times<R>([&](auto r) HERE {
        times<P>([&](auto p) HERE {
            V total = sums[0][r][p];
            times<U - 1>([&](auto u) HERE { total = total + sums[u + 1][r][p]; });
            store(out + (r * P + p) * LANES, total);
        });
    });
}

// A tile: R rows by P panels, read as they are stored. Into `out`, `[R][P]`.
template <class Source, int R, int P>
static void direct(const Product& product, const Panels& panels, int64_t first, const Ahead& ahead, float* out) {
    const Weight& weight = *product.weight;
    const uint8_t* data[P];
    V sums[P][R];
    times<P>([&](auto p) HERE { data[p] = weight.data + panels[p] * weight.panel_bytes; });
    times<P>([&](auto p) HERE { times<R>([&](auto r) HERE { sums[p][r] = zero(); }); });
    if (DOTS_BFLOAT16 && Source::BYTES == 64 && in_pairs(weight, product.x)) {
#if defined(__AVX512BF16__)
        const uint32_t* a = (const uint32_t*)product.packed + first * (weight.depth / 2);
        for (int64_t pair = 0; pair < weight.depth / 2; pair++) {
            __builtin_prefetch(a + pair * R + ROWS_AHEAD, 0, 3);
            W w[P];
            times<P>([&](auto p) HERE {
                w[p] = load_words(data[p] + pair * 64);
                fetch<64>(ahead, p, pair);
            });
            times<R>([&](auto r) HERE { times<P>([&](auto p) HERE { add_pair(sums[p][r], w[p], a[pair * R + r]); }); });
        }
#endif
    } else {
        const float* a = product.packed + first * weight.depth;
        for (int64_t k = 0; k < weight.depth;) {
            Segment part[P];
            times<P>([&](auto p) HERE { part[p] = segment<Source>(weight, panels[p], k, weight.depth); });
            for (; k < part[0].last; k += 2) {
                V even[P], odd[P];
                times<P>([&](auto p) HERE {
                    fetch<Source::BYTES>(ahead, p, k / 2);
                    Source::read(data[p], k, part[p].scale, part[p].offset, even[p], odd[p]);
                });
                times<R>([&](auto r) HERE {
                    const V x = all(a[k * R + r]);
                    times<P>([&](auto p) HERE { sums[p][r] = fma(even[p], x, sums[p][r]); });
                });
                times<R>([&](auto r) HERE {
                    const V x = all(a[(k + 1) * R + r]);
                    times<P>([&](auto p) HERE { sums[p][r] = fma(odd[p], x, sums[p][r]); });
                });
            }
        }
    }
    times<R>([&](auto r) HERE { times<P>([&](auto p) HERE { store(out + (r * P + p) * LANES, sums[p][r]); }); });
}

// A tile over widened panels `[k][P][16]`; sums come from and go to `sums`, `[R][P]`. Meanwhile `ahead` is fetched.
template <int R, int P>
static void widened_tile(const float* a, const float* wide, int64_t depth, float* sums, const uint8_t* ahead,
                         int64_t ahead_step) {
    V acc[P][R];
    times<R>([&](auto r) HERE { times<P>([&](auto p) HERE { acc[p][r] = load(sums + (r * P + p) * LANES); }); });
    for (int64_t k = 0; k < depth; k++) {
        __builtin_prefetch(ahead + k * ahead_step, 0, 2);
        V w[P];
        times<P>([&](auto p) HERE { w[p] = load(wide + (k * P + p) * LANES); });
        times<R>([&](auto r) HERE {
            const V x = all(a[k * R + r]);
            times<P>([&](auto p) HERE { acc[p][r] = fma(w[p], x, acc[p][r]); });
        });
    }
    times<R>([&](auto r) HERE { times<P>([&](auto p) HERE { store(sums + (r * P + p) * LANES, acc[p][r]); }); });
}

template <class Source, int P>
static void widen(const Weight& weight, const Panels& panels, int64_t first, int64_t last, float* wide) {
    for (int p = 0; p < P; p++) {
        const uint8_t* data = weight.data + panels[p] * weight.panel_bytes;
        for (int64_t k = first; k < last;) {
            Segment part = segment<Source>(weight, panels[p], k, last);
            for (; k < part.last; k += 2) {
                V even, odd;
                Source::read(data, k, part.scale, part.offset, even, odd);
                store(wide + ((k - first) * P + p) * LANES, even);
                store(wide + ((k + 1 - first) * P + p) * LANES, odd);
            }
        }
    }
}
