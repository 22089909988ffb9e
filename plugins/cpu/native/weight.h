// Weights in panels of 16 output rows, so that a kernel reads a panel from start to end and holds 16 sums in its lanes.
// Floats: for each pair of inputs, the 16 numbers of the even one and of the odd one side by side. INT8: for each four
// inputs, 16 words of their numbers + 128, in the order 0, 2, 1, 3. INT4: for each eight, 16 words whose low halves of
// bytes are the first four and whose high halves are the last four, in that order.
// `jackfield_cpu/native_linear.py` mirrors `Weight`.
#pragma once

#include <cstdint>

enum Format : int32_t { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2, INT4 = 3 };

struct Weight {
    int64_t format;
    int64_t out, in;  // as the model has them
    int64_t panels;   // of 16 rows; rows past `out` are zero
    int64_t depth;    // inputs, rounded up to a multiple of 8 with zeros
    int64_t panel_bytes;
    int64_t group;        // INT4: inputs that share a scale; `depth` where all do
    const uint8_t* data;  // [panels][panel_bytes]
    const float* scale;   // INT8: [panels][16]; INT4: [panels][groups][16]
    const float* offset;  // INT4: minus zero point times scale, as `scale`
    const float* bias;    // [panels][16], or null
};

enum Dtype : int32_t { IN_FLOAT32 = 0, IN_BFLOAT16 = 1 };
enum Finish : int32_t { PLAIN = 0, SILU_MUL = 1 };  // the latter: silu(first half of the outputs) * second half

struct Rows {  // a matrix of activations, `[rows][width]`, rows `stride` numbers apart
    void* data;
    int64_t stride;
    int32_t dtype;
};
