#include "nf4.h"

#include <cmath>
#include <type_traits>

#include "context.h"
#include "math.h"
#include "table.h"

namespace kt {
// IEEE half precision as storage.
struct half {
    uint16_t bits;
};

// Exact, subnormals too: the exponent's bias is made up for by a product. Infinity and NaN stay what they are.
[[gnu::always_inline]] inline float load(half x) {
    const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fff) << 13;
    const float value = float_of_bits(magnitude) * 0x1p112f;
    const uint32_t bits = magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : bits_of_float(value);
    return float_of_bits(bits | static_cast<uint32_t>(x.bits & 0x8000) << 16);
}

namespace {

// ---- quantising --------------------------------------------------------------------------------------------------

// The reference's smallest divisor.
constexpr float kTiny = 1e-38f;

// Largest magnitude of n values, as the bits of an F32: as whole numbers, magnitudes order like their values, and NaN and
// infinity come last.
[[gnu::always_inline]] inline uint32_t largest_bits(const float* x, int64_t n) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t magnitude = bits_of_float(x[i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

constexpr uint32_t kInfinity = 0x7f800000u;

// How many midpoints between neighbouring codes lie below each value: the nearest code, the lower one of a tie.
[[gnu::always_inline]] inline void nearest_codes(uint32_t* codes, const float* y, int64_t n) {
    for (int64_t i = 0; i < n; i++) codes[i] = 0;
    for (int c = 0; c < 15; c++) {
        const float midpoint = (kNf4[c] + kNf4[c + 1]) / 2;
        for (int64_t i = 0; i < n; i++) codes[i] += y[i] > midpoint;
    }
}

[[gnu::always_inline]] inline float clamp(float y) { return y > 1.0f ? 1.0f : y < -1.0f ? -1.0f : y; }

template <typename T, typename W>
[[gnu::always_inline]] inline bool quantize_blocks_of(uint8_t* packed, float* absmax, const T* x, int64_t blocks) {
    uint32_t largest_of_all = 0;
    for (int64_t b = 0; b < blocks; b++) {
        float values[kNf4Block];
        uint32_t codes[kNf4Block];
        for (int64_t i = 0; i < kNf4Block; i++) values[i] = rounded<W>(load(x[b * kNf4Block + i]));
        const uint32_t largest = largest_bits(values, kNf4Block);
        largest_of_all = largest > largest_of_all ? largest : largest_of_all;
        const float a = float_of_bits(largest);
        absmax[b] = a;
        const float reciprocal = 1.0f / (a > kTiny ? a : kTiny);
        for (int64_t i = 0; i < kNf4Block; i++) values[i] = clamp(values[i] * reciprocal);
        nearest_codes(codes, values, kNf4Block);
        for (int64_t i = 0; i < kNf4Block / 2; i++) {
            packed[b * (kNf4Block / 2) + i] = static_cast<uint8_t>(codes[2 * i] << 4 | codes[2 * i + 1]);
        }
    }
    return largest_of_all < kInfinity;
}

// False where a value is not finite.
#define KT_QUANTIZE(T, W)                                                                           \
    KT_CLONES bool quantize_loops(uint8_t* packed, float* absmax, const T* x, W, int64_t blocks) { \
        return quantize_blocks_of<T, W>(packed, absmax, x, blocks);                                 \
    }
KT_QUANTIZE(float, float)
KT_QUANTIZE(float, bf16)
KT_QUANTIZE(bf16, float)
KT_QUANTIZE(bf16, bf16)
KT_QUANTIZE(half, float)
KT_QUANTIZE(half, bf16)
#undef KT_QUANTIZE

#if defined(__x86_64__)
KT_NF4_AVX512 inline __m512 load16(const float* x) { return _mm512_loadu_ps(x); }

KT_NF4_AVX512 inline __m512 load16(const bf16* x) {
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
}

KT_NF4_AVX512 inline __m512 load16(const half* x) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

// Codes of 16 values, by halving: each step looks up the midpoint that the code so far leaves in the middle.
KT_NF4_AVX512 inline __m512i nearest16(const __m512 (&midpoints)[4], __m512 y) {
    __m512i code = _mm512_setzero_si512();
    for (int step = 0; step < 4; step++) {
        const __m512 midpoint = _mm512_permutexvar_ps(code, midpoints[step]);
        const __mmask16 above = _mm512_cmp_ps_mask(y, midpoint, _CMP_GT_OQ);
        code = _mm512_mask_add_epi32(code, above, code, _mm512_set1_epi32(8 >> step));
    }
    return code;
}

template <typename T, typename W>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) bool quantize_avx512(uint8_t* packed, float* absmax,
                                                                                   const T* x, W, int64_t blocks) {
    // Entry c of table s is the midpoint above code c + (8 >> s) - 1.
    alignas(64) float tables[4][16];
    for (int s = 0; s < 4; s++) {
        for (int c = 0; c < 16; c++) {
            const int at = c + (8 >> s) - 1;
            tables[s][c] = at < 15 ? (kNf4[at] + kNf4[at + 1]) / 2 : 2.0f;
        }
    }
    const __m512 midpoints[4] = {_mm512_load_ps(tables[0]), _mm512_load_ps(tables[1]), _mm512_load_ps(tables[2]),
                                 _mm512_load_ps(tables[3])};
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 minus_one = _mm512_set1_ps(-1.0f);
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i largest_of_all = _mm512_setzero_si512();
    for (int64_t b = 0; b < blocks; b++) {
        __m512 values[4];
        __m512i largest = _mm512_setzero_si512();
        for (int i = 0; i < 4; i++) {
            values[i] = load16(x + b * kNf4Block + 16 * i);
            __m512i bits = _mm512_castps_si512(values[i]);
            // Before rounding, after which NaN may look like anything.
            largest_of_all = _mm512_max_epu32(largest_of_all, _mm512_and_si512(bits, magnitude));
            if (std::is_same<W, bf16>::value && !std::is_same<T, bf16>::value) {
                const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
                bits = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
                bits = _mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
                values[i] = _mm512_castsi512_ps(bits);
            }
            largest = _mm512_max_epu32(largest, _mm512_and_si512(bits, magnitude));
        }
        largest_of_all = _mm512_max_epu32(largest_of_all, largest);
        const float a = float_of_bits(_mm512_reduce_max_epu32(largest));
        absmax[b] = a;
        const __m512 reciprocal = _mm512_set1_ps(1.0f / (a > kTiny ? a : kTiny));
        for (int i = 0; i < 4; i++) {
            const __m512 y = _mm512_mul_ps(values[i], reciprocal);
            const __m512i codes = nearest16(midpoints, _mm512_max_ps(_mm512_min_ps(y, one), minus_one));
            const __m512i pairs = _mm512_or_si512(_mm512_slli_epi64(codes, 4), _mm512_srli_epi64(codes, 32));
            _mm_storel_epi64(reinterpret_cast<__m128i*>(packed + b * (kNf4Block / 2) + 8 * i),
                             _mm512_cvtepi64_epi8(pairs));
        }
    }
    return _mm512_reduce_max_epu32(largest_of_all) < kInfinity;
}
#endif

template <typename T, typename W>
bool quantize_blocks(uint8_t* packed, float* absmax, const T* x, W type, int64_t blocks) {
#if defined(__x86_64__)
    if (processor().vectors == Vectors::avx512) return quantize_avx512(packed, absmax, x, type, blocks);
#endif
    return quantize_loops(packed, absmax, x, type, blocks);
}

// The last, short block: n < 64 values.
template <typename T, typename W>
bool quantize_short(uint8_t* packed, float* absmax, const T* x, W, int64_t n) {
    float values[kNf4Block] = {};  // an odd number of values is filled up with a zero
    uint32_t codes[kNf4Block];
    for (int64_t i = 0; i < n; i++) values[i] = rounded<W>(load(x[i]));
    const uint32_t largest = largest_bits(values, n);
    const float a = std::max(float_of_bits(largest), kTiny);
    *absmax = a;
    for (int64_t i = 0; i < n; i++) values[i] = clamp(values[i] / a);
    nearest_codes(codes, values, kNf4Block);
    for (int64_t i = 0; i < (n + 1) / 2; i++) packed[i] = static_cast<uint8_t>(codes[2 * i] << 4 | codes[2 * i + 1]);
    return largest < kInfinity;
}

template <typename T>
int64_t first_not_finite(const T* x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (!std::isfinite(load(x[i]))) return i;
    }
    return n;
}

template <typename T, typename W>
int32_t quantize(kt_ctx* ctx, uint8_t* packed, float* absmax, const T* x, W type, int64_t n) {
    const int64_t blocks = n / kNf4Block;
    const int64_t rest = n % kNf4Block;
    bool finite = true;
    parallel_for(ctx, blocks, kGrain / kNf4Block, [&](int64_t begin, int64_t end) {
        const bool piece = quantize_blocks(packed + begin * (kNf4Block / 2), absmax + begin, x + begin * kNf4Block, type,
                                           end - begin);
        if (!piece) {
#pragma omp atomic write
            finite = false;
        }
    });
    if (rest > 0) {
        const bool piece =
            quantize_short(packed + blocks * (kNf4Block / 2), absmax + blocks, x + blocks * kNf4Block, type, rest);
        finite = finite && piece;
    }
    if (finite) return KT_OK;
    const int64_t at = first_not_finite(x, n);
    if (at == n) return fail(ctx, KT_BAD_ARGUMENT, "nf4_quantize: a value is too large for the dtype of the weight");
    return fail(ctx, KT_BAD_ARGUMENT, "nf4_quantize: value %lld is %f, expected finite values", static_cast<long long>(at),
                static_cast<double>(load(x[at])));
}

// ---- double quantisation -----------------------------------------------------------------------------------------

// The sum of n values in the order of torch's sum over a contiguous F32 tensor with one thread: 32 running sums (8 wide, 4
// deep) that are carried into coarser ones every 2^power steps. The mean is part of the format, so its last bit counts.
constexpr int64_t kWide = 8;
constexpr int64_t kDeep = 4;
constexpr int64_t kLevels = 4;

int64_t ceil_log2(int64_t n) {
    int64_t log = 0;
    while ((int64_t{1} << log) < n) log++;
    return log;
}

template <int64_t Wide>
float cascade_sum(const float* x, int64_t n) {
    const int64_t vectors = n / Wide;
    const int64_t rows = vectors / kDeep;
    const int64_t power = std::max<int64_t>(4, ceil_log2(rows) / kLevels);
    const int64_t step = int64_t{1} << power;
    float sums[kLevels][kDeep * Wide] = {};
    int64_t row = 0;
    const auto add_row = [&] {
        for (int64_t i = 0; i < kDeep * Wide; i++) sums[0][i] += x[row * kDeep * Wide + i];
        row++;
    };
    while (row + step <= rows) {
        for (int64_t j = 0; j < step; j++) add_row();
        for (int64_t level = 1; level < kLevels; level++) {
            for (int64_t i = 0; i < kDeep * Wide; i++) {
                sums[level][i] += sums[level - 1][i];
                sums[level - 1][i] = 0;
            }
            if (row & ((step - 1) << (level * power))) break;
        }
    }
    while (row < rows) add_row();
    for (int64_t level = 1; level < kLevels; level++) {
        for (int64_t i = 0; i < kDeep * Wide; i++) sums[0][i] += sums[level][i];
    }
    for (int64_t v = rows * kDeep; v < vectors; v++) {
        for (int64_t i = 0; i < Wide; i++) sums[0][i] += x[v * Wide + i];
    }
    for (int64_t k = 1; k < kDeep; k++) {
        for (int64_t i = 0; i < Wide; i++) sums[0][i] += sums[0][k * Wide + i];
    }
    float sum = 0;
    for (int64_t i = vectors * Wide; i < n; i++) sum += x[i];
    for (int64_t i = 0; i < Wide; i++) sum += sums[0][i];
    return sum;
}

float mean(const float* x, int64_t n) {
    return (n < kWide ? cascade_sum<1>(x, n) : cascade_sum<kWide>(x, n)) / static_cast<float>(n);
}

// How many of the 255 midpoints lie below y.
uint8_t nearest_entry(const float* midpoints, float y) {
    int64_t code = 0;
    for (int64_t half = 128; half > 0; half /= 2) code += y > midpoints[code + half - 1] ? half : 0;
    return static_cast<uint8_t>(code);
}

int32_t nf4_quantize_absmax(kt_ctx* ctx, uint8_t* absmax_codes, float* nested_absmax, float* nested_offset,
                            const float* absmax, const float* nested_map, int64_t n) {
    const float offset = n > 0 ? mean(absmax, n) : 0;
    *nested_offset = offset;
    if (!std::isfinite(offset)) {
        return fail(ctx, KT_BAD_ARGUMENT, "nf4_quantize_absmax: the block maxima are too large to have a mean");
    }
    float midpoints[kNestedBlock];
    for (int64_t i = 0; i < kNestedBlock - 1; i++) midpoints[i] = (nested_map[i] + nested_map[i + 1]) / 2;
    const int64_t blocks = (n + kNestedBlock - 1) / kNestedBlock;
    parallel_for(ctx, blocks, kGrain / 4 / kNestedBlock, [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; b++) {
            const int64_t first = b * kNestedBlock;
            const int64_t length = std::min(kNestedBlock, n - first);
            float values[kNestedBlock];
            for (int64_t i = 0; i < length; i++) values[i] = absmax[first + i] - offset;
            const float largest = float_of_bits(largest_bits(values, length));
            const float divisor = std::max(largest, kTiny);
            const bool whole = length == kNestedBlock;
            nested_absmax[b] = whole ? largest : divisor;
            const float reciprocal = 1.0f / divisor;
            for (int64_t i = 0; i < length; i++) {
                const float y = clamp(whole ? values[i] * reciprocal : values[i] / divisor);
                absmax_codes[first + i] = nearest_entry(midpoints, y);
            }
        }
    });
    return KT_OK;
}

// ---- dequantising ------------------------------------------------------------------------------------------------

// Values of whole blocks [begin, end).
template <typename T>
void blocks_scalar(T* y, const Nf4& w, int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++) {
        const float scale = nf4_scale(w, b);
        T table[16];
        for (int c = 0; c < 16; c++) table[c] = store<T>(kNf4[c] * scale);
        const uint8_t* packed = w.packed + b * (kNf4Block / 2);
        for (int64_t i = 0; i < kNf4Block / 2; i++) {
            *y++ = table[packed[i] >> 4];
            *y++ = table[packed[i] & 15];
        }
    }
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) void blocks_avx512(bf16* y, const Nf4& w, int64_t begin,
                                                                                 int64_t end) {
    for (int64_t b = begin; b < end; b++) {
        const __m512i table = nf4_table_bf16(nf4_scale(w, b));
        const uint8_t* packed = w.packed + b * (kNf4Block / 2);
        _mm512_storeu_si512(y, nf4_lookup_bf16(table, packed));
        _mm512_storeu_si512(y + 32, nf4_lookup_bf16(table, packed + 16));
        y += kNf4Block;
    }
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) void blocks_avx512(float* y, const Nf4& w, int64_t begin,
                                                                                 int64_t end) {
    for (int64_t b = begin; b < end; b++) {
        const __m512 table = nf4_table_f32(nf4_scale(w, b));
        const uint8_t* packed = w.packed + b * (kNf4Block / 2);
        for (int64_t i = 0; i < 4; i++) _mm512_storeu_ps(y + 16 * i, nf4_lookup_f32(table, packed + 8 * i));
        y += kNf4Block;
    }
}

__attribute__((target("avx2"))) void blocks_avx2(float* y, const Nf4& w, int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++) {
        const Nf4TableAvx2 table = nf4_table_avx2(nf4_scale(w, b));
        const uint8_t* packed = w.packed + b * (kNf4Block / 2);
        for (int64_t i = 0; i < 8; i++) _mm256_storeu_ps(y + 8 * i, nf4_lookup_avx2(table, packed + 4 * i));
        y += kNf4Block;
    }
}

__attribute__((target("avx2"))) void blocks_avx2(bf16* y, const Nf4& w, int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++) {
        // The table is rounded once; its values then lose nothing when only their upper halves are kept.
        Nf4TableAvx2 table = nf4_table_avx2(nf4_scale(w, b));
        for (__m256* values : {&table.low, &table.high}) {
            const __m256i bits = _mm256_castps_si256(*values);
            const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
            const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
            *values = _mm256_castsi256_ps(sum);
        }
        const uint8_t* packed = w.packed + b * (kNf4Block / 2);
        for (int64_t i = 0; i < 4; i++) {
            const __m256i first = _mm256_srli_epi32(_mm256_castps_si256(nf4_lookup_avx2(table, packed + 8 * i)), 16);
            const __m256i second = _mm256_srli_epi32(_mm256_castps_si256(nf4_lookup_avx2(table, packed + 8 * i + 4)), 16);
            const __m256i joined = _mm256_permute4x64_epi64(_mm256_packus_epi32(first, second), 0xd8);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + 16 * i), joined);
        }
        y += kNf4Block;
    }
}
#endif

template <typename T>
void blocks(T* y, const Nf4& w, int64_t begin, int64_t end) {
#if defined(__x86_64__)
    if (processor().vectors == Vectors::avx512) return blocks_avx512(y, w, begin, end);
    if (processor().vectors == Vectors::avx2) return blocks_avx2(y, w, begin, end);
#endif
    blocks_scalar(y, w, begin, end);
}

// ---- entries -----------------------------------------------------------------------------------------------------

int32_t nf4_quantize(kt_ctx* ctx, uint8_t* packed, float* absmax, const void* x, int64_t n, int32_t weight_dtype,
                     int32_t x_dtype) {
    int32_t status = KT_OK;
    const bool known = with_type(weight_dtype, [&](auto type) {
        if (x_dtype == KT_F32) {
            status = quantize(ctx, packed, absmax, static_cast<const float*>(x), type, n);
        } else if (x_dtype == KT_BF16) {
            status = quantize(ctx, packed, absmax, static_cast<const bf16*>(x), type, n);
        } else if (x_dtype == KT_F16) {
            status = quantize(ctx, packed, absmax, static_cast<const half*>(x), type, n);
        } else {
            status = bad_dtype(ctx, "nf4_quantize", x_dtype);
        }
    });
    return known ? status : bad_dtype(ctx, "nf4_quantize", weight_dtype);
}

int32_t nf4_dequantize(kt_ctx* ctx, void* y, const uint8_t* packed, const float* absmax, const uint8_t* absmax_codes,
                       const float* nested_absmax, const float* nested_map, float nested_offset, int64_t first,
                       int64_t count, int32_t dtype) {
    const Nf4 w{packed, absmax, absmax_codes, nested_absmax, nested_map, nested_offset};
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        T* out = static_cast<T*>(y);
        const int64_t last = first + count;
        const int64_t begin = std::min(last, (first + kNf4Block - 1) / kNf4Block * kNf4Block);
        const int64_t end = std::max(begin, last / kNf4Block * kNf4Block);
        for (int64_t i = first; i < begin; i++) out[i - first] = store<T>(nf4_value(w, i));
        parallel_for(ctx, (end - begin) / kNf4Block, kGrain / kNf4Block, [&](int64_t from, int64_t to) {
            const int64_t block = begin / kNf4Block;
            blocks(out + (begin - first) + from * kNf4Block, w, block + from, block + to);
        });
        for (int64_t i = end; i < last; i++) out[i - first] = store<T>(nf4_value(w, i));
    });
    return known ? KT_OK : bad_dtype(ctx, "nf4_dequantize", dtype);
}

int32_t nf4_scales(kt_ctx* ctx, float* scales, const float* absmax, const uint8_t* absmax_codes, const float* nested_absmax,
                   const float* nested_map, float nested_offset, int64_t first, int64_t count) {
    const Nf4 w{nullptr, absmax, absmax_codes, nested_absmax, nested_map, nested_offset};
    parallel_for(ctx, count, kGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) scales[i] = nf4_scale(w, first + i);
    });
    return KT_OK;
}

}  // namespace

void add_nf4(kt_table& table) {
    table.nf4_quantize = nf4_quantize;
    table.nf4_quantize_absmax = nf4_quantize_absmax;
    table.nf4_dequantize = nf4_dequantize;
    table.nf4_scales = nf4_scales;
}

}  // namespace kt
