// Products with an NF4 matrix that restore its values on the way. A few rows, as in decoding, are bound by reading the matrix:
// one warp an output, without tensor cores. More rows of BF16 go through tiles on tensor cores. F32 always takes the first way.
// For the many rows of training, dequantising once and multiplying by cuBLASLt is the host's better choice.
#include "nf4.cuh"
#include "table.h"

namespace kt {
namespace {

// ---- few rows --------------------------------------------------------------------------------------------------------

constexpr int kWarps = 8, kThreads = kWarps * 32;
constexpr int kFew = 8;  // rows at a time

// Values w[row, c] to w[row, c + 7], of which `count` are inside, rounded to T. fast: `in` is a multiple of 8.
template <typename T>
__device__ inline void weights8(float* v, const float* numbers, const Nf4& w, int64_t row, int64_t c, int count, int64_t in,
                                bool fast) {
    if (fast) {
        nf4_eight(v, numbers, w, row * in + c);
    } else {
        for (int j = 0; j < 8; j++) v[j] = j < count ? nf4_value(numbers, w, row * in + c + j) : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < 8; j++) v[j] = rounded<T>(v[j]);
}

// y[r, n] for up to M rows r from blockIdx.y * M on; a warp owns n.
template <typename T, int M>
__global__ void __launch_bounds__(kThreads) few_forward_kernel(T* y, const T* x, Nf4 w, const T* bias, int64_t rows,
                                                               int64_t out, int64_t in, bool fast, bool x_fast) {
    __shared__ float numbers[16];
    if (threadIdx.x < 16) numbers[threadIdx.x] = kNf4[threadIdx.x];
    __syncthreads();
    const int lane = threadIdx.x % 32;
    const int64_t n = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32, first = int64_t(blockIdx.y) * M;
    if (n >= out) return;  // whole warps
    float sum[M] = {};
    for (int64_t c = lane * 8; c < in; c += 256) {
        const int count = static_cast<int>(min(in - c, int64_t{8}));
        float weight[8];
        weights8<T>(weight, numbers, w, n, c, count, in, fast);
#pragma unroll
        for (int m = 0; m < M; m++) {
            if (first + m >= rows) continue;
            float v[8];
            load8(v, x + (first + m) * in + c, count, x_fast);
#pragma unroll
            for (int j = 0; j < 8; j++) sum[m] += v[j] * weight[j];
        }
    }
#pragma unroll
    for (int m = 0; m < M; m++) {
        const float total = warp_sum(sum[m]);
        if (lane == 0 && first + m < rows) y[(first + m) * out + n] = store<T>(total + (bias ? load(bias[n]) : 0.0f));
    }
}

// dx[r, c] for up to M rows; a block owns 256 columns, a lane 8 of them, and its warps take the rows of W in turn.
template <typename T, int M>
__global__ void __launch_bounds__(kThreads) few_backward_kernel(T* dx, const T* dy, Nf4 w, int64_t rows, int64_t out,
                                                                int64_t in, bool accumulate, bool fast) {
    __shared__ float numbers[16], sums[kWarps][256];
    if (threadIdx.x < 16) numbers[threadIdx.x] = kNf4[threadIdx.x];
    __syncthreads();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t left = int64_t(blockIdx.x) * 256, c = left + lane * 8, first = int64_t(blockIdx.y) * M;
    const int count = static_cast<int>(max(int64_t{0}, min(in - c, int64_t{8})));
    float sum[M][8] = {};
    for (int64_t n = warp; n < out && count > 0; n += kWarps) {
        float weight[8];
        weights8<T>(weight, numbers, w, n, c, count, in, fast);
#pragma unroll
        for (int m = 0; m < M; m++) {
            const float d = first + m < rows ? load(dy[(first + m) * out + n]) : 0.0f;
#pragma unroll
            for (int j = 0; j < 8; j++) sum[m][j] += d * weight[j];
        }
    }
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int j = 0; j < 8; j++) sums[warp][lane * 8 + j] = sum[m][j];
        __syncthreads();
        const int64_t own = left + threadIdx.x;
        if (own < in && first + m < rows) {
            float total = 0;
#pragma unroll
            for (int i = 0; i < kWarps; i++) total += sums[i][threadIdx.x];
            T* to = dx + (first + m) * in + own;
            *to = store<T>(accumulate ? load(*to) + total : total);
        }
        __syncthreads();  // the next row writes `sums` again
    }
}

// ---- tiles on tensor cores -------------------------------------------------------------------------------------------

constexpr int kTile = 64;  // rows, columns and terms of a block's tiles
constexpr int kTileThreads = 128;

// Rows are 8 longer than a tile, so that the 8 rows that ldmatrix reads at once begin in different banks.
struct Tiles {
    __nv_bfloat16 a[2][kTile][kTile + 8];  // of x or dy: [rows, terms]
    __nv_bfloat16 w[2][kTile][kTile + 8];  // of the matrix: [out, in]
    float numbers[16];
};
static_assert(fits_every_card<Tiles>);

// Forward: y[r, o] = sum over i of x[r, i] w[o, i] + bias[o]. Backward: dx[r, i] = sum over o of dy[r, o] w[o, i]. A block owns
// 64 x 64 of the result, a warp 16 rows of it.
template <bool Backward>
__global__ void __launch_bounds__(kTileThreads)
    tiles_kernel(__nv_bfloat16* y, const __nv_bfloat16* x, Nf4 w, const __nv_bfloat16* bias, int64_t rows, int64_t out,
                 int64_t in, bool accumulate, bool fast, bool x_fast) {
    auto& tiles = *dynamic_shared<Tiles>();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t top = int64_t(blockIdx.y) * kTile, left = int64_t(blockIdx.x) * kTile;
    const int64_t width = Backward ? in : out, terms = Backward ? out : in;
    if (threadIdx.x < 16) tiles.numbers[threadIdx.x] = kNf4[threadIdx.x];
    __syncthreads();

    const auto load_a = [&](int64_t k, int to) {
        for (int i = threadIdx.x; i < kTile * kTile / 8; i += kTileThreads) {
            const int row = i / (kTile / 8), column = i % (kTile / 8) * 8;
            const int64_t r = top + row, c = k + column;
            if (x_fast) {
                const bool inside = r < rows && c < terms;
                cp_async_16(&tiles.a[to][row][column], inside ? x + r * terms + c : x, inside);
            } else {
                for (int j = 0; j < 8; j++) {
                    const bool inside = r < rows && c + j < terms;
                    tiles.a[to][row][column + j] = inside ? x[r * terms + c + j] : __float2bfloat16_rn(0.0f);
                }
            }
        }
        cp_async_commit();
    };
    const auto restore_w = [&](int64_t k, int to) {
        for (int i = threadIdx.x; i < kTile * kTile / 8; i += kTileThreads) {
            const int row = i / (kTile / 8), column = i % (kTile / 8) * 8;
            const int64_t r = (Backward ? k : left) + row, c = (Backward ? left : k) + column;
            float v[8] = {};
            const int count = r < out ? static_cast<int>(max(int64_t{0}, min(in - c, int64_t{8}))) : 0;
            if (count > 0) weights8<float>(v, tiles.numbers, w, r, c, count, in, fast);
            store8(&tiles.w[to][row][column], v, 8, true);
        }
    };

    float sum[kTile / 8][4] = {};
    load_a(0, 0);
    for (int64_t k = 0, now = 0; k < terms; k += kTile, now ^= 1) {
        restore_w(k, static_cast<int>(now));
        cp_async_wait<0>();
        // This round's tiles are there, and every warp is done with the round before, whose tiles are written next.
        __syncthreads();
        if (k + kTile < terms) load_a(k + kTile, static_cast<int>(now ^ 1));
#pragma unroll
        for (int d = 0; d < kTile; d += 16) {
            unsigned a[4];
            ldmatrix_x4(a, &tiles.a[now][warp * 16 + lane % 16][d + lane / 16 * 8]);
#pragma unroll
            for (int n = 0; n < kTile; n += 16) {
                unsigned b[4];  // columns n to n + 7, then n + 8 to n + 15
                if (Backward) {
                    ldmatrix_x4_trans(b, &tiles.w[now][d + lane % 16][n + lane / 16 * 8]);
                } else {
                    ldmatrix_x4(b, &tiles.w[now][n + lane / 16 * 8 + lane % 8][d + lane / 8 % 2 * 8]);
                }
                mma_m16n8k16_bf16(sum[n / 8], a, b);
                mma_m16n8k16_bf16(sum[n / 8 + 1], a, b + 2);
            }
        }
    }
    cp_async_wait<0>();  // with no terms, the first copies are still under way

    // This lane holds the rows lane / 4 and lane / 4 + 8 of its warp's 16, and of each 8 columns the two from lane % 4 * 2 on.
#pragma unroll
    for (int n = 0; n < kTile / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int64_t r = top + warp * 16 + lane / 4 + i / 2 * 8, c = left + n * 8 + lane % 4 * 2 + i % 2;
            if (r >= rows || c >= width) continue;
            __nv_bfloat16* to = y + r * width + c;
            float v = sum[n][i];
            if (!Backward && bias) v += load(bias[c]);
            if (Backward && accumulate) v += load(*to);
            *to = store<__nv_bfloat16>(v);
        }
    }
}

// ---- entries ---------------------------------------------------------------------------------------------------------

bool fast_matrix(const Nf4& w, int64_t in) { return in % 8 == 0 && reinterpret_cast<uintptr_t>(w.packed) % 4 == 0; }

template <typename T, int M>
int32_t few_forward(kt_ctx* ctx, T* y, const T* x, const Nf4& w, const T* bias, int64_t rows, int64_t out, int64_t in) {
    const dim3 blocks(blocks_of(out, kWarps), blocks_of(rows, M));
    return start(ctx, "nf4_linear_forward", few_forward_kernel<T, M>, blocks, kThreads, 0, y, x, w, bias, rows, out, in,
                 fast_matrix(w, in), in % 8 == 0 && aligned16(x));
}

template <typename T, int M>
int32_t few_backward(kt_ctx* ctx, T* dx, const T* dy, const Nf4& w, int64_t rows, int64_t out, int64_t in, bool accumulate) {
    const dim3 blocks(blocks_of(in, 256), blocks_of(rows, M));
    return start(ctx, "nf4_linear_backward", few_backward_kernel<T, M>, blocks, kThreads, 0, dx, dy, w, rows, out, in,
                 accumulate, fast_matrix(w, in));
}

int32_t nf4_linear_forward(kt_ctx* ctx, void* y, const void* x, const uint8_t* packed, const float* absmax,
                           const uint8_t* absmax_codes, const float* nested_absmax, const float* nested_map,
                           float nested_offset, const void* bias, int64_t rows, int64_t out, int64_t in, int32_t dtype) {
    const Nf4 w{packed, absmax, absmax_codes, nested_absmax, nested_map, nested_offset};
    if (dtype == KT_BF16 && rows > kFew) {
        return start(ctx, "nf4_linear_forward", tiles_kernel<false>, dim3(blocks_of(out, kTile), blocks_of(rows, kTile)),
                     kTileThreads, sizeof(Tiles), static_cast<__nv_bfloat16*>(y), static_cast<const __nv_bfloat16*>(x), w,
                     static_cast<const __nv_bfloat16*>(bias), rows, out, in, false, fast_matrix(w, in),
                     in % 8 == 0 && aligned16(x));
    }
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        auto* const run = rows <= 1   ? few_forward<T, 1>
                          : rows <= 2 ? few_forward<T, 2>
                          : rows <= 4 ? few_forward<T, 4>
                                      : few_forward<T, kFew>;
        status = run(ctx, static_cast<T*>(y), static_cast<const T*>(x), w, static_cast<const T*>(bias), rows, out, in);
    });
    return known ? status : bad_dtype(ctx, "nf4_linear_forward", dtype);
}

int32_t nf4_linear_backward(kt_ctx* ctx, void* dx, const void* dy, const uint8_t* packed, const float* absmax,
                            const uint8_t* absmax_codes, const float* nested_absmax, const float* nested_map,
                            float nested_offset, int64_t rows, int64_t out, int64_t in, int32_t accumulate, int32_t dtype) {
    const Nf4 w{packed, absmax, absmax_codes, nested_absmax, nested_map, nested_offset};
    if (dtype == KT_BF16 && rows > kFew) {
        return start(ctx, "nf4_linear_backward", tiles_kernel<true>, dim3(blocks_of(in, kTile), blocks_of(rows, kTile)),
                     kTileThreads, sizeof(Tiles), static_cast<__nv_bfloat16*>(dx), static_cast<const __nv_bfloat16*>(dy), w,
                     nullptr, rows, out, in, accumulate != 0, fast_matrix(w, in), out % 8 == 0 && aligned16(dy));
    }
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        auto* const run = rows <= 1   ? few_backward<T, 1>
                          : rows <= 2 ? few_backward<T, 2>
                          : rows <= 4 ? few_backward<T, 4>
                                      : few_backward<T, kFew>;
        status = run(ctx, static_cast<T*>(dx), static_cast<const T*>(dy), w, rows, out, in, accumulate != 0);
    });
    return known ? status : bad_dtype(ctx, "nf4_linear_backward", dtype);
}

}  // namespace

void add_nf4_linear(kt_table& table) {
    table.nf4_linear_forward = nf4_linear_forward;
    table.nf4_linear_backward = nf4_linear_backward;
}

}  // namespace kt
