#include "context.h"

#include <new>

#include "table.h"

namespace kt {
namespace {

const char* const kNames[] = {
    "embedding_forward", "embedding_backward", "gather_rows", "scatter_rows", "rms_norm_rope_forward",
    "rms_norm_rope_backward",
    "attention_forward", "attention_backward", "cross_entropy", "linear_cross_entropy", "nf4_quantize",
    "nf4_quantize_absmax", "adamw_8bit",
};
static_assert(sizeof kNames / sizeof kNames[0] == static_cast<size_t>(Checked::count), "a name for each");

void release(kt_ctx* ctx) {
    if (ctx->scratch) cudaFreeAsync(ctx->scratch, ctx->stream);
    if (ctx->faults) cudaFreeHost(ctx->faults);
    delete ctx;
}

int32_t context_create(kt_ctx** out, int32_t device) {
    kt_ctx* ctx = new (std::nothrow) kt_ctx{};
    if (!ctx) return KT_OUT_OF_MEMORY;
    ctx->device = device;
    cudaDeviceProp found{};
    void* faults = nullptr;
    cudaError_t error = cudaSetDevice(device);
    if (error == cudaSuccess) error = cudaGetDeviceProperties(&found, device);
    if (error == cudaSuccess) {
        error = cudaHostAlloc(&faults, sizeof(unsigned long long) * static_cast<size_t>(Checked::count), cudaHostAllocMapped);
    }
    if (error != cudaSuccess) {
        cudaGetLastError();  // taken note of: else the next launch would report it again
        release(ctx);
        return error == cudaErrorMemoryAllocation ? KT_OUT_OF_MEMORY : KT_FAILED;
    }
    ctx->faults = static_cast<unsigned long long*>(faults);
    std::fill(ctx->faults, ctx->faults + static_cast<int>(Checked::count), kNoFault);
    ctx->multiprocessors = found.multiProcessorCount;
    ctx->warpgroups = found.major == 9;
    std::snprintf(ctx->description, sizeof ctx->description, "%s, compute capability %d.%d, %d multiprocessors, %lld MiB",
                  found.name, found.major, found.minor, found.multiProcessorCount,
                  static_cast<long long>(found.totalGlobalMem >> 20));
    *out = ctx;
    return KT_OK;
}

int32_t context_destroy(kt_ctx* ctx) {
    release(ctx);
    return KT_OK;
}

const char* last_error(kt_ctx* ctx) { return ctx->error; }

const char* describe(kt_ctx* ctx) { return ctx->description; }

// Null where it fails. `what`: of the text.
int32_t allocate(kt_ctx* ctx, void** out, const char* op, int64_t bytes, const char* what) {
    *out = nullptr;
    const cudaError_t error = cudaMallocAsync(out, static_cast<size_t>(std::max<int64_t>(bytes, 1)), ctx->stream);
    if (error == cudaSuccess) return KT_OK;
    *out = nullptr;
    char name[128];
    std::snprintf(name, sizeof name, "%s: %lld bytes%s", op, static_cast<long long>(bytes), what);
    return status_of(ctx, name, error);
}

int32_t memory_allocate(kt_ctx* ctx, void** out, int64_t bytes) {
    int32_t status = allocate(ctx, out, "memory_allocate", bytes, "");
    if (status != KT_OK || bytes == 0) return status;
    status = status_of(ctx, "memory_allocate", cudaMemsetAsync(*out, 0, static_cast<size_t>(bytes), ctx->stream));
    if (status == KT_OK) return KT_OK;
    if (cudaFreeAsync(*out, ctx->stream) != cudaSuccess) cudaGetLastError();  // the first failure is what is told
    *out = nullptr;
    return status;
}

int32_t memory_free(kt_ctx* ctx, void* memory, int64_t) {
    return status_of(ctx, "memory_free", cudaFreeAsync(memory, ctx->stream));
}

int32_t memory_zero(kt_ctx* ctx, void* memory, int64_t bytes) {
    if (bytes == 0) return KT_OK;
    return status_of(ctx, "memory_zero", cudaMemsetAsync(memory, 0, static_cast<size_t>(bytes), ctx->stream));
}

}  // namespace

int32_t reserve_scratch(kt_ctx* ctx, const char* op, int64_t bytes) {
    if (bytes <= ctx->scratch_bytes) return KT_OK;
    // Ordered by the stream: kernels that still use the old memory are done before it goes.
    int32_t status = ctx->scratch ? status_of(ctx, op, cudaFreeAsync(ctx->scratch, ctx->stream)) : KT_OK;
    ctx->scratch = nullptr;
    ctx->scratch_bytes = 0;
    if (status == KT_OK) status = allocate(ctx, &ctx->scratch, op, bytes, " of scratch memory");
    if (status == KT_OK) ctx->scratch_bytes = bytes;
    return status;
}

int32_t check_faults(kt_ctx* ctx) {
    for (int i = 0; i < static_cast<int>(Checked::count); i++) {
        const unsigned long long word = *static_cast<volatile unsigned long long*>(ctx->faults + i);
        if (word == kNoFault) continue;
        *static_cast<volatile unsigned long long*>(ctx->faults + i) = kNoFault;
        const int value = static_cast<int32_t>(word & 0xffffffffu);
        const long long bound = ctx->bounds[i];
        const long long at = static_cast<long long>(word >> 32);
        switch (static_cast<Checked>(i)) {
            case Checked::nf4_quantize:
                return fail(ctx, KT_BAD_ARGUMENT, "nf4_quantize: value %lld is %s, expected finite values",
                            static_cast<long long>(word / 2),
                            word % 2 ? "too large for the dtype of the weight" : "not finite");
            case Checked::nf4_quantize_absmax:
                return fail(ctx, KT_BAD_ARGUMENT, "nf4_quantize_absmax: the block maxima are too large to have a mean");
            case Checked::adamw_8bit:
                return fail(ctx, KT_BAD_ARGUMENT, "adamw_8bit: the numbers of a map do not rise");
            case Checked::rms_norm_rope_forward:
            case Checked::rms_norm_rope_backward:
                return fail(ctx, KT_BAD_ARGUMENT, "%s: position %d of token %lld is outside the table of %lld", kNames[i],
                            value, at, bound);
            case Checked::attention_forward:
            case Checked::attention_backward:
                return fail(ctx, KT_BAD_ARGUMENT, "%s: starts[%lld] is %d; starts go from 0 to %lld without going back",
                            kNames[i], at, value, bound);
            case Checked::cross_entropy:
            case Checked::linear_cross_entropy:
                return fail(ctx, KT_BAD_ARGUMENT, "%s: target %d of row %lld is outside the %lld logits", kNames[i], value, at,
                            bound);
            default:
                return fail(ctx, KT_BAD_ARGUMENT, "%s: index %d at %lld is outside [0, %lld)", kNames[i], value, at, bound);
        }
    }
    return KT_OK;
}

void add_context(kt_table& table) {
    table.context_create = context_create;
    table.context_destroy = context_destroy;
    table.last_error = last_error;
    table.describe = describe;
    table.memory_allocate = memory_allocate;
    table.memory_free = memory_free;
    table.memory_zero = memory_zero;
}

}  // namespace kt

#define KT_EXPORT extern "C" __attribute__((visibility("default")))

KT_EXPORT int32_t lapidary_cuda_use_stream(kt_ctx* ctx, void* stream) {
    ctx->stream = static_cast<cudaStream_t>(stream);
    return KT_OK;
}

KT_EXPORT int32_t lapidary_cuda_check(kt_ctx* ctx) { return kt::check_faults(ctx); }
