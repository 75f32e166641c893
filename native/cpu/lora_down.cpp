// The products of an adapter with its narrow matrix A [rank, in], some dropped elements at a time, which stay in the first cache.
// The engine takes them on a CUDA device alone: here it leaves the product of a dropped copy to oneDNN.
#include "dropout.h"
#include "table.h"

namespace kt {
namespace {

constexpr int64_t kPart = 512;  // columns at a time
constexpr int64_t kRanks = 64;  // ranks whose sums a row keeps at a time

template <typename T>
[[gnu::always_inline]] inline float dot_of(const T* x, const T* a, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += load(x[i]) * load(a[i]);
    return sum;
}
KT_CLONES float dot(const float* x, const float* a, int64_t n) { return dot_of(x, a, n); }
KT_CLONES float dot(const bf16* x, const bf16* a, int64_t n) { return dot_of(x, a, n); }

template <typename T>
[[gnu::always_inline]] inline void add_scaled_of(float* y, const T* x, float factor, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] += factor * load(x[i]);
}
KT_CLONES void add_scaled(float* y, const float* x, float factor, int64_t n) { add_scaled_of(y, x, factor, n); }
KT_CLONES void add_scaled(float* y, const bf16* x, float factor, int64_t n) { add_scaled_of(y, x, factor, n); }

template <typename T>
void forward(const kt_ctx* ctx, T* down, const T* x, const T* a, int64_t rows, int64_t in, int64_t rank,
             const Dropout& dropout) {
    parallel_for(ctx, rows, rows_grain(in * (rank + 1)), [&](int64_t begin, int64_t end) {
        T kept[kPart];
        for (int64_t r = begin; r < end; r++) {
            for (int64_t first = 0; first < rank; first += kRanks) {
                const int64_t ranks = std::min(kRanks, rank - first);
                float sums[kRanks] = {};
                for (int64_t c = 0; c < in; c += kPart) {
                    const int64_t n = std::min(kPart, in - c);
                    drop(kept, x + r * in + c, r * in + c, n, dropout);
                    for (int64_t m = 0; m < ranks; m++) sums[m] += dot(kept, a + (first + m) * in + c, n);
                }
                for (int64_t m = 0; m < ranks; m++) down[r * rank + first + m] = store<T>(sums[m]);
            }
        }
    });
}

template <typename T>
void backward_weight(const kt_ctx* ctx, float* da, const T* ddown, const T* x, int64_t rows, int64_t in, int64_t rank,
                     const Dropout& dropout, bool accumulate) {
    // A thread owns whole columns, so that the order of a sum is that of the rows.
    const int64_t parts = (in + kPart - 1) / kPart;
    parallel_for(ctx, parts, rows_grain(kPart * rows * (rank + 1)), [&](int64_t begin, int64_t end) {
        T kept[kPart];
        for (int64_t c = begin * kPart; c < std::min(in, end * kPart); c += kPart) {
            const int64_t n = std::min(kPart, in - c);
            for (int64_t m = 0; m < rank && !accumulate; m++) std::fill_n(da + m * in + c, n, 0.0f);
            for (int64_t r = 0; r < rows; r++) {
                drop(kept, x + r * in + c, r * in + c, n, dropout);
                for (int64_t m = 0; m < rank; m++) add_scaled(da + m * in + c, kept, load(ddown[r * rank + m]), n);
            }
        }
    });
}

template <typename T>
void backward_input(const kt_ctx* ctx, T* dx, const T* ddown, const T* a, int64_t rows, int64_t in, int64_t rank,
                    const Dropout& dropout) {
    parallel_for(ctx, rows, rows_grain(in * (rank + 1)), [&](int64_t begin, int64_t end) {
        float sums[kPart];
        for (int64_t r = begin; r < end; r++) {
            for (int64_t c = 0; c < in; c += kPart) {
                const int64_t n = std::min(kPart, in - c);
                std::fill(sums, sums + n, 0.0f);
                for (int64_t m = 0; m < rank; m++) add_scaled(sums, a + m * in + c, load(ddown[r * rank + m]), n);
                T* to = dx + r * in + c;
                for (int64_t i = 0; i < n; i++) to[i] = store<T>(sums[i]);
                drop(to, to, r * in + c, n, dropout);
            }
        }
    });
}

int32_t lora_down_forward(kt_ctx* ctx, void* down, const void* x, const void* a, int64_t rows, int64_t in, int64_t rank,
                          float p, uint64_t seed, uint64_t stream, int32_t dtype) {
    Dropout dropout;
    if (!make_dropout(ctx, "lora_down_forward", &dropout, p, seed, stream)) return KT_BAD_ARGUMENT;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        forward(ctx, static_cast<T*>(down), static_cast<const T*>(x), static_cast<const T*>(a), rows, in, rank, dropout);
    });
    return known ? KT_OK : bad_dtype(ctx, "lora_down_forward", dtype);
}

int32_t lora_down_backward_weight(kt_ctx* ctx, float* da, const void* ddown, const void* x, int64_t rows, int64_t in,
                                  int64_t rank, float p, uint64_t seed, uint64_t stream, int32_t accumulate,
                                  int32_t dtype) {
    Dropout dropout;
    if (!make_dropout(ctx, "lora_down_backward_weight", &dropout, p, seed, stream)) return KT_BAD_ARGUMENT;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        backward_weight(ctx, da, static_cast<const T*>(ddown), static_cast<const T*>(x), rows, in, rank, dropout,
                        accumulate != 0);
    });
    return known ? KT_OK : bad_dtype(ctx, "lora_down_backward_weight", dtype);
}

int32_t lora_down_backward_input(kt_ctx* ctx, void* dx, const void* ddown, const void* a, int64_t rows, int64_t in,
                                 int64_t rank, float p, uint64_t seed, uint64_t stream, int32_t dtype) {
    Dropout dropout;
    if (!make_dropout(ctx, "lora_down_backward_input", &dropout, p, seed, stream)) return KT_BAD_ARGUMENT;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        backward_input(ctx, static_cast<T*>(dx), static_cast<const T*>(ddown), static_cast<const T*>(a), rows, in, rank,
                       dropout);
    });
    return known ? KT_OK : bad_dtype(ctx, "lora_down_backward_input", dtype);
}

}  // namespace

void add_lora_down(kt_table& table) {
    table.lora_down_forward = lora_down_forward;
    table.lora_down_backward_weight = lora_down_backward_weight;
    table.lora_down_backward_input = lora_down_backward_input;
}

}  // namespace kt
