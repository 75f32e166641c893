// Products of few rows with an NF4 matrix, as decoding has: packed values are read once, looked up in registers and multiplied
// there. Every sum has one order, whatever the number of rows.
//
// 64 packed bytes are 128 values, of two blocks. Vector k of them has one value of every lane of those bytes: the one that the
// lane's bits from 4 k on are the code of. Rows of x are brought into that order first. An index is the code and, as its fifth bit,
// the block: lanes of the upper half belong to the second one.
#pragma once

#include <utility>

#include "bf16_products.h"
#include "context.h"
#include "nf4.h"

#if defined(__x86_64__)

namespace kt {

constexpr int64_t kFewRows = 16;      // up to so many
constexpr int64_t kFewTogether = 8;   // rows that share a look-up
constexpr int64_t kFewValues = 128;   // of 64 packed bytes
constexpr int64_t kFewAhead = 4096;   // bytes between what is looked up and what is asked for

// BF16 by AVX512_BF16's dot products.
struct Nf4Dots {
    using Element = bf16;
    using Activation = bf16;
    using Table = __m512i;
    static constexpr int kVectors = 4;

    [[gnu::always_inline]] static KT_AVX512_BF16 Table table(float first, float second) {
        const __m512 codes = _mm512_load_ps(kNf4);
        return reinterpret_cast<__m512i>(
            _mm512_cvtne2ps_pbh(_mm512_mul_ps(codes, _mm512_set1_ps(second)), _mm512_mul_ps(codes, _mm512_set1_ps(first))));
    }

    template <int K>
    [[gnu::always_inline]] static KT_AVX512_BF16 __m512i look_up(const Table& table, __m512i packed) {
        const __m512i upper = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);
        const __m512i shifted = K == 0 ? packed : _mm512_srli_epi16(packed, 4 * K);
        const __m512i index = _mm512_ternarylogic_epi32(shifted, _mm512_set1_epi16(15), upper, 0xea);  // shifted & 15 | upper
        return _mm512_permutexvar_epi16(index, table);
    }

    [[gnu::always_inline]] static KT_AVX512_BF16 __m512 add(__m512 sum, __m512i values, const bf16* x) {
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(_mm512_loadu_si512(x)), reinterpret_cast<__m512bh>(values));
    }

    // 128 values of x in the look-ups' order, a vector every `stride` elements: of four that follow each other the second, first,
    // fourth and third.
    static KT_AVX512_BF16 void arrange(bf16* y, int64_t stride, const bf16* x) {
        alignas(64) static constexpr uint16_t kByPlace[32] = {1, 5, 9,  13, 17, 21, 25, 29, 0, 4, 8,  12, 16, 20, 24, 28,
                                                              3, 7, 11, 15, 19, 23, 27, 31, 2, 6, 10, 14, 18, 22, 26, 30};
        const __m512i order = _mm512_load_si512(kByPlace);
        __m512i p[4];
        for (int i = 0; i < 4; i++) p[i] = _mm512_permutexvar_epi16(order, _mm512_loadu_si512(x + 32 * i));
        const __m512i a = _mm512_shuffle_i32x4(p[0], p[1], 0x44), b = _mm512_shuffle_i32x4(p[2], p[3], 0x44);
        const __m512i c = _mm512_shuffle_i32x4(p[0], p[1], 0xee), d = _mm512_shuffle_i32x4(p[2], p[3], 0xee);
        _mm512_storeu_si512(y, _mm512_shuffle_i32x4(a, b, 0x88));
        _mm512_storeu_si512(y + stride, _mm512_shuffle_i32x4(a, b, 0xdd));
        _mm512_storeu_si512(y + 2 * stride, _mm512_shuffle_i32x4(c, d, 0x88));
        _mm512_storeu_si512(y + 3 * stride, _mm512_shuffle_i32x4(c, d, 0xdd));
    }
};

#define KT_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

// F32 sums of products on AVX-512; values are rounded to the activations' T.
template <typename T>
struct Nf4Sums {
    using Element = float;
    using Activation = T;
    struct Table {
        __m512 first, second;
    };
    static constexpr int kVectors = 8;

    [[gnu::always_inline]] static KT_AVX512 __m512 rounded_table(float scale) {
        const __m512 values = _mm512_mul_ps(_mm512_load_ps(kNf4), _mm512_set1_ps(scale));
        if (sizeof(T) == sizeof(float)) return values;
        const __m512i bits = _mm512_castps_si512(values);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
        return _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
    }

    [[gnu::always_inline]] static KT_AVX512 Table table(float first, float second) { return {rounded_table(first), rounded_table(second)}; }

    template <int K>
    [[gnu::always_inline]] static KT_AVX512 __m512 look_up(const Table& table, __m512i packed) {
        const __m512i upper = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(16), 1);
        const __m512i shifted = K == 0 ? packed : _mm512_srli_epi32(packed, 4 * K);
        const __m512i index = _mm512_ternarylogic_epi32(shifted, _mm512_set1_epi32(15), upper, 0xea);
        return _mm512_permutex2var_ps(table.first, index, table.second);
    }

    [[gnu::always_inline]] static KT_AVX512 __m512 add(__m512 sum, __m512 values, const float* x) {
        return _mm512_fmadd_ps(_mm512_loadu_ps(x), values, sum);
    }

    // 128 values of x in the look-ups' order, a vector every `stride` elements: of eight that follow each other the second, first,
    // fourth, third and so on.
    static KT_AVX512 void arrange(float* y, int64_t stride, const T* x) {
        for (int64_t k = 0; k < 8; k++) {
            for (int64_t j = 0; j < 16; j++) y[k * stride + j] = load(x[j * 8 + (k ^ 1)]);
        }
    }
};

// y = x W' + bias for rows <= kFewRows and in a multiple of the block.
template <typename A>
class Nf4Few {
  public:
    using T = typename A::Activation;
    using Element = typename A::Element;

    Nf4Few(T* y, const T* x, const Nf4& w, const T* bias, int64_t rows, int64_t out, int64_t in)
        : y_(y), x_(x), w_(w), bias_(bias), rows_(rows), out_(out), in_(in), groups_((in + kFewValues - 1) / kFewValues) {}

    int32_t run(kt_ctx* ctx) {
        const int64_t places = (rows_ - 1) / kFewTogether * kFewTogether + padded((rows_ - 1) % kFewTogether + 1);
        const int64_t elements = places * groups_ * kFewValues;
        const int64_t bytes = elements * static_cast<int64_t>(sizeof(Element));
        arranged_ = static_cast<Element*>(scratch(ctx, bytes));
        if (!arranged_) return no_scratch(ctx, "nf4_linear", bytes);
        if (places > rows_) std::memset(static_cast<void*>(arranged_), 0, static_cast<size_t>(elements) * sizeof(Element));
        for (int64_t r = 0; r < rows_; r++) arrange(r);
        constexpr int64_t kPiece = 32 << 10;  // bytes that a thread takes at a time
        const int64_t piece = std::max<int64_t>(1, kPiece / (in_ / 2) / 4) * 4;
        take_turns(ctx, out_, piece, piece, [&](int64_t begin, int64_t end) {
            for (int64_t r = 0; r < rows_; r += kFewTogether) outputs(begin, end, r, std::min(kFewTogether, rows_ - r));
        });
        return KT_OK;
    }

  private:
    static int64_t padded(int64_t rows) { return rows <= 2 ? rows : rows <= 4 ? 4 : kFewTogether; }

    void arrange(int64_t r) const {
        constexpr int64_t kLanes = kFewValues / A::kVectors;
        const int64_t begin = r / kFewTogether * kFewTogether;
        const int64_t stride = padded(std::min(rows_ - begin, kFewTogether)) * kLanes;
        Element* y = arranged_ + begin * groups_ * kFewValues + (r - begin) * kLanes;
        const T* x = x_ + r * in_;
        for (int64_t g = 0; g < in_ / kFewValues; g++) A::arrange(y + g * A::kVectors * stride, stride, x + g * kFewValues);
        if (in_ % kFewValues != 0) {
            T last[kFewValues] = {};
            std::memcpy(last, x + (groups_ - 1) * kFewValues, static_cast<size_t>(in_ % kFewValues) * sizeof(T));
            A::arrange(y + (groups_ - 1) * A::kVectors * stride, stride, last);
        }
    }

    void outputs(int64_t begin, int64_t end, int64_t r, int64_t rows) const {
        if (rows == 1) return each<4, 1>(begin, end, r, rows);
        if (rows == 2) return each<4, 2>(begin, end, r, rows);
        if (rows <= 4) return each<4, 4>(begin, end, r, rows);
        each<2, 8>(begin, end, r, rows);
    }

    template <int O, int R>
    void each(int64_t begin, int64_t end, int64_t r, int64_t rows) const {
        for (int64_t o = begin; o < end; o += O) {
            float sums[16];
            const int64_t count = std::min<int64_t>(O, end - o);
            sum<O, R>(sums, o, count, r);
            for (int64_t i = 0; i < count; i++) {
                for (int64_t j = 0; j < rows; j++) {
                    const int64_t n = i * R + j;
                    const float value = sums[n % 4 * 4 + n / 4];
                    y_[(r + j) * out_ + o + i] = store<T>(bias_ ? value + load(bias_[o + i]) : value);
                }
            }
        }
    }

    // Outputs [o, o + O), of which `count` are there, times R rows from r on. Output i and row j are n = i R + j, whose sum
    // goes to n % 4 * 4 + n / 4. The compiler may use AVX512_BF16 here, but does so only where the arithmetic says it.
    template <int O, int R>
    KT_AVX512_BF16 void sum(float* sums, int64_t o, int64_t count, int64_t r) const {
        const uint8_t* packed[O];
        int64_t block[O];
        __m512 acc[16];
#pragma GCC unroll 16
        for (int n = 0; n < 16; n++) acc[n] = _mm512_setzero_ps();
        for (int64_t i = 0; i < O; i++) {
            const int64_t first = (o + std::min(i, count - 1)) * in_;
            packed[i] = w_.packed + first / 2;
            block[i] = first / kNf4Block;
        }
        const Element* x = arranged_ + r * groups_ * kFewValues;
        constexpr int64_t kTogether = 32;  // groups whose scales are made in one go
        float scales[O][2 * kTogether];
        for (int64_t from = 0; from < groups_; from += kTogether) {
            const int64_t until = std::min(groups_, from + kTogether);
            const int64_t blocks = std::min(in_ / kNf4Block, 2 * until) - 2 * from;
            for (int64_t i = 0; i < O; i++) {
                scales_of(scales[i], block[i] + 2 * from, blocks);
                if (blocks % 2 != 0) scales[i][blocks] = 0;
            }
            for (int64_t g = from; g < from + blocks / 2; g++, x += R * kFewValues) {
                outputs_of<R>(acc, x, scales, packed, 2 * (g - from), g * 64, ~__mmask64{0}, std::make_integer_sequence<int, O>());
            }
            if (blocks % 2 != 0) {
                outputs_of<R>(acc, x, scales, packed, blocks - 1, (until - 1) * 64, 0xffffffff, std::make_integer_sequence<int, O>());
            }
        }
        __m512 quarters[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) quarters[i] = fold(acc + 4 * i);
        _mm512_storeu_ps(sums, fold_quarters(quarters));
    }

    KT_AVX512_BF16 void scales_of(float* scales, int64_t first, int64_t count) const {
        if (w_.absmax) {
            for (int64_t i = 0; i < count; i++) scales[i] = w_.absmax[first + i];
            return;
        }
        for (int64_t i = 0; i < count; i++) scales[i] = nf4_scale(w_, first + i);
    }

    // What follows is written out by templates, so that all sums stay in registers.

    template <int R, size_t N, int O, int... I>
    [[gnu::always_inline]] KT_AVX512_BF16 void outputs_of(__m512* acc, const Element* x, const float (&scales)[O][N],
                                                          const uint8_t* const (&packed)[O], int64_t scale, int64_t at, __mmask64 bytes,
                                                          std::integer_sequence<int, I...>) const {
        (group<R>(acc + I * R, x, scales[I][scale], scales[I][scale + 1], packed[I] + at, bytes,
                  std::make_integer_sequence<int, A::kVectors>()),
         ...);
    }

    template <int R, int... K>
    [[gnu::always_inline]] KT_AVX512_BF16 void group(__m512* acc, const Element* x, const float& first, const float& second,
                                                     const uint8_t* at, __mmask64 bytes, std::integer_sequence<int, K...>) const {
        _mm_prefetch(reinterpret_cast<const char*>(at) + kFewAhead, _MM_HINT_T0);
        const auto table = A::table(first, second);
        const __m512i packed = _mm512_maskz_loadu_epi8(bytes, at);
        (vector<R>(acc, x + K * R * (kFewValues / A::kVectors), A::template look_up<K>(table, packed),
                   std::make_integer_sequence<int, R>()),
         ...);
    }

    template <int R, typename Values, int... J>
    [[gnu::always_inline]] KT_AVX512_BF16 void vector(__m512* acc, const Element* x, const Values& values,
                                                      std::integer_sequence<int, J...>) const {
        ((acc[J] = A::add(acc[J], values, x + J * (kFewValues / A::kVectors))), ...);
    }

    T* const y_;
    const T* const x_;
    const Nf4 w_;
    const T* const bias_;
    const int64_t rows_, out_, in_, groups_;
    Element* arranged_ = nullptr;  // [8 rows, groups, vectors of a group, those rows, lanes], the rows padded with zeros
};

}  // namespace kt

#endif
