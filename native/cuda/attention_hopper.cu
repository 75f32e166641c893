// Attention on Hopper's tensor cores for BF16 and heads of up to 80 or of 129 to 256, in the manner of attention_tiles.cu: tiles
// that nobody sees are left out, and no sum is shared between blocks. Here four warps multiply tiles straight from shared memory
// (wgmma), which takes neither registers nor instructions for the operands; only what is computed from scores goes from registers
// into the next product. The gradients of q and k are scaled at the end, not before they are rounded, so that they differ from the
// tiles' by roundings.
//
// What 256 columns ask for: 64 rows of a sum are half of a thread's registers. So the gradients of keys and of values are summed by
// four warps each; heads that share keys work side by side on the same tile of them, so that it is copied once; and as a block has
// a multiprocessor to itself, the blocks that have most to do begin first. bench/results/gpu.md has the arithmetic.
#include "attention.cuh"

#include <type_traits>

namespace kt {
namespace {

constexpr int kGroup = 128;  // threads that multiply together: 64 rows of a product
constexpr int kTile = 64;    // keys, or queries, that are copied at once
// One block at a time on a multiprocessor. Nothing but its own products fills the time that it takes to begin copies, so these
// come second.
template <int D>
constexpr bool kAlone = D > 128;

// Rows of D elements in pieces of 8 rows of 16 bytes, as the tensor cores read them.
template <int D, int Rows>
struct alignas(128) Tile {
    __nv_bfloat16 piece[Rows / 8][D / 8][8][8];
};

struct Nothing {};
// The images of two tiles' keys: fetched ahead, because reading them where they are asked for makes a block that is alone wait.
struct KeySpans {
    int spans[2][kTile];
};

#ifdef KT_WGMMA
constexpr float kLog2e = 1.4426950408889634f;

// This thread's part in copying tiles of Rows rows: Tokens tokens of a head, then as many of the next. Where each of its pieces
// lies does not change between tiles.
template <int D, int Rows, int Threads, int Tokens = Rows>
struct Copy {
    static constexpr int kPieces = Rows * (D / 8), kMine = (kPieces + Threads - 1) / Threads;
    // A thread's pieces are in the same columns, and whole rows apart, so that the first tells where the others are.
    static constexpr bool kRegular = Threads % D == 0;
    static constexpr int kApart = Threads / D * 8, kKept = kRegular ? 1 : kMine;
    static_assert(Tokens == Rows || (kRegular && Rows % Tokens == 0 && Tokens % kApart == 0), "of several heads: regular");
    int64_t stride, head_dim;
    int row[kKept], offset[kKept];
    bool has[kKept];  // the head has these columns

    __device__ Copy(int64_t token_stride, int64_t size) : stride(token_stride), head_dim(size) {
#pragma unroll
        for (int j = 0; j < kKept; j++) {
            const int i = static_cast<int>(threadIdx.x) + j * Threads, column = i / 8 % (D / 8) * 8;
            row[j] = i / D * 8 + i % 8;
            has[j] = column < head_dim && i < kPieces;
            offset[j] = has[j] ? row[j] * static_cast<int>(stride) + column : 0;
        }
    }

    // Begins to copy the tokens [first, first + Tokens); what lies outside becomes zero.
    __device__ void operator()(Tile<D, Rows>& tile, const __nv_bfloat16* head, int64_t first, int64_t tokens) const {
        const __nv_bfloat16* from = head + first * stride;
        const int left = static_cast<int>(min(tokens - first, int64_t{Tokens}));
#pragma unroll
        for (int j = 0; j < kMine; j++) {
            const int i = static_cast<int>(threadIdx.x) + j * Threads;
            if (kPieces % Threads != 0 && i >= kPieces) break;
            const int kept = kRegular ? 0 : j, behind = kRegular ? j * kApart : 0, token = row[kept] + behind % Tokens;
            const __nv_bfloat16* piece = from + offset[kept] + behind % Tokens * stride + behind / Tokens * head_dim;
            cp_async_16(&tile.piece[0][0][0][0] + i * 8, token < left ? piece : head, has[kept] && token < left);
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

constexpr int kSorted = 256;  // tiles of a batch, at most, that are taken by length

// The tile of tokens and the head that are this block's, of a grid (tiles, heads).
struct Share {
    int64_t tile, head;
};

// Blocks begin in the order of their numbers, and where each has a multiprocessor to itself it matters that none of the long ones
// is among the last: longest first then, by `length` of a tile, in tokens. Of more tiles than are sorted, and where blocks
// are many, the last first or the first. `memory`: shared, of kSorted + 1 numbers, and free again afterwards.
template <bool Sort, int Threads, bool LastFirst, typename Length>
__device__ inline Share my_share(void* memory, Length length) {
    const int tiles = static_cast<int>(gridDim.x), heads = static_cast<int>(gridDim.y);
    if constexpr (!Sort) return {LastFirst ? tiles - 1 - int64_t{blockIdx.x} : int64_t{blockIdx.x}, blockIdx.y};
    const int64_t number = int64_t{blockIdx.y} * tiles + blockIdx.x, place = number / heads, head = number % heads;
    if (tiles > kSorted) return {LastFirst ? tiles - 1 - place : place, head};
    int *const lengths = static_cast<int*>(memory), *const found = lengths + kSorted;
    for (int i = threadIdx.x; i < tiles; i += Threads) lengths[i] = length(i) * kSorted + i;  // no two alike
    __syncthreads();
    for (int i = threadIdx.x; i < tiles; i += Threads) {
        int longer = 0;
        for (int j = 0; j < tiles; j++) longer += lengths[j] > lengths[i];
        if (longer == place) *found = i;
    }
    __syncthreads();
    const int64_t tile = *found;
    __syncthreads();  // everyone has read it: the memory is copied to next
    return {tile, head};
}

// The queries of a block, and this thread's four warps' of them: kRows of one head, or side by side the same ones of as many heads
// as it has groups of warps, which see the same keys.
template <int D, int Groups, bool Together>
struct Queries {
    static constexpr int kThreads = kGroup * Groups, kRows = 64 * Groups, kTokens = Together ? 64 : kRows;
    int64_t first, first_head, kv_head;  // the block's
    int row;                             // in its tile, from which on this group's lie
    int64_t own, head;                   // this warp's 16

    __device__ Queries(void* memory, const Seen& s, const Heads& n) {
        const Share share = my_share<kAlone<D>, kThreads, true>(memory, [&](int tile) {
            const int2 reach = reach_of<kTokens>(s, int64_t{tile} * kTokens);
            return reach.y - reach.x;
        });
        first = share.tile * kTokens;
        first_head = Together ? share.head * Groups : share.head;
        kv_head = first_head / (n.heads / n.kv_heads);
        const int four = my_group();
        row = four * 64;
        own = first + (Together ? threadIdx.x % kGroup : threadIdx.x) / 32 * 16;
        head = Together ? first_head + four : first_head;
    }
};

// Whether this thread's two queries see all of the tile of keys that begins at `key`.
__device__ inline bool whole_for(const Visible* mine, int key) {
    return key >= max(mine[0].low, mine[1].low) && key + kTile <= min(mine[0].causal_end, mine[1].causal_end);
}

// The tile's keys from `key` on are those that `to` is filled with.
template <typename Tiles>
__device__ inline void keep_spans(Tiles& tiles, const Seen& s, int key, int to) {
    if constexpr (std::is_base_of_v<KeySpans, Tiles>) {
        const int mine = key + static_cast<int>(threadIdx.x);
        if (threadIdx.x < kTile) tiles.spans[to][threadIdx.x] = s.spans && mine < s.tokens ? s.spans[mine] : -1;
    }
}

// Writes `instead` over the scores of the keys of tile `now`, from `key` on, that this thread's two queries do not see.
template <typename Tiles>
__device__ inline void hide(float (*p)[4], const Visible* mine, int key, const Tiles& tiles, int now, const int32_t* spans,
                            float instead) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int c = 0; c < kTile / 8; c++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int column = c * 8 + lane % 4 * 2 + i % 2;
            bool seen;
            if constexpr (std::is_base_of_v<KeySpans, Tiles>) seen = sees(mine[i / 2], key + column, tiles.spans[now][column]);
            else seen = sees(mine[i / 2], key + column, spans);
            if (!seen) p[c][i] = instead;
        }
    }
}

// Writes this warp's 16 rows of a result, each times its factor. `memory`: the block's tiles, which nobody needs any more.
template <int D>
__device__ inline void write_rows(void* memory, __nv_bfloat16* head, const float (*out)[4], const float* factor, int64_t first,
                                  int64_t tokens, int64_t stride, int64_t head_dim) {
    const int lane = threadIdx.x % 32;
    if constexpr (kAlone<D>) {
        // Whole rows at once, with their pieces of 16 bytes in other places in each of 8 rows, so that no banks meet.
        static_assert(D / 8 == 32, "a lane a piece");
        uint4* const rows = static_cast<uint4*>(memory) + threadIdx.x / 32 * 16 * 32;
        __syncthreads();  // everyone is done with the tiles
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
#pragma unroll
            for (int r = 0; r < 2; r++) {
                uint4* const piece = rows + (lane / 4 + 8 * r) * 32 + (n ^ lane / 4);
                reinterpret_cast<unsigned*>(piece)[lane % 4] = pack(out[n][2 * r] * factor[r], out[n][2 * r + 1] * factor[r]);
            }
        }
        __syncwarp();
#pragma unroll
        for (int row = 0; row < 16; row++) {
            const int64_t t = first + row;
            if (t < tokens && lane * 8 < head_dim) {
                *reinterpret_cast<uint4*>(head + t * stride + lane * 8) = rows[row * 32 + (lane ^ row % 8)];
            }
        }
    } else {
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
}

#endif

// ---- forward ---------------------------------------------------------------------------------------------------------

template <int D, int Groups>
struct ForwardTiles : std::conditional_t<kAlone<D>, KeySpans, Nothing> {
    Tile<D, 64 * Groups> q;
    Tile<D, kTile> k[2], v[2];
};

template <int D, int Groups, bool Together, int Blocks>
__global__ void __launch_bounds__(kGroup * Groups, Blocks)
    hopper_forward_kernel(__nv_bfloat16* y, float* lse, const __nv_bfloat16* q, const __nv_bfloat16* k, const __nv_bfloat16* v,
                          Seen s, Heads n) {
#ifdef KT_WGMMA
    using Mine = Queries<D, Groups, Together>;
    auto& tiles = *dynamic_shared<ForwardTiles<D, Groups>>();
    const Mine mine(&tiles, s, n);
    const int lane = threadIdx.x % 32;
    const int64_t stride = n.heads * n.head_dim, kv_stride = n.kv_heads * n.head_dim;
    q += mine.first_head * n.head_dim, y += mine.head * n.head_dim;
    k += mine.kv_head * n.head_dim, v += mine.kv_head * n.head_dim;
    const int64_t row[2] = {mine.own + lane / 4, mine.own + lane / 4 + 8};
    const Visible seen[2] = {visible_from(s, row[0]), visible_from(s, row[1])};
    const int2 reach = reach_of<Mine::kTokens>(s, mine.first);

    const Copy<D, Mine::kRows, Mine::kThreads, Mine::kTokens> copy_queries(stride, n.head_dim);
    const Copy<D, kTile, Mine::kThreads> copy_keys(kv_stride, n.head_dim);
    copy_queries(tiles.q, q, mine.first, s.tokens);
    copy_keys(tiles.k[0], k, reach.x, s.tokens);
    copy_keys(tiles.v[0], v, reach.x, s.tokens);
    keep_spans(tiles, s, reach.x, 0);
    cp_async_commit();

    const uint64_t left = by_columns(tiles.q, mine.row), keys = by_columns(tiles.k[0], 0), values = by_rows(tiles.v[0]);
    float out[D / 8][4] = {};  // not yet divided by sum
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    const float scale = n.scale * kLog2e;  // exp2 instead of exp
    const auto copy_next = [&](int next, int to) {
        if (next < reach.y) {
            copy_keys(tiles.k[to], k, next, s.tokens);
            keep_spans(tiles, s, next, to);
            copy_keys(tiles.v[to], v, next, s.tokens);
        }
        cp_async_commit();
    };
    for (int key = reach.x, now = 0; key < reach.y; key += kTile, now ^= 1) {
        cp_async_wait<0>();
        fence_for_products();
        __syncthreads();  // the tile is there, and everyone is done with the one before, which is written next
        if constexpr (!kAlone<D>) copy_next(key + kTile, now ^ 1);
        float p[kTile / 8][4];
        products_begin();
        scores<D>(p, left, keys + now * kNextTile<D>);
        products_commit();
        if constexpr (kAlone<D>) copy_next(key + kTile, now ^ 1);
        products_wait<0>();
        settle<kTile>(p);
        if (!whole_for(seen, key)) hide(p, seen, key, tiles, now, s.spans, -INFINITY);
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
        if (lse && lane % 4 == 0 && row[r] < s.tokens) lse[row[r] * n.heads + mine.head] = (top[r] + log2f(sum[r])) / kLog2e;
    }
    write_rows<D>(&tiles, y, out, factor, mine.own, s.tokens, stride, n.head_dim);
#else
    __trap();  // a Hopper that was given code of another architecture
#endif
}

// ---- backward: queries -----------------------------------------------------------------------------------------------

template <int D, int Groups>
struct QueryTiles : std::conditional_t<kAlone<D>, KeySpans, Nothing> {
    static constexpr int kValues = kAlone<D> ? 1 : 2;  // two do not fit
    Tile<D, 64 * Groups> q, dy;
    Tile<D, kTile> k[2], v[kValues];
};

template <int D, int Groups, bool Together>
__global__ void __launch_bounds__(kGroup * Groups, 1)
    hopper_query_kernel(__nv_bfloat16* dq, const __nv_bfloat16* dy, const __nv_bfloat16* q, const __nv_bfloat16* k,
                        const __nv_bfloat16* v, const float* lse, const float* delta, Seen s, Heads n) {
#ifdef KT_WGMMA
    using Mine = Queries<D, Groups, Together>;
    constexpr bool kTwoValues = QueryTiles<D, Groups>::kValues == 2;
    auto& tiles = *dynamic_shared<QueryTiles<D, Groups>>();
    const Mine mine(&tiles, s, n);
    const int lane = threadIdx.x % 32;
    const int64_t stride = n.heads * n.head_dim, kv_stride = n.kv_heads * n.head_dim;
    q += mine.first_head * n.head_dim, dy += mine.first_head * n.head_dim, dq += mine.head * n.head_dim;
    k += mine.kv_head * n.head_dim, v += mine.kv_head * n.head_dim;
    const int2 reach = reach_of<Mine::kTokens>(s, mine.first);
    Visible seen[2];
    float log_sum[2], minus[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int64_t t = mine.own + lane / 4 + 8 * r;
        seen[r] = visible_from(s, t);
        log_sum[r] = t < s.tokens ? lse[t * n.heads + mine.head] * kLog2e : 0.0f;
        minus[r] = t < s.tokens ? delta[t * n.heads + mine.head] : 0.0f;
    }
    const Copy<D, Mine::kRows, Mine::kThreads, Mine::kTokens> copy_queries(stride, n.head_dim);
    const Copy<D, kTile, Mine::kThreads> copy_keys(kv_stride, n.head_dim);
    copy_queries(tiles.q, q, mine.first, s.tokens);
    copy_queries(tiles.dy, dy, mine.first, s.tokens);
    copy_keys(tiles.k[0], k, reach.x, s.tokens);
    copy_keys(tiles.v[0], v, reach.x, s.tokens);
    keep_spans(tiles, s, reach.x, 0);
    cp_async_commit();
    const uint64_t left = by_columns(tiles.q, mine.row), left_gradient = by_columns(tiles.dy, mine.row);
    const uint64_t keys = by_columns(tiles.k[0], 0), values = by_columns(tiles.v[0], 0), summed = by_rows(tiles.k[0]);
    float out[D / 8][4] = {};
    const float scale = n.scale * kLog2e;
    const auto copy_next = [&](int next, int to) {
        if (next < reach.y) {
            copy_keys(tiles.k[to], k, next, s.tokens);
            keep_spans(tiles, s, next, to);
            if (kTwoValues) copy_keys(tiles.v[to], v, next, s.tokens);
        }
        cp_async_commit();
    };
    for (int key = reach.x, now = 0; key < reach.y; key += kTile, now ^= 1) {
        cp_async_wait<0>();
        fence_for_products();
        __syncthreads();  // the tile is there, and everyone is done with the one before, which is written next
        if constexpr (!kAlone<D>) copy_next(key + kTile, now ^ 1);
        float p[kTile / 8][4], dp[kTile / 8][4];
        products_begin();
        scores<D>(p, left, keys + now * kNextTile<D>);
        products_commit();
        scores<D>(dp, left_gradient, values + (kTwoValues ? now * kNextTile<D> : 0));
        products_commit();
        if constexpr (kAlone<D>) copy_next(key + kTile, now ^ 1);
        products_wait<1>();
        settle<kTile>(p);
#pragma unroll
        for (int c = 0; c < kTile / 8; c++) {
#pragma unroll
            for (int i = 0; i < 4; i++) p[c][i] = exp2_fast(p[c][i] * scale - log_sum[i / 2]);
        }
        if (!whole_for(seen, key)) hide(p, seen, key, tiles, now, s.spans, 0.0f);
        products_wait<0>();
        settle<kTile>(dp);
        if constexpr (!kTwoValues) {
            __syncthreads();  // everyone is done with the values
            if (key + kTile < reach.y) copy_keys(tiles.v[0], v, key + kTile, s.tokens);
            cp_async_commit();
        }
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
    write_rows<D>(&tiles, dq, out, factor, mine.own, s.tokens, stride, n.head_dim);
#else
    __trap();
#endif
}

// ---- backward: keys and values ---------------------------------------------------------------------------------------

// Weights, from each thread of the first part to that of the other which has the same elements; and what a tile's queries see.
struct Passed {
    float4 weights[kTile / 8][kGroup];
    int4 seen[2][kTile];
};

// Four warps own 64 keys; or, in parts, eight do, the first four summing dv and the others dk.
template <int D, int Groups>
struct KeyTiles : std::conditional_t<kAlone<D>, Passed, Nothing> {
    static constexpr bool kParts = kAlone<D>;
    static constexpr int kKeys = kParts ? 64 : 64 * Groups;
    static_assert(!kParts || Groups == 2, "two sums");
    Tile<D, kKeys> k, v;
    Tile<D, kTile> q[2], dy[2];
    float log_sum[2][kTile], delta[2][kTile];
};

template <int D, int Groups>
__global__ void __launch_bounds__(kGroup * Groups, 1)
    hopper_key_kernel(__nv_bfloat16* dk, __nv_bfloat16* dv, const __nv_bfloat16* dy, const __nv_bfloat16* q,
                      const __nv_bfloat16* k, const __nv_bfloat16* v, const float* lse, const float* delta, Seen s, Heads n) {
#ifdef KT_WGMMA
    using Tiles = KeyTiles<D, Groups>;
    constexpr int kThreads = kGroup * Groups, kKeys = Tiles::kKeys;
    auto& tiles = *dynamic_shared<Tiles>();
    const int lane = threadIdx.x % 32, four = my_group(), own = Tiles::kParts ? 0 : four * 64;
    const Share share = my_share<kAlone<D>, kThreads, false>(&tiles, [&](int tile) {
        const int from = tile * kKeys, to = static_cast<int>(min(int64_t{from} + kKeys, s.tokens)) - 1;
        const int64_t reached = s.bounds[to].y, seen = s.window > 0 ? min(reached, to + s.window) : reached;  // but for images
        return static_cast<int>(seen) - (s.causal ? from : s.bounds[from].x);
    });
    const int64_t first = share.tile * kKeys, kv_head = share.head;
    const int64_t stride = n.heads * n.head_dim, kv_stride = n.kv_heads * n.head_dim, group = n.heads / n.kv_heads;
    k += kv_head * n.head_dim, v += kv_head * n.head_dim;
    dk += kv_head * n.head_dim, dv += kv_head * n.head_dim;
    const Copy<D, kKeys, kThreads> copy_keys(kv_stride, n.head_dim);
    const Copy<D, kTile, kThreads> copy_queries(stride, n.head_dim);
    copy_keys(tiles.k, k, first, s.tokens);
    copy_keys(tiles.v, v, first, s.tokens);

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
        copy_queries(tiles.q[to], q + step.head * n.head_dim, step.query, s.tokens);
        copy_queries(tiles.dy[to], dy + step.head * n.head_dim, step.query, s.tokens);
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

    const float scale = n.scale * kLog2e;
    const int key = static_cast<int>(first) + own + threadIdx.x % kGroup / 32 * 16 + lane / 4;  // and the one 8 behind
    // In parts, what a query sees comes from shared memory, too: the global one would be waited for by each pair of columns.
    const auto keep_seen = [&](Step step, int to) {
        if constexpr (Tiles::kParts) {
            if (threadIdx.x >= kTile) return;
            const Visible seen = visible_from(s, step.query + threadIdx.x);
            tiles.seen[to][threadIdx.x] = int4{seen.low, seen.causal_end, seen.row_end, seen.span};
        }
    };
    int key_spans[2] = {-1, -1};
    if constexpr (Tiles::kParts) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            if (s.spans && key + 8 * r < s.tokens) key_spans[r] = s.spans[key + 8 * r];
        }
    }
    const auto seen_by = [&](const Step& step, int column, int now, int r) {
        if constexpr (Tiles::kParts) {
            const int4 seen = tiles.seen[now][column];
            return sees(Visible{seen.x, seen.y, seen.z, seen.w}, key + 8 * r, key_spans[r]);
        } else {
            return sees(visible_from(s, step.query + column), key + 8 * r, s.spans);
        }
    };
    // Scores become weights, and the gradients of weights those of scores.
    const auto to_weights = [&](float (*p)[4], bool whole, const Step& step, int now) {
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
                    const int column = c * 8 + lane % 4 * 2 + j;
                    if (!seen_by(step, column, now, 0)) p[c][j] = 0.0f;
                    if (!seen_by(step, column, now, 1)) p[c][j + 2] = 0.0f;
                }
            }
        }
    };
    const auto to_gradients = [&](float* dp, float4 p, int c, int now) {
        const float2 minus = *reinterpret_cast<const float2*>(&tiles.delta[now][c * 8 + lane % 4 * 2]);
        dp[0] = p.x * (dp[0] - minus.x);
        dp[1] = p.y * (dp[1] - minus.y);
        dp[2] = p.z * (dp[2] - minus.x);
        dp[3] = p.w * (dp[3] - minus.y);
    };

    const uint64_t keys = by_columns(tiles.k, own), values = by_columns(tiles.v, own);
    const uint64_t queries = by_columns(tiles.q[0], 0), gradients = by_columns(tiles.dy[0], 0);
    const uint64_t summed_queries = by_rows(tiles.q[0]), summed_gradients = by_rows(tiles.dy[0]);
    float sum_v[D / 8][4] = {}, sum_k[Tiles::kParts ? 1 : D / 8][4] = {};  // in parts, sum_v is of dk in the other
    Step step{next_that_sees(begin), kv_head * group};
    if (step.query < end) begin_copy(step, 0);
    keep(sums_of(step), 0);
    keep_seen(step, 0);
    cp_async_commit();
    Step next = after(step);
    for (int now = 0; step.query < end; now ^= 1) {
        cp_async_wait<0>();
        fence_for_products();
        __syncthreads();  // the tile is there, and everyone is done with the one before, which is written next

        float p[kTile / 8][4];  // [keys, queries]
        unsigned a[kTile / 16][4];
        if constexpr (Tiles::kParts) {
            products_begin();
            scores<D>(p, four == 0 ? keys : values, (four == 0 ? queries : gradients) + now * kNextTile<D>);
            products_commit();
            if (next.query < end) begin_copy(next, now ^ 1);
            cp_async_commit();
            keep(sums_of(next), now ^ 1);
            keep_seen(next, now ^ 1);
            const bool whole = all_see<kTile>(s, step.query, first, first + 64);
            const Step after_next = after(next);
            products_wait<0>();
            settle<kTile>(p);
            float4(*const passed)[kGroup] = tiles.weights;
            const int other = threadIdx.x % kGroup;
            if (four == 0) {
                to_weights(p, whole, step, now);
#pragma unroll
                for (int c = 0; c < kTile / 8; c++) passed[c][other] = make_float4(p[c][0], p[c][1], p[c][2], p[c][3]);
            }
            __syncthreads();  // the weights are there
            if (four != 0) {
#pragma unroll
                for (int c = 0; c < kTile / 8; c++) to_gradients(p[c], passed[c][other], c, now);
            }
            as_left(a, p);
            settle<kTile>(a);
            products_begin();
            weighted_sum<D>(sum_v, a, (four == 0 ? summed_gradients : summed_queries) + now * kNextTile<D>);
            products_commit();
            products_wait<0>();
            settle<D>(sum_v);
            step = next, next = after_next;
        } else {
            if (next.query < end) begin_copy(next, now ^ 1);
            cp_async_commit();
            float dp[kTile / 8][4];
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
            to_weights(p, whole, step, now);
            as_left(a, p);
            settle<kTile>(a);
            products_begin();
            weighted_sum<D>(sum_v, a, summed_gradients + now * kNextTile<D>);
            products_commit();
            products_wait<1>();  // dp is there
            settle<kTile>(dp);
#pragma unroll
            for (int c = 0; c < kTile / 8; c++) to_gradients(dp[c], make_float4(p[c][0], p[c][1], p[c][2], p[c][3]), c, now);
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
    }
    cp_async_wait<0>();
    const int64_t own_first = first + own + threadIdx.x % kGroup / 32 * 16;
    if constexpr (Tiles::kParts) {
        const float factor = four == 0 ? 1.0f : n.scale, factors[2] = {factor, factor};
        write_rows<D>(&tiles, four == 0 ? dv : dk, sum_v, factors, own_first, s.tokens, kv_stride, n.head_dim);
    } else {
        const float scales[2] = {n.scale, n.scale}, ones[2] = {1.0f, 1.0f};
        write_rows<D>(&tiles, dk, sum_k, scales, own_first, s.tokens, kv_stride, n.head_dim);
        write_rows<D>(&tiles, dv, sum_v, ones, own_first, s.tokens, kv_stride, n.head_dim);
    }
#else
    __trap();
#endif
}

// ---- launches --------------------------------------------------------------------------------------------------------

using attention::Plan;
using attention::Problem;
using B = __nv_bfloat16;

constexpr size_t kMultiprocessor = 227 << 10;  // shared memory of one, or of a block that is alone there

// Heads that see the same keys come in pairs.
bool pairs(const Problem& p) { return p.heads / p.kv_heads % 2 == 0; }

template <int Groups, bool Together>
dim3 query_blocks(const Problem& p) {
    return Together ? dim3(blocks_of(p.tokens, 64), static_cast<unsigned>(p.heads / Groups))
                    : dim3(blocks_of(p.tokens, 64 * Groups), static_cast<unsigned>(p.heads));
}

template <int D, int Groups, bool Together, int Blocks>
int32_t forward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    static_assert(sizeof(ForwardTiles<D, Groups>) * Blocks <= kMultiprocessor);
    const dim3 blocks = query_blocks<Groups, Together>(p);
    return start(ctx, "attention_forward", hopper_forward_kernel<D, Groups, Together, Blocks>, blocks, kGroup * Groups,
                 sizeof(ForwardTiles<D, Groups>), static_cast<B*>(p.out), p.lse, static_cast<const B*>(p.q),
                 static_cast<const B*>(p.k), static_cast<const B*>(p.v), seen_of(p, plan),
                 Heads{p.heads, p.kv_heads, p.head_dim, p.scale});
}

template <int D, int QueryGroups, bool Together, int KeyGroups>
int32_t backward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    static_assert(sizeof(QueryTiles<D, QueryGroups>) <= kMultiprocessor && sizeof(KeyTiles<D, KeyGroups>) <= kMultiprocessor);
    const Heads n{p.heads, p.kv_heads, p.head_dim, p.scale};
    const B *q = static_cast<const B*>(p.q), *k = static_cast<const B*>(p.k), *v = static_cast<const B*>(p.v);
    const B* dy = static_cast<const B*>(p.dy);
    const dim3 queries = query_blocks<QueryGroups, Together>(p);
    const int32_t status = start(ctx, "attention_backward", hopper_query_kernel<D, QueryGroups, Together>, queries,
                                 kGroup * QueryGroups, sizeof(QueryTiles<D, QueryGroups>), static_cast<B*>(p.dq), dy, q, k, v,
                                 p.lse, plan.delta, seen_of(p, plan), n);
    if (status != KT_OK) return status;
    const dim3 keys(blocks_of(p.tokens, KeyTiles<D, KeyGroups>::kKeys), static_cast<unsigned>(p.kv_heads));
    return start(ctx, "attention_backward", hopper_key_kernel<D, KeyGroups>, keys, kGroup * KeyGroups,
                 sizeof(KeyTiles<D, KeyGroups>), static_cast<B*>(p.dk), static_cast<B*>(p.dv), dy, q, k, v, p.lse, plan.delta,
                 seen_of(p, plan), n);
}

}  // namespace

namespace attention {

// The largest score is sought before it is scaled, and hidden ones are -inf then: a scale above 0.
bool has_hopper_tiles(const kt_ctx* ctx, const Problem& p) {
    return ctx->warpgroups && has_tiles(p) && (p.head_dim <= 80 || p.head_dim > 128) && p.scale > 0;
}

int32_t hopper_forward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    if (p.head_dim <= 64) return forward<64, 2, false, 2>(ctx, p, plan);
    if (p.head_dim <= 80) return forward<80, 2, false, 2>(ctx, p, plan);
    return pairs(p) ? forward<256, 2, true, 1>(ctx, p, plan) : forward<256, 2, false, 1>(ctx, p, plan);
}

int32_t hopper_backward(kt_ctx* ctx, const Problem& p, const Plan& plan) {
    if (p.head_dim <= 64) return backward<64, 3, false, 2>(ctx, p, plan);
    if (p.head_dim <= 80) return backward<80, 3, false, 2>(ctx, p, plan);
    return pairs(p) ? backward<256, 2, true, 2>(ctx, p, plan) : backward<256, 2, false, 2>(ctx, p, plan);
}

}  // namespace attention
}  // namespace kt
