// A mixture of experts: tokens are routed, sorted by expert, and multiplied by each expert's weights, all experts in
// one fork and join a product. Sums over a token's experts are float32.
#include "experts.h"

#include "product.h"
#include "rows.h"

namespace {

enum Shared { PACKED = 0, GATHERED = 1, INNER = 2, SUMS = 3, ROUTES = 4, PRODUCTS = 5 };
constexpr int64_t MOST_TOKENS = 1024;  // that are sorted together: what they take stays small beside the weights
constexpr int64_t TOKENS_A_JOB = 16;
int64_t jobs_of(int64_t tokens) { return (tokens + TOKENS_A_JOB - 1) / TOKENS_A_JOB; }
int64_t lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Some tokens of one call. A pair is a token and one of its experts; `row` is its place among those sorted by expert.
struct Call {
    const Experts* experts;
    Rows x, logits, out;
    int64_t tokens;
    float* sums;                            // [rows][hidden]
    float *odds, *share;                    // [tokens][experts, rounded up], [pairs]
    int64_t *expert, *row, *token, *first;  // [pairs], [pairs], [rows], [experts + 1]: the first row of each
    int64_t odds_width() const { return (experts->count + LANES - 1) / LANES * LANES; }
    int64_t pairs() const { return tokens * experts->top; }
};

// Softmax over the experts, the highest of them, the first of equals.
void route_token(const Call& call, int64_t token) {
    const int64_t count = call.experts->count, top = call.experts->top;
    float* odds = call.odds + token * call.odds_width();
    for (int64_t e = 0; e < count; e += LANES)
        store(odds + e, take(place(call.logits, token, e), call.logits.dtype, some(count - e)));
    float highest = odds[0], total = 0;
    for (int64_t e = 1; e < count; e++) highest = odds[e] > highest ? odds[e] : highest;
    for (int64_t e = 0; e < count; e++) total += odds[e] = std::exp(odds[e] - highest);
    float chosen = 0;
    for (int64_t k = token * top; k < (token + 1) * top; k++) {
        int64_t best = -1;
        for (int64_t e = 0; e < count; e++)  // one that was taken is below zero; of NaN any is taken
            if (!(odds[e] < 0) && (best < 0 || odds[e] > odds[best])) best = e;
        call.expert[k] = best;
        chosen += call.share[k] = odds[best];
        odds[best] = -1;
    }
    const float whole = call.experts->renormalize ? chosen : total;
    for (int64_t k = token * top; k < (token + 1) * top; k++) call.share[k] /= whole;
}
void route(void* context, int64_t job) {
    const Call& call = *(const Call*)context;
    for (int64_t i = job * TOKENS_A_JOB; i < (job + 1) * TOKENS_A_JOB && i < call.tokens; i++) route_token(call, i);
}

void sort(const Call& call) {
    const int64_t count = call.experts->count;
    memset(call.first, 0, (count + 1) * sizeof(int64_t));
    for (int64_t pair = 0; pair < call.pairs(); pair++) call.first[call.expert[pair] + 1]++;
    for (int64_t e = 0; e < count; e++) call.first[e + 1] += call.first[e];
    for (int64_t pair = 0; pair < call.pairs(); pair++) {
        call.row[pair] = call.first[call.expert[pair]]++;
        call.token[call.row[pair]] = pair / call.experts->top;
    }
    for (int64_t e = count; e > 0; e--) call.first[e] = call.first[e - 1];
    call.first[0] = 0;
}

// The experts that have rows, each with its product. `ends` counts their tiles.
struct Active {
    const Call* call;
    Product* products;
    const int64_t** tokens;  // of each product's first row; null: rows are there already
    int64_t* ends;
    int64_t count;
};
void pack(void* context, int64_t job) {
    const Active& active = *(const Active*)context;
    const int64_t number = owner(active.ends, job);
    Product& product = active.products[number];
    if (active.tokens) {
        const Rows& x = active.call->x;
        const int64_t bytes = active.call->experts->hidden * size_of(x.dtype);
        for (int64_t row = tile_start(product.rows, job); row < tile_start(product.rows, job + 1); row++)
            memcpy(place(product.x, row, 0), place(x, active.tokens[number][row], 0), bytes);
    }
    TABLE(pack_tile)(product, job);
}

// Every expert's rows by its own weight. `gathers`: `from` does not hold the rows yet.
void multiply(const Call& call, const Weight* weights, Rows from, Rows to, int32_t finish, bool gathers) {
    const int64_t count = call.experts->count;
    char* room = (char*)pool_shared(PRODUCTS, count * (sizeof(Product) + 3 * sizeof(int64_t)));
    Active active{&call, (Product*)room, nullptr, (int64_t*)(room + count * sizeof(Product)), 0};
    const int64_t** tokens = (const int64_t**)(active.ends + count);
    int64_t tiles = 0, bytes = 0;
    for (int64_t e = 0; e < count; e++) {
        const int64_t first = call.first[e], rows = call.first[e + 1] - first;
        if (!rows) continue;
        tokens[active.count] = call.token + first;
        const Rows x{place(from, first, 0), from.stride, from.dtype}, out{place(to, first, 0), to.stride, to.dtype};
        active.products[active.count] = {weights + e, x, out, rows, finish, nullptr};
        active.ends[active.count++] = tiles += tiles_of(rows);
        bytes += lines(packed_bytes(rows, weights[e].depth));
    }
    char* packed = (char*)pool_shared(PACKED, bytes);
    for (int64_t i = 0; i < active.count; i++) {
        Product& product = active.products[i];
        product.packed = (float*)packed;
        packed += lines(packed_bytes(product.rows, product.weight->depth));
    }
    if (gathers) active.tokens = tokens;
    pool_run(pack, &active, tiles);
    TABLE(multiply_all)(active.products, active.count, active.ends);
}

// Each token's experts by their shares.
void add(void* context, int64_t job) {
    const Call& call = *(const Call*)context;
    const int64_t hidden = call.experts->hidden, top = call.experts->top;
    const Rows sums{call.sums, hidden, IN_FLOAT32};
    for (int64_t token = job * TOKENS_A_JOB; token < (job + 1) * TOKENS_A_JOB && token < call.tokens; token++)
        for (int64_t i = 0; i < hidden; i += LANES) {
            const int64_t count = some(hidden - i);
            V v = zero();
            for (int64_t k = token * top; k < (token + 1) * top; k++)
                v = fma(all(call.share[k]), take(place(sums, call.row[k], i), IN_FLOAT32, count), v);
            give(place(call.out, token, i), call.out.dtype, count, v);
        }
}

void some_tokens(Call& call) {
    const Experts& experts = *call.experts;
    const int64_t pairs = call.pairs(), odds = call.tokens * call.odds_width();
    call.expert = (int64_t*)pool_shared(ROUTES, (3 * pairs + experts.count + 1) * 8 + (odds + pairs) * 4);
    call.row = call.expert + pairs, call.token = call.row + pairs, call.first = call.token + pairs;
    call.odds = (float*)(call.first + experts.count + 1), call.share = call.odds + odds;
    const int32_t dtype = int32_t(experts.dtype);
    const Rows rows{pool_shared(GATHERED, pairs * experts.hidden * size_of(dtype)), experts.hidden, dtype};
    const Rows inner{pool_shared(INNER, pairs * experts.inner * size_of(dtype)), experts.inner, dtype};
    const Rows sums{pool_shared(SUMS, pairs * experts.hidden * 4), experts.hidden, IN_FLOAT32};
    call.sums = (float*)sums.data;
    pool_run(route, &call, jobs_of(call.tokens));
    sort(call);
    multiply(call, experts.gate_up, rows, inner, SILU_MUL, true);
    multiply(call, experts.down, inner, sums, PLAIN, false);
    pool_run(add, &call, jobs_of(call.tokens));
}

void mixture(const Experts* experts, const Rows* x, const Rows* logits, int64_t tokens, const Rows* out) {
    Turn turn;
    for (int64_t first = 0; first < tokens; first += MOST_TOKENS) {
        Call call{};
        call.experts = experts;
        call.tokens = tokens - first < MOST_TOKENS ? tokens - first : MOST_TOKENS;
        call.x = {place(*x, first, 0), x->stride, x->dtype};
        call.logits = {place(*logits, first, 0), logits->stride, logits->dtype};
        call.out = {place(*out, first, 0), out->stride, out->dtype};
        some_tokens(call);
    }
}

}  // namespace

const ExpertKernels TABLE(expert_kernels) = {mixture};
