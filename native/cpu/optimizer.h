// What the optimisers share: how a parameter is kept, and the scalars of an AdamW step. Files that include this are compiled
// with -ffp-contract=off and join sums and products only where torch does, so results are equal to the bit.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "bf16.h"

namespace kt {

// An F32 master kept in two halves: the BF16 nearest to it, and the signed distance in units of the last F32 bit.
[[gnu::always_inline]] inline float join(bf16 high, int16_t low) {
    const uint32_t bits = (static_cast<uint32_t>(high.bits) << 16) + static_cast<uint32_t>(static_cast<int32_t>(low));
    float master;
    std::memcpy(&master, &bits, sizeof master);
    return master;
}

[[gnu::always_inline]] inline void split(float master, bf16& high, int16_t& low) {
    uint32_t bits;
    std::memcpy(&bits, &master, sizeof bits);
    if (master != master) bits = 0x7fc00000u;  // a card's own, 0x7fffffff, rounded up would be -0
    high.bits = static_cast<uint16_t>((bits + 0x8000u) >> 16);
    low = static_cast<int16_t>(bits & 0xffffu);
}

// Element i of a master: in two halves where Split, else param holds it whole.
template <bool Split, typename P>
[[gnu::always_inline]] inline float load_master(const P* param, const int16_t* low, int64_t i) {
    if constexpr (Split) {
        return join(param[i], low[i]);
    } else {
        return load(param[i]);
    }
}

template <bool Split, typename P>
[[gnu::always_inline]] inline void store_master(P* param, int16_t* low, int64_t i, float master) {
    if constexpr (Split) {
        split(master, param[i], low[i]);
    } else {
        param[i] = store<P>(master);
    }
}

// Calls f(is split, param) with values of the types that a parameter has; false where there is no such combination.
template <typename F>
bool with_master(int32_t param_dtype, bool split, const F& f) {
    if (split && param_dtype != KT_BF16) return false;
    return with_type(param_dtype, [&](auto param) {
        if constexpr (sizeof(param) == sizeof(bf16)) {
            if (split) {
                f(std::true_type{}, param);
                return;
            }
        }
        f(std::false_type{}, param);
    });
}

// What one step needs of its scalars, each rounded once from F64, as torch does.
struct AdamwStep {
    float grad_scale, decay, weight1, b2, weight2, step_size, root_correction2, eps;
};

inline AdamwStep adamw_step(double lr, double b1, double b2, double eps, double weight_decay, double correction1,
                            double correction2, float grad_scale) {
    const auto rounded = [](double x) { return static_cast<float>(x); };
    return {grad_scale,
            rounded(1 - lr * weight_decay),
            rounded(1 - b1),
            rounded(b2),
            rounded(1 - b2),
            rounded(-(lr / correction1)),
            rounded(std::sqrt(correction2)),
            rounded(eps)};
}

}  // namespace kt
