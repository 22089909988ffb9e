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

// residual + partial -> sum, normed -> `product.x`, packed: the tiles of this thread.
void add_norm_pack(Product& product, const Rows* partial, const Rows& residual, const Rows& total, const void* norm, float eps,
                   int64_t width, int thread, int threads) {
    for (int64_t tile = thread; tile < tiles_of(product.rows); tile += threads) {
        for (int64_t row = tile_start(product.rows, tile); row < tile_start(product.rows, tile + 1); row++) {
            if (partial) add_row(residual, *partial, row, width, total);
            norm_row(partial ? total : residual, row, 0, width, norm, eps, product.x, row, 0);
        }
        pack_tile(product, tile);
    }
    pool_barrier(threads);
}

struct Before {
    const Layer* layer;
    const Rows* partial;  // null: there is none
    Rows residual, total;
    Product qkv;
};

void before_on_a_thread(void* context, int thread, int threads) {
    Before& job = *(Before*)context;
    const Layer& layer = *job.layer;
    add_norm_pack(job.qkv, job.partial, job.residual, job.total, layer.input_norm, float(layer.eps), layer.hidden, thread, threads);
    TABLE(multiply)(job.qkv);
    if (!layer.q_norm) return;
    pool_barrier(threads);
    const int64_t heads = layer.query_heads + layer.kv_heads, count = job.qkv.rows * heads;
    for (int64_t i = count * thread / threads; i < count * (thread + 1) / threads; i++) {
        const int64_t row = i / heads, head = i % heads, column = head * layer.head_dim;
        const void* norm = head < layer.query_heads ? layer.q_norm : layer.k_norm;
        norm_row(job.qkv.out, row, column, layer.head_dim, norm, float(layer.eps), job.qkv.out, row, column);
    }
}

// `total` (untouched where there is no partial sum) and the heads of q, k, v, normed but not rotated.
void before(const Layer* layer, const Rows* partial, const Rows* residual, int64_t rows, const Rows* total, const Rows* qkv) {
    Turn turn;
    const int32_t dtype = int32_t(layer->dtype);
    Rows normed = shared(NORMED, rows, layer->hidden, dtype);
    Before job{layer, partial, *residual, *total, {layer->qkv, normed, *qkv, rows, PLAIN, packed_for(rows, layer->qkv, nullptr, nullptr), 0}};
    pool_run(before_on_a_thread, &job);
}

struct After {
    const Layer* layer;
    Rows residual, total, partial;
    bool projects;  // false: `partial` holds the output projection already, summed over ranks
    Product out, gate_up, down;
};

void after_on_a_thread(void* context, int thread, int threads) {
    After& job = *(After*)context;
    const Layer& layer = *job.layer;
    if (job.projects) {
        pack_rows(job.out, thread, threads);
        pool_barrier(threads);
        TABLE(multiply)(job.out);
        pool_barrier(threads);
    }
    add_norm_pack(job.gate_up, &job.out.out, job.residual, job.total, layer.post_norm, float(layer.eps), layer.hidden, thread, threads);
    TABLE(multiply)(job.gate_up);
    pool_barrier(threads);
    pack_rows(job.down, thread, threads);
    pool_barrier(threads);
    TABLE(multiply)(job.down);
}

// `attended` null: `projected` is given instead. `total` is the new residual, `partial` what the next layer adds to it.
void after(const Layer* layer, const Rows* attended, const Rows* projected, const Rows* residual, int64_t rows, const Rows* total,
           const Rows* partial) {
    Turn turn;
    const int32_t dtype = int32_t(layer->dtype);
    float* packed = packed_for(rows, layer->out, layer->gate_up, layer->down);
    Rows sums = attended ? shared(SUMS, rows, layer->hidden, dtype) : *projected;
    Rows normed = shared(NORMED, rows, layer->hidden, dtype), inner = shared(INNER, rows, layer->inner, dtype);
    After job{layer, *residual, *total, *partial, attended != nullptr,
              {layer->out, attended ? *attended : Rows{}, sums, rows, PLAIN, packed, 0},
              {layer->gate_up, normed, inner, rows, SILU_MUL, packed, 0},
              {layer->down, inner, *partial, rows, PLAIN, packed, 0}};
    pool_run(after_on_a_thread, &job);
}

struct Norm {
    Rows x, y, total, to;
    bool adds;
    int64_t rows, width;
    const void* weight;
    float eps;
};
void norm_on_a_thread(void* context, int thread, int threads) {
    const Norm& job = *(const Norm*)context;
    for (int64_t row = job.rows * thread / threads; row < job.rows * (thread + 1) / threads; row++) {
        if (job.adds) add_row(job.x, job.y, row, job.width, job.total);
        norm_row(job.adds ? job.total : job.x, row, 0, job.width, job.weight, job.eps, job.to, row, 0);
    }
}
// rms_norm of x, or of x + y, which goes to `total`.
void norm(const Rows* x, const Rows* y, int64_t rows, int64_t width, const void* weight, double eps, const Rows* total, const Rows* to) {
    Turn turn;
    Norm job{*x, y ? *y : Rows{}, total ? *total : Rows{}, *to, y != nullptr, rows, width, weight, float(eps)};
    pool_run(norm_on_a_thread, &job);
}

struct Gate {
    Rows x, to;
    int64_t rows, width;
};
void gate_on_a_thread(void* context, int thread, int threads) {
    const Gate& job = *(const Gate*)context;
    for (int64_t row = job.rows * thread / threads; row < job.rows * (thread + 1) / threads; row++)
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
    pool_run(gate_on_a_thread, &job);
}

}  // namespace

const LayerKernels TABLE(layer_kernels) = {before, after, norm, silu_mul};
