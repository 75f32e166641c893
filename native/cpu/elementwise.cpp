#include "bf16.h"
#include "context.h"
#include "table.h"

namespace kt {
namespace {

template <typename Y, typename X>
[[gnu::always_inline]] inline void convert_loop(Y* y, const X* x, int64_t n, float factor) {
    for (int64_t i = 0; i < n; i++) y[i] = store<Y>(load(x[i]) * factor);
}

KT_CLONES void convert_range(float* y, const float* x, int64_t n, float factor) { convert_loop(y, x, n, factor); }
KT_CLONES void convert_range(float* y, const bf16* x, int64_t n, float factor) { convert_loop(y, x, n, factor); }
KT_CLONES void convert_range(bf16* y, const float* x, int64_t n, float factor) { convert_loop(y, x, n, factor); }
KT_CLONES void convert_range(bf16* y, const bf16* x, int64_t n, float factor) { convert_loop(y, x, n, factor); }

int32_t convert(kt_ctx* ctx, void* y, const void* x, int64_t n, float factor, int32_t y_dtype, int32_t x_dtype) {
    const bool known = with_type(y_dtype, [&](auto y_type) {
        using Y = decltype(y_type);
        with_type(x_dtype, [&](auto x_type) {
            using X = decltype(x_type);
            parallel_for(ctx, n, kGrain, [&](int64_t begin, int64_t end) {
                convert_range(static_cast<Y*>(y) + begin, static_cast<const X*>(x) + begin, end - begin, factor);
            });
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "convert", y_dtype);
}

}  // namespace

void add_elementwise(kt_table& table) {
    table.convert = convert;
}

}  // namespace kt
