// BF16 as storage: the upper half of an F32.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace kt {

struct bf16 {
    uint16_t bits;
};

[[gnu::always_inline]] inline float load(float x) { return x; }

[[gnu::always_inline]] inline float load(bf16 x) {
    const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
    float f;
    std::memcpy(&f, &bits, sizeof f);
    return f;
}

// f rounded to what BF16 holds, as the bits of an F32: to nearest, ties to even; NaN stays NaN. Without branches and, until
// the last step of a store, in 32 bits, so that loops over it vectorise without narrowing and widening in between.
[[gnu::always_inline]] inline uint32_t round_bits(float f) {
    uint32_t bits;
    std::memcpy(&bits, &f, sizeof bits);
    const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
    return f != f ? bits | 0x400000 : rounded;
}

[[gnu::always_inline]] inline bf16 round_bf16(float f) { return {static_cast<uint16_t>(round_bits(f) >> 16)}; }

template <typename T>
T store(float f);
template <>
[[gnu::always_inline]] inline float store<float>(float f) {
    return f;
}
template <>
[[gnu::always_inline]] inline bf16 store<bf16>(float f) {
    return round_bf16(f);
}

// f as it reads back after being stored as T.
template <typename T>
float rounded(float f);
template <>
[[gnu::always_inline]] inline float rounded<float>(float f) {
    return f;
}
template <>
[[gnu::always_inline]] inline float rounded<bf16>(float f) {
    const uint32_t bits = round_bits(f) & 0xffff0000;
    float r;
    std::memcpy(&r, &bits, sizeof r);
    return r;
}

// Calls f with a value of the type that dtype names; false where it is neither F32 nor BF16.
template <typename F>
bool with_type(int32_t dtype, const F& f) {
    if (dtype == KT_F32) {
        f(float{});
        return true;
    }
    if (dtype == KT_BF16) {
        f(bf16{});
        return true;
    }
    return false;
}

// The same for two dtypes at once.
template <typename F>
bool with_types(int32_t first, int32_t second, const F& f) {
    bool known = false;
    with_type(first, [&](auto a) { known = with_type(second, [&](auto b) { f(a, b); }); });
    return known;
}

}  // namespace kt
