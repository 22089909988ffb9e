// How many rows and panels are multiplied together: as many sums as registers hold.
#pragma once

#include "vec.h"

#if defined(__AVX512F__)
constexpr int ROWS = 12, PANELS = 2;  // sums of a tile: 24 of 32 registers
#else
constexpr int ROWS = 6, PANELS = 1;
#endif

INLINE int64_t tiles_of(int64_t rows) { return (rows + ROWS - 1) / ROWS; }
INLINE int64_t tile_start(int64_t rows, int64_t tile) {  // tiles differ by one row at most
    int64_t tiles = tiles_of(rows), base = rows / tiles, extra = rows % tiles;
    return tile * base + (tile < extra ? tile : extra);
}
