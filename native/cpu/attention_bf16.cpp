// Attention tiles in BF16 for AVX512_BF16 and AMX. Scores, softmax and sums are F32; what goes into a product is BF16.
#include "attention.h"
#include "bf16_products.h"

#if defined(__x86_64__)

namespace kt::attention {
namespace {

// ---- operands ----------------------------------------------------------------------------------------------------

// Element i of the result is lo[i] | hi[i] << 16, of 16 elements each.
KT_AVX512_BF16 inline __m512i interleave(const bf16* lo, const bf16* hi) {
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(lo)));
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(hi)));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

// 16 pairs of BF16, stride elements apart.
KT_AVX512_BF16 inline __m512i gather_pairs(const bf16* x, int64_t stride) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_i32gather_epi32(_mm512_mullo_epi32(lanes, _mm512_set1_epi32(static_cast<int>(stride))), x, 2);
}

}  // namespace

KT_AVX512_BF16 void Bf16Operands::rows(bf16* y, int64_t ld, const bf16* x, int64_t stride, int64_t rows, int64_t cols,
                                       int64_t padded_rows, float factor) {
    for (int64_t r = 0; r < rows; r++) {
        if (factor == 1) {
            std::memcpy(y + r * ld, x + r * stride, static_cast<size_t>(cols) * sizeof(bf16));
        } else {
            for (int64_t c = 0; c < cols; c++) y[r * ld + c] = round_bf16(load(x[r * stride + c]) * factor);
        }
        std::memset(y + r * ld + cols, 0, static_cast<size_t>(ld - cols) * sizeof(bf16));
    }
    std::memset(y + rows * ld, 0, static_cast<size_t>((padded_rows - rows) * ld) * sizeof(bf16));
}

KT_AVX512_BF16 void Bf16Operands::panels(bf16* y, int64_t panel, const bf16* x, int64_t ld, int64_t depth, int64_t cols) {
    for (int64_t k = 0; k < depth; k += 2) {
        for (int64_t n = 0; n < cols; n += kPanel) {
            _mm512_storeu_si512(y + n / kPanel * panel + k * kPanel, interleave(x + k * ld + n, x + (k + 1) * ld + n));
        }
    }
}

KT_AVX512_BF16 void Bf16Operands::panels_transposed(bf16* y, int64_t panel, const bf16* x, int64_t ld, int64_t depth,
                                                    int64_t cols) {
    for (int64_t n = 0; n < cols; n += kPanel) {
        for (int64_t k = 0; k < depth; k += 2) {
            _mm512_storeu_si512(y + n / kPanel * panel + k * kPanel, gather_pairs(x + n * ld + k, ld));
        }
    }
}

// By blocks of 32 rows and 16 columns: pairs of rows are put side by side, then the pairs are transposed.
KT_AVX512_BF16 void Bf16Operands::transpose(bf16* y, int64_t ldy, const bf16* x, int64_t ldx, int64_t rows, int64_t cols) {
    alignas(64) bf16 pairs[16][32];
    for (int64_t c = 0; c < cols; c += 16) {
        for (int64_t r = 0; r < rows; r += 32) {
            for (int64_t i = 0; i < 16; i++) {
                _mm512_store_si512(pairs[i], interleave(x + (r + 2 * i) * ldx + c, x + (r + 2 * i + 1) * ldx + c));
            }
            for (int64_t i = 0; i < 16; i++) _mm512_storeu_si512(y + (c + i) * ldy + r, gather_pairs(pairs[0] + 2 * i, 32));
        }
    }
}

// ---- products ----------------------------------------------------------------------------------------------------

namespace {

template <int P>
KT_AVX512_BF16 void dot_columns(float* c, int64_t ldc, const bf16* a, int64_t lda, const bf16* b, int64_t panel, int64_t m,
                                int64_t k, bool accumulate) {
    constexpr int R = P == 1 ? 8 : 4;
    for (int64_t r = 0; r < m; r += R) {
        dot_block<R, P>(c + r * ldc, ldc, a + r * lda, lda, 32, b, panel, k / 2, accumulate);
    }
}

template <int P>
KT_AMX void tile_columns(float* c, int64_t ldc, const bf16* a, int64_t lda, const bf16* b, int64_t panel, int64_t m, int64_t k,
                         bool accumulate) {
    int64_t r = 0;
    const int64_t below = 16 * lda;
    for (; r + 32 <= m; r += 32) {
        tile_block<2, P>(c + r * ldc, ldc, a + r * lda, lda, 32, below, b, panel, k / 32, accumulate);
    }
    if (r < m) tile_block<1, P>(c + r * ldc, ldc, a + r * lda, lda, 32, below, b, panel, k / 32, accumulate);
}

// ---- softmax -----------------------------------------------------------------------------------------------------

// 2^x, 0 for -inf, NaN for NaN. Minimax of degree 4 on the fraction, [0, 1): 2.6e-6 relative, where BF16 rounds by 2e-3.
// The scaling takes the whole part of x itself.
KT_AVX512_BF16 inline __m512 exp2_of(__m512 x) {
    const __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);  // x - floor(x); 0 for an infinity
    __m512 y = _mm512_set1_ps(1.353416802e-02f);
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.201146131e-02f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.414427557e-01f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.930038349e-01f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.000002593e+00f));
    return _mm512_scalef_ps(y, x);
}

// Two vectors of neighbouring columns as BF16.
KT_AVX512_BF16 inline void store_pair(bf16* y, __m512 low, __m512 high) {
    _mm512_storeu_si512(y, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
}

}  // namespace

KT_AVX512_BF16 void Bf16Operands::softmax(bf16* p, int64_t ldp, const float* s, int64_t lds, int64_t rows, int64_t width,
                                          float factor, Softmax& running) {
    const __m512 factor2 = _mm512_set1_ps(factor * kLog2E);
    for (int64_t r = 0; r < rows; r++) {
        const float* from = s + r * lds;
        __m512 highest = _mm512_loadu_ps(from);
        for (int64_t c = 16; c < width; c += 16) highest = _mm512_max_ps(highest, _mm512_loadu_ps(from + c));
        __m512 max = _mm512_set1_ps(running.max[r]);
        __m512 sum = _mm512_loadu_ps(running.sum[r]);
        running.rescale[r] = 1;
        // Seldom after the first tiles: of so many so far, any is as likely to hold the largest.
        if (_mm512_cmp_ps_mask(highest, max, _CMP_GT_OQ) != 0) {
            const __m512 before = max;
            max = _mm512_set1_ps(_mm512_reduce_max_ps(highest));
            const __m512 rescale = exp2_of(_mm512_mul_ps(_mm512_sub_ps(before, max), factor2));
            sum = _mm512_mul_ps(sum, rescale);
            running.max[r] = _mm512_cvtss_f32(max);
            running.rescale[r] = _mm512_cvtss_f32(rescale);
        }
        for (int64_t c = 0; c < width; c += 32) {
            const __m512 low = exp2_of(_mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(from + c), max), factor2));
            const __m512 high = exp2_of(_mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(from + c + 16), max), factor2));
            sum = _mm512_add_ps(sum, _mm512_add_ps(low, high));
            store_pair(p + r * ldp + c, low, high);
        }
        _mm512_storeu_ps(running.sum[r], sum);
    }
}

KT_AVX512_BF16 void Bf16Operands::gradient(bf16* p, bf16* ds, int64_t ld, bf16* ds_panels, int64_t panel, const float* s,
                                           const float* dp, int64_t lds, int64_t rows, int64_t cols, const float* lse2,
                                           const float* delta, float factor) {
    const __m512 factor2 = _mm512_set1_ps(factor * kLog2E);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c += 32) {
            const int64_t at = r * lds + c;
            const __m512 low = exp2_of(_mm512_fmsub_ps(_mm512_loadu_ps(s + at), factor2, _mm512_loadu_ps(lse2 + c)));
            const __m512 high = exp2_of(_mm512_fmsub_ps(_mm512_loadu_ps(s + at + 16), factor2, _mm512_loadu_ps(lse2 + c + 16)));
            store_pair(p + r * ld + c, low, high);
            const __m512 dlow = _mm512_sub_ps(_mm512_loadu_ps(dp + at), _mm512_loadu_ps(delta + c));
            const __m512 dhigh = _mm512_sub_ps(_mm512_loadu_ps(dp + at + 16), _mm512_loadu_ps(delta + c + 16));
            store_pair(ds + r * ld + c, _mm512_mul_ps(low, dlow), _mm512_mul_ps(high, dhigh));
        }
    }
    panels(ds_panels, panel, ds, ld, rows, cols);
}

template <>
void Bf16Tiles<false>::begin() {}

template <>
void Bf16Tiles<false>::end() {}

template <>
KT_AMX void Bf16Tiles<true>::begin() {
    begin_tiles();
}

template <>
KT_AMX void Bf16Tiles<true>::end() {
    end_tiles();
}

template <>
void Bf16Tiles<false>::multiply(float* c, int64_t ldc, const bf16* a, int64_t lda, const bf16* b, int64_t panel, int64_t m,
                                int64_t n, int64_t k, bool accumulate) {
    int64_t p = 0;
    for (; p + 4 <= n / kPanel; p += 4) {
        dot_columns<4>(c + p * kPanel, ldc, a, lda, b + p * panel, panel, m, k, accumulate);
    }
    for (; p < n / kPanel; p++) dot_columns<1>(c + p * kPanel, ldc, a, lda, b + p * panel, panel, m, k, accumulate);
}

template <>
KT_AMX void Bf16Tiles<true>::multiply(float* c, int64_t ldc, const bf16* a, int64_t lda, const bf16* b, int64_t panel,
                                      int64_t m, int64_t n, int64_t k, bool accumulate) {
    int64_t p = 0;
    for (; p + 2 <= n / kPanel; p += 2) {
        tile_columns<2>(c + p * kPanel, ldc, a, lda, b + p * panel, panel, m, k, accumulate);
    }
    if (p < n / kPanel) tile_columns<1>(c + p * kPanel, ldc, a, lda, b + p * panel, panel, m, k, accumulate);
}

template struct Bf16Tiles<false>;
template struct Bf16Tiles<true>;

}  // namespace kt::attention

#endif
