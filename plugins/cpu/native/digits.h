// Products in whole numbers, by the instruction that sums four products of bytes into each lane (VNNI).
//
// An activation becomes 256 * high + low, two signed bytes, times a scale that `step` inputs of its row share; a weight
// of 8 or 4 bits is a byte as it is, and one in bfloat16 is split like the activations, with a scale for `step` inputs
// of an output. Sums of `step` inputs are exact, but for low times low of two split numbers, which is left out. The
// error is below 2^-15 of the largest numbers among `step` inputs: bfloat16 itself rounds each number by up to 2^-9.
#pragma once

#include "product.h"
#include "rows.h"
#include "tiles.h"

#if defined(__AVX512VNNI__)

// The 4 * `quad` .. + 3 inputs' sums of byte products; the compiler's own function costs copies of all sums.
INLINE void add_products(__m512i& sums, __m512i weights, __m512i x) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(weights), "v"(x));
}

constexpr float LARGEST = 32512;  // 127 * 256: its high byte is not rounded up to 128

struct Scales {
    float scale, inverse;
};
// NaN where a number is not finite, so that it shows.
INLINE Scales scales_for(float most) {
    if (!(most < __builtin_inff())) return {__builtin_nanf(""), 0};
    most = most < 1e-30f ? 1e-30f : most;
    return {most / LARGEST, LARGEST / most};
}

// Of `x[begin]` to `x[end - 1]`; NaN counts as the largest: bits of magnitudes are in order.
INLINE float largest_magnitude(const uint16_t* x, int64_t begin, int64_t end) {
    __m512i most = _mm512_setzero_si512();
    for (int64_t k = begin; k < end; k += LANES) {
        const W bits = as_words(take(x + k, IN_BFLOAT16, some(end - k)));
        most = _mm512_max_epu32(most, _mm512_and_si512((__m512i)bits.p[0], _mm512_set1_epi32(0x7fffffff)));
    }
    const uint32_t bits = _mm512_reduce_max_epu32(most);
    float largest;
    memcpy(&largest, &bits, 4);
    return largest;
}

// One tile of bfloat16 rows: for each step [step / 4][rows] words of high bytes, as many of low bytes, and for each row
// the scale, the sum of the numbers and the sum of their high bytes.
static void pack_digits(Product& product, int64_t first, int64_t height) {
    const Weight& weight = *product.weight;
    const int64_t step = step_of(weight);
    const __m128i order = _mm_set_epi8(15, 13, 14, 12, 11, 9, 10, 8, 7, 5, 6, 4, 3, 1, 2, 0);
    for (int64_t row = 0; row < height; row++) {
        uint32_t* to = (uint32_t*)product.packed + first * words_a_row(weight);
        const uint16_t* x = (const uint16_t*)place(product.x, first + row, 0);
        for (int64_t begin = 0; begin < weight.depth; begin += step) {
            const int64_t end = begin + step < weight.depth ? begin + step : weight.depth, quads = (end - begin) / 4;
            const int64_t known = end < weight.in ? end : weight.in;
            const Scales scales = scales_for(largest_magnitude(x, begin, known));
            const __mmask16 finite = scales.inverse > 0 ? 0xffff : 0;
            __m512i total = _mm512_setzero_si512(), high_total = total;
            for (int64_t k = begin; k < end; k += LANES) {
                const V v = k < known ? take(x + k, IN_BFLOAT16, some(known - k)) : zero();
                __m512i number = _mm512_maskz_cvtps_epi32(finite, (__m512)(v * all(scales.inverse)).p[0]);
                __m512i high = _mm512_srai_epi32(_mm512_add_epi32(number, _mm512_set1_epi32(128)), 8);
                total = _mm512_add_epi32(total, number), high_total = _mm512_add_epi32(high_total, high);
                uint32_t words[2][4];
                _mm_storeu_si128((__m128i*)words[0], _mm_shuffle_epi8(_mm512_cvtepi32_epi8(high), order));
                _mm_storeu_si128((__m128i*)words[1], _mm_shuffle_epi8(_mm512_cvtepi32_epi8(number), order));
                for (int64_t i = 0; i < 4 && k + 4 * i < end; i++)
                    for (int digit = 0; digit < 2; digit++)
                        to[(digit * quads + (k - begin) / 4 + i) * height + row] = words[digit][i];
            }
            to += 2 * quads * height;
            const int32_t sums[] = {_mm512_reduce_add_epi32(total), _mm512_reduce_add_epi32(high_total)};
            memcpy(to + row, &scales.scale, 4);
            memcpy(to + height + row, sums, 4), memcpy(to + 2 * height + row, sums + 1, 4);
            to += 3 * height;
        }
    }
}

// Weights of P panels from some input on, as `digits_tile` reads them.
struct Bytes {
    const uint8_t* data[4];
    const float *scale[4], *offset[4];  // [groups][16]
    int64_t group, origin;              // inputs that share them; where the first one lies in its group
    const uint8_t* ahead[4];            // what to fetch meanwhile: one of `shares` of as many inputs
    int64_t shares;
};
// `BYTES`: of four inputs and both of `PLANES`.
struct Int8Bytes {
    static constexpr int64_t BYTES = 64, PLANES = 1;
    static constexpr bool SCALED = false, OFFSET = false;
    INLINE void read(const uint8_t* data, int64_t quad, __m512i& one, __m512i& other) {  // two quads
        one = _mm512_loadu_si512(data + quad * 64), other = _mm512_loadu_si512(data + quad * 64 + 64);
    }
};
struct Int4Bytes {
    static constexpr int64_t BYTES = 32, PLANES = 1;
    static constexpr bool SCALED = true, OFFSET = true;
    INLINE void read(const uint8_t* data, int64_t quad, __m512i& one, __m512i& other) {
        const __m512i both = _mm512_loadu_si512(data + quad * 32), low = _mm512_set1_epi32(0x0f0f0f0f);
        one = _mm512_and_si512(both, low), other = _mm512_and_si512(_mm512_srli_epi32(both, 4), low);
    }
};
struct SplitBytes {
    static constexpr int64_t BYTES = 128, PLANES = 2;
    static constexpr bool SCALED = true, OFFSET = false;
    INLINE void read(const uint8_t* data, int64_t quad, __m512i& one, __m512i& other) {
        one = _mm512_load_si512(data + quad * 128), other = _mm512_load_si512(data + quad * 128 + 128);
    }
    INLINE void read_low(const uint8_t* data, int64_t quad, __m512i& one, __m512i& other) {
        read(data + 64, quad, one, other);
    }
};

// `depth` inputs of R packed rows by P panels, added to `sums` `[R][P][16]`. Bytes of weights are 128 too large (4-bit
// ones are not), which the rows' sums make good. Few sums: both digits of a row meet a weight that was read once.
template <class Source, int R, int P>
static void digits_tile(const Bytes& w, const uint32_t* x, int64_t depth, int64_t step, float* sums) {
    constexpr bool AT_ONCE = Source::PLANES == 1 && R * P <= 12;
    constexpr int64_t FETCHES = 2 * Source::BYTES / (AT_ONCE ? 1 : 2);  // bytes for two quads, if nobody shares
    constexpr int LINES = (FETCHES + 63) / 64;
    const int64_t ahead_step = (FETCHES / LINES + w.shares - 1) / w.shares;
    const uint8_t* ahead[P];
    times<P>([&](auto p) HERE { ahead[p] = w.ahead[p]; });
    for (int64_t k = 0; k < depth; k += step) {
        const int64_t quads = (k + step < depth ? step : depth - k) / 4, first = k / 4;
        const uint32_t *high = x, *low = x + quads * R;
        const float* scale = (const float*)(low + quads * R);
        const int32_t *total = (const int32_t*)scale + R, *high_total = total + R;
        __m512i acc[R][P], small[R][P];
        times<R>([&](auto r)
                     HERE { times<P>([&](auto p) HERE { acc[r][p] = small[r][p] = _mm512_setzero_si512(); }); });
        // one row's digits of two quads times the weights there
        auto add = [&](__m512i(&into)[R][P], const __m512i(&a)[2][P], const uint32_t* digit, int64_t quad) HERE {
            times<2>([&](auto i) HERE {
                times<R>([&](auto r) HERE {
                    const __m512i one = _mm512_set1_epi32(int(digit[(quad + i) * R + r]));
                    times<P>([&](auto p) HERE { add_products(into[r][p], a[i][p], one); });
                });
            });
        };
        auto fetch_ahead = [&]() HERE {
            times<P>([&](auto p) HERE { times<LINES>([&](auto) HERE { fetch(ahead[p]), ahead[p] += ahead_step; }); });
        };
        for (int64_t quad = 0; quad < quads; quad += 2) {
            __m512i a[2][P];
            times<P>([&](auto p) HERE { Source::read(w.data[p], first + quad, a[0][p], a[1][p]); });
            fetch_ahead();
            add(acc, a, high, quad);
            if constexpr (AT_ONCE) add(small, a, low, quad);
        }
        times<R>([&](auto r) HERE { times<P>([&](auto p) HERE { acc[r][p] = _mm512_slli_epi32(acc[r][p], 8); }); });
        for (int64_t quad = 0; !AT_ONCE && quad < quads; quad += 2) {
            __m512i a[2][P];
            times<P>([&](auto p) HERE { Source::read(w.data[p], first + quad, a[0][p], a[1][p]); });
            fetch_ahead();
            add(acc, a, low, quad);
            if constexpr (Source::PLANES == 2) {
                times<P>([&](auto p) HERE { Source::read_low(w.data[p], first + quad, a[0][p], a[1][p]); });
                add(acc, a, high, quad);
            }
        }
        const int64_t group = Source::SCALED ? (w.origin + k) / w.group * LANES : 0;
        times<R>([&](auto r) HERE {
            const int32_t excess = Source::OFFSET ? 0 : 128 * (total[r] + (Source::PLANES == 2 ? high_total[r] : 0));
            times<P>([&](auto p) HERE {
                float* at = sums + (r * P + p) * LANES;
                if constexpr (AT_ONCE) acc[r][p] = _mm512_add_epi32(acc[r][p], small[r][p]);
                const __m512i whole = _mm512_sub_epi32(acc[r][p], _mm512_set1_epi32(excess));
                const V value = V{(FloatPart)_mm512_cvtepi32_ps(whole)} * all(scale[r]);
                V sum = load(at);
                if constexpr (Source::SCALED) sum = fma(value, load(w.scale[p] + group), sum);
                else sum = sum + value;
                if constexpr (Source::OFFSET)
                    sum = fma(load(w.offset[p] + group), all(scale[r] * float(total[r])), sum);
                store(at, sum);
            });
        });
        x += (2 * quads + 3) * R;
    }
}

// Splits inputs `first` to `last` of a panel in bfloat16: into `planes`, and `scales` `[steps][16]`.
static void split(const uint8_t* panel, int64_t first, int64_t last, int64_t step, uint8_t* planes, float* scales) {
    const __m512i even = _mm512_set1_epi32(0x00ff00ff), odd = _mm512_set1_epi32(int(0xff00ff00)),
                  centre = _mm512_set1_epi32(0x8080);
    for (int64_t begin = first; begin < last; begin += step, scales += LANES) {
        const int64_t end = begin + step < last ? begin + step : last;
        const uint8_t* from = panel + begin * 32;
        __m512i most = _mm512_setzero_si512();  // bits of a magnitude are in order
        for (int64_t pair = 0; pair < (end - begin) / 2; pair++)
            most = _mm512_max_epu16(
                most, _mm512_and_si512(_mm512_loadu_si512(from + pair * 64), _mm512_set1_epi32(0x7fff7fff)));
        most = _mm512_max_epu16(most, _mm512_srli_epi32(most, 16));
        __m512 largest = _mm512_castsi512_ps(_mm512_slli_epi32(most, 16));
        const __mmask16 finite = _mm512_cmp_ps_mask(largest, _mm512_set1_ps(__builtin_inff()), _CMP_LT_OQ);
        largest = _mm512_max_ps(largest, _mm512_set1_ps(1e-30f));
        const __m512 scale =
            _mm512_mask_blend_ps(finite, _mm512_set1_ps(__builtin_nanf("")),
                                 _mm512_mul_ps(largest, _mm512_set1_ps(256 / LARGEST)));  // sums count in 256ths
        const __m512 inverse = _mm512_maskz_div_ps(finite, _mm512_set1_ps(LARGEST), largest);
        _mm512_storeu_ps(scales, scale);
        for (int64_t quad = 0; quad < (end - begin) / 4; quad++, from += 128, planes += 128) {
            __m512i pairs[2];  // of numbers, each 128 * 257 too large so that both bytes are positive
            for (int i = 0; i < 2; i++) {
                const W two = load_words(from + i * 64);
                const __m512i x = _mm512_cvtps_epi32(_mm512_mul_ps((__m512)even_bf16(two).p[0], inverse)),
                              y = _mm512_cvtps_epi32(_mm512_mul_ps((__m512)odd_bf16(two).p[0], inverse));
                pairs[i] =
                    _mm512_or_si512(_mm512_add_epi32(x, centre), _mm512_slli_epi32(_mm512_add_epi32(y, centre), 16));
            }
            const __m512i high = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(pairs[0], 8), even),
                                                 _mm512_and_si512(pairs[1], odd));
            const __m512i low = _mm512_or_si512(_mm512_and_si512(pairs[0], even),
                                                _mm512_and_si512(_mm512_slli_epi32(pairs[1], 8), odd));
            _mm512_store_si512(planes, high), _mm512_store_si512(planes + 64, low);
        }
    }
}

#endif
