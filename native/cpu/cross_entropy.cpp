#include <cmath>
#include <limits>

#include "bf16.h"
#include "context.h"
#include "math.h"
#include "table.h"

namespace kt {
namespace {

// Columns whose sums are kept in F32 before they join an F64 total: short enough for F32's error to stay at its rounding.
constexpr int64_t kBlock = 4096;

struct Sums {
    double exp;         // sum of e^(x - max)
    double exp_times_x;  // sum of e^(x - max) (x - max)
};

template <bool Capped>
[[gnu::always_inline]] inline float capped(float x, float cap) {
    return Capped ? cap * tanh_fast(x / cap) : x;
}

// GCC 12 does not vectorise a reduction over BF16 that it widens in the same loop, so blocks are widened first.

// ---- one row -----------------------------------------------------------------------------------------------------

template <bool Capped, typename T>
KT_CLONES float row_max(const T* x, int64_t n, float cap) {
    float best = -std::numeric_limits<float>::infinity();
    for (int64_t from = 0; from < n; from += kBlock) {
        const int64_t count = n - from < kBlock ? n - from : kBlock;
        float values[kBlock];
        for (int64_t i = 0; i < count; i++) values[i] = load(x[from + i]);
#pragma omp simd reduction(max : best)
        for (int64_t i = 0; i < count; i++) best = values[i] > best ? values[i] : best;
    }
    return capped<Capped>(best, cap);  // the cap is monotonic
}

template <bool Capped, typename T>
KT_CLONES Sums row_sums(const T* x, int64_t n, float max, float cap) {
    Sums total{0, 0};
    for (int64_t from = 0; from < n; from += kBlock) {
        const int64_t to = from + kBlock < n ? from + kBlock : n;
        float below[kBlock];
        for (int64_t i = from; i < to; i++) below[i - from] = capped<Capped>(load(x[i]), cap) - max;
        float sum = 0;
        float weighted = 0;
#pragma omp simd reduction(+ : sum, weighted)
        for (int64_t i = 0; i < to - from; i++) {
            const float d = below[i];
            const float e = exp_nonpositive(d);
            sum += e;
            weighted += e * d;
        }
        total.exp += sum;
        total.exp_times_x += weighted;
    }
    return total;
}

// x becomes softmax * factor; with a cap, times the cap's derivative 1 - (capped / cap)^2.
template <bool Capped, typename T>
KT_CLONES void row_softmax(T* x, int64_t n, float max, float factor, float cap) {
    for (int64_t i = 0; i < n; i++) {
        const float value = capped<Capped>(load(x[i]), cap);
        const float slope = Capped ? 1.0f - (value / cap) * (value / cap) : 1.0f;
        x[i] = store<T>(exp_nonpositive(value - max) * factor * slope);
    }
}

template <bool Capped, typename T>
void row(T* x, int64_t n, int32_t target, float cap, float grad_scale, bool write_gradient, float* loss, float* entropy,
         int32_t* correct) {
    const float max = row_max<Capped>(x, n, cap);
    const Sums sums = row_sums<Capped>(x, n, max, cap);
    const float at_target = load(x[target]);
    const float value = capped<Capped>(at_target, cap);
    const double log_sum = std::log(sums.exp);
    *loss = static_cast<float>(log_sum - (static_cast<double>(value) - max));
    *entropy = static_cast<float>(log_sum - sums.exp_times_x / sums.exp);
    bool first = value == max;
    for (int64_t i = 0; first && i < target; i++) first = load(x[i]) < at_target;
    *correct = first ? 1 : 0;
    if (!write_gradient) return;
    const float factor = static_cast<float>(grad_scale / sums.exp);
    // The target's own gradient, rounded once.
    const float slope = Capped ? 1.0f - (value / cap) * (value / cap) : 1.0f;
    const double p = std::exp(static_cast<double>(value) - max) / sums.exp;
    row_softmax<Capped>(x, n, max, factor, cap);
    x[target] = store<T>(static_cast<float>((p - 1.0) * grad_scale * slope));
}

// ---- entry -------------------------------------------------------------------------------------------------------

int32_t cross_entropy(kt_ctx* ctx, float* loss, float* entropy, int32_t* correct, void* logits, const int32_t* targets,
                      int64_t rows, int64_t vocab, float grad_scale, float softcap, int32_t write_gradient, int32_t dtype) {
    for (int64_t r = 0; r < rows; r++) {
        if (targets[r] < 0 || targets[r] >= vocab) {
            return fail(ctx, KT_BAD_ARGUMENT, "cross_entropy: target %d of row %lld is outside the %lld logits", targets[r],
                        static_cast<long long>(r), static_cast<long long>(vocab));
        }
    }
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, rows, rows_grain(vocab), [&](int64_t begin, int64_t end) {
            for (int64_t r = begin; r < end; r++) {
                T* x = static_cast<T*>(logits) + r * vocab;
                if (softcap > 0) {
                    row<true>(x, vocab, targets[r], softcap, grad_scale, write_gradient != 0, loss + r, entropy + r,
                              correct + r);
                } else {
                    row<false>(x, vocab, targets[r], softcap, grad_scale, write_gradient != 0, loss + r, entropy + r,
                               correct + r);
                }
            }
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "cross_entropy", dtype);
}

}  // namespace

void add_cross_entropy(kt_table& table) { table.cross_entropy = cross_entropy; }

}  // namespace kt
