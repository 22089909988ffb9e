// What the matrix unit does at a time: 32 rows by two panels.
#pragma once

#include "matrix_unit.h"
#include "pairs.h"

#if defined(__AMX_BF16__)
constexpr int64_t PASS_ROWS = 2 * UNIT_ROWS, SUMS = PASS_ROWS * 2 * LANES;  // of a pass: rows by two panels

// Where the tiles lie of which a pass fetches some lines for those after it: of two times 16 rows and of two panels.
struct UnitAhead {
    const uint8_t *x[2], *panels[2];
};
// Two panels as the unit reads them, `[steps]` tiles; the last step's, where inputs end in it, lie apart.
struct UnitPanels {
    const uint8_t *at[2], *last[2];
};
// Steps `first` to `end - 1` of `steps`.
struct UnitSteps {
    int64_t first, end, steps;
};

// Added to `sums` `[32][2][16]`, which are new at the first step. `x` `[steps]` tiles, of the next 16 rows `tile_bytes`
// later where `two`. Of each tile of `ahead` so many lines are fetched meanwhile.
template <bool two, int X_LINES, int PANEL_LINES>
static void unit_product(const uint8_t* x, int64_t tile_bytes, const UnitPanels& panels, UnitSteps part,
                         const UnitAhead& ahead, float* sums) {
    constexpr int64_t STRIDE = 2 * LANES * 4;
    float* second = sums + UNIT_ROWS * 2 * LANES;
    if (part.first == 0) {
        unit_zero<0>(), unit_zero<1>();
        if (two) unit_zero<2>(), unit_zero<3>();
    } else {
        unit_load<0>(sums, STRIDE), unit_load<1>(sums + LANES, STRIDE);
        if (two) unit_load<2>(second, STRIDE), unit_load<3>(second + LANES, STRIDE);
    }
    for (int64_t step = part.first; step < part.end; step++) {
        const int64_t at = step * UNIT_BYTES;
        const bool apart = step == part.steps - 1;
        // a quarter after each tile, so that tiles need not wait for all of them: decision 27
        const auto fetch_quarter = [&](int quarter) HERE {
            for (int line = quarter * X_LINES / 4; line < (quarter + 1) * X_LINES / 4; line++)
                fetch(ahead.x[0] + at + line * 64), fetch(ahead.x[1] + at + line * 64);
            for (int line = quarter * PANEL_LINES / 4; line < (quarter + 1) * PANEL_LINES / 4; line++)
                fetch(ahead.panels[0] + at + line * 64), fetch(ahead.panels[1] + at + line * 64);
        };
        unit_load<4>(x + at, 64);
        fetch_quarter(0);
        unit_load<6>(apart ? panels.last[0] : panels.at[0] + at, 64);
        fetch_quarter(1);
        unit_add<0, 4, 6>();
        unit_load<7>(apart ? panels.last[1] : panels.at[1] + at, 64);
        fetch_quarter(2);
        unit_add<1, 4, 7>();
        if (two) unit_load<5>(x + tile_bytes + at, 64);
        fetch_quarter(3);
        if (two) unit_add<2, 5, 6>(), unit_add<3, 5, 7>();
    }
    unit_store<0>(sums, STRIDE), unit_store<1>(sums + LANES, STRIDE);
    if (two) unit_store<2>(second, STRIDE), unit_store<3>(second + LANES, STRIDE);
}
#endif
