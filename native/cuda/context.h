// What every entry of the CUDA table shares on the host: the context, errors, scratch memory and the faults that kernels find.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>

#include "cuda_kernels.h"
#include "device.cuh"

namespace kt {

// Entries whose indices lie in device memory, where only the kernel can look at them.
enum class Checked {
    embedding_forward,
    embedding_backward,
    gather_rows,
    scatter_rows,
    rms_norm_rope_forward,
    rms_norm_rope_backward,
    attention_forward,
    attention_backward,
    cross_entropy,
    linear_cross_entropy,
    nf4_quantize,
    nf4_quantize_absmax,
    adamw_8bit,
    count
};

constexpr unsigned long long kNoFault = ~0ull;

}  // namespace kt

struct kt_ctx {
    cudaStream_t stream;
    int device;
    int multiprocessors;
    bool warpgroups;  // Hopper's products of four warps, which no other has
    void* scratch;
    int64_t scratch_bytes;
    // Host memory that kernels write to, a word per checked entry: where an index was found that is outside, in the upper
    // half, and the index in the lower; the first of them wins. kNoFault: none.
    unsigned long long* faults;
    int64_t bounds[static_cast<int>(kt::Checked::count)];  // what the indices of the last call must be below
    char error[1024];
    char description[320];
};

namespace kt {

template <typename... Args>
int32_t fail(kt_ctx* ctx, int32_t status, const char* format, Args... args) {
    std::snprintf(ctx->error, sizeof ctx->error, format, args...);
    return status;
}

inline int32_t bad_dtype(kt_ctx* ctx, const char* op, int32_t dtype) {
    return fail(ctx, KT_BAD_ARGUMENT, "%s: dtype %d is not supported", op, static_cast<int>(dtype));
}

inline int32_t bad_dtypes(kt_ctx* ctx, const char* op, int32_t y_dtype, int32_t x_dtype) {
    return fail(ctx, KT_BAD_ARGUMENT, "%s: dtypes %d and %d are not supported", op, static_cast<int>(y_dtype),
                static_cast<int>(x_dtype));
}

// The status of a launch, a copy or an allocation.
inline int32_t status_of(kt_ctx* ctx, const char* op, cudaError_t error) {
    if (error == cudaSuccess) return KT_OK;
    cudaGetLastError();  // taken note of: else the next launch, which asks for it, would report it again
    return fail(ctx, error == cudaErrorMemoryAllocation ? KT_OUT_OF_MEMORY : KT_FAILED, "%s: %s", op,
                cudaGetErrorString(error));
}

// Queues a kernel of `blocks` blocks, which may be none.
template <class... Parameters, class... Arguments>
int32_t start(kt_ctx* ctx, const char* op, void (*kernel)(Parameters...), dim3 blocks, int threads, size_t shared,
              Arguments... arguments) {
    if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return KT_OK;
    return status_of(ctx, op, launch(kernel, blocks, dim3(static_cast<unsigned>(threads)), shared, ctx->stream, arguments...));
}

// How many blocks of `each` cover n, as a grid's first axis.
inline unsigned blocks_of(int64_t n, int64_t each) { return static_cast<unsigned>((n + each - 1) / each); }

// Device memory for one entry's own use until its kernels are done: `count` elements at a multiple of 256 bytes and of
// unspecified content. The context keeps the largest that was asked for. An entry asks before it adds anything to an operand:
// where there is none it is called again, once others have given back theirs.
int32_t reserve_scratch(kt_ctx* ctx, const char* op, int64_t bytes);
template <typename T>
int32_t scratch(kt_ctx* ctx, const char* op, int64_t count, T** out) {
    const int32_t status = reserve_scratch(ctx, op, count * static_cast<int64_t>(sizeof(T)));
    *out = static_cast<T*>(ctx->scratch);
    return status;
}

// The word for faults that this entry's kernel may write, its indices being below `bound`.
inline unsigned long long* fault_word(kt_ctx* ctx, Checked entry, int64_t bound) {
    ctx->bounds[static_cast<int>(entry)] = bound;
    return ctx->faults + static_cast<int>(entry);
}

// KT_OK, or the failure that a kernel has recorded so far.
int32_t check_faults(kt_ctx* ctx);

// Calls f with a value of the type that dtype names; false where it is neither F32 nor BF16.
template <typename F>
bool with_type(int32_t dtype, const F& f) {
    if (dtype == KT_F32) {
        f(float{});
        return true;
    }
    if (dtype == KT_BF16) {
        f(__nv_bfloat16{});
        return true;
    }
    return false;
}

// The same for two dtypes at once.
template <typename F>
bool with_types(int32_t first, int32_t second, const F& f) {
    bool known = false;
    with_type(first, [&](auto a) { known = with_type(second, [&](auto b) { f(a, b); }); });
    return known;
}

}  // namespace kt
