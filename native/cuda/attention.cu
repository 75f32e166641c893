// The entries of attention, and its plan: which keys each 16 tokens see, so that tiles wholly masked are never loaded.
#include "attention.cuh"
#include "table.h"

namespace kt {
namespace {

using attention::kGranule;
using attention::Plan;
using attention::Problem;

constexpr int kWarps = 4;

// A warp owns a granule, its first 16 lanes a token each.
__global__ void __launch_bounds__(kWarps * 32)
    plan_kernel(int2* bounds, int2* reach, int2* certain, const int32_t* starts, int64_t rows, Seen s,
                unsigned long long* fault) {
    const int lane = threadIdx.x % 32;
    if (blockIdx.x == 0) {
        for (int64_t r = threadIdx.x; r < rows; r += kWarps * 32) {
            const bool begins = r > 0 || starts[0] == 0;
            const bool rises = starts[r] <= starts[r + 1] && (r + 1 < rows || starts[rows] == s.tokens);
            const int64_t at = begins ? r + 1 : 0;
            if (!begins || !rises) atomicMin(fault, static_cast<unsigned long long>(at) << 32 | static_cast<uint32_t>(starts[at]));
        }
    }
    const int64_t granule = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32, t = granule * kGranule + lane;
    if (granule * kGranule >= s.tokens) return;  // whole warps
    int low = INT32_MAX, end = 0, row_end = 0, span = -1;
    int inner_low = 0, inner_end = INT32_MAX;
    if (lane < kGranule && t < s.tokens) {
        int64_t row = 0, above = rows;  // starts[row] <= t < starts[above]
        while (above - row > 1) {
            const int64_t middle = (row + above) / 2;
            if (starts[middle] <= t) row = middle;
            else above = middle;
        }
        // Within the batch, whatever starts holds: the fault is only told later.
        const int begin = max(0, min(starts[row], static_cast<int>(t)));
        row_end = static_cast<int>(min(s.tokens, max(int64_t{starts[row + 1]}, t + 1)));
        bounds[t] = make_int2(begin, row_end);
        low = s.window > 0 ? max(begin, static_cast<int>(max(int64_t{0}, t - s.window + 1))) : begin;
        end = s.causal ? static_cast<int>(t) + 1 : row_end;
        inner_low = low, inner_end = end;
        span = s.causal && s.spans ? s.spans[t] : -1;
    }
    // The last key of each image that is met here; its tokens need not follow each other.
    for (unsigned rest = __ballot_sync(kWarp, span >= 0); rest != 0;) {
        const int leader = __ffs(static_cast<int>(rest)) - 1;
        const int image = __shfl_sync(kWarp, span, leader), limit = __shfl_sync(kWarp, row_end, leader);
        int last = -1;
        for (int from = limit - 32; last < 0 && from + 31 >= granule * kGranule; from -= 32) {
            const int k = from + lane;
            const unsigned found = __ballot_sync(kWarp, k >= 0 && k < limit && s.spans[max(k, 0)] == image);
            if (found != 0) last = from + 31 - __clz(static_cast<int>(found));
        }
        const bool mine = span == image && row_end == limit;
        if (mine) end = max(end, last + 1);
        rest &= ~__ballot_sync(kWarp, mine);
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        low = min(low, __shfl_xor_sync(kWarp, low, step));
        end = max(end, __shfl_xor_sync(kWarp, end, step));
        inner_low = max(inner_low, __shfl_xor_sync(kWarp, inner_low, step));
        inner_end = min(inner_end, __shfl_xor_sync(kWarp, inner_end, step));
    }
    if (lane == 0) {
        reach[granule] = make_int2(low, end);
        certain[granule] = make_int2(inner_low, inner_end);
    }
}

// delta[t, h] = sum of dy y. Lanes of a warp own one, eight elements each.
template <typename T, int Lanes>
__global__ void __launch_bounds__(kWarps * 32) delta_kernel(float* delta, const T* dy, const T* y, int64_t n, int64_t head_dim,
                                                            bool aligned) {
    const int64_t i = (int64_t(blockIdx.x) * kWarps * 32 + threadIdx.x) / Lanes;
    const int64_t d = threadIdx.x % Lanes * 8;
    float sum = 0;
    if (i < n && d < head_dim) {
        const int count = static_cast<int>(min(head_dim - d, int64_t{8}));
        float a[8], b[8];
        load8(a, dy + i * head_dim + d, count, aligned);
        load8(b, y + i * head_dim + d, count, aligned);
#pragma unroll
        for (int j = 0; j < 8; j++) sum += a[j] * b[j];
    }
#pragma unroll
    for (int step = Lanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kWarp, sum, step);
    if (i < n && threadIdx.x % Lanes == 0) delta[i] = sum;
}

template <typename T, int Lanes>
int32_t sum_delta(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    const int64_t n = p.tokens * p.heads;
    return start(ctx, "attention_backward", delta_kernel<T, Lanes>, blocks_of(n, kWarps * 32 / Lanes), kWarps * 32, 0, plan.delta,
                 static_cast<const T*>(p.dy), static_cast<const T*>(p.y), n, p.head_dim,
                 p.head_dim % 8 == 0 && aligned16(p.dy, p.y));
}

bool bad(kt_ctx* ctx, const char* op, const Problem& p) {
    if (p.dtype != KT_F32 && p.dtype != KT_BF16) {
        bad_dtype(ctx, op, p.dtype);
        return true;
    }
    if (p.tokens > 0 && p.rows < 1) {
        fail(ctx, KT_BAD_ARGUMENT, "%s: %lld tokens in no rows", op, static_cast<long long>(p.tokens));
        return true;
    }
    if (p.head_dim > attention::kMaxHeadDim || p.tokens > INT32_MAX || p.kv_heads < 1 || p.heads % p.kv_heads != 0) {
        fail(ctx, KT_BAD_ARGUMENT, "%s: %lld tokens of %lld heads over %lld, head_dim %lld: at most %d, whole groups", op,
             static_cast<long long>(p.tokens), static_cast<long long>(p.heads), static_cast<long long>(p.kv_heads),
             static_cast<long long>(p.head_dim), attention::kMaxHeadDim);
        return true;
    }
    return false;
}

int32_t make_plan(kt_ctx* ctx, const char* op, const Problem& p, bool backward, Plan& plan) {
    const int64_t granules = (p.tokens + kGranule - 1) / kGranule;
    const int64_t deltas = backward ? p.tokens * p.heads : 0;
    char* memory = nullptr;
    const int64_t bytes = (p.tokens + 2 * granules) * static_cast<int64_t>(sizeof(int2)) +
                          deltas * static_cast<int64_t>(sizeof(float));
    int32_t status = scratch(ctx, op, bytes, &memory);
    if (status != KT_OK) return status;
    plan.bounds = reinterpret_cast<int2*>(memory);
    plan.reach = plan.bounds + p.tokens;
    plan.certain = plan.reach + granules;
    plan.delta = reinterpret_cast<float*>(plan.certain + granules);
    status =
        start(ctx, op, plan_kernel, blocks_of(granules, kWarps), kWarps * 32, 0, plan.bounds, plan.reach,
              plan.certain, p.starts, p.rows, seen_of(p, plan),
              fault_word(ctx, backward ? Checked::attention_backward : Checked::attention_forward, p.tokens));
    return status == KT_OK ? check_faults(ctx) : status;
}

int32_t attention_forward(kt_ctx* ctx, void* y, float* lse, const void* q, const void* k, const void* v,
                          const int32_t* starts, const int32_t* spans, int64_t tokens, int64_t rows, int64_t heads,
                          int64_t kv_heads, int64_t head_dim, float scale, int32_t causal, int64_t window, int32_t dtype) {
    const Problem p{q,    k,      v,    nullptr, nullptr,  y,        nullptr, nullptr, nullptr,     lse,
                    starts, spans, tokens, rows, heads, kv_heads, head_dim, window, scale, causal != 0, dtype};
    if (bad(ctx, "attention_forward", p)) return KT_BAD_ARGUMENT;
    if (tokens == 0) return KT_OK;
    Plan plan{};
    const int32_t status = make_plan(ctx, "attention_forward", p, false, plan);
    if (status != KT_OK) return status;
    if (attention::has_hopper_tiles(ctx, p)) return attention::hopper_forward(ctx, p, plan);
    return attention::has_tiles(p) ? attention::tiles_forward(ctx, p, plan) : attention::plain_forward(ctx, p, plan);
}

int32_t attention_backward(kt_ctx* ctx, void* dq, void* dk, void* dv, const void* dy, const void* q, const void* k,
                           const void* v, const void* y, const float* lse, const int32_t* starts, const int32_t* spans,
                           int64_t tokens, int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim, float scale,
                           int32_t causal, int64_t window, int32_t dtype) {
    const Problem p{q,      k,     v,      y,    dy,    nullptr,  dq,       dk,     dv,    const_cast<float*>(lse),
                    starts, spans, tokens, rows, heads, kv_heads, head_dim, window, scale, causal != 0, dtype};
    if (bad(ctx, "attention_backward", p)) return KT_BAD_ARGUMENT;
    if (tokens == 0) return KT_OK;
    Plan plan{};
    int32_t status = make_plan(ctx, "attention_backward", p, true, plan);
    if (status != KT_OK) return status;
    with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = head_dim <= 64    ? sum_delta<T, 8>(ctx, p, plan)
                 : head_dim <= 128 ? sum_delta<T, 16>(ctx, p, plan)
                                   : sum_delta<T, attention::kMaxHeadDim / 8>(ctx, p, plan);
    });
    if (status != KT_OK) return status;
    if (attention::has_hopper_tiles(ctx, p)) return attention::hopper_backward(ctx, p, plan);
    return attention::has_tiles(p) ? attention::tiles_backward(ctx, p, plan) : attention::plain_backward(ctx, p, plan);
}

}  // namespace

void add_attention(kt_table& table) {
    table.attention_forward = attention_forward;
    table.attention_backward = attention_backward;
}

}  // namespace kt
