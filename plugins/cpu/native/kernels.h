// What each instruction set compiles for itself, and what `dispatch.cpp` chooses from.
#pragma once

#include <cstdint>

#include "attention.h"
#include "experts.h"
#include "layer.h"
#include "weight.h"

struct LinearKernels {
    void (*linear)(const Weight*, const Rows* x, int64_t rows, const Rows* out, int32_t finish);
    void (*pack)(const Weight*, const void* from, void* to);
    int64_t (*gather)(const Weight*, const int64_t* ids, int64_t count, const Rows* out);
};

struct LayerKernels {
    // matrices here are dense and in the layer's dtype
    void (*before)(const Layer*, const void* partial, const void* residual, int64_t rows, void* total, void* qkv);
    void (*after)(const Layer*, const void* attended, const void* projected, const void* residual, int64_t rows,
                  void* total, void* partial);
    void (*norm)(const Rows* x, const Rows* y, int64_t rows, int64_t width, const void* weight, double eps,
                 const Rows* total, const Rows* to);
    void (*norm_parts)(const Rows* x, int64_t rows, int64_t parts, int64_t width, const void* weight, double eps,
                       const Rows* to);
    void (*silu_mul)(const Rows* x, int64_t rows, int64_t width, const Rows* to);
};

struct ExpertKernels {
    // x and out `[tokens][hidden]`, logits `[tokens][experts]`
    void (*mixture)(const Experts*, const Rows* x, const Rows* logits, int64_t tokens, const Rows* out);
};

struct SamplingKernels {
    void (*argmax)(const Rows* x, int64_t rows, int64_t width, int64_t* places);
};

struct AttentionKernels {
    void (*attention)(const AttentionShape*, const AttentionStep*, const AttentionCall*);
    int64_t query_rows;  // see `attention_query_rows`
};

#define JOIN_(name, level) name##_##level
#define JOIN(name, level) JOIN_(name, level)
#if defined(LEVEL)
#define TABLE(name) JOIN(name, LEVEL)
extern const LinearKernels TABLE(linear_kernels);
extern const LayerKernels TABLE(layer_kernels);
extern const ExpertKernels TABLE(expert_kernels);
extern const AttentionKernels TABLE(attention_kernels);
extern const SamplingKernels TABLE(sampling_kernels);
#endif
