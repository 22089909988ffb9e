// In which order weights are read from memory: what a product is followed by today was what followed it the last time.
#pragma once

#include <cstdint>

struct Stream {
    const uint8_t* data;  // [halves][units][panel_bytes]
    int64_t panel_bytes, units, halves, together;
};

// Notes that `now` is read, and tells the threads what they will read after it, where that is known. Under the lock.
extern "C" void expect_what_follows(const Stream& now);
