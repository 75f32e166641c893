// Gradient descent, whole and by rows. A thread owns an element.
#include "optimizer.cuh"
#include "table.h"

namespace kt {
namespace {

struct SgdStep {
    float grad_scale, minus_lr, weight_decay;
};

SgdStep sgd_step(double lr, double weight_decay, float grad_scale) {
    return {grad_scale, static_cast<float>(-lr), static_cast<float>(weight_decay)};
}

template <bool Split, typename P>
__device__ inline void descend(P* param, int16_t* low, int64_t i, float g, const SgdStep& s) {
    const float p = load_master<Split>(param, low, i);
    store_master<Split>(param, low, i, __fmaf_rn(__fmaf_rn(p, s.weight_decay, g), s.minus_lr, p));
}

template <bool Split, typename P, typename G>
__global__ void __launch_bounds__(kEach) sgd_kernel(P* param, int16_t* low, const G* grad, int64_t n, SgdStep s) {
    const int64_t i = int64_t(blockIdx.x) * kEach + threadIdx.x;
    if (i < n) descend<Split>(param, low, i, __fmul_rn(load(grad[i]), s.grad_scale), s);
}

// A block owns a row of the table.
template <bool Split, typename P>
__global__ void __launch_bounds__(kEach) sgd_rows_kernel(P* param, int16_t* low, const float* grad, const int32_t* slot,
                                                         int64_t cols, SgdStep s) {
    const int64_t at = blockIdx.x * cols;
    const int32_t own = slot[blockIdx.x];
    if (own < 0 && s.weight_decay == 0) return;
    for (int64_t c = threadIdx.x; c < cols; c += kEach) {
        descend<Split>(param, low, at + c, own < 0 ? 0.0f : __fmul_rn(grad[own * cols + c], s.grad_scale), s);
    }
}

int32_t sgd(kt_ctx* ctx, void* param, int16_t* low, const void* grad, int64_t n, double lr, double weight_decay,
            float grad_scale, int32_t param_dtype, int32_t grad_dtype) {
    const SgdStep step = sgd_step(lr, weight_decay, grad_scale);
    int32_t status = KT_OK;
    bool known_grad = false;
    const bool known = with_master(param_dtype, low, [&](auto split, auto p) {
        using P = decltype(p);
        known_grad = with_type(grad_dtype, [&](auto g) {
            using G = decltype(g);
            status = start(ctx, "sgd", sgd_kernel<decltype(split)::value, P, G>, blocks_of(n, kEach), kEach, 0,
                           static_cast<P*>(param), low, static_cast<const G*>(grad), n, step);
        });
    });
    if (known && known_grad) return status;
    return fail(ctx, KT_BAD_ARGUMENT, "sgd: no variant for dtypes %d (%s), %d", param_dtype, low ? "split" : "whole",
                grad_dtype);
}

int32_t sgd_rows(kt_ctx* ctx, void* param, int16_t* low, const float* grad, const int32_t* slot, int64_t vocab, int64_t cols,
                 double lr, double weight_decay, float grad_scale, int32_t param_dtype) {
    const SgdStep step = sgd_step(lr, weight_decay, grad_scale);
    int32_t status = KT_OK;
    const bool known = with_master(param_dtype, low, [&](auto split, auto p) {
        using P = decltype(p);
        status = start(ctx, "sgd_rows", sgd_rows_kernel<decltype(split)::value, P>, blocks_of(vocab, 1), kEach, 0,
                       static_cast<P*>(param), low, grad, slot, cols, step);
    });
    if (known) return status;
    return fail(ctx, KT_BAD_ARGUMENT, "sgd_rows: no variant for dtype %d (%s)", param_dtype, low ? "split" : "whole");
}

}  // namespace

void add_sgd(kt_table& table) {
    table.sgd = sgd;
    table.sgd_rows = sgd_rows;
}

}  // namespace kt
