// Products with an NF4 matrix; nf4_linear_few.h has those of few rows. Its values are looked up straight into the layout of the
// product, a strip of 32 rows (forward) or columns (backward) at a time; the activations are packed once for all strips. Sums
// are F32.
#include "nf4.h"

#include <cstring>
#include <utility>

#include "bf16_products.h"
#include "context.h"
#include "math.h"
#include "nf4_linear_few.h"
#include "table.h"

namespace kt {
namespace {

// Both operands of C = A B come in strips of 16 rows of A or 16 columns of B, each a sequence of tiles of 512 elements that
// cover 32 steps of the sum: A [16 rows][32 steps], B [32 steps][16 columns] in F32 or [16 pairs of steps][16 columns][2] in
// BF16, as AMX and AVX512_BF16 read them. C comes in blocks of 32 x 32.
constexpr int64_t kStrip = 16;
constexpr int64_t kSteps = 32;
constexpr int64_t kTile = kStrip * kSteps;
constexpr int64_t kBlock = 32;
constexpr int64_t kBlockArea = kBlock * kBlock;

// What stays in the caches: two strips of 32 weights by kDepth steps (40 KiB in BF16: the first level), kRows rows of activations
// by kDepth, and C for kGroup strips (320 and 512 KiB: the second level).
constexpr int64_t kDepth = 320;
constexpr int64_t kRows = 512;
constexpr int64_t kGroup = 8;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// An NF4 matrix of the product: [out, in], flattened by rows.
struct Matrix {
    Nf4 values;
    int64_t out;
    int64_t in;
};

// ---- plain: F32 loops on any processor ---------------------------------------------------------------------------

// An A strip times a B strip.
void strips_base(float* c, const float* a, const float* b, int64_t tiles, bool accumulate) {
    for (int64_t r = 0; r < kStrip; r++) {
        float sums[kStrip];
        for (int64_t n = 0; n < kStrip; n++) sums[n] = accumulate ? c[r * kBlock + n] : 0;
        for (int64_t i = 0; i < tiles * kSteps; i++) {
            const float x = a[i / kSteps * kTile + r * kSteps + i % kSteps];
            for (int64_t n = 0; n < kStrip; n++) sums[n] += x * b[i * kStrip + n];
        }
        for (int64_t n = 0; n < kStrip; n++) c[r * kBlock + n] = sums[n];
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void strips_avx2(float* c, const float* a, const float* b, int64_t tiles, bool accumulate) {
    constexpr int R = 4;
    for (int64_t row = 0; row < kStrip; row += R, a += R * kSteps, c += R * kBlock) {
        __m256 sums[R][2];
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            sums[r][0] = accumulate ? _mm256_loadu_ps(c + r * kBlock) : _mm256_setzero_ps();
            sums[r][1] = accumulate ? _mm256_loadu_ps(c + r * kBlock + 8) : _mm256_setzero_ps();
        }
        for (int64_t t = 0; t < tiles; t++) {
            for (int64_t k = 0; k < kSteps; k++) {
                const __m256 low = _mm256_loadu_ps(b + t * kTile + k * kStrip);
                const __m256 high = _mm256_loadu_ps(b + t * kTile + k * kStrip + 8);
#pragma GCC unroll 4
                for (int r = 0; r < R; r++) {
                    const __m256 x = _mm256_broadcast_ss(a + t * kTile + r * kSteps + k);
                    sums[r][0] = _mm256_fmadd_ps(x, low, sums[r][0]);
                    sums[r][1] = _mm256_fmadd_ps(x, high, sums[r][1]);
                }
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            _mm256_storeu_ps(c + r * kBlock, sums[r][0]);
            _mm256_storeu_ps(c + r * kBlock + 8, sums[r][1]);
        }
    }
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) void strips_avx512(float* c, const float* a, const float* b,
                                                                                 int64_t tiles, bool accumulate) {
    __m512 sums[kStrip];
#pragma GCC unroll 16
    for (int r = 0; r < kStrip; r++) sums[r] = accumulate ? _mm512_loadu_ps(c + r * kBlock) : _mm512_setzero_ps();
    for (int64_t t = 0; t < tiles; t++) {
        for (int64_t k = 0; k < kSteps; k++) {
            const __m512 columns = _mm512_loadu_ps(b + t * kTile + k * kStrip);
#pragma GCC unroll 16
            for (int r = 0; r < kStrip; r++) {
                sums[r] = _mm512_fmadd_ps(_mm512_set1_ps(a[t * kTile + r * kSteps + k]), columns, sums[r]);
            }
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kStrip; r++) _mm512_storeu_ps(c + r * kBlock, sums[r]);
}
#endif

using Strips = void(float*, const float*, const float*, int64_t, bool);

// The best that this processor has.
Strips* best_strips() {
#if defined(__x86_64__)
    if (processor().vectors == Vectors::avx512) return strips_avx512;
    if (processor().vectors == Vectors::avx2) return strips_avx2;
#endif
    return strips_base;
}

// T is the dtype of the activations; the arithmetic is F32 either way.
template <typename T, Strips* choose() = best_strips>
struct Plain {
    using Element = float;
    using Activation = T;

    static void begin() {}
    static void end() {}

    static void multiply(float* c, const float* a, int64_t a_strip, int64_t a_strips, const float* b, int64_t b_strip,
                         int64_t b_strips, int64_t tiles, bool accumulate) {
        static Strips* const strips = choose();
        for (int64_t i = 0; i < a_strips; i++) {
            for (int64_t j = 0; j < b_strips; j++) {
                strips(c + i * kStrip * kBlock + j * kStrip, a + i * a_strip, b + j * b_strip, tiles, accumulate);
            }
        }
    }

    // 16 rows of x, of which `rows` are there, as a strip of A; steps beyond `cols` are zero.
    static void pack_a(float* y, const T* x, int64_t ld, int64_t rows, int64_t cols) {
        for (int64_t k = 0; k < ceil_div(cols, kSteps) * kSteps; k++) {
            for (int64_t r = 0; r < kStrip; r++) {
                y[k / kSteps * kTile + r * kSteps + k % kSteps] = r < rows && k < cols ? load(x[r * ld + k]) : 0;
            }
        }
    }

    // The same as a strip of B, whose columns they are.
    static void pack_b(float* y, const T* x, int64_t ld, int64_t rows, int64_t cols) {
        for (int64_t k = 0; k < ceil_div(cols, kSteps) * kSteps; k++) {
            for (int64_t r = 0; r < kStrip; r++) y[k * kStrip + r] = r < rows && k < cols ? load(x[r * ld + k]) : 0;
        }
    }

    // Values [from, from + count) of row n, rounded to T; count <= 32, the rest of y is zero.
    static void row(float* y, const Matrix& w, int64_t n, int64_t from, int64_t count) {
        const int64_t first = n * w.in + from;
        int64_t i = 0;
        while (i < count) {
            const int64_t block = (first + i) / kNf4Block;
            const int64_t until = std::min(count, (block + 1) * kNf4Block - first);
            float table[16];
            const float scale = nf4_scale(w.values, block);
            for (int c = 0; c < 16; c++) table[c] = rounded<T>(kNf4[c] * scale);
            for (; i < until; i++) {
                const uint8_t pair = w.values.packed[(first + i) / 2];
                y[i] = table[(first + i) % 2 ? pair & 15 : pair >> 4];
            }
        }
        for (; i < kSteps; i++) y[i] = 0;
    }

    // Rows [first_row, first_row + 32) by steps of the sum [from, from + depth) as two strips of A, of which this call makes
    // rows [begin, end). Rows beyond the last repeat it.
    static void weights_a(float* y, int64_t strip, const Matrix& w, int64_t first_row, int64_t from, int64_t depth, int64_t begin,
                          int64_t end) {
        for (int64_t r = begin; r < end; r++) {
            const int64_t n = std::min(first_row + r, w.out - 1);
            float* to = y + r / kStrip * strip + r % kStrip * kSteps;
            for (int64_t k = 0; k < depth; k += kSteps) {
                row(to + k / kSteps * kTile, w, n, from + k, std::min(kSteps, depth - k));
            }
        }
    }

    // Columns [column, column + 32) by rows [from, from + depth), which are the steps of the sum, as two strips of B, of which
    // this call makes steps [begin, end), zero from depth on.
    static void weights_b(float* y, int64_t strip, const Matrix& w, int64_t column, int64_t from, int64_t depth, int64_t begin,
                          int64_t end) {
        float values[kSteps];
        for (int64_t k = begin; k < end; k++) {
            if (k < depth) {
                row(values, w, from + k, column, std::min(kBlock, w.in - column));
            } else {
                std::memset(values, 0, sizeof values);
            }
            std::memcpy(y + k * kStrip, values, kStrip * sizeof(float));
            std::memcpy(y + strip + k * kStrip, values + kStrip, kStrip * sizeof(float));
        }
    }

    // rows x cols of c, transposed where c is W x: y[row][col] = c[col][row] + bias[col].
    static void store_transposed(T* y, int64_t ld, const float* c, const T* bias, int64_t rows, int64_t cols) {
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t n = 0; n < cols; n++) {
                y[r * ld + n] = store<T>(bias ? c[n * kBlock + r] + load(bias[n]) : c[n * kBlock + r]);
            }
        }
    }

    static void store_rows(T* y, int64_t ld, const float* c, bool accumulate, int64_t rows, int64_t cols) {
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t n = 0; n < cols; n++) {
                const float sum = c[r * kBlock + n];
                y[r * ld + n] = store<T>(accumulate ? sum + load(y[r * ld + n]) : sum);
            }
        }
    }
};

// ---- BF16: AMX and AVX512_BF16 -----------------------------------------------------------------------------------

#if defined(__x86_64__)
// 16 x 16 values of 32 bits, transposed: by pairs, by quads, then by lanes.
KT_AVX512_BF16 inline void transpose(__m512i* x) {
    __m512i y[16];
    for (int i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
        y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
        y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
        y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
        x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd);
        x[i + 4] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0x88);
        x[i + 12] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0xdd);
    }
}

KT_AVX512_BF16 inline __mmask32 first(int64_t count) {
    return count >= 32 ? 0xffffffffu : static_cast<__mmask32>((uint64_t{1} << std::max<int64_t>(count, 0)) - 1);
}

KT_AVX512_BF16 inline __m512i load_row(const bf16* x, int64_t count) { return _mm512_maskz_loadu_epi16(first(count), x); }

// As nf4_table_bf16, but for magnitudes below 2^-126, which become zero: to the products they are zero in any case.
KT_AVX512_BF16 inline __m512i table_of(float scale) {
    const __m512 values = _mm512_mul_ps(_mm512_load_ps(kNf4), _mm512_set1_ps(scale));
    return _mm512_broadcast_i64x4(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
}

// Values [i, i + count) of the flattened matrix, zero beyond them; count <= 32.
KT_AVX512_BF16 inline __m512i values_at(const Nf4& w, int64_t i, int64_t count) {
    const int64_t block = i / kNf4Block;
    const __m512i table = table_of(nf4_scale(w, block));
    if (count == 32 && i % 32 == 0) return nf4_lookup_bf16(table, w.packed + i / 2);
    // Elsewhere a block may end in between, the matrix may end, and an odd row begins in the middle of a byte.
    alignas(16) uint8_t bytes[32] = {};
    std::memcpy(bytes, w.packed + i / 2, static_cast<size_t>((i + count + 1) / 2 - i / 2));
    if (i % 2) {
        for (int j = 0; j < 16; j++) bytes[j] = static_cast<uint8_t>(bytes[j] << 4 | bytes[j + 1] >> 4);
    }
    __m512i values = nf4_lookup_bf16(table, bytes);
    const int64_t left = (block + 1) * kNf4Block - i;
    if (left < count) {
        const __m512i next = table_of(nf4_scale(w, block + 1));
        values = _mm512_mask_mov_epi16(nf4_lookup_bf16(next, bytes), first(left), values);
    }
    return _mm512_maskz_mov_epi16(first(count), values);
}

KT_AVX512_BF16 inline __m512 widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }

KT_AVX512_BF16 inline __m512i narrow(__m512 low, __m512 high) { return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)); }

// All but the products. Not inlined: tile instructions read what is written here.
struct Bf16Operands {
    using Element = bf16;
    using Activation = bf16;

    static KT_AVX512_BF16 __attribute__((noinline)) void pack_a(bf16* y, const bf16* x, int64_t ld, int64_t rows, int64_t cols) {
        for (int64_t k = 0; k < cols; k += kSteps) {
            for (int64_t r = 0; r < kStrip; r++) {
                const __m512i row = r < rows ? load_row(x + r * ld + k, cols - k) : _mm512_setzero_si512();
                _mm512_storeu_si512(y + k / kSteps * kTile + r * kSteps, row);
            }
        }
    }

    static KT_AVX512_BF16 __attribute__((noinline)) void pack_b(bf16* y, const bf16* x, int64_t ld, int64_t rows, int64_t cols) {
        for (int64_t k = 0; k < cols; k += kSteps) {
            __m512i pairs[16];
            for (int64_t r = 0; r < kStrip; r++) {
                pairs[r] = r < rows ? load_row(x + r * ld + k, cols - k) : _mm512_setzero_si512();
            }
            transpose(pairs);
            for (int64_t i = 0; i < kStrip; i++) _mm512_storeu_si512(y + k / kSteps * kTile + i * 32, pairs[i]);
        }
    }

    static KT_AVX512_BF16 __attribute__((noinline)) void weights_a(bf16* y, int64_t strip, const Matrix& w, int64_t first_row,
                                                          int64_t from, int64_t depth, int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; r++) {
            const int64_t start = std::min(first_row + r, w.out - 1) * w.in + from;
            bf16* to = y + r / kStrip * strip + r % kStrip * kSteps;
            int64_t k = 0;
            if (start % kNf4Block == 0) {
                for (; k + kNf4Block <= depth; k += kNf4Block) {
                    const __m512i table = table_of(nf4_scale(w.values, (start + k) / kNf4Block));
                    const uint8_t* packed = w.values.packed + (start + k) / 2;
                    _mm512_storeu_si512(to + k / kSteps * kTile, nf4_lookup_bf16(table, packed));
                    _mm512_storeu_si512(to + (k / kSteps + 1) * kTile, nf4_lookup_bf16(table, packed + 16));
                }
            }
            for (; k < depth; k += kSteps) {
                _mm512_storeu_si512(to + k / kSteps * kTile, values_at(w.values, start + k, std::min(kSteps, depth - k)));
            }
        }
    }

    static KT_AVX512_BF16 __attribute__((noinline)) void weights_b(bf16* y, int64_t strip, const Matrix& w, int64_t column, int64_t from,
                                                          int64_t depth, int64_t begin, int64_t end) {
        // Word 2 i of a pair of steps is value i of the first row, word 2 i + 1 of the second.
        alignas(64) uint16_t low[32];
        alignas(64) uint16_t high[32];
        for (int i = 0; i < 16; i++) {
            low[2 * i] = static_cast<uint16_t>(i);
            low[2 * i + 1] = static_cast<uint16_t>(32 + i);
            high[2 * i] = static_cast<uint16_t>(16 + i);
            high[2 * i + 1] = static_cast<uint16_t>(48 + i);
        }
        const __m512i low_half = _mm512_load_si512(low);
        const __m512i high_half = _mm512_load_si512(high);
        const int64_t cols = std::min(kBlock, w.in - column);
        for (int64_t k = begin; k < end; k += 2) {
            __m512i rows[2];
            for (int64_t i = 0; i < 2; i++) {
                rows[i] = k + i < depth ? values_at(w.values, (from + k + i) * w.in + column, cols) : _mm512_setzero_si512();
            }
            _mm512_storeu_si512(y + k * kStrip, _mm512_permutex2var_epi16(rows[0], low_half, rows[1]));
            _mm512_storeu_si512(y + strip + k * kStrip, _mm512_permutex2var_epi16(rows[0], high_half, rows[1]));
        }
    }

    static KT_AVX512_BF16 __attribute__((noinline)) void store_transposed(bf16* y, int64_t ld, const float* c, const bf16* bias,
                                                                 int64_t rows, int64_t cols) {
        const __mmask32 there = first(cols);
        __m512 bias_low = _mm512_setzero_ps();
        __m512 bias_high = _mm512_setzero_ps();
        if (bias) {
            const __m512i all = load_row(bias, cols);
            bias_low = widen(_mm512_castsi512_si256(all));
            bias_high = widen(_mm512_extracti64x4_epi64(all, 1));
        }
        for (int64_t r = 0; r < rows; r += kStrip) {
            __m512i low[16];
            __m512i high[16];
            for (int64_t n = 0; n < kStrip; n++) {
                low[n] = _mm512_loadu_si512(c + n * kBlock + r);
                high[n] = _mm512_loadu_si512(c + (n + kStrip) * kBlock + r);
            }
            transpose(low);
            transpose(high);
            for (int64_t i = 0; i < std::min(kStrip, rows - r); i++) {
                const __m512i row = narrow(_mm512_add_ps(_mm512_castsi512_ps(low[i]), bias_low),
                                           _mm512_add_ps(_mm512_castsi512_ps(high[i]), bias_high));
                _mm512_mask_storeu_epi16(y + (r + i) * ld, there, row);
            }
        }
    }

    static KT_AVX512_BF16 __attribute__((noinline)) void store_rows(bf16* y, int64_t ld, const float* c, bool accumulate, int64_t rows,
                                                      int64_t cols) {
        const __mmask32 there = first(cols);
        for (int64_t r = 0; r < rows; r++) {
            __m512 low = _mm512_loadu_ps(c + r * kBlock);
            __m512 high = _mm512_loadu_ps(c + r * kBlock + kStrip);
            if (accumulate) {
                const __m512i before = load_row(y + r * ld, cols);
                low = _mm512_add_ps(low, widen(_mm512_castsi512_si256(before)));
                high = _mm512_add_ps(high, widen(_mm512_extracti64x4_epi64(before, 1)));
            }
            _mm512_mask_storeu_epi16(y + r * ld, there, narrow(low, high));
        }
    }
};

KT_AVX512_BF16 void dot_strips(float* c, const bf16* a, int64_t a_strip, int64_t a_strips, const bf16* b, int64_t b_strip,
                        int64_t b_strips, int64_t tiles, bool accumulate) {
    for (int64_t r = 0; r < a_strips * kStrip; r += 8) {
        const bf16* rows = a + r / kStrip * a_strip + r % kStrip * kSteps;
        if (b_strips == 2) {
            dot_block<8, 2>(c + r * kBlock, kBlock, rows, kSteps, kTile, b, b_strip, tiles * kStrip, accumulate);
        } else {
            dot_block<8, 1>(c + r * kBlock, kBlock, rows, kSteps, kTile, b, b_strip, tiles * kStrip, accumulate);
        }
    }
}

template <int R, int P>
KT_AMX __attribute__((noinline)) void tile_strips(float* c, const bf16* a, int64_t a_strip, const bf16* b, int64_t b_strip,
                                                  int64_t tiles, bool accumulate) {
    tile_block<R, P>(c, kBlock, a, kSteps, kTile, a_strip, b, b_strip, tiles, accumulate);
}

template <bool Amx>
struct Bf16 : Bf16Operands {
    static void begin() {
        if (Amx) begin_tiles();
    }

    static void end() {
        if (Amx) end_tiles();
    }

    static void multiply(float* c, const bf16* a, int64_t a_strip, int64_t a_strips, const bf16* b, int64_t b_strip,
                         int64_t b_strips, int64_t tiles, bool accumulate) {
        if (!Amx) {
            dot_strips(c, a, a_strip, a_strips, b, b_strip, b_strips, tiles, accumulate);
        } else if (a_strips == 2 && b_strips == 2) {
            tile_strips<2, 2>(c, a, a_strip, b, b_strip, tiles, accumulate);
        } else if (a_strips == 2) {
            tile_strips<2, 1>(c, a, a_strip, b, b_strip, tiles, accumulate);
        } else {
            tile_strips<1, 2>(c, a, a_strip, b, b_strip, tiles, accumulate);
        }
    }
};
#endif

// ---- both products -----------------------------------------------------------------------------------------------

// Forward is (W x')' with strips of W's rows: y [rows, out] of x [rows, in]. Backward is dy W with strips of W's columns:
// y [rows, in] of x [rows, out]. Either way `depth` is the length of the sums and `width` that of y's rows.
template <typename Tiles, bool Forward>
class Product {
    using E = typename Tiles::Element;
    using T = typename Tiles::Activation;

  public:
    Product(T* y, const T* x, const Matrix& w, const T* bias, int64_t rows, bool accumulate)
        : y_(y),
          x_(x),
          w_(w),
          bias_(bias),
          rows_(rows),
          accumulate_(accumulate),
          depth_(Forward ? w.in : w.out),
          width_(Forward ? w.out : w.in) {}

    int32_t run(kt_ctx* ctx) {
        const int64_t strips = ceil_div(width_, kBlock);
        // Many rows are parted among the threads, which then wait for each other but once; few are packed by all for all.
        const bool by_rows = rows_ > kRows;
        const int64_t parts = by_rows ? ceil_div(ceil_div(rows_, kRows), ctx->threads) * ctx->threads : 1;
        chunk_ = ceil_div(ceil_div(rows_, parts), kBlock) * kBlock;
        group_ = std::min(kGroup, by_rows ? strips : ceil_div(strips, ctx->threads));
        data_strip_ = ceil_div(depth_, kSteps) * kTile;
        weight_strip_ = std::min(kDepth, ceil_div(depth_, kSteps) * kSteps) * kStrip;
        // One after the other, each a multiple of 64 bytes: packed x, blocks of C, two strips of weights.
        const int64_t data = chunk_ / kStrip * data_strip_ * static_cast<int64_t>(sizeof(E));
        const int64_t blocks = group_ * chunk_ / kBlock * kBlockArea * static_cast<int64_t>(sizeof(float));
        const int64_t weights = 4 * weight_strip_ * static_cast<int64_t>(sizeof(E));
        const int64_t shared = by_rows ? 0 : data;
        const int64_t own = (by_rows ? data : 0) + blocks + weights;
        char* memory = static_cast<char*>(scratch(ctx, shared + own * ctx->threads));
        if (!memory) return no_scratch(ctx, "nf4_linear", shared + own * ctx->threads);
        const auto mine = [=] { return memory + shared + own * omp_get_thread_num(); };
        if (by_rows) {
            parallel_for(ctx, ceil_div(rows_, chunk_), 1, [&](int64_t begin, int64_t end) {
                E* packed = reinterpret_cast<E*>(mine());
                char* rest = mine() + data;
                for (int64_t part = begin; part < end; part++) {
                    const int64_t row = part * chunk_;
                    const int64_t here = std::min(chunk_, rows_ - row);
                    pack(packed, row, here, 0, ceil_div(here, kStrip));
                    multiply(reinterpret_cast<float*>(rest), reinterpret_cast<E*>(rest + blocks), packed, row, here, 0, strips);
                }
            });
            return KT_OK;
        }
        E* packed = reinterpret_cast<E*>(memory);
        const int64_t grain = std::max<int64_t>(1, kGrain / kStrip / depth_);
        parallel_for(ctx, ceil_div(rows_, kStrip), grain,
                     [&](int64_t begin, int64_t end) { pack(packed, 0, rows_, begin, end); });
        parallel_for(ctx, strips, 1, [&](int64_t begin, int64_t end) {
            multiply(reinterpret_cast<float*>(mine()), reinterpret_cast<E*>(mine() + blocks), packed, 0, rows_, begin, end);
        });
        return KT_OK;
    }

  private:
    // Strips [begin, end) of the rows [row, row + here) of x.
    void pack(E* packed, int64_t row, int64_t here, int64_t begin, int64_t end) const {
        for (int64_t s = begin; s < end; s++) {
            const T* from = x_ + (row + s * kStrip) * depth_;
            const int64_t there = std::min(kStrip, here - s * kStrip);
            if (Forward) {
                Tiles::pack_b(packed + s * data_strip_, from, depth_, there, depth_);
            } else {
                Tiles::pack_a(packed + s * data_strip_, from, depth_, there, depth_);
            }
        }
    }

    // Where the weights of one piece of the work begin: a strip of them by kDepth steps of the sum.
    struct Piece {
        int64_t strip;
        int64_t step;
    };

    // Rows [row, row + here) of y in the columns of strips [begin, end). While one piece is multiplied, block by block, the
    // next one is looked up, a little for every block: the units for vectors and for tiles then work at the same time.
    void multiply(float* c, E* weights, const E* packed, int64_t row, int64_t here, int64_t begin, int64_t end) const {
        const int64_t blocks = chunk_ / kBlock;
        E* next_weights = weights + 2 * weight_strip_;
        Tiles::begin();
        if (begin < end) look_up(weights, {begin, 0}, 0, 1);
        for (int64_t from = begin; from < end; from += group_) {
            const int64_t until = std::min(end, from + group_);
            for (int64_t k = 0; k < depth_; k += kDepth) {
                for (int64_t s = from; s < until; s++) {
                    Piece next{s + 1, k};
                    if (s + 1 == until) next = k + kDepth < depth_ ? Piece{from, k + kDepth} : Piece{until, 0};
                    add_piece(c + (s - from) * blocks * kBlockArea, weights, packed, {s, k}, here, next_weights, next, end);
                    std::swap(weights, next_weights);
                }
            }
            for (int64_t m = 0; m < here; m += kBlock) {
                for (int64_t s = from; s < until; s++) {
                    store(c + ((s - from) * blocks + m / kBlock) * kBlockArea, row + m, std::min(kBlock, here - m), s * kBlock);
                }
            }
        }
        Tiles::end();
    }

    // Adds the products of a piece with all packed rows, and looks up the next one where its strip is before `end`.
    void add_piece(float* c, const E* weights, const E* packed, Piece piece, int64_t here, E* next_weights, Piece next,
                   int64_t end) const {
        const int64_t tiles = ceil_div(std::min(kDepth, depth_ - piece.step), kSteps);
        const int64_t blocks = ceil_div(here, kBlock);
        for (int64_t i = 0; i < blocks; i++, c += kBlockArea) {
            const int64_t m = i * kBlock;
            const int64_t strips = std::min<int64_t>(2, ceil_div(here - m, kStrip));
            const E* activations = packed + m / kStrip * data_strip_ + piece.step * kStrip;
            const bool more = piece.step > 0;
            if (Forward) {
                Tiles::multiply(c, weights, weight_strip_, 2, activations, data_strip_, strips, tiles, more);
            } else {
                Tiles::multiply(c, activations, data_strip_, strips, weights, weight_strip_, 2, tiles, more);
            }
            if (next.strip < end) look_up(next_weights, next, i, blocks);
        }
    }

    // Part `part` of `parts` of the weights of a piece.
    void look_up(E* weights, Piece piece, int64_t part, int64_t parts) const {
        const int64_t steps = std::min(kDepth, depth_ - piece.step);
        if (Forward) {
            Tiles::weights_a(weights, weight_strip_, w_, piece.strip * kBlock, piece.step, steps, part * kBlock / parts,
                             (part + 1) * kBlock / parts);
        } else {
            const int64_t pairs = ceil_div(steps, kSteps) * kSteps / 2;
            Tiles::weights_b(weights, weight_strip_, w_, piece.strip * kBlock, piece.step, steps, part * pairs / parts * 2,
                             (part + 1) * pairs / parts * 2);
        }
    }

    void store(const float* block, int64_t row, int64_t rows, int64_t column) const {
        const int64_t columns = std::min(kBlock, width_ - column);
        T* to = y_ + row * width_ + column;
        if (Forward) {
            Tiles::store_transposed(to, width_, block, bias_ ? bias_ + column : nullptr, rows, columns);
        } else {
            Tiles::store_rows(to, width_, block, accumulate_, rows, columns);
        }
    }

    T* const y_;
    const T* const x_;
    const Matrix w_;
    const T* const bias_;
    const int64_t rows_;
    const bool accumulate_;
    const int64_t depth_;
    const int64_t width_;
    int64_t chunk_ = 0;         // rows that are packed together
    int64_t group_ = 0;         // strips whose sums are held together
    int64_t data_strip_ = 0;    // elements of a strip of packed rows
    int64_t weight_strip_ = 0;  // elements of half a strip of weights
};

// A sum of no terms.
template <typename T>
void no_depth(T* y, const T* bias, int64_t rows, int64_t width, bool accumulate) {
    for (int64_t i = 0; i < rows * width && !accumulate; i++) y[i] = bias ? bias[i % width] : store<T>(0);
}

template <bool Forward>
int32_t nf4_linear(kt_ctx* ctx, void* y, const void* x, const Matrix& w, const void* bias, int64_t rows, bool accumulate,
                   int32_t dtype) {
    const int64_t depth = Forward ? w.in : w.out;
    const int64_t width = Forward ? w.out : w.in;
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        T* out = static_cast<T*>(y);
        const T* in = static_cast<const T*>(x);
        const T* b = static_cast<const T*>(bias);
        if (rows == 0 || width == 0) return;
        if (depth == 0) return no_depth(out, b, rows, width, accumulate);
#if defined(__x86_64__)
        // What a row becomes must not depend on how many there are, so every machine has one way for all numbers up to the limit.
        if (Forward && rows <= kFewRows && depth % kNf4Block == 0 && processor().vectors == Vectors::avx512) {
            if constexpr (sizeof(T) == sizeof(bf16)) {
                if (processor().bf16_dot_products) {
                    status = Nf4Few<Nf4Dots>(out, in, w.values, b, rows, w.out, w.in).run(ctx);
                    return;
                }
            }
            status = Nf4Few<Nf4Sums<T>>(out, in, w.values, b, rows, w.out, w.in).run(ctx);
            return;
        }
        if constexpr (sizeof(T) == sizeof(bf16)) {
            if (processor().amx_bf16) {
                status = Product<Bf16<true>, Forward>(out, in, w, b, rows, accumulate).run(ctx);
                return;
            }
            if (processor().bf16_dot_products) {
                status = Product<Bf16<false>, Forward>(out, in, w, b, rows, accumulate).run(ctx);
                return;
            }
        }
#endif
        status = Product<Plain<T>, Forward>(out, in, w, b, rows, accumulate).run(ctx);
    });
    return known ? status : bad_dtype(ctx, Forward ? "nf4_linear_forward" : "nf4_linear_backward", dtype);
}

int32_t nf4_linear_forward(kt_ctx* ctx, void* y, const void* x, const uint8_t* packed, const float* absmax,
                           const uint8_t* absmax_codes, const float* nested_absmax, const float* nested_map,
                           float nested_offset, const void* bias, int64_t rows, int64_t out, int64_t in, int32_t dtype) {
    const Matrix w{{packed, absmax, absmax_codes, nested_absmax, nested_map, nested_offset}, out, in};
    return nf4_linear<true>(ctx, y, x, w, bias, rows, false, dtype);
}

int32_t nf4_linear_backward(kt_ctx* ctx, void* dx, const void* dy, const uint8_t* packed, const float* absmax,
                            const uint8_t* absmax_codes, const float* nested_absmax, const float* nested_map,
                            float nested_offset, int64_t rows, int64_t out, int64_t in, int32_t accumulate, int32_t dtype) {
    const Matrix w{{packed, absmax, absmax_codes, nested_absmax, nested_map, nested_offset}, out, in};
    return nf4_linear<false>(ctx, dx, dy, w, nullptr, rows, accumulate != 0, dtype);
}

}  // namespace

void add_nf4_linear(kt_table& table) {
    table.nf4_linear_forward = nf4_linear_forward;
    table.nf4_linear_backward = nf4_linear_backward;
}

}  // namespace kt
