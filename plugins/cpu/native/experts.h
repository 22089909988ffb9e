// The experts of a layer. `jackfield_cpu/native_experts.py` mirrors `Experts`.
#pragma once

#include "weight.h"

struct Experts {
    const Weight *gate_up, *down;  // [count]
    int64_t count, top;            // how many there are, and how many each token goes to
    int64_t hidden, inner;
    int64_t renormalize;  // whether the shares of a token's experts add up to 1
    int64_t dtype;
};
