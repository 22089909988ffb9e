// What a softmax needs of 16 scores at once.
#pragma once

#include "vec.h"

constexpr float LOWEST = -1e30f;  // where a softmax starts: finite, so that differences are numbers

INLINE V below(V x, V limit, V then, V otherwise) {
    for (int i = 0; i < PARTS; i++) x.p[i] = x.p[i] < limit.p[i] ? then.p[i] : otherwise.p[i];
    return x;
}
INLINE V weight_of(V x) {  // e^x for x <= 0; nothing of what is hidden remains, and NaN stays
#if defined(__AVX512F__)
    const __m512 n = _mm512_roundscale_ps((__m512)(x * all(LOG2E)).p[0], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const V whole{(FloatPart)n}, y = exp_near_zero(x - whole * all(LN2_HIGH) - whole * all(LN2_LOW));
    const __mmask16 remains = _mm512_cmp_ps_mask((__m512)x.p[0], _mm512_set1_ps(-87.0f), _CMP_NLT_UQ);
    return V{(FloatPart)_mm512_maskz_scalef_ps(remains, (__m512)y.p[0], n)};
#else
    V y = below(x, all(-87.0f), zero(), exp(x));
    for (int i = 0; i < PARTS; i++) y.p[i] = x.p[i] == x.p[i] ? y.p[i] : x.p[i];
    return y;
#endif
}
#if defined(__AVX512F__)
// 2^x where it is rounded to bfloat16 afterwards: within 3e-6 of it, a six-hundredth of what is rounded away. HIDES:
// some x may be minus infinity.
template <bool HIDES>
INLINE V power_to_round(V x) {
    const __m512 n = _mm512_roundscale_ps((__m512)x.p[0], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const V part = x - V{(FloatPart)n};
    V y = all(9.570102e-3f);  // 2^part for |part| <= 0.5
    y = fma(y, part, all(5.5917861e-2f));
    y = fma(y, part, all(2.4024745e-1f));
    y = fma(y, part, all(6.9312181e-1f));
    y = fma(y, part, all(9.9999926e-1f));
    if (!HIDES) return V{(FloatPart)_mm512_scalef_ps((__m512)y.p[0], n)};
    const __mmask16 remains = _mm512_cmp_ps_mask((__m512)x.p[0], _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
    return V{(FloatPart)_mm512_maskz_scalef_ps(remains, (__m512)y.p[0], n)};
}
#endif
INLINE V weight_to_round(V x) {  // `weight_of`, likewise
#if defined(__AVX512F__)
    return power_to_round<true>(x * all(LOG2E));
#else
    return weight_of(x);
#endif
}
INLINE V tanh(V x) {
    V size = max(x, zero() - x), square = x * x;
    V near = all(62.0f / 2835);
    near = fma(near, square, all(-17.0f / 315));
    near = fma(near, square, all(2.0f / 15));
    near = fma(near, square, all(-1.0f / 3));
    near = fma(near * square, x, x);
    V far = all(1.0f) - all(2.0f) / (exp(size + size) + all(1.0f));
    far = below(x, zero(), zero() - far, far);
    return below(size, all(0.25f), near, far);
}
INLINE float most_of(V v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v.p[0]);
#else
    return highest(v);
#endif
}
// `x` in lanes `first` to `last`, minus infinity in the others.
INLINE V visible(V x, int64_t first, int64_t last) {
    int32_t number[LANES];
    for (int i = 0; i < LANES; i++) number[i] = i;
    const int32_t from = int32_t(first < 0 ? 0 : first), to = int32_t(last > LANES ? LANES : last);
    IntPart lane[PARTS];
    memcpy(lane, number, sizeof lane);
    for (int i = 0; i < PARTS; i++)
        x.p[i] = (lane[i] >= from) & (lane[i] < to) ? x.p[i] : (FloatPart){} - __builtin_inff();
    return x;
}
