// The output head with its cross-entropy, tile by tile of the vocabulary: a tile's logits live in the nearest caches, become
// a softmax on the spot and are multiplied back at once, as attention does it. The running maximum and sum of each row
// rescale what was added up before. Needs AMX; elsewhere the engine multiplies and calls cross_entropy.
#include <cmath>
#include <cstring>

#include "attention.h"
#include "bf16.h"
#include "context.h"
#include "table.h"

#if defined(__x86_64__)
// GCC 12 warns about the undefined vectors inside its own intrinsics (its bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#endif

namespace kt {
namespace {

#if defined(__x86_64__)

#define KT_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

using attention::kLog2E;
using attention::kPanel;
using attention::round_up;
using Tiles = attention::Bf16Tiles<true>;

constexpr int64_t kTile = 256;   // rows of the head in one tile: its panels and a strip fit a second-level cache
constexpr int64_t kStrip = 32;   // tokens whose logits exist at once; 620 ms, with 512 and 64 704 ms
constexpr int64_t kDepth = 256;   // terms at a time: a strip and two panels stay in the first-level cache; 4 % less time
constexpr int64_t kRows = 2048;  // tokens between two passes over the head

// Below every logit; exact in BF16, and neither a difference to it nor that times log2 e overflows.
constexpr float kLowest = -0x1.48p126f;

// What is known of the softmax of one row after some tiles.
struct Row {
    float max;        // largest logit
    float sum;        // of e^(x - max)
    float weighted;   // of e^(x - max) (x - max)
    float at_target;  // logit of the target
    int64_t first;    // where max was first met
};

// ---- rows of one strip -------------------------------------------------------------------------------------------

// 2^x, 0 for large negative x, NaN for NaN, exact at 0: polynomial of degree 6 on [-0.5, 0.5], within an ulp (Cephes).
KT_AVX512 inline __m512 exp2_of(__m512 x) {
    const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(x, n);
    __m512 y = _mm512_set1_ps(1.535336188e-4f);
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.339887440e-3f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(9.618437358e-3f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.550332471e-2f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.402264791e-1f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.931472029e-1f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, n);
}

// x as BF16 holds it.
KT_AVX512 inline __m512 rounded_to_bf16(__m512 x) {
    const __m256i bits = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

KT_AVX512 inline void store_bf16(bf16* y, __m512 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
}

// Rounds the logits of one row, as the reference holds them, and returns the largest; those from valid on become the lowest.
KT_AVX512 float round_row(float* x, int64_t valid, int64_t padded) {
    for (int64_t c = valid; c < padded; c++) x[c] = kLowest;
    __m512 highest = _mm512_set1_ps(kLowest);
    for (int64_t c = 0; c < padded; c += 16) {
        const __m512 value = rounded_to_bf16(_mm512_loadu_ps(x + c));
        highest = _mm512_max_ps(value, highest);
        _mm512_storeu_ps(x + c, value);
    }
    return _mm512_reduce_max_ps(highest);
}

// Adds one tile's logits of one row to its softmax; p, where it is wanted, becomes e^(x - max). Returns what sums made before
// are to be multiplied by.
KT_AVX512 float softmax_row(Row& row, bf16* p, float* x, int64_t valid, int64_t padded, int64_t first) {
    const float highest = round_row(x, valid, padded);
    float rescale = 1;
    if (highest > row.max) {
        const float below = row.max - highest;
        rescale = std::exp(below);
        row.weighted = (row.weighted + row.sum * below) * rescale;
        row.sum *= rescale;
        row.max = highest;
        row.first = first;
        while (x[row.first - first] != highest) row.first++;
    }
    const __m512 max = _mm512_set1_ps(row.max);
    __m512 sum = _mm512_setzero_ps();
    __m512 weighted = _mm512_setzero_ps();
    for (int64_t c = 0; c < padded; c += 16) {
        const __m512 below = _mm512_sub_ps(_mm512_loadu_ps(x + c), max);
        const __m512 e = exp2_of(_mm512_mul_ps(below, _mm512_set1_ps(kLog2E)));
        sum = _mm512_add_ps(sum, e);
        weighted = _mm512_fmadd_ps(e, below, weighted);
        if (p) store_bf16(p + c, e);
    }
    row.sum += _mm512_reduce_add_ps(sum);
    row.weighted += _mm512_reduce_add_ps(weighted);
    return rescale;
}

// p = factor * e^x / the whole sum, of a row whose softmax is known: log2 of the factor over the sum is given.
KT_AVX512 void probability_row(bf16* p, float* x, int64_t valid, int64_t padded, float log2_factor, float sign) {
    round_row(x, valid, padded);
    for (int64_t c = 0; c < padded; c += 16) {
        const __m512 power = _mm512_fmadd_ps(_mm512_loadu_ps(x + c), _mm512_set1_ps(kLog2E), _mm512_set1_ps(log2_factor));
        store_bf16(p + c, _mm512_mul_ps(exp2_of(power), _mm512_set1_ps(sign)));
    }
}

KT_AVX512 void scale_row(float* x, int64_t n, float factor) {
    for (int64_t c = 0; c < n; c++) x[c] *= factor;
}

// ---- tiles of one thread -----------------------------------------------------------------------------------------

// The sizes of one call and where its operands lie.
struct Problem {
    const bf16* hidden;  // [rows, cols], padded with zeros to a multiple of 32 rows
    const bf16* head;    // [vocab, cols]
    const int32_t* targets;
    int64_t rows, padded, vocab, cols;
};

// What one thread works in.
struct Space {
    bf16* logit_panels;   // the tile's rows of the head as the right side of hidden headᵀ
    bf16* head_panels;    // ... and of softmax head
    float* logits;        // [kStrip, kTile]
    bf16* softmax;        // [kStrip, kTile]
    bf16* turned;         // [kTile, padded], for the head's gradient
    float* head_gradient; // [kTile, cols], for a last tile that does not fill its panels
    float* dhidden;       // [padded, cols], unscaled
    Row* state;           // [padded]
};

int64_t bytes_of(int64_t n, int64_t size) { return round_up(n * size, 64); }

// Cuts memory into what a thread needs; with no memory, counts the bytes.
struct Cutter {
    char* at;
    int64_t used = 0;

    template <typename T>
    T* take(int64_t n) {
        T* result = at ? reinterpret_cast<T*>(at + used) : nullptr;
        used += bytes_of(n, sizeof(T));
        return result;
    }

    Space space(int64_t padded, int64_t cols, bool gradient, bool head_gradient) {
        Space s{};
        s.logit_panels = take<bf16>(kTile * cols);
        s.head_panels = take<bf16>(gradient ? kTile * cols : 0);
        s.logits = take<float>(kStrip * kTile);
        s.softmax = take<bf16>(kStrip * kTile);
        s.turned = take<bf16>(head_gradient ? kTile * padded : 0);
        s.head_gradient = take<float>(head_gradient ? kTile * cols : 0);
        s.dhidden = take<float>(gradient ? padded * cols : 0);
        s.state = take<Row>(padded);
        return s;
    }
};

// The rows [from, from + valid) of the head as panels. Rows that fill the last panel up are zero.
void pack_tile(const Problem& q, Space& s, int64_t from, int64_t valid, bool gradient) {
    const int64_t full = valid / 32 * 32;
    const bf16* tile = q.head + from * q.cols;
    const int64_t logit_panel = q.cols * kPanel;
    const int64_t head_panel = round_up(valid, 32) * kPanel;
    Tiles::panels_transposed(s.logit_panels, logit_panel, tile, q.cols, q.cols, full);
    if (gradient) Tiles::panels(s.head_panels, head_panel, tile, q.cols, full, q.cols);
    if (full == valid) return;
    // The last rows through a copy with zeros behind them; the strip's logits are free to hold it.
    bf16* rest = reinterpret_cast<bf16*>(s.logits);
    for (int64_t c = 0; c < q.cols; c += kTile) {
        const int64_t width = std::min(kTile, q.cols - c);
        for (int64_t r = 0; r < 32; r++) {
            if (full + r < valid) {
                std::memcpy(rest + r * width, tile + (full + r) * q.cols + c, static_cast<size_t>(width) * sizeof(bf16));
            } else {
                std::memset(rest + r * width, 0, static_cast<size_t>(width) * sizeof(bf16));
            }
        }
        Tiles::panels_transposed(s.logit_panels + full / kPanel * logit_panel + c * kPanel, logit_panel, rest, width, width, 32);
        if (gradient) {
            Tiles::panels(s.head_panels + c / kPanel * head_panel + full * kPanel, head_panel, rest, width, 32, width);
        }
    }
}

// Logits of strip tokens from r0 on under the tile that is packed.
void logits_of_strip(const Problem& q, Space& s, int64_t r0, int64_t strip, int64_t width) {
    for (int64_t k = 0; k < q.cols; k += kDepth) {
        Tiles::multiply(s.logits, kTile, q.hidden + r0 * q.cols + k, q.cols, s.logit_panels + k * kPanel, q.cols * kPanel, strip,
                        width, std::min(kDepth, q.cols - k), k > 0);
    }
}

// Softmax statistics over the vocabulary [begin, end), and the sums of softmax times head.
void forward_tiles(const Problem& q, Space& s, int64_t begin, int64_t end, bool gradient) {
    for (int64_t r = 0; r < q.padded; r++) s.state[r] = {kLowest, 0, 0, 0, 0};
    if (gradient) std::memset(s.dhidden, 0, static_cast<size_t>(q.padded * q.cols) * sizeof(float));
    Tiles::begin();
    for (int64_t from = begin; from < end; from += kTile) {
        const int64_t valid = std::min(kTile, end - from);
        const int64_t width = round_up(valid, 32);
        pack_tile(q, s, from, valid, gradient);
        for (int64_t r0 = 0; r0 < q.padded; r0 += kStrip) {
            const int64_t strip = std::min(kStrip, q.padded - r0);
            logits_of_strip(q, s, r0, strip, width);
            for (int64_t r = 0; r < strip; r++) {
                float* x = s.logits + r * kTile;
                const float rescale =
                    softmax_row(s.state[r0 + r], gradient ? s.softmax + r * kTile : nullptr, x, valid, width, from);
                if (gradient && rescale != 1) scale_row(s.dhidden + (r0 + r) * q.cols, q.cols, rescale);
                if (r0 + r < q.rows) {
                    const int64_t target = q.targets[r0 + r] - from;
                    if (target >= 0 && target < valid) s.state[r0 + r].at_target = x[target];
                }
            }
            if (gradient) {
                Tiles::multiply(s.dhidden + r0 * q.cols, q.cols, s.softmax, kTile, s.head_panels, width * kPanel, strip, q.cols,
                                width, true);
            }
        }
    }
    Tiles::end();
}

// Adds ((softmax - onehot) * scale)ᵀ hidden to the head's gradient, over the vocabulary [begin, end). log2_factor: per row, log2 of
// |scale| over the sum of e^x.
void head_tiles(const Problem& q, Space& s, float* dhead, const bf16* hidden_panels, const float* log2_factor, float scale,
                int64_t begin, int64_t end) {
    const float sign = scale < 0 ? -1.0f : 1.0f;
    Tiles::begin();
    for (int64_t from = begin; from < end; from += kTile) {
        const int64_t valid = std::min(kTile, end - from);
        const int64_t width = round_up(valid, 32);
        pack_tile(q, s, from, valid, false);
        for (int64_t r0 = 0; r0 < q.padded; r0 += kStrip) {
            const int64_t strip = std::min(kStrip, q.padded - r0);
            logits_of_strip(q, s, r0, strip, width);
            for (int64_t r = 0; r < strip; r++) {
                bf16* p = s.softmax + r * kTile;
                const float* x = s.logits + r * kTile;
                probability_row(p, s.logits + r * kTile, valid, width, log2_factor[r0 + r], sign);
                const int64_t target = r0 + r < q.rows ? q.targets[r0 + r] - from : -1;
                if (target < 0 || target >= valid) continue;
                // Rounded once: what is left of a probability near 1 is small.
                const double scaled = std::exp2(static_cast<double>(x[target]) * 1.4426950408889634 + log2_factor[r0 + r]) * sign;
                p[target] = store<bf16>(static_cast<float>(scaled - scale));
            }
            Tiles::transpose(s.turned + r0, q.padded, s.softmax, kTile, strip, width);
        }
        if (valid == width) {
            Tiles::multiply(dhead + from * q.cols, q.cols, s.turned, q.padded, hidden_panels, q.padded * kPanel, valid, q.cols,
                            q.padded, true);
        } else {
            Tiles::multiply(s.head_gradient, q.cols, s.turned, q.padded, hidden_panels, q.padded * kPanel, width, q.cols,
                            q.padded, false);
            for (int64_t i = 0; i < valid * q.cols; i++) dhead[from * q.cols + i] += s.head_gradient[i];
        }
    }
    Tiles::end();
}

// ---- entry -------------------------------------------------------------------------------------------------------

// One row's softmax from those of the threads, whose parts of the vocabulary follow each other.
struct Total {
    double max, sum, weighted;
    float at_target;
    int64_t first;
};

Total total_of(const Space* spaces, int64_t threads, int64_t r, const int64_t* begins, int64_t target) {
    Total t{kLowest, 0, 0, 0, 0};
    for (int64_t i = 0; i < threads; i++) {
        const Row& row = spaces[i].state[r];
        if (row.max > t.max) {
            t.max = row.max;
            t.first = row.first;
        }
        if (target >= begins[i] && target < begins[i + 1]) t.at_target = row.at_target;
    }
    for (int64_t i = 0; i < threads; i++) {
        const Row& row = spaces[i].state[r];
        const double below = row.max - t.max;
        t.sum += row.sum * std::exp(below);
        t.weighted += (row.weighted + row.sum * below) * std::exp(below);
    }
    return t;
}

constexpr int64_t kMaxThreads = 256;

// Rows [0, rows) of the operands given, rows <= kRows.
int32_t block(kt_ctx* ctx, float* loss, float* entropy, int32_t* correct, bf16* dhidden, float* dhead, const bf16* hidden,
              const bf16* head, const int32_t* targets, int64_t rows, int64_t vocab, int64_t cols, float grad_scale) {
    const int64_t padded = round_up(rows, 32);
    const int64_t tiles = (vocab + kTile - 1) / kTile;
    const int64_t threads = std::min<int64_t>(std::min<int64_t>(ctx->threads, tiles), kMaxThreads);
    const bool gradient = dhidden != nullptr;
    const bool head_gradient = dhead != nullptr;

    Cutter count{nullptr};
    count.take<bf16>(padded * cols);
    count.take<bf16>(head_gradient ? padded * cols : 0);
    count.take<float>(padded);
    for (int64_t i = 0; i < threads; i++) count.space(padded, cols, gradient, head_gradient);
    char* memory = static_cast<char*>(scratch(ctx, count.used));
    if (!memory) return no_scratch(ctx, "linear_cross_entropy", count.used);
    Cutter cut{memory};
    bf16* rows_of_hidden = cut.take<bf16>(padded * cols);
    bf16* hidden_panels = cut.take<bf16>(head_gradient ? padded * cols : 0);
    float* log2_factor = cut.take<float>(padded);
    Space spaces[kMaxThreads];
    int64_t begins[kMaxThreads + 1];
    for (int64_t i = 0; i < threads; i++) {
        spaces[i] = cut.space(padded, cols, gradient, head_gradient);
        begins[i] = tiles * i / threads * kTile;
    }
    begins[threads] = vocab;

    Tiles::rows(rows_of_hidden, cols, hidden, cols, rows, cols, padded, 1);
    const Problem q{rows_of_hidden, head, targets, rows, padded, vocab, cols};
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(static, 1)
    for (int64_t i = 0; i < threads; i++) forward_tiles(q, spaces[i], begins[i], begins[i + 1], gradient);

    std::fill(log2_factor, log2_factor + padded, 0.0f);
    parallel_for(ctx, rows, rows_grain(cols), [&](int64_t first_row, int64_t last_row) {
    for (int64_t r = first_row; r < last_row; r++) {
        const Total t = total_of(spaces, threads, r, begins, targets[r]);
        loss[r] = static_cast<float>(std::log(t.sum) - (t.at_target - t.max));
        entropy[r] = static_cast<float>(std::log(t.sum) - t.weighted / t.sum);
        correct[r] = t.first == targets[r] && t.at_target == t.max ? 1 : 0;
        log2_factor[r] =
            static_cast<float>(std::log2(std::fabs(static_cast<double>(grad_scale)) / t.sum) - t.max * 1.4426950408889634);
        if (!gradient) continue;
        // Each thread's sums belong to its own maximum; the target's own gradient is exact.
        float factors[kMaxThreads];
        for (int64_t i = 0; i < threads; i++) {
            factors[i] = static_cast<float>(std::exp(spaces[i].state[r].max - t.max) / t.sum * grad_scale);
        }
        const bf16* own = head + static_cast<int64_t>(targets[r]) * cols;
        for (int64_t c = 0; c < cols; c++) {
            float sum = -grad_scale * load(own[c]);
            for (int64_t i = 0; i < threads; i++) sum += spaces[i].dhidden[r * cols + c] * factors[i];
            dhidden[r * cols + c] = store<bf16>(sum);
        }
    }
    });
    if (!head_gradient) return KT_OK;

    Tiles::panels(hidden_panels, padded * kPanel, rows_of_hidden, cols, padded, cols);
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(static, 1)
    for (int64_t i = 0; i < threads; i++) {
        head_tiles(q, spaces[i], dhead, hidden_panels, log2_factor, grad_scale, begins[i], begins[i + 1]);
    }
    return KT_OK;
}

#endif

int32_t linear_cross_entropy_supported(kt_ctx*, int32_t* supported, int64_t cols, int32_t dtype) {
    *supported = dtype == KT_BF16 && cols > 0 && cols % 32 == 0 && processor().amx_bf16 ? 1 : 0;
    return KT_OK;
}

int32_t linear_cross_entropy(kt_ctx* ctx, float* loss, float* entropy, int32_t* correct, void* dhidden, float* dhead,
                             const void* hidden, const void* head, const int32_t* targets, int64_t rows, int64_t vocab,
                             int64_t cols, float grad_scale, int32_t dtype) {
    for (int64_t r = 0; r < rows; r++) {
        if (targets[r] < 0 || targets[r] >= vocab) {
            return fail(ctx, KT_BAD_ARGUMENT, "linear_cross_entropy: target %d of row %lld is outside the %lld logits",
                        targets[r], static_cast<long long>(r), static_cast<long long>(vocab));
        }
    }
    int32_t supported = 0;
    linear_cross_entropy_supported(ctx, &supported, cols, dtype);
    if (!supported) {
        return fail(ctx, KT_BAD_ARGUMENT, "linear_cross_entropy: %lld columns of dtype %d are not supported here",
                    static_cast<long long>(cols), static_cast<int>(dtype));
    }
#if defined(__x86_64__)
    bf16* dh = static_cast<bf16*>(dhidden);
    const bf16* h = static_cast<const bf16*>(hidden);
    for (int64_t r = 0; r < rows; r += kRows) { // the first takes most scratch memory: want of it is told before anything is added
        const int32_t status = block(ctx, loss + r, entropy + r, correct + r, dh ? dh + r * cols : nullptr, dhead, h + r * cols,
                                     static_cast<const bf16*>(head), targets + r, std::min(kRows, rows - r), vocab, cols,
                                     grad_scale);
        if (status != KT_OK) return status;
    }
#else
    (void)loss, (void)entropy, (void)correct, (void)dhidden, (void)dhead, (void)hidden, (void)head, (void)grad_scale;
#endif
    return KT_OK;
}

}  // namespace

void add_linear_cross_entropy(kt_table& table) {
    table.linear_cross_entropy_supported = linear_cross_entropy_supported;
    table.linear_cross_entropy = linear_cross_entropy;
}

}  // namespace kt
