// RMS norm for kernels that do more with a row while it is in cache; T is float or bf16, and what is computed kernels.h says.
#pragma once

#include "bf16.h"
#include "context.h"

namespace kt {

// Rows of one thread. rstd may be null.
template <typename T>
void normalise_rows(T* y, float* rstd, const T* x, const T* w, int64_t rows, int64_t cols, float eps);
// dx may be dy.
template <typename T>
void normalise_rows_backward(T* dx, const T* dy, const T* x, const T* w, const float* rstd, int64_t rows, int64_t cols);
// dw of all rows, on all threads.
template <typename T>
void weight_gradient(kt_ctx* ctx, float* dw, const T* dy, const T* x, const float* rstd, int64_t rows, int64_t cols);

}  // namespace kt
