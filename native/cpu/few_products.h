// Products of a few rows of floats with a few rows of F32 or BF16 that are read once, in vectors of any width: what linear layers
// of few rows and attention over a cache are made of.
#pragma once

#include <cstring>

#include "bf16.h"

namespace kt {

constexpr int kBlockRows = 4;  // of x, at most

// Vectors of Bytes bytes; the compiler's, so that this is one text for every width. Values go by reference, as a function
// that is not inlined could not return them everywhere.
template <int Bytes>
struct Wide;

#define KT_WIDE(BYTES)                                                                                     \
    template <>                                                                                            \
    struct Wide<BYTES> {                                                                                   \
        static constexpr int kLanes = BYTES / 4;                                                           \
        typedef float Floats __attribute__((vector_size(BYTES)));                                          \
        typedef float Unaligned __attribute__((vector_size(BYTES), aligned(4)));                           \
        typedef uint16_t Halves __attribute__((vector_size(BYTES / 2)));                                   \
        typedef uint32_t Bits __attribute__((vector_size(BYTES)));                                         \
        [[gnu::always_inline]] static void read(Floats& y, const float* x) {                               \
            y = *reinterpret_cast<const Unaligned*>(x);                                                    \
        }                                                                                                  \
        [[gnu::always_inline]] static void read(Floats& y, const bf16* x) {                                \
            Halves halves;                                                                                 \
            std::memcpy(&halves, x, sizeof halves);                                                        \
            y = reinterpret_cast<Floats>(__builtin_convertvector(halves, Bits) << 16);                     \
        }                                                                                                  \
    }
KT_WIDE(16);
#if defined(__x86_64__)
KT_WIDE(32);
KT_WIDE(64);
#endif
#undef KT_WIDE

// The sum of a vector's lanes, by halves.
template <int Bytes>
[[gnu::always_inline]] inline float total(const void* vector) {
    if constexpr (Bytes == sizeof(float)) {
        float lane;
        std::memcpy(&lane, vector, sizeof lane);
        return lane;
    } else {
        typedef float Half __attribute__((vector_size(Bytes / 2)));
        Half half[2];
        std::memcpy(half, vector, Bytes);
        half[0] += half[1];
        return total<Bytes / 2>(half);
    }
}

// sums[o, r] = w[o] . x[r] for O outputs and R rows; ld floats between rows of x, step elements between those of w.
template <int Bytes, int O, int R, typename T>
[[gnu::always_inline]] inline void block(float* sums, const float* x, int64_t ld, const T* w, int64_t step, int64_t in) {
    using V = Wide<Bytes>;
    typename V::Floats acc[O][R] = {};
    const int64_t whole = in / V::kLanes * V::kLanes;
    for (int64_t i = 0; i < whole; i += V::kLanes) {
        typename V::Floats weights[O];
#pragma GCC unroll 4
        for (int o = 0; o < O; o++) V::read(weights[o], w + o * step + i);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            typename V::Floats values;
            V::read(values, x + r * ld + i);
#pragma GCC unroll 4
            for (int o = 0; o < O; o++) acc[o][r] += values * weights[o];
        }
    }
    for (int o = 0; o < O; o++) {
        for (int r = 0; r < R; r++) {
            float sum = total<Bytes>(&acc[o][r]);
            for (int64_t i = whole; i < in; i++) sum = __builtin_fmaf(x[r * ld + i], load(w[o * step + i]), sum);
            sums[o * kBlockRows + r] = sum;
        }
    }
}

}  // namespace kt
