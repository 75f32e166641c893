// What the attention kernels share: the operands of a call, who sees whom, and the plan that tells tiles which others to visit.
#pragma once

#include "kernel.cuh"

namespace kt {
namespace attention {

constexpr int kGranule = 16;     // tokens whose reach is kept together; every tile is a whole number of them
constexpr int kMaxHeadDim = 256;

struct Problem {
    const void *q, *k, *v, *y, *dy;
    void *out, *dq, *dk, *dv;
    float* lse;
    const int32_t *starts, *spans;  // spans may be null
    int64_t tokens, rows, heads, kv_heads, head_dim, window;
    float scale;
    bool causal;
    int32_t dtype;
};

// In scratch memory, written by the first kernel of a call.
struct Plan {
    int2* bounds;   // [tokens]: the row that a token is in, as tokens [x, y)
    int2* reach;    // [granules]: what the granule's tokens see lies in [x, y)
    int2* certain; // [granules]: each of them sees all of [x, y)
    float* delta;   // [tokens, heads]: sum of dy y, for backward
};

// On tensor cores, for BF16 whose rows are whole 16-byte pieces; and for all else.
bool has_tiles(const Problem&);
int32_t tiles_forward(kt_ctx*, const Problem&, const Plan&);
int32_t tiles_backward(kt_ctx*, const Problem&, const Plan&);
bool has_hopper_tiles(const kt_ctx*, const Problem&);
int32_t hopper_forward(kt_ctx*, const Problem&, const Plan&);
int32_t hopper_backward(kt_ctx*, const Problem&, const Plan&);
int32_t plain_forward(kt_ctx*, const Problem&, const Plan&);
int32_t plain_backward(kt_ctx*, const Problem&, const Plan&);

}  // namespace attention

namespace {

// What a kernel needs to know of a call, by value.
struct Seen {
    const int2* bounds;
    const int2* reach;
    const int2* certain;
    const int32_t* spans;
    int64_t tokens, window;
    bool causal;
};

inline Seen seen_of(const attention::Problem& p, const attention::Plan& plan) {
    return {plan.bounds, plan.reach, plan.certain, p.spans, p.tokens, p.window, p.causal};
}

// The keys that token q sees: [low, causal_end), and up to row_end those of its own image.
struct Visible {
    int low, causal_end, row_end, span;
};

__device__ inline Visible visible_from(const Seen& s, int64_t q) {
    if (q >= s.tokens) return {0, 0, 0, -1};
    const int2 row = s.bounds[q];
    const int i = static_cast<int>(q);
    const int low = s.window > 0 ? max(row.x, static_cast<int>(max(int64_t{0}, q - s.window + 1))) : row.x;
    return {low, s.causal ? i + 1 : row.y, row.y, s.causal && s.spans ? s.spans[q] : -1};
}

__device__ inline bool sees(const Visible& v, int k, const int32_t* spans) {
    return k >= v.low && (k < v.causal_end || (v.span >= 0 && k < v.row_end && spans[k] == v.span));
}

// The same, `span` being that of token k.
__device__ inline bool sees(const Visible& v, int k, int span) {
    return (k >= v.low) & ((k < v.causal_end) | ((v.span >= 0) & (k < v.row_end) & (span == v.span)));
}

// A call's heads, by value.
struct Heads {
    int64_t heads, kv_heads, head_dim;
    float scale;
};

// What the granules of the tokens [first, first + Rows) see, as tokens [x, y).
template <int Rows>
__device__ inline int2 reach_of(const Seen& s, int64_t first) {
    int2 all = make_int2(INT32_MAX, 0);
    const int2* from = s.reach + first / attention::kGranule;
    const int left = static_cast<int>(min(s.tokens - first, int64_t{Rows}));
#pragma unroll
    for (int i = 0; i < Rows; i += attention::kGranule) {
        if (i < left) {
            const int2 one = from[i / attention::kGranule];
            all = make_int2(min(all.x, one.x), max(all.y, one.y));
        }
    }
    return all;
}

// Whether each of the tokens [first, first + Rows) sees all of the keys [key, end). Those past the last token do not count: their
// queries and gradients are zero, and so is what they add.
template <int Rows>
__device__ inline bool all_see(const Seen& s, int64_t first, int64_t key, int64_t end) {
    bool all = true;
    const int2* from = s.certain + first / attention::kGranule;
    const int left = static_cast<int>(min(s.tokens - first, int64_t{Rows}));
#pragma unroll
    for (int i = 0; i < Rows; i += attention::kGranule) {
        if (i < left) {
            const int2 one = from[i / attention::kGranule];
            all = all && one.x <= key && end <= one.y;
        }
    }
    return all;
}

}  // namespace
}  // namespace kt
