#include "bf16.h"
#include "context.h"
#include "table.h"

namespace kt {
namespace {

// The simd pragma tells the compiler that an output which is an input is the same array, not one that overlaps it.

template <typename Y, typename X>
[[gnu::always_inline]] inline void convert_loop(Y* y, const X* x, int64_t n, float factor) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = store<Y>(load(x[i]) * factor);
}

KT_CLONES void convert_range(float* y, const float* x, int64_t n, float factor) { convert_loop(y, x, n, factor); }
KT_CLONES void convert_range(float* y, const bf16* x, int64_t n, float factor) { convert_loop(y, x, n, factor); }
KT_CLONES void convert_range(bf16* y, const float* x, int64_t n, float factor) { convert_loop(y, x, n, factor); }
KT_CLONES void convert_range(bf16* y, const bf16* x, int64_t n, float factor) { convert_loop(y, x, n, factor); }

template <typename T>
[[gnu::always_inline]] inline void add_loop(T* y, const T* a, const T* b, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = store<T>(load(a[i]) + load(b[i]));
}

KT_CLONES void add_range(float* y, const float* a, const float* b, int64_t n) { add_loop(y, a, b, n); }
KT_CLONES void add_range(bf16* y, const bf16* a, const bf16* b, int64_t n) { add_loop(y, a, b, n); }

template <typename Y, typename X>
[[gnu::always_inline]] inline void accumulate_loop(Y* y, const X* x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = store<Y>(load(y[i]) + load(x[i]));
}

KT_CLONES void accumulate_range(float* y, const float* x, int64_t n) { accumulate_loop(y, x, n); }
KT_CLONES void accumulate_range(float* y, const bf16* x, int64_t n) { accumulate_loop(y, x, n); }
KT_CLONES void accumulate_range(bf16* y, const float* x, int64_t n) { accumulate_loop(y, x, n); }
KT_CLONES void accumulate_range(bf16* y, const bf16* x, int64_t n) { accumulate_loop(y, x, n); }

int32_t convert(kt_ctx* ctx, void* y, const void* x, int64_t n, float factor, int32_t y_dtype, int32_t x_dtype) {
    const bool known = with_types(y_dtype, x_dtype, [&](auto y_type, auto x_type) {
        using Y = decltype(y_type);
        using X = decltype(x_type);
        parallel_for(ctx, n, kGrain, [&](int64_t begin, int64_t end) {
            convert_range(static_cast<Y*>(y) + begin, static_cast<const X*>(x) + begin, end - begin, factor);
        });
    });
    return known ? KT_OK : bad_dtypes(ctx, "convert", y_dtype, x_dtype);
}

int32_t add(kt_ctx* ctx, void* y, const void* a, const void* b, int64_t n, int32_t dtype) {
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, n, kGrain, [&](int64_t begin, int64_t end) {
            add_range(static_cast<T*>(y) + begin, static_cast<const T*>(a) + begin, static_cast<const T*>(b) + begin,
                      end - begin);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "add", dtype);
}

int32_t accumulate(kt_ctx* ctx, void* y, const void* x, int64_t n, int32_t y_dtype, int32_t x_dtype) {
    const bool known = with_types(y_dtype, x_dtype, [&](auto y_type, auto x_type) {
        using Y = decltype(y_type);
        using X = decltype(x_type);
        parallel_for(ctx, n, kGrain, [&](int64_t begin, int64_t end) {
            accumulate_range(static_cast<Y*>(y) + begin, static_cast<const X*>(x) + begin, end - begin);
        });
    });
    return known ? KT_OK : bad_dtypes(ctx, "accumulate", y_dtype, x_dtype);
}

}  // namespace

void add_elementwise(kt_table& table) {
    table.convert = convert;
    table.add = add;
    table.accumulate = accumulate;
}

}  // namespace kt
