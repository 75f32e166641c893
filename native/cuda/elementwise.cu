// Conversions and sums, eight elements a thread.
#include "kernel.cuh"
#include "table.h"

namespace kt {
namespace {

template <typename Y, typename X>
__global__ void __launch_bounds__(kEach) convert_kernel(Y* y, const X* x, int64_t n, float factor, bool aligned) {
    my_eight(n, aligned, [&](int64_t i, int count, bool whole) {
        float v[8];
        load8(v, x + i, count, whole);
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] *= factor;
        store8(y + i, v, count, whole);
    });
}

template <typename Y, typename A, typename B>
__global__ void __launch_bounds__(kEach) add_kernel(Y* y, const A* a, const B* b, int64_t n, bool aligned) {
    my_eight(n, aligned, [&](int64_t i, int count, bool whole) {
        float v[8], w[8];
        load8(v, a + i, count, whole);
        load8(w, b + i, count, whole);
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] += w[j];
        store8(y + i, v, count, whole);
    });
}

int32_t convert(kt_ctx* ctx, void* y, const void* x, int64_t n, float factor, int32_t y_dtype, int32_t x_dtype) {
    int32_t status = KT_OK;
    const bool known = with_types(y_dtype, x_dtype, [&](auto y_type, auto x_type) {
        using Y = decltype(y_type);
        using X = decltype(x_type);
        status = start(ctx, "convert", convert_kernel<Y, X>, blocks_of_eights(n), kEach, 0, static_cast<Y*>(y),
                       static_cast<const X*>(x), n, factor, aligned16(y, x));
    });
    return known ? status : bad_dtypes(ctx, "convert", y_dtype, x_dtype);
}

int32_t add(kt_ctx* ctx, void* y, const void* a, const void* b, int64_t n, int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "add", add_kernel<T, T, T>, blocks_of_eights(n), kEach, 0, static_cast<T*>(y),
                       static_cast<const T*>(a), static_cast<const T*>(b), n, aligned16(y, a, b));
    });
    return known ? status : bad_dtype(ctx, "add", dtype);
}

int32_t accumulate(kt_ctx* ctx, void* y, const void* x, int64_t n, int32_t y_dtype, int32_t x_dtype) {
    int32_t status = KT_OK;
    const bool known = with_types(y_dtype, x_dtype, [&](auto y_type, auto x_type) {
        using Y = decltype(y_type);
        using X = decltype(x_type);
        status = start(ctx, "accumulate", add_kernel<Y, Y, X>, blocks_of_eights(n), kEach, 0, static_cast<Y*>(y),
                       static_cast<const Y*>(y), static_cast<const X*>(x), n, aligned16(y, x));
    });
    return known ? status : bad_dtypes(ctx, "accumulate", y_dtype, x_dtype);
}

}  // namespace

void add_elementwise(kt_table& table) {
    table.convert = convert;
    table.add = add;
    table.accumulate = accumulate;
}

}  // namespace kt
