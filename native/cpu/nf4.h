// What the NF4 kernels share: the codes, the scale of a block, and look-ups of 32 values at a time.
// Files that include this are compiled with -ffp-contract=off: a scale is a rounded product plus an offset.
#pragma once

#include <cstdint>

#include "bf16.h"
#if defined(__x86_64__)
// GCC 12 sees the intrinsics' own undefined vectors as uninitialised ones.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#endif

namespace kt {

constexpr int64_t kNf4Block = 64;
constexpr int64_t kNestedBlock = 256;

// Table 3 of the QLoRA paper (arXiv:2305.14314, appendix E).
alignas(64) constexpr float kNf4[16] = {-1.0f,
                                        -0.6961928009986877f,
                                        -0.5250730514526367f,
                                        -0.39491748809814453f,
                                        -0.28444138169288635f,
                                        -0.18477343022823334f,
                                        -0.09105003625154495f,
                                        0.0f,
                                        0.07958029955625534f,
                                        0.16093020141124725f,
                                        0.24611230194568634f,
                                        0.33791524171829224f,
                                        0.44070982933044434f,
                                        0.5626170039176941f,
                                        0.7229568362236023f,
                                        1.0f};

// The six arguments of an NF4 matrix; see kernels.h.
struct Nf4 {
    const uint8_t* packed;
    const float* absmax;
    const uint8_t* absmax_codes;
    const float* nested_absmax;
    const float* nested_map;
    float nested_offset;
};

[[gnu::always_inline]] inline float nf4_scale(const Nf4& w, int64_t block) {
    if (w.absmax) return w.absmax[block];
    return w.nested_map[w.absmax_codes[block]] * w.nested_absmax[block / kNestedBlock] + w.nested_offset;
}

// Value i of the flattened matrix, in F32.
[[gnu::always_inline]] inline float nf4_value(const Nf4& w, int64_t i) {
    const uint8_t pair = w.packed[i / 2];
    return kNf4[i % 2 ? pair & 15 : pair >> 4] * nf4_scale(w, i / kNf4Block);
}

#if defined(__x86_64__)
#define KT_NF4_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline))

// The 16 values of a block as BF16, twice: an index of five bits then looks up its low four.
KT_NF4_AVX512 inline __m512i nf4_table_bf16(float scale) {
    const __m512i bits = _mm512_castps_si512(_mm512_mul_ps(_mm512_load_ps(kNf4), _mm512_set1_ps(scale)));
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    return _mm512_broadcast_i64x4(_mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

// The 32 values of 16 packed bytes, in their order. A byte's high half goes to the lower word of a pair, and the whole byte
// to the upper one, where only its low five bits count.
KT_NF4_AVX512 inline __m512i nf4_lookup_bf16(__m512i table, const uint8_t* packed) {
    const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(packed)));
    const __m512i pairs = _mm512_or_si512(_mm512_srli_epi32(bytes, 4), _mm512_slli_epi32(bytes, 16));
    return _mm512_permutexvar_epi16(pairs, table);
}

// The 16 values of a block as F32.
KT_NF4_AVX512 inline __m512 nf4_table_f32(float scale) {
    return _mm512_mul_ps(_mm512_load_ps(kNf4), _mm512_set1_ps(scale));
}

// The 16 values of 8 packed bytes, in their order.
KT_NF4_AVX512 inline __m512 nf4_lookup_f32(__m512 table, const uint8_t* packed) {
    const __m512i bytes = _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(packed)));
    const __m512i pairs = _mm512_or_si512(_mm512_srli_epi64(bytes, 4), _mm512_slli_epi64(bytes, 32));
    return _mm512_permutexvar_ps(pairs, table);
}

#define KT_NF4_AVX2 __attribute__((target("avx2"), always_inline))

// The 16 values of a block as F32, negative codes (0 to 7) first.
struct Nf4TableAvx2 {
    __m256 low;
    __m256 high;
};

KT_NF4_AVX2 inline Nf4TableAvx2 nf4_table_avx2(float scale) {
    const __m256 s = _mm256_set1_ps(scale);
    return {_mm256_mul_ps(_mm256_load_ps(kNf4), s), _mm256_mul_ps(_mm256_load_ps(kNf4 + 8), s)};
}

// The 8 values of 4 packed bytes, in their order. The look-up reads three bits of an index; the fourth, moved to the sign,
// chooses between the two halves.
KT_NF4_AVX2 inline __m256 nf4_lookup_avx2(const Nf4TableAvx2& table, const uint8_t* packed) {
    int32_t four;
    std::memcpy(&four, packed, sizeof four);
    const __m256i bytes = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
    const __m256i pairs = _mm256_or_si256(_mm256_srli_epi64(bytes, 4), _mm256_slli_epi64(bytes, 32));
    const __m256 choice = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 28));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.low, pairs), _mm256_permutevar8x32_ps(table.high, pairs), choice);
}
#endif

}  // namespace kt
