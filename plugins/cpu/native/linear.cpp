// Packing weights, multiplying by them, reading rows out of them.
#include "pack_tile.h"
#include "panels.h"
#include "stream.h"
#include "transpose.h"

static void pack_job(void* context, int64_t tile) { TABLE(pack_tile)(*(Product*)context, tile); }

typedef void (*Multiply)(const Product& product, int64_t begin, int64_t end);
static constexpr Multiply MULTIPLY[] = {multiply_some<Float32Pairs>, multiply_some<Bfloat16Pairs>,
                                        multiply_some<Int8Pairs>, multiply_some<Int4Pairs>};

namespace {

struct Several {
    Product* products;
    const int64_t* ends;  // units of all products up to this one
    int64_t most, least;  // taken together
};
// Takes units until there are none; several at once may belong to more than one product.
void multiply_taken(void* context, int64_t) {
    const Several& all = *(const Several*)context;
    int64_t begin, end;
    while (pool_take(all.most, all.least, &begin, &end))
        while (begin < end) {
            int64_t unit = begin;
            const int64_t which = owner(all.ends, unit), last = end < all.ends[which] ? end : all.ends[which];
            const Product& product = all.products[which];
            MULTIPLY[product.weight->format](product, unit, unit + last - begin);
            begin = last;
        }
}

}  // namespace

void TABLE(multiply_all)(Product* products, int64_t count, int64_t* ends) {
    Several all{products, ends, 1, 1};
    int64_t units = 0;
    for (int64_t i = 0; i < count; i++) {
        const Stream stream = stream_of(products[i]);
        ends[i] = units += stream.units;
        if (stream.together > all.most) all.most = stream.together;
        const int64_t least = fewest_together(products[i], stream);
        if (least > all.least) all.least = least;
    }
    pool_share(units, all.most);
    pool_run(multiply_taken, &all, pool_threads());
}

void TABLE(multiply)(Product& product, bool packs) {
    if (packs) pool_run(pack_job, &product, tiles_of(product.rows));
    if (product.rows <= (in_unit_tiles(product) ? FEW_ROWS : STREAMED_ROWS)) expect_what_follows(stream_of(product));
    int64_t end;
    TABLE(multiply_all)(&product, 1, &end);
}

namespace {

void linear(const Weight* weight, const Rows* x, int64_t rows, const Rows* out, int32_t finish) {
    Turn turn;
    Product product{weight, *x, *out, rows, finish, (float*)pool_shared(0, packed_bytes(rows, weight->depth))};
    TABLE(multiply)(product, true);
}

struct Packing {
    const Weight* weight;
    const uint8_t* from;  // [out][in], of INT4 [out][in / 2] bytes
    uint8_t* to;
};

constexpr int64_t PANELS_A_JOB = 8;
void pack_panels(void* context, int64_t job_number) {
    const Packing& job = *(const Packing*)context;
    const Weight& weight = *job.weight;
    const int64_t begin = job_number * PANELS_A_JOB, end = begin + PANELS_A_JOB;
    const int64_t whole = weight.in / 2;
    const int size = weight.format == FLOAT32 ? 4 : weight.format == BFLOAT16 ? 2 : 1;
    const int64_t row_bytes = weight.format == INT4 ? (weight.in + 1) / 2 : weight.in * size;
    for (int64_t panel = begin; panel < end && panel < weight.panels; panel++) {
        uint8_t* to = job.to + panel * weight.panel_bytes;
        if (weight.format == BFLOAT16 && weight.in == weight.depth && (panel + 1) * LANES <= weight.out) {
            const uint16_t* from = (const uint16_t*)job.from + panel * LANES * weight.in;
            turn_pairs(from, weight.in, LANES, whole, (uint32_t*)to);
            continue;
        }
        memset(to, 0, weight.panel_bytes);
        for (int lane = 0; lane < LANES; lane++) {
            const int64_t row = panel * LANES + lane;
            if (row >= weight.out) break;
            const uint8_t* from = job.from + row * row_bytes;
            switch (weight.format) {
                case FLOAT32:
                    for (int64_t k = 0; k < weight.in; k++) memcpy(to + k * 64 + lane * 4, from + k * 4, 4);
                    break;
                case BFLOAT16:
                    for (int64_t pair = 0; pair < whole; pair++) memcpy(to + pair * 64 + lane * 4, from + pair * 4, 4);
                    if (weight.in & 1) memcpy(to + whole * 64 + lane * 4, from + whole * 4, 2);
                    break;
                case INT8:
                    for (int64_t k = 0; k < weight.in; k++)
                        to[k / 4 * 64 + lane * 4 + byte_of(int(k % 4))] = from[k] ^ 0x80;
                    break;
                case INT4:
                    for (int64_t k = 0; k < weight.in; k++)
                        to[k / 8 * 64 + lane * 4 + byte_of(int(k % 4))] |= (k % 2 ? from[k / 2] >> 4 : from[k / 2] & 15)
                                                                           << (k % 8 / 4 * 4);
                    break;
            }
        }
    }
}

void pack(const Weight* weight, const void* from, void* to) {
    Turn turn;
    Packing job{weight, (const uint8_t*)from, (uint8_t*)to};
    pool_run(pack_panels, &job, (weight->panels + PANELS_A_JOB - 1) / PANELS_A_JOB);
}

// Rows `ids` of the weight, as an embedding reads them. How many were read: fewer than `count` where the next is no
// row.
int64_t gather(const Weight* weight, const int64_t* ids, int64_t count, const Rows* out) {
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= weight->out) return i;
        const int64_t panel = ids[i] / LANES, lane = ids[i] % LANES;
        const uint8_t* data = weight->data + panel * weight->panel_bytes;
        for (int64_t k = 0; k < weight->in; k++) {
            float x = 0;
            switch (weight->format) {
                case FLOAT32:
                    memcpy(&x, data + k * 64 + lane * 4, 4);
                    break;
                case BFLOAT16:
                    x = float_of(((const uint16_t*)data)[k / 2 * 32 + lane * 2 + k % 2]);
                    break;
                case INT8:
                    x = float(data[k / 4 * 64 + lane * 4 + byte_of(int(k % 4))] - 128) *
                        weight->scale[panel * LANES + lane];
                    break;
                case INT4: {
                    const int64_t groups = (weight->depth + weight->group - 1) / weight->group;
                    const int64_t at = (panel * groups + k / weight->group) * LANES + lane;
                    const uint8_t byte = data[k / 8 * 64 + lane * 4 + byte_of(int(k % 4))];
                    x = float(byte >> (k % 8 / 4 * 4) & 15) * weight->scale[at] + weight->offset[at];
                }
            }
            if (out->dtype == IN_BFLOAT16) ((uint16_t*)out->data)[i * out->stride + k] = bf16_of(x);
            else ((float*)out->data)[i * out->stride + k] = x;
        }
    }
    return count;
}

}  // namespace

const LinearKernels TABLE(linear_kernels) = {linear, pack, gather};
