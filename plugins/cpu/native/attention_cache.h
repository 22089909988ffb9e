// Where keys and values lie in their panels: writing tokens, and finding what queries look at.
#pragma once

#include "attention.h"
#include "pairs.h"
#include "pool.h"
#include "transpose.h"

constexpr int LOOKS = STRETCH / PANEL;  // panels of a stretch

struct Job {
    const AttentionShape* shape;
    const AttentionStep* step;
    const AttentionCall* call;
    uint8_t* parts;  // [slots][kv_heads], each `part_bytes`: answers, highest scores, sums of weights
    int64_t part_bytes;
    int32_t* left;  // [groups][kv_heads]: parts that are not done
};

INLINE int64_t group_of(const AttentionShape& shape) { return shape.query_heads / shape.kv_heads; }
// The number of the block of a head, among all heads' blocks.
INLINE int64_t block_at(const Job& job, const StepRow& row, int64_t head, int64_t position) {
    const int32_t block = job.step->table[row.table + position / job.shape->block_size],
                  each = int32_t(job.call->page_blocks), page = block / each;
    return (page * job.shape->kv_heads + head) * each + block % each;
}
template <class Source>
INLINE uint8_t* keys_at(const Job& job, const StepRow& row, int64_t head,
                        int64_t panel) {  // `panel`: its first position
    const AttentionShape& shape = *job.shape;
    const int64_t token = block_at(job, row, head, panel) * shape.block_size + panel % shape.block_size;
    return (uint8_t*)job.call->k_cache + token * shape.k_dim * Source::SIZE;
}
template <class Source>
INLINE uint8_t* values_at(const Job& job, const StepRow& row, int64_t head, int64_t panel) {
    const AttentionShape& shape = *job.shape;
    const int64_t token = block_at(job, row, head, panel) * shape.block_size + panel % shape.block_size;
    return (uint8_t*)job.call->v_cache + token * shape.v_dim * Source::SIZE;
}

// One head of a token in float32.
INLINE void read_head(const Heads& from, int32_t dtype, int64_t token, int64_t head, int64_t dim, float* to) {
    const int64_t at = token * from.token_stride + head * from.head_stride;
    if (dtype == IN_FLOAT32) {
        memcpy(to, (const float*)from.data + at, dim * 4);
        return;
    }
    const uint16_t* x = (const uint16_t*)from.data + at;
    int64_t i = 0;
    for (; i + LANES <= dim; i += LANES) store(to + i, load_bf16(x + i));
    for (; i < dim; i++) to[i] = float_of(x[i]);
}
static void rotate(const AttentionCall& call, int64_t token, float* x) {
    if (!call.rope) return;
    const int64_t half = call.rotary_dim / 2;
    const float *cosine = call.rope + call.positions[token] * call.rotary_dim, *sine = cosine + half;
    if (call.interleaved) {
        for (int64_t i = 0; i < half; i++) {
            const float a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = a * cosine[i] - b * sine[i], x[2 * i + 1] = b * cosine[i] + a * sine[i];
        }
        return;
    }
    int64_t i = 0;
    for (; i + LANES <= half; i += LANES) {
        const V a = load(x + i), b = load(x + half + i), c = load(cosine + i), s = load(sine + i);
        store(x + i, a * c - b * s), store(x + half + i, b * c + a * s);
    }
    for (; i < half; i++) {
        const float a = x[i], b = x[half + i];
        x[i] = a * cosine[i] - b * sine[i], x[half + i] = b * cosine[i] + a * sine[i];
    }
}
INLINE void narrow(const float* from, int64_t dim, uint16_t* to) {
    int64_t i = 0;
    for (; i + LANES <= dim; i += LANES) store_bf16(to + i, load(from + i));
    for (; i < dim; i++) to[i] = bf16_of(from[i]);
}

// Values of two tokens, pair by pair.
INLINE void interleave(const uint16_t* even, const uint16_t* odd, int64_t dim, uint16_t* to) {
    int64_t k = 0;
    for (; k + LANES <= dim; k += LANES) {
        W both = as_words(load_bf16(odd + k));
        const W low = as_words(load_bf16(even + k));
        for (int i = 0; i < PARTS; i++) both.p[i] |= low.p[i] >> 16;
        store((float*)(to + 2 * k), as_float(both));
    }
    for (; k < dim; k++) to[2 * k] = even[k], to[2 * k + 1] = odd[k];
}

// `count` tokens of one head from lane `first` of a panel on; keys are `[count][k_dim]`.
INLINE void write_keys(const uint16_t* keys, int64_t dim, int64_t first, int64_t count, uint8_t* panel) {
    if (count == PANEL) return turn_pairs(keys, dim, PANEL, dim / 2, (uint32_t*)panel);
    for (int64_t i = 0; i < count; i++)
        for (int64_t k = 0; k < dim / 2; k++) memcpy(panel + k * 64 + (first + i) * 4, keys + i * dim + 2 * k, 4);
}
INLINE void write_values(const uint16_t* values, int64_t stride, int64_t dim, int64_t first, int64_t count,
                         uint16_t* panel) {
    for (int64_t i = 0; i < count; i++) {
        const int64_t lane = first + i;
        const uint16_t* v = values + i * stride;
        uint16_t* to = panel + lane / 2 * 2 * dim;
        if (lane % 2 == 0 && i + 1 < count) interleave(v, v + stride, dim, to), i++;
        else
            for (int64_t k = 0; k < dim; k++) to[2 * k + lane % 2] = v[k];
    }
}

// Panels of one head that tokens are written to.
struct Places {
    uint8_t *keys, *values;
};
template <class Source>
INLINE Places places_of(const Job& job, const StepWrite& tokens, int64_t head) {
    const StepRow& row = job.step->row[tokens.row];
    const int64_t panel = tokens.position / PANEL * PANEL;
    return {keys_at<Source>(job, row, head, panel), values_at<Source>(job, row, head, panel)};
}
// Their lines that are written: of keys every one, whichever lanes the tokens have.
template <class Source>
INLINE void fetch_places(const AttentionShape& shape, const StepWrite& tokens, const Places& places) {
    const int64_t first = tokens.position % PANEL, pair = first / 2, pairs = (first + tokens.count + 1) / 2 - pair;
    const int64_t bytes = 2 * shape.v_dim * Source::SIZE;  // of a pair of values
    for (int64_t at = 0; at < PANEL * shape.k_dim * Source::SIZE; at += 64) fetch_to_write(places.keys + at);
    for (int64_t at = 0; at < pairs * bytes; at += 64) fetch_to_write(places.values + pair * bytes + at);
}

// `next`: what is written after it, or null.
template <class Source>
static void write(const Job& job, const StepWrite& tokens, const StepWrite* next) {
    const AttentionShape& shape = *job.shape;
    const AttentionCall& call = *job.call;
    const StepRow& row = job.step->row[tokens.row];
    const int64_t first = tokens.position % PANEL;
    const int64_t token = row.first_token + tokens.position - (row.kv_len - row.num_new);
    float* x = (float*)pool_scratch(2, (shape.k_dim + LANES) * 4 + PANEL * shape.k_dim * 2);
    uint16_t* rounded = (uint16_t*)(x + shape.k_dim + LANES);
    Places ahead = places_of<Source>(job, tokens, 0);
    for (int64_t head = 0; head < shape.kv_heads; head++) {
        const auto [keys, values] = ahead;
        if (head + 1 < shape.kv_heads) {
            ahead = places_of<Source>(job, tokens, head + 1);
            fetch_places<Source>(shape, tokens, ahead);
        } else if (next) fetch_places<Source>(shape, *next, places_of<Source>(job, *next, 0));
        const int64_t v_at = token * call.v.token_stride + head * call.v.head_stride;
        for (int64_t i = 0; i < tokens.count; i++) {
            read_head(call.k, shape.dtype, token + i, head, shape.k_dim, x);
            rotate(call, token + i, x);
            if (Source::SIZE == 2) {
                narrow(x, shape.k_dim, rounded + i * shape.k_dim);
                continue;
            }
            const int64_t lane = first + i;
            for (int64_t k = 0; k < shape.k_dim; k++) ((float*)keys)[k * LANES + lane] = x[k];
            const float* v = (const float*)call.v.data + v_at + i * call.v.token_stride;
            float* to = (float*)values + lane / 2 * 2 * shape.v_dim + lane % 2 * LANES;
            for (int64_t k = 0; k < shape.v_dim; k += LANES) memcpy(to + 2 * k, v + k, LANES * 4);
        }
        if (Source::SIZE == 4) continue;
        write_keys(rounded, shape.k_dim, first, tokens.count, keys);
        write_values((const uint16_t*)call.v.data + v_at, call.v.token_stride, shape.v_dim, first, tokens.count,
                     (uint16_t*)values);
    }
}

// Up to 64 keys of one row and head, and the values beside them.
struct Stretch {
    int panels;
    const uint8_t *keys[LOOKS], *values[LOOKS];
};
template <class Source>
static void look(const Job& job, const StepRow& row, int64_t head, int64_t start, int64_t stop, Stretch& to) {
    to.panels = 0;
    for (int i = 0; i < LOOKS; i++) {
        const int64_t panel = start + i * PANEL;
        if (panel >= stop) {  // keys are read by several panels: the last one again
            to.keys[i] = to.keys[i - 1], to.values[i] = to.values[i - 1];
            continue;
        }
        to.keys[i] = keys_at<Source>(job, row, head, panel), to.values[i] = values_at<Source>(job, row, head, panel);
        to.panels++;
    }
}

// A panel of values in which tokens outside of `first` to `last` are zero instead of whatever they are.
template <class Source>
static void clean(const uint8_t* from, int64_t dim, int64_t first, int64_t last, uint8_t* to) {
    const int64_t pair_bytes = 2 * dim * Source::SIZE;
    for (int64_t pair = 0; pair < PANEL / 2; pair++, from += pair_bytes, to += pair_bytes) {
        const bool even = 2 * pair >= first && 2 * pair < last, odd = 2 * pair + 1 >= first && 2 * pair + 1 < last;
        if (even == odd) {
            even ? memcpy(to, from, pair_bytes) : memset(to, 0, pair_bytes);
            continue;
        }
        if (Source::SIZE == 4) {
            for (int64_t k = 0; k < pair_bytes; k += LANES * 4)
                even == (k / (LANES * 4) % 2 == 0) ? memcpy(to + k, from + k, LANES * 4) : memset(to + k, 0, LANES * 4);
            continue;
        }
        const uint32_t keeps = even ? 0x0000ffff : 0xffff0000;
        for (int64_t k = 0; k < dim; k++) {
            uint32_t both;
            memcpy(&both, from + 4 * k, 4);
            both &= keeps;
            memcpy(to + 4 * k, &both, 4);
        }
    }
}
