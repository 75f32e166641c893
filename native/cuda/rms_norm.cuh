// What the kernels of RMSNorm share. A row belongs to a warp where it is short (a head), to a block where it is long.
#pragma once

#include "column_sums.cuh"
#include "kernel.cuh"

namespace kt {
namespace {

constexpr int kRowThreads = 256;
constexpr int kLong = 1024;  // columns from which a row gets a block

// One row's owner: a warp, or a block of kRowThreads threads.
template <bool Long>
struct Owner {
    static constexpr int kRows = Long ? 1 : kRowThreads / 32;  // rows of a block
    static constexpr int kStep = Long ? kRowThreads : 32;

    __device__ static int64_t row() { return int64_t(blockIdx.x) * kRows + (Long ? 0 : threadIdx.x / 32); }
    __device__ static int first() { return Long ? threadIdx.x : threadIdx.x % 32; }
    __device__ static float sum(float v) {
        if constexpr (Long) return block_sum<kRowThreads>(v);
        return warp_sum(v);
    }
};

inline bool is_long(int64_t cols) { return cols >= kLong; }
inline int64_t rows_of_block(int64_t cols) { return is_long(cols) ? 1 : Owner<false>::kRows; }

// 1 / sqrt(mean(x x) + eps) of a row, in each of its owner's threads.
template <bool Long, typename T>
__device__ inline float row_rstd(const T* x, int64_t cols, float eps, bool aligned) {
    using Row = Owner<Long>;
    float squares = 0;
    for (int64_t c = Row::first() * 8; c < cols; c += Row::kStep * 8) {
        float v[8];
        load8(v, x + c, static_cast<int>(min(cols - c, int64_t{8})), aligned);
#pragma unroll
        for (int i = 0; i < 8; i++) squares += v[i] * v[i];
    }
    return 1.0f / sqrtf(Row::sum(squares) / static_cast<float>(cols) + eps);
}

__device__ inline float normalised(float x, float rstd, float weight) { return x * rstd * (1.0f + weight); }

// With g = dy (1 + w): dx = rstd (g - x k), k = rstd^2 mean(g x), whose terms are g x.
__device__ inline float dot_term(float dy, float x, float weight) { return dy * (1.0f + weight) * x; }
__device__ inline float gradient(float dy, float x, float weight, float rstd, float k) {
    return rstd * (dy * (1.0f + weight) - x * k);
}

}  // namespace
}  // namespace kt
