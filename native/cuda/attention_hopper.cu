// Attention on Hopper's tensor cores for BF16 and heads of up to 80, in the manner of attention_tiles.cu: tiles that nobody sees are
// left out, and no sum is shared between blocks. Here four warps multiply tiles straight from shared memory (wgmma), which takes
// neither registers nor instructions for the operands; only what is computed from scores goes from registers into the next product.
// The gradients of q and k are scaled at the end, not before they are rounded, so that they differ from the tiles' by roundings.
#include "attention.cuh"

namespace kt {
namespace {

constexpr int kGroup = 128;  // threads that multiply together: 64 rows of a product
constexpr int kTile = 64;    // keys, or queries, that are copied at once

// Rows of D elements in pieces of 8 rows of 16 bytes, as the tensor cores read them.
template <int D, int Rows>
struct alignas(128) Tile {
    __nv_bfloat16 piece[Rows / 8][D / 8][8][8];
};

#ifdef KT_WGMMA
constexpr float kLog2e = 1.4426950408889634f;

// This thread's part in copying tiles of Rows tokens of a head: where each of its pieces lies does not change between tiles.
template <int D, int Rows, int Threads>
struct Copy {
    static constexpr int kPieces = Rows * (D / 8), kMine = (kPieces + Threads - 1) / Threads;
    int row[kMine], offset[kMine];
    bool has[kMine];  // the head has these columns

    __device__ Copy(int64_t stride, int64_t head_dim) {
#pragma unroll
        for (int j = 0; j < kMine; j++) {
            const int i = static_cast<int>(threadIdx.x) + j * Threads, column = i / 8 % (D / 8) * 8;
            row[j] = i / D * 8 + i % 8;
            has[j] = column < head_dim && i < kPieces;
            offset[j] = has[j] ? row[j] * static_cast<int>(stride) + column : 0;
        }
    }

    // Begins to copy the tokens [first, first + Rows); what lies outside becomes zero.
    __device__ void operator()(Tile<D, Rows>& tile, const __nv_bfloat16* head, int64_t first, int64_t tokens,
                               int64_t stride) const {
        const __nv_bfloat16* from = head + first * stride;
        const int left = static_cast<int>(min(tokens - first, int64_t{Rows}));
#pragma unroll
        for (int j = 0; j < kMine; j++) {
            const int i = static_cast<int>(threadIdx.x) + j * Threads;
            if (kPieces % Threads != 0 && i >= kPieces) break;
            const bool inside = has[j] && row[j] < left;
            cp_async_16(&tile.piece[0][0][0][0] + i * 8, row[j] < left ? from + offset[j] : head, inside);
        }
    }
};

// Descriptors of a tile's rows from `row` on, to be summed over their columns; and of a tile, to be summed over its rows. They
// count in pieces of 16 bytes, so that what lies a constant behind is reached by adding one.
template <int D, int Rows>
__device__ inline uint64_t by_columns(const Tile<D, Rows>& tile, int row) {
    return matrix_descriptor(tile.piece[row / 8], 128, D / 8 * 128);
}
template <int D, int Rows>
__device__ inline uint64_t by_rows(const Tile<D, Rows>& tile) {
    return matrix_descriptor(&tile, D / 8 * 128, 128);
}
template <int D>
constexpr int kNextTile = kTile * D / 8;  // from one of two tiles of kTile rows to the other

// out[64, kTile] = a[64, D] b[kTile, D]', both by columns.
template <int D>
__device__ inline void scores(float (*out)[4], uint64_t a, uint64_t b) {
    multiply_shared<false>(out, a, b);
#pragma unroll
    for (int d = 16; d < D; d += 16) multiply_shared<true>(out, a + d, b + d);
}

// out[64, D] += p[64, kTile] b[kTile, D], p as as_left gives it, b by rows.
template <int D>
__device__ inline void weighted_sum(float (*out)[4], const unsigned (*p)[4], uint64_t b) {
#pragma unroll
    for (int c = 0; c < kTile / 16; c++) multiply_registers<D>(out, p[c], b + c * 2 * D);
}

// Which four warps of a block this one belongs to: the same in all lanes, as the compiler is told by asking lane 0.
__device__ inline int my_group() { return __shfl_sync(kWarp, static_cast<int>(threadIdx.x) / kGroup, 0); }

// Fragments of a result [64, kTile], rounded, are those of a left operand.
__device__ inline void as_left(unsigned (*a)[4], const float (*from)[4]) {
#pragma unroll
    for (int c = 0; c < kTile / 16; c++) {
#pragma unroll
        for (int i = 0; i < 4; i++) a[c][i] = pack(from[2 * c + i / 2][i % 2 * 2], from[2 * c + i / 2][i % 2 * 2 + 1]);
    }
}

// Whether this thread's two queries see all of the tile of keys that begins at `key`.
__device__ inline bool whole_for(const Visible* mine, int key) {
    return key >= max(mine[0].low, mine[1].low) && key + kTile <= min(mine[0].causal_end, mine[1].causal_end);
}

// Writes `instead` over the scores of keys that this thread's two queries do not see.
__device__ inline void hide(float (*p)[4], const Visible* mine, int key, const int32_t* spans, float instead) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int c = 0; c < kTile / 8; c++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (!sees(mine[i / 2], key + c * 8 + lane % 4 * 2 + i % 2, spans)) p[c][i] = instead;
        }
    }
}

// Writes this warp's 16 rows of a result, each times its factor.
template <int D>
__device__ inline void write_rows(__nv_bfloat16* head, const float (*out)[4], const float* factor, int64_t first, int64_t tokens,
                                  int64_t stride, int64_t head_dim) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        const int c = n * 8 + lane % 4 * 2;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int64_t t = first + lane / 4 + 8 * r;
            if (t < tokens && c < head_dim) {
                *reinterpret_cast<unsigned*>(head + t * stride + c) =
                    pack(out[n][2 * r] * factor[r], out[n][2 * r + 1] * factor[r]);
            }
        }
    }
}

#endif

// ---- forward ---------------------------------------------------------------------------------------------------------

template <int D, int Groups>
struct ForwardTiles {
    Tile<D, 64 * Groups> q;
    Tile<D, kTile> k[2], v[2];
};

template <int D, int Groups, int Blocks>
__global__ void __launch_bounds__(kGroup * Groups, Blocks)
    hopper_forward_kernel(__nv_bfloat16* y, float* lse, const __nv_bfloat16* q, const __nv_bfloat16* k, const __nv_bfloat16* v,
                          Seen s, Heads n) {
#ifdef KT_WGMMA
    constexpr int kThreads = kGroup * Groups, kRows = 64 * Groups;
    auto& tiles = *dynamic_shared<ForwardTiles<D, Groups>>();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, own = my_group() * 64;
    const int64_t first = int64_t(gridDim.x - 1 - blockIdx.x) * kRows, head = blockIdx.y;
    const int64_t stride = n.heads * n.head_dim, kv_stride = n.kv_heads * n.head_dim;
    const int64_t group = head / (n.heads / n.kv_heads);
    q += head * n.head_dim, y += head * n.head_dim;
    k += group * n.head_dim, v += group * n.head_dim;
    const int64_t row[2] = {first + warp * 16 + lane / 4, first + warp * 16 + lane / 4 + 8};
    const Visible mine[2] = {visible_from(s, row[0]), visible_from(s, row[1])};
    const int2 reach = reach_of<kRows>(s, first);

    const Copy<D, kRows, kThreads> copy_queries(stride, n.head_dim);
    const Copy<D, kTile, kThreads> copy_keys(kv_stride, n.head_dim);
    copy_queries(tiles.q, q, first, s.tokens, stride);
    copy_keys(tiles.k[0], k, reach.x, s.tokens, kv_stride);
    copy_keys(tiles.v[0], v, reach.x, s.tokens, kv_stride);
    cp_async_commit();

    const uint64_t left = by_columns(tiles.q, own), keys = by_columns(tiles.k[0], 0), values = by_rows(tiles.v[0]);
    float out[D / 8][4] = {};  // not yet divided by sum
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    const float scale = n.scale * kLog2e;  // exp2 instead of exp
    for (int key = reach.x, now = 0; key < reach.y; key += kTile, now ^= 1) {
        cp_async_wait<0>();
        fence_for_products();
        __syncthreads();  // the tile is there, and everyone is done with the one before, which is written next
        if (key + kTile < reach.y) {
            copy_keys(tiles.k[now ^ 1], k, key + kTile, s.tokens, kv_stride);
            copy_keys(tiles.v[now ^ 1], v, key + kTile, s.tokens, kv_stride);
        }
        cp_async_commit();

        float p[kTile / 8][4];
        products_begin();
        scores<D>(p, left, keys + now * kNextTile<D>);
        products_commit();
        products_wait<0>();
        settle<kTile>(p);
        if (!whole_for(mine, key)) hide(p, mine, key, s.spans, -INFINITY);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float reached = -INFINITY;
#pragma unroll
            for (int c = 0; c < kTile / 8; c++) reached = fmaxf(reached, fmaxf(p[c][2 * r], p[c][2 * r + 1]));
            reached = fmaxf(reached, __shfl_xor_sync(kWarp, reached, 1));  // four lanes share a row
            reached = fmaxf(reached, __shfl_xor_sync(kWarp, reached, 2));
            reached = fmaxf(top[r], reached * scale);
            const float base = reached == -INFINITY ? 0.0f : reached;  // nothing seen yet: -inf - -inf is no number
            const float shrink = exp2_fast(top[r] - base);
            top[r] = reached;
            sum[r] *= shrink;
#pragma unroll
            for (int c = 0; c < kTile / 8; c++) {
#pragma unroll
                for (int i = 2 * r; i < 2 * r + 2; i++) sum[r] += p[c][i] = exp2_fast(p[c][i] * scale - base);
            }
#pragma unroll
            for (int d = 0; d < D / 8; d++) {
                out[d][2 * r] *= shrink;
                out[d][2 * r + 1] *= shrink;
            }
        }
        unsigned a[kTile / 16][4];
        as_left(a, p);
        settle<kTile>(a);
        settle<D>(out);
        products_begin();
        weighted_sum<D>(out, a, values + now * kNextTile<D>);
        products_commit();
        products_wait<0>();
        settle<D>(out);
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
    write_rows<D>(y, out, factor, first + warp * 16, s.tokens, stride, n.head_dim);
#else
    __trap();  // a Hopper that was given code of another architecture
#endif
}

// ---- backward: queries -----------------------------------------------------------------------------------------------

template <int D, int Groups>
struct QueryTiles {
    Tile<D, 64 * Groups> q, dy;
    Tile<D, kTile> k[2], v[2];
};

template <int D, int Groups>
__global__ void __launch_bounds__(kGroup * Groups, 1)
    hopper_query_kernel(__nv_bfloat16* dq, const __nv_bfloat16* dy, const __nv_bfloat16* q, const __nv_bfloat16* k,
                        const __nv_bfloat16* v, const float* lse, const float* delta, Seen s, Heads n) {
#ifdef KT_WGMMA
    constexpr int kThreads = kGroup * Groups, kRows = 64 * Groups;
    auto& tiles = *dynamic_shared<QueryTiles<D, Groups>>();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, own = my_group() * 64;
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
    const Copy<D, kRows, kThreads> copy_queries(stride, n.head_dim);
    const Copy<D, kTile, kThreads> copy_keys(kv_stride, n.head_dim);
    copy_queries(tiles.q, q, first, s.tokens, stride);
    copy_queries(tiles.dy, dy, first, s.tokens, stride);
    copy_keys(tiles.k[0], k, reach.x, s.tokens, kv_stride);
    copy_keys(tiles.v[0], v, reach.x, s.tokens, kv_stride);
    cp_async_commit();
    const uint64_t left = by_columns(tiles.q, own), left_gradient = by_columns(tiles.dy, own);
    const uint64_t keys = by_columns(tiles.k[0], 0), values = by_columns(tiles.v[0], 0), summed = by_rows(tiles.k[0]);
    float out[D / 8][4] = {};
    const float scale = n.scale * kLog2e;
    for (int key = reach.x, now = 0; key < reach.y; key += kTile, now ^= 1) {
        cp_async_wait<0>();
        fence_for_products();
        __syncthreads();  // the tile is there, and everyone is done with the one before, which is written next
        if (key + kTile < reach.y) {
            copy_keys(tiles.k[now ^ 1], k, key + kTile, s.tokens, kv_stride);
            copy_keys(tiles.v[now ^ 1], v, key + kTile, s.tokens, kv_stride);
        }
        cp_async_commit();

        float p[kTile / 8][4], dp[kTile / 8][4];
        products_begin();
        scores<D>(p, left, keys + now * kNextTile<D>);
        products_commit();
        scores<D>(dp, left_gradient, values + now * kNextTile<D>);
        products_commit();
        products_wait<1>();
        settle<kTile>(p);
#pragma unroll
        for (int c = 0; c < kTile / 8; c++) {
#pragma unroll
            for (int i = 0; i < 4; i++) p[c][i] = exp2_fast(p[c][i] * scale - log_sum[i / 2]);
        }
        if (!whole_for(mine, key)) hide(p, mine, key, s.spans, 0.0f);
        products_wait<0>();
        settle<kTile>(dp);
#pragma unroll
        for (int c = 0; c < kTile / 8; c++) {
#pragma unroll
            for (int i = 0; i < 4; i++) p[c][i] *= dp[c][i] - minus[i / 2];
        }
        unsigned a[kTile / 16][4];
        as_left(a, p);
        settle<kTile>(a);
        products_begin();
        weighted_sum<D>(out, a, summed + now * kNextTile<D>);
        products_commit();
        products_wait<0>();
        settle<D>(out);
    }
    cp_async_wait<0>();
    const float factor[2] = {n.scale, n.scale};
    write_rows<D>(dq, out, factor, first + warp * 16, s.tokens, stride, n.head_dim);
#else
    __trap();
#endif
}

// ---- backward: keys and values ---------------------------------------------------------------------------------------

template <int D, int Groups>
struct KeyTiles {
    Tile<D, 64 * Groups> k, v;
    Tile<D, kTile> q[2], dy[2];
    float log_sum[2][kTile], delta[2][kTile];
};

// Four warps own 64 keys.
template <int D, int Groups>
__global__ void __launch_bounds__(kGroup * Groups, 1)
    hopper_key_kernel(__nv_bfloat16* dk, __nv_bfloat16* dv, const __nv_bfloat16* dy, const __nv_bfloat16* q,
                      const __nv_bfloat16* k, const __nv_bfloat16* v, const float* lse, const float* delta, Seen s, Heads n) {
#ifdef KT_WGMMA
    constexpr int kThreads = kGroup * Groups, kKeys = 64 * Groups;
    auto& tiles = *dynamic_shared<KeyTiles<D, Groups>>();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, own = my_group() * 64;
    const int64_t first = int64_t(blockIdx.x) * kKeys, kv_head = blockIdx.y;
    const int64_t stride = n.heads * n.head_dim, kv_stride = n.kv_heads * n.head_dim, group = n.heads / n.kv_heads;
    k += kv_head * n.head_dim, v += kv_head * n.head_dim;
    dk += kv_head * n.head_dim, dv += kv_head * n.head_dim;
    const Copy<D, kKeys, kThreads> copy_keys(kv_stride, n.head_dim);
    const Copy<D, kTile, kThreads> copy_queries(stride, n.head_dim);
    copy_keys(tiles.k, k, first, s.tokens, kv_stride);
    copy_keys(tiles.v, v, first, s.tokens, kv_stride);

    // Queries of the rows that the tile's keys are in, and see any of them; for each tile of queries all heads of the group.
    const int64_t last = min(first + kKeys, s.tokens) - 1;
    const int64_t begin = s.bounds[first].x / attention::kGranule * attention::kGranule, end = s.bounds[last].y;
    const auto next_that_sees = [&](int64_t query) {
        for (; query < end; query += kTile) {
            const int2 reach = reach_of<kTile>(s, query);
            if (reach.x <= last && reach.y > first) break;
        }
        return query;
    };
    struct Step {
        int64_t query, head;
    };
    const auto after = [&](Step step) {
        if (step.head + 1 < (kv_head + 1) * group) return Step{step.query, step.head + 1};
        return Step{next_that_sees(step.query + kTile), kv_head * group};
    };
    const auto begin_copy = [&](Step step, int to) {
        copy_queries(tiles.q[to], q + step.head * n.head_dim, step.query, s.tokens, stride);
        copy_queries(tiles.dy[to], dy + step.head * n.head_dim, step.query, s.tokens, stride);
    };
    // This thread's query of a tile: what is subtracted from its scores, and from the gradients of its weights.
    const auto sums_of = [&](Step step) {
        const int64_t t = step.query + threadIdx.x;
        const bool inside = threadIdx.x < kTile && t < s.tokens && step.query < end;
        return inside ? make_float2(lse[t * n.heads + step.head] * kLog2e, delta[t * n.heads + step.head])
                      : make_float2(0.0f, 0.0f);
    };
    const auto keep = [&](float2 sums, int to) {
        if (threadIdx.x < kTile) {
            tiles.log_sum[to][threadIdx.x] = sums.x;
            tiles.delta[to][threadIdx.x] = sums.y;
        }
    };

    const uint64_t keys = by_columns(tiles.k, own), values = by_columns(tiles.v, own);
    const uint64_t queries = by_columns(tiles.q[0], 0), gradients = by_columns(tiles.dy[0], 0);
    const uint64_t summed_queries = by_rows(tiles.q[0]), summed_gradients = by_rows(tiles.dy[0]);
    float sum_k[D / 8][4] = {}, sum_v[D / 8][4] = {};
    const float scale = n.scale * kLog2e;
    const int key = static_cast<int>(first) + warp * 16 + lane / 4;  // and the one 8 behind
    Step step{next_that_sees(begin), kv_head * group};
    if (step.query < end) begin_copy(step, 0);
    keep(sums_of(step), 0);
    cp_async_commit();
    Step next = after(step);
    for (int now = 0; step.query < end; now ^= 1) {
        cp_async_wait<0>();
        fence_for_products();
        __syncthreads();  // the tile is there, and everyone is done with the one before, which is written next
        if (next.query < end) begin_copy(next, now ^ 1);
        cp_async_commit();

        float p[kTile / 8][4], dp[kTile / 8][4];  // [keys, queries]
        products_begin();
        scores<D>(p, keys, queries + now * kNextTile<D>);
        products_commit();
        scores<D>(dp, values, gradients + now * kNextTile<D>);
        products_commit();
        const float2 next_sums = sums_of(next);
        const bool whole = all_see<kTile>(s, step.query, first + own, first + own + 64);
        const Step after_next = after(next);
        products_wait<1>();
        settle<kTile>(p);
#pragma unroll
        for (int c = 0; c < kTile / 8; c++) {
            const float2 log_sum = *reinterpret_cast<const float2*>(&tiles.log_sum[now][c * 8 + lane % 4 * 2]);
            p[c][0] = exp2_fast(p[c][0] * scale - log_sum.x);
            p[c][1] = exp2_fast(p[c][1] * scale - log_sum.y);
            p[c][2] = exp2_fast(p[c][2] * scale - log_sum.x);
            p[c][3] = exp2_fast(p[c][3] * scale - log_sum.y);
        }
        if (!whole) {
#pragma unroll
            for (int c = 0; c < kTile / 8; c++) {
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    const Visible seen = visible_from(s, step.query + c * 8 + lane % 4 * 2 + j);
                    if (!sees(seen, key, s.spans)) p[c][j] = 0.0f;
                    if (!sees(seen, key + 8, s.spans)) p[c][j + 2] = 0.0f;
                }
            }
        }
        unsigned a[kTile / 16][4];
        as_left(a, p);
        settle<kTile>(a);
        products_begin();
        weighted_sum<D>(sum_v, a, summed_gradients + now * kNextTile<D>);
        products_commit();
        products_wait<1>();  // dp is there
        settle<kTile>(dp);
#pragma unroll
        for (int c = 0; c < kTile / 8; c++) {
            const float2 minus = *reinterpret_cast<const float2*>(&tiles.delta[now][c * 8 + lane % 4 * 2]);
            dp[c][0] = p[c][0] * (dp[c][0] - minus.x);
            dp[c][1] = p[c][1] * (dp[c][1] - minus.y);
            dp[c][2] = p[c][2] * (dp[c][2] - minus.x);
            dp[c][3] = p[c][3] * (dp[c][3] - minus.y);
        }
        unsigned b[kTile / 16][4];
        as_left(b, dp);
        settle<kTile>(b);
        products_begin();
        weighted_sum<D>(sum_k, b, summed_queries + now * kNextTile<D>);
        products_commit();
        keep(next_sums, now ^ 1);
        products_wait<0>();
        settle<D>(sum_k);
        settle<D>(sum_v);
        step = next, next = after_next;
    }
    cp_async_wait<0>();
    const float scales[2] = {n.scale, n.scale}, ones[2] = {1.0f, 1.0f};
    write_rows<D>(dk, sum_k, scales, first + warp * 16, s.tokens, kv_stride, n.head_dim);
    write_rows<D>(dv, sum_v, ones, first + warp * 16, s.tokens, kv_stride, n.head_dim);
#else
    __trap();
#endif
}

// ---- launches --------------------------------------------------------------------------------------------------------

using attention::Plan;
using attention::Problem;
using B = __nv_bfloat16;

template <int D, int Groups, int Blocks>
int32_t forward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    const dim3 blocks(blocks_of(p.tokens, 64 * Groups), static_cast<unsigned>(p.heads));
    return start(ctx, "attention_forward", hopper_forward_kernel<D, Groups, Blocks>, blocks, kGroup * Groups,
                 sizeof(ForwardTiles<D, Groups>), static_cast<B*>(p.out), p.lse, static_cast<const B*>(p.q),
                 static_cast<const B*>(p.k), static_cast<const B*>(p.v), seen_of(p, plan),
                 Heads{p.heads, p.kv_heads, p.head_dim, p.scale});
}

template <int D, int QueryGroups, int KeyGroups>
int32_t backward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    const Heads n{p.heads, p.kv_heads, p.head_dim, p.scale};
    const B *q = static_cast<const B*>(p.q), *k = static_cast<const B*>(p.k), *v = static_cast<const B*>(p.v);
    const B* dy = static_cast<const B*>(p.dy);
    const dim3 queries(blocks_of(p.tokens, 64 * QueryGroups), static_cast<unsigned>(p.heads));
    const int32_t status = start(ctx, "attention_backward", hopper_query_kernel<D, QueryGroups>, queries, kGroup * QueryGroups,
                                 sizeof(QueryTiles<D, QueryGroups>), static_cast<B*>(p.dq), dy, q, k, v, p.lse, plan.delta,
                                 seen_of(p, plan), n);
    if (status != KT_OK) return status;
    const dim3 keys(blocks_of(p.tokens, 64 * KeyGroups), static_cast<unsigned>(p.kv_heads));
    return start(ctx, "attention_backward", hopper_key_kernel<D, KeyGroups>, keys, kGroup * KeyGroups,
                 sizeof(KeyTiles<D, KeyGroups>), static_cast<B*>(p.dk), static_cast<B*>(p.dv), dy, q, k, v, p.lse, plan.delta,
                 seen_of(p, plan), n);
}

}  // namespace

namespace attention {

// The largest score is sought before it is scaled, and hidden ones are -inf then: a scale above 0.
bool has_hopper_tiles(const kt_ctx* ctx, const Problem& p) {
    return ctx->warpgroups && has_tiles(p) && p.head_dim <= 80 && p.scale > 0;
}

int32_t hopper_forward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    return p.head_dim <= 64 ? forward<64, 2, 2>(ctx, p, plan) : forward<80, 2, 2>(ctx, p, plan);
}

int32_t hopper_backward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    return p.head_dim <= 64 ? backward<64, 3, 2>(ctx, p, plan) : backward<80, 3, 2>(ctx, p, plan);
}

}  // namespace attention
}  // namespace kt
