// Attention of single new tokens over what their sequences have cached. The unit of work is some of the query heads that
// share a key head, of one row; each key and value is read once for all of them. Nothing of a unit depends on another.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "bf16.h"
#include "context.h"
#include "math.h"
#include "table.h"

namespace kt {
namespace {

// scores[h, i] = q[h] . k[i] * scale, of heads queries [heads, dim] and n keys, stride elements apart.
template <typename T>
[[gnu::always_inline]] inline void score_loop(float* scores, int64_t ld, const float* q, const T* k, int64_t stride,
                                              int64_t heads, int64_t n, int64_t dim, float scale) {
    for (int64_t i = 0; i < n; i++) {
        const T* key = k + i * stride;
        for (int64_t h = 0; h < heads; h++) {
            const float* query = q + h * dim;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t c = 0; c < dim; c++) sum += query[c] * load(key[c]);
            scores[h * ld + i] = sum * scale;
        }
    }
}

KT_CLONES void score(float* scores, int64_t ld, const float* q, const float* k, int64_t stride, int64_t heads, int64_t n,
                     int64_t dim, float scale) {
    score_loop(scores, ld, q, k, stride, heads, n, dim, scale);
}
KT_CLONES void score(float* scores, int64_t ld, const float* q, const bf16* k, int64_t stride, int64_t heads, int64_t n,
                     int64_t dim, float scale) {
    score_loop(scores, ld, q, k, stride, heads, n, dim, scale);
}

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

// out[h] += sum over i of p[h, i] * v[i].
template <typename T>
[[gnu::always_inline]] inline void add_values_loop(float* out, const float* p, int64_t ld, const T* v, int64_t stride,
                                                   int64_t heads, int64_t n, int64_t dim) {
    for (int64_t i = 0; i < n; i++) {
        const T* value = v + i * stride;
        for (int64_t h = 0; h < heads; h++) {
            const float weight = p[h * ld + i];
            float* to = out + h * dim;
#pragma omp simd
            for (int64_t c = 0; c < dim; c++) to[c] += weight * load(value[c]);
        }
    }
}

KT_CLONES void add_values(float* out, const float* p, int64_t ld, const float* v, int64_t stride, int64_t heads, int64_t n,
                          int64_t dim) {
    add_values_loop(out, p, ld, v, stride, heads, n, dim);
}
KT_CLONES void add_values(float* out, const float* p, int64_t ld, const bf16* v, int64_t stride, int64_t heads, int64_t n,
                          int64_t dim) {
    add_values_loop(out, p, ld, v, stride, heads, n, dim);
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
        float* memory = static_cast<float*>(scratch(ctx, threads * each * static_cast<int64_t>(sizeof(float))));
        if (!memory) {
            return fail(ctx, KT_OUT_OF_MEMORY, "attention_decode: no memory for the scores of %lld positions",
                        static_cast<long long>(longest));
        }
        const int64_t units = pairs * parts;
        const int64_t piece = (units + threads - 1) / threads;
        take_turns(ctx, units, piece, [&](int64_t begin, int64_t end) {
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
            score(scores + i, n, queries, static_cast<const T*>(k_cache_[r]) + cached, shape_.kv_heads * dim, count, length, dim,
                  shape_.scale);
        });
        float sums[kMaxGroup];
        for (int64_t h = 0; h < count; h++) sums[h] = exponentials(scores + h * n, n);
        each_piece(r, kv_head, [&](int64_t i, int64_t cached, int64_t length) {
            add_values(out, scores + i, n, static_cast<const T*>(v_cache_[r]) + cached, shape_.kv_heads * dim, count, length,
                       dim);
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
