// Compiled without contraction to FMA (cmake/CpuLibrary.cmake): each product is rounded before the sum, in F32 too.
#include "rms_norm.h"
#include "table.h"

namespace kt {
namespace {

// One token's heads; y may be x. sign is 1 for the rotation, -1 for its transpose.
template <typename T>
KT_CLONES void rotate(T* y, const T* x, const float* cos, const float* sin, int64_t heads, int64_t half, float sign) {
    for (int64_t h = 0; h < heads; h++) {
        const T* a = x + h * half * 2;
        const T* b = a + half;
        T* ya = y + h * half * 2;
        T* yb = ya + half;
#pragma omp simd
        for (int64_t j = 0; j < half; j++) {
            const float aj = load(a[j]);
            const float bj = load(b[j]);
            const float sj = sign * sin[j];
            ya[j] = store<T>(rounded<T>(aj * cos[j]) - rounded<T>(bj * sj));
            yb[j] = store<T>(rounded<T>(bj * cos[j]) + rounded<T>(aj * sj));
        }
    }
}

int32_t check_positions(kt_ctx* ctx, const char* op, const int32_t* pos, int64_t tokens, int64_t head_dim,
                        int64_t positions) {
    if (head_dim % 2 != 0) {
        return fail(ctx, KT_BAD_ARGUMENT, "%s: head_dim %lld is odd", op, static_cast<long long>(head_dim));
    }
    for (int64_t t = 0; t < tokens; t++) {
        if (pos[t] < 0 || pos[t] >= positions) {
            return fail(ctx, KT_BAD_ARGUMENT, "%s: position %d of token %lld is outside the table of %lld", op,
                        static_cast<int>(pos[t]), static_cast<long long>(t), static_cast<long long>(positions));
        }
    }
    return KT_OK;
}

int32_t rms_norm_rope_forward(kt_ctx* ctx, void* y, float* rstd, const void* x, const void* w, const float* cos,
                              const float* sin, const int32_t* pos, int64_t tokens, int64_t heads, int64_t head_dim,
                              int64_t positions, float eps, int32_t dtype) {
    const int32_t status = check_positions(ctx, "rms_norm_rope_forward", pos, tokens, head_dim, positions);
    if (status != KT_OK) return status;
    const int64_t width = heads * head_dim, half = head_dim / 2;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, tokens, rows_grain(width), [&](int64_t begin, int64_t end) {
            for (int64_t t = begin; t < end; t++) {
                T* yt = static_cast<T*>(y) + t * width;
                normalise_rows(yt, rstd ? rstd + t * heads : nullptr, static_cast<const T*>(x) + t * width,
                               static_cast<const T*>(w), heads, head_dim, eps);
                rotate(yt, yt, cos + pos[t] * half, sin + pos[t] * half, heads, half, 1.0f);
            }
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "rms_norm_rope_forward", dtype);
}

int32_t rms_norm_rope_backward(kt_ctx* ctx, void* dx, float* dw, const void* dy, const void* x, const void* w,
                               const float* cos, const float* sin, const int32_t* pos, const float* rstd, int64_t tokens,
                               int64_t heads, int64_t head_dim, int64_t positions, int32_t dtype) {
    const char* op = "rms_norm_rope_backward";
    const int32_t status = check_positions(ctx, op, pos, tokens, head_dim, positions);
    if (status != KT_OK) return status;
    const int64_t width = heads * head_dim, half = head_dim / 2;
    // The norm's own gradient takes the place of what was turned back, unless dw is to read that as well.
    const int64_t bytes = tokens * width * static_cast<int64_t>(sizeof(float));
    void* turned = dw ? scratch(ctx, bytes) : dx;
    if (dw && !turned) return no_scratch(ctx, op, bytes);
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        const T* of = static_cast<const T*>(x);
        T* dn = static_cast<T*>(turned);
        if (!dn) return;
        parallel_for(ctx, tokens, rows_grain(width), [&](int64_t begin, int64_t end) {
            for (int64_t t = begin; t < end; t++) {
                const int64_t at = t * width;
                rotate(dn + at, static_cast<const T*>(dy) + at, cos + pos[t] * half, sin + pos[t] * half, heads, half, -1.0f);
                if (!dx) continue;
                normalise_rows_backward(static_cast<T*>(dx) + at, dn + at, of + at, static_cast<const T*>(w),
                                        rstd + t * heads, heads, head_dim);
            }
        });
        if (dw) weight_gradient(ctx, dw, dn, of, rstd, tokens * heads, head_dim);
    });
    return known ? KT_OK : bad_dtype(ctx, op, dtype);
}

}  // namespace

void add_rms_norm_rope(kt_table& table) {
    table.rms_norm_rope_forward = rms_norm_rope_forward;
    table.rms_norm_rope_backward = rms_norm_rope_backward;
}

}  // namespace kt
