// The products of an adapter with its narrow matrix A [rank, in], which memory bounds: x is read once and dropped in registers.
//
// BF16 of even ranks up to kMostRank and rows of whole eights go through tensor cores, straight from global memory. Which term or
// column of a product an index of mma stands for is free, as long as all operands agree, and is chosen such that a lane's share
// of x is eight consecutive elements: one load and one Philox counter. Everything else takes the plain kernels below.
#include "dropout.cuh"
#include "table.h"

namespace kt {
namespace {

using bf16 = __nv_bfloat16;

constexpr int64_t kMostRank = 64;

// ---- fragments -------------------------------------------------------------------------------------------------------

struct Eight {
    uint32_t word[4];  // two BF16 each
};

// x[r, c] to x[r, c + 7] of a matrix [rows, cols], or zeros where that is outside.
__device__ inline Eight eight(const bf16* x, int64_t r, int64_t c, int64_t rows, int64_t cols) {
    const bool inside = r < rows && c < cols;
    const uint4 bits = inside ? *reinterpret_cast<const uint4*>(x + r * cols + c) : make_uint4(0, 0, 0, 0);
    return {{bits.x, bits.y, bits.z, bits.w}};
}

// x[r, c] and x[r, c + 1].
__device__ inline uint32_t two(const bf16* x, int64_t r, int64_t c, int64_t rows, int64_t cols) {
    return r < rows && c < cols ? *reinterpret_cast<const uint32_t*>(x + r * cols + c) : 0;
}

// The elements, which begin at index i of x, in F32 and dropped; not rounded yet.
__device__ inline void dropped(float* v, const Eight& x, int64_t i, const Dropout& dropout) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
        v[2 * j] = __uint_as_float(x.word[j] << 16);
        v[2 * j + 1] = __uint_as_float(x.word[j] & 0xffff0000u);
    }
    drop8(v, i, dropout, true);
}

// Whether tensor cores may be used, `wide` and `narrow` being all operands of rows of `in` and of `rank` elements.
template <typename... Wide>
bool takes_tiles(int32_t dtype, int64_t in, int64_t rank, const void* narrow, const Wide*... wide) {
    return dtype == KT_BF16 && rank <= kMostRank && rank % 2 == 0 && in % 8 == 0 && aligned16(narrow, wide...);
}

// Of the instances for ranks up to 16, 32 and kMostRank.
template <typename Kernel>
Kernel* for_rank(int64_t rank, Kernel* small, Kernel* middle, Kernel* large) {
    return rank <= 16 ? small : rank <= 32 ? middle : large;
}

// ---- forward ---------------------------------------------------------------------------------------------------------

constexpr int kWarps = 8, kThreads = kWarps * 32;

// down[r, n] for 16 rows and 8 * Tiles of the rank. The warps take 32 columns in turn, of which lane 4 g + t has 8 t to 8 t + 7
// in rows g and g + 8 of x and in row g of a tile of A, and join their sums at the end.
template <int Tiles>
__global__ void __launch_bounds__(kThreads, Tiles == 2 ? 3 : 2)
    forward_kernel(bf16* down, const bf16* x, const bf16* a, int64_t rows, int64_t in, int64_t rank, Dropout dropout) {
    constexpr int kWidth = Tiles * 8, kStep = kWarps * 32, kAhead = Tiles < 8 ? 2 : 1;
    __shared__ float sums[kWarps][16][kWidth];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int64_t top = int64_t(blockIdx.x) * 16;
    float sum[Tiles][4] = {};
    for (int64_t begin = warp * 32; begin < in; begin += kAhead * kStep) {
        Eight upper[kAhead], lower[kAhead];
#pragma unroll
        for (int k = 0; k < kAhead; k++) {
            const int64_t c = begin + k * kStep + t * 8;
            upper[k] = eight(x, top + g, c, rows, in);
            lower[k] = eight(x, top + g + 8, c, rows, in);
        }
#pragma unroll
        for (int k = 0; k < kAhead; k++) {
            if (begin + k * kStep >= in) break;  // whole warps
            const int64_t c = begin + k * kStep + t * 8;
            float v[8], w[8];
            dropped(v, upper[k], (top + g) * in + c, dropout);
            dropped(w, lower[k], (top + g + 8) * in + c, dropout);
            uint32_t left[2][4];  // of the first and the second four of a lane's columns
#pragma unroll
            for (int j = 0; j < 4; j++) {
                left[j / 2][j % 2 * 2] = pack(v[2 * j], v[2 * j + 1]);
                left[j / 2][j % 2 * 2 + 1] = pack(w[2 * j], w[2 * j + 1]);
            }
#pragma unroll
            for (int n = 0; n < Tiles; n++) {
                const Eight right = eight(a, n * 8 + g, c, rank, in);
                mma_m16n8k16_bf16(sum[n], left[0], right.word);
                mma_m16n8k16_bf16(sum[n], left[1], right.word + 2);
            }
        }
    }
#pragma unroll
    for (int n = 0; n < Tiles; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) sums[warp][g + i / 2 * 8][n * 8 + t * 2 + i % 2] = sum[n][i];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 16 * kWidth; i += kThreads) {
        const int r = i / kWidth, n = i % kWidth;
        if (top + r >= rows || n >= rank) continue;
        float total = 0;
#pragma unroll
        for (int w = 0; w < kWarps; w++) total += sums[w][r][n];
        down[(top + r) * rank + n] = store<bf16>(total);
    }
}

// ---- backward, A -----------------------------------------------------------------------------------------------------

constexpr int kDeep = 4, kDeepThreads = kDeep * 32;  // warps of a block
constexpr int64_t kColumns = 64;                     // of a block
// Pieces of the rows, so that there are about so many blocks: four for each multiprocessor of an H100.
constexpr int64_t kMostBlocks = 528;

int64_t pieces_of(int64_t rows, int64_t in) {
    const int64_t strips = (in + kColumns - 1) / kColumns, tiles = (rows + 15) / 16;
    return std::max<int64_t>(1, std::min(kMostBlocks / std::max<int64_t>(strips, 1), (tiles + kDeep - 1) / kDeep));
}

// Over the rows of piece blockIdx.y, da[n, c] for 64 columns and 16 * Tiles of the rank. The warps take 16 rows in turn, of which
// lane 4 g + t has 4 t to 4 t + 3 in columns 8 g to 8 g + 7 of x and 2 g, 2 g + 1 of a tile of ddown.
template <int Tiles>
__global__ void __launch_bounds__(kDeepThreads, Tiles == 1 ? 4 : 1)
    backward_weight_kernel(float* da, float* pieces, const bf16* ddown, const bf16* x, int64_t rows, int64_t in, int64_t rank,
                           Dropout dropout, bool accumulate) {
    __shared__ float sums[kDeep][4][8][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int64_t left = int64_t(blockIdx.x) * kColumns, tiles = (rows + 15) / 16;
    const int64_t first = tiles * blockIdx.y / gridDim.y + warp, end = tiles * (blockIdx.y + 1) / gridDim.y;
    const auto fetch = [&](Eight* to, int64_t tile) {
#pragma unroll
        for (int i = 0; i < 4; i++) to[i] = eight(x, tile * 16 + t * 4 + i, left + g * 8, rows, in);
    };
    float sum[Tiles][8][4] = {};
    Eight share[4] = {};
    if (first < end) fetch(share, first);
    for (int64_t tile = first; tile < end; tile += kDeep) {
        const int64_t r = tile * 16 + t * 4;
        uint32_t right[8][2];  // of each of the lane's columns, rows 4 t and 4 t + 1, then the two after them
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
            float v[8], w[8];
            dropped(v, share[i], (r + i) * in + left + g * 8, dropout);
            dropped(w, share[i + 1], (r + i + 1) * in + left + g * 8, dropout);
#pragma unroll
            for (int j = 0; j < 8; j++) right[j][i / 2] = pack(v[j], w[j]);
        }
        if (tile + kDeep < end) fetch(share, tile + kDeep);  // meets the products, and the next masks, which need nothing of it
#pragma unroll
        for (int m = 0; m < Tiles; m++) {
            uint32_t d[4], transposed[4];
#pragma unroll
            for (int i = 0; i < 4; i++) d[i] = two(ddown, r + i, m * 16 + g * 2, rows, rank);
#pragma unroll
            for (int i = 0; i < 4; i += 2) {
                transposed[i] = (d[i] & 0xffffu) | d[i + 1] << 16;
                transposed[i + 1] = d[i] >> 16 | (d[i + 1] & 0xffff0000u);
            }
#pragma unroll
            for (int j = 0; j < 8; j++) mma_m16n8k16_bf16(sum[m][j], transposed, right[j]);
        }
    }
    // sum[m][j][i] belongs to rank 16 m + 2 g + i / 2 and column 16 t + 8 (i % 2) + j: warp i joins those.
#pragma unroll
    for (int m = 0; m < Tiles; m++) {
#pragma unroll
        for (int j = 0; j < 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) sums[warp][i][j][lane] = sum[m][j][i];
        }
        __syncthreads();
        float v[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            v[j] = 0;
#pragma unroll
            for (int w = 0; w < kDeep; w++) v[j] += sums[w][warp][j][lane];
        }
        __syncthreads();  // the next tile writes `sums` again
        const int64_t n = m * 16 + g * 2 + warp / 2, c = left + t * 16 + warp % 2 * 8;
        if (n >= rank || c >= in) continue;
        if (gridDim.y == 1) {
            float before[8] = {};
            if (accumulate) load8(before, da + n * in + c, 8, true);
#pragma unroll
            for (int j = 0; j < 8; j++) v[j] += before[j];
            store8(da + n * in + c, v, 8, true);
        } else {
            store8(pieces + (blockIdx.y * rank + n) * in + c, v, 8, true);
        }
    }
}

__global__ void __launch_bounds__(kEach) add_pieces_kernel(float* da, const float* pieces, int64_t count, int64_t n,
                                                           bool accumulate) {
    const int64_t i = int64_t(blockIdx.x) * kEach + threadIdx.x;
    if (i >= n) return;
    float sum = 0;
    for (int64_t p = 0; p < count; p++) sum += pieces[p * n + i];
    da[i] = (accumulate ? da[i] : 0.0f) + sum;
}

// ---- backward, x -----------------------------------------------------------------------------------------------------

constexpr int64_t kInputRows = 64;  // of a block

// dx[r, c] for 64 rows and, a warp, 32 columns, of which lane 4 g + t gets 8 t to 8 t + 7 in rows g and g + 8 of 16. The warp keeps
// its columns of A, 16 * Tiles of the rank.
template <int Tiles>
__global__ void __launch_bounds__(kThreads)
    backward_input_kernel(bf16* dx, const bf16* ddown, const bf16* a, int64_t rows, int64_t in, int64_t rank, Dropout dropout) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int64_t left = int64_t(blockIdx.y) * kThreads + warp * 32, top = int64_t(blockIdx.x) * kInputRows;
    if (left >= in) return;  // whole warps, and no barrier follows
    const auto value = [&](int64_t n, int64_t c) { return n < rank && c < in ? load(a[n * in + c]) : 0.0f; };
    uint32_t right[Tiles][4][2];
#pragma unroll
    for (int m = 0; m < Tiles; m++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int64_t n = m * 16 + t * 2, c = left + g / 2 * 8 + j * 2 + g % 2;
            right[m][j][0] = pack(value(n, c), value(n + 1, c));
            right[m][j][1] = pack(value(n + 8, c), value(n + 9, c));
        }
    }
    const int64_t c = left + t * 8;
    for (int64_t tile = top; tile < min(rows, top + kInputRows); tile += 16) {
        float sum[4][4] = {};
#pragma unroll
        for (int m = 0; m < Tiles; m++) {
            uint32_t d[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                d[i] = two(ddown, tile + g + i % 2 * 8, m * 16 + t * 2 + i / 2 * 8, rows, rank);
            }
#pragma unroll
            for (int j = 0; j < 4; j++) mma_m16n8k16_bf16(sum[j], d, right[m][j]);
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int64_t r = tile + g + i * 8;
            if (r >= rows || c >= in) continue;
            float v[8];
#pragma unroll
            for (int j = 0; j < 8; j++) v[j] = rounded<bf16>(sum[j / 2][i * 2 + j % 2]);
            drop8(v, r * in + c, dropout, true);
            store8(dx + r * in + c, v, 8, true);
        }
    }
}

// ---- any dtype, any rank ---------------------------------------------------------------------------------------------

constexpr int kSome = 8;  // of the rank at a time

// down[r, n] for kSome of the rank; a warp owns r.
template <typename T>
__global__ void __launch_bounds__(kThreads) plain_forward_kernel(T* down, const T* x, const T* a, int64_t rows, int64_t in,
                                                                 int64_t rank, Dropout dropout, bool fast, bool a_fast) {
    const int lane = threadIdx.x % 32;
    const int64_t r = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32, first = int64_t(blockIdx.y) * kSome;
    if (r >= rows) return;  // whole warps
    float sum[kSome] = {};
    for (int64_t c = lane * 8; c < in; c += 256) {
        const int count = static_cast<int>(min(in - c, int64_t{8}));
        float v[8];
        load8(v, x + r * in + c, count, fast);
        drop8(v, r * in + c, dropout, fast);
#pragma unroll
        for (int m = 0; m < kSome; m++) {
            if (first + m >= rank) continue;
            float w[8];
            load8(w, a + (first + m) * in + c, count, a_fast);
#pragma unroll
            for (int j = 0; j < 8; j++) sum[m] += rounded<T>(v[j]) * w[j];
        }
    }
#pragma unroll
    for (int m = 0; m < kSome; m++) {
        const float total = warp_sum(sum[m]);
        if (lane == 0 && first + m < rank) down[r * rank + first + m] = store<T>(total);
    }
}

// da[n, c] for kSome of the rank and 256 columns, a lane 8 of them; the warps take the rows in turn.
template <typename T>
__global__ void __launch_bounds__(kThreads) plain_backward_weight_kernel(float* da, const T* ddown, const T* x, int64_t rows,
                                                                         int64_t in, int64_t rank, Dropout dropout, bool accumulate,
                                                                         bool fast) {
    __shared__ float sums[kWarps][256];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t left = int64_t(blockIdx.x) * 256, c = left + lane * 8, first = int64_t(blockIdx.y) * kSome;
    const int count = static_cast<int>(max(int64_t{0}, min(in - c, int64_t{8})));
    float sum[kSome][8] = {};
    for (int64_t r = warp; r < rows && count > 0; r += kWarps) {
        float v[8];
        load8(v, x + r * in + c, count, fast);
        drop8(v, r * in + c, dropout, fast);
#pragma unroll
        for (int m = 0; m < kSome; m++) {
            const float d = first + m < rank ? load(ddown[r * rank + first + m]) : 0.0f;
#pragma unroll
            for (int j = 0; j < 8; j++) sum[m][j] += d * rounded<T>(v[j]);
        }
    }
#pragma unroll
    for (int m = 0; m < kSome; m++) {
#pragma unroll
        for (int j = 0; j < 8; j++) sums[warp][lane * 8 + j] = sum[m][j];
        __syncthreads();
        const int64_t own = left + threadIdx.x;
        if (own < in && first + m < rank) {
            float total = 0;
#pragma unroll
            for (int w = 0; w < kWarps; w++) total += sums[w][threadIdx.x];
            float* sum_of = da + (first + m) * in + own;
            *sum_of = (accumulate ? *sum_of : 0.0f) + total;
        }
        __syncthreads();  // the next of the rank writes `sums` again
    }
}

// Eight columns of a row of dx a thread.
template <typename T>
__global__ void __launch_bounds__(kThreads) plain_backward_input_kernel(T* dx, const T* ddown, const T* a, int64_t rows,
                                                                        int64_t in, int64_t rank, Dropout dropout, bool fast,
                                                                        bool a_fast) {
    const int64_t across = (in + 7) / 8, i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    const int64_t r = i / across, c = i % across * 8;
    if (r >= rows) return;
    const int count = static_cast<int>(min(in - c, int64_t{8}));
    float sum[8] = {};
    for (int64_t n = 0; n < rank; n++) {
        float w[8];
        load8(w, a + n * in + c, count, a_fast);
        const float d = load(ddown[r * rank + n]);
#pragma unroll
        for (int j = 0; j < 8; j++) sum[j] += d * w[j];
    }
#pragma unroll
    for (int j = 0; j < 8; j++) sum[j] = rounded<T>(sum[j]);
    drop8(sum, r * in + c, dropout, fast);
    store8(dx + r * in + c, sum, count, fast);
}

// ---- entries ---------------------------------------------------------------------------------------------------------

int32_t lora_down_forward(kt_ctx* ctx, void* down, const void* x, const void* a, int64_t rows, int64_t in, int64_t rank,
                          float p, uint64_t seed, uint64_t stream, int32_t dtype) {
    const char* op = "lora_down_forward";
    Dropout dropout;
    if (!make_dropout(ctx, op, &dropout, p, seed, stream)) return KT_BAD_ARGUMENT;
    if (takes_tiles(dtype, in, rank, down, x, a)) {
        auto* const kernel = for_rank(rank, forward_kernel<2>, forward_kernel<4>, forward_kernel<8>);
        return start(ctx, op, kernel, blocks_of(rows, 16), kThreads, 0, static_cast<bf16*>(down), static_cast<const bf16*>(x),
                     static_cast<const bf16*>(a), rows, in, rank, dropout);
    }
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, op, plain_forward_kernel<T>, dim3(blocks_of(rows, kWarps), blocks_of(rank, kSome)), kThreads, 0,
                       static_cast<T*>(down), static_cast<const T*>(x), static_cast<const T*>(a), rows, in, rank, dropout,
                       in % 8 == 0 && aligned16(x), in % 8 == 0 && aligned16(a));
    });
    return known ? status : bad_dtype(ctx, op, dtype);
}

int32_t weight_tiles(kt_ctx* ctx, const char* op, float* da, const bf16* ddown, const bf16* x, int64_t rows, int64_t in,
                     int64_t rank, const Dropout& dropout, bool accumulate) {
    const int64_t count = pieces_of(rows, in), n = rank * in;
    float* pieces = nullptr;
    if (count > 1 && n > 0) {
        const int32_t reserved = scratch(ctx, op, count * n, &pieces);
        if (reserved != KT_OK) return reserved;
    }
    auto* const kernel =
        for_rank(rank, backward_weight_kernel<1>, backward_weight_kernel<2>, backward_weight_kernel<4>);
    const dim3 blocks(blocks_of(in, kColumns), static_cast<unsigned>(count));
    const int32_t status =
        start(ctx, op, kernel, blocks, kDeepThreads, 0, da, pieces, ddown, x, rows, in, rank, dropout, accumulate);
    if (!pieces || status != KT_OK) return status;
    return start(ctx, op, add_pieces_kernel, blocks_of(n, kEach), kEach, 0, da, pieces, count, n, accumulate);
}

int32_t lora_down_backward_weight(kt_ctx* ctx, float* da, const void* ddown, const void* x, int64_t rows, int64_t in,
                                  int64_t rank, float p, uint64_t seed, uint64_t stream, int32_t accumulate,
                                  int32_t dtype) {
    const char* op = "lora_down_backward_weight";
    Dropout dropout;
    if (!make_dropout(ctx, op, &dropout, p, seed, stream)) return KT_BAD_ARGUMENT;
    if (takes_tiles(dtype, in, rank, ddown, x, da)) {
        return weight_tiles(ctx, op, da, static_cast<const bf16*>(ddown), static_cast<const bf16*>(x), rows, in, rank, dropout,
                            accumulate != 0);
    }
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, op, plain_backward_weight_kernel<T>, dim3(blocks_of(in, 256), blocks_of(rank, kSome)), kThreads, 0,
                       da, static_cast<const T*>(ddown), static_cast<const T*>(x), rows, in, rank, dropout,
                       accumulate != 0, in % 8 == 0 && aligned16(x));
    });
    return known ? status : bad_dtype(ctx, op, dtype);
}

int32_t lora_down_backward_input(kt_ctx* ctx, void* dx, const void* ddown, const void* a, int64_t rows, int64_t in,
                                 int64_t rank, float p, uint64_t seed, uint64_t stream, int32_t dtype) {
    const char* op = "lora_down_backward_input";
    Dropout dropout;
    if (!make_dropout(ctx, op, &dropout, p, seed, stream)) return KT_BAD_ARGUMENT;
    if (takes_tiles(dtype, in, rank, ddown, dx, a)) {
        auto* const kernel =
            for_rank(rank, backward_input_kernel<1>, backward_input_kernel<2>, backward_input_kernel<4>);
        return start(ctx, op, kernel, dim3(blocks_of(rows, kInputRows), blocks_of(in, kThreads)), kThreads, 0,
                     static_cast<bf16*>(dx), static_cast<const bf16*>(ddown), static_cast<const bf16*>(a), rows, in, rank,
                     dropout);
    }
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, op, plain_backward_input_kernel<T>, blocks_of(rows * ((in + 7) / 8), kThreads), kThreads, 0,
                       static_cast<T*>(dx), static_cast<const T*>(ddown), static_cast<const T*>(a), rows, in, rank, dropout,
                       in % 8 == 0 && aligned16(dx), in % 8 == 0 && aligned16(a));
    });
    return known ? status : bad_dtype(ctx, op, dtype);
}

}  // namespace

void add_lora_down(kt_table& table) {
    table.lora_down_forward = lora_down_forward;
    table.lora_down_backward_weight = lora_down_backward_weight;
    table.lora_down_backward_input = lora_down_backward_input;
}

}  // namespace kt
