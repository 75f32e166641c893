// Products of few rows with a matrix that is read once: what decoding waits for is memory. A thread takes outputs that follow
// each other, in four streams, each of a quarter of them: the processor reads long streams ahead by itself, up to 1.9 times as
// fast as four outputs side by side (AMD Zen 5). Every sum has one order, whatever the number of rows.
#include <algorithm>
#include <cstring>

#include "bf16.h"
#include "bf16_products.h"
#include "context.h"
#include "few_products.h"
#include "table.h"

namespace kt {
namespace {

constexpr int kOutputs = 4;  // whose weights are held together

// How far ahead of the sums a weight is asked for, bytes.
constexpr int64_t kAhead = 1024;

// Runs body over the outputs, which take that many bytes each: streams long enough to be read at full speed, the last ones short
// enough that no thread waits long for another.
template <typename Body>
void take_outputs(kt_ctx* ctx, int64_t out, int64_t bytes, const Body& body) {
    constexpr int64_t kLeast = 32 << 10, kMost = 1 << 20;
    const int64_t least = std::max<int64_t>(1, kLeast / std::max<int64_t>(bytes, 1) / kOutputs) * kOutputs;
    take_turns(ctx, out, least, least * (kMost / kLeast), body);
}

#if defined(__x86_64__)

KT_AVX512_BF16 inline void store_four(float* y, __m128 x) { _mm_storeu_ps(y, x); }

KT_AVX512_BF16 inline void store_four(bf16* y, __m128 x) {
    const __m128i bits = _mm_castps_si128(x);
    const __m128i even = _mm_and_si128(_mm_srli_epi32(bits, 16), _mm_set1_epi32(1));
    const __m128i up = _mm_add_epi32(_mm_add_epi32(bits, _mm_set1_epi32(0x7fff)), even);
    const __m128i quiet = _mm_or_si128(bits, _mm_set1_epi32(0x400000));
    const __m128i rounded = _mm_mask_mov_epi32(up, _mm_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(y), _mm_cvtepi32_epi16(_mm_srli_epi32(rounded, 16)));
}

// Whether reading is what takes the time: else what counts is that results are stored by fours.
bool is_streamed(int64_t rows, int64_t in) { return rows <= 4 || in >= 1024; }

// BF16 by AVX512_BF16.
template <typename Y>
struct DotProduct {
    Y* y;
    const bf16* x;     // [rows, in]
    const bf16* w;     // [out, in]
    const bf16* bias;  // or null
    int64_t rows, out, in;
    bool accumulate;

    // Outputs that are computed together: count of them, step rows of w apart.
    struct Outputs {
        int64_t first, step, count;
    };

    // Rows [r, r + R) of these outputs.
    template <int R>
    KT_AVX512_BF16 void part(const Outputs& o, int64_t r, const bf16* const* weights, int64_t ahead) const {
        alignas(64) float sums[kOutputs * kBlockRows];
        dot_products<R>(sums, x + r * in, in, weights, in, ahead);
        for (int j = 0; j < R; j++) {
            Y* to = y + (r + j) * out + o.first;
            if (o.count == kOutputs && o.step == 1 && !bias && !accumulate) {
                store_four(to, _mm_load_ps(sums + j * kOutputs));
                continue;
            }
            for (int64_t i = 0; i < o.count; i++) {
                float sum = sums[j * kOutputs + i];
                if (bias) sum += load(bias[o.first + i * o.step]);
                if (accumulate) sum += load(to[i * o.step]);
                to[i * o.step] = store<Y>(sum);
            }
        }
    }

    KT_AVX512_BF16 void all_rows(const Outputs& o) const {
        const bf16* weights[kOutputs];
        for (int64_t i = 0; i < kOutputs; i++) weights[i] = w + (o.first + std::min(i, o.count - 1) * o.step) * in;
        int64_t ahead = kAhead;
        int64_t r = 0;
        for (; r + 4 <= rows; r += 4) {
            part<4>(o, r, weights, ahead);
            ahead = 0;
        }
        if (rows - r == 3) part<3>(o, r, weights, ahead);
        if (rows - r == 2) part<2>(o, r, weights, ahead);
        if (rows - r == 1) part<1>(o, r, weights, ahead);
    }

    KT_AVX512_BF16 void outputs(int64_t begin, int64_t end) const {
        const int64_t stream = is_streamed(rows, in) ? (end - begin) / kOutputs : 0;
        for (int64_t o = begin; o < begin + stream; o++) all_rows({o, stream, kOutputs});
        for (int64_t o = begin + stream * kOutputs; o < end; o += kOutputs) {
            all_rows({o, 1, std::min<int64_t>(kOutputs, end - o)});
        }
    }

    void run(kt_ctx* ctx) const {
        take_outputs(ctx, out, in * 2, [&](int64_t begin, int64_t end) { outputs(begin, end); });
    }
};

#endif

template <typename Y, typename T>
struct Product {
    Y* y;
    const float* x;  // [rows, in]
    const T* w;     // [out, in]
    const T* bias;  // or null
    int64_t rows, out, in;
    bool accumulate;

    // Rows [r, r + R) of O outputs, step rows of w apart.
    template <int Bytes, int O, int R>
    [[gnu::always_inline]] void part(int64_t o, int64_t step, int64_t r) const {
        float sums[kOutputs * kBlockRows];
        block<Bytes, O, R>(sums, x + r * in, in, w + o * in, step * in, in);
        for (int i = 0; i < O; i++) {
            for (int j = 0; j < R; j++) {
                Y* to = y + (r + j) * out + o + i * step;
                float sum = sums[i * kBlockRows + j];
                if (bias) sum += load(bias[o + i * step]);
                if (accumulate) sum += load(*to);
                *to = store<Y>(sum);
            }
        }
    }

    template <int Bytes, int O>
    [[gnu::always_inline]] void all_rows(int64_t o, int64_t step) const {
        int64_t r = 0;
        for (; r + 4 <= rows; r += 4) part<Bytes, O, 4>(o, step, r);
        if (r + 2 <= rows) {
            part<Bytes, O, 2>(o, step, r);
            r += 2;
        }
        if (r < rows) part<Bytes, O, 1>(o, step, r);
    }

    template <int Bytes>
    [[gnu::always_inline]] void outputs(int64_t begin, int64_t end) const {
        const int64_t stream = (end - begin) / kOutputs;
        for (int64_t o = begin; o < begin + stream; o++) all_rows<Bytes, kOutputs>(o, stream);
        for (int64_t o = begin + stream * kOutputs; o < end; o++) all_rows<Bytes, 1>(o, 1);
    }

    void base(int64_t begin, int64_t end) const { outputs<16>(begin, end); }
#if defined(__x86_64__)
    __attribute__((target("arch=x86-64-v3"))) void v3(int64_t begin, int64_t end) const { outputs<32>(begin, end); }
    __attribute__((target("arch=x86-64-v4"))) void v4(int64_t begin, int64_t end) const { outputs<64>(begin, end); }
#endif

    void run(kt_ctx* ctx) const {
        take_outputs(ctx, out, in * static_cast<int64_t>(sizeof(T)), [&](int64_t begin, int64_t end) {
#if defined(__x86_64__)
            if (processor().vectors == Vectors::avx512) return v4(begin, end);
            if (processor().vectors == Vectors::avx2) return v3(begin, end);
#endif
            base(begin, end);
        });
    }
};

// The rows of x as floats.
template <typename T>
int32_t widened(kt_ctx* ctx, const T* x, int64_t n, const float** out) {
    const int64_t bytes = std::max<int64_t>(n, 1) * static_cast<int64_t>(sizeof(float));
    float* wide = static_cast<float*>(scratch(ctx, bytes));
    if (!wide) return no_scratch(ctx, "linear_few", bytes);
    for (int64_t i = 0; i < n; i++) wide[i] = load(x[i]);
    *out = wide;
    return KT_OK;
}

int32_t linear_few(kt_ctx* ctx, void* y, const void* x, const void* w, const void* bias, int64_t rows, int64_t out, int64_t in,
                   int32_t accumulate, int32_t y_dtype, int32_t dtype) {
    if (y_dtype != dtype && y_dtype != KT_F32) return bad_dtypes(ctx, "linear_few", y_dtype, dtype);
    int32_t status = KT_OK;
    const bool known = with_types(y_dtype, dtype, [&](auto y_type, auto type) {
        using Y = decltype(y_type);
        using T = decltype(type);
#if defined(__x86_64__)
        if constexpr (sizeof(T) == sizeof(bf16)) {
            if (processor().bf16_dot_products) {
                DotProduct<Y>{static_cast<Y*>(y),   static_cast<const bf16*>(x), static_cast<const bf16*>(w),
                              static_cast<const bf16*>(bias), rows, out, in, accumulate != 0}
                    .run(ctx);
                return;
            }
        }
#endif
        const float* wide;
        if constexpr (sizeof(T) == sizeof(float)) {
            wide = static_cast<const float*>(x);
        } else {
            status = widened(ctx, static_cast<const T*>(x), rows * in, &wide);
            if (status != KT_OK) return;
        }
        Product<Y, T>{static_cast<Y*>(y), wide, static_cast<const T*>(w), static_cast<const T*>(bias), rows, out, in,
                      accumulate != 0}
            .run(ctx);
    });
    return known ? status : bad_dtypes(ctx, "linear_few", y_dtype, dtype);
}

}  // namespace

void add_linear_few(kt_table& table) { table.linear_few = linear_few; }

}  // namespace kt
