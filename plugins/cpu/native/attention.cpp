// One layer's attention: keys rotated and written, then queries against them, with a running softmax.
#include "attention.h"

#include "attention_unit.h"
#include "kernels.h"
#include "pool.h"

namespace {

// Queries of an item as tiles want them: `[rows][k_dim]` on the matrix unit.
template <class Source>
static void pack_queries(const Job& job, const StepItem& item, int64_t head, float* packed, float* x) {
    const AttentionShape& shape = *job.shape;
    const int64_t group = group_of(shape), rows = item.queries * group, dim = shape.k_dim;
    const int64_t token = job.step->row[item.row].first_token + item.first_query;
    const auto read = [&](int64_t row) {
        read_head(job.call->q, shape.dtype, token + row / group, head * group + row % group, dim, x);
        rotate(*job.call, token + row / group, x);
    };
    if (on_unit<Source>(shape, rows)) {
        for (int64_t row = 0; row < rows; row++) read(row), narrow(x, dim, (uint16_t*)packed + row * dim);
        return;
    }
    uint16_t* rounded = (uint16_t*)(x + dim + LANES);
    for (int64_t tile = 0, row = 0; row < rows; tile++) {
        const int64_t first = row, end = tile_start(rows, tile + 1), height = end - first;
        float* to = packed + first * dim / (Source::DOTS ? 2 : 1);
        for (; row < end; row++) {
            read(row);
            if (Source::DOTS) narrow(x, dim, rounded + (row - first) * dim);
            else
                for (int64_t k = 0; k < dim; k++) to[k * height + row - first] = x[k];
        }
        if (Source::DOTS) turn_pairs(rounded, dim, height, dim / 2, (uint32_t*)to);
    }
}

// One query's answer of one head.
static void finish(const Job& job, const StepItem& item, int64_t head, int64_t row, const float* answer, float top,
                   float sum) {
    const AttentionShape& shape = *job.shape;
    const Heads& out = job.call->out;
    const int64_t group = group_of(shape), own = head * group + row % group;
    const int64_t token = job.step->row[item.row].first_token + item.first_query + row / group;
    float factor = 1;
    if (job.call->sinks) {
        const float sink = job.call->sinks[own], most = sink > top ? sink : top;
        alignas(64) float powers[LANES] = {top - most, sink - most};
        store(powers, weight_of(load(powers)));
        factor = powers[0], sum = sum * factor + powers[1];
    }
    const V scale = all(factor / sum);
    const int64_t at = token * out.token_stride + own * out.head_stride;
    for (int64_t k = 0; k < shape.v_dim; k += LANES) {
        const V v = load(answer + k) * scale;
        if (shape.dtype == IN_BFLOAT16) store_bf16((uint16_t*)out.data + at + k, v);
        else store((float*)out.data + at + k, v);
    }
}

INLINE float* part_at(const Job& job, int64_t slot, int64_t head) {
    return (float*)(job.parts + (slot * job.shape->kv_heads + head) * job.part_bytes);
}

// One row's part of its answer.
struct PartRow {
    const float* answer;
    float top, sum;
};
INLINE PartRow part_row(const Job& job, int64_t slot, int64_t head, int64_t rows, int64_t row) {
    const float* part = part_at(job, slot, head);
    const int64_t dim = job.shape->v_dim;
    return {part + row * dim, part[rows * dim + row], part[rows * (dim + 1) + row]};
}

// All parts of a group's answers are there: weigh them by their highest scores. `item` says whose they are.
static void merge(const Job& job, const StepItem& item, int64_t number, int64_t head, float* answer) {
    const AttentionShape& shape = *job.shape;
    const StepGroup& group = job.step->group[number];
    const int64_t lines = group_of(shape), rows = item.queries * lines, parts = group.common_parts + group.parts;
    for (int64_t row = 0; row < rows; row++) {
        const auto part_of = [&](int64_t part) {
            if (part >= group.common_parts)
                return part_row(job, group.slot + part - group.common_parts, head, rows, row);
            return part_row(job, group.common_slot + part, head, group.common_rows * lines, group.place * lines + row);
        };
        float top = LOWEST, sum = 0;
        for (int64_t part = 0; part < parts; part++) {
            const float here = part_of(part).top;
            top = here > top ? here : top;
        }
        memset(answer, 0, shape.v_dim * 4);
        for (int64_t part = 0; part < parts; part++) {
            const PartRow own = part_of(part);
            const V scale = weight_of(all(own.top - top));
            float lanes[LANES];
            store(lanes, scale);
            sum += lanes[0] * own.sum;
            for (int64_t k = 0; k < shape.v_dim; k += LANES)
                store(answer + k, fma(load(own.answer + k), scale, load(answer + k)));
        }
        finish(job, item, head, row, answer, top, sum);
    }
}

// One item and head of a step's; `next` is what this thread probably takes after it, whose first keys are fetched.
struct Share {
    const StepItem* item;
    int64_t head;
};
INLINE Share share_of(const Job& job, int64_t number) {
    return {job.step->item + number / job.shape->kv_heads, number % job.shape->kv_heads};
}

// All stretches by all tiles of queries.
template <class Source>
static void by_stretches(const Queries& queries, const Share& next) {
    const Job& job = queries.job;
    const int64_t stop = queries.item.stop;
    uint8_t* cleaned = (uint8_t*)pool_scratch(5, LOOKS * PANEL * job.shape->v_dim * Source::SIZE);
    Stretch here, ahead;
    look<Source>(job, queries.row, queries.head, queries.item.start, stop, ahead);
    for (int64_t start = queries.item.start; start < stop; start += STRETCH) {
        here = ahead;
        if (start + STRETCH < stop) look<Source>(job, queries.row, queries.head, start + STRETCH, stop, ahead);
        else look<Source>(job, job.step->row[next.item->row], next.head, next.item->start, next.item->stop, ahead);
        clean_unseen<Source>(queries, start, here, cleaned);
        for (int64_t number = 0; number < tiles_of(queries.rows); number++) {
            const int64_t first = tile_start(queries.rows, number), end = tile_start(queries.rows, number + 1);
            const int panels = panels_seen(queries, first, end, start, here.panels);
            if (!panels) continue;
            Tile tile = tile_of(queries, first, start, panels);
            tile.stretch = &here, tile.ahead = &ahead;
            tile_of_height<Source>(end - first, tile);
        }
    }
}

template <class Source>
static void attend(const Job& job, const Share& share, const Share& next) {
    const StepItem& item = *share.item;
    const int64_t head = share.head;
    const AttentionShape& shape = *job.shape;
    const StepRow& row = job.step->row[item.row];
    const int64_t group = group_of(shape), rows = item.queries * group;
    const bool unit = on_unit<Source>(shape, rows);
    const int64_t whole = unit ? unit_tiles(rows) * UNIT_ROWS : rows;
    const int64_t position = row.kv_len - row.num_new + item.first_query;
    const int64_t seen = shape.window && position >= shape.window ? position - shape.window + 1 : 0;
    // tiles of queries, then one row in float32, then a tile's rows in bfloat16
    float* packed = (float*)pool_scratch(3, (whole * shape.k_dim + shape.k_dim + LANES) * 4 + ROWS * shape.k_dim * 2);
    float* answers = (float*)pool_scratch(4, whole * (shape.v_dim + 1 + LANES) * 4);
    float *top = answers + whole * shape.v_dim, *sums = top + whole;
    pack_queries<Source>(job, item, head, packed, packed + whole * shape.k_dim);
    memset(answers, 0, rows * shape.v_dim * 4);
    memset(sums, 0, rows * LANES * 4);
    for (int64_t i = 0; i < rows; i++) top[i] = LOWEST;
    const Queries queries{job,    item,    head, row, group, rows, position, seen, position + item.queries,
                          packed, answers, top,  sums};
#if defined(__AMX_BF16__)
    if (unit) attend_on_unit(queries);
    else
#endif
        by_stretches<Source>(queries, next);
    if (item.group < 0) {
        for (int64_t i = 0; i < rows; i++)
            finish(job, item, head, i, answers + i * shape.v_dim, top[i], sum(load(sums + i * LANES)));
        return;
    }
    float* part = part_at(job, item.slot, head);
    memcpy(part, answers, rows * shape.v_dim * 4), memcpy(part + rows * shape.v_dim, top, rows * 4);
    for (int64_t i = 0; i < rows; i++) part[rows * (shape.v_dim + 1) + i] = sum(load(sums + i * LANES));
    for (int32_t member = 0; member < (item.common ? item.queries : 1); member++) {
        const int64_t number = item.group + member;
        if (__atomic_sub_fetch(&job.left[number * shape.kv_heads + head], 1, __ATOMIC_ACQ_REL) != 0) continue;
        StepItem own = item;
        if (item.common) own.row += member, own.queries = 1;
        merge(job, own, number, head, answers);
    }
}

constexpr int64_t WRITES_A_JOB = 4;
template <class Source>
static void write_job(void* context, int64_t number) {
    const Job& job = *(const Job*)context;
    const int64_t end = (number + 1) * WRITES_A_JOB < job.step->writes ? (number + 1) * WRITES_A_JOB : job.step->writes;
    for (int64_t i = number * WRITES_A_JOB; i < end; i++)
        write<Source>(job, job.step->write[i], i + 1 < end ? job.step->write + i + 1 : nullptr);
}
template <class Source>
static void attend_job(void* context, int64_t number) {
    const Job& job = *(const Job*)context;
    const int64_t after = number + pool_threads();
    attend<Source>(job, share_of(job, number),
                   share_of(job, after < job.step->items * job.shape->kv_heads ? after : number));
}
template <class Source>
static void run(Job& job) {
    pool_run(write_job<Source>, &job, (job.step->writes + WRITES_A_JOB - 1) / WRITES_A_JOB);
    pool_run(attend_job<Source>, &job, job.step->items * job.shape->kv_heads);
}

void attention(const AttentionShape* shape, const AttentionStep* step, const AttentionCall* call) {
    Turn turn;
    const int64_t rows = step->most_queries * group_of(*shape);
    const int64_t part_bytes = (rows * (shape->v_dim + 2) * 4 + 63) / 64 * 64,
                  parts = step->slots * shape->kv_heads * part_bytes;
    const int64_t counters = step->groups * shape->kv_heads;
    uint8_t* memory = step->groups ? (uint8_t*)pool_shared(1, (unsigned long)(parts + counters * 4)) : nullptr;
    Job job{shape, step, call, memory, part_bytes, (int32_t*)(memory + parts)};
    for (int64_t i = 0; i < counters; i++) {
        const StepGroup& group = step->group[i / shape->kv_heads];
        job.left[i] = group.parts + group.common_parts;
    }
    if (shape->dtype == IN_FLOAT32) return run<Float32Pairs>(job);
#if defined(__AVX512BF16__)
    run<Bfloat16Dots>(job);
#else
    run<Bfloat16Pairs>(job);
#endif
}

}  // namespace

// They share a stretch of keys in the first cache, or on the matrix unit a thousand keys in the second.
constexpr int64_t QUERY_ROWS = MATRIX_UNIT ? 192 : 96;

const AttentionKernels TABLE(attention_kernels) = {attention, QUERY_ROWS};
