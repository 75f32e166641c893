// NF4: quantise, with double quantisation of the scales, and back.
#include "nf4.cuh"

#include <cmath>

#include "blockwise.cuh"
#include "table.h"

namespace kt {
namespace {

__device__ inline float load(__half x) { return __half2float(x); }

// ---- quantising ------------------------------------------------------------------------------------------------------

constexpr int kWarps = 8;  // of a block; a warp owns an NF4 block, a lane two of its values

// The fault: twice the index of the first value that is not finite, and one more where it is only too large for the dtype.
template <typename T, typename W>
__global__ void __launch_bounds__(kWarps * 32) quantize_kernel(uint8_t* packed, float* absmax, const T* x, int64_t n,
                                                               unsigned long long* fault) {
    const int lane = threadIdx.x % 32;
    const int64_t block = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32;
    const int64_t first = block * kNf4Block + lane * 2;
    if (block * kNf4Block >= n) return;  // whole warps
    float value[2] = {};                 // an odd number of values is filled up with a zero
    float largest = 0;
    for (int i = 0; i < 2; i++) {
        if (first + i >= n) continue;
        const float raw = load(x[first + i]);
        value[i] = rounded<W>(raw);
        if (!(fabsf(value[i]) < INFINITY)) {
            atomicMin(fault, static_cast<unsigned long long>(first + i) * 2 + (fabsf(raw) < INFINITY ? 1 : 0));
        }
        largest = fmaxf(largest, fabsf(value[i]));
    }
    largest = warp_max(largest);
    // A whole block is multiplied by the reciprocal, a short one divided, as the reference does.
    const bool whole = (block + 1) * kNf4Block <= n;
    const float divisor = fmaxf(largest, kTiny);
    const float reciprocal = __fdiv_rn(1.0f, divisor);
    if (lane == 0) absmax[block] = whole ? largest : divisor;
    unsigned code[2] = {};
    for (int i = 0; i < 2; i++) {
        float y = whole ? __fmul_rn(value[i], reciprocal) : __fdiv_rn(value[i], divisor);
        y = y > 1.0f ? 1.0f : y < -1.0f ? -1.0f : y;
        // How many midpoints lie below: the nearest code, the lower one of a tie.
#pragma unroll
        for (int c = 0; c < 15; c++) code[i] += y > __fmul_rn(__fadd_rn(kNf4[c], kNf4[c + 1]), 0.5f) ? 1u : 0u;
    }
    if (first < n) packed[first / 2] = static_cast<uint8_t>(code[0] << 4 | code[1]);
}

// ---- double quantisation ---------------------------------------------------------------------------------------------

// The mean of n values in the order of torch's sum over a contiguous F32 tensor with one thread: running sums (`wide` wide,
// 4 deep) that are carried into coarser ones every 2^power steps. It is part of the format, so its last bit counts. One
// warp; a lane owns one running sum.
constexpr int kDeep = 4;
constexpr int kLevels = 4;

__global__ void __launch_bounds__(32) mean_kernel(float* mean, const float* x, int64_t n, int wide, int power,
                                                  unsigned long long* fault) {
    __shared__ float sums[32];
    const int lane = threadIdx.x;
    const int64_t vectors = n / wide, rows = vectors / kDeep, step = int64_t{1} << power;
    const bool active = lane < kDeep * wide;
    float level[kLevels] = {};
    int64_t row = 0;
    while (row < rows) {
        const bool whole = row + step <= rows;
        const int64_t end = whole ? row + step : rows;
        for (; row < end; row++) {
            if (active) level[0] = __fadd_rn(level[0], x[row * kDeep * wide + lane]);
        }
        if (!whole) break;
#pragma unroll
        for (int l = 1; l < kLevels; l++) {
            level[l] = __fadd_rn(level[l], level[l - 1]);
            level[l - 1] = 0;
            if (row & ((step - 1) << (l * power))) break;
        }
    }
#pragma unroll
    for (int l = 1; l < kLevels; l++) level[0] = __fadd_rn(level[0], level[l]);
    for (int64_t v = rows * kDeep; v < vectors; v++) {
        if (lane < wide) level[0] = __fadd_rn(level[0], x[v * wide + lane]);
    }
    sums[lane] = level[0];
    __syncwarp();
    if (lane != 0) return;
    float sum = 0;
    for (int64_t i = vectors * wide; i < n; i++) sum = __fadd_rn(sum, x[i]);
    for (int i = 0; i < wide; i++) {
        float own = sums[i];
        for (int k = 1; k < kDeep; k++) own = __fadd_rn(own, sums[k * wide + i]);
        sum = __fadd_rn(sum, own);
    }
    const float result = n > 0 ? __fdiv_rn(sum, static_cast<float>(n)) : 0.0f;
    if (!(fabsf(result) < INFINITY)) atomicMin(fault, 0ull);
    *mean = result;
}

// A block owns kBlock scales.
__global__ void __launch_bounds__(kBlock) quantize_absmax_kernel(uint8_t* codes, float* nested_absmax, const float* offset,
                                                                 const float* absmax, const float* map, int64_t n) {
    __shared__ float midpoints[kBlock];
    const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
    const int count = static_cast<int>(min(n - int64_t(blockIdx.x) * kBlock, int64_t{kBlock}));
    midpoints[threadIdx.x] = midpoint_above(map);
    __syncthreads();
    const float x = i < n ? __fsub_rn(absmax[i], *offset) : 0.0f;
    const int code = quantize(nested_absmax + blockIdx.x, x, count, midpoints);
    if (i < n) codes[i] = static_cast<uint8_t>(code);
}

// ---- dequantising ----------------------------------------------------------------------------------------------------

constexpr int kRounds = 4;  // of a block, so that its table is worth filling

// y[i] = value first + i. fast: eight at a time.
template <typename T>
__global__ void __launch_bounds__(kEach) dequantize_kernel(T* y, Nf4 w, int64_t first, int64_t count, bool fast) {
    __shared__ float numbers[16], map[256];
    if (threadIdx.x < 16) numbers[threadIdx.x] = kNf4[threadIdx.x];
    if (!w.absmax) map[threadIdx.x] = w.nested_map[threadIdx.x];
    __syncthreads();
    w.nested_map = map;
    for (int round = 0; round < kRounds; round++) {
        const int64_t i = ((int64_t(blockIdx.x) * kRounds + round) * kEach + threadIdx.x) * 8;
        if (i >= count) return;
        float v[8];
        const int mine = static_cast<int>(min(count - i, int64_t{8}));
        if (fast && mine == 8) {
            nf4_eight(v, numbers, w, first + i);
        } else {
            for (int j = 0; j < mine; j++) v[j] = nf4_value(numbers, w, first + i + j);
        }
        store8(y + i, v, mine, fast && mine == 8);
    }
}

__global__ void __launch_bounds__(kEach) scales_kernel(float* scales, Nf4 w, int64_t first, int64_t count) {
    const int64_t i = int64_t(blockIdx.x) * kEach + threadIdx.x;
    if (i < count) scales[i] = nf4_scale(w, first + i);
}

// ---- entries ---------------------------------------------------------------------------------------------------------

// Weights are quantised once, while a model is loaded: waiting for the kernel costs nothing there.
int32_t wait(kt_ctx* ctx, const char* op, int32_t status) {
    if (status != KT_OK) return status;
    status = status_of(ctx, op, cudaStreamSynchronize(ctx->stream));
    return status == KT_OK ? check_faults(ctx) : status;
}

int32_t nf4_quantize(kt_ctx* ctx, uint8_t* packed, float* absmax, const void* x, int64_t n, int32_t weight_dtype,
                     int32_t x_dtype) {
    int32_t status = KT_OK;
    bool known_x = true;
    unsigned long long* fault = fault_word(ctx, Checked::nf4_quantize, 0);
    const unsigned blocks = blocks_of(n, kNf4Block * kWarps);
    const bool known = with_type(weight_dtype, [&](auto type) {
        using W = decltype(type);
        if (x_dtype == KT_F32) {
            status = start(ctx, "nf4_quantize", quantize_kernel<float, W>, blocks, kWarps * 32, 0, packed, absmax,
                           static_cast<const float*>(x), n, fault);
        } else if (x_dtype == KT_BF16) {
            status = start(ctx, "nf4_quantize", quantize_kernel<__nv_bfloat16, W>, blocks, kWarps * 32, 0, packed, absmax,
                           static_cast<const __nv_bfloat16*>(x), n, fault);
        } else if (x_dtype == KT_F16) {
            status = start(ctx, "nf4_quantize", quantize_kernel<__half, W>, blocks, kWarps * 32, 0, packed, absmax,
                           static_cast<const __half*>(x), n, fault);
        } else {
            known_x = false;
        }
    });
    if (!known || !known_x) return bad_dtypes(ctx, "nf4_quantize", weight_dtype, x_dtype);
    return wait(ctx, "nf4_quantize", status);
}

int ceil_log2(int64_t n) {
    int log = 0;
    while ((int64_t{1} << log) < n) log++;
    return log;
}

int32_t nf4_quantize_absmax(kt_ctx* ctx, uint8_t* absmax_codes, float* nested_absmax, float* nested_offset,
                            const float* absmax, const float* nested_map, int64_t n) {
    const int wide = n < 8 ? 1 : 8;
    const int power = std::max(4, ceil_log2(n / wide / kDeep) / kLevels);
    int32_t status = start(ctx, "nf4_quantize_absmax", mean_kernel, 1, 32, 0, nested_offset, absmax, n, wide, power,
                           fault_word(ctx, Checked::nf4_quantize_absmax, 0));
    status = wait(ctx, "nf4_quantize_absmax", status);
    if (status != KT_OK) return status;
    return start(ctx, "nf4_quantize_absmax", quantize_absmax_kernel, blocks_of(n, kBlock), kBlock, 0, absmax_codes,
                 nested_absmax, nested_offset, absmax, nested_map, n);
}

int32_t nf4_dequantize(kt_ctx* ctx, void* y, const uint8_t* packed, const float* absmax, const uint8_t* absmax_codes,
                       const float* nested_absmax, const float* nested_map, float nested_offset, int64_t first,
                       int64_t count, int32_t dtype) {
    const Nf4 w{packed, absmax, absmax_codes, nested_absmax, nested_map, nested_offset};
    const bool fast = first % 8 == 0 && aligned16(y) && reinterpret_cast<uintptr_t>(packed) % 4 == 0;
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "nf4_dequantize", dequantize_kernel<T>, blocks_of(count, kRounds * kEach * 8), kEach, 0,
                       static_cast<T*>(y), w, first, count, fast);
    });
    return known ? status : bad_dtype(ctx, "nf4_dequantize", dtype);
}

int32_t nf4_scales(kt_ctx* ctx, float* scales, const float* absmax, const uint8_t* absmax_codes, const float* nested_absmax,
                   const float* nested_map, float nested_offset, int64_t first, int64_t count) {
    const Nf4 w{nullptr, absmax, absmax_codes, nested_absmax, nested_map, nested_offset};
    return start(ctx, "nf4_scales", scales_kernel, blocks_of(count, kEach), kEach, 0, scales, w, first, count);
}

}  // namespace

void add_nf4(kt_table& table) {
    table.nf4_quantize = nf4_quantize;
    table.nf4_quantize_absmax = nf4_quantize_absmax;
    table.nf4_dequantize = nf4_dequantize;
    table.nf4_scales = nf4_scales;
}

}  // namespace kt
