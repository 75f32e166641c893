// The inverse cosine transform of libjpeg's JDCT_ISLOW (Loeffler, Ligtenberg and Moschytz 1989, figure 8): integers, 13
// binary places for the constants, 2 kept between the passes. Any other would differ from Pillow by 1 in some samples.
// Sums of a hostile file's coefficients wrap around: this file is compiled with -fwrapv.
#include <cstring>

#include "image_context.h"

namespace im {
namespace {

constexpr int kPlaces = 13;
constexpr int kKept = 2;

// A row of a block, or after the turn a column. The compiler makes two of each where registers are half as wide.
typedef int32_t Row __attribute__((vector_size(32)));

#define IM_INLINE inline __attribute__((always_inline))

// One pass over the columns of v, eight at a time.
template <int kShift>
IM_INLINE void pass(Row (&v)[8]) {
    const Row even = (v[2] + v[6]) * 4433;
    const Row even2 = even - v[6] * 15137;
    const Row even3 = even + v[2] * 6270;
    const Row even0 = (v[0] + v[4]) * (1 << kPlaces) + (1 << (kShift - 1));
    const Row even1 = (v[0] - v[4]) * (1 << kPlaces) + (1 << (kShift - 1));
    const Row a = even0 + even3;
    const Row d = even0 - even3;
    const Row b = even1 + even2;
    const Row c = even1 - even2;
    const Row sum = (v[7] + v[3] + v[5] + v[1]) * 9633;
    const Row z1 = (v[7] + v[1]) * -7373;
    const Row z2 = (v[5] + v[3]) * -20995;
    const Row z3 = sum - (v[7] + v[3]) * 16069;
    const Row z4 = sum - (v[5] + v[1]) * 3196;
    const Row odd0 = v[7] * 2446 + z1 + z3;
    const Row odd1 = v[5] * 16819 + z2 + z4;
    const Row odd2 = v[3] * 25172 + z2 + z3;
    const Row odd3 = v[1] * 12299 + z1 + z4;
    v[0] = (a + odd3) >> kShift;
    v[7] = (a - odd3) >> kShift;
    v[1] = (b + odd2) >> kShift;
    v[6] = (b - odd2) >> kShift;
    v[2] = (c + odd1) >> kShift;
    v[5] = (c - odd1) >> kShift;
    v[3] = (d + odd0) >> kShift;
    v[4] = (d - odd0) >> kShift;
}

// Rows become columns.
IM_INLINE void turn(Row (&v)[8]) {
    Row t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = __builtin_shuffle(v[i], v[i + 1], Row{0, 8, 1, 9, 4, 12, 5, 13});
        t[i + 1] = __builtin_shuffle(v[i], v[i + 1], Row{2, 10, 3, 11, 6, 14, 7, 15});
    }
    for (int i = 0; i < 8; i += 4) {
        for (int j = 0; j < 2; j++) {
            v[i + 2 * j] = __builtin_shuffle(t[i + j], t[i + j + 2], Row{0, 1, 8, 9, 4, 5, 12, 13});
            v[i + 2 * j + 1] = __builtin_shuffle(t[i + j], t[i + j + 2], Row{2, 3, 10, 11, 6, 7, 14, 15});
        }
    }
    for (int i = 0; i < 4; i++) {
        t[i] = __builtin_shuffle(v[i], v[i + 4], Row{0, 1, 2, 3, 8, 9, 10, 11});
        t[i + 4] = __builtin_shuffle(v[i], v[i + 4], Row{4, 5, 6, 7, 12, 13, 14, 15});
    }
    for (int i = 0; i < 8; i++) v[i] = t[i];
}

}  // namespace

KT_CLONES void inverse_transform(const int16_t* block, const int32_t* quantisers, uint8_t* samples, int64_t stride) {
    typedef int16_t Coefficients __attribute__((vector_size(16)));
    typedef uint8_t Samples __attribute__((vector_size(8)));
    Row v[8];
    for (int y = 0; y < 8; y++) {
        Coefficients row;
        Row factors;
        std::memcpy(&row, block + 8 * y, sizeof row);
        std::memcpy(&factors, quantisers + 8 * y, sizeof factors);
        v[y] = __builtin_convertvector(row, Row) * factors;
    }
    // What the sums come to of a column that has its first coefficient alone, and unlike them does not wrap around.
    const Row lone = (v[1] | v[2] | v[3] | v[4] | v[5] | v[6] | v[7]) == 0;
    const Row flat = v[0] * (1 << kKept);
    pass<kPlaces - kKept>(v);
    for (Row& row : v) row = lone ? flat : row;
    turn(v);
    pass<kPlaces + kKept + 3>(v);
    turn(v);
    for (int y = 0; y < 8; y++, samples += stride) {
        Row value = v[y] + 128;
        value = value < 0 ? Row{} : value;
        value = value > 255 ? Row{} + 255 : value;
        const Samples row = __builtin_convertvector(value, Samples);
        std::memcpy(samples, &row, sizeof row);
    }
}

void inverse_transform_flat(int16_t dc, const int32_t* quantisers, uint8_t* samples, int64_t stride) {
    const int32_t value = ((dc * quantisers[0] * (1 << kKept) + 16) >> 5) + 128;
    const int sample = value < 0 ? 0 : value > 255 ? 255 : value;
    for (int y = 0; y < 8; y++, samples += stride) std::memset(samples, sample, 8);
}

}  // namespace im
