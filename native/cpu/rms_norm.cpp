#include "rms_norm.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "table.h"

namespace kt {
namespace {

// ---- rows of one thread ------------------------------------------------------------------------------------------

// With a residual its sum with what was normalised, rounded on the way: the second loop keeps the two roundings apart.
template <typename T>
[[gnu::always_inline]] inline void forward_row(T* y, float* rstd, const T* x, const T* w, const T* residual, int64_t cols,
                                               float eps) {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t c = 0; c < cols; c++) squares += load(x[c]) * load(x[c]);
    const float r = 1.0f / std::sqrt(squares / static_cast<float>(cols) + eps);
    if (rstd) *rstd = r;
    if (!y) return;
    for (int64_t c = 0; c < cols; c++) y[c] = store<T>(load(x[c]) * r * (1.0f + load(w[c])));
    if (!residual) return;
    for (int64_t c = 0; c < cols; c++) y[c] = store<T>(load(residual[c]) + load(y[c]));
}

template <typename T>
KT_CLONES void forward_rows(T* y, float* rstd, const T* x, const T* w, const T* residual, int64_t rows, int64_t cols,
                            float eps) {
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = i * cols;
        forward_row(y ? y + at : nullptr, rstd ? rstd + i : nullptr, x + at, w, residual ? residual + at : nullptr, cols, eps);
    }
}

// With g = dy (1 + w): dx = rstd (g - x k), k = rstd^2 mean(g x). dx may be dy.
template <typename T>
[[gnu::always_inline]] inline float mean_factor(const T* dy, const T* x, const T* w, float rstd, int64_t cols) {
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t c = 0; c < cols; c++) dot += load(dy[c]) * (1.0f + load(w[c])) * load(x[c]);
    return dot / static_cast<float>(cols) * rstd * rstd;
}

template <typename T>
[[gnu::always_inline]] inline void gradients(T* dx, const T* dy, const T* x, const T* w, float rstd, float k, int64_t n) {
#pragma omp simd
    for (int64_t c = 0; c < n; c++) dx[c] = store<T>(rstd * (load(dy[c]) * (1.0f + load(w[c])) - load(x[c]) * k));
}

template <typename T>
KT_CLONES void backward_rows(T* dx, const T* dy, const T* x, const T* w, const float* rstd, int64_t rows, int64_t cols) {
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = i * cols;
        gradients(dx + at, dy + at, x + at, w, rstd[i], mean_factor(dy + at, x + at, w, rstd[i], cols), cols);
    }
}

// The same, added to dx by pieces of a row, which keep the gradient's own rounding.
template <typename T>
KT_CLONES void add_backward_rows(T* dx, const T* dy, const T* x, const T* w, const float* rstd, int64_t rows, int64_t cols) {
    constexpr int64_t kPiece = 512;
    T piece[kPiece];
    for (int64_t i = 0; i < rows; i++) {
        const float k = mean_factor(dy + i * cols, x + i * cols, w, rstd[i], cols);
        for (int64_t begin = 0; begin < cols; begin += kPiece) {
            const int64_t n = std::min(kPiece, cols - begin);
            const int64_t at = i * cols + begin;
            gradients(piece, dy + at, x + at, w + begin, rstd[i], k, n);
            for (int64_t c = 0; c < n; c++) dx[at + c] = store<T>(load(dx[at + c]) + load(piece[c]));
        }
    }
}

// Columns [begin, end) of dw: a thread owns columns, so that the sum over rows has one order.
template <typename T>
[[gnu::always_inline]] inline void backward_weight(float* dw, const T* dy, const T* x, const float* rstd, int64_t rows,
                                                   int64_t cols, int64_t begin, int64_t end) {
    std::memset(dw + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
    for (int64_t i = 0; i < rows; i++) {
        const T* dyi = dy + i * cols;
        const T* xi = x + i * cols;
        const float r = rstd[i];
        for (int64_t c = begin; c < end; c++) dw[c] += load(dyi[c]) * load(xi[c]) * r;
    }
}

template <typename T>
KT_CLONES void backward_columns(float* dw, const T* dy, const T* x, const float* rstd, int64_t rows, int64_t cols,
                                int64_t begin, int64_t end) {
    backward_weight(dw, dy, x, rstd, rows, cols, begin, end);
}

// ---- entries -----------------------------------------------------------------------------------------------------

int32_t forward(kt_ctx* ctx, const char* op, void* y, float* rstd, const void* x, const void* w, const void* residual,
                int64_t rows, int64_t cols, float eps, int32_t dtype) {
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, rows, rows_grain(cols), [&](int64_t begin, int64_t end) {
            const int64_t at = begin * cols;
            forward_rows(y ? static_cast<T*>(y) + at : nullptr, rstd ? rstd + begin : nullptr, static_cast<const T*>(x) + at,
                         static_cast<const T*>(w), residual ? static_cast<const T*>(residual) + at : nullptr, end - begin,
                         cols, eps);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, op, dtype);
}

int32_t rms_norm_forward(kt_ctx* ctx, void* y, float* rstd, const void* x, const void* w, int64_t rows, int64_t cols,
                         float eps, int32_t dtype) {
    return forward(ctx, "rms_norm_forward", y, rstd, x, w, nullptr, rows, cols, eps, dtype);
}

int32_t rms_norm_add_forward(kt_ctx* ctx, void* y, float* rstd, const void* x, const void* w, const void* residual,
                             int64_t rows, int64_t cols, float eps, int32_t dtype) {
    return forward(ctx, "rms_norm_add_forward", y, rstd, x, w, residual, rows, cols, eps, dtype);
}

int32_t rms_norm_backward(kt_ctx* ctx, void* dx, float* dw, const void* dy, const void* x, const void* w, const float* rstd,
                          int64_t rows, int64_t cols, int32_t accumulate, int32_t dtype) {
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (dx) {
            parallel_for(ctx, rows, rows_grain(cols), [&](int64_t begin, int64_t end) {
                const int64_t at = begin * cols;
                T* to = static_cast<T*>(dx) + at;
                const T* from = static_cast<const T*>(dy) + at;
                const T* of = static_cast<const T*>(x) + at;
                const T* weight = static_cast<const T*>(w);
                const auto rows_of = accumulate ? add_backward_rows<T> : backward_rows<T>;
                rows_of(to, from, of, weight, rstd + begin, end - begin, cols);
            });
        }
        if (dw) weight_gradient(ctx, dw, static_cast<const T*>(dy), static_cast<const T*>(x), rstd, rows, cols);
    });
    return known ? KT_OK : bad_dtype(ctx, "rms_norm_backward", dtype);
}

}  // namespace

template <typename T>
void normalise_rows(T* y, float* rstd, const T* x, const T* w, int64_t rows, int64_t cols, float eps) {
    forward_rows<T>(y, rstd, x, w, nullptr, rows, cols, eps);
}

template <typename T>
void normalise_rows_backward(T* dx, const T* dy, const T* x, const T* w, const float* rstd, int64_t rows, int64_t cols) {
    backward_rows<T>(dx, dy, x, w, rstd, rows, cols);
}

template <typename T>
void weight_gradient(kt_ctx* ctx, float* dw, const T* dy, const T* x, const float* rstd, int64_t rows, int64_t cols) {
    parallel_for(ctx, cols, rows_grain(rows), [&](int64_t begin, int64_t end) {
        backward_columns<T>(dw, dy, x, rstd, rows, cols, begin, end);
    });
}

template void normalise_rows(float*, float*, const float*, const float*, int64_t, int64_t, float);
template void normalise_rows(bf16*, float*, const bf16*, const bf16*, int64_t, int64_t, float);
template void normalise_rows_backward(float*, const float*, const float*, const float*, const float*, int64_t, int64_t);
template void normalise_rows_backward(bf16*, const bf16*, const bf16*, const bf16*, const float*, int64_t, int64_t);
template void weight_gradient(kt_ctx*, float*, const float*, const float*, const float*, int64_t, int64_t);
template void weight_gradient(kt_ctx*, float*, const bf16*, const bf16*, const float*, int64_t, int64_t);

void add_rms_norm(kt_table& table) {
    table.rms_norm_forward = rms_norm_forward;
    table.rms_norm_add_forward = rms_norm_add_forward;
    table.rms_norm_backward = rms_norm_backward;
}

}  // namespace kt
