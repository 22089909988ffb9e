// Sixteen rows of sixteen words, turned: what is packed lies row beside row.
#pragma once

#include "vec.h"

#if defined(__AVX512F__)
// Sixteen words of each of `rows` rows (16 at most), `stride` bytes apart, to `[16][rows]` words, `step` bytes apart.
INLINE void transpose(const uint8_t* from, int64_t stride, int64_t rows, uint8_t* to, int64_t step) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = i < rows ? _mm512_loadu_si512(from + i * stride) : _mm512_setzero_si512();
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]), b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + 2 + j]);
            a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + 2 + j]);
        }
    // a[4 i + j] now holds words j, 4 + j, 8 + j, 12 + j of rows 4 i to 4 i + 3
    for (int j = 0; j < 4; j++) {
        const __m512i even[] = {_mm512_shuffle_i32x4(a[j], a[4 + j], 0x88),
                                _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x88)};
        const __m512i odd[] = {_mm512_shuffle_i32x4(a[j], a[4 + j], 0xdd),
                               _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xdd)};
        b[j] = _mm512_shuffle_i32x4(even[0], even[1], 0x88), b[8 + j] = _mm512_shuffle_i32x4(even[0], even[1], 0xdd);
        b[4 + j] = _mm512_shuffle_i32x4(odd[0], odd[1], 0x88), b[12 + j] = _mm512_shuffle_i32x4(odd[0], odd[1], 0xdd);
    }
    const __mmask16 known = __mmask16((1u << rows) - 1);
    for (int i = 0; i < 16; i++) _mm512_mask_storeu_epi32(to + i * step, known, b[i]);
}
#endif

// Pairs of 16-bit numbers of `height` rows (16 at most), `stride` numbers apart, to `[pairs][height]`.
INLINE void turn_pairs(const uint16_t* rows, int64_t stride, int64_t height, int64_t pairs, uint32_t* to) {
    int64_t done = 0;
#if defined(__AVX512F__)
    for (; done + 16 <= pairs; done += 16)
        transpose((const uint8_t*)(rows + 2 * done), stride * 2, height, (uint8_t*)(to + done * height), height * 4);
#endif
    for (int64_t row = 0; row < height; row++)
        for (int64_t pair = done; pair < pairs; pair++)
            memcpy(&to[pair * height + row], rows + row * stride + 2 * pair, 4);
}
