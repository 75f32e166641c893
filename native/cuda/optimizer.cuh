// What the optimisers share: how a parameter is kept, and the scalars of an AdamW step. Sums and products are joined only
// where torch's fused kernel joins them, and rounded one by one elsewhere, so results are equal to the CPU's to the bit.
#pragma once

#include <cmath>
#include <type_traits>

#include "kernel.cuh"

namespace kt {
namespace {

// Element i of an F32 master: where Split, the BF16 nearest to it and beside it the signed distance in units of the last
// F32 bit; else param holds it whole.
template <bool Split, typename P>
__device__ inline float load_master(const P* param, const int16_t* low, int64_t i) {
    if constexpr (Split) {
        return __uint_as_float(__float_as_uint(load(param[i])) + static_cast<uint32_t>(static_cast<int32_t>(low[i])));
    } else {
        return load(param[i]);
    }
}

template <bool Split, typename P>
__device__ inline void store_master(P* param, int16_t* low, int64_t i, float master) {
    if constexpr (Split) {
        // A NaN that rounding leaves one: the device's own, 0x7fffffff, rounded up would be -0.
        const uint32_t bits = master == master ? __float_as_uint(master) : 0x7fc00000u;
        // The upper half as it is: of a number that BF16 holds exactly, so that the store does not round.
        reinterpret_cast<uint16_t*>(param)[i] = static_cast<uint16_t>((bits + 0x8000u) >> 16);
        low[i] = static_cast<int16_t>(bits & 0xffffu);
    } else {
        param[i] = store<P>(master);
    }
}

// Calls f(is split, param) with values of the types that a parameter has; false where there is no such combination.
template <typename F>
bool with_master(int32_t param_dtype, bool split, const F& f) {
    if (split && param_dtype != KT_BF16) return false;
    return with_type(param_dtype, [&](auto param) {
        if constexpr (sizeof(param) == 2) {
            if (split) {
                f(std::true_type{}, param);
                return;
            }
        }
        f(std::false_type{}, param);
    });
}

// What one step needs of its scalars, each rounded once from F64, as torch does.
struct AdamwStep {
    float grad_scale, decay, weight1, b1, b2, weight2, step_size, root_correction2, eps;
};

inline AdamwStep adamw_step(double lr, double b1, double b2, double eps, double weight_decay, double correction1,
                            double correction2, float grad_scale) {
    const auto rounded = [](double x) { return static_cast<float>(x); };
    return {grad_scale,
            rounded(1 - lr * weight_decay),
            rounded(1 - b1),
            rounded(b1),
            rounded(b2),
            rounded(1 - b2),
            rounded(-(lr / correction1)),
            rounded(std::sqrt(correction2)),
            rounded(eps)};
}

// p + step_size m / (sqrt(v) / root_correction2 + eps).
__device__ inline float stepped(float p, float m, float v, const AdamwStep& s) {
    const float below = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), s.root_correction2), s.eps);
    return __fadd_rn(p, __fdiv_rn(__fmul_rn(s.step_size, m), below));
}

// ---- many tensors in one launch --------------------------------------------------------------------------------------

// What a launch takes as its arguments, 4 KiB of which every driver gives: tensors, each with the number of its first block.
template <typename Tensor>
struct Batch {
    static constexpr int kMost = (4096 - 256) / (sizeof(Tensor) + sizeof(unsigned));  // what else a kernel takes fits in 256
    Tensor tensors[kMost];
    unsigned first[kMost + 1];  // and where the last one's blocks end
    int count;

    __device__ unsigned blocks(int tensor) const { return first[tensor + 1] - first[tensor]; }

    // Which tensor block blockIdx.x is of; all threads of a block agree.
    __device__ int mine() const {
        int low = 0, high = count - 1;
        while (low < high) {
            const int middle = (low + high + 1) / 2;
            if (first[middle] <= blockIdx.x) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        return low;
    }
};

// Calls launch(batch, index of its first tensor, blocks) for tensors in turn, as many at once as fit. tensor(i) and blocks(i)
// are those of tensor i.
template <typename Tensor, typename Make, typename Blocks, typename Launch>
int32_t in_batches(int64_t tensors, const Make& tensor, const Blocks& blocks, const Launch& launch) {
    for (int64_t begin = 0; begin < tensors;) {
        Batch<Tensor> batch;
        int64_t total = 0, end = begin;
        for (batch.count = 0; end < tensors && batch.count < batch.kMost && total + blocks(end) <= INT32_MAX; end++) {
            batch.tensors[batch.count] = tensor(end);
            batch.first[batch.count++] = static_cast<unsigned>(total);
            total += blocks(end);
            batch.first[batch.count] = static_cast<unsigned>(total);
        }
        const int32_t status = launch(batch, begin, static_cast<unsigned>(total));
        if (status != KT_OK) return status;
        begin = end;
    }
    return KT_OK;
}

}  // namespace
}  // namespace kt
