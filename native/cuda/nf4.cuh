// What the NF4 kernels share: the codes and the scale of a block.
#pragma once

#include "kernel.cuh"

namespace kt {
namespace {

constexpr int kNf4Block = 64;
constexpr int kNestedBlock = 256;

// Table 3 of the QLoRA paper (arXiv:2305.14314, appendix E).
__constant__ float kNf4[16] = {-1.0f,
                               -0.6961928009986877f,
                               -0.5250730514526367f,
                               -0.39491748809814453f,
                               -0.28444138169288635f,
                               -0.18477343022823334f,
                               -0.09105003625154495f,
                               0.0f,
                               0.07958029955625534f,
                               0.16093020141124725f,
                               0.24611230194568634f,
                               0.33791524171829224f,
                               0.44070982933044434f,
                               0.5626170039176941f,
                               0.7229568362236023f,
                               1.0f};

// The six arguments of an NF4 matrix; see kernels.h.
struct Nf4 {
    const uint8_t* packed;
    const float* absmax;
    const uint8_t* absmax_codes;
    const float* nested_absmax;
    const float* nested_map;
    float nested_offset;
};

// Product and sum are rounded one after the other, as the reference does; nvcc would make one fused operation of them.
__device__ inline float nf4_scale(const Nf4& w, int64_t block) {
    if (w.absmax) return w.absmax[block];
    return __fadd_rn(__fmul_rn(w.nested_map[w.absmax_codes[block]], w.nested_absmax[block / kNestedBlock]), w.nested_offset);
}

// Value i of the flattened matrix, in F32. numbers: the table in shared memory, which serves lanes with different codes at
// once, where constant memory serves one after another.
__device__ inline float nf4_value(const float* numbers, const Nf4& w, int64_t i) {
    const unsigned pair = w.packed[i / 2];
    return __fmul_rn(numbers[i % 2 ? pair & 15 : pair >> 4], nf4_scale(w, i / kNf4Block));
}

// Values i to i + 7, i a multiple of 8, of a matrix whose packed begins at a multiple of 4 bytes: 8 divides 64, so one scale.
__device__ inline void nf4_eight(float* v, const float* numbers, const Nf4& w, int64_t i) {
    const unsigned codes = *reinterpret_cast<const unsigned*>(w.packed + i / 2);
    const float scale = nf4_scale(w, i / kNf4Block);
#pragma unroll
    for (int j = 0; j < 8; j++) v[j] = __fmul_rn(numbers[codes >> (j / 2 * 8 + (j % 2 ? 0 : 4)) & 15], scale);
}

}  // namespace
}  // namespace kt
