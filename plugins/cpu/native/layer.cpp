// Everything of a decoder layer but attention, in one fork and join before it and one after it.
#include "layer.h"

#include "product.h"
#include "rows.h"

namespace {

enum Shared { PACKED = 0, NORMED = 1, INNER = 2, SUMS = 3 };

Rows dense(void* data, int64_t width, int32_t dtype) { return {data, width, dtype}; }
Rows shared(Shared which, int64_t rows, int64_t width, int32_t dtype) {
    return dense(pool_shared(which, rows * width * size_of(dtype)), width, dtype);
}
float* packed_for(int64_t rows, const Weight* a, const Weight* b, const Weight* c) {
    int64_t depth = a->depth;
    if (b && b->depth > depth) depth = b->depth;
    if (c && c->depth > depth) depth = c->depth;
    return (float*)pool_shared(PACKED, packed_bytes(rows, depth));
}

constexpr int64_t NORMS_A_JOB = 16;  // rows of hidden size, or heads
int64_t jobs_of(int64_t count) { return (count + NORMS_A_JOB - 1) / NORMS_A_JOB; }

// residual + partial -> total, normed -> `product.x`, packed.
struct AddNormPack {
    Product* product;
    const Rows* partial;  // null: there is none, and `total` is not written
    Rows residual, total;
    const void* norm;
    float eps;
    int64_t width;
};
void add_norm_pack(void* context, int64_t tile) {
    const AddNormPack& job = *(const AddNormPack*)context;
    Product& product = *job.product;
    for (int64_t row = tile_start(product.rows, tile); row < tile_start(product.rows, tile + 1); row++) {
        if (job.partial) add_row(job.residual, *job.partial, row, job.width, job.total);
        norm_row(job.partial ? job.total : job.residual, row, 0, job.width, job.norm, job.eps, product.x, row, 0);
    }
    TABLE(pack_tile)(product, tile);
}

struct HeadNorms {
    const Layer* layer;
    Rows qkv;
    int64_t rows;
};
void norm_heads(void* context, int64_t number) {
    const HeadNorms& job = *(const HeadNorms*)context;
    const Layer& layer = *job.layer;
    const int64_t heads = layer.query_heads + layer.kv_heads;
    for (int64_t i = number * NORMS_A_JOB; i < (number + 1) * NORMS_A_JOB && i < job.rows * heads; i++) {
        const int64_t row = i / heads, head = i % heads, column = head * layer.head_dim;
        const void* norm = head < layer.query_heads ? layer.q_norm : layer.k_norm;
        norm_row(job.qkv, row, column, layer.head_dim, norm, float(layer.eps), job.qkv, row, column);
    }
}

// `total` (untouched where there is no partial sum) and the heads of q, k, v, normed but not rotated.
void before(const Layer* layer, const void* partial, const void* residual, int64_t rows, void* total, void* qkv) {
    Turn turn;
    const int32_t dtype = int32_t(layer->dtype);
    const Rows added = dense((void*)partial, layer->hidden, dtype);
    Product product{layer->qkv, shared(NORMED, rows, layer->hidden, dtype),    dense(qkv, layer->qkv->out, dtype), rows,
                    PLAIN,      packed_for(rows, layer->qkv, nullptr, nullptr)};
    AddNormPack first{&product,
                      partial ? &added : nullptr,
                      dense((void*)residual, layer->hidden, dtype),
                      dense(total, layer->hidden, dtype),
                      layer->input_norm,
                      float(layer->eps),
                      layer->hidden};
    pool_run(add_norm_pack, &first, tiles_of(rows));
    TABLE(multiply)(product, false);
    if (!layer->q_norm) return;
    HeadNorms heads{layer, product.out, rows};
    pool_run(norm_heads, &heads, jobs_of(rows * (layer->query_heads + layer->kv_heads)));
}

// `attended` null: `projected` is given instead, summed over ranks. `total` is the new residual, `partial` what the
// next layer adds to it.
void after(const Layer* layer, const void* attended, const void* projected, const void* residual, int64_t rows,
           void* total, void* partial) {
    Turn turn;
    const int32_t dtype = int32_t(layer->dtype);
    float* packed = packed_for(rows, layer->out, layer->gate_up, layer->down);
    Rows sums = attended ? shared(SUMS, rows, layer->hidden, dtype) : dense((void*)projected, layer->hidden, dtype);
    if (attended) {
        Product out{layer->out, dense((void*)attended, layer->out->in, dtype), sums, rows, PLAIN, packed};
        TABLE(multiply)(out, true);
    }
    Rows inner = shared(INNER, rows, layer->inner, dtype);
    Product gate_up{layer->gate_up, shared(NORMED, rows, layer->hidden, dtype), inner, rows, SILU_MUL, packed};
    AddNormPack first{&gate_up,
                      &sums,
                      dense((void*)residual, layer->hidden, dtype),
                      dense(total, layer->hidden, dtype),
                      layer->post_norm,
                      float(layer->eps),
                      layer->hidden};
    pool_run(add_norm_pack, &first, tiles_of(rows));
    TABLE(multiply)(gate_up, false);
    Product down{layer->down, inner, dense(partial, layer->hidden, dtype), rows, PLAIN, packed};
    TABLE(multiply)(down, true);
}

struct Norm {
    Rows x, y, total, to;
    bool adds;
    int64_t rows, width;
    const void* weight;
    float eps;
};
void norm_rows(void* context, int64_t number) {
    const Norm& job = *(const Norm*)context;
    for (int64_t row = number * NORMS_A_JOB; row < (number + 1) * NORMS_A_JOB && row < job.rows; row++) {
        if (job.adds) add_row(job.x, job.y, row, job.width, job.total);
        norm_row(job.adds ? job.total : job.x, row, 0, job.width, job.weight, job.eps, job.to, row, 0);
    }
}
// rms_norm of x, or of x + y, which goes to `total`.
void norm(const Rows* x, const Rows* y, int64_t rows, int64_t width, const void* weight, double eps, const Rows* total,
          const Rows* to) {
    Turn turn;
    Norm job{*x, y ? *y : Rows{}, total ? *total : Rows{}, *to, y != nullptr, rows, width, weight, float(eps)};
    pool_run(norm_rows, &job, jobs_of(rows));
}

struct PartNorm {
    Rows x, to;
    int64_t count, parts, width;
    const void* weight;
    float eps;
};
void norm_some_parts(void* context, int64_t number) {
    const PartNorm& job = *(const PartNorm*)context;
    for (int64_t i = number * NORMS_A_JOB; i < (number + 1) * NORMS_A_JOB && i < job.count; i++) {
        const int64_t row = i / job.parts, column = i % job.parts * job.width;
        norm_row(job.x, row, column, job.width, job.weight, job.eps, job.to, row, column);
    }
}
// rms_norm of each of a row's `parts`, heads of q or k, `width` long.
void norm_parts(const Rows* x, int64_t rows, int64_t parts, int64_t width, const void* weight, double eps,
                const Rows* to) {
    Turn turn;
    PartNorm job{*x, *to, rows * parts, parts, width, weight, float(eps)};
    pool_run(norm_some_parts, &job, jobs_of(job.count));
}

struct Gate {
    Rows x, to;
    int64_t rows, width;
};
void gate_rows(void* context, int64_t number) {
    const Gate& job = *(const Gate*)context;
    for (int64_t row = number * NORMS_A_JOB; row < (number + 1) * NORMS_A_JOB && row < job.rows; row++)
        for (int64_t i = 0; i < job.width; i += LANES) {
            const int64_t count = some(job.width - i);
            V gate = rounded(silu(take(place(job.x, row, i), job.x.dtype, count)), job.to.dtype);
            V up = take(place(job.x, row, job.width + i), job.x.dtype, count);
            give(place(job.to, row, i), job.to.dtype, count, gate * up);
        }
}
void silu_mul(const Rows* x, int64_t rows, int64_t width, const Rows* to) {
    Turn turn;
    Gate job{*x, *to, rows, width};
    pool_run(gate_rows, &job, jobs_of(rows));
}

}  // namespace

const LayerKernels TABLE(layer_kernels) = {before, after, norm, norm_parts, silu_mul};
