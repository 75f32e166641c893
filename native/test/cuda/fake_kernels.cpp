// The kernel library of the CUDA for tests: the CPU's kernels, of which every operand must be device memory.
#include <cstdio>
#include <type_traits>

#include "fake_cuda.h"
#include "kernels.h"

struct kt_ctx {
    kt_ctx* cpu;
    void* stream;
    char error[256];
    bool failed_here;
    char refusal[256];  // of a kernel that looks at the values of its indices: told at the next read, "" for none
};

namespace {

const kt_table* cpu() { return lapidary_cpu_kernels(); }

template <typename T>
bool is_operand(const T& argument) {
    if constexpr (std::is_pointer_v<std::remove_pointer_t<T>> || std::is_same_v<T, const int64_t*>) {
        return !fake_cuda_is_device(argument, 0);  // arrays of the host
    } else if constexpr (std::is_pointer_v<T>) {
        return argument == nullptr || fake_cuda_is_device(argument, 0);
    } else {
        (void)argument;
        return true;
    }
}

// A member of the table that calls the CPU's, with the device's memory open meanwhile.
template <auto Member>
struct Guarded;

template <typename... Arguments, int32_t (*kt_table::*Member)(kt_ctx*, Arguments...)>
struct Guarded<Member> {
    static inline const char* name = "";

    static int32_t call(kt_ctx* ctx, Arguments... arguments) {
        ctx->failed_here = true;
        if (!ctx->stream) {
            std::snprintf(ctx->error, sizeof ctx->error, "a kernel without a stream");
            return KT_FAILED;
        }
        if (!(is_operand(arguments) && ...)) {
            std::snprintf(ctx->error, sizeof ctx->error, "an operand is not device memory");
            return KT_FAILED;
        }
        if (const int32_t status = fake_cuda_begin(name)) {
            std::snprintf(ctx->error, sizeof ctx->error, "%s: as the test wants it", name);
            return status;
        }
        ctx->failed_here = false;
        fake::Open open;
        return (cpu()->*Member)(ctx->cpu, arguments...);
    }
};

// One that finds fault with its operands' values, which a card tells after the call has returned.
template <auto Member>
struct Late;

template <typename... Arguments, int32_t (*kt_table::*Member)(kt_ctx*, Arguments...)>
struct Late<Member> {
    static int32_t call(kt_ctx* ctx, Arguments... arguments) {
        const int32_t status = Guarded<Member>::call(ctx, arguments...);
        if (status != KT_BAD_ARGUMENT) return status;
        if (!*ctx->refusal) std::snprintf(ctx->refusal, sizeof ctx->refusal, "%s", cpu()->last_error(ctx->cpu));
        return KT_OK;
    }
};

int32_t context_create(kt_ctx** out, int32_t device) {
    kt_ctx* ctx = new kt_ctx{};
    *out = ctx;
    return device == 0 ? cpu()->context_create(&ctx->cpu, 1) : KT_BAD_ARGUMENT;
}

int32_t context_destroy(kt_ctx* ctx) {
    const int32_t status = cpu()->context_destroy(ctx->cpu);
    delete ctx;
    return status;
}

const char* last_error(kt_ctx* ctx) { return ctx->failed_here ? ctx->error : cpu()->last_error(ctx->cpu); }

const char* describe(kt_ctx*) { return "kernels of the CPU"; }

int32_t memory_allocate(kt_ctx* ctx, void**, int64_t) {
    ctx->failed_here = true;
    std::snprintf(ctx->error, sizeof ctx->error, "memory is the runtime's to give");
    return KT_FAILED;
}

int32_t memory_free(kt_ctx* ctx, void*, int64_t) { return memory_allocate(ctx, nullptr, 0); }

// Its result lies on the host. The device's own way is tested: no fused loss.
int32_t linear_cross_entropy_supported(kt_ctx*, int32_t* supported, int64_t, int32_t) {
    supported[0] = 0;
    return KT_OK;
}

kt_table make_table() {
    kt_table t{};
    t.abi = KT_ABI;
    t.bytes = sizeof(kt_table);
    t.context_create = context_create;
    t.context_destroy = context_destroy;
    t.last_error = last_error;
    t.describe = describe;
    t.memory_allocate = memory_allocate;
    t.memory_free = memory_free;
    t.linear_cross_entropy_supported = linear_cross_entropy_supported;
#define NAMED(member, how) (Guarded<&kt_table::member>::name = #member, t.member = how<&kt_table::member>::call)
#define GUARD(member) NAMED(member, Guarded)
#define LATE(member) NAMED(member, Late)
    GUARD(memory_zero);
    GUARD(convert);
    GUARD(add);
    GUARD(accumulate);
    GUARD(dropout);
    GUARD(gelu_forward);
    GUARD(gelu_backward);
    GUARD(geglu_forward);
    GUARD(geglu_backward);
    GUARD(rms_norm_forward);
    GUARD(rms_norm_add_forward);
    GUARD(rms_norm_backward);
    GUARD(layer_norm_forward);
    GUARD(layer_norm_backward);
    LATE(embedding_forward);
    LATE(embedding_backward);
    LATE(gather_rows);
    LATE(scatter_rows);
    GUARD(add_rows);
    GUARD(sum_rows);
    LATE(rms_norm_rope_forward);
    LATE(rms_norm_rope_backward);
    LATE(attention_forward);
    LATE(attention_backward);
    GUARD(attention_extend);
    GUARD(attention_decode);
    GUARD(linear_few);
    GUARD(lora_down_forward);
    GUARD(lora_down_backward_weight);
    GUARD(lora_down_backward_input);
    GUARD(patch_unfold);
    GUARD(average_pool_forward);
    GUARD(average_pool_backward);
    LATE(cross_entropy);
    LATE(linear_cross_entropy);
    LATE(nf4_quantize);
    LATE(nf4_quantize_absmax);
    GUARD(nf4_dequantize);
    GUARD(nf4_scales);
    GUARD(nf4_linear_forward);
    GUARD(nf4_linear_backward);
    GUARD(sum_squares);
    GUARD(adamw);
    GUARD(adamw_rows);
    LATE(adamw_8bit);
    GUARD(sgd);
    GUARD(sgd_rows);
#undef GUARD
#undef LATE
#undef NAMED
    return t;
}

}  // namespace

FAKE_EXPORT const kt_table* lapidary_cuda_kernels() {
    static const kt_table table = make_table();
    return &table;
}

FAKE_EXPORT int32_t lapidary_cuda_use_stream(kt_ctx* ctx, void* stream) {
    ctx->stream = stream;
    return KT_OK;
}

FAKE_EXPORT int32_t lapidary_cuda_check(kt_ctx* ctx) {
    if (!*ctx->refusal) return KT_OK;
    std::snprintf(ctx->error, sizeof ctx->error, "%s", ctx->refusal);
    ctx->failed_here = true;
    *ctx->refusal = '\0';
    return KT_BAD_ARGUMENT;
}
