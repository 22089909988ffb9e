// Paged attention over a cache in panels. A block of one kv head holds
//     keys    [block_size / 16][k_dim / 2][16 tokens] pairs of neighbouring dims
//     values  [block_size / 2][v_dim / 16][16 dims]   pairs of neighbouring tokens
// so that both products read what the linear layers read: 16 sums in the lanes, pairs one after the other. A pair is
// two bfloat16 side by side, or in float32 a vector of 16 even numbers before one of 16 odd ones.
// Within a page of blocks those of one head are neighbours: where a row's blocks were taken one after the other, they
// are read in one stretch. `jackfield_cpu/native_attention.py` mirrors the structures.
#pragma once

#include <cstdint>

#include "weight.h"

struct AttentionShape {
    int64_t query_heads, kv_heads, k_dim, v_dim;
    int64_t block_size;
    int64_t window;         // tokens that a query sees, itself included; 0: all
    float scale, soft_cap;  // soft_cap 0: none
    int32_t dtype;          // `Dtype`, of queries and cache
};

// What the host knows of a step, as `Layout` has it.
struct AttentionLayout {
    int64_t rows;
    const int32_t *query_start, *num_new, *kv_len, *block_table;
    int64_t table_width, table_stride;
};

struct StepRow {
    int32_t first_token, num_new, kv_len;
    int32_t table;  // where the block of position 0 is, or would be, in `AttentionStep::table`
};
struct StepWrite {  // tokens of a row that lie in one panel
    int32_t row, position, count;
};
struct StepItem {  // some queries of a row and some of the keys that they see; once for each kv head
    int32_t row, first_query, queries;
    int32_t start, stop;  // keys; start is a multiple of 16
    int32_t group, slot;  // items of equal group hold parts of the same answers; -1: not split
    int32_t common;  // 1: the one query of each of `queries` rows that hold these keys in the same blocks: of `row`
                     // and those after it, whose groups are `group` and those after it
};
struct StepGroup {  // of parts; the slots of either kind are neighbours, the earliest keys first
    int32_t parts, slot;
    int32_t common_parts, common_slot;  // of keys that other rows have in common with this one, before its own
    int32_t common_rows, place;         // how many rows these parts are of, and which of them this one is
};

struct AttentionStep {
    int64_t rows, writes, items, groups, slots;
    int64_t most_queries;  // of an item
    const StepRow* row;
    const StepWrite* write;
    const StepItem* item;
    const StepGroup* group;
    const int32_t* table;
};

struct Heads {  // `[tokens][heads][dim]`, strides in numbers
    void* data;
    int64_t token_stride, head_stride;
};

struct AttentionCall {
    Heads q, k, v, out;
    void *k_cache, *v_cache;
    int64_t page_blocks;       // blocks whose heads lie apart; the caches are `[pages][kv_heads][page_blocks]` blocks
    const float* sinks;        // [query_heads], or null
    const float* rope;         // [positions][rotary_dim]: cosines, then sines; null: not rotated
    const int64_t* positions;  // [tokens]
    int64_t rotary_dim;
    int32_t interleaved;
};

constexpr int64_t PANEL = 16;    // tokens
constexpr int64_t STRETCH = 64;  // tokens that are looked at together

int64_t attention_query_rows();  // queries times heads of an item, which share keys: as many as the chosen kernels want
