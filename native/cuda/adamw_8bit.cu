// AdamW with 8-bit moments. A block owns the 256 elements that share a scale, a thread one of them.
#include "blockwise.cuh"
#include "optimizer.cuh"
#include "table.h"

namespace kt {
namespace {

struct Moment {
    uint8_t* codes;
    float* absmax;
};

struct Moved {
    void* param;
    int16_t* low;
    Moment m, v;
    const void* grad;
    int64_t n;
};

template <bool Split, typename P, typename G>
__global__ void __launch_bounds__(kBlock) adamw_8bit_kernel(Batch<Moved> batch, const float* m_map, const float* v_map,
                                                            AdamwStep s, unsigned long long* fault) {
    __shared__ float midpoints_m[kBlock], midpoints_v[kBlock];
    const int own = batch.mine(), t = threadIdx.x;
    const Moved& moved = batch.tensors[own];
    P* param = static_cast<P*>(moved.param);
    const G* grad = static_cast<const G*>(moved.grad);
    int16_t* low = moved.low;
    const Moment m = moved.m, v = moved.v;
    const int64_t block = blockIdx.x - batch.first[own], i = block * kBlock + t;
    const int count = static_cast<int>(min(moved.n - block * kBlock, int64_t{kBlock}));
    const int above = min(t + 1, kBlock - 1);
    if (t < kBlock - 1 && blockIdx.x == 0 && !(m_map[t] < m_map[above] && v_map[t] < v_map[above])) {
        atomicMin(fault, static_cast<unsigned long long>(t) << 32);
    }
    midpoints_m[t] = midpoint_above(m_map);
    midpoints_v[t] = midpoint_above(v_map);
    const float scale_m = m.absmax[block], scale_v = v.absmax[block];
    __syncthreads();  // the tables are there, and every thread has read the scales that are written below
    float mi = 0, vi = 0;
    if (t < count) {
        const float g = __fmul_rn(load(grad[i]), s.grad_scale);
        mi = __fmaf_rn(g, s.weight1, __fmul_rn(__fmul_rn(m_map[m.codes[i]], scale_m), s.b1));
        vi = __fmaf_rn(__fmul_rn(s.weight2, g), g, __fmul_rn(__fmul_rn(v_map[v.codes[i]], scale_v), s.b2));
        store_master<Split>(param, low, i, stepped(__fmul_rn(load_master<Split>(param, low, i), s.decay), mi, vi, s));
    }
    const int code_m = quantize(m.absmax + block, mi, count, midpoints_m);
    const int code_v = quantize(v.absmax + block, vi, count, midpoints_v);
    if (t < count) {
        m.codes[i] = static_cast<uint8_t>(code_m);
        v.codes[i] = static_cast<uint8_t>(code_v);
    }
}

int32_t adamw_8bit(kt_ctx* ctx, void* const* param, int16_t* const* low, uint8_t* const* m, float* const* m_absmax,
                   uint8_t* const* v, float* const* v_absmax, const void* const* grad, const float* m_map,
                   const float* v_map, const int64_t* n, int64_t tensors, double lr, double b1, double b2, double eps,
                   double weight_decay, double correction1, double correction2, float grad_scale, int32_t param_dtype,
                   int32_t grad_dtype) {
    const AdamwStep step = adamw_step(lr, b1, b2, eps, weight_decay, correction1, correction2, grad_scale);
    int32_t status = KT_OK;
    bool known_grad = false;
    const bool known = with_master(param_dtype, low != nullptr, [&](auto split, auto p) {
        using P = decltype(p);
        known_grad = with_type(grad_dtype, [&](auto g) {
            using G = decltype(g);
            status = in_batches<Moved>(
                tensors,
                [&](int64_t i) {
                    return Moved{param[i], low ? low[i] : nullptr, {m[i], m_absmax[i]}, {v[i], v_absmax[i]}, grad[i], n[i]};
                },
                [&](int64_t i) { return (n[i] + kBlock - 1) / kBlock; },
                [&](const Batch<Moved>& batch, int64_t, unsigned blocks) {
                    return start(ctx, "adamw_8bit", adamw_8bit_kernel<decltype(split)::value, P, G>, blocks, kBlock, 0, batch,
                                 m_map, v_map, step, fault_word(ctx, Checked::adamw_8bit, 0));
                });
        });
    });
    if (!known || !known_grad) {
        return fail(ctx, KT_BAD_ARGUMENT, "adamw_8bit: no variant for dtypes %d (%s), %d", param_dtype,
                    low ? "split" : "whole", grad_dtype);
    }
    return status == KT_OK ? check_faults(ctx) : status;
}

}  // namespace

void add_adamw_8bit(kt_table& table) { table.adamw_8bit = adamw_8bit; }

}  // namespace kt
