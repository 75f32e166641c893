#include "context.h"
#include "math.h"
#include "optimizer.h"
#include "table.h"

namespace kt {
namespace {

constexpr int64_t kBlock = 256;  // elements that share a scale
constexpr float kTiny = 1e-38f;  // the reference's smallest divisor

// ---- codes -------------------------------------------------------------------------------------------------------

// Finds the nearest of 256 rising numbers in [-1, 1]: how many midpoints between neighbours lie below a value, so the lower
// one of a tie. Magnitudes are cut into buckets by exponent and seven bits of mantissa, of which none may hold two
// midpoints: the count at the bucket's lower end, and one comparison more.
class Nearest {
  public:
    // False where the numbers do not rise or lie too close for the buckets.
    bool build(const float* map) {
        for (int c = 0; c < 255; c++) {
            if (!(map[c] < map[c + 1])) return false;
            midpoints_[c] = (map[c] + map[c + 1]) / 2;
        }
        midpoints_[255] = HUGE_VALF;
        int32_t below = 0;
        bool fine = true;
        const auto add = [&](int32_t bucket, float lowest, float highest) {
            while (midpoints_[below] < lowest) below++;
            below_[bucket] = below;
            fine = fine && (below == 255 || !(midpoints_[below + 1] < highest));
        };
        for (int32_t i = kBuckets - 1; i >= 0; i--) add(kBuckets + i, -edge(i + 1), -edge(i));
        for (int32_t i = 0; i < kBuckets; i++) add(i, edge(i), edge(i + 1));
        return fine;
    }

    [[gnu::always_inline]] int32_t operator()(float y) const {
        const uint32_t bits = bits_of_float(y);
        int32_t bucket = static_cast<int32_t>((bits & 0x7fffffffu) >> 16) - kFirst;
        bucket = bucket < 0 ? 0 : bucket > kBuckets - 1 ? kBuckets - 1 : bucket;
        bucket += bits >> 31 ? kBuckets : 0;
        const int32_t below = below_[bucket];
        return below + (midpoints_[below] < y ? 1 : 0);
    }

  private:
    static constexpr int32_t kFirst = (127 - 25) << 7;            // upper bits of 2^-25, below which all is one bucket
    static constexpr int32_t kBuckets = (127 << 7) - kFirst + 1;  // up to the one that begins at 1

    // The least magnitude in a bucket.
    static float edge(int32_t bucket) {
        return bucket == 0 ? 0.0f : float_of_bits(static_cast<uint32_t>(kFirst + bucket) << 16);
    }

    int32_t below_[2 * kBuckets];
    float midpoints_[256];
};

// Codes of values divided by the largest magnitude. A short block is divided, a whole one multiplied by the reciprocal, as
// the reference does.
[[gnu::always_inline]] inline void quantize(uint8_t* codes, float* absmax, const float* x, int64_t n,
                                             const Nearest& nearest) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t magnitude = bits_of_float(x[i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    const float found = float_of_bits(largest);
    const float divisor = found > kTiny ? found : kTiny;
    float y[kBlock];
    if (n == kBlock) {
        *absmax = found;
        const float reciprocal = 1.0f / divisor;
        for (int64_t i = 0; i < n; i++) y[i] = x[i] * reciprocal;
    } else {
        *absmax = divisor;
        for (int64_t i = 0; i < n; i++) y[i] = x[i] / divisor;
    }
    int32_t wide[kBlock];
    for (int64_t i = 0; i < n; i++) wide[i] = nearest(y[i] > 1.0f ? 1.0f : y[i] < -1.0f ? -1.0f : y[i]);
    for (int64_t i = 0; i < n; i++) codes[i] = static_cast<uint8_t>(wide[i]);
}

[[gnu::always_inline]] inline void restore(float* x, const uint8_t* codes, float absmax, const float* map, int64_t n) {
    int32_t wide[kBlock];
    for (int64_t i = 0; i < n; i++) wide[i] = codes[i];
    for (int64_t i = 0; i < n; i++) x[i] = map[wide[i]] * absmax;
}

// ---- one block ---------------------------------------------------------------------------------------------------

struct Moment {
    uint8_t* codes;
    float* absmax;
    const float* map;
    const Nearest* nearest;
};

template <bool Split, typename P, typename G>
KT_CLONES void update_block(P* param, int16_t* low, const Moment& m, const Moment& v, const G* grad, int64_t block, int64_t n,
                            float b1, const AdamwStep& s) {
    float ms[kBlock];
    float vs[kBlock];
    restore(ms, m.codes + block * kBlock, m.absmax[block], m.map, n);
    restore(vs, v.codes + block * kBlock, v.absmax[block], v.map, n);
    for (int64_t i = 0; i < n; i++) {
        const float g = load(grad[i]) * s.grad_scale;
        ms[i] = std::fma(g, s.weight1, ms[i] * b1);
        vs[i] = std::fma(s.weight2 * g, g, vs[i] * s.b2);
        const float p = load_master<Split>(param, low, i) * s.decay;
        store_master<Split>(param, low, i, p + s.step_size * ms[i] / (std::sqrt(vs[i]) / s.root_correction2 + s.eps));
    }
    quantize(m.codes + block * kBlock, m.absmax + block, ms, n, *m.nearest);
    quantize(v.codes + block * kBlock, v.absmax + block, vs, n, *v.nearest);
}

// ---- entry -------------------------------------------------------------------------------------------------------

int32_t adamw_8bit(kt_ctx* ctx, void* const* param, int16_t* const* low, uint8_t* const* m, float* const* m_absmax,
                   uint8_t* const* v, float* const* v_absmax, const void* const* grad, const float* m_map,
                   const float* v_map, const int64_t* n, int64_t tensors, double lr, double b1, double b2, double eps,
                   double weight_decay, double correction1, double correction2, float grad_scale, int32_t param_dtype,
                   int32_t grad_dtype) {
    const AdamwStep step = adamw_step(lr, b1, b2, eps, weight_decay, correction1, correction2, grad_scale);
    Nearest nearest_m;
    Nearest nearest_v;
    if (!nearest_m.build(m_map) || !nearest_v.build(v_map)) {
        return fail(ctx, KT_BAD_ARGUMENT, "adamw_8bit: the numbers of a map do not rise, or lie too close together");
    }
    bool known_grad = false;
    const bool known = with_master(param_dtype, low != nullptr, [&](auto split, auto p) {
        using P = decltype(p);
        known_grad = with_type(grad_dtype, [&](auto g) {
            using G = decltype(g);
            for (int64_t i = 0; i < tensors; i++) {
                const Moment first{m[i], m_absmax[i], m_map, &nearest_m};
                const Moment second{v[i], v_absmax[i], v_map, &nearest_v};
                parallel_for(ctx, (n[i] + kBlock - 1) / kBlock, kGrain / kBlock, [&](int64_t begin, int64_t end) {
                    for (int64_t b = begin; b < end; b++) {
                        const int64_t at = b * kBlock;
                        update_block<split.value>(static_cast<P*>(param[i]) + at, split.value ? low[i] + at : nullptr, first,
                                                  second, static_cast<const G*>(grad[i]) + at, b,
                                                  std::min(kBlock, n[i] - at), static_cast<float>(b1), step);
                    }
                });
            }
        });
    });
    if (known && known_grad) return KT_OK;
    return fail(ctx, KT_BAD_ARGUMENT, "adamw_8bit: no variant for dtypes %d (%s), %d", param_dtype, low ? "split" : "whole",
                grad_dtype);
}

}  // namespace

void add_adamw_8bit(kt_table& table) { table.adamw_8bit = adamw_8bit; }

}  // namespace kt
