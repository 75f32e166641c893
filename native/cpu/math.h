// exp and tanh for the loops of KT_CLONES functions: no branches and no calls, so the compiler vectorises what uses them.
// Errors and special values are held by native/test/math_test.cpp, which also prints the largest error found.
#pragma once

#include <cstdint>
#include <cstring>

namespace kt {

[[gnu::always_inline]] inline float float_of_bits(uint32_t bits) {
    float f;
    std::memcpy(&f, &bits, sizeof f);
    return f;
}

[[gnu::always_inline]] inline uint32_t bits_of_float(float f) {
    uint32_t bits;
    std::memcpy(&bits, &f, sizeof bits);
    return bits;
}

// 2^n, -126 <= n <= 127, n as a two's complement number.
[[gnu::always_inline]] inline float power_of_two(uint32_t n) { return float_of_bits((n + 127u) << 23); }

// x = n ln 2 + r, |r| <= 0.5 ln 2 and a little. Adding 1.5 * 2^23 leaves n, rounded, in the low bits of the sum. ln 2 is
// split so that n times its upper part (10 bits) is exact. With x NaN, r is NaN and n is anything.
struct ReducedExponent {
    float r;
    uint32_t n;
};

[[gnu::always_inline]] inline ReducedExponent reduce_exponent(float x) {
    const float shift = 12582912.0f;
    const float sum = x * 1.44269504f + shift;
    const float n = sum - shift;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    return {r, bits_of_float(sum) - bits_of_float(shift)};
}

// (e^r - 1 - r) / r^2 on |r| <= 0.5 ln 2: a Chebyshev fit, whose error is below 1/60 of an ulp of e^r.
[[gnu::always_inline]] inline float exp_tail(float r) {
    float p = 1.9899334e-4f;
    p = p * r + 1.3933688e-3f;
    p = p * r + 8.3332978e-3f;
    p = p * r + 4.1666463e-2f;
    p = p * r + 0.16666667f;
    return p * r + 0.5f;
}

// e^x within 1 ulp; subnormal results included, +inf from 88.73 on, 0 below -104; NaN stays NaN.
[[gnu::always_inline]] inline float exp_fast(float x) {
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    const ReducedExponent e = reduce_exponent(x);
    const float p = 1.0f + (e.r + e.r * e.r * exp_tail(e.r));
    // n reaches 128 and -150, beyond the exponents of one factor.
    const uint32_t half = static_cast<uint32_t>(static_cast<int32_t>(e.n) >> 1);
    return p * power_of_two(half) * power_of_two(e.n - half);
}

// e^x within 1 ulp for softmax, whose x are differences to the largest one. Below -87.33 (where
// results turn subnormal) it is 0; x up to 88 is allowed. One multiplication and one shift less than exp_fast.
[[gnu::always_inline]] inline float exp_nonpositive(float x) {
    const ReducedExponent e = reduce_exponent(x < -87.33f ? -87.33f : x);
    const float p = 1.0f + (e.r + e.r * e.r * exp_tail(e.r));
    return x < -87.33f ? 0.0f : p * power_of_two(e.n);
}

// tanh x within 2 ulp: t / (t + 2) of t = e^2|x| - 1, which keeps small x exact to first order. +-1 from |x| = 10 on.
[[gnu::always_inline]] inline float tanh_fast(float x) {
    float a = float_of_bits(bits_of_float(x) & 0x7fffffffu);
    a = a > 10.0f ? 10.0f : a;
    const ReducedExponent e = reduce_exponent(2.0f * a);
    const float q = e.r + e.r * e.r * exp_tail(e.r);
    const float power = power_of_two(e.n);
    const float t = power * q + (power - 1.0f);
    const float z = t / (t + 2.0f);
    // z = 0.5 t (1 - z), and for small x the right side hardly feels the rounding of t + 2.
    const float half = 0.5f * t;
    const float y = a < 0.35f ? half - half * z : z;
    return float_of_bits((bits_of_float(y) & 0x7fffffffu) | (bits_of_float(x) & 0x80000000u));
}

}  // namespace kt
