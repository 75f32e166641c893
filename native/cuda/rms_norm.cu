// RMSNorm with Gemma's offset weight, alone and added to a residual.
#include "rms_norm.cuh"
#include "table.h"

namespace kt {
namespace {

// y = residual + x rstd (1 + w), where there is a residual.
template <typename T, bool Long>
__global__ void __launch_bounds__(kRowThreads) forward_kernel(T* y, float* rstd, const T* x, const T* w, const T* residual,
                                                              int64_t rows, int64_t cols, float eps, bool aligned) {
    using Row = Owner<Long>;
    const int64_t row = Row::row();
    if (!Long && row >= rows) return;  // whole warps, and warps do not wait for each other
    x += row * cols;
    const float r = row_rstd<Long>(x, cols, eps, aligned);
    if (rstd && Row::first() == 0) rstd[row] = r;
    if (!y) return;
    y += row * cols;
    if (residual) residual += row * cols;
    for (int64_t c = Row::first() * 8; c < cols; c += Row::kStep * 8) {
        const int count = static_cast<int>(min(cols - c, int64_t{8}));
        float v[8], weight[8], before[8];
        load8(v, x + c, count, aligned);
        load8(weight, w + c, count, aligned);
        if (residual) load8(before, residual + c, count, aligned);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            v[i] = normalised(v[i], r, weight[i]);
            if (residual) v[i] = __fadd_rn(before[i], rounded<T>(v[i]));
        }
        store8(y + c, v, count, aligned);
    }
}

// Adds to dx where Add.
template <typename T, bool Long, bool Add>
__global__ void __launch_bounds__(kRowThreads) backward_kernel(T* dx, const T* dy, const T* x, const T* w, const float* rstd,
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
        for (int i = 0; i < 8; i++) dot += dot_term(g[i], v[i], weight[i]);
    }
    const float r = rstd[row];
    const float k = Row::sum(dot) / static_cast<float>(cols) * r * r;
    for (int64_t c = Row::first() * 8; c < cols; c += Row::kStep * 8) {
        const int count = static_cast<int>(min(cols - c, int64_t{8}));
        float g[8], v[8], weight[8], before[8];
        load8(g, dy + c, count, aligned);
        load8(v, x + c, count, aligned);
        load8(weight, w + c, count, aligned);
        if constexpr (Add) load8(before, dx + c, count, aligned);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            g[i] = gradient(g[i], v[i], weight[i], r, k);
            if constexpr (Add) g[i] = __fadd_rn(before[i], rounded<T>(g[i]));
        }
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

int32_t forward(kt_ctx* ctx, const char* op, void* y, float* rstd, const void* x, const void* w, const void* residual,
                int64_t rows, int64_t cols, float eps, int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        const bool aligned = cols % 8 == 0 && aligned16(y, x, w, residual);
        status = start(ctx, op, is_long(cols) ? forward_kernel<T, true> : forward_kernel<T, false>,
                       blocks_of(rows, rows_of_block(cols)), kRowThreads, 0, static_cast<T*>(y), rstd,
                       static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(residual), rows, cols, eps,
                       aligned);
    });
    return known ? status : bad_dtype(ctx, op, dtype);
}

int32_t rms_norm_forward(kt_ctx* ctx, void* y, float* rstd, const void* x, const void* w, int64_t rows, int64_t cols,
                         float eps, int32_t dtype) {
    return forward(ctx, "rms_norm_forward", y, rstd, x, w, nullptr, rows, cols, eps, dtype);
}

int32_t rms_norm_add_forward(kt_ctx* ctx, void* y, float* rstd, const void* x, const void* w, const void* residual,
                             int64_t rows, int64_t cols, float eps, int32_t dtype) {
    return forward(ctx, "rms_norm_add_forward", y, rstd, x, w, residual, rows, cols, eps, dtype);
}

template <typename T>
auto backward_kernel_of(bool wide, bool add) {
    if (add) return wide ? backward_kernel<T, true, true> : backward_kernel<T, false, true>;
    return wide ? backward_kernel<T, true, false> : backward_kernel<T, false, false>;
}

int32_t rms_norm_backward(kt_ctx* ctx, void* dx, float* dw, const void* dy, const void* x, const void* w,
                          const float* rstd, int64_t rows, int64_t cols, int32_t accumulate, int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (dw) {  // first: it takes scratch memory
            status = column_sums(ctx, "rms_norm_backward", dw, rows, cols,
                                 WeightTerm<T>{static_cast<const T*>(dy), static_cast<const T*>(x), rstd, cols});
        }
        if (dx && status == KT_OK) {
            const bool aligned = cols % 8 == 0 && aligned16(dx, dy, x, w);
            status = start(ctx, "rms_norm_backward", backward_kernel_of<T>(is_long(cols), accumulate != 0),
                           blocks_of(rows, rows_of_block(cols)), kRowThreads, 0, static_cast<T*>(dx),
                           static_cast<const T*>(dy), static_cast<const T*>(x), static_cast<const T*>(w), rstd, rows, cols,
                           aligned);
        }
    });
    return known ? status : bad_dtype(ctx, "rms_norm_backward", dtype);
}

}  // namespace

void add_rms_norm(kt_table& table) {
    table.rms_norm_forward = rms_norm_forward;
    table.rms_norm_add_forward = rms_norm_add_forward;
    table.rms_norm_backward = rms_norm_backward;
}

}  // namespace kt
