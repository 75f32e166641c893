// Sums over rows, for the gradients of weights and biases: sum[c] = the sum over rows of term(row, c).
#pragma once

#include "kernel.cuh"

namespace kt {
namespace {

constexpr int kColumns = 32;    // of a block: a warp reads them together
constexpr int kDeep = 8;        // warps of a block, which take the rows of its piece in turn
constexpr int64_t kPiece = 64;  // rows of a block, until there are kMostPieces
constexpr int64_t kMostPieces = 64;

inline int64_t pieces_of(int64_t rows) { return std::max<int64_t>(1, std::min((rows + kPiece - 1) / kPiece, kMostPieces)); }

// Block (x, y) sums kColumns columns over the rows of piece y. The order depends on the sizes alone.
template <typename Term>
__global__ void __launch_bounds__(kColumns* kDeep) piece_sums_kernel(float* sums, int64_t rows, int64_t cols, Term term) {
    __shared__ float deep[kDeep][kColumns];
    const int lane = threadIdx.x % kColumns, row = threadIdx.x / kColumns;
    const int64_t c = int64_t(blockIdx.x) * kColumns + lane;
    const int64_t begin = rows * blockIdx.y / gridDim.y, end = rows * (blockIdx.y + 1) / gridDim.y;
    float sum = 0;
    if (c < cols) {
        for (int64_t r = begin + row; r < end; r += kDeep) sum += term(r, c);
    }
    deep[row][lane] = sum;
    __syncthreads();
    if (row == 0 && c < cols) {
        sum = 0;
#pragma unroll
        for (int d = 0; d < kDeep; d++) sum += deep[d][lane];
        sums[blockIdx.y * cols + c] = sum;
    }
}

__global__ void __launch_bounds__(kEach) join_pieces_kernel(float* sum, const float* sums, int64_t pieces, int64_t cols) {
    const int64_t c = int64_t(blockIdx.x) * kEach + threadIdx.x;
    if (c >= cols) return;
    float s = 0;
    for (int64_t p = 0; p < pieces; p++) s += sums[p * cols + c];
    sum[c] = s;
}

template <typename Term>
int32_t column_sums(kt_ctx* ctx, const char* op, float* sum, int64_t rows, int64_t cols, Term term) {
    const int64_t pieces = pieces_of(rows);
    float* sums = sum;
    if (pieces > 1) {
        const int32_t reserved = scratch(ctx, op, pieces * cols, &sums);
        if (reserved != KT_OK) return reserved;
    }
    const dim3 blocks(blocks_of(cols, kColumns), static_cast<unsigned>(pieces));
    const int32_t status = start(ctx, op, piece_sums_kernel<Term>, blocks, kColumns * kDeep, 0, sums, rows, cols, term);
    if (pieces == 1 || status != KT_OK) return status;
    return start(ctx, op, join_pieces_kernel, blocks_of(cols, kEach), kEach, 0, sum, sums, pieces, cols);
}

}  // namespace
}  // namespace kt
