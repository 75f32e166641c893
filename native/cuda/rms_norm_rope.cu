// RMSNorm of every head and rotary position embedding, halves form, in one pass: what is normalised stays in registers. A head is
// a row of rms_norm.cuh, whose owner's threads take eight columns at a time, and look at those of the other half for themselves.
#include "rms_norm.cuh"
#include "table.h"

namespace kt {
namespace {

// Which row of the tables each token takes.
struct Rotation {
    const float* cos;
    const float* sin;
    const int32_t* pos;
    int64_t heads, positions;
    unsigned long long* fault;

    // The token's position, below 0 where it is outside the table, which is recorded.
    __device__ int64_t position(int64_t row, bool records) const {
        const int64_t t = row / heads;
        const int32_t p = pos[t];
        if (p >= 0 && p < positions) return p;
        if (records) atomicMin(fault, static_cast<unsigned long long>(t) << 32 | static_cast<uint32_t>(p));
        return -1;
    }
};

// What a column becomes: x cos + other sin, other being the column of the other half, and sin that of the pair, of the sign that
// this half has. Products are rounded before they are added, in F32 too.
template <typename T>
__device__ inline float turned(float x, float other, float cos, float sin) {
    return rounded<T>(__fadd_rn(rounded<T>(__fmul_rn(x, cos)), rounded<T>(__fmul_rn(other, sin))));
}

// Eight columns from c on, as load8, but each of the other half.
template <typename P>
__device__ inline void load_others(float* v, const P* p, int64_t c, int64_t half, int count, bool aligned) {
    if (aligned) {
        load8(v, p + (c < half ? c + half : c - half), count, true);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = i < count ? load(p[c + i < half ? c + i + half : c + i - half]) : 0.0f;
    }
}

// The tables' entries for eight columns from c on; sine is negated for the left half, or where Back for the right one.
template <bool Back>
__device__ inline void load_angles(float* cos, float* sin, const Rotation& rotation, int64_t position, int64_t c,
                                   int64_t half, int count, bool aligned) {
    const float* of_cos = rotation.cos + position * half;
    const float* of_sin = rotation.sin + position * half;
    if (aligned) {
        const int64_t pair = c < half ? c : c - half;
        load8(cos, of_cos + pair, count, true);
        load8(sin, of_sin + pair, count, true);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int64_t pair = c + i < half ? c + i : c + i - half;
            cos[i] = i < count ? of_cos[pair] : 0.0f;
            sin[i] = i < count ? of_sin[pair] : 0.0f;
        }
    }
#pragma unroll
    for (int i = 0; i < 8; i++) sin[i] = (c + i < half) == Back ? sin[i] : -sin[i];
}

template <typename T, bool Long>
__global__ void __launch_bounds__(kRowThreads) forward_kernel(T* y, float* rstd, const T* x, const T* w, Rotation rotation,
                                                              int64_t rows, int64_t cols, float eps, bool aligned) {
    using Row = Owner<Long>;
    const int64_t row = Row::row(), half = cols / 2;
    if (!Long && row >= rows) return;  // whole warps, and warps do not wait for each other
    const int64_t position = rotation.position(row, Row::first() == 0);
    if (position < 0) return;
    x += row * cols;
    y += row * cols;
    const float r = row_rstd<Long>(x, cols, eps, aligned);
    for (int64_t c = Row::first() * 8; c < cols; c += Row::kStep * 8) {
        const int count = static_cast<int>(min(cols - c, int64_t{8}));
        float v[8], other[8], weight[8], other_weight[8], cos[8], sin[8];
        load8(v, x + c, count, aligned);
        load8(weight, w + c, count, aligned);
        load_others(other, x, c, half, count, aligned);
        load_others(other_weight, w, c, half, count, aligned);
        load_angles<false>(cos, sin, rotation, position, c, half, count, aligned);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            v[i] = turned<T>(rounded<T>(normalised(v[i], r, weight[i])), rounded<T>(normalised(other[i], r, other_weight[i])),
                             cos[i], sin[i]);
        }
        store8(y + c, v, count, aligned);
    }
    if (rstd && Row::first() == 0) rstd[row] = r;
}

// The norm's gradient of dn, dn being dy turned back.
template <typename T, bool Long>
__global__ void __launch_bounds__(kRowThreads) backward_kernel(T* dx, const T* dy, const T* x, const T* w, const float* rstd,
                                                               Rotation rotation, int64_t rows, int64_t cols, bool aligned) {
    using Row = Owner<Long>;
    const int64_t row = Row::row(), half = cols / 2;
    if (!Long && row >= rows) return;
    const int64_t position = rotation.position(row, Row::first() == 0);
    if (position < 0) return;
    dx += row * cols;
    dy += row * cols;
    x += row * cols;
    // Calls f(c, count, dn, x, weight) for this thread's columns.
    const auto my_columns = [&](auto f) {
        for (int64_t c = Row::first() * 8; c < cols; c += Row::kStep * 8) {
            const int count = static_cast<int>(min(cols - c, int64_t{8}));
            float g[8], other[8], cos[8], sin[8], v[8], weight[8];
            load8(g, dy + c, count, aligned);
            load_others(other, dy, c, half, count, aligned);
            load_angles<true>(cos, sin, rotation, position, c, half, count, aligned);
            load8(v, x + c, count, aligned);
            load8(weight, w + c, count, aligned);
#pragma unroll
            for (int i = 0; i < 8; i++) g[i] = turned<T>(g[i], other[i], cos[i], sin[i]);
            f(c, count, g, v, weight);
        }
    };
    float dot = 0;
    my_columns([&](int64_t, int, const float* g, const float* v, const float* weight) {
#pragma unroll
        for (int i = 0; i < 8; i++) dot += dot_term(g[i], v[i], weight[i]);
    });
    const float r = rstd[row];
    const float k = Row::sum(dot) / static_cast<float>(cols) * r * r;
    my_columns([&](int64_t c, int count, float* g, const float* v, const float* weight) {
#pragma unroll
        for (int i = 0; i < 8; i++) g[i] = gradient(g[i], v[i], weight[i], r, k);
        store8(dx + c, g, count, aligned);
    });
}

// dw[c] = sum over rows of dn x rstd.
template <typename T>
struct WeightTerm {
    const T* dy;
    const T* x;
    const float* rstd;
    Rotation rotation;
    int64_t half;

    __device__ float operator()(int64_t row, int64_t c) const {
        const int64_t found = rotation.position(row, true), position = max(found, int64_t{0});
        const int64_t at = row * half * 2, pair = position * half + (c < half ? c : c - half);
        const float sin = c < half ? rotation.sin[pair] : -rotation.sin[pair];
        const float dn =
            turned<T>(load(dy[at + c]), load(dy[at + (c < half ? c + half : c - half)]), rotation.cos[pair], sin);
        // No return before: a term that may be left out is not contracted with the sum as the norm's is, and loses its bits.
        return (found < 0 ? 0.0f : dn) * load(x[at + c]) * (found < 0 ? 0.0f : rstd[row]);
    }
};

int32_t rms_norm_rope_forward(kt_ctx* ctx, void* y, float* rstd, const void* x, const void* w, const float* cos,
                              const float* sin, const int32_t* pos, int64_t tokens, int64_t heads, int64_t head_dim,
                              int64_t positions, float eps, int32_t dtype) {
    const char* op = "rms_norm_rope_forward";
    if (head_dim % 2 != 0) {
        return fail(ctx, KT_BAD_ARGUMENT, "%s: head_dim %lld is odd", op, static_cast<long long>(head_dim));
    }
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        const bool aligned = head_dim % 16 == 0 && aligned16(y, x, w, cos, sin);
        status = start(ctx, op, is_long(head_dim) ? forward_kernel<T, true> : forward_kernel<T, false>,
                       blocks_of(tokens * heads, rows_of_block(head_dim)), kRowThreads, 0, static_cast<T*>(y), rstd,
                       static_cast<const T*>(x), static_cast<const T*>(w),
                       Rotation{cos, sin, pos, heads, positions, fault_word(ctx, Checked::rms_norm_rope_forward, positions)},
                       tokens * heads, head_dim, eps, aligned);
    });
    if (!known) return bad_dtype(ctx, op, dtype);
    return status == KT_OK ? check_faults(ctx) : status;
}

int32_t rms_norm_rope_backward(kt_ctx* ctx, void* dx, float* dw, const void* dy, const void* x, const void* w,
                               const float* cos, const float* sin, const int32_t* pos, const float* rstd, int64_t tokens,
                               int64_t heads, int64_t head_dim, int64_t positions, int32_t dtype) {
    const char* op = "rms_norm_rope_backward";
    if (head_dim % 2 != 0) {
        return fail(ctx, KT_BAD_ARGUMENT, "%s: head_dim %lld is odd", op, static_cast<long long>(head_dim));
    }
    const Rotation rotation{cos, sin, pos, heads, positions, fault_word(ctx, Checked::rms_norm_rope_backward, positions)};
    const int64_t rows = tokens * heads;
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (dx) {
            const bool aligned = head_dim % 16 == 0 && aligned16(dx, dy, x, w, cos, sin);
            status = start(ctx, op, is_long(head_dim) ? backward_kernel<T, true> : backward_kernel<T, false>,
                           blocks_of(rows, rows_of_block(head_dim)), kRowThreads, 0, static_cast<T*>(dx),
                           static_cast<const T*>(dy), static_cast<const T*>(x), static_cast<const T*>(w), rstd, rotation,
                           rows, head_dim, aligned);
        }
        if (dw && status == KT_OK) {
            status = column_sums(
                ctx, op, dw, rows, head_dim,
                WeightTerm<T>{static_cast<const T*>(dy), static_cast<const T*>(x), rstd, rotation, head_dim / 2});
        }
    });
    if (!known) return bad_dtype(ctx, op, dtype);
    return status == KT_OK ? check_faults(ctx) : status;
}

}  // namespace

void add_rms_norm_rope(kt_table& table) {
    table.rms_norm_rope_forward = rms_norm_rope_forward;
    table.rms_norm_rope_backward = rms_norm_rope_backward;
}

}  // namespace kt
