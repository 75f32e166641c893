// Rotary position embedding, halves form. A thread turns one pair of every head of a token that its block owns.
#include "kernel.cuh"
#include "table.h"

namespace kt {
namespace {

constexpr int kThreads = 128;

// One block a token. sign is 1 for the rotation, -1 for its transpose. Products are rounded before they are added, in F32 too.
template <typename T>
__global__ void __launch_bounds__(kThreads) rotate_kernel(T* y, const T* x, const float* cos, const float* sin,
                                                          const int32_t* pos, int64_t heads, int64_t half,
                                                          int64_t positions, float sign, unsigned long long* fault) {
    const int64_t t = blockIdx.x;
    const int32_t position = pos[t];
    if (position < 0 || position >= positions) {
        if (threadIdx.x == 0) atomicMin(fault, static_cast<unsigned long long>(t) << 32 | static_cast<uint32_t>(position));
        return;
    }
    cos += position * half;
    sin += position * half;
    for (int64_t i = threadIdx.x; i < heads * half; i += kThreads) {
        const int64_t h = i / half, j = i - h * half;
        const int64_t at = (t * heads + h) * half * 2 + j;
        const float a = load(x[at]), b = load(x[at + half]);
        const float c = cos[j], s = sign * sin[j];
        y[at] = store<T>(__fsub_rn(rounded<T>(__fmul_rn(a, c)), rounded<T>(__fmul_rn(b, s))));
        y[at + half] = store<T>(__fadd_rn(rounded<T>(__fmul_rn(b, c)), rounded<T>(__fmul_rn(a, s))));
    }
}

int32_t rope(kt_ctx* ctx, const char* op, Checked entry, void* y, const void* x, const float* cos, const float* sin,
             const int32_t* pos, int64_t tokens, int64_t heads, int64_t head_dim, int64_t positions, int32_t dtype,
             float sign) {
    if (head_dim % 2 != 0) {
        return fail(ctx, KT_BAD_ARGUMENT, "%s: head_dim %lld is odd", op, static_cast<long long>(head_dim));
    }
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, op, rotate_kernel<T>, blocks_of(tokens, 1), kThreads, 0, static_cast<T*>(y),
                       static_cast<const T*>(x), cos, sin, pos, heads, head_dim / 2, positions, sign,
                       fault_word(ctx, entry, positions));
    });
    if (!known) return bad_dtype(ctx, op, dtype);
    return status == KT_OK ? check_faults(ctx) : status;
}

int32_t rope_forward(kt_ctx* ctx, void* y, const void* x, const float* cos, const float* sin, const int32_t* pos,
                     int64_t tokens, int64_t heads, int64_t head_dim, int64_t positions, int32_t dtype) {
    return rope(ctx, "rope_forward", Checked::rope_forward, y, x, cos, sin, pos, tokens, heads, head_dim, positions, dtype,
                1.0f);
}

int32_t rope_backward(kt_ctx* ctx, void* dx, const void* dy, const float* cos, const float* sin, const int32_t* pos,
                      int64_t tokens, int64_t heads, int64_t head_dim, int64_t positions, int32_t dtype) {
    return rope(ctx, "rope_backward", Checked::rope_backward, dx, dy, cos, sin, pos, tokens, heads, head_dim, positions,
                dtype, -1.0f);
}

}  // namespace

void add_rope(kt_table& table) {
    table.rope_forward = rope_forward;
    table.rope_backward = rope_backward;
}

}  // namespace kt
