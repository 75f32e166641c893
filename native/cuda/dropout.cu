// Dropout: a thread draws the four words of one Philox counter, which serve its eight elements.
#include <cmath>

#include "kernel.cuh"
#include "table.h"

namespace kt {
namespace {

struct Words {
    uint32_t word[4];
};

// Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011) of the counter (group, stream).
__device__ inline Words draw(uint64_t group, uint64_t stream, uint64_t seed) {
    uint32_t c0 = static_cast<uint32_t>(group), c1 = static_cast<uint32_t>(group >> 32);
    uint32_t c2 = static_cast<uint32_t>(stream), c3 = static_cast<uint32_t>(stream >> 32);
    uint32_t low = static_cast<uint32_t>(seed), high = static_cast<uint32_t>(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64_t left = uint64_t{0xD2511F53u} * c0, right = uint64_t{0xCD9E8D57u} * c2;
        c0 = static_cast<uint32_t>(right >> 32) ^ c1 ^ low;
        c1 = static_cast<uint32_t>(right);
        c2 = static_cast<uint32_t>(left >> 32) ^ c3 ^ high;
        c3 = static_cast<uint32_t>(left);
        low += 0x9E3779B9u;
        high += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

template <typename T>
__global__ void __launch_bounds__(kEach) dropout_kernel(T* y, const T* x, int64_t n, uint32_t threshold, float factor,
                                                        uint64_t seed, uint64_t stream, bool aligned) {
    my_eight(n, aligned, [&](int64_t i, int count, bool whole) {
        const Words drawn = draw(static_cast<uint64_t>(i / 8), stream, seed);
        float v[8];
        load8(v, x + i, count, whole);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const uint32_t half = drawn.word[j / 2] >> (j % 2 * 16) & 0xffffu;
            v[j] = half >= threshold ? v[j] * factor : 0.0f;
        }
        store8(y + i, v, count, whole);
    });
}

int32_t dropout(kt_ctx* ctx, void* y, const void* x, int64_t n, float p, uint64_t seed, uint64_t stream, int32_t dtype) {
    if (!(p >= 0 && p <= 1)) {
        return fail(ctx, KT_BAD_ARGUMENT, "dropout: p is %g, expected 0 <= p <= 1", static_cast<double>(p));
    }
    const float threshold = std::nearbyint(p * 65536.0f);
    // With everything dropped the factor would be infinite; nothing is multiplied by it then.
    const float factor = threshold == 65536.0f ? 0.0f : 1.0f / (1.0f - threshold / 65536.0f);
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "dropout", dropout_kernel<T>, blocks_of_eights(n), kEach, 0, static_cast<T*>(y),
                       static_cast<const T*>(x), n, static_cast<uint32_t>(threshold), factor, seed, stream,
                       aligned16(y, x));
    });
    return known ? status : bad_dtype(ctx, "dropout", dtype);
}

}  // namespace

void add_dropout(kt_table& table) { table.dropout = dropout; }

}  // namespace kt
