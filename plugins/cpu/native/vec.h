// Sixteen float lanes as one value, on any instruction set that GCC and Clang know: one 512-bit register, two of 256
// bits, four of 128. Kernels are written once over `V`; what differs between sets is in this file alone.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX512BF16__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define HERE __attribute__((always_inline))  // of a lambda

// f(0) to f(N - 1) written out, with constants: arrays that they index are registers.
template <int N, int I = 0, class F>
INLINE void times(F f) {
    if constexpr (I < N) {
        f(std::integral_constant<int, I>{});
        times<N, I + 1>(f);
    }
}

constexpr int LANES = 16;

#if defined(__AVX512F__)
constexpr int WIDTH = 64;  // bytes of a register
#elif defined(__AVX2__)
constexpr int WIDTH = 32;
#else
constexpr int WIDTH = 16;
#endif
constexpr int PARTS = 64 / WIDTH;

typedef float FloatPart __attribute__((vector_size(WIDTH)));
typedef int32_t IntPart __attribute__((vector_size(WIDTH)));
typedef uint32_t WordPart __attribute__((vector_size(WIDTH)));

// Memory that is aligned to its numbers alone. Registers are read and written one by one: a copy of the whole value
// goes through the stack in smaller pieces.
typedef float FloatMemory __attribute__((vector_size(WIDTH), aligned(4), may_alias));
typedef uint32_t WordMemory __attribute__((vector_size(WIDTH), aligned(1), may_alias));

struct V {  // float
    FloatPart p[PARTS];
};
struct W {  // 32-bit words: integers, or pairs of 16-bit floats
    WordPart p[PARTS];
};

INLINE V all(float x) {
    V v;
    for (int i = 0; i < PARTS; i++) v.p[i] = x - (FloatPart){};
    return v;
}
INLINE V zero() { return V{}; }
INLINE V load(const float* from) {
    V v;
    for (int i = 0; i < PARTS; i++) v.p[i] = ((const FloatMemory*)from)[i];
    return v;
}
INLINE void store(float* to, V v) {
    for (int i = 0; i < PARTS; i++) ((FloatMemory*)to)[i] = v.p[i];
}
INLINE W load_words(const void* from) {
    W w;
    for (int i = 0; i < PARTS; i++) w.p[i] = ((const WordMemory*)from)[i];
    return w;
}
INLINE V operator+(V a, V b) {
    for (int i = 0; i < PARTS; i++) a.p[i] += b.p[i];
    return a;
}
INLINE V operator-(V a, V b) {
    for (int i = 0; i < PARTS; i++) a.p[i] -= b.p[i];
    return a;
}
INLINE V operator*(V a, V b) {
    for (int i = 0; i < PARTS; i++) a.p[i] *= b.p[i];
    return a;
}
INLINE V operator/(V a, V b) {
    for (int i = 0; i < PARTS; i++) a.p[i] /= b.p[i];
    return a;
}
INLINE V fma(V a, V b, V sum) {  // contracted to one instruction by -ffp-contract=fast
    for (int i = 0; i < PARTS; i++) sum.p[i] += a.p[i] * b.p[i];
    return sum;
}
INLINE V max(V a, V b) {
    for (int i = 0; i < PARTS; i++) a.p[i] = a.p[i] > b.p[i] ? a.p[i] : b.p[i];
    return a;
}
INLINE V min(V a, V b) {
    for (int i = 0; i < PARTS; i++) a.p[i] = a.p[i] < b.p[i] ? a.p[i] : b.p[i];
    return a;
}
INLINE V as_float(W w) {
    V v;
    for (int i = 0; i < PARTS; i++) v.p[i] = (FloatPart)w.p[i];
    return v;
}
INLINE W as_words(V v) {
    W w;
    for (int i = 0; i < PARTS; i++) w.p[i] = (WordPart)v.p[i];
    return w;
}
INLINE float sum(V v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v.p[0]);
#else
    float lanes[LANES], total = 0;
    store(lanes, v);
    for (int i = 0; i < LANES; i++) total += lanes[i];
    return total;
#endif
}
INLINE float highest(V v) {
    float lanes[LANES];
    store(lanes, v);
    float most = lanes[0];
    for (int i = 1; i < LANES; i++) most = lanes[i] > most ? lanes[i] : most;
    return most;
}

// Pairs of bfloat16: the low half is the even number of the pair, the high half the odd one.
INLINE V even_bf16(W pair) {
    for (int i = 0; i < PARTS; i++) pair.p[i] <<= 16;
    return as_float(pair);
}
INLINE V odd_bf16(W pair) {
    for (int i = 0; i < PARTS; i++) pair.p[i] &= 0xffff0000u;
    return as_float(pair);
}

#if defined(__AVX512BF16__)
INLINE void add_pair(V& sum, W weights, uint32_t x) {  // + even * even + odd * odd
    sum.p[0] =
        (FloatPart)_mm512_dpbf16_ps((__m512)sum.p[0], (__m512bh)weights.p[0], (__m512bh)_mm512_set1_epi32(int(x)));
}
#endif

INLINE uint16_t bf16_of(float x) {  // to the nearest, ties to even; NaN stays NaN
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
INLINE float float_of(uint16_t bf16) {
    uint32_t bits = uint32_t(bf16) << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
INLINE void store_bf16(uint16_t* to, V v) {
#if defined(__AVX512BF16__)
    _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh((__m512)v.p[0]));  // below 2^-126: zero
#else
    W w = as_words(v);
    for (int i = 0; i < PARTS; i++) {
        WordPart bits = w.p[i];
        WordPart nan = (WordPart)((bits & 0x7fffffffu) > (WordPart){} + 0x7f800000u);
        WordPart rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        w.p[i] = (nan & ((bits >> 16) | 0x40u)) | (~nan & rounded);
    }
#if defined(__AVX512F__)
    _mm256_storeu_si256((__m256i*)to, _mm512_cvtepi32_epi16((__m512i)w.p[0]));
#else
    uint32_t lanes[LANES];
    memcpy(lanes, &w, sizeof lanes);
    for (int i = 0; i < LANES; i++) to[i] = uint16_t(lanes[i]);
#endif
#endif
}
INLINE V load_bf16(const uint16_t* from) {
#if defined(__AVX512F__)
    W w;
    w.p[0] = (WordPart)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from)), 16);
    return as_float(w);
#else
    uint32_t lanes[LANES];
    for (int i = 0; i < LANES; i++) lanes[i] = uint32_t(from[i]) << 16;
    V v;
    memcpy(&v, lanes, sizeof v);
    return v;
#endif
}
// Four numbers of a word lie in the order 0, 2, 1, 3: neighbours 16 bits apart, as two words of pairs put together.
INLINE constexpr int byte_of(int k) { return (k & 1) << 1 | k >> 1; }
// `mask` of each word's bits from `shift` on, as a number.
INLINE V bits_of(W words, int shift, uint32_t mask) {
    V v;
    for (int i = 0; i < PARTS; i++) v.p[i] = __builtin_convertvector((IntPart)(words.p[i] >> shift & mask), FloatPart);
    return v;
}

// e^r for |r| <= ln(2) / 2.
INLINE V exp_near_zero(V r) {
    V y = all(1.9875691500e-4f);
    y = fma(y, r, all(1.3981999507e-3f));
    y = fma(y, r, all(8.3334519073e-3f));
    y = fma(y, r, all(4.1665795894e-2f));
    y = fma(y, r, all(1.6666665459e-1f));
    y = fma(y, r, all(5.0000001201e-1f));
    return fma(y, r * r, r + all(1.0f));
}
constexpr float LOG2E = 1.44269504088896341f, LN2 = 0.693147180559945309f, LN2_HIGH = 0.693359375f,
                LN2_LOW = -2.12194440e-4f;
// e^x for x <= 0 or small, relative error below 2e-7: 2^n by exponent bits, 2^f by a polynomial of degree 6.
INLINE V exp(V x) {
    x = max(min(x, all(88.0f)), all(-87.3f));
    V n = x * all(LOG2E);
#if defined(__AVX512F__)
    n.p[0] = (FloatPart)_mm512_roundscale_ps((__m512)n.p[0], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    V y = exp_near_zero(x - n * all(LN2_HIGH) - n * all(LN2_LOW));
    y.p[0] = (FloatPart)_mm512_scalef_ps((__m512)y.p[0], (__m512)n.p[0]);
    return y;
#else
    W bits;
    for (int i = 0; i < PARTS; i++) {
        IntPart whole = __builtin_convertvector(
            n.p[i] + (n.p[i] > (FloatPart){} ? 0.5f - (FloatPart){} : -0.5f - (FloatPart){}), IntPart);
        n.p[i] = __builtin_convertvector(whole, FloatPart);
        bits.p[i] = (WordPart)((whole + 127) << 23);
    }
    return exp_near_zero(x - n * all(LN2_HIGH) - n * all(LN2_LOW)) * as_float(bits);
#endif
}
