#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstring>

#include "dropout.h"
#include "table.h"

namespace kt {
namespace {

// Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011) of kLanes counters at once,
// (group + lane, stream), under the key seed. Word w of lane j goes to drawn[4 j + w]; its halves serve elements 8 j + 2 w and
// 8 j + 2 w + 1 of a block.
constexpr int64_t kLanes = 64;
constexpr int64_t kBlock = 8 * kLanes;
constexpr uint32_t kEverything = 65536;
constexpr uint32_t kLeft = 0xD2511F53u;
constexpr uint32_t kRight = 0xCD9E8D57u;
constexpr uint32_t kStepLow = 0x9E3779B9u;
constexpr uint32_t kStepHigh = 0xBB67AE85u;

KT_CLONES void draw_plain(uint32_t* drawn, uint64_t group, uint64_t stream, uint64_t seed) {
    uint32_t word[4][kLanes];
#pragma omp simd
    for (int64_t j = 0; j < kLanes; j++) {
        const uint64_t counter = group + static_cast<uint64_t>(j);
        uint32_t c0 = static_cast<uint32_t>(counter);
        uint32_t c1 = static_cast<uint32_t>(counter >> 32);
        uint32_t c2 = static_cast<uint32_t>(stream);
        uint32_t c3 = static_cast<uint32_t>(stream >> 32);
        uint32_t low = static_cast<uint32_t>(seed);
        uint32_t high = static_cast<uint32_t>(seed >> 32);
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            const uint64_t left = uint64_t{kLeft} * c0;
            const uint64_t right = uint64_t{kRight} * c2;
            c0 = static_cast<uint32_t>(right >> 32) ^ c1 ^ low;
            c1 = static_cast<uint32_t>(right);
            c2 = static_cast<uint32_t>(left >> 32) ^ c3 ^ high;
            c3 = static_cast<uint32_t>(left);
            low += kStepLow;
            high += kStepHigh;
        }
        word[0][j] = c0;
        word[1][j] = c1;
        word[2][j] = c2;
        word[3][j] = c3;
    }
    for (int64_t j = 0; j < kLanes; j++) {
        for (int64_t w = 0; w < 4; w++) drawn[4 * j + w] = word[w][j];
    }
}

#if defined(__x86_64__)
// GCC 12 warns about the undefined operand inside its own intrinsics.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
// Eight counters a register, a word in the lower half of each 64-bit lane, where vpmuludq multiplies it; what gathers in the
// upper halves is never read. The lanes hold counters 0 4 1 5 2 6 3 7, so that unpacking leaves them in order.
__attribute__((target("avx512f"))) void draw_avx512(uint32_t* drawn, uint64_t group, uint64_t stream, uint64_t seed) {
    const __m512i left_factor = _mm512_set1_epi64(kLeft);
    const __m512i right_factor = _mm512_set1_epi64(kRight);
    const __m512i order = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
    const __m512i upper = _mm512_set1_epi64(static_cast<int64_t>(0xffffffff00000000u));
    for (int64_t j = 0; j < kLanes; j += 8) {
        const __m512i counter = _mm512_add_epi64(_mm512_set1_epi64(static_cast<int64_t>(group) + j), order);
        __m512i c0 = counter;
        __m512i c1 = _mm512_srli_epi64(counter, 32);
        __m512i c2 = _mm512_set1_epi64(static_cast<int64_t>(stream));
        __m512i c3 = _mm512_srli_epi64(c2, 32);
        uint32_t low = static_cast<uint32_t>(seed);
        uint32_t high = static_cast<uint32_t>(seed >> 32);
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            const __m512i left = _mm512_mul_epu32(left_factor, c0);
            const __m512i right = _mm512_mul_epu32(right_factor, c2);
            // 0x96 is the truth table of a ^ b ^ c.
            c0 = _mm512_ternarylogic_epi64(_mm512_srli_epi64(right, 32), c1, _mm512_set1_epi64(low), 0x96);
            c1 = right;
            c2 = _mm512_ternarylogic_epi64(_mm512_srli_epi64(left, 32), c3, _mm512_set1_epi64(high), 0x96);
            c3 = left;
            low += kStepLow;
            high += kStepHigh;
        }
        // 0xca chooses by the first operand: its ones take from the second, its zeros from the third.
        const __m512i words01 = _mm512_ternarylogic_epi64(upper, _mm512_slli_epi64(c1, 32), c0, 0xca);
        const __m512i words23 = _mm512_ternarylogic_epi64(upper, _mm512_slli_epi64(c3, 32), c2, 0xca);
        _mm512_storeu_si512(drawn + 4 * j, _mm512_unpacklo_epi64(words01, words23));
        _mm512_storeu_si512(drawn + 4 * j + 16, _mm512_unpackhi_epi64(words01, words23));
    }
}
#pragma GCC diagnostic pop
#endif

using Draw = void (*)(uint32_t*, uint64_t, uint64_t, uint64_t);

Draw best_draw() {
#if defined(__x86_64__)
    if (processor().vectors == Vectors::avx512) return draw_avx512;
#endif
    return draw_plain;
}

template <typename T>
[[gnu::always_inline]] inline void drop(T* y, const T* x, const uint16_t* drawn, int64_t n, uint16_t threshold,
                                        float factor) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float kept = load(x[i]) * factor;
        y[i] = store<T>(drawn[i] >= threshold ? kept : 0.0f);
    }
}

KT_CLONES void drop_block(float* y, const float* x, const uint16_t* drawn, int64_t n, uint16_t threshold, float factor) {
    drop(y, x, drawn, n, threshold, factor);
}

KT_CLONES void drop_block(bf16* y, const bf16* x, const uint16_t* drawn, int64_t n, uint16_t threshold, float factor) {
    drop(y, x, drawn, n, threshold, factor);
}

template <typename T>
void drop_part(T* y, const T* x, int64_t first, int64_t n, const Dropout& dropout) {
    if (dropout.threshold == kEverything) {  // the factor is infinite
        if (n > 0) std::memset(static_cast<void*>(y), 0, static_cast<size_t>(n) * sizeof(T));
        return;
    }
    const Draw draw = best_draw();
    alignas(64) uint32_t drawn[kBlock / 2];
    alignas(64) uint16_t halves[kBlock];
    for (int64_t done = 0; done < n;) {
        const int64_t skipped = (first + done) % 8, count = std::min(kBlock - skipped, n - done);
        draw(drawn, static_cast<uint64_t>((first + done) / 8), dropout.stream, dropout.seed);
        std::memcpy(halves, drawn, sizeof halves); // little-endian, as the platforms that this runs on
        drop_block(y + done, x + done, halves + skipped, count, static_cast<uint16_t>(dropout.threshold), dropout.factor);
        done += count;
    }
}

int32_t dropout(kt_ctx* ctx, void* y, const void* x, int64_t n, float p, uint64_t seed, uint64_t stream, int32_t dtype) {
    Dropout made;
    if (!make_dropout(ctx, "dropout", &made, p, seed, stream)) return KT_BAD_ARGUMENT;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        // A thread owns whole blocks; an element costs about as much as streaming it does.
        const int64_t blocks = (n + kBlock - 1) / kBlock;
        parallel_for(ctx, blocks, kGrain / 2 / kBlock, [&](int64_t begin, int64_t end) {
            const int64_t first = begin * kBlock;
            drop_part(static_cast<T*>(y) + first, static_cast<const T*>(x) + first, first,
                      std::min(end * kBlock, n) - first, made);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "dropout", dtype);
}

}  // namespace

bool make_dropout(kt_ctx* ctx, const char* op, Dropout* dropout, float p, uint64_t seed, uint64_t stream) {
    if (!(p >= 0 && p <= 1)) {
        fail(ctx, KT_BAD_ARGUMENT, "%s: p is %g, expected 0 <= p <= 1", op, static_cast<double>(p));
        return false;
    }
    const float threshold = std::nearbyint(p * 65536.0f);
    *dropout = {static_cast<uint32_t>(threshold), 1.0f / (1.0f - threshold / 65536.0f), seed, stream};
    return true;
}

void drop(float* y, const float* x, int64_t first, int64_t n, const Dropout& dropout) { drop_part(y, x, first, n, dropout); }

void drop(bf16* y, const bf16* x, int64_t first, int64_t n, const Dropout& dropout) { drop_part(y, x, first, n, dropout); }

void add_dropout(kt_table& table) {
    table.dropout = dropout;
}

}  // namespace kt
