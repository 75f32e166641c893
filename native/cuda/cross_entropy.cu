// Cross-entropy of whole rows of logits. A block owns a row and passes over it twice: for the softmax's sums, and, where it is
// wanted, for the gradient in place.
#include <limits>

#include "kernel.cuh"
#include "table.h"

namespace kt {
namespace {

constexpr int kThreads = 512;

// What is known of some of a row's logits: the largest and where it comes first, the sums of e^(x - max) and of
// e^(x - max) (x - max).
struct Sums {
    float max;
    int first;
    float exp, weighted;
};

__device__ inline Sums joined(const Sums& a, const Sums& b) {
    Sums s;
    s.max = fmaxf(a.max, b.max);
    s.first = a.max == b.max ? min(a.first, b.first) : a.max > b.max ? a.first : b.first;
    const float below_a = a.max - s.max, below_b = b.max - s.max;
    // An empty part has max -inf and no sums; -inf times 0 is no number.
    const float shrink_a = a.exp > 0 ? expf(below_a) : 0.0f, shrink_b = b.exp > 0 ? expf(below_b) : 0.0f;
    s.exp = a.exp * shrink_a + b.exp * shrink_b;
    s.weighted = (a.exp > 0 ? (a.weighted + a.exp * below_a) * shrink_a : 0.0f) +
                 (b.exp > 0 ? (b.weighted + b.exp * below_b) * shrink_b : 0.0f);
    return s;
}

__device__ inline float capped(float x, float cap) { return cap > 0 ? cap * tanhf(x / cap) : x; }

// The cap's derivative where it gives `value`: 1 - (value / cap)^2.
__device__ inline float slope(float value, float cap) {
    return cap > 0 ? 1.0f - (value / cap) * (value / cap) : 1.0f;
}

// Of the whole row, in every thread.
template <typename T>
__device__ Sums row_sums(const T* x, int64_t vocab, float cap, bool aligned) {
    __shared__ Sums parts[kThreads / 32];
    Sums s{-INFINITY, INT32_MAX, 0, 0};
    for (int64_t c = int64_t(threadIdx.x) * 8; c < vocab; c += kThreads * 8) {
        const int count = static_cast<int>(min(vocab - c, int64_t{8}));
        float v[8];
        load8(v, x + c, count, aligned && count == 8);
        float top = s.max;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            v[i] = i < count ? capped(v[i], cap) : -INFINITY;
            if (v[i] > top) {
                top = v[i];
                s.first = static_cast<int>(c) + i;
            }
        }
        if (top == -INFINITY) continue;
        if (top > s.max) {
            const float below = s.max - top;
            const float shrink = s.exp > 0 ? expf(below) : 0.0f;
            s.weighted = s.exp > 0 ? (s.weighted + s.exp * below) * shrink : 0.0f;
            s.exp *= shrink;
            s.max = top;
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float below = v[i] - top;
            const float e = expf(below);
            s.exp += e;
            s.weighted += e > 0 ? e * below : 0.0f;
        }
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        const Sums other{__shfl_xor_sync(kWarp, s.max, step), __shfl_xor_sync(kWarp, s.first, step),
                         __shfl_xor_sync(kWarp, s.exp, step), __shfl_xor_sync(kWarp, s.weighted, step)};
        s = joined(s, other);
    }
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = s;
    __syncthreads();
    s = parts[0];
    for (int w = 1; w < kThreads / 32; w++) s = joined(s, parts[w]);
    return s;
}

template <typename T>
__global__ void __launch_bounds__(kThreads) cross_entropy_kernel(float* loss, float* entropy, int32_t* correct, T* logits,
                                                                 const int32_t* targets, int64_t vocab, float grad_scale,
                                                                 float cap, bool write_gradient, bool aligned,
                                                                 unsigned long long* fault) {
    const int64_t row = blockIdx.x;
    const int32_t target = targets[row];
    if (target < 0 || target >= vocab) {
        if (threadIdx.x == 0) atomicMin(fault, static_cast<unsigned long long>(row) << 32 | static_cast<uint32_t>(target));
        return;
    }
    T* x = logits + row * vocab;
    const Sums s = row_sums(x, vocab, cap, aligned);
    const float value = capped(load(x[target]), cap);
    if (threadIdx.x == 0) {
        const double log_sum = log(static_cast<double>(s.exp));
        loss[row] = static_cast<float>(log_sum - (static_cast<double>(value) - s.max));
        entropy[row] = static_cast<float>(log_sum - static_cast<double>(s.weighted) / s.exp);
        correct[row] = s.first == target ? 1 : 0;
    }
    if (!write_gradient) return;
    __syncthreads();  // every thread has read the target's logit
    const float factor = static_cast<float>(static_cast<double>(grad_scale) / s.exp);
    for (int64_t c = int64_t(threadIdx.x) * 8; c < vocab; c += kThreads * 8) {
        const int count = static_cast<int>(min(vocab - c, int64_t{8}));
        float v[8];
        load8(v, x + c, count, aligned && count == 8);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float y = capped(v[i], cap);
            v[i] = expf(y - s.max) * factor * slope(y, cap);
        }
        if (target >= c && target < c + 8) {
            // The target's own gradient, rounded once: what is left of a probability near 1 is small.
            const double p = exp(static_cast<double>(value) - s.max) / s.exp;
            const float own = static_cast<float>((p - 1.0) * grad_scale * slope(value, cap));
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] = c + i == target ? own : v[i];
        }
        store8(x + c, v, count, aligned && count == 8);
    }
}

int32_t cross_entropy(kt_ctx* ctx, float* loss, float* entropy, int32_t* correct, void* logits, const int32_t* targets,
                      int64_t rows, int64_t vocab, float grad_scale, float softcap, int32_t write_gradient, int32_t dtype) {
    if (vocab > INT32_MAX) {
        return fail(ctx, KT_BAD_ARGUMENT, "cross_entropy: %lld logits a row", static_cast<long long>(vocab));
    }
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "cross_entropy", cross_entropy_kernel<T>, blocks_of(rows, 1), kThreads, 0, loss, entropy, correct,
                       static_cast<T*>(logits), targets, vocab, grad_scale, softcap, write_gradient != 0,
                       vocab % 8 == 0 && aligned16(logits), fault_word(ctx, Checked::cross_entropy, vocab));
    });
    if (!known) return bad_dtype(ctx, "cross_entropy", dtype);
    return status == KT_OK ? check_faults(ctx) : status;
}

}  // namespace

void add_cross_entropy(kt_table& table) { table.cross_entropy = cross_entropy; }

}  // namespace kt
