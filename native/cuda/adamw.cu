// AdamW, of whole tensors and by rows, and the sums of squares that clipping needs. A thread owns an element.
#include "optimizer.cuh"
#include "table.h"

namespace kt {
namespace {

// The new value of one master; m and v are updated in place, unrounded.
__device__ inline float updated(float p, float& m, float& v, float g, const AdamwStep& s) {
    p = __fmul_rn(p, s.decay);
    const bool near = s.weight1 < 0.5f;  // of m and g, the sum starts at the one that weighs more
    m = __fmaf_rn(near ? s.weight1 : __fsub_rn(s.weight1, 1.0f), __fsub_rn(g, m), near ? m : g);
    v = __fmaf_rn(__fmul_rn(s.weight2, g), g, __fmul_rn(v, s.b2));
    return stepped(p, m, v, s);
}

template <bool Split, typename P, typename M>
__device__ inline void update(P* param, int16_t* low, M* m, M* v, int64_t i, float g, const AdamwStep& s) {
    float mi = load(m[i]), vi = load(v[i]);
    store_master<Split>(param, low, i, updated(load_master<Split>(param, low, i), mi, vi, g, s));
    m[i] = store<M>(mi);
    v[i] = store<M>(vi);
}

struct Moved {
    void* param;
    int16_t* low;
    void* m;
    void* v;
    const void* grad;
    int64_t n;
};

template <bool Split, typename P, typename M, typename G>
__global__ void __launch_bounds__(kEach) adamw_kernel(Batch<Moved> batch, AdamwStep s) {
    const int own = batch.mine();
    const Moved& t = batch.tensors[own];
    const int64_t i = int64_t(blockIdx.x - batch.first[own]) * kEach + threadIdx.x;
    if (i >= t.n) return;
    const float g = __fmul_rn(load(static_cast<const G*>(t.grad)[i]), s.grad_scale);
    update<Split>(static_cast<P*>(t.param), t.low, static_cast<M*>(t.m), static_cast<M*>(t.v), i, g, s);
}

// A block owns a row of the table.
template <bool Split, typename P, typename M>
__global__ void __launch_bounds__(kEach) adamw_rows_kernel(P* param, int16_t* low, M* m, M* v, const float* grad,
                                                           const int32_t* slot, int64_t cols, AdamwStep s, bool decays) {
    const int64_t at = blockIdx.x * cols;
    const int32_t own = slot[blockIdx.x];
    if (own == -2 && !decays) return;
    for (int64_t c = threadIdx.x; c < cols; c += kEach) {
        if (own == -2) {  // its moments are zero
            store_master<Split>(param, low, at + c, __fmul_rn(load_master<Split>(param, low, at + c), s.decay));
        } else {
            update<Split>(param, low, m, v, at + c, own < 0 ? 0.0f : __fmul_rn(grad[own * cols + c], s.grad_scale), s);
        }
    }
}

// ---- sum of squares --------------------------------------------------------------------------------------------------

constexpr int64_t kSquares = 1 << 16;  // elements of a block
constexpr int64_t kMostBlocks = 1024;  // then blocks take more

__device__ inline double warp_sum(double v) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kWarp, v, step);
    return v;
}

// The sum over a block in thread 0.
__device__ inline double block_total(double v) {
    __shared__ double partial[kEach / 32];
    v = warp_sum(v);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
    __syncthreads();
    v = 0;
    for (int w = 0; w < kEach / 32; w++) v += partial[w];
    return v;
}

struct Summed {
    const void* x;
    int64_t n;
    int aligned;
};

inline int64_t blocks_of_squares(int64_t n) {
    return std::max<int64_t>(1, std::min((n + kSquares - 1) / kSquares, kMostBlocks));
}

template <typename T>
__global__ void __launch_bounds__(kEach) squares_kernel(double* sums, Batch<Summed> batch) {
    const int own = batch.mine();
    const Summed& t = batch.tensors[own];
    const T* x = static_cast<const T*>(t.x);
    const int64_t blocks = batch.blocks(own), block = blockIdx.x - batch.first[own];
    const int64_t begin = t.n * block / blocks / 8 * 8;
    const int64_t end = block + 1 == blocks ? t.n : t.n * (block + 1) / blocks / 8 * 8;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x * 8; i < end; i += kEach * 8) {
        const int count = static_cast<int>(min(end - i, int64_t{8}));
        float v[8];
        load8(v, x + i, count, t.aligned && count == 8);
#pragma unroll
        for (int j = 0; j < 8; j++) sum += static_cast<double>(v[j]) * v[j];
    }
    sum = block_total(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// A block joins what the blocks of one tensor have summed.
__global__ void __launch_bounds__(kEach) join_squares_kernel(float* out, const double* sums, Batch<Summed> batch) {
    const int64_t begin = batch.first[blockIdx.x], end = begin + batch.blocks(blockIdx.x);
    double sum = 0;
    for (int64_t b = begin + threadIdx.x; b < end; b += kEach) sum += sums[b];
    sum = block_total(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = static_cast<float>(sum);
}

// ---- entries ---------------------------------------------------------------------------------------------------------

// Calls f(split, param, moment) with values of the types named; false where there is no such combination.
template <typename F>
bool with_state(int32_t param_dtype, bool split, int32_t moment_dtype, const F& f) {
    bool known = false;
    with_master(param_dtype, split, [&](auto is_split, auto param) {
        known = with_type(moment_dtype, [&](auto moment) { f(is_split, param, moment); });
    });
    return known;
}

int32_t sum_squares(kt_ctx* ctx, float* out, const void* const* x, const int64_t* n, int64_t tensors, int32_t dtype) {
    const char* op = "sum_squares";
    int64_t blocks = 0;
    for (int64_t i = 0; i < tensors; i++) blocks += blocks_of_squares(n[i]);
    // Launches follow each other in the stream, and each takes the memory anew.
    double* sums = nullptr;
    int32_t status = scratch(ctx, op, blocks, &sums);
    if (status != KT_OK) return status;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = in_batches<Summed>(
            tensors, [&](int64_t i) { return Summed{x[i], n[i], aligned16(x[i])}; },
            [&](int64_t i) { return blocks_of_squares(n[i]); },
            [&](const Batch<Summed>& batch, int64_t first, unsigned launched) {
                const int32_t summed = start(ctx, op, squares_kernel<T>, launched, kEach, 0, sums, batch);
                if (summed != KT_OK) return summed;
                return start(ctx, op, join_squares_kernel, static_cast<unsigned>(batch.count), kEach, 0, out + first, sums,
                             batch);
            });
    });
    return known ? status : bad_dtype(ctx, op, dtype);
}

int32_t adamw(kt_ctx* ctx, void* const* param, int16_t* const* low, void* const* m, void* const* v, const void* const* grad,
              const int64_t* n, int64_t tensors, double lr, double b1, double b2, double eps, double weight_decay,
              double correction1, double correction2, float grad_scale, int32_t param_dtype, int32_t moment_dtype,
              int32_t grad_dtype) {
    const AdamwStep step = adamw_step(lr, b1, b2, eps, weight_decay, correction1, correction2, grad_scale);
    int32_t status = KT_OK;
    bool known_grad = false;
    const bool known = with_state(param_dtype, low != nullptr, moment_dtype, [&](auto split, auto p, auto moment) {
        using P = decltype(p);
        using M = decltype(moment);
        known_grad = with_type(grad_dtype, [&](auto g) {
            using G = decltype(g);
            status = in_batches<Moved>(
                tensors, [&](int64_t i) { return Moved{param[i], low ? low[i] : nullptr, m[i], v[i], grad[i], n[i]}; },
                [&](int64_t i) { return (n[i] + kEach - 1) / kEach; },
                [&](const Batch<Moved>& batch, int64_t, unsigned blocks) {
                    return start(ctx, "adamw", adamw_kernel<decltype(split)::value, P, M, G>, blocks, kEach, 0, batch, step);
                });
        });
    });
    if (known && known_grad) return status;
    return fail(ctx, KT_BAD_ARGUMENT, "adamw: no variant for dtypes %d (%s), %d, %d", param_dtype, low ? "split" : "whole",
                moment_dtype, grad_dtype);
}

int32_t adamw_rows(kt_ctx* ctx, void* param, int16_t* low, void* m, void* v, const float* grad, const int32_t* slot,
                   int64_t vocab, int64_t cols, double lr, double b1, double b2, double eps, double weight_decay,
                   double correction1, double correction2, float grad_scale, int32_t param_dtype, int32_t moment_dtype) {
    const AdamwStep step = adamw_step(lr, b1, b2, eps, weight_decay, correction1, correction2, grad_scale);
    int32_t status = KT_OK;
    const bool known = with_state(param_dtype, low != nullptr, moment_dtype, [&](auto split, auto p, auto moment) {
        using P = decltype(p);
        using M = decltype(moment);
        status = start(ctx, "adamw_rows", adamw_rows_kernel<decltype(split)::value, P, M>, blocks_of(vocab, 1), kEach, 0,
                       static_cast<P*>(param), low, static_cast<M*>(m), static_cast<M*>(v), grad, slot, cols, step,
                       weight_decay != 0);
    });
    if (known) return status;
    return fail(ctx, KT_BAD_ARGUMENT, "adamw_rows: no variant for dtypes %d (%s), %d", param_dtype, low ? "split" : "whole",
                moment_dtype);
}

}  // namespace

void add_adamw(kt_table& table) {
    table.sum_squares = sum_squares;
    table.adamw = adamw;
    table.adamw_rows = adamw_rows;
}

}  // namespace kt
