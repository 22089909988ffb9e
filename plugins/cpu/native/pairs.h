// What a panel is made of: numbers for 16 lanes in pairs, multiplied by numbers that all lanes share.
#pragma once

#include "vec.h"

// Readers of one pair of inputs for 16 outputs.
struct Float32Pairs {
    static constexpr int BYTES = 128, SIZE = 4;
    static constexpr bool GROUPED = false, DOTS = false;
    INLINE void read(const uint8_t* at, V, V, V& even, V& odd) {
        even = load((const float*)at), odd = load((const float*)at + LANES);
    }
};
struct Bfloat16Pairs {
    static constexpr int BYTES = 64, SIZE = 2;
    static constexpr bool GROUPED = false, DOTS = false;
    INLINE void read(const uint8_t* at, V, V, V& even, V& odd) {
        W pair = load_words(at);
        even = even_bf16(pair), odd = odd_bf16(pair);
    }
};
struct Int8Pairs {
    static constexpr int BYTES = 32;
    static constexpr bool GROUPED = false;
    INLINE void read(const uint8_t* at, V, V, V& even, V& odd) {
        even = load_int8((const int8_t*)at), odd = load_int8((const int8_t*)at + LANES);
    }
};
struct Int4Pairs {
    static constexpr int BYTES = 16;
    static constexpr bool GROUPED = true;
    INLINE void read(const uint8_t* at, V scale, V offset, V& even, V& odd) {
        load_nibbles(at, even, odd);
        even = fma(even, scale, offset), odd = fma(odd, scale, offset);
    }
};
struct Bfloat16Dots {  // by the instruction that multiplies pairs: they are not taken apart
    static constexpr int BYTES = 64, SIZE = 2;
    static constexpr bool DOTS = true;
    INLINE void read(const uint8_t*, V, V, V&, V&) {}
};
