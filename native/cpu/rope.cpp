// Compiled without contraction to FMA (cmake/CpuLibrary.cmake): each product is rounded before the sum, in F32 too.
#include "bf16.h"
#include "context.h"
#include "table.h"

namespace kt {
namespace {

// Tokens [begin, end). sign is 1 for the rotation, -1 for its transpose.
template <typename T>
[[gnu::always_inline]] inline void rotate(T* y, const T* x, const float* cos, const float* sin, const int32_t* pos,
                                          int64_t begin, int64_t end, int64_t heads, int64_t head_dim, float sign) {
    const int64_t half = head_dim / 2;
    for (int64_t t = begin; t < end; t++) {
        const float* c = cos + pos[t] * half;
        const float* s = sin + pos[t] * half;
        for (int64_t h = 0; h < heads; h++) {
            const T* a = x + (t * heads + h) * head_dim;
            const T* b = a + half;
            T* ya = y + (t * heads + h) * head_dim;
            T* yb = ya + half;
#pragma omp simd
            for (int64_t j = 0; j < half; j++) {
                const float sj = sign * s[j];
                ya[j] = store<T>(rounded<T>(load(a[j]) * c[j]) - rounded<T>(load(b[j]) * sj));
                yb[j] = store<T>(rounded<T>(load(b[j]) * c[j]) + rounded<T>(load(a[j]) * sj));
            }
        }
    }
}

KT_CLONES void rotate_tokens(float* y, const float* x, const float* cos, const float* sin, const int32_t* pos,
                             int64_t begin, int64_t end, int64_t heads, int64_t head_dim, float sign) {
    rotate(y, x, cos, sin, pos, begin, end, heads, head_dim, sign);
}

KT_CLONES void rotate_tokens(bf16* y, const bf16* x, const float* cos, const float* sin, const int32_t* pos, int64_t begin,
                             int64_t end, int64_t heads, int64_t head_dim, float sign) {
    rotate(y, x, cos, sin, pos, begin, end, heads, head_dim, sign);
}

int32_t rope(kt_ctx* ctx, const char* op, void* y, const void* x, const float* cos, const float* sin, const int32_t* pos,
             int64_t tokens, int64_t heads, int64_t head_dim, int64_t positions, int32_t dtype, float sign) {
    if (head_dim % 2 != 0) {
        return fail(ctx, KT_BAD_ARGUMENT, "%s: head_dim %lld is odd", op, static_cast<long long>(head_dim));
    }
    for (int64_t t = 0; t < tokens; t++) {
        if (pos[t] < 0 || pos[t] >= positions) {
            return fail(ctx, KT_BAD_ARGUMENT, "%s: position %d of token %lld is outside the table of %lld", op,
                        static_cast<int>(pos[t]), static_cast<long long>(t), static_cast<long long>(positions));
        }
    }
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, tokens, rows_grain(heads * head_dim), [&](int64_t begin, int64_t end) {
            rotate_tokens(static_cast<T*>(y), static_cast<const T*>(x), cos, sin, pos, begin, end, heads, head_dim, sign);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, op, dtype);
}

int32_t rope_forward(kt_ctx* ctx, void* y, const void* x, const float* cos, const float* sin, const int32_t* pos,
                     int64_t tokens, int64_t heads, int64_t head_dim, int64_t positions, int32_t dtype) {
    return rope(ctx, "rope_forward", y, x, cos, sin, pos, tokens, heads, head_dim, positions, dtype, 1.0f);
}

int32_t rope_backward(kt_ctx* ctx, void* dx, const void* dy, const float* cos, const float* sin, const int32_t* pos,
                      int64_t tokens, int64_t heads, int64_t head_dim, int64_t positions, int32_t dtype) {
    return rope(ctx, "rope_backward", dx, dy, cos, sin, pos, tokens, heads, head_dim, positions, dtype, -1.0f);
}

}  // namespace

void add_rope(kt_table& table) {
    table.rope_forward = rope_forward;
    table.rope_backward = rope_backward;
}

}  // namespace kt
