// Attention on tensor cores for BF16, in the manner of FlashAttention-2 (arXiv:2307.08691): no score matrix in memory. Forward
// and the gradient of queries own 64 queries of one head and go through tiles of keys; the gradient of keys and values owns a
// tile of keys of one key head and goes through tiles of queries of its group. Two passes backward instead of one, so that no
// sum is shared between blocks and every run gives the same bits. Tiles that the plan says nobody sees are not loaded.
#include "attention.cuh"

namespace kt {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps, kRows = 16 * kWarps;
constexpr float kLog2e = 1.4426950408889634f;

// Rows of a tile are 8 longer than D, the head size rounded up, so that the 8 rows that ldmatrix reads at once begin in
// different banks.
template <int D, int Rows>
using Tile = __nv_bfloat16[Rows][D + 8];

// Begins to copy the tokens [first, first + Rows) of a head into a tile; what lies outside becomes zero.
template <int D, int Rows, int Threads>
__device__ inline void load_tile(Tile<D, Rows>& tile, const __nv_bfloat16* head, int64_t first, int64_t tokens, int64_t stride,
                                 int64_t head_dim) {
    for (int i = threadIdx.x; i < Rows * (D / 8); i += Threads) {
        const int row = i / (D / 8), column = i % (D / 8) * 8;
        const bool inside = first + row < tokens && column < head_dim;
        cp_async_16(&tile[row][column], inside ? head + (first + row) * stride + column : head, inside);
    }
}

// out[16, Columns] += or = a[16, D] b[Columns, D]' of this warp's rows.
template <int D, int Columns, int RowsA, int RowsB>
__device__ inline void multiply_transposed(float (*out)[4], const Tile<D, RowsA>& a, int row, const Tile<D, RowsB>& b, int column) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int d = 0; d < D; d += 16) {
        unsigned left[4];
        ldmatrix_x4(left, &a[row + lane % 16][d + lane / 16 * 8]);
#pragma unroll
        for (int n = 0; n < Columns; n += 16) {
            unsigned right[4];  // rows n to n + 7 of b, then n + 8 to n + 15
            ldmatrix_x4(right, &b[column + n + lane / 16 * 8 + lane % 8][d + lane / 8 % 2 * 8]);
            mma_m16n8k16_bf16(out[n / 8], left, right);
            mma_m16n8k16_bf16(out[n / 8 + 1], left, right + 2);
        }
    }
}

// out[16, Columns] += left[16, 16] b[from to from + 15, column on].
template <int D, int Columns, int RowsB>
__device__ inline void multiply_step(float (*out)[4], const unsigned* left, const Tile<D, RowsB>& b, int from, int column) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < Columns; n += 16) {
        unsigned right[4];  // columns n to n + 7, then n + 8 to n + 15
        ldmatrix_x4_trans(right, &b[from + lane % 16][column + n + lane / 16 * 8]);
        mma_m16n8k16_bf16(out[n / 8], left, right);
        mma_m16n8k16_bf16(out[n / 8 + 1], left, right + 2);
    }
}

// Two C fragments side by side, rounded, are an A fragment.
__device__ inline void as_left(unsigned* a, const float* left, const float* right) {
    a[0] = pack(left[0], left[1]);
    a[1] = pack(left[2], left[3]);
    a[2] = pack(right[0], right[1]);
    a[3] = pack(right[2], right[3]);
}

// Writes this warp's 16 rows of a C fragment: of each 8 columns this lane has the two from lane % 4 * 2 on, in the rows
// lane / 4 and lane / 4 + 8.
template <int Columns>
__device__ inline void write_rows(__nv_bfloat16* head, const float (*out)[4], const float* factor, int64_t first, int column,
                                  int64_t tokens, int64_t stride, int64_t head_dim) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < Columns / 8; n++) {
        const int c = column + n * 8 + lane % 4 * 2;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int64_t t = first + lane / 4 + 8 * r;
            if (t < tokens && c < head_dim) {
                *reinterpret_cast<unsigned*>(head + t * stride + c) = pack(out[n][2 * r] * factor[r], out[n][2 * r + 1] * factor[r]);
            }
        }
    }
}

// ---- forward ---------------------------------------------------------------------------------------------------------

template <int D, int Keys>
struct ForwardTiles {
    Tile<D, kRows> q;
    Tile<D, Keys> k[2], v[2];
};

template <int D, int Keys>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(__nv_bfloat16* y, float* lse, const __nv_bfloat16* q, const __nv_bfloat16* k, const __nv_bfloat16* v, Seen s,
                   Heads n) {
    auto& tiles = *dynamic_shared<ForwardTiles<D, Keys>>();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    // The last queries see most: they begin first.
    const int64_t first = int64_t(gridDim.x - 1 - blockIdx.x) * kRows, head = blockIdx.y;
    const int64_t stride = n.heads * n.head_dim, kv_stride = n.kv_heads * n.head_dim;
    const int64_t group = head / (n.heads / n.kv_heads);
    q += head * n.head_dim, y += head * n.head_dim;
    k += group * n.head_dim, v += group * n.head_dim;
    const int64_t row[2] = {first + warp * 16 + lane / 4, first + warp * 16 + lane / 4 + 8};
    const Visible mine[2] = {visible_from(s, row[0]), visible_from(s, row[1])};
    const int2 reach = reach_of<kRows>(s, first);

    load_tile<D, kRows, kThreads>(tiles.q, q, first, s.tokens, stride, n.head_dim);
    load_tile<D, Keys, kThreads>(tiles.k[0], k, reach.x, s.tokens, kv_stride, n.head_dim);
    load_tile<D, Keys, kThreads>(tiles.v[0], v, reach.x, s.tokens, kv_stride, n.head_dim);
    cp_async_commit();

    float out[D / 8][4] = {};  // not yet divided by sum
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    const float scale = n.scale * kLog2e;  // exp2 instead of exp

    for (int key = reach.x, now = 0; key < reach.y; key += Keys, now ^= 1) {
        if (key + Keys < reach.y) {
            load_tile<D, Keys, kThreads>(tiles.k[now ^ 1], k, key + Keys, s.tokens, kv_stride, n.head_dim);
            load_tile<D, Keys, kThreads>(tiles.v[now ^ 1], v, key + Keys, s.tokens, kv_stride, n.head_dim);
        }
        cp_async_commit();   // an empty group at the end keeps the count below right
        cp_async_wait<1>();  // all but the newest group: this thread's part of tile `now` is there
        __syncthreads();     // and every other thread's

        float p[Keys / 8][4] = {};
        multiply_transposed<D, Keys>(p, tiles.q, warp * 16, tiles.k[now], 0);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const bool whole = key >= mine[r].low && key + Keys <= mine[r].causal_end;
            float reached = top[r];
#pragma unroll
            for (int c = 0; c < Keys / 8; c++) {
#pragma unroll
                for (int i = 2 * r; i < 2 * r + 2; i++) {
                    const int column = key + c * 8 + lane % 4 * 2 + i % 2;
                    p[c][i] = whole || sees(mine[r], column, s.spans) ? p[c][i] * scale : -INFINITY;
                    reached = fmaxf(reached, p[c][i]);
                }
            }
            reached = fmaxf(reached, __shfl_xor_sync(kWarp, reached, 1));  // four lanes share a row
            reached = fmaxf(reached, __shfl_xor_sync(kWarp, reached, 2));
            const float base = reached == -INFINITY ? 0.0f : reached;  // nothing seen yet: -inf - -inf is no number
            const float shrink = exp2f(top[r] - base);
            top[r] = reached;
            sum[r] *= shrink;
#pragma unroll
            for (int c = 0; c < Keys / 8; c++) {
#pragma unroll
                for (int i = 2 * r; i < 2 * r + 2; i++) sum[r] += p[c][i] = exp2f(p[c][i] - base);
            }
#pragma unroll
            for (int d = 0; d < D / 8; d++) {
                out[d][2 * r] *= shrink;
                out[d][2 * r + 1] *= shrink;
            }
        }
#pragma unroll
        for (int c = 0; c < Keys; c += 16) {
            unsigned a[4];
            as_left(a, p[c / 8], p[c / 8 + 1]);
            multiply_step<D, D>(out, a, tiles.v[now], c, 0);
        }
        __syncthreads();  // the next round overwrites this tile
    }
    cp_async_wait<0>();  // with no tile to visit, the first copies are still under way

    float factor[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        sum[r] += __shfl_xor_sync(kWarp, sum[r], 1);
        sum[r] += __shfl_xor_sync(kWarp, sum[r], 2);
        factor[r] = sum[r] > 0 ? 1.0f / sum[r] : 0.0f;
        if (lse && lane % 4 == 0 && row[r] < s.tokens) lse[row[r] * n.heads + head] = (top[r] + log2f(sum[r])) / kLog2e;
    }
    write_rows<D>(y, out, factor, first + warp * 16, 0, s.tokens, stride, n.head_dim);
}

// ---- backward: queries -----------------------------------------------------------------------------------------------

template <int D, int Keys>
struct QueryTiles {
    Tile<D, kRows> q, dy;
    Tile<D, Keys> k[2], v[2];
};

template <int D, int Keys>
__global__ void __launch_bounds__(kThreads)
    backward_query_kernel(__nv_bfloat16* dq, const __nv_bfloat16* dy, const __nv_bfloat16* q, const __nv_bfloat16* k,
                          const __nv_bfloat16* v, const float* lse, const float* delta, Seen s, Heads n) {
    auto& tiles = *dynamic_shared<QueryTiles<D, Keys>>();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t first = int64_t(gridDim.x - 1 - blockIdx.x) * kRows, head = blockIdx.y;
    const int64_t stride = n.heads * n.head_dim, kv_stride = n.kv_heads * n.head_dim;
    const int64_t group = head / (n.heads / n.kv_heads);
    q += head * n.head_dim, dy += head * n.head_dim, dq += head * n.head_dim;
    k += group * n.head_dim, v += group * n.head_dim;
    const int2 reach = reach_of<kRows>(s, first);
    Visible mine[2];
    float log_sum[2], minus[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int64_t t = first + warp * 16 + lane / 4 + 8 * r;
        mine[r] = visible_from(s, t);
        log_sum[r] = t < s.tokens ? lse[t * n.heads + head] * kLog2e : 0.0f;
        minus[r] = t < s.tokens ? delta[t * n.heads + head] : 0.0f;
    }
    load_tile<D, kRows, kThreads>(tiles.q, q, first, s.tokens, stride, n.head_dim);
    load_tile<D, kRows, kThreads>(tiles.dy, dy, first, s.tokens, stride, n.head_dim);
    load_tile<D, Keys, kThreads>(tiles.k[0], k, reach.x, s.tokens, kv_stride, n.head_dim);
    load_tile<D, Keys, kThreads>(tiles.v[0], v, reach.x, s.tokens, kv_stride, n.head_dim);
    cp_async_commit();
    float out[D / 8][4] = {};
    for (int key = reach.x, now = 0; key < reach.y; key += Keys, now ^= 1) {
        if (key + Keys < reach.y) {
            load_tile<D, Keys, kThreads>(tiles.k[now ^ 1], k, key + Keys, s.tokens, kv_stride, n.head_dim);
            load_tile<D, Keys, kThreads>(tiles.v[now ^ 1], v, key + Keys, s.tokens, kv_stride, n.head_dim);
        }
        cp_async_commit();   // as in forward
        cp_async_wait<1>();
        __syncthreads();
        float p[Keys / 8][4] = {}, dp[Keys / 8][4] = {};
        multiply_transposed<D, Keys>(p, tiles.q, warp * 16, tiles.k[now], 0);
        multiply_transposed<D, Keys>(dp, tiles.dy, warp * 16, tiles.v[now], 0);
#pragma unroll
        for (int c = 0; c < Keys / 8; c++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int r = i / 2, column = key + c * 8 + lane % 4 * 2 + i % 2;
                const bool whole = key >= mine[r].low && key + Keys <= mine[r].causal_end;
                const bool visible = whole || sees(mine[r], column, s.spans);
                const float weight = visible ? exp2f(p[c][i] * (n.scale * kLog2e) - log_sum[r]) : 0.0f;
                p[c][i] = weight * (dp[c][i] - minus[r]) * n.scale;
            }
        }
#pragma unroll
        for (int c = 0; c < Keys; c += 16) {
            unsigned a[4];
            as_left(a, p[c / 8], p[c / 8 + 1]);
            multiply_step<D, D>(out, a, tiles.k[now], c, 0);
        }
        __syncthreads();  // the next round overwrites these tiles
    }
    cp_async_wait<0>();
    const float factor[2] = {1.0f, 1.0f};
    write_rows<D>(dq, out, factor, first + warp * 16, 0, s.tokens, stride, n.head_dim);
}

// ---- backward: keys and values ---------------------------------------------------------------------------------------

// A warp owns 16 keys, and of the queries and then of the head's elements one part in Parts. With two buffers the next queries
// are copied while these are worked on; where two take more than the 99 KiB that a block has on every card, there is one.
template <int D, int Keys, int Queries, int Buffers>
struct KeyTiles {
    Tile<D, Keys> k, v;
    Tile<D, Queries> q[Buffers], dy[Buffers];
    Tile<Queries, Keys> p, ds;  // [keys, queries]
    float log_sum[Queries], delta[Queries];
};

template <int D, int Keys, int Queries, int Parts, int Buffers>
__global__ void __launch_bounds__(Keys * 2 * Parts)
    backward_key_kernel(__nv_bfloat16* dk, __nv_bfloat16* dv, const __nv_bfloat16* dy, const __nv_bfloat16* q,
                        const __nv_bfloat16* k, const __nv_bfloat16* v, const float* lse, const float* delta, Seen s, Heads n) {
    constexpr int kAll = Keys * 2 * Parts;
    constexpr int kPart = Queries / Parts, kElements = D / Parts;
    static_assert(kPart % 16 == 0 && kElements % 16 == 0, "whole fragments");
    auto& tiles = *dynamic_shared<KeyTiles<D, Keys, Queries, Buffers>>();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int own = warp / Parts * 16, part = warp % Parts;
    const int64_t first = int64_t(blockIdx.x) * Keys, kv_head = blockIdx.y;
    const int64_t stride = n.heads * n.head_dim, kv_stride = n.kv_heads * n.head_dim, group = n.heads / n.kv_heads;
    k += kv_head * n.head_dim, v += kv_head * n.head_dim;
    dk += kv_head * n.head_dim, dv += kv_head * n.head_dim;
    load_tile<D, Keys, kAll>(tiles.k, k, first, s.tokens, kv_stride, n.head_dim);
    load_tile<D, Keys, kAll>(tiles.v, v, first, s.tokens, kv_stride, n.head_dim);

    // Queries of the rows that the tile's keys are in, and see any of them; for each tile of queries all heads of the group.
    const int64_t last = min(first + Keys, s.tokens) - 1;
    const int64_t begin = s.bounds[first].x / attention::kGranule * attention::kGranule, end = s.bounds[last].y;
    const auto next_that_sees = [&](int64_t query) {
        for (; query < end; query += Queries) {
            const int2 reach = reach_of<Queries>(s, query);
            if (reach.x <= last && reach.y > first) break;
        }
        return query;
    };
    const auto load_queries = [&](int64_t query, int64_t head, int to) {
        load_tile<D, Queries, kAll>(tiles.q[to], q + head * n.head_dim, query, s.tokens, stride, n.head_dim);
        load_tile<D, Queries, kAll>(tiles.dy[to], dy + head * n.head_dim, query, s.tokens, stride, n.head_dim);
    };
    // What this thread carries to shared memory of the next tile, where its copies are still under way.
    static_assert(Queries <= kAll, "a query a thread");
    float next_log_sum = 0, next_delta = 0;
    const auto load_sums = [&](int64_t query, int64_t head) {
        const int64_t t = query + threadIdx.x;
        const bool inside = threadIdx.x < Queries && t < s.tokens;
        next_log_sum = inside ? lse[t * n.heads + head] : 0.0f;
        next_delta = inside ? delta[t * n.heads + head] : 0.0f;
    };

    float sum_k[kElements / 8][4] = {}, sum_v[kElements / 8][4] = {};
    int64_t query = next_that_sees(begin), head = kv_head * group;
    if (query < end) {
        if (Buffers == 2) load_queries(query, head, 0);
        load_sums(query, head);
    }
    cp_async_commit();
    for (int now = 0; query < end; now ^= Buffers - 1) {
        const bool same = head + 1 < (kv_head + 1) * group;
        const int64_t next_query = same ? query : next_that_sees(query + Queries), next_head = same ? head + 1 : kv_head * group;
        if (threadIdx.x < Queries) {
            tiles.log_sum[threadIdx.x] = next_log_sum * kLog2e;
            tiles.delta[threadIdx.x] = next_delta;
        }
        if (Buffers == 1) load_queries(query, head, 0);
        if (Buffers == 2 && next_query < end) load_queries(next_query, next_head, now ^ 1);
        cp_async_commit();
        if (next_query < end) load_sums(next_query, next_head);
        cp_async_wait<Buffers - 1>();
        __syncthreads();
        {
            float p[kPart / 8][4] = {}, dp[kPart / 8][4] = {};
            multiply_transposed<D, kPart>(p, tiles.k, own, tiles.q[now], part * kPart);
            multiply_transposed<D, kPart>(dp, tiles.v, own, tiles.dy[now], part * kPart);
            const bool whole = all_see<Queries>(s, query, first, first + Keys);
#pragma unroll
            for (int c = 0; c < kPart / 8; c++) {
                const int column = part * kPart + c * 8 + lane % 4 * 2;  // of two queries
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    const Visible seen = whole ? Visible{0, 0, 0, -1} : visible_from(s, query + column + j);
                    const float log_sum = tiles.log_sum[column + j], minus = tiles.delta[column + j];
#pragma unroll
                    for (int i = j; i < 4; i += 2) {
                        const bool visible = whole || sees(seen, static_cast<int>(first) + own + lane / 4 + i / 2 * 8, s.spans);
                        p[c][i] = visible ? exp2f(p[c][i] * (n.scale * kLog2e) - log_sum) : 0.0f;
                        dp[c][i] = p[c][i] * (dp[c][i] - minus) * n.scale;
                    }
                }
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const int row = own + lane / 4 + 8 * r;
                    *reinterpret_cast<unsigned*>(&tiles.p[row][column]) = pack(p[c][2 * r], p[c][2 * r + 1]);
                    *reinterpret_cast<unsigned*>(&tiles.ds[row][column]) = pack(dp[c][2 * r], dp[c][2 * r + 1]);
                }
            }
        }
        __syncthreads();  // the other parts' queries are there
#pragma unroll
        for (int i = 0; i < Queries; i += 16) {
            unsigned a[4];
            ldmatrix_x4(a, &tiles.p[own + lane % 16][i + lane / 16 * 8]);
            multiply_step<D, kElements>(sum_v, a, tiles.dy[now], i, part * kElements);
            ldmatrix_x4(a, &tiles.ds[own + lane % 16][i + lane / 16 * 8]);
            multiply_step<D, kElements>(sum_k, a, tiles.q[now], i, part * kElements);
        }
        __syncthreads();  // the next round overwrites these tiles
        query = next_query, head = next_head;
    }
    cp_async_wait<0>();
    const float factor[2] = {1.0f, 1.0f};
    write_rows<kElements>(dk, sum_k, factor, first + own, part * kElements, s.tokens, kv_stride, n.head_dim);
    write_rows<kElements>(dv, sum_v, factor, first + own, part * kElements, s.tokens, kv_stride, n.head_dim);
}

// ---- launches --------------------------------------------------------------------------------------------------------

using attention::Plan;
using attention::Problem;
using B = __nv_bfloat16;

template <int D, int Keys>
int32_t forward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    static_assert(fits_every_card<ForwardTiles<D, Keys>>);
    const dim3 blocks(blocks_of(p.tokens, kRows), static_cast<unsigned>(p.heads));
    return start(ctx, "attention_forward", forward_kernel<D, Keys>, blocks, kThreads, sizeof(ForwardTiles<D, Keys>),
                 static_cast<B*>(p.out), p.lse, static_cast<const B*>(p.q), static_cast<const B*>(p.k),
                 static_cast<const B*>(p.v), seen_of(p, plan), Heads{p.heads, p.kv_heads, p.head_dim, p.scale});
}

// Keys: of a tile, while the gradient of queries is computed; the others while that of keys and values is.
template <int D, int Keys, int OwnKeys, int Queries, int Parts, int Buffers>
int32_t backward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    static_assert(fits_every_card<QueryTiles<D, Keys>> && fits_every_card<KeyTiles<D, OwnKeys, Queries, Buffers>>);
    const Heads n{p.heads, p.kv_heads, p.head_dim, p.scale};
    const B *q = static_cast<const B*>(p.q), *k = static_cast<const B*>(p.k), *v = static_cast<const B*>(p.v);
    const B* dy = static_cast<const B*>(p.dy);
    const dim3 queries(blocks_of(p.tokens, kRows), static_cast<unsigned>(p.heads));
    const int32_t status = start(ctx, "attention_backward", backward_query_kernel<D, Keys>, queries, kThreads,
                                 sizeof(QueryTiles<D, Keys>), static_cast<B*>(p.dq), dy, q, k, v, p.lse, plan.delta,
                                 seen_of(p, plan), n);
    if (status != KT_OK) return status;
    const dim3 keys(blocks_of(p.tokens, OwnKeys), static_cast<unsigned>(p.kv_heads));
    return start(ctx, "attention_backward", backward_key_kernel<D, OwnKeys, Queries, Parts, Buffers>, keys, OwnKeys * 2 * Parts,
                 sizeof(KeyTiles<D, OwnKeys, Queries, Buffers>), static_cast<B*>(p.dk), static_cast<B*>(p.dv), dy, q, k, v, p.lse,
                 plan.delta, seen_of(p, plan), n);
}

}  // namespace

namespace attention {

bool has_tiles(const Problem& p) {
    return p.dtype == KT_BF16 && p.head_dim % 8 == 0 && p.heads <= 65535 &&
           aligned16(p.q, p.k, p.v, p.dy, p.out, p.dq, p.dk, p.dv);
}

int32_t tiles_forward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    if (p.head_dim <= 64) return forward<64, 64>(ctx, p, plan);
    if (p.head_dim <= 80) return forward<80, 64>(ctx, p, plan);
    if (p.head_dim <= 96) return forward<96, 64>(ctx, p, plan);
    if (p.head_dim <= 128) return forward<128, 64>(ctx, p, plan);
    return forward<256, 32>(ctx, p, plan);
}

int32_t tiles_backward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    if (p.head_dim <= 64) return backward<64, 64, 64, 64, 2, 2>(ctx, p, plan);
    if (p.head_dim <= 80) return backward<80, 64, 64, 64, 1, 2>(ctx, p, plan);
    if (p.head_dim <= 96) return backward<96, 64, 64, 64, 2, 2>(ctx, p, plan);
    if (p.head_dim <= 128) return backward<128, 32, 64, 64, 2, 1>(ctx, p, plan);
    return backward<256, 16, 32, 32, 2, 1>(ctx, p, plan);
}

}  // namespace attention
}  // namespace kt
