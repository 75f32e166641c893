// Attention by tiles: what the algorithm (attention.cpp) asks of the instruction sets.
//
// A "tiles" class names the type that matrix operands are held in and does the arithmetic of one tile. Its operands:
//   rows    row-major with a leading dimension; the left side of a product. Padding is zero.
//   panels  the right side of a product, [depth, columns], cut into panels of kPanel columns: element (k, n) lies at
//           (n / kPanel) * panel + (k / kPair) * kPanel * kPair + (n % kPanel) * kPair + k % kPair,
//           so that one vector (or tile row) holds kPair consecutive k of kPanel columns; panel is the distance between two.
// Every buffer starts at a multiple of 64 bytes.
#pragma once

#include <cstdint>

#include "bf16.h"

namespace kt::attention {

constexpr int64_t kQueries = 64;  // queries of one tile
constexpr int64_t kKeys = 256;    // keys of one tile
constexpr int64_t kStrip = 32;    // rows of a tile whose scores are made and used at a time: they stay in the nearest cache
constexpr int64_t kPanel = 16;    // columns of one panel
constexpr int64_t kPad = 32;      // token counts and row lengths of operands are padded to this

constexpr float kLog2E = 1.44269504f;

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// The running softmax of the queries of one strip.
struct Softmax {
    float max[kStrip];          // largest score so far, unscaled
    float sum[kStrip][kPanel];  // sum of exp((score - max) * factor), in parts to be added up at the end
    float rescale[kStrip];      // what the last tile changed of sums made before it: exp((old max - max) * factor)
};

// The one below every score, for rows that have seen none yet; finite, so that differences are never inf - inf.
constexpr float kLowest = -3.40282347e38f;

// What is done with F32 operands: plain loops, for every instruction set.
struct PlainOperands {
    using Element = float;
    static constexpr int64_t kPair = 1;
    static constexpr int64_t kDepth = 1;  // depths of products are multiples of this

    // Once a thread, around everything else.
    static void begin() {}
    static void end() {}

    // y[r, c] = x[r, c] * factor for r < rows, c < cols; zero up to padded_rows and ld.
    static void rows(float* y, int64_t ld, const float* x, int64_t stride, int64_t rows, int64_t cols, int64_t padded_rows,
                     float factor);
    static void rows(float* y, int64_t ld, const bf16* x, int64_t stride, int64_t rows, int64_t cols, int64_t padded_rows,
                     float factor);
    // Panels of x [depth, cols] and of the transpose of x [cols, depth]; cols a multiple of kPanel, depth of kDepth.
    static void panels(float* y, int64_t panel, const float* x, int64_t ld, int64_t depth, int64_t cols);
    static void panels_transposed(float* y, int64_t panel, const float* x, int64_t ld, int64_t depth, int64_t cols);
    // y[c, r] = x[r, c].
    static void transpose(float* y, int64_t ldy, const float* x, int64_t ldx, int64_t rows, int64_t cols);

    // c [m, n] = a [m, k] b [k, n], added to c where accumulate; m and n multiples of kPanel, k of kDepth.
    static void multiply(float* c, int64_t ldc, const float* a, int64_t lda, const float* b, int64_t panel, int64_t m,
                         int64_t n, int64_t k, bool accumulate);

    // One more tile of scores [rows, width]: p = exp((s - max) * factor), with the running maxima and sums brought up to date.
    static void softmax(float* p, int64_t ldp, const float* s, int64_t lds, int64_t rows, int64_t width, float factor,
                        Softmax& running);
    // p = exp(s * factor - lse), ds = p * (dp - delta) of transposed tiles [keys, queries]: lse2 (the lse in base 2)
    // and delta belong to columns. p and ds as rows, and ds as panels; columns a multiple of kPad, rows of kPad.
    static void gradient(float* p, float* ds, int64_t ld, float* ds_panels, int64_t panel, const float* s, const float* dp,
                         int64_t lds, int64_t rows, int64_t cols, const float* lse2, const float* delta, float factor);
};

// For inputs of either dtype.
template <typename T>
struct PlainTiles : PlainOperands {
    using Input = T;
};

#if defined(__x86_64__)

// The same for BF16 operands, two k of a column side by side, all but the products: AVX-512.
struct Bf16Operands {
    using Input = bf16;
    using Element = bf16;
    static constexpr int64_t kPair = 2;

    static void rows(bf16* y, int64_t ld, const bf16* x, int64_t stride, int64_t rows, int64_t cols, int64_t padded_rows,
                     float factor);
    static void panels(bf16* y, int64_t panel, const bf16* x, int64_t ld, int64_t depth, int64_t cols);
    static void panels_transposed(bf16* y, int64_t panel, const bf16* x, int64_t ld, int64_t depth, int64_t cols);
    static void transpose(bf16* y, int64_t ldy, const bf16* x, int64_t ldx, int64_t rows, int64_t cols);
    static void softmax(bf16* p, int64_t ldp, const float* s, int64_t lds, int64_t rows, int64_t width, float factor,
                        Softmax& running);
    static void gradient(bf16* p, bf16* ds, int64_t ld, bf16* ds_panels, int64_t panel, const float* s, const float* dp,
                         int64_t lds, int64_t rows, int64_t cols, const float* lse2, const float* delta, float factor);
};

// Products by AMX tiles or else by AVX512_BF16's dot products.
template <bool Amx>
struct Bf16Tiles : Bf16Operands {
    static constexpr int64_t kDepth = Amx ? 32 : 2;

    static void begin();
    static void end();
    static void multiply(float* c, int64_t ldc, const bf16* a, int64_t lda, const bf16* b, int64_t panel, int64_t m, int64_t n,
                         int64_t k, bool accumulate);
};

#endif

}  // namespace kt::attention
