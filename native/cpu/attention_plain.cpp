// Attention tiles in F32, for every processor: plain loops and the compiler's vectors.
#include "attention.h"

#include <cmath>
#include <cstring>

#include "context.h"

namespace kt::attention {
namespace {

// ---- exp ---------------------------------------------------------------------------------------------------------

// 2^x for x <= 127, 0 below -127, NaN for NaN. Minimax of degree 6 on [-1/2, 1/2], 2e-9 relative before rounding, times a power of two made
// of exponent bits; adding 1.5 * 2^23 rounds to a whole number, whose low bits it then holds.
[[gnu::always_inline]] inline float exp2_of(float x) {
    x = x < -127.0f ? -127.0f : x;
    const float shifted = x + 12582912.0f;
    const float f = x - (shifted - 12582912.0f);
    int32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = static_cast<int32_t>(static_cast<uint32_t>(bits + 127) << 23);
    float power;
    std::memcpy(&power, &bits, sizeof power);
    float y = 1.534581207e-4f;
    y = y * f + 1.339993129e-3f;
    y = y * f + 9.618488957e-3f;
    y = y * f + 5.550328777e-2f;
    y = y * f + 2.402264689e-1f;
    y = y * f + 6.931472057e-1f;
    y = y * f + 1.0f;
    return y * power;
}

// ---- operands ----------------------------------------------------------------------------------------------------

template <typename T>
[[gnu::always_inline]] inline void rows_loop(float* y, int64_t ld, const T* x, int64_t stride, int64_t rows, int64_t cols,
                                             int64_t padded_rows, float factor) {
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++) y[r * ld + c] = load(x[r * stride + c]) * factor;
        for (int64_t c = cols; c < ld; c++) y[r * ld + c] = 0;
    }
    for (int64_t i = rows * ld; i < padded_rows * ld; i++) y[i] = 0;
}

}  // namespace

KT_CLONES void PlainOperands::rows(float* y, int64_t ld, const float* x, int64_t stride, int64_t rows, int64_t cols,
                                   int64_t padded_rows, float factor) {
    rows_loop(y, ld, x, stride, rows, cols, padded_rows, factor);
}

KT_CLONES void PlainOperands::rows(float* y, int64_t ld, const bf16* x, int64_t stride, int64_t rows, int64_t cols,
                                   int64_t padded_rows, float factor) {
    rows_loop(y, ld, x, stride, rows, cols, padded_rows, factor);
}

KT_CLONES void PlainOperands::panels(float* y, int64_t panel, const float* x, int64_t ld, int64_t depth, int64_t cols) {
    for (int64_t n = 0; n < cols; n += kPanel) {
        float* to = y + n / kPanel * panel;
        for (int64_t k = 0; k < depth; k++) {
            for (int64_t c = 0; c < kPanel; c++) to[k * kPanel + c] = x[k * ld + n + c];
        }
    }
}

KT_CLONES void PlainOperands::panels_transposed(float* y, int64_t panel, const float* x, int64_t ld, int64_t depth,
                                                int64_t cols) {
    for (int64_t n = 0; n < cols; n += kPanel) {
        float* to = y + n / kPanel * panel;
        for (int64_t k = 0; k < depth; k++) {
            for (int64_t c = 0; c < kPanel; c++) to[k * kPanel + c] = x[(n + c) * ld + k];
        }
    }
}

KT_CLONES void PlainOperands::transpose(float* y, int64_t ldy, const float* x, int64_t ldx, int64_t rows, int64_t cols) {
    for (int64_t c = 0; c < cols; c++) {
        for (int64_t r = 0; r < rows; r++) y[c * ldy + r] = x[r * ldx + c];
    }
}

// ---- product -----------------------------------------------------------------------------------------------------

namespace {

// R rows times P panels of c, held in registers of Bytes bytes; the vectors are the compiler's, so this is one text for
// every width.
template <int Bytes, int R, int P>
[[gnu::always_inline]] inline void multiply_block(float* c, int64_t ldc, const float* a, int64_t lda, const float* b,
                                                  int64_t panel, int64_t k, bool accumulate) {
    typedef float Vector __attribute__((vector_size(Bytes)));
    typedef float Unaligned __attribute__((vector_size(Bytes), aligned(4)));
    constexpr int kLanes = Bytes / 4;
    constexpr int kVectors = static_cast<int>(kPanel) / kLanes;  // of one panel
    Vector sums[R][P * kVectors] = {};
    for (int64_t i = 0; i < k; i++) {
        Vector columns[P * kVectors];
#pragma GCC unroll 24
        for (int v = 0; v < P * kVectors; v++) {
            columns[v] = *reinterpret_cast<const Vector*>(b + v / kVectors * panel + i * kPanel + v % kVectors * kLanes);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            const float x = a[r * lda + i];
#pragma GCC unroll 24
            for (int v = 0; v < P * kVectors; v++) sums[r][v] += x * columns[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 24
        for (int v = 0; v < P * kVectors; v++) {
            Unaligned* to = reinterpret_cast<Unaligned*>(c + r * ldc + v * kLanes);
            *to = accumulate ? *to + sums[r][v] : sums[r][v];
        }
    }
}

// kPanel rows of c at a time, so that the panels they share stay in the first-level cache.
template <int Bytes, int R, int P>
[[gnu::always_inline]] inline void multiply_columns(float* c, int64_t ldc, const float* a, int64_t lda, const float* b,
                                                    int64_t panel, int64_t m, int64_t k, bool accumulate) {
    for (int64_t r = 0; r < m; r += R) {
        multiply_block<Bytes, R, P>(c + r * ldc, ldc, a + r * lda, lda, b, panel, k, accumulate);
    }
}

using Multiply = void (*)(float*, int64_t, const float*, int64_t, const float*, int64_t, int64_t, int64_t, int64_t, bool);

void multiply_base(float* c, int64_t ldc, const float* a, int64_t lda, const float* b, int64_t panel, int64_t m, int64_t n,
                   int64_t k, bool accumulate) {
    for (int64_t p = 0; p < n / kPanel; p++) {
        multiply_columns<16, 2, 1>(c + p * kPanel, ldc, a, lda, b + p * panel, panel, m, k, accumulate);
    }
}

#if defined(__x86_64__)

__attribute__((target("arch=x86-64-v3"))) void multiply_v3(float* c, int64_t ldc, const float* a, int64_t lda, const float* b,
                                                          int64_t panel, int64_t m, int64_t n, int64_t k, bool accumulate) {
    for (int64_t p = 0; p < n / kPanel; p++) {
        multiply_columns<32, 4, 1>(c + p * kPanel, ldc, a, lda, b + p * panel, panel, m, k, accumulate);
    }
}

template <int R, int P>
__attribute__((target("arch=x86-64-v4"))) void columns_v4(float* c, int64_t ldc, const float* a, int64_t lda, const float* b,
                                                         int64_t panel, int64_t m, int64_t k, bool accumulate) {
    multiply_columns<64, R, P>(c, ldc, a, lda, b, panel, m, k, accumulate);
}

__attribute__((target("arch=x86-64-v4"))) void multiply_v4(float* c, int64_t ldc, const float* a, int64_t lda, const float* b,
                                                          int64_t panel, int64_t m, int64_t n, int64_t k, bool accumulate) {
    int64_t p = 0;
    const auto columns = [&](auto block, int64_t panels) {
        block(c + p * kPanel, ldc, a, lda, b + p * panel, panel, m, k, accumulate);
        p += panels;
    };
    while (n / kPanel - p > 5) columns(columns_v4<4, 4>, 4);
    switch (n / kPanel - p) {
        case 5: return columns(columns_v4<4, 5>, 5);
        case 4: return columns(columns_v4<4, 4>, 4);
        case 3: return columns(columns_v4<8, 3>, 3);
        case 2: return columns(columns_v4<8, 2>, 2);
        case 1: return columns(columns_v4<8, 1>, 1);
    }
}

#endif

Multiply choose_multiply() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("x86-64-v4")) return multiply_v4;
    if (__builtin_cpu_supports("x86-64-v3")) return multiply_v3;
#endif
    return multiply_base;
}

const Multiply kMultiply = choose_multiply();

}  // namespace

void PlainOperands::multiply(float* c, int64_t ldc, const float* a, int64_t lda, const float* b, int64_t panel, int64_t m,
                             int64_t n, int64_t k, bool accumulate) {
    kMultiply(c, ldc, a, lda, b, panel, m, n, k, accumulate);
}

// ---- softmax -----------------------------------------------------------------------------------------------------

KT_CLONES void PlainOperands::softmax(float* p, int64_t ldp, const float* s, int64_t lds, int64_t rows, int64_t width,
                                      float factor, Softmax& running) {
    const float factor2 = factor * kLog2E;
    for (int64_t r = 0; r < rows; r++) {
        const float* from = s + r * lds;
        float* to = p + r * ldp;
        float max = running.max[r];
#pragma omp simd reduction(max : max)
        for (int64_t c = 0; c < width; c++) max = from[c] > max ? from[c] : max;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < width; c++) {
            const float e = exp2_of((from[c] - max) * factor2);
            to[c] = e;
            sum += e;
        }
        const float rescale = exp2_of((running.max[r] - max) * factor2);
        running.rescale[r] = rescale;
        running.sum[r][0] = running.sum[r][0] * rescale + sum;
        running.max[r] = max;
    }
}

KT_CLONES void PlainOperands::gradient(float* p, float* ds, int64_t ld, float* ds_panels, int64_t panel, const float* s,
                                       const float* dp, int64_t lds, int64_t rows, int64_t cols, const float* lse2,
                                       const float* delta, float factor) {
    const float factor2 = factor * kLog2E;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++) {
            const float e = exp2_of(s[r * lds + c] * factor2 - lse2[c]);
            p[r * ld + c] = e;
            ds[r * ld + c] = e * (dp[r * lds + c] - delta[c]);
        }
        for (int64_t c = 0; c < cols; c += kPanel) {
            std::memcpy(ds_panels + c / kPanel * panel + r * kPanel, ds + r * ld + c, kPanel * sizeof(float));
        }
    }
}

}  // namespace kt::attention
