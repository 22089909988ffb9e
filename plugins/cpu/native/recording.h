// Calls that are kept instead of made, to be made later all at once, over as many tokens as there are then.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

struct Recording {
    int64_t tokens;  // of the step that is recorded
    std::vector<std::function<void(int64_t tokens)>> calls;
    std::string refusal;  // why it cannot be made again; empty: it can

    // A call over `rows` rows: the same number for each token.
    template <class Call>
    void add(int64_t rows, Call call) {
        if (rows % tokens) {
            refusal = "a kernel works on " + std::to_string(rows) + " rows, no multiple of the step's " +
                      std::to_string(tokens) + " tokens";
            return;
        }
        calls.push_back([call, each = rows / tokens](int64_t now) { call(now * each); });
    }
};

extern thread_local Recording* recording;  // of this thread; null: calls are made

// Makes the call, or records it. `call` must own all that it reads but tensors, weights and attention's plan.
template <class Call>
void perform(int64_t rows, Call call) {
    if (recording) recording->add(rows, call);
    else call(rows);
}
