// What every kernel shares on the device: numbers in F32 and BF16, eight elements at a time, and sums over a warp or a block.
#pragma once

#include "context.h"

namespace kt {
namespace {  // each file has its own: the emulation compiles these as ordinary functions

constexpr unsigned kWarp = 0xffffffffu;

// The shared memory that a block may have on every card: what sm_89 and sm_120 give.
template <typename Tiles>
constexpr bool fits_every_card = sizeof(Tiles) <= 99 << 10;

// ---- numbers ---------------------------------------------------------------------------------------------------------

__device__ inline float load(float x) { return x; }
__device__ inline float load(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
__device__ inline T store(float x);
template <>
__device__ inline float store<float>(float x) {
    return x;
}
template <>
__device__ inline __nv_bfloat16 store<__nv_bfloat16>(float x) {
    return __float2bfloat16_rn(x);
}

// x as it reads back after being stored as T.
template <typename T>
__device__ inline float rounded(float x) {
    return load(store<T>(x));
}

// ---- eight elements --------------------------------------------------------------------------------------------------

// Whether eight consecutive elements may be moved at once, if their index is a multiple of 8.
inline bool aligned16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }
template <typename... P>
bool aligned16(const void* p, const P*... more) {
    return aligned16(p) && aligned16(more...);
}

// The first `count` of eight elements; the rest is zero. whole: all eight, at a multiple of 16 bytes.
__device__ inline void load8(float* v, const float* p, int count, bool whole) {
    if (whole) {
        const float4 a = *reinterpret_cast<const float4*>(p), b = *reinterpret_cast<const float4*>(p + 4);
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = i < count ? p[i] : 0.0f;
    }
}

__device__ inline void load8(float* v, const __nv_bfloat16* p, int count, bool whole) {
    if (whole) {
        const uint4 bits = *reinterpret_cast<const uint4*>(p);
        const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            v[2 * i] = __uint_as_float(words[i] << 16);
            v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
        }
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = i < count ? load(p[i]) : 0.0f;
    }
}

__device__ inline unsigned pack(float low, float high) {
    union {
        __nv_bfloat162 pair;
        unsigned bits;
    } u;
    u.pair = __floats2bfloat162_rn(low, high);
    return u.bits;
}

__device__ inline void store8(float* p, const float* v, int count, bool whole) {
    if (whole) {
        *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
        *reinterpret_cast<float4*>(p + 4) = make_float4(v[4], v[5], v[6], v[7]);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (i < count) p[i] = v[i];
        }
    }
}

__device__ inline void store8(__nv_bfloat16* p, const float* v, int count, bool whole) {
    if (whole) {
        *reinterpret_cast<uint4*>(p) =
            make_uint4(pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7]));
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (i < count) p[i] = store<__nv_bfloat16>(v[i]);
        }
    }
}

// A thread's eight of n elements, for kernels of kEach threads a block: body(first index, count, whole).
constexpr int kEach = 256;
template <typename Body>
__device__ inline void my_eight(int64_t n, bool aligned, Body body) {
    const int64_t i = (int64_t(blockIdx.x) * kEach + threadIdx.x) * 8;
    if (i >= n) return;
    const int count = static_cast<int>(min(n - i, int64_t{8}));
    body(i, count, aligned && count == 8);
}
inline unsigned blocks_of_eights(int64_t n) { return blocks_of(n, kEach * 8); }

// ---- sums ------------------------------------------------------------------------------------------------------------

// The sum over a warp, in every lane.
__device__ inline float warp_sum(float v) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kWarp, v, step);
    return v;
}
__device__ inline float warp_max(float v) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) v = fmaxf(v, __shfl_xor_sync(kWarp, v, step));
    return v;
}

// The sum over a block of `Threads` threads, in every thread.
template <int Threads>
__device__ inline float block_sum(float v) {
    __shared__ float partial[Threads / 32];
    v = warp_sum(v);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
    __syncthreads();
    v = 0;
#pragma unroll
    for (int w = 0; w < Threads / 32; w++) v += partial[w];
    __syncthreads();  // the next call writes `partial` again
    return v;
}

}  // namespace
}  // namespace kt
