#include <cmath>
#include <type_traits>

#include "context.h"
#include "optimizer.h"
#include "table.h"

namespace kt {
namespace {

// ---- elements of one thread --------------------------------------------------------------------------------------

// The new value of one master; m and v are updated in place, unrounded. This file is compiled without contraction: sums
// and products are joined here, and only here, where torch's fused kernel joins them, so results are equal to the bit.
[[gnu::always_inline]] inline float updated(float p, float& m, float& v, float g, const AdamwStep& s) {
    p *= s.decay;
    const bool near = s.weight1 < 0.5f;  // of m and g, the sum starts at the one that weighs more
    m = std::fma(near ? s.weight1 : s.weight1 - 1.0f, g - m, near ? m : g);
    v = std::fma(s.weight2 * g, g, v * s.b2);
    return p + s.step_size * m / (std::sqrt(v) / s.root_correction2 + s.eps);
}

// Has low halves where Split, else param holds the whole master. G is void where all gradients are zero.
template <bool Split, typename P, typename M, typename G>
KT_CLONES void update_range(P* param, int16_t* low, M* m, M* v, const G* grad, int64_t n, const AdamwStep& s) {
    for (int64_t i = 0; i < n; i++) {
        float mi = load(m[i]);
        float vi = load(v[i]);
        float g = 0;
        if constexpr (!std::is_void_v<G>) g = load(grad[i]) * s.grad_scale;
        store_master<Split>(param, low, i, updated(load_master<Split>(param, low, i), mi, vi, g, s));
        m[i] = store<M>(mi);
        v[i] = store<M>(vi);
    }
}

// Weight decay alone, for rows whose moments are zero.
template <bool Split, typename P>
KT_CLONES void decay_range(P* param, int16_t* low, int64_t n, const AdamwStep& s) {
    for (int64_t i = 0; i < n; i++) {
        store_master<Split>(param, low, i, load_master<Split>(param, low, i) * s.decay);
    }
}

template <typename T>
KT_CLONES double squares_range(const T* x, int64_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += static_cast<double>(load(x[i])) * load(x[i]);
    return sum;
}

// Calls f(split, param, moment) with values of the types named; false where there is no such combination.
template <typename F>
bool with_state(int32_t param_dtype, bool split, int32_t moment_dtype, const F& f) {
    bool known = false;
    with_master(param_dtype, split, [&](auto is_split, auto param) {
        known = with_type(moment_dtype, [&](auto moment) { f(is_split, param, moment); });
    });
    return known;
}

// ---- entries -----------------------------------------------------------------------------------------------------

// Sums of fixed blocks, then their sum, so that the order depends on n alone.
constexpr int64_t kSumBlock = 1 << 16;

template <typename T>
double squares(const kt_ctx* ctx, const T* x, int64_t n) {
    const int64_t blocks = (n + kSumBlock - 1) / kSumBlock;
    constexpr int64_t kBatch = 1024;
    double partial[kBatch], total = 0;
    for (int64_t first = 0; first < blocks; first += kBatch) {
        const int64_t count = std::min(kBatch, blocks - first);
        parallel_for(ctx, count, 1, [&](int64_t begin, int64_t end) {
            for (int64_t b = begin; b < end; b++) {
                const int64_t from = (first + b) * kSumBlock;
                partial[b] = squares_range(x + from, std::min(kSumBlock, n - from));
            }
        });
        for (int64_t b = 0; b < count; b++) total += partial[b];
    }
    return total;
}

int32_t sum_squares(kt_ctx* ctx, float* out, const void* const* x, const int64_t* n, int64_t tensors, int32_t dtype) {
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        for (int64_t i = 0; i < tensors; i++) out[i] = static_cast<float>(squares(ctx, static_cast<const T*>(x[i]), n[i]));
    });
    return known ? KT_OK : bad_dtype(ctx, "sum_squares", dtype);
}

int32_t adamw(kt_ctx* ctx, void* const* param, int16_t* const* low, void* const* m, void* const* v, const void* const* grad,
              const int64_t* n, int64_t tensors, double lr, double b1, double b2, double eps, double weight_decay,
              double correction1, double correction2, float grad_scale, int32_t param_dtype, int32_t moment_dtype,
              int32_t grad_dtype) {
    const AdamwStep step = adamw_step(lr, b1, b2, eps, weight_decay, correction1, correction2, grad_scale);
    bool known_grad = false;
    const bool known = with_state(param_dtype, low != nullptr, moment_dtype, [&](auto split, auto p, auto moment) {
        using P = decltype(p);
        using M = decltype(moment);
        known_grad = with_type(grad_dtype, [&](auto g) {
            using G = decltype(g);
            for (int64_t i = 0; i < tensors; i++) {
                parallel_for(ctx, n[i], kGrain, [&](int64_t begin, int64_t end) {
                    update_range<split.value>(static_cast<P*>(param[i]) + begin, split.value ? low[i] + begin : nullptr,
                                              static_cast<M*>(m[i]) + begin, static_cast<M*>(v[i]) + begin,
                                              static_cast<const G*>(grad[i]) + begin, end - begin, step);
                });
            }
        });
    });
    if (!known || !known_grad) {
        return fail(ctx, KT_BAD_ARGUMENT, "adamw: no variant for dtypes %d (%s), %d, %d", param_dtype,
                    low ? "split" : "whole", moment_dtype, grad_dtype);
    }
    return KT_OK;
}

int32_t adamw_rows(kt_ctx* ctx, void* param, int16_t* low, void* m, void* v, const float* grad, const int32_t* slot,
                   int64_t vocab, int64_t cols, double lr, double b1, double b2, double eps, double weight_decay,
                   double correction1, double correction2, float grad_scale, int32_t param_dtype, int32_t moment_dtype) {
    const AdamwStep step = adamw_step(lr, b1, b2, eps, weight_decay, correction1, correction2, grad_scale);
    const bool known = with_state(param_dtype, low != nullptr, moment_dtype, [&](auto split, auto p, auto moment) {
        using P = decltype(p);
        using M = decltype(moment);
        parallel_for(ctx, vocab, rows_grain(cols), [&](int64_t begin, int64_t end) {
            for (int64_t r = begin; r < end; r++) {
                P* pr = static_cast<P*>(param) + r * cols;
                int16_t* lr_low = low ? low + r * cols : nullptr;
                M* mr = static_cast<M*>(m) + r * cols;
                M* vr = static_cast<M*>(v) + r * cols;
                if (slot[r] >= 0) {
                    update_range<split.value>(pr, lr_low, mr, vr, grad + slot[r] * cols, cols, step);
                } else if (slot[r] == -1) {
                    update_range<split.value, P, M, void>(pr, lr_low, mr, vr, nullptr, cols, step);
                } else if (weight_decay != 0) {
                    decay_range<split.value>(pr, lr_low, cols, step);
                }
            }
        });
    });
    if (!known) {
        return fail(ctx, KT_BAD_ARGUMENT, "adamw_rows: no variant for dtypes %d (%s), %d", param_dtype,
                    low ? "split" : "whole", moment_dtype);
    }
    return KT_OK;
}

}  // namespace

void add_adamw(kt_table& table) {
    table.sum_squares = sum_squares;
    table.adamw = adamw;
    table.adamw_rows = adamw_rows;
}

}  // namespace kt
