// What a panel is made of: numbers for 16 lanes in pairs, multiplied by numbers that all lanes share.
#pragma once

#include "vec.h"

// To the second cache: what reads them from there finds them in time, and the first one's few open misses stay free.
INLINE void fetch(const uint8_t* at) { __builtin_prefetch(at, 0, 2); }
INLINE void fetch_to_write(const void* at) {
#if defined(__x86_64__)
    asm volatile("prefetchw (%0)" ::"r"(at));  // the compiler's own is a read's unless it is told of the processor
#else
    __builtin_prefetch(at, 1);
#endif
}

// Readers of inputs k and k + 1, k even, for the 16 outputs of the panel at `from`.
struct Float32Pairs {
    static constexpr int BYTES = 128, SIZE = 4;
    static constexpr bool GROUPED = false, DOTS = false;
    INLINE void read(const uint8_t* from, int64_t k, V, V, V& even, V& odd) {
        const float* at = (const float*)from + k * LANES;
        even = load(at), odd = load(at + LANES);
    }
};
struct Bfloat16Pairs {
    static constexpr int BYTES = 64, SIZE = 2;
    static constexpr bool GROUPED = false, DOTS = false;
    INLINE void read(const uint8_t* from, int64_t k, V, V, V& even, V& odd) {
        W pair = load_words(from + k * 32);
        even = even_bf16(pair), odd = odd_bf16(pair);
    }
};
struct Int8Pairs {
    static constexpr int BYTES = 32;
    static constexpr bool GROUPED = false;
    INLINE void read(const uint8_t* from, int64_t k, V, V, V& even, V& odd) {
        W words = load_words(from + k / 4 * 64);
        const int shift = 8 * byte_of(int(k % 4));
        even = bits_of(words, shift, 255) - all(128), odd = bits_of(words, shift + 16, 255) - all(128);
    }
};
struct Int4Pairs {
    static constexpr int BYTES = 16;
    static constexpr bool GROUPED = true;
    INLINE void read(const uint8_t* from, int64_t k, V scale, V offset, V& even, V& odd) {
        W words = load_words(from + k / 8 * 64);
        const int shift = 8 * byte_of(int(k % 4)) + int(k % 8 / 4 * 4);
        even = fma(bits_of(words, shift, 15), scale, offset), odd = fma(bits_of(words, shift + 16, 15), scale, offset);
    }
};
struct Bfloat16Dots {  // by the instruction that multiplies pairs: they are not taken apart
    static constexpr int BYTES = 64, SIZE = 2;
    static constexpr bool DOTS = true;
    INLINE void read(const uint8_t*, int64_t, V, V, V&, V&) {}
};
