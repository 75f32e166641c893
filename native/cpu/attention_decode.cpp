// Attention of single new tokens over what their sequences have cached. The unit of work is some of the positions that one row
// sees, with all of its heads: keys and values are read once, in the order they lie. What the parts of a row found is then put
// together; how many they are depends on the row's own length alone, so a row's result is the same in every batch.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "bf16.h"
#include "bf16_products.h"
#include "context.h"
#include "few_products.h"
#include "math.h"
#include "table.h"

namespace kt {
namespace {

constexpr int kKeys = 4;         // whose scores are computed together
constexpr int kValues = 16;      // that are added to an output before it is stored
constexpr int64_t kAhead = 16;   // how many rows ahead memory is asked for: of 4, 8, 16 and 32 the fastest (AMD Zen 5)
constexpr int64_t kStored = 64;  // values that are rounded and stored together

// scores[h, i] = q[h] . k[i] * scale, of R queries [R, dim] and O keys, stride elements apart.
template <int Bytes, int O, int R, typename T>
[[gnu::always_inline]] inline void score_block(float* scores, int64_t ld, const float* q, const T* k, int64_t stride, int64_t dim,
                                               float scale) {
    float sums[O * kBlockRows];
    block<Bytes, O, R>(sums, q, dim, k, stride, dim);
    for (int h = 0; h < R; h++) {
        for (int i = 0; i < O; i++) scores[h * ld + i] = sums[i * kBlockRows + h] * scale;
    }
}

template <int Bytes, int O, typename T>
[[gnu::always_inline]] inline void score_heads(float* scores, int64_t ld, const float* q, const T* k, int64_t stride, int64_t heads,
                                               int64_t dim, float scale) {
    int64_t h = 0;
    for (; h + 4 <= heads; h += 4) score_block<Bytes, O, 4>(scores + h * ld, ld, q + h * dim, k, stride, dim, scale);
    if (h + 2 <= heads) {
        score_block<Bytes, O, 2>(scores + h * ld, ld, q + h * dim, k, stride, dim, scale);
        h += 2;
    }
    if (h < heads) score_block<Bytes, O, 1>(scores + h * ld, ld, q + h * dim, k, stride, dim, scale);
}

// Of R heads and C vectors: out[h] += sum over i of p[h, i] * v[i], in the order of i; R * C sums at once, as each waits for itself.
template <int Bytes, int R, int C, typename T>
[[gnu::always_inline]] inline void add_columns(float* out, const float* p, int64_t ld, const T* v, int64_t stride, int64_t n,
                                               int64_t dim) {
    using V = Wide<Bytes>;
    typename V::Floats acc[R][C];
#pragma GCC unroll 4
    for (int h = 0; h < R; h++) {
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) V::read(acc[h][c], out + h * dim + c * V::kLanes);
    }
    for (int64_t i = 0; i < n; i++) {
        typename V::Floats values[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) {
            V::read(values[c], v + i * stride + c * V::kLanes);
            __builtin_prefetch(v + (i + kAhead) * stride + c * V::kLanes);
        }
#pragma GCC unroll 4
        for (int h = 0; h < R; h++) {
#pragma GCC unroll 4
            for (int c = 0; c < C; c++) acc[h][c] += p[h * ld + i] * values[c];
        }
    }
#pragma GCC unroll 4
    for (int h = 0; h < R; h++) std::memcpy(out + h * dim, acc[h], sizeof acc[h]);
}

// out[h] += sum over i of p[h, i] * v[i], of R heads and n values, in the order of i.
template <int Bytes, int R, typename T>
[[gnu::always_inline]] inline void add_block(float* out, const float* p, int64_t ld, const T* v, int64_t stride, int64_t n,
                                             int64_t dim) {
    constexpr int kLanes = Wide<Bytes>::kLanes;
    const int64_t whole = dim / kLanes * kLanes;
    int64_t c = 0;
    for (; c + 4 * kLanes <= whole; c += 4 * kLanes) add_columns<Bytes, R, 4>(out + c, p, ld, v + c, stride, n, dim);
    for (; c < whole; c += kLanes) add_columns<Bytes, R, 1>(out + c, p, ld, v + c, stride, n, dim);
    for (int h = 0; h < R; h++) {
        for (int64_t c = whole; c < dim; c++) {
            float sum = out[h * dim + c];
            for (int64_t i = 0; i < n; i++) sum = __builtin_fmaf(p[h * ld + i], load(v[i * stride + c]), sum);
            out[h * dim + c] = sum;
        }
    }
}

template <int Bytes, typename T>
[[gnu::always_inline]] inline void add_heads(float* out, const float* p, int64_t ld, const T* v, int64_t stride, int64_t heads,
                                             int64_t n, int64_t dim) {
    int64_t h = 0;
    for (; h + 4 <= heads; h += 4) add_block<Bytes, 4>(out + h * dim, p + h * ld, ld, v, stride, n, dim);
    if (h + 2 <= heads) {
        add_block<Bytes, 2>(out + h * dim, p + h * ld, ld, v, stride, n, dim);
        h += 2;
    }
    if (h < heads) add_block<Bytes, 1>(out + h * dim, p + h * ld, ld, v, stride, n, dim);
}

// Cached keys or values that follow each other, of all key heads, and what each head makes of its key head's.
template <typename T>
struct Cached {
    const T* rows;  // [n, kv_heads, dim]
    int64_t n, kv_heads, group, dim;

    int64_t stride() const { return kv_heads * dim; }

    template <int Bytes>
    [[gnu::always_inline]] void score(float* scores, int64_t ld, const float* q, float scale) const {
        int64_t i = 0;
        for (; i + kKeys <= n; i += kKeys) score_keys<Bytes, kKeys>(scores, ld, q, i, scale);
        for (; i < n; i++) score_keys<Bytes, 1>(scores, ld, q, i, scale);
    }
    template <int Bytes, int O>
    [[gnu::always_inline]] void score_keys(float* scores, int64_t ld, const float* q, int64_t i, float scale) const {
        for (int64_t head = 0; head < kv_heads; head++) {
            const int64_t h = head * group;
            score_heads<Bytes, O>(scores + h * ld + i, ld, q + h * dim, rows + i * stride() + head * dim, stride(), group, dim, scale);
        }
    }
    template <int Bytes>
    [[gnu::always_inline]] void add(float* out, const float* p, int64_t ld) const {
        for (int64_t i = 0; i < n; i += kValues) {
            for (int64_t head = 0; head < kv_heads; head++) {
                const int64_t h = head * group;
                add_heads<Bytes>(out + h * dim, p + h * ld + i, ld, rows + i * stride() + head * dim, stride(), group,
                                 std::min<int64_t>(kValues, n - i), dim);
            }
        }
    }

    void score_base(float* scores, int64_t ld, const float* q, float scale) const { score<16>(scores, ld, q, scale); }
    void add_base(float* out, const float* p, int64_t ld) const { add<16>(out, p, ld); }
#if defined(__x86_64__)
#define KT_LEVEL(NAME, BYTES, ARCH)                                                                                      \
    __attribute__((target(ARCH))) void score_##NAME(float* scores, int64_t ld, const float* q, float scale) const {      \
        score<BYTES>(scores, ld, q, scale);                                                                              \
    }                                                                                                                    \
    __attribute__((target(ARCH))) void add_##NAME(float* out, const float* p, int64_t ld) const { add<BYTES>(out, p, ld); }
    KT_LEVEL(v3, 32, "arch=x86-64-v3")
    KT_LEVEL(v4, 64, "arch=x86-64-v4,prefer-vector-width=512")
#undef KT_LEVEL

    // R heads' scores of four keys, of which the first `keys` count.
    template <int R>
    KT_AVX512_BF16 static void store_scores(float* scores, int64_t ld, const bf16* q, const bf16* const* k, int64_t keys,
                                            int64_t dim, int64_t ahead, float scale) {
        alignas(64) float sums[kKeys * kBlockRows];
        dot_products<R>(sums, q, dim, k, dim, ahead);
        for (int h = 0; h < R; h++) {
            for (int64_t o = 0; o < keys; o++) scores[h * ld + o] = sums[h * kKeys + o] * scale;
        }
    }

    // scores_of with queries in BF16.
    KT_AVX512_BF16 void scores_by_dot_products(float* scores, int64_t ld, const bf16* q, float scale) const {
        const int64_t ahead = kAhead * stride() * static_cast<int64_t>(sizeof(bf16));
        for (int64_t i = 0; i < n; i += kKeys) {
            const int64_t keys = std::min<int64_t>(kKeys, n - i);
            for (int64_t head = 0; head < kv_heads; head++) {
                const bf16* k[kKeys];
                for (int64_t o = 0; o < kKeys; o++) k[o] = rows + (i + std::min(o, keys - 1)) * stride() + head * dim;
                int64_t h = head * group;
                const int64_t end = h + group;
                for (; h + 4 <= end; h += 4) store_scores<4>(scores + h * ld + i, ld, q + h * dim, k, keys, dim, ahead, scale);
                if (end - h == 3) store_scores<3>(scores + h * ld + i, ld, q + h * dim, k, keys, dim, ahead, scale);
                if (end - h == 2) store_scores<2>(scores + h * ld + i, ld, q + h * dim, k, keys, dim, ahead, scale);
                if (end - h == 1) store_scores<1>(scores + h * ld + i, ld, q + h * dim, k, keys, dim, ahead, scale);
            }
        }
    }
#endif

    // scores[h, i] = q[h] . its key i * scale
    void scores_of(float* scores, int64_t ld, const float* q, float scale) const {
#if defined(__x86_64__)
        if (processor().vectors == Vectors::avx512) return score_v4(scores, ld, q, scale);
        if (processor().vectors == Vectors::avx2) return score_v3(scores, ld, q, scale);
#endif
        score_base(scores, ld, q, scale);
    }

    // out[h] += sum over i of p[h, i] * its value i
    void add_to(float* out, const float* p, int64_t ld) const {
#if defined(__x86_64__)
        if (processor().vectors == Vectors::avx512) return add_v4(out, p, ld);
        if (processor().vectors == Vectors::avx2) return add_v3(out, p, ld);
#endif
        add_base(out, p, ld);
    }
};

// The exponentials of scores less the largest, and their sum.
struct Softmax {
    float max, sum;
};

KT_CLONES Softmax exponentials(float* s, int64_t n) {
    float max = s[0];
#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < n; i++) max = s[i] > max ? s[i] : max;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        const float e = exp_fast(s[i] - max);
        s[i] = e;
        sum += e;
    }
    return {max, sum};
}

// y[i] = sum over n parts of weights[p] * parts[p * step + i]
KT_CLONES void add_weighted(float* y, const float* parts, int64_t step, const float* weights, int64_t n, int64_t dim) {
    for (int64_t i = 0; i < dim; i++) y[i] = weights[0] * parts[i];
    for (int64_t p = 1; p < n; p++) {
        for (int64_t i = 0; i < dim; i++) y[i] += weights[p] * parts[p * step + i];
    }
}

constexpr int64_t kMostParts = 64;  // of a row: as many threads share it

struct Shape {
    int64_t rows, heads, kv_heads, dim;
    float scale;
    int64_t window;

    int64_t group() const { return heads / kv_heads; }
    int64_t first(int64_t position) const { return window > 0 ? std::max<int64_t>(0, position - window + 1) : 0; }
    int64_t seen(int64_t position) const { return position - first(position) + 1; }

    // Positions of one part: four parts, but none shorter than a thread is worth waking for, nor longer than 256 before there are
    // kMostParts.
    int64_t part(int64_t seen) const {
        return std::max(std::min<int64_t>(std::max<int64_t>((seen + 3) / 4, 32), 256), (seen + kMostParts - 1) / kMostParts);
    }
    int64_t parts(int64_t seen) const { return (seen + part(seen) - 1) / part(seen); }
};

template <typename T>
class Decode {
  public:
    Decode(const Shape& shape, T* y, void* const* k_cache, void* const* v_cache, const int64_t* capacity,
           const int64_t* positions, const T* q)
        : shape_(shape), y_(y), k_cache_(k_cache), v_cache_(v_cache), capacity_(capacity), positions_(positions), q_(q) {}

    void store_new(const T* k, const T* v) const {
        const int64_t width = shape_.kv_heads * shape_.dim;
        for (int64_t r = 0; r < shape_.rows; r++) {
            const int64_t at = positions_[r] % capacity_[r] * width;
            std::memcpy(static_cast<T*>(k_cache_[r]) + at, k + r * width, static_cast<size_t>(width) * sizeof(T));
            std::memcpy(static_cast<T*>(v_cache_[r]) + at, v + r * width, static_cast<size_t>(width) * sizeof(T));
        }
    }

    int32_t run(kt_ctx* ctx) const {
        int64_t longest = 0, units = 0;
        for (int64_t r = 0; r < shape_.rows; r++) {
            longest = std::max(longest, shape_.part(shape_.seen(positions_[r])));
            units += shape_.parts(shape_.seen(positions_[r]));
        }
        // Where the parts of each row begin; then of each part its output and the softmax of each head.
        const int64_t width = shape_.heads * shape_.dim;
        const int64_t piece = std::max<int64_t>(1, units / (4 * ctx->threads));
        const int64_t pieces = (units + piece - 1) / piece;
        const int64_t found = units * (width + 2 * shape_.heads);
        const int64_t each = width + shape_.heads * longest;  // what the unit at work needs
        const int64_t index = (shape_.rows + 1) * static_cast<int64_t>(sizeof(int64_t));
        const int64_t bytes = index + (found + pieces * each) * static_cast<int64_t>(sizeof(float));
        char* room = static_cast<char*>(scratch(ctx, bytes));
        if (!room) return no_scratch(ctx, "attention_decode", bytes);
        int64_t* begins = reinterpret_cast<int64_t*>(room);
        begins[0] = 0;
        for (int64_t r = 0; r < shape_.rows; r++) begins[r + 1] = begins[r] + shape_.parts(shape_.seen(positions_[r]));
        float* memory = reinterpret_cast<float*>(room + index);
        Softmax* softmax = reinterpret_cast<Softmax*>(memory + units * width);
        take_turns(ctx, units, piece, piece, [&](int64_t begin, int64_t end) {
            float* own = memory + found + begin / piece * each;
            int64_t r = std::upper_bound(begins, begins + shape_.rows, begin) - begins - 1;
            for (int64_t u = begin; u < end; u++) {
                while (u == begins[r + 1]) r++;
                part(memory + u * width, softmax + u * shape_.heads, own, r, u - begins[r]);
            }
        });
        const int64_t average = (units + shape_.rows - 1) / shape_.rows;
        const int64_t heads = std::max<int64_t>(1, kGrain / (average * shape_.dim));  // that are put together in one go
        take_turns(ctx, shape_.rows * shape_.heads, heads, heads, [&](int64_t begin, int64_t end) {
            for (int64_t h = begin; h < end; h++) {
                const int64_t r = h / shape_.heads, head = h % shape_.heads, u = begins[r];
                join(y_ + h * shape_.dim, memory + u * width + head * shape_.dim, softmax + u * shape_.heads + head,
                     begins[r + 1] - u);
            }
        });
        return KT_OK;
    }

  private:
    // Part p of row r: out is [heads, dim], not yet divided by the sum.
    void part(float* out, Softmax* softmax, float* memory, int64_t r, int64_t p) const {
        const int64_t seen = shape_.seen(positions_[r]), length = shape_.part(seen), width = shape_.heads * shape_.dim;
        const int64_t first = p * length, n = std::min(length, seen - first);
        const T* q = q_ + r * width;
        float* queries = memory;
        float* scores = memory + width;  // [heads, n]
        for (int64_t i = 0; i < width; i++) out[i] = 0;
#if defined(__x86_64__)
        const bool dots = sizeof(T) == sizeof(bf16) && processor().bf16_dot_products;
#else
        const bool dots = false;
#endif
        for (int64_t i = 0; i < width && !dots; i++) queries[i] = load(q[i]);
        each_piece(k_cache_[r], r, first, n, [&](int64_t i, const Cached<T>& keys) {
#if defined(__x86_64__)
            if constexpr (sizeof(T) == sizeof(bf16)) {
                if (dots) return keys.scores_by_dot_products(scores + i, n, q, shape_.scale);
            }
#endif
            keys.scores_of(scores + i, n, queries, shape_.scale);
        });
        for (int64_t h = 0; h < shape_.heads; h++) softmax[h] = exponentials(scores + h * n, n);
        each_piece(v_cache_[r], r, first, n,
                   [&](int64_t i, const Cached<T>& values) { values.add_to(out, scores + i, n); });
    }

    // y [dim] of one head, of what n parts of its row found.
    void join(T* y, const float* out, const Softmax* softmax, int64_t n) const {
        float weights[kMostParts];
        float max = softmax[0].max, sum = 0;
        for (int64_t p = 1; p < n; p++) max = std::max(max, softmax[p * shape_.heads].max);
        for (int64_t p = 0; p < n; p++) {
            weights[p] = std::exp(softmax[p * shape_.heads].max - max);
            sum += weights[p] * softmax[p * shape_.heads].sum;
        }
        for (int64_t p = 0; p < n; p++) weights[p] /= sum;
        float whole[kStored];
        for (int64_t c = 0; c < shape_.dim; c += kStored) {
            const int64_t count = std::min(kStored, shape_.dim - c);
            add_weighted(whole, out + c, shape_.heads * shape_.dim, weights, n, count);
            for (int64_t i = 0; i < count; i++) y[c + i] = store<T>(whole[i]);
        }
    }

    // f(how many of the n positions from `first` of those seen come before, what is cached of those that lie side by side): one
    // piece, or two of a ring.
    template <typename F>
    void each_piece(const void* cache, int64_t r, int64_t first, int64_t n, const F& f) const {
        for (int64_t i = 0; i < n;) {
            const int64_t row = (shape_.first(positions_[r]) + first + i) % capacity_[r];
            const int64_t length = std::min(n - i, capacity_[r] - row);
            f(i, Cached<T>{static_cast<const T*>(cache) + row * shape_.kv_heads * shape_.dim, length, shape_.kv_heads,
                           shape_.group(), shape_.dim});
            i += length;
        }
    }

    const Shape shape_;
    T* const y_;
    void* const* const k_cache_;
    void* const* const v_cache_;
    const int64_t* const capacity_;
    const int64_t* const positions_;
    const T* const q_;
};

int32_t attention_decode(kt_ctx* ctx, void* y, void* const* k_cache, void* const* v_cache, const int64_t* capacity,
                         const int64_t* positions, const void* q, const void* k, const void* v, int64_t rows, int64_t heads,
                         int64_t kv_heads, int64_t head_dim, float scale, int64_t window, int32_t dtype) {
    const Shape shape{rows, heads, kv_heads, head_dim, scale, window};
    if (kv_heads < 1 || heads % kv_heads != 0) {
        return fail(ctx, KT_BAD_ARGUMENT, "attention_decode: %lld heads share %lld key heads", static_cast<long long>(heads),
                    static_cast<long long>(kv_heads));
    }
    for (int64_t r = 0; r < rows; r++) {
        if (positions[r] < 0 || capacity[r] < 1 || shape.seen(positions[r]) > capacity[r]) {
            return fail(ctx, KT_BAD_ARGUMENT, "attention_decode: row %lld at position %lld sees more than its cache of %lld",
                        static_cast<long long>(r), static_cast<long long>(positions[r]), static_cast<long long>(capacity[r]));
        }
    }
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        if (rows == 0) return;
        const Decode<T> decode(shape, static_cast<T*>(y), k_cache, v_cache, capacity, positions, static_cast<const T*>(q));
        decode.store_new(static_cast<const T*>(k), static_cast<const T*>(v));
        status = decode.run(ctx);
    });
    return known ? status : bad_dtype(ctx, "attention_decode", dtype);
}

}  // namespace

void add_attention_decode(kt_table& table) { table.attention_decode = attention_decode; }

}  // namespace kt
