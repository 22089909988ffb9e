// Packing weights, multiplying by them, reading rows out of them.
#include "pack_tile.h"
#include "panels.h"
#include "stream.h"
#include "transpose.h"

static void pack_job(void* context, int64_t tile) { TABLE(pack_tile)(*(Product*)context, tile); }

static constexpr Work TAKES[] = {take_panels<Float32Pairs>, take_panels<Bfloat16Pairs>, take_panels<Int8Pairs>,
                                 take_panels<Int4Pairs>};
static constexpr Work JOBS[] = {multiply_job<Float32Pairs>, multiply_job<Bfloat16Pairs>, multiply_job<Int8Pairs>,
                                multiply_job<Int4Pairs>};

void TABLE(multiply)(Product& product, bool packs) {
    if (packs) pool_run(pack_job, &product, tiles_of(product.rows));
    const Stream stream = stream_of(product);
    if (product.rows <= STREAMED_ROWS) expect_what_follows(stream);
    pool_share(stream.units, stream.together);
    pool_run(TAKES[product.weight->format], &product, pool_threads());
}

namespace {
struct Several {
    Product* products;
    const int64_t* ends;
};
void multiply_one(void* context, int64_t job) {
    const Several& all = *(const Several*)context;
    Product& product = all.products[owner(all.ends, job)];
    JOBS[product.weight->format](&product, job);
}
}  // namespace

void TABLE(multiply_all)(Product* products, int64_t count, int64_t* ends) {
    int64_t jobs = 0;
    for (int64_t i = 0; i < count; i++) ends[i] = jobs += cut(products[i]).jobs();
    Several all{products, ends};
    pool_run(multiply_one, &all, jobs);
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
#if defined(__AVX512F__)
        if (weight.format == BFLOAT16 && weight.in % 32 == 0 && (panel + 1) * LANES <= weight.out) {
            const uint8_t* from = job.from + panel * LANES * row_bytes;
            for (int64_t pair = 0; pair < whole; pair += 16)
                transpose(from + pair * 4, row_bytes, LANES, to + pair * 64, 64);
            continue;
        }
#endif
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
