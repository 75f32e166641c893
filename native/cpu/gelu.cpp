#include "bf16.h"
#include "context.h"
#include "math.h"
#include "table.h"

namespace kt {
namespace {

// 0.5 (1 + tanh u) is the sigmoid of z = 2u = x (k1 + k3 x^2), k1 = 2 sqrt(2/pi), k3 = 0.044715 k1. It is made of
// e = exp(-|z|) <= 1, so that neither tail cancels or overflows: s = 1 / (1 + e) or e / (1 + e), s (1 - s) = e / (1 + e)^2.
constexpr float kOne = 1.5957691216f;
constexpr float kThree = 0.0713548163f;

struct Sigmoid {
    float value;
    float slope;
};

[[gnu::always_inline]] inline Sigmoid gelu_sigmoid(float x) {
    const float z = x * (kOne + kThree * x * x);
    const float e = exp_nonpositive(-float_of_bits(bits_of_float(z) & 0x7fffffffu));
    const float larger = 1.0f / (1.0f + e);
    const float smaller = e * larger;
    return {x < 0.0f ? smaller : larger, smaller * larger};
}

[[gnu::always_inline]] inline float gelu_value(float x) { return x * gelu_sigmoid(x).value; }

// gelu' = s + x s (1 - s) z'. Beyond |x| = 30 the second term is 0, and z' would overflow at 1e19.
[[gnu::always_inline]] inline float gelu_derivative(Sigmoid s, float x) {
    float c = x < -30.0f ? -30.0f : x;
    c = c > 30.0f ? 30.0f : c;
    return s.value + c * s.slope * (kOne + 3.0f * kThree * c * c);
}

template <typename T>
[[gnu::always_inline]] inline void gelu_forward_loop(T* y, const T* x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = store<T>(gelu_value(load(x[i])));
}

template <typename T>
[[gnu::always_inline]] inline void gelu_backward_loop(T* dx, const T* dy, const T* x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[i] = store<T>(load(dy[i]) * gelu_derivative(gelu_sigmoid(load(x[i])), load(x[i])));
}

template <typename T>
[[gnu::always_inline]] inline void geglu_forward_loop(T* y, const T* gate, const T* up, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = store<T>(rounded<T>(gelu_value(load(gate[i]))) * load(up[i]));
}

template <typename T>
[[gnu::always_inline]] inline void geglu_backward_loop(T* dgate, T* dup, const T* dy, const T* gate, const T* up,
                                                       int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float x = load(gate[i]);
        // Twice in the text, once in the code: a struct variable in the body would keep the loop from being vectorised.
        const float s = gelu_sigmoid(x).value;
        dgate[i] = store<T>(load(dy[i]) * load(up[i]) * gelu_derivative(gelu_sigmoid(x), x));
        dup[i] = store<T>(load(dy[i]) * rounded<T>(x * s));
    }
}

KT_CLONES void gelu_forward_range(float* y, const float* x, int64_t n) { gelu_forward_loop(y, x, n); }
KT_CLONES void gelu_forward_range(bf16* y, const bf16* x, int64_t n) { gelu_forward_loop(y, x, n); }

KT_CLONES void gelu_backward_range(float* dx, const float* dy, const float* x, int64_t n) {
    gelu_backward_loop(dx, dy, x, n);
}
KT_CLONES void gelu_backward_range(bf16* dx, const bf16* dy, const bf16* x, int64_t n) { gelu_backward_loop(dx, dy, x, n); }

KT_CLONES void geglu_forward_range(float* y, const float* gate, const float* up, int64_t n) {
    geglu_forward_loop(y, gate, up, n);
}
KT_CLONES void geglu_forward_range(bf16* y, const bf16* gate, const bf16* up, int64_t n) {
    geglu_forward_loop(y, gate, up, n);
}

KT_CLONES void geglu_backward_range(float* dgate, float* dup, const float* dy, const float* gate, const float* up,
                                    int64_t n) {
    geglu_backward_loop(dgate, dup, dy, gate, up, n);
}
KT_CLONES void geglu_backward_range(bf16* dgate, bf16* dup, const bf16* dy, const bf16* gate, const bf16* up, int64_t n) {
    geglu_backward_loop(dgate, dup, dy, gate, up, n);
}

// An element costs about four times what streaming it does.
constexpr int64_t kGeluGrain = kGrain / 4;

int32_t gelu_forward(kt_ctx* ctx, void* y, const void* x, int64_t n, int32_t dtype) {
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, n, kGeluGrain, [&](int64_t begin, int64_t end) {
            gelu_forward_range(static_cast<T*>(y) + begin, static_cast<const T*>(x) + begin, end - begin);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "gelu_forward", dtype);
}

int32_t gelu_backward(kt_ctx* ctx, void* dx, const void* dy, const void* x, int64_t n, int32_t dtype) {
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, n, kGeluGrain, [&](int64_t begin, int64_t end) {
            gelu_backward_range(static_cast<T*>(dx) + begin, static_cast<const T*>(dy) + begin,
                                static_cast<const T*>(x) + begin, end - begin);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "gelu_backward", dtype);
}

int32_t geglu_forward(kt_ctx* ctx, void* y, const void* gate, const void* up, int64_t n, int32_t dtype) {
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, n, kGeluGrain, [&](int64_t begin, int64_t end) {
            geglu_forward_range(static_cast<T*>(y) + begin, static_cast<const T*>(gate) + begin,
                                static_cast<const T*>(up) + begin, end - begin);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "geglu_forward", dtype);
}

int32_t geglu_backward(kt_ctx* ctx, void* dgate, void* dup, const void* dy, const void* gate, const void* up, int64_t n,
                       int32_t dtype) {
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, n, kGeluGrain, [&](int64_t begin, int64_t end) {
            geglu_backward_range(static_cast<T*>(dgate) + begin, static_cast<T*>(dup) + begin,
                                 static_cast<const T*>(dy) + begin, static_cast<const T*>(gate) + begin,
                                 static_cast<const T*>(up) + begin, end - begin);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "geglu_backward", dtype);
}

}  // namespace

void add_gelu(kt_table& table) {
    table.gelu_forward = gelu_forward;
    table.gelu_backward = gelu_backward;
    table.geglu_forward = geglu_forward;
    table.geglu_backward = geglu_backward;
}

}  // namespace kt
