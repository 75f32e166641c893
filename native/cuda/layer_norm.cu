// Layer normalisation. A block owns a row.
#include "column_sums.cuh"
#include "kernel.cuh"
#include "table.h"

namespace kt {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads) forward_kernel(T* y, float* mean, float* rstd, const T* x, const T* w,
                                                           const T* b, int64_t cols, float eps, bool aligned) {
    const int64_t row = blockIdx.x;
    x += row * cols;
    y += row * cols;
    const float n = static_cast<float>(cols);
    const int64_t first = int64_t(threadIdx.x) * 8;
    float sum = 0;
    for (int64_t c = first; c < cols; c += kThreads * 8) {
        float v[8];
        load8(v, x + c, static_cast<int>(min(cols - c, int64_t{8})), aligned);
#pragma unroll
        for (int i = 0; i < 8; i++) sum += v[i];
    }
    const float m = block_sum<kThreads>(sum) / n;
    // A second pass over a row that is in cache, because mean(x^2) - mean(x)^2 cancels.
    float squares = 0;
    for (int64_t c = first; c < cols; c += kThreads * 8) {
        const int count = static_cast<int>(min(cols - c, int64_t{8}));
        float v[8];
        load8(v, x + c, count, aligned);
#pragma unroll
        for (int i = 0; i < 8; i++) squares += i < count ? (v[i] - m) * (v[i] - m) : 0.0f;
    }
    const float r = 1.0f / sqrtf(block_sum<kThreads>(squares) / n + eps);
    for (int64_t c = first; c < cols; c += kThreads * 8) {
        const int count = static_cast<int>(min(cols - c, int64_t{8}));
        float v[8], weight[8], bias[8];
        load8(v, x + c, count, aligned);
        load8(weight, w + c, count, aligned);
        load8(bias, b + c, count, aligned);
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = (v[i] - m) * r * weight[i] + bias[i];
        store8(y + c, v, count, aligned);
    }
    if (threadIdx.x == 0) {
        if (mean) mean[row] = m;
        if (rstd) rstd[row] = r;
    }
}

// With n = (x - mean) rstd and g = dy w: dx = rstd (g - mean(g) - n mean(g n)).
template <typename T>
__global__ void __launch_bounds__(kThreads) backward_kernel(T* dx, const T* dy, const T* x, const T* w, const float* mean,
                                                            const float* rstd, int64_t cols, bool aligned) {
    const int64_t row = blockIdx.x;
    dx += row * cols;
    dy += row * cols;
    x += row * cols;
    const float m = mean[row], r = rstd[row];
    const int64_t first = int64_t(threadIdx.x) * 8;
    float sum = 0, dot = 0;
    for (int64_t c = first; c < cols; c += kThreads * 8) {
        const int count = static_cast<int>(min(cols - c, int64_t{8}));
        float g[8], v[8], weight[8];
        load8(g, dy + c, count, aligned);
        load8(v, x + c, count, aligned);
        load8(weight, w + c, count, aligned);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            sum += g[i] * weight[i];
            dot += g[i] * weight[i] * ((v[i] - m) * r);
        }
    }
    const float mean_g = block_sum<kThreads>(sum) / static_cast<float>(cols);
    const float mean_gn = block_sum<kThreads>(dot) / static_cast<float>(cols);
    for (int64_t c = first; c < cols; c += kThreads * 8) {
        const int count = static_cast<int>(min(cols - c, int64_t{8}));
        float g[8], v[8], weight[8];
        load8(g, dy + c, count, aligned);
        load8(v, x + c, count, aligned);
        load8(weight, w + c, count, aligned);
#pragma unroll
        for (int i = 0; i < 8; i++) g[i] = r * (g[i] * weight[i] - mean_g - (v[i] - m) * r * mean_gn);
        store8(dx + c, g, count, aligned);
    }
}

// dw[c] = sum over rows of dy n.
template <typename T>
struct WeightTerm {
    const T* dy;
    const T* x;
    const float* mean;
    const float* rstd;
    int64_t cols;

    __device__ float operator()(int64_t row, int64_t c) const {
        return load(dy[row * cols + c]) * ((load(x[row * cols + c]) - mean[row]) * rstd[row]);
    }
};

// db[c] = sum over rows of dy.
template <typename T>
struct BiasTerm {
    const T* dy;
    int64_t cols;

    __device__ float operator()(int64_t row, int64_t c) const { return load(dy[row * cols + c]); }
};

int32_t layer_norm_forward(kt_ctx* ctx, void* y, float* mean, float* rstd, const void* x, const void* w, const void* b,
                           int64_t rows, int64_t cols, float eps, int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "layer_norm_forward", forward_kernel<T>, blocks_of(rows, 1), kThreads, 0, static_cast<T*>(y),
                       mean, rstd, static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(b), cols, eps,
                       cols % 8 == 0 && aligned16(y, x, w, b));
    });
    return known ? status : bad_dtype(ctx, "layer_norm_forward", dtype);
}

int32_t layer_norm_backward(kt_ctx* ctx, void* dx, float* dw, float* db, const void* dy, const void* x, const void* w,
                            const float* mean, const float* rstd, int64_t rows, int64_t cols, int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        const T* dyt = static_cast<const T*>(dy);
        const T* xt = static_cast<const T*>(x);
        if (dx) {
            status = start(ctx, "layer_norm_backward", backward_kernel<T>, blocks_of(rows, 1), kThreads, 0,
                           static_cast<T*>(dx), dyt, xt, static_cast<const T*>(w), mean, rstd, cols,
                           cols % 8 == 0 && aligned16(dx, dy, x, w));
        }
        if (dw && status == KT_OK) {
            status = column_sums(ctx, "layer_norm_backward", dw, rows, cols, WeightTerm<T>{dyt, xt, mean, rstd, cols});
        }
        if (db && status == KT_OK) {
            status = column_sums(ctx, "layer_norm_backward", db, rows, cols, BiasTerm<T>{dyt, cols});
        }
    });
    return known ? status : bad_dtype(ctx, "layer_norm_backward", dtype);
}

}  // namespace

void add_layer_norm(kt_table& table) {
    table.layer_norm_forward = layer_norm_forward;
    table.layer_norm_backward = layer_norm_backward;
}

}  // namespace kt
