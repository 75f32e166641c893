// RMSNorm with Gemma's offset weight. A row belongs to a warp where it is short (a head), to a block where it is long.
#include "column_sums.cuh"
#include "kernel.cuh"
#include "table.h"

namespace kt {
namespace {

constexpr int kThreads = 256;
constexpr int kLong = 1024;  // columns from which a row gets a block

// One row's owner: a warp, or a block of kThreads threads.
template <bool Long>
struct Owner {
    static constexpr int kRows = Long ? 1 : kThreads / 32;  // rows of a block
    static constexpr int kStep = Long ? kThreads : 32;

    __device__ static int64_t row() { return int64_t(blockIdx.x) * kRows + (Long ? 0 : threadIdx.x / 32); }
    __device__ static int first() { return Long ? threadIdx.x : threadIdx.x % 32; }
    __device__ static float sum(float v) {
        if constexpr (Long) return block_sum<kThreads>(v);
        return warp_sum(v);
    }
};

template <typename T, bool Long>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(T* y, float* rstd, const T* x, const T* w, int64_t rows, int64_t cols, float eps, bool aligned) {
    using Row = Owner<Long>;
    const int64_t row = Row::row();
    if (!Long && row >= rows) return;  // whole warps, and warps do not wait for each other
    x += row * cols;
    y += row * cols;
    float squares = 0;
    for (int64_t c = Row::first() * 8; c < cols; c += Row::kStep * 8) {
        float v[8];
        load8(v, x + c, static_cast<int>(min(cols - c, int64_t{8})), aligned);
#pragma unroll
        for (int i = 0; i < 8; i++) squares += v[i] * v[i];
    }
    const float r = 1.0f / sqrtf(Row::sum(squares) / static_cast<float>(cols) + eps);
    for (int64_t c = Row::first() * 8; c < cols; c += Row::kStep * 8) {
        const int count = static_cast<int>(min(cols - c, int64_t{8}));
        float v[8], weight[8];
        load8(v, x + c, count, aligned);
        load8(weight, w + c, count, aligned);
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = v[i] * r * (1.0f + weight[i]);
        store8(y + c, v, count, aligned);
    }
    if (rstd && Row::first() == 0) rstd[row] = r;
}

// With g = dy (1 + w): dx = rstd (g - x rstd^2 mean(g x)).
template <typename T, bool Long>
__global__ void __launch_bounds__(kThreads) backward_kernel(T* dx, const T* dy, const T* x, const T* w, const float* rstd,
                                                            int64_t rows, int64_t cols, bool aligned) {
    using Row = Owner<Long>;
    const int64_t row = Row::row();
    if (!Long && row >= rows) return;
    dx += row * cols;
    dy += row * cols;
    x += row * cols;
    float dot = 0;
    for (int64_t c = Row::first() * 8; c < cols; c += Row::kStep * 8) {
        const int count = static_cast<int>(min(cols - c, int64_t{8}));
        float g[8], v[8], weight[8];
        load8(g, dy + c, count, aligned);
        load8(v, x + c, count, aligned);
        load8(weight, w + c, count, aligned);
#pragma unroll
        for (int i = 0; i < 8; i++) dot += g[i] * (1.0f + weight[i]) * v[i];
    }
    const float r = rstd[row];
    const float k = Row::sum(dot) / static_cast<float>(cols) * r * r;
    for (int64_t c = Row::first() * 8; c < cols; c += Row::kStep * 8) {
        const int count = static_cast<int>(min(cols - c, int64_t{8}));
        float g[8], v[8], weight[8];
        load8(g, dy + c, count, aligned);
        load8(v, x + c, count, aligned);
        load8(weight, w + c, count, aligned);
#pragma unroll
        for (int i = 0; i < 8; i++) g[i] = r * (g[i] * (1.0f + weight[i]) - v[i] * k);
        store8(dx + c, g, count, aligned);
    }
}

// dw[c] = sum over rows of dy x rstd.
template <typename T>
struct WeightTerm {
    const T* dy;
    const T* x;
    const float* rstd;
    int64_t cols;

    __device__ float operator()(int64_t row, int64_t c) const {
        return load(dy[row * cols + c]) * load(x[row * cols + c]) * rstd[row];
    }
};

int32_t rms_norm_forward(kt_ctx* ctx, void* y, float* rstd, const void* x, const void* w, int64_t rows, int64_t cols,
                         float eps, int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        const bool aligned = cols % 8 == 0 && aligned16(y, x, w);
        const bool wide = cols >= kLong;
        status = start(ctx, "rms_norm_forward", wide ? forward_kernel<T, true> : forward_kernel<T, false>,
                       blocks_of(rows, wide ? 1 : Owner<false>::kRows), kThreads, 0, static_cast<T*>(y), rstd,
                       static_cast<const T*>(x), static_cast<const T*>(w), rows, cols, eps, aligned);
    });
    return known ? status : bad_dtype(ctx, "rms_norm_forward", dtype);
}

int32_t rms_norm_backward(kt_ctx* ctx, void* dx, float* dw, const void* dy, const void* x, const void* w,
                          const float* rstd, int64_t rows, int64_t cols, int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (dx) {
            const bool aligned = cols % 8 == 0 && aligned16(dx, dy, x, w);
            const bool wide = cols >= kLong;
            status = start(ctx, "rms_norm_backward", wide ? backward_kernel<T, true> : backward_kernel<T, false>,
                           blocks_of(rows, wide ? 1 : Owner<false>::kRows), kThreads, 0, static_cast<T*>(dx),
                           static_cast<const T*>(dy), static_cast<const T*>(x), static_cast<const T*>(w), rstd, rows, cols,
                           aligned);
        }
        if (dw && status == KT_OK) {
            status = column_sums(ctx, "rms_norm_backward", dw, rows, cols,
                                 WeightTerm<T>{static_cast<const T*>(dy), static_cast<const T*>(x), rstd, cols});
        }
    });
    return known ? status : bad_dtype(ctx, "rms_norm_backward", dtype);
}

}  // namespace

void add_rms_norm(kt_table& table) {
    table.rms_norm_forward = rms_norm_forward;
    table.rms_norm_backward = rms_norm_backward;
}

}  // namespace kt
