// Products of BF16 operands in registers, by AMX tiles and by AVX512_BF16's dot products: what attention, NF4 and
// products of few rows share.
//
// In blocks and tiles the left side a has rows of pairs of steps of the sum: pair i of a row is at i / 16 * step + i % 16 * 2, where
// step is 32 for a plain row, or larger where a row is cut into tiles. The right side b comes in panels of 16 columns, the two steps
// of a pair beside each other: pair i of a panel is 32 elements at 32 i. c is F32, ldc elements from row to row.
#pragma once

#include "bf16.h"

#if defined(__x86_64__)

#include <cstring>
// GCC 12 warns about the undefined vectors inside its own intrinsics (its bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#define KT_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define KT_AMX __attribute__((target("amx-tile,amx-bf16")))

namespace kt {

// R rows times P panels, `pairs` pairs of steps.
template <int R, int P>
KT_AVX512_BF16 inline void dot_block(float* c, int64_t ldc, const bf16* a, int64_t row, int64_t step, const bf16* b,
                                     int64_t panel, int64_t pairs, bool accumulate) {
    __m512 sums[R][P];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) sums[r][p] = accumulate ? _mm512_loadu_ps(c + r * ldc + p * 16) : _mm512_setzero_ps();
    }
    for (int64_t i = 0; i < pairs; i++) {
        __m512bh columns[P];
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) columns[p] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + p * panel + i * 32));
        const bf16* at = a + i / 16 * step + i % 16 * 2;
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            int32_t pair;
            std::memcpy(&pair, at + r * row, sizeof pair);
            const __m512bh x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
#pragma GCC unroll 8
            for (int p = 0; p < P; p++) sums[r][p] = _mm512_dpbf16_ps(sums[r][p], x, columns[p]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) _mm512_storeu_ps(c + r * ldc + p * 16, sums[r][p]);
    }
}

// a[0..3] as quarters: lane i of quarter r is the sum of lanes i, i + 4, i + 8 and i + 12 of a[r], by halves.
KT_AVX512_BF16 inline __m512 fold(const __m512* a) {
    const __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(a[0], a[1], 0x44), _mm512_shuffle_f32x4(a[0], a[1], 0xee));
    const __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(a[2], a[3], 0x44), _mm512_shuffle_f32x4(a[2], a[3], 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}

// Lane o of quarter r is the sum of quarter r of u[o], by halves.
KT_AVX512_BF16 inline __m512 fold_quarters(const __m512* u) {
    const __m512 low = _mm512_add_ps(_mm512_shuffle_ps(u[0], u[1], 0x44), _mm512_shuffle_ps(u[0], u[1], 0xee));
    const __m512 high = _mm512_add_ps(_mm512_shuffle_ps(u[2], u[3], 0x44), _mm512_shuffle_ps(u[2], u[3], 0xee));
    return _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x88), _mm512_shuffle_ps(low, high, 0xdd));
}

// sums[r, o] = w[o] . x[r] for four rows w and R rows of x, at most four, ld elements apart; sums has room for 16. Ahead bytes behind
// w are asked for.
template <int R>
KT_AVX512_BF16 inline void dot_products(float* sums, const bf16* x, int64_t ld, const bf16* const* w, int64_t in, int64_t ahead) {
    __m512 acc[4][4];
#pragma GCC unroll 4
    for (int o = 0; o < 4; o++) {
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) acc[o][r] = _mm512_setzero_ps();
    }
    int64_t i = 0;
    for (; i + 32 <= in; i += 32) {
        __m512bh weights[4];
#pragma GCC unroll 4
        for (int o = 0; o < 4; o++) {
            weights[o] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w[o] + i));
            if (ahead > 0) _mm_prefetch(reinterpret_cast<const char*>(w[o] + i) + ahead, _MM_HINT_T0);
        }
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            const __m512bh values = reinterpret_cast<__m512bh>(_mm512_loadu_si512(x + r * ld + i));
#pragma GCC unroll 4
            for (int o = 0; o < 4; o++) acc[o][r] = _mm512_dpbf16_ps(acc[o][r], values, weights[o]);
        }
    }
    if (i < in) {
        const __mmask32 left = static_cast<__mmask32>((uint32_t{1} << (in - i)) - 1);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            const __m512bh values = reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(left, x + r * ld + i));
#pragma GCC unroll 4
            for (int o = 0; o < 4; o++) {
                const __m512bh weights = reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(left, w[o] + i));
                acc[o][r] = _mm512_dpbf16_ps(acc[o][r], values, weights);
            }
        }
    }
    __m512 quarters[4];
#pragma GCC unroll 4
    for (int o = 0; o < 4; o++) quarters[o] = fold(acc[o]);
    _mm512_storeu_ps(sums, fold_quarters(quarters));
}

// All eight tiles are 16 rows of 64 bytes: 0 to 3 the quarters of a block of c, 4 and 5 rows of a, 6 and 7 panels of b.
struct alignas(64) TileConfig {
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

inline constexpr TileConfig kTileConfig;

// A thread's, around its products.
KT_AMX inline void begin_tiles() { _tile_loadconfig(&kTileConfig); }

KT_AMX inline void end_tiles() { _tile_release(); }

// R times 16 rows times P panels, 32 steps of the sum `depths` times. The second 16 rows of a begin `below` elements behind the
// first. The numbers of tiles are part of the instructions, hence no loops. The compiler does not know what memory tile
// instructions touch: who calls this neither writes its operands nor reads its result in the same function.
template <int R, int P>
KT_AMX [[gnu::always_inline]] inline void tile_block(float* c, int64_t ldc, const bf16* a, int64_t row, int64_t step, int64_t below, const bf16* b,
                              int64_t panel, int64_t depths, bool accumulate) {
    const int64_t c_bytes = ldc * static_cast<int64_t>(sizeof(float));
    const int64_t a_bytes = row * static_cast<int64_t>(sizeof(bf16));
    float* c_below = c + 16 * ldc;
    if (accumulate) {
        _tile_loadd(0, c, c_bytes);
        if (P > 1) _tile_loadd(1, c + 16, c_bytes);
        if (R > 1) _tile_loadd(2, c_below, c_bytes);
        if (R > 1 && P > 1) _tile_loadd(3, c_below + 16, c_bytes);
    } else {
        _tile_zero(0);
        if (P > 1) _tile_zero(1);
        if (R > 1) _tile_zero(2);
        if (R > 1 && P > 1) _tile_zero(3);
    }
    for (int64_t i = 0; i < depths; i++) {
        _tile_loadd(4, a + i * step, a_bytes);
        _tile_loadd(6, b + i * 512, 64);
        if (P > 1) _tile_loadd(7, b + panel + i * 512, 64);
        if (R > 1) _tile_loadd(5, a + below + i * step, a_bytes);
        _tile_dpbf16ps(0, 4, 6);
        if (P > 1) _tile_dpbf16ps(1, 4, 7);
        if (R > 1) _tile_dpbf16ps(2, 5, 6);
        if (R > 1 && P > 1) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, c_bytes);
    if (P > 1) _tile_stored(1, c + 16, c_bytes);
    if (R > 1) _tile_stored(2, c_below, c_bytes);
    if (R > 1 && P > 1) _tile_stored(3, c_below + 16, c_bytes);
}

}  // namespace kt

#endif
