// Numbers in 8 bits, by blocks of 256 that share a scale: the nearest of 256 numbers in [-1, 1] to each one divided by the
// largest magnitude of its block. A block of threads owns one, a thread a number.
#pragma once

#include "kernel.cuh"

namespace kt {
namespace {

constexpr int kBlock = 256;      // numbers that share a scale
constexpr float kTiny = 1e-38f;  // the reference's smallest divisor

// The largest over the block, in every thread.
__device__ inline uint32_t block_max(uint32_t v) {
    __shared__ uint32_t partial[kBlock / 32];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) v = max(v, __shfl_xor_sync(kWarp, v, step));
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < kBlock / 32; w++) v = max(v, partial[w]);
    __syncthreads();  // the next call writes `partial` again
    return v;
}

// The midpoint above this thread's entry of the map; the last one's is not looked at.
__device__ inline float midpoint_above(const float* map) {
    return __fmul_rn(__fadd_rn(map[threadIdx.x], map[min(static_cast<int>(threadIdx.x) + 1, kBlock - 1)]), 0.5f);
}

// This thread's code of x, one of the block's `count` values, and the block's scale. A short block is divided, a whole one
// multiplied by the reciprocal, as the reference does. The code is how many midpoints lie below: the lower one of a tie.
__device__ inline int quantize(float* absmax, float x, int count, const float* midpoints) {
    const bool mine = static_cast<int>(threadIdx.x) < count;
    const float found = __uint_as_float(block_max(mine ? __float_as_uint(x) & 0x7fffffffu : 0u));
    const float divisor = found > kTiny ? found : kTiny;
    const bool whole = count == kBlock;
    if (threadIdx.x == 0) *absmax = whole ? found : divisor;
    float y = whole ? __fmul_rn(x, __fdiv_rn(1.0f, divisor)) : __fdiv_rn(x, divisor);
    y = y > 1.0f ? 1.0f : y < -1.0f ? -1.0f : y;
    int code = 0;
#pragma unroll
    for (int half = 128; half > 0; half /= 2) code += midpoints[code + half - 1] < y ? half : 0;
    return code;
}

}  // namespace
}  // namespace kt
