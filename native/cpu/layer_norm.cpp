#include <cmath>
#include <cstring>

#include "bf16.h"
#include "context.h"
#include "table.h"

namespace kt {
namespace {

// ---- pieces of one thread ----------------------------------------------------------------------------------------

// mean and rstd are those of the first of these rows, or NULL.
template <typename T>
[[gnu::always_inline]] inline void normalise(T* y, float* mean, float* rstd, const T* x, const T* w, const T* b,
                                             int64_t rows, int64_t cols, float eps) {
    const float n = static_cast<float>(cols);
    for (int64_t i = 0; i < rows; i++) {
        const T* xi = x + i * cols;
        T* yi = y + i * cols;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < cols; c++) sum += load(xi[c]);
        const float m = sum / n;
        // A second pass over a row that is in cache, because mean(x^2) - mean(x)^2 cancels.
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (int64_t c = 0; c < cols; c++) squares += (load(xi[c]) - m) * (load(xi[c]) - m);
        const float r = 1.0f / std::sqrt(squares / n + eps);
        if (mean) mean[i] = m;
        if (rstd) rstd[i] = r;
#pragma omp simd
        for (int64_t c = 0; c < cols; c++) yi[c] = store<T>((load(xi[c]) - m) * r * load(w[c]) + load(b[c]));
    }
}

KT_CLONES void forward_rows(float* y, float* mean, float* rstd, const float* x, const float* w, const float* b,
                            int64_t rows, int64_t cols, float eps) {
    normalise(y, mean, rstd, x, w, b, rows, cols, eps);
}

KT_CLONES void forward_rows(bf16* y, float* mean, float* rstd, const bf16* x, const bf16* w, const bf16* b, int64_t rows,
                            int64_t cols, float eps) {
    normalise(y, mean, rstd, x, w, b, rows, cols, eps);
}

// With h = (x - mean) rstd and g = dy w: dx = rstd (g - mean(g) - h mean(g h)).
template <typename T>
[[gnu::always_inline]] inline void backward(T* dx, const T* dy, const T* x, const T* w, const float* mean,
                                            const float* rstd, int64_t rows, int64_t cols) {
    const float n = static_cast<float>(cols);
    for (int64_t i = 0; i < rows; i++) {
        const T* xi = x + i * cols;
        const T* dyi = dy + i * cols;
        T* dxi = dx + i * cols;
        const float m = mean[i];
        const float r = rstd[i];
        float sum = 0;
        float dot = 0;
#pragma omp simd reduction(+ : sum, dot)
        for (int64_t c = 0; c < cols; c++) {
            sum += load(dyi[c]) * load(w[c]);
            dot += load(dyi[c]) * load(w[c]) * (load(xi[c]) - m);
        }
        const float a = sum / n;
        const float k = dot / n * r * r;
#pragma omp simd
        for (int64_t c = 0; c < cols; c++) {
            dxi[c] = store<T>(r * (load(dyi[c]) * load(w[c]) - a - (load(xi[c]) - m) * k));
        }
    }
}

KT_CLONES void backward_rows(float* dx, const float* dy, const float* x, const float* w, const float* mean,
                             const float* rstd, int64_t rows, int64_t cols) {
    backward(dx, dy, x, w, mean, rstd, rows, cols);
}

KT_CLONES void backward_rows(bf16* dx, const bf16* dy, const bf16* x, const bf16* w, const float* mean, const float* rstd,
                             int64_t rows, int64_t cols) {
    backward(dx, dy, x, w, mean, rstd, rows, cols);
}

// Columns [begin, end) of dw and db: a thread owns columns, so that the sum over rows has one order. Groups of rows are
// summed before they join the total, as in sum_rows.
template <typename T>
[[gnu::always_inline]] inline void sum_weights(float* dw, float* db, const T* dy, const T* x, const float* mean,
                                               const float* rstd, int64_t rows, int64_t cols, int64_t begin, int64_t end) {
    constexpr int64_t kGroup = 64;
    constexpr int64_t kBlock = 1024;
    float weight[kBlock];
    float bias[kBlock];
    for (int64_t first = begin; first < end; first += kBlock) {
        const int64_t n = std::min(kBlock, end - first);
        if (dw) std::memset(dw + first, 0, static_cast<size_t>(n) * sizeof(float));
        if (db) std::memset(db + first, 0, static_cast<size_t>(n) * sizeof(float));
        for (int64_t group = 0; group < rows; group += kGroup) {
            std::memset(weight, 0, sizeof weight);
            std::memset(bias, 0, sizeof bias);
            for (int64_t i = group; i < std::min(rows, group + kGroup); i++) {
                const T* dyi = dy + i * cols + first;
                const T* xi = x + i * cols + first;
                const float m = mean[i];
                const float r = rstd[i];
#pragma omp simd
                for (int64_t c = 0; c < n; c++) {
                    weight[c] += load(dyi[c]) * (load(xi[c]) - m) * r;
                    bias[c] += load(dyi[c]);
                }
            }
            for (int64_t c = 0; dw && c < n; c++) dw[first + c] += weight[c];
            for (int64_t c = 0; db && c < n; c++) db[first + c] += bias[c];
        }
    }
}

KT_CLONES void weight_columns(float* dw, float* db, const float* dy, const float* x, const float* mean, const float* rstd,
                              int64_t rows, int64_t cols, int64_t begin, int64_t end) {
    sum_weights(dw, db, dy, x, mean, rstd, rows, cols, begin, end);
}

KT_CLONES void weight_columns(float* dw, float* db, const bf16* dy, const bf16* x, const float* mean, const float* rstd,
                              int64_t rows, int64_t cols, int64_t begin, int64_t end) {
    sum_weights(dw, db, dy, x, mean, rstd, rows, cols, begin, end);
}

// ---- entries -----------------------------------------------------------------------------------------------------

int32_t layer_norm_forward(kt_ctx* ctx, void* y, float* mean, float* rstd, const void* x, const void* w, const void* b,
                           int64_t rows, int64_t cols, float eps, int32_t dtype) {
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, rows, rows_grain(cols), [&](int64_t begin, int64_t end) {
            forward_rows(static_cast<T*>(y) + begin * cols, mean ? mean + begin : nullptr, rstd ? rstd + begin : nullptr,
                         static_cast<const T*>(x) + begin * cols, static_cast<const T*>(w), static_cast<const T*>(b),
                         end - begin, cols, eps);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "layer_norm_forward", dtype);
}

int32_t layer_norm_backward(kt_ctx* ctx, void* dx, float* dw, float* db, const void* dy, const void* x, const void* w,
                            const float* mean, const float* rstd, int64_t rows, int64_t cols, int32_t dtype) {
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (dx) {
            parallel_for(ctx, rows, rows_grain(cols), [&](int64_t begin, int64_t end) {
                backward_rows(static_cast<T*>(dx) + begin * cols, static_cast<const T*>(dy) + begin * cols,
                              static_cast<const T*>(x) + begin * cols, static_cast<const T*>(w), mean + begin,
                              rstd + begin, end - begin, cols);
            });
        }
        if (dw || db) {
            parallel_for(ctx, cols, rows_grain(rows), [&](int64_t begin, int64_t end) {
                weight_columns(dw, db, static_cast<const T*>(dy), static_cast<const T*>(x), mean, rstd, rows, cols, begin,
                               end);
            });
        }
    });
    return known ? KT_OK : bad_dtype(ctx, "layer_norm_backward", dtype);
}

}  // namespace

void add_layer_norm(kt_table& table) {
    table.layer_norm_forward = layer_norm_forward;
    table.layer_norm_backward = layer_norm_backward;
}

}  // namespace kt
