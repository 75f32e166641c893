// Attention of single new tokens over what their sequences have cached. The unit of work is some of the query heads that
// share a key head, of one row; each key and value is read once for all of them. Nothing of a unit depends on another.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "bf16.h"
#include "context.h"
#include "few_products.h"
#include "math.h"
#include "table.h"

namespace kt {
namespace {

constexpr int kKeys = 4;     // whose scores are computed together
constexpr int kValues = 16;  // that are added to an output before it is stored

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

// out[h] += sum over i of p[h, i] * v[i], of R heads and n values, in the order of i.
template <int Bytes, int R, typename T>
[[gnu::always_inline]] inline void add_block(float* out, const float* p, int64_t ld, const T* v, int64_t stride, int64_t n,
                                             int64_t dim) {
    using V = Wide<Bytes>;
    const int64_t whole = dim / V::kLanes * V::kLanes;
    for (int64_t c = 0; c < whole; c += V::kLanes) {
        typename V::Floats acc[R];
#pragma GCC unroll 4
        for (int h = 0; h < R; h++) V::read(acc[h], out + h * dim + c);
        for (int64_t i = 0; i < n; i++) {
            typename V::Floats values;
            V::read(values, v + i * stride + c);
#pragma GCC unroll 4
            for (int h = 0; h < R; h++) acc[h] += p[h * ld + i] * values;
        }
#pragma GCC unroll 4
        for (int h = 0; h < R; h++) std::memcpy(out + h * dim + c, &acc[h], sizeof acc[h]);
    }
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

// The cached keys or values of one key head, and what the heads of its group make of them.
template <typename T>
struct Cached {
    const T* rows;   // [n, dim]
    int64_t stride;  // elements between rows
    int64_t n, dim, heads;

    template <int Bytes>
    [[gnu::always_inline]] void score(float* scores, int64_t ld, const float* q, float scale) const {
        int64_t i = 0;
        for (; i + kKeys <= n; i += kKeys) {
            score_heads<Bytes, kKeys>(scores + i, ld, q, rows + i * stride, stride, heads, dim, scale);
        }
        for (; i < n; i++) score_heads<Bytes, 1>(scores + i, ld, q, rows + i * stride, stride, heads, dim, scale);
    }
    template <int Bytes>
    [[gnu::always_inline]] void add(float* out, const float* p, int64_t ld) const {
        for (int64_t i = 0; i < n; i += kValues) {
            add_heads<Bytes>(out, p + i, ld, rows + i * stride, stride, heads, std::min<int64_t>(kValues, n - i), dim);
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
    KT_LEVEL(v4, 64, "arch=x86-64-v4")
#undef KT_LEVEL
#endif

    // scores[h, i] = q[h] . rows[i] * scale
    void scores_of(float* scores, int64_t ld, const float* q, float scale) const {
#if defined(__x86_64__)
        if (processor().vectors == Vectors::avx512) return score_v4(scores, ld, q, scale);
        if (processor().vectors == Vectors::avx2) return score_v3(scores, ld, q, scale);
#endif
        score_base(scores, ld, q, scale);
    }

    // out[h] += sum over i of p[h, i] * rows[i]
    void add_to(float* out, const float* p, int64_t ld) const {
#if defined(__x86_64__)
        if (processor().vectors == Vectors::avx512) return add_v4(out, p, ld);
        if (processor().vectors == Vectors::avx2) return add_v3(out, p, ld);
#endif
        add_base(out, p, ld);
    }
};

// The exponentials of scores less the largest; returns their sum.
KT_CLONES float exponentials(float* s, int64_t n) {
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
    return sum;
}

constexpr int64_t kMaxGroup = 256;  // query heads that share a key head

struct Shape {
    int64_t rows, heads, kv_heads, dim;
    float scale;
    int64_t window;

    int64_t group() const { return heads / kv_heads; }
    int64_t first(int64_t position) const { return window > 0 ? std::max<int64_t>(0, position - window + 1) : 0; }
    int64_t seen(int64_t position) const { return position - first(position) + 1; }
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
        int64_t longest = 0, work = 0;
        for (int64_t r = 0; r < shape_.rows; r++) {
            longest = std::max(longest, shape_.seen(positions_[r]));
            work += shape_.seen(positions_[r]) * shape_.heads * shape_.dim;
        }
        const int64_t threads = work < kGrain ? 1 : ctx->threads;
        const int64_t pairs = shape_.rows * shape_.kv_heads;
        const int64_t parts = std::min(shape_.group(), (threads + pairs - 1) / pairs);  // of a group of heads
        const int64_t heads = (shape_.group() + parts - 1) / parts;
        const int64_t each = heads * (longest + 2 * shape_.dim);
        const int64_t bytes = threads * each * static_cast<int64_t>(sizeof(float));
        float* memory = static_cast<float*>(scratch(ctx, bytes));
        if (!memory) return no_scratch(ctx, "attention_decode", bytes);
        const int64_t units = pairs * parts;
        const int64_t piece = (units + threads - 1) / threads;
        take_turns(ctx, units, piece, piece, [&](int64_t begin, int64_t end) {
            for (int64_t u = begin; u < end; u++) {
                const int64_t head = u % parts * heads;
                const int64_t count = std::min(heads, shape_.group() - head);
                if (count > 0) {
                    unit(memory + begin / piece * each, u / parts / shape_.kv_heads, u / parts % shape_.kv_heads, head, count);
                }
            }
        });
        return KT_OK;
    }

  private:
    // Heads [head, head + count) of the group of one key head of row r.
    void unit(float* memory, int64_t r, int64_t kv_head, int64_t head, int64_t count) const {
        const int64_t dim = shape_.dim;
        const int64_t n = shape_.seen(positions_[r]);
        float* queries = memory;
        float* out = queries + count * dim;
        float* scores = out + count * dim;
        const int64_t at = (r * shape_.heads + kv_head * shape_.group() + head) * dim;
        for (int64_t i = 0; i < count * dim; i++) {
            queries[i] = load(q_[at + i]);
            out[i] = 0;
        }
        each_piece(r, kv_head, [&](int64_t i, int64_t cached, int64_t length) {
            const Cached<T> keys{static_cast<const T*>(k_cache_[r]) + cached, shape_.kv_heads * dim, length, dim, count};
            keys.scores_of(scores + i, n, queries, shape_.scale);
        });
        float sums[kMaxGroup];
        for (int64_t h = 0; h < count; h++) sums[h] = exponentials(scores + h * n, n);
        each_piece(r, kv_head, [&](int64_t i, int64_t cached, int64_t length) {
            const Cached<T> values{static_cast<const T*>(v_cache_[r]) + cached, shape_.kv_heads * dim, length, dim, count};
            values.add_to(out, scores + i, n);
        });
        for (int64_t h = 0; h < count; h++) {
            for (int64_t c = 0; c < dim; c++) y_[at + h * dim + c] = store<T>(out[h * dim + c] / sums[h]);
        }
    }

    // f(first of the positions seen, where it lies, how many follow each other there): one piece, or two of a ring.
    template <typename F>
    void each_piece(int64_t r, int64_t kv_head, const F& f) const {
        const int64_t n = shape_.seen(positions_[r]);
        for (int64_t i = 0; i < n;) {
            const int64_t row = (shape_.first(positions_[r]) + i) % capacity_[r];
            const int64_t length = std::min(n - i, capacity_[r] - row);
            f(i, (row * shape_.kv_heads + kv_head) * shape_.dim, length);
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
    if (kv_heads < 1 || heads % kv_heads != 0 || shape.group() > kMaxGroup) {
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
