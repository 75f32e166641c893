// What decoding needs beyond training's kernels: attention over cached keys, and products of few rows. A warp owns a query of
// one head, or an output; nothing that it computes depends on other rows.
#include "kernel.cuh"
#include "table.h"

namespace kt {
namespace {

constexpr int kWarps = 4;
constexpr int kMaxHeadDim = 256;
constexpr int kElements = kMaxHeadDim / 32;  // of a head, in one lane

// Keys and values of one sequence; position p lies at row p % capacity.
struct Cached {
    int64_t capacity, tokens;  // tokens: positions that are held
    int64_t first_query;       // its position; the other queries follow
    int64_t window;            // 0 for none
};

struct Heads {
    int64_t queries, heads, kv_heads, head_dim;
    float scale;
};

// What a warp shares among its lanes.
struct Shelf {
    float query[kMaxHeadDim];
    float weight[32];
};

template <typename T>
__global__ void __launch_bounds__(kWarps * 32)
    cached_kernel(T* y, const T* q, const T* k, const T* v, const int32_t* spans, Cached c, Heads n) {
    auto& shelf = dynamic_shared<Shelf>()[threadIdx.x / 32];
    const int lane = threadIdx.x % 32;
    const int64_t at = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32;
    if (at >= n.queries * n.heads) return;  // whole warps
    const int64_t group = at % n.heads / (n.heads / n.kv_heads), stride = n.kv_heads * n.head_dim;
    const int64_t position = c.first_query + at / n.heads;
    const int64_t low = c.window > 0 ? max(int64_t{0}, position - c.window + 1) : 0;
    const int32_t span = spans ? spans[position] : -1;
    const int64_t end = span >= 0 ? c.tokens : position + 1;  // an image may reach to the end
    k += group * n.head_dim;
    v += group * n.head_dim;
    for (int64_t d = lane; d < n.head_dim; d += 32) shelf.query[d] = load(q[at * n.head_dim + d]);
    __syncwarp();
    float top = -INFINITY, total = 0, sum[kElements] = {};
    for (int64_t from = low; from < end; from += 32) {
        const int64_t p = from + lane;
        const bool visible = p < end && (p <= position || spans[p] == span);
        if (__ballot_sync(kWarp, visible) == 0) continue;
        float score = -INFINITY;
        if (visible) {
            const T* key = k + p % c.capacity * stride;
            score = 0;
            for (int64_t d = 0; d < n.head_dim; d++) score += shelf.query[d] * load(key[d]);
            score *= n.scale;
        }
        const float reach = fmaxf(top, warp_max(score));
        const float shrink = expf(top - reach), weight = expf(score - reach);
        top = reach;
        total = total * shrink + warp_sum(weight);
        shelf.weight[lane] = weight;
        __syncwarp();
#pragma unroll
        for (int i = 0; i < kElements; i++) sum[i] *= shrink;
        for (int j = 0; j < 32; j++) {
            const float w = shelf.weight[j];
            if (w == 0) continue;
            const T* value = v + (from + j) % c.capacity * stride;
#pragma unroll
            for (int i = 0; i < kElements; i++) {
                const int64_t d = lane + 32 * i;
                if (d < n.head_dim) sum[i] += w * load(value[d]);
            }
        }
        __syncwarp();  // the next round writes the weights again
    }
#pragma unroll
    for (int i = 0; i < kElements; i++) {
        const int64_t d = lane + 32 * i;
        if (d < n.head_dim) y[at * n.head_dim + d] = store<T>(sum[i] / total);
    }
}

template <typename T>
__global__ void __launch_bounds__(kEach) store_kernel(T* k_to, T* v_to, const T* k, const T* v, int64_t width) {
    const int64_t i = int64_t(blockIdx.x) * kEach + threadIdx.x;
    if (i >= width) return;
    k_to[i] = k[i];
    v_to[i] = v[i];
}

template <typename Y, typename T>
__global__ void __launch_bounds__(kWarps * 32)
    few_kernel(Y* y, const T* x, const T* w, const T* bias, int64_t rows, int64_t out, int64_t in, bool accumulate) {
    const int lane = threadIdx.x % 32;
    const int64_t o = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32;
    if (o >= out) return;  // whole warps
    for (int64_t r = 0; r < rows; r++) {
        float sum = 0;
        for (int64_t i = lane; i < in; i += 32) sum += load(x[r * in + i]) * load(w[o * in + i]);
        sum = warp_sum(sum);
        if (lane != 0) continue;
        if (bias) sum += load(bias[o]);
        if (accumulate) sum += load(y[r * out + o]);
        y[r * out + o] = store<Y>(sum);
    }
}

bool bad_heads(kt_ctx* ctx, const char* op, int64_t heads, int64_t kv_heads, int64_t head_dim) {
    if (kv_heads >= 1 && heads % kv_heads == 0 && head_dim >= 1 && head_dim <= kMaxHeadDim) return false;
    fail(ctx, KT_BAD_ARGUMENT, "%s: %lld heads of %lld share %lld key heads", op, static_cast<long long>(heads),
         static_cast<long long>(head_dim), static_cast<long long>(kv_heads));
    return true;
}

int32_t attention_extend(kt_ctx* ctx, void* y, const void* q, const void* k, const void* v, const int32_t* spans,
                         int64_t q_tokens, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim, float scale,
                         int64_t window, int32_t dtype) {
    if (bad_heads(ctx, "attention_extend", heads, kv_heads, head_dim)) return KT_BAD_ARGUMENT;
    if (q_tokens > tokens) {
        return fail(ctx, KT_BAD_ARGUMENT, "attention_extend: %lld queries among %lld tokens",
                    static_cast<long long>(q_tokens), static_cast<long long>(tokens));
    }
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "attention_extend", cached_kernel<T>, blocks_of(q_tokens * heads, kWarps), kWarps * 32,
                       kWarps * sizeof(Shelf), static_cast<T*>(y), static_cast<const T*>(q), static_cast<const T*>(k),
                       static_cast<const T*>(v), spans, Cached{tokens, tokens, tokens - q_tokens, window},
                       Heads{q_tokens, heads, kv_heads, head_dim, scale});
    });
    return known ? status : bad_dtype(ctx, "attention_extend", dtype);
}

int32_t attention_decode(kt_ctx* ctx, void* y, void* const* k_cache, void* const* v_cache, const int64_t* capacity,
                         const int64_t* positions, const void* q, const void* k, const void* v, int64_t rows, int64_t heads,
                         int64_t kv_heads, int64_t head_dim, float scale, int64_t window, int32_t dtype) {
    if (bad_heads(ctx, "attention_decode", heads, kv_heads, head_dim)) return KT_BAD_ARGUMENT;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t seen = window > 0 ? min(window, positions[r] + 1) : positions[r] + 1;
        if (positions[r] < 0 || seen > capacity[r]) {
            return fail(ctx, KT_BAD_ARGUMENT, "attention_decode: row %lld at position %lld sees more than its cache of %lld",
                        static_cast<long long>(r), static_cast<long long>(positions[r]), static_cast<long long>(capacity[r]));
        }
    }
    const int64_t width = kv_heads * head_dim;
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        for (int64_t r = 0; r < rows && status == KT_OK; r++) {
            const int64_t at = positions[r] % capacity[r] * width;
            status = start(ctx, "attention_decode", store_kernel<T>, blocks_of(width, kEach), kEach, 0,
                           static_cast<T*>(k_cache[r]) + at, static_cast<T*>(v_cache[r]) + at,
                           static_cast<const T*>(k) + r * width, static_cast<const T*>(v) + r * width, width);
            if (status != KT_OK) return;
            status = start(ctx, "attention_decode", cached_kernel<T>, blocks_of(heads, kWarps), kWarps * 32,
                           kWarps * sizeof(Shelf), static_cast<T*>(y) + r * heads * head_dim,
                           static_cast<const T*>(q) + r * heads * head_dim, static_cast<const T*>(k_cache[r]),
                           static_cast<const T*>(v_cache[r]), nullptr,
                           Cached{capacity[r], positions[r] + 1, positions[r], window},
                           Heads{1, heads, kv_heads, head_dim, scale});
        }
    });
    return known ? status : bad_dtype(ctx, "attention_decode", dtype);
}

int32_t linear_few(kt_ctx* ctx, void* y, const void* x, const void* w, const void* bias, int64_t rows, int64_t out, int64_t in,
                   int32_t accumulate, int32_t y_dtype, int32_t dtype) {
    if (y_dtype != dtype && y_dtype != KT_F32) return bad_dtypes(ctx, "linear_few", y_dtype, dtype);
    int32_t status = KT_OK;
    const bool known = with_types(y_dtype, dtype, [&](auto y_type, auto type) {
        using Y = decltype(y_type);
        using T = decltype(type);
        status = start(ctx, "linear_few", few_kernel<Y, T>, blocks_of(out, kWarps), kWarps * 32, 0, static_cast<Y*>(y),
                       static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(bias), rows, out, in,
                       accumulate != 0);
    });
    return known ? status : bad_dtypes(ctx, "linear_few", y_dtype, dtype);
}

}  // namespace

void add_decode(kt_table& table) {
    table.attention_extend = attention_extend;
    table.attention_decode = attention_decode;
    table.linear_few = linear_few;
}

}  // namespace kt
