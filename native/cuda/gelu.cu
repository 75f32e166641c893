// GELU, tanh form, and GeGLU, eight elements a thread.
#include "kernel.cuh"
#include "table.h"

namespace kt {
namespace {

// 0.5 (1 + tanh u) is the sigmoid of z = 2u = x (k1 + k3 x^2), k1 = 2 sqrt(2/pi), k3 = 0.044715 k1. It is made of
// e = exp(-|z|) <= 1, so that neither tail cancels or overflows: s = 1 / (1 + e) or e / (1 + e), s (1 - s) = e / (1 + e)^2.
constexpr float kOne = 1.5957691216f;
constexpr float kThree = 0.0713548163f;

struct Sigmoid {
    float value, slope;
};

__device__ inline Sigmoid gelu_sigmoid(float x) {
    const float e = expf(-fabsf(x * (kOne + kThree * x * x)));
    const float larger = 1.0f / (1.0f + e);
    const float smaller = e * larger;
    return {x < 0.0f ? smaller : larger, smaller * larger};
}

// gelu' = s + x s (1 - s) z'. Beyond |x| = 30 the second term is 0, and z' would overflow at 1e19.
__device__ inline float gelu_derivative(Sigmoid s, float x) {
    const float c = x < -30.0f ? -30.0f : x > 30.0f ? 30.0f : x;
    return s.value + c * s.slope * (kOne + 3.0f * kThree * c * c);
}

template <typename T>
__global__ void __launch_bounds__(kEach) gelu_forward_kernel(T* y, const T* x, int64_t n, bool aligned) {
    my_eight(n, aligned, [&](int64_t i, int count, bool whole) {
        float v[8];
        load8(v, x + i, count, whole);
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] *= gelu_sigmoid(v[j]).value;
        store8(y + i, v, count, whole);
    });
}

template <typename T>
__global__ void __launch_bounds__(kEach) gelu_backward_kernel(T* dx, const T* dy, const T* x, int64_t n, bool aligned) {
    my_eight(n, aligned, [&](int64_t i, int count, bool whole) {
        float v[8], d[8];
        load8(v, x + i, count, whole);
        load8(d, dy + i, count, whole);
#pragma unroll
        for (int j = 0; j < 8; j++) d[j] *= gelu_derivative(gelu_sigmoid(v[j]), v[j]);
        store8(dx + i, d, count, whole);
    });
}

template <typename T>
__global__ void __launch_bounds__(kEach) geglu_forward_kernel(T* y, const T* gate, const T* up, int64_t n, bool aligned) {
    my_eight(n, aligned, [&](int64_t i, int count, bool whole) {
        float g[8], u[8];
        load8(g, gate + i, count, whole);
        load8(u, up + i, count, whole);
#pragma unroll
        for (int j = 0; j < 8; j++) g[j] = rounded<T>(g[j] * gelu_sigmoid(g[j]).value) * u[j];
        store8(y + i, g, count, whole);
    });
}

template <typename T>
__global__ void __launch_bounds__(kEach) geglu_backward_kernel(T* dgate, T* dup, const T* dy, const T* gate, const T* up,
                                                               int64_t n, bool aligned) {
    my_eight(n, aligned, [&](int64_t i, int count, bool whole) {
        float g[8], u[8], d[8];
        load8(g, gate + i, count, whole);
        load8(u, up + i, count, whole);
        load8(d, dy + i, count, whole);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const Sigmoid s = gelu_sigmoid(g[j]);
            u[j] = d[j] * u[j] * gelu_derivative(s, g[j]);
            d[j] *= rounded<T>(g[j] * s.value);
        }
        store8(dgate + i, u, count, whole);
        store8(dup + i, d, count, whole);
    });
}

int32_t gelu_forward(kt_ctx* ctx, void* y, const void* x, int64_t n, int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "gelu_forward", gelu_forward_kernel<T>, blocks_of_eights(n), kEach, 0, static_cast<T*>(y),
                       static_cast<const T*>(x), n, aligned16(y, x));
    });
    return known ? status : bad_dtype(ctx, "gelu_forward", dtype);
}

int32_t gelu_backward(kt_ctx* ctx, void* dx, const void* dy, const void* x, int64_t n, int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "gelu_backward", gelu_backward_kernel<T>, blocks_of_eights(n), kEach, 0, static_cast<T*>(dx),
                       static_cast<const T*>(dy), static_cast<const T*>(x), n, aligned16(dx, dy, x));
    });
    return known ? status : bad_dtype(ctx, "gelu_backward", dtype);
}

int32_t geglu_forward(kt_ctx* ctx, void* y, const void* gate, const void* up, int64_t n, int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "geglu_forward", geglu_forward_kernel<T>, blocks_of_eights(n), kEach, 0, static_cast<T*>(y),
                       static_cast<const T*>(gate), static_cast<const T*>(up), n, aligned16(y, gate, up));
    });
    return known ? status : bad_dtype(ctx, "geglu_forward", dtype);
}

int32_t geglu_backward(kt_ctx* ctx, void* dgate, void* dup, const void* dy, const void* gate, const void* up, int64_t n,
                       int32_t dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "geglu_backward", geglu_backward_kernel<T>, blocks_of_eights(n), kEach, 0,
                       static_cast<T*>(dgate), static_cast<T*>(dup), static_cast<const T*>(dy),
                       static_cast<const T*>(gate), static_cast<const T*>(up), n, aligned16(dgate, dup, dy, gate, up));
    });
    return known ? status : bad_dtype(ctx, "geglu_backward", dtype);
}

}  // namespace

void add_gelu(kt_table& table) {
    table.gelu_forward = gelu_forward;
    table.gelu_backward = gelu_backward;
    table.geglu_forward = geglu_forward;
    table.geglu_backward = geglu_backward;
}

}  // namespace kt
