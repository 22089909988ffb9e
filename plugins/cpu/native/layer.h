// A decoder layer around its attention. `jackfield_cpu/native_layer.py` mirrors `Layer`.
#pragma once

#include "weight.h"

struct Layer {
    const Weight *qkv, *out, *gate_up, *down;
    const void *input_norm, *post_norm, *q_norm, *k_norm;  // in the activations' dtype; the last two may be null
    int64_t hidden, inner, query_heads, kv_heads, head_dim;
    int64_t dtype;
    double eps;
};
