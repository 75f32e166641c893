// Dropout: a thread draws the four words of one Philox counter, which serve its eight elements.
#include "dropout.cuh"
#include "table.h"

namespace kt {
namespace {

template <typename T>
__global__ void __launch_bounds__(kEach) dropout_kernel(T* y, const T* x, int64_t n, Dropout dropout, bool aligned) {
    my_eight(n, aligned, [&](int64_t i, int count, bool whole) {
        float v[8];
        load8(v, x + i, count, whole);
        drop8(v, i, dropout, true);
        store8(y + i, v, count, whole);
    });
}

int32_t dropout(kt_ctx* ctx, void* y, const void* x, int64_t n, float p, uint64_t seed, uint64_t stream, int32_t dtype) {
    Dropout made;
    if (!make_dropout(ctx, "dropout", &made, p, seed, stream)) return KT_BAD_ARGUMENT;
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "dropout", dropout_kernel<T>, blocks_of_eights(n), kEach, 0, static_cast<T*>(y),
                       static_cast<const T*>(x), n, made, aligned16(y, x));
    });
    return known ? status : bad_dtype(ctx, "dropout", dtype);
}

}  // namespace

void add_dropout(kt_table& table) { table.dropout = dropout; }

}  // namespace kt
