#include <cmath>
#include <cstring>

#include "bf16.h"
#include "context.h"
#include "table.h"

namespace kt {
namespace {

// Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011) of kLanes counters at once:
// (group + lane, stream), two words each. Written as loops over lanes, one multiplication a line, for the vectoriser.
constexpr int64_t kLanes = 64;

[[gnu::always_inline]] inline void philox(uint32_t (&word)[4][kLanes], uint64_t group, uint64_t stream, uint64_t seed) {
#pragma omp simd
    for (int64_t j = 0; j < kLanes; j++) {
        const uint64_t counter = group + static_cast<uint64_t>(j);
        uint32_t c0 = static_cast<uint32_t>(counter);
        uint32_t c1 = static_cast<uint32_t>(counter >> 32);
        uint32_t c2 = static_cast<uint32_t>(stream);
        uint32_t c3 = static_cast<uint32_t>(stream >> 32);
        uint32_t k0 = static_cast<uint32_t>(seed);
        uint32_t k1 = static_cast<uint32_t>(seed >> 32);
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            const uint64_t p0 = uint64_t{0xD2511F53u} * c0;
            const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2;
            c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
            c1 = static_cast<uint32_t>(p1);
            c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
            c3 = static_cast<uint32_t>(p0);
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        word[0][j] = c0;
        word[1][j] = c1;
        word[2][j] = c2;
        word[3][j] = c3;
    }
}

// Groups [group, end) of four elements, of n elements in all. Word w of lane j belongs to element 4 j + w.
template <typename T>
[[gnu::always_inline]] inline void drop(T* y, const T* x, int64_t group, int64_t end, int64_t n, uint32_t threshold,
                                        float divisor, uint64_t seed, uint64_t stream) {
    uint32_t word[4][kLanes];
    uint32_t drawn[4 * kLanes];
    for (; group < end; group += kLanes) {
        philox(word, static_cast<uint64_t>(group), stream, seed);
#pragma omp simd
        for (int64_t j = 0; j < kLanes; j++) {
            drawn[4 * j] = word[0][j];
            drawn[4 * j + 1] = word[1][j];
            drawn[4 * j + 2] = word[2][j];
            drawn[4 * j + 3] = word[3][j];
        }
        const int64_t first = 4 * group;
        const int64_t count = std::min(4 * std::min(kLanes, end - group), n - first);
        T* yi = y + first;
        const T* xi = x + first;
#pragma omp simd
        for (int64_t i = 0; i < count; i++) {
            const float kept = load(xi[i]) / divisor;
            yi[i] = store<T>(drawn[i] >= threshold ? kept : 0.0f);
        }
    }
}

KT_CLONES void drop_groups(float* y, const float* x, int64_t group, int64_t end, int64_t n, uint32_t threshold,
                           float divisor, uint64_t seed, uint64_t stream) {
    drop(y, x, group, end, n, threshold, divisor, seed, stream);
}

KT_CLONES void drop_groups(bf16* y, const bf16* x, int64_t group, int64_t end, int64_t n, uint32_t threshold, float divisor,
                           uint64_t seed, uint64_t stream) {
    drop(y, x, group, end, n, threshold, divisor, seed, stream);
}

int32_t dropout(kt_ctx* ctx, void* y, const void* x, int64_t n, float p, uint64_t seed, uint64_t stream, int32_t dtype) {
    if (!(p >= 0 && p <= 1)) {
        return fail(ctx, KT_BAD_ARGUMENT, "dropout: p is %g, expected 0 <= p <= 1", static_cast<double>(p));
    }
    // u 2^-32 >= p, u a whole number, is u >= ceil(p 2^32): at most 2^32 - 256 for p < 1. With p = 1 the divisor is zero.
    if (p == 1 && (dtype == KT_F32 || dtype == KT_BF16)) {
        if (n > 0) std::memset(y, 0, static_cast<size_t>(n) * (dtype == KT_F32 ? sizeof(float) : sizeof(bf16)));
        return KT_OK;
    }
    const uint32_t threshold = static_cast<uint32_t>(std::ceil(static_cast<double>(p) * 4294967296.0));
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        // A group of four costs about what streaming eight elements does.
        parallel_for(ctx, (n + 3) / 4, kGrain / 8, [&](int64_t begin, int64_t end) {
            drop_groups(static_cast<T*>(y), static_cast<const T*>(x), begin, end, n, threshold, 1.0f - p, seed, stream);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "dropout", dtype);
}

}  // namespace

void add_dropout(kt_table& table) {
    table.dropout = dropout;
}

}  // namespace kt
