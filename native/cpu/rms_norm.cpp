#include <cmath>
#include <cstring>

#include "bf16.h"
#include "context.h"
#include "table.h"

namespace kt {
namespace {

// ---- rows of one thread ------------------------------------------------------------------------------------------

template <typename T>
[[gnu::always_inline]] inline void forward_row(T* y, float* rstd, const T* x, const T* w, int64_t cols, float eps) {
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t c = 0; c < cols; c++) squares += load(x[c]) * load(x[c]);
    const float r = 1.0f / std::sqrt(squares / static_cast<float>(cols) + eps);
    if (rstd) *rstd = r;
    for (int64_t c = 0; c < cols; c++) y[c] = store<T>(load(x[c]) * r * (1.0f + load(w[c])));
}

KT_CLONES void forward_rows(float* y, float* rstd, const float* x, const float* w, int64_t rows, int64_t cols, float eps) {
    for (int64_t i = 0; i < rows; i++) forward_row(y + i * cols, rstd ? rstd + i : nullptr, x + i * cols, w, cols, eps);
}

KT_CLONES void forward_rows(bf16* y, float* rstd, const bf16* x, const bf16* w, int64_t rows, int64_t cols, float eps) {
    for (int64_t i = 0; i < rows; i++) forward_row(y + i * cols, rstd ? rstd + i : nullptr, x + i * cols, w, cols, eps);
}

// With g = dy (1 + w): dx = rstd (g - x rstd^2 mean(g x)).
template <typename T>
[[gnu::always_inline]] inline void backward_row(T* dx, const T* dy, const T* x, const T* w, float rstd, int64_t cols) {
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t c = 0; c < cols; c++) dot += load(dy[c]) * (1.0f + load(w[c])) * load(x[c]);
    const float k = dot / static_cast<float>(cols) * rstd * rstd;
    for (int64_t c = 0; c < cols; c++) {
        dx[c] = store<T>(rstd * (load(dy[c]) * (1.0f + load(w[c])) - load(x[c]) * k));
    }
}

KT_CLONES void backward_rows(float* dx, const float* dy, const float* x, const float* w, const float* rstd, int64_t rows,
                             int64_t cols) {
    for (int64_t i = 0; i < rows; i++) backward_row(dx + i * cols, dy + i * cols, x + i * cols, w, rstd[i], cols);
}

KT_CLONES void backward_rows(bf16* dx, const bf16* dy, const bf16* x, const bf16* w, const float* rstd, int64_t rows,
                             int64_t cols) {
    for (int64_t i = 0; i < rows; i++) backward_row(dx + i * cols, dy + i * cols, x + i * cols, w, rstd[i], cols);
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

KT_CLONES void backward_columns(float* dw, const float* dy, const float* x, const float* rstd, int64_t rows, int64_t cols,
                                int64_t begin, int64_t end) {
    backward_weight(dw, dy, x, rstd, rows, cols, begin, end);
}

KT_CLONES void backward_columns(float* dw, const bf16* dy, const bf16* x, const float* rstd, int64_t rows, int64_t cols,
                                int64_t begin, int64_t end) {
    backward_weight(dw, dy, x, rstd, rows, cols, begin, end);
}

// ---- entries -----------------------------------------------------------------------------------------------------

int32_t rms_norm_forward(kt_ctx* ctx, void* y, float* rstd, const void* x, const void* w, int64_t rows, int64_t cols,
                         float eps, int32_t dtype) {
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, rows, rows_grain(cols), [&](int64_t begin, int64_t end) {
            forward_rows(static_cast<T*>(y) + begin * cols, rstd ? rstd + begin : nullptr,
                         static_cast<const T*>(x) + begin * cols, static_cast<const T*>(w), end - begin, cols, eps);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "rms_norm_forward", dtype);
}

int32_t rms_norm_backward(kt_ctx* ctx, void* dx, float* dw, const void* dy, const void* x, const void* w, const float* rstd,
                          int64_t rows, int64_t cols, int32_t dtype) {
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (dx) {
            parallel_for(ctx, rows, rows_grain(cols), [&](int64_t begin, int64_t end) {
                backward_rows(static_cast<T*>(dx) + begin * cols, static_cast<const T*>(dy) + begin * cols,
                              static_cast<const T*>(x) + begin * cols, static_cast<const T*>(w), rstd + begin, end - begin,
                              cols);
            });
        }
        if (dw) {
            parallel_for(ctx, cols, rows_grain(rows), [&](int64_t begin, int64_t end) {
                backward_columns(dw, static_cast<const T*>(dy), static_cast<const T*>(x), rstd, rows, cols, begin, end);
            });
        }
    });
    return known ? KT_OK : bad_dtype(ctx, "rms_norm_backward", dtype);
}

}  // namespace

void add_rms_norm(kt_table& table) {
    table.rms_norm_forward = rms_norm_forward;
    table.rms_norm_backward = rms_norm_backward;
}

}  // namespace kt
