// Attention without tensor cores: F32, and BF16 heads that are no whole 16-byte pieces. A warp owns a query (or a key) of one
// head; its lanes take 32 keys (or queries) at a time, and then the head's elements.
#include "attention.cuh"

namespace kt {
namespace {

constexpr int kWarps = 4;
constexpr int kElements = attention::kMaxHeadDim / 32;  // of a head, in one lane

// What a warp shares among its lanes.
struct Shelf {
    float left[attention::kMaxHeadDim], right[attention::kMaxHeadDim];
    float weight[2][32];
};

template <typename T>
__device__ inline void keep(float* shelf, const T* row, int64_t head_dim) {
    for (int64_t d = threadIdx.x % 32; d < head_dim; d += 32) shelf[d] = load(row[d]);
}

template <typename T>
__device__ inline float dot(const float* a, const T* b, int64_t head_dim) {
    float sum = 0;
    for (int64_t d = 0; d < head_dim; d++) sum += a[d] * load(b[d]);
    return sum;
}

// sum[i] += the weighted sum of 32 rows' elements lane + 32 i; rows of weight 0 are not read.
template <typename T>
__device__ inline void add_rows(float* sum, const float* weight, const T* rows, int64_t stride, int64_t head_dim) {
    for (int j = 0; j < 32; j++) {
        const float w = weight[j];
        if (w == 0) continue;
        const T* row = rows + j * stride;
#pragma unroll
        for (int i = 0; i < kElements; i++) {
            const int64_t d = threadIdx.x % 32 + 32 * i;
            if (d < head_dim) sum[i] += w * load(row[d]);
        }
    }
}

template <typename T>
__device__ inline void write(T* row, const float* sum, float factor, int64_t head_dim) {
#pragma unroll
    for (int i = 0; i < kElements; i++) {
        const int64_t d = threadIdx.x % 32 + 32 * i;
        if (d < head_dim) row[d] = store<T>(sum[i] * factor);
    }
}

// Where the keys of a query end: its image may reach to the row's end.
__device__ inline int last_key(const Visible& v) { return v.span >= 0 ? v.row_end : v.causal_end; }

template <typename T>
__global__ void __launch_bounds__(kWarps * 32)
    forward_kernel(T* y, float* lse, const T* q, const T* k, const T* v, Seen s, Heads n) {
    auto& shelf = dynamic_shared<Shelf>()[threadIdx.x / 32];
    const int lane = threadIdx.x % 32;
    const int64_t at = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32;
    if (at >= s.tokens * n.heads) return;  // whole warps
    const int64_t t = at / n.heads, group = at % n.heads / (n.heads / n.kv_heads), stride = n.kv_heads * n.head_dim;
    k += group * n.head_dim;
    v += group * n.head_dim;
    keep(shelf.left, q + at * n.head_dim, n.head_dim);
    __syncwarp();
    const Visible mine = visible_from(s, t);
    float top = -INFINITY, total = 0, sum[kElements] = {};
    for (int from = mine.low; from < last_key(mine); from += 32) {
        const int key = from + lane;
        const bool visible = key < last_key(mine) && sees(mine, key, s.spans);
        if (__ballot_sync(kWarp, visible) == 0) continue;
        const float score = visible ? dot(shelf.left, k + key * stride, n.head_dim) * n.scale : -INFINITY;
        const float reach = fmaxf(top, warp_max(score));
        const float shrink = expf(top - reach), p = expf(score - reach);
        top = reach;
        total = total * shrink + warp_sum(p);
        shelf.weight[0][lane] = p;
        __syncwarp();
#pragma unroll
        for (int i = 0; i < kElements; i++) sum[i] *= shrink;
        add_rows(sum, shelf.weight[0], v + from * stride, stride, n.head_dim);
        __syncwarp();  // the next round writes the weights again
    }
    write(y + at * n.head_dim, sum, 1.0f / total, n.head_dim);
    if (lse && lane == 0) lse[at] = top + logf(total);
}

template <typename T>
__global__ void __launch_bounds__(kWarps * 32) backward_query_kernel(T* dq, const T* dy, const T* q, const T* k, const T* v,
                                                                     const float* lse, const float* delta, Seen s, Heads n) {
    auto& shelf = dynamic_shared<Shelf>()[threadIdx.x / 32];
    const int lane = threadIdx.x % 32;
    const int64_t at = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32;
    if (at >= s.tokens * n.heads) return;  // whole warps
    const int64_t t = at / n.heads, group = at % n.heads / (n.heads / n.kv_heads), stride = n.kv_heads * n.head_dim;
    k += group * n.head_dim;
    v += group * n.head_dim;
    keep(shelf.left, q + at * n.head_dim, n.head_dim);
    keep(shelf.right, dy + at * n.head_dim, n.head_dim);
    __syncwarp();
    const Visible mine = visible_from(s, t);
    float sum[kElements] = {};
    for (int from = mine.low; from < last_key(mine); from += 32) {
        const int key = from + lane;
        const bool visible = key < last_key(mine) && sees(mine, key, s.spans);
        if (__ballot_sync(kWarp, visible) == 0) continue;
        float ds = 0;
        if (visible) {
            const float p = expf(dot(shelf.left, k + key * stride, n.head_dim) * n.scale - lse[at]);
            ds = p * (dot(shelf.right, v + key * stride, n.head_dim) - delta[at]) * n.scale;
        }
        shelf.weight[0][lane] = ds;
        __syncwarp();
        add_rows(sum, shelf.weight[0], k + from * stride, stride, n.head_dim);
        __syncwarp();  // the next round writes the weights again
    }
    write(dq + at * n.head_dim, sum, 1.0f, n.head_dim);
}

// A warp owns a key of one key head, and goes through the queries of every head of its group.
template <typename T>
__global__ void __launch_bounds__(kWarps * 32)
    backward_key_kernel(T* dk, T* dv, const T* dy, const T* q, const T* k, const T* v, const float* lse, const float* delta,
                        Seen s, Heads n) {
    auto& shelf = dynamic_shared<Shelf>()[threadIdx.x / 32];
    const int lane = threadIdx.x % 32;
    const int64_t at = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32;
    if (at >= s.tokens * n.kv_heads) return;  // whole warps
    const int64_t key = at / n.kv_heads, group = n.heads / n.kv_heads, stride = n.heads * n.head_dim;
    keep(shelf.left, k + at * n.head_dim, n.head_dim);
    keep(shelf.right, v + at * n.head_dim, n.head_dim);
    __syncwarp();
    const int2 row = s.bounds[key];
    float sum_k[kElements] = {}, sum_v[kElements] = {};
    for (int from = row.x; from < row.y; from += 32) {
        const int query = from + lane;
        const bool visible = query < row.y && sees(visible_from(s, query), static_cast<int>(key), s.spans);
        if (__ballot_sync(kWarp, visible) == 0) continue;
        for (int64_t h = at % n.kv_heads * group; h < (at % n.kv_heads + 1) * group; h++) {
            float p = 0, ds = 0;
            if (visible) {
                const int64_t i = query * n.heads + h;
                p = expf(dot(shelf.left, q + i * n.head_dim, n.head_dim) * n.scale - lse[i]);
                ds = p * (dot(shelf.right, dy + i * n.head_dim, n.head_dim) - delta[i]) * n.scale;
            }
            shelf.weight[0][lane] = p;
            shelf.weight[1][lane] = ds;
            __syncwarp();
            add_rows(sum_v, shelf.weight[0], dy + (from * n.heads + h) * n.head_dim, stride, n.head_dim);
            add_rows(sum_k, shelf.weight[1], q + (from * n.heads + h) * n.head_dim, stride, n.head_dim);
            __syncwarp();  // the next round writes the weights again
        }
    }
    write(dk + at * n.head_dim, sum_k, 1.0f, n.head_dim);
    write(dv + at * n.head_dim, sum_v, 1.0f, n.head_dim);
}

}  // namespace

namespace attention {

int32_t plain_forward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    int32_t status = KT_OK;
    with_type(p.dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "attention_forward", forward_kernel<T>, blocks_of(p.tokens * p.heads, kWarps), kWarps * 32,
                       kWarps * sizeof(Shelf), static_cast<T*>(p.out), p.lse, static_cast<const T*>(p.q),
                       static_cast<const T*>(p.k), static_cast<const T*>(p.v), seen_of(p, plan),
                       Heads{p.heads, p.kv_heads, p.head_dim, p.scale});
    });
    return status;
}

int32_t plain_backward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    int32_t status = KT_OK;
    with_type(p.dtype, [&](auto type) {
        using T = decltype(type);
        const Heads n{p.heads, p.kv_heads, p.head_dim, p.scale};
        const T *q = static_cast<const T*>(p.q), *k = static_cast<const T*>(p.k), *v = static_cast<const T*>(p.v);
        const T* dy = static_cast<const T*>(p.dy);
        status = start(ctx, "attention_backward", backward_query_kernel<T>, blocks_of(p.tokens * p.heads, kWarps),
                       kWarps * 32, kWarps * sizeof(Shelf), static_cast<T*>(p.dq), dy, q, k, v, p.lse, plan.delta,
                       seen_of(p, plan), n);
        if (status != KT_OK) return;
        status = start(ctx, "attention_backward", backward_key_kernel<T>, blocks_of(p.tokens * p.kv_heads, kWarps),
                       kWarps * 32, kWarps * sizeof(Shelf), static_cast<T*>(p.dk), static_cast<T*>(p.dv), dy, q, k, v, p.lse,
                       plan.delta, seen_of(p, plan), n);
    });
    return status;
}

}  // namespace attention
}  // namespace kt
