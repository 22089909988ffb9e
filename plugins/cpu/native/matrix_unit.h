// AMX: products of whole tiles. A tile has 16 rows of 64 bytes, here 32 bfloat16 numbers or 16 sums; one of the second
// factor is 16 pairs of inputs of a panel. Rows of a tile that are nobody's hold whatever memory held: each row of sums
// depends on its own row alone.
#pragma once

#include "vec.h"

constexpr int64_t UNIT_ROWS = 16, UNIT_DEPTH = 32, UNIT_BYTES = 1024;

INLINE int64_t unit_tiles(int64_t rows) { return (rows + UNIT_ROWS - 1) / UNIT_ROWS; }
INLINE int64_t unit_steps(int64_t depth) { return (depth + UNIT_DEPTH - 1) / UNIT_DEPTH; }

#if defined(__AMX_BF16__)
constexpr bool MATRIX_UNIT = true;

// While one lives its thread has eight whole tiles; afterwards the system has nothing of them to save.
struct UnitTiles {
    UnitTiles() {
        struct {
            uint8_t palette = 1, first_row = 0, unused[14] = {};
            uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
        } shape;
        asm volatile("ldtilecfg %0" ::"m"(shape));
    }
    ~UnitTiles() { asm volatile("tilerelease"); }
    UnitTiles(const UnitTiles&) = delete;
};
// Not the compiler's own functions: GCC 12 does not know that these read memory.
template <int TILE>
INLINE void unit_load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(TILE) : "memory");
}
template <int TILE>
INLINE void unit_store(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(TILE) : "memory");
}
template <int TILE>
INLINE void unit_zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(TILE));
}
template <int SUMS, int X, int Y>  // sums of products of bfloat16 pairs
INLINE void unit_add() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUMS), "i"(X), "i"(Y));
}
#else
constexpr bool MATRIX_UNIT = false;
#endif
