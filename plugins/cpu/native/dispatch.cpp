// The exported functions: one of the instruction sets' kernels, chosen once.
#include "kernels.h"
#include "recording.h"

#include <cstring>
#include <optional>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__x86_64__)
#define LEVELS(each) each(avx512_amx) each(avx512_bf16) each(avx512_vnni) each(avx512) each(avx2)
#else
#define LEVELS(each) each(generic)
#endif

#define DECLARE(level)                                       \
    extern const LinearKernels linear_kernels_##level;       \
    extern const LayerKernels layer_kernels_##level;         \
    extern const ExpertKernels expert_kernels_##level;       \
    extern const AttentionKernels attention_kernels_##level; \
    extern const SamplingKernels sampling_kernels_##level;
LEVELS(DECLARE)

namespace {

struct Level {
    const char* name;
    const LinearKernels* linear;
    const LayerKernels* layer;
    const ExpertKernels* experts;
    const AttentionKernels* attention;
    const SamplingKernels* sampling;
};
#define ENTRY(level)             \
    {#level,                     \
     &linear_kernels_##level,    \
     &layer_kernels_##level,     \
     &expert_kernels_##level,    \
     &attention_kernels_##level, \
     &sampling_kernels_##level},
const Level levels[] = {LEVELS(ENTRY)};
const Level* chosen = nullptr;

#if defined(__x86_64__)
// Not every compiler's `__builtin_cpu_supports` knows the name. Source: Intel's manual, CPUID leaf 7.
bool announces_amx() {
    unsigned a, b, c, d;
    constexpr unsigned BF16 = 1u << 22, TILE = 1u << 24;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & BF16) && (d & TILE);
}
#endif

bool runs_here(const char* name) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    const bool bf16 = vnni && __builtin_cpu_supports("avx512bf16");
    if (!strcmp(name, "avx512_amx")) return bf16 && announces_amx();
    if (!strcmp(name, "avx512_bf16")) return bf16;
    if (!strcmp(name, "avx512_vnni")) return vnni;
    if (!strcmp(name, "avx512")) return avx512;
    if (!strcmp(name, "avx2")) return avx2;
#endif
    return !strcmp(name, "generic");
}

// Linux gives a process the matrix unit's tiles when it asks for them, and all threads with it.
bool granted(const char* name) {
    if (strcmp(name, "avx512_amx")) return true;
#if defined(__linux__) && defined(__x86_64__)
    constexpr long REQUEST = 0x1023, TILE_DATA = 18;  // Documentation/arch/x86/xstate.rst
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
    return false;
#endif
}

}  // namespace

int64_t attention_query_rows() { return chosen->attention->query_rows; }

#define EXPORT extern "C" __attribute__((visibility("default")))

// Chooses kernels by name; with null, the widest that this processor says it has. Returns the name, or null where there
// is no such name or the system refuses what they need. Asked for by name, kernels are taken even where the processor
// does not announce their instructions.
EXPORT const char* jackfield_choose(const char* name) {
    for (const Level& level : levels)
        if ((name ? !strcmp(name, level.name) : runs_here(level.name)) && granted(level.name)) {
            chosen = &level;
            return level.name;
        }
    return nullptr;
}

template <class T>
std::optional<T> copy(const T* of) {
    return of ? std::optional<T>(*of) : std::nullopt;
}
template <class T>
const T* address(const std::optional<T>& of) {
    return of ? &*of : nullptr;
}

EXPORT void jackfield_linear(const Weight* weight, const Rows* x, int64_t rows, const Rows* out, int32_t finish) {
    perform(rows, [weight = *weight, x = *x, out = *out, finish](int64_t rows) {
        chosen->linear->linear(&weight, &x, rows, &out, finish);
    });
}
EXPORT void jackfield_pack(const Weight* weight, const void* from, void* to) { chosen->linear->pack(weight, from, to); }
EXPORT int64_t jackfield_gather(const Weight* weight, const int64_t* ids, int64_t count, const Rows* out) {
    if (recording) recording->refusal = "embeddings are looked up: their ids are checked by Python";
    return recording ? count : chosen->linear->gather(weight, ids, count, out);
}
EXPORT void jackfield_before(const Layer* layer, const void* partial, const void* residual, int64_t rows, void* total,
                             void* qkv) {
    perform(rows,
            [=, layer = *layer](int64_t rows) { chosen->layer->before(&layer, partial, residual, rows, total, qkv); });
}
EXPORT void jackfield_after(const Layer* layer, const void* attended, const void* projected, const void* residual,
                            int64_t rows, void* total, void* partial) {
    perform(rows, [=, layer = *layer](int64_t rows) {
        chosen->layer->after(&layer, attended, projected, residual, rows, total, partial);
    });
}
EXPORT void jackfield_experts(const Experts* experts, const Rows* x, const Rows* logits, int64_t tokens,
                              const Rows* out) {
    perform(tokens, [experts = *experts, x = *x, logits = *logits, out = *out](int64_t tokens) {
        chosen->experts->mixture(&experts, &x, &logits, tokens, &out);
    });
}
EXPORT void jackfield_norm(const Rows* x, const Rows* y, int64_t rows, int64_t width, const void* weight, double eps,
                           const Rows* total, const Rows* to) {
    perform(rows, [=, x = *x, y = copy(y), total = copy(total), to = *to](int64_t rows) {
        chosen->layer->norm(&x, address(y), rows, width, weight, eps, address(total), &to);
    });
}
EXPORT void jackfield_norm_parts(const Rows* x, int64_t rows, int64_t parts, int64_t width, const void* weight,
                                 double eps, const Rows* to) {
    perform(rows, [=, x = *x, to = *to](int64_t rows) {
        chosen->layer->norm_parts(&x, rows, parts, width, weight, eps, &to);
    });
}
EXPORT void jackfield_silu_mul(const Rows* x, int64_t rows, int64_t width, const Rows* to) {
    perform(rows, [=, x = *x, to = *to](int64_t rows) { chosen->layer->silu_mul(&x, rows, width, &to); });
}
EXPORT void jackfield_argmax(const Rows* x, int64_t rows, int64_t width, int64_t* places) {
    perform(rows, [=, x = *x](int64_t rows) { chosen->sampling->argmax(&x, rows, width, places); });
}
// How many tokens there are, `step` says: its plan is made anew for each.
EXPORT void jackfield_attention(const AttentionShape* shape, const AttentionStep* step, const AttentionCall* call) {
    perform(0, [shape = *shape, step, call = *call](int64_t) { chosen->attention->attention(&shape, step, &call); });
}

// Asks for large pages: memory that is read in pieces of some KiB all over the place needs fewer address look-ups.
EXPORT void jackfield_large_pages(void* memory, int64_t bytes) {
#if defined(__linux__)
    const uintptr_t page = 4096, first = ((uintptr_t)memory + page - 1) / page * page,
                    last = ((uintptr_t)memory + bytes) / page * page;
    if (first < last) madvise((void*)first, last - first, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}
