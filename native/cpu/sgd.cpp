#include "context.h"
#include "optimizer.h"
#include "table.h"

namespace kt {
namespace {

struct SgdStep {
    float grad_scale, minus_lr, weight_decay;
};

// G is void where all gradients are zero.
template <bool Split, typename P, typename G>
KT_CLONES void descend(P* param, int16_t* low, const G* grad, int64_t n, const SgdStep& s) {
    for (int64_t i = 0; i < n; i++) {
        const float p = load_master<Split>(param, low, i);
        float g = 0;
        if constexpr (!std::is_void_v<G>) g = load(grad[i]) * s.grad_scale;
        store_master<Split>(param, low, i, std::fma(std::fma(p, s.weight_decay, g), s.minus_lr, p));
    }
}

SgdStep sgd_step(double lr, double weight_decay, float grad_scale) {
    return {grad_scale, static_cast<float>(-lr), static_cast<float>(weight_decay)};
}

int32_t sgd(kt_ctx* ctx, void* param, int16_t* low, const void* grad, int64_t n, double lr, double weight_decay,
            float grad_scale, int32_t param_dtype, int32_t grad_dtype) {
    const SgdStep step = sgd_step(lr, weight_decay, grad_scale);
    bool known_grad = false;
    const bool known = with_master(param_dtype, low, [&](auto split, auto p) {
        using P = decltype(p);
        known_grad = with_type(grad_dtype, [&](auto g) {
            using G = decltype(g);
            parallel_for(ctx, n, kGrain, [&](int64_t begin, int64_t end) {
                descend<split.value>(static_cast<P*>(param) + begin, low ? low + begin : nullptr,
                                     static_cast<const G*>(grad) + begin, end - begin, step);
            });
        });
    });
    if (known && known_grad) return KT_OK;
    return fail(ctx, KT_BAD_ARGUMENT, "sgd: no variant for dtypes %d (%s), %d", param_dtype, low ? "split" : "whole",
                grad_dtype);
}

int32_t sgd_rows(kt_ctx* ctx, void* param, int16_t* low, const float* grad, const int32_t* slot, int64_t vocab, int64_t cols,
                 double lr, double weight_decay, float grad_scale, int32_t param_dtype) {
    const SgdStep step = sgd_step(lr, weight_decay, grad_scale);
    const bool known = with_master(param_dtype, low, [&](auto split, auto p) {
        using P = decltype(p);
        parallel_for(ctx, vocab, rows_grain(cols), [&](int64_t begin, int64_t end) {
            for (int64_t r = begin; r < end; r++) {
                P* row = static_cast<P*>(param) + r * cols;
                int16_t* row_low = low ? low + r * cols : nullptr;
                if (slot[r] >= 0) {
                    descend<split.value>(row, row_low, grad + slot[r] * cols, cols, step);
                } else if (step.weight_decay != 0) {
                    descend<split.value, P, void>(row, row_low, nullptr, cols, step);
                }
            }
        });
    });
    if (known) return KT_OK;
    return fail(ctx, KT_BAD_ARGUMENT, "sgd_rows: no variant for dtype %d (%s)", param_dtype, low ? "split" : "whole");
}

}  // namespace

void add_sgd(kt_table& table) {
    table.sgd = sgd;
    table.sgd_rows = sgd_rows;
}

}  // namespace kt
