// Bilinear resize with antialiasing of 8-bit RGB in the integer arithmetic of torch and of Pillow, and what follows of it.
// An output pixel's weights are a triangle over the source pixels, twice the scale wide when shrinking, made in double and
// rounded to integers. This file is compiled with -ffp-contract=off: the weights' roundings are the libraries'.
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "image_context.h"

namespace im {
namespace {

constexpr int kMaxPlaces = 22;  // both libraries' upper limit: 8 bits of pixel and 2 of headroom remain of an int32

// One axis: output i is the sum over t below taps of source[first[i] + t] * value[i * taps + t], with places binary places.
// Rows with fewer weights than the longest are filled with zeros.
struct Weights {
    int64_t out;
    int32_t* first;
    int32_t taps;
    int32_t* value;
    int32_t places;
    int32_t half() const { return places == 0 ? 0 : 1 << (places - 1); }
};

struct Triangle {
    double scale, support;
    int64_t in;
    int64_t begin(int64_t i) const {
        return std::max<int64_t>(static_cast<int64_t>((static_cast<double>(i) + 0.5) * scale - support + 0.5), 0);
    }
    int64_t end(int64_t i) const {
        return std::min<int64_t>(static_cast<int64_t>((static_cast<double>(i) + 0.5) * scale + support + 0.5), in);
    }
};

int32_t places_for_int16(double largest) {
    int32_t places = 0;
    while (places < kMaxPlaces && static_cast<int32_t>(0.5 + largest * (1 << (places + 1))) < 1 << 15) places++;
    return places;
}

// False where there is no memory.
bool make_weights(im_ctx* ctx, Weights& weights, int64_t in, int64_t out, int32_t rounding) {
    weights.out = out;
    weights.first = static_cast<int32_t*>(allocate(ctx, 4 * out));
    if (!weights.first) return false;
    if (in == out) {  // not touched: weight 1 with no binary places
        weights.taps = 1;
        weights.places = 0;
        weights.value = static_cast<int32_t*>(allocate(ctx, 4 * out));
        for (int64_t i = 0; weights.value && i < out; i++) {
            weights.first[i] = static_cast<int32_t>(i);
            weights.value[i] = 1;
        }
        return weights.value != nullptr;
    }
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    const Triangle triangle{scale, std::max(scale, 1.0), in};
    int64_t taps = 0;
    for (int64_t i = 0; i < out; i++) taps = std::max(taps, triangle.end(i) - triangle.begin(i));
    double* exact = static_cast<double*>(allocate(ctx, 8 * out * taps));
    weights.value = static_cast<int32_t*>(allocate(ctx, 4 * out * taps));
    if (!exact || !weights.value) return false;
    double largest = 0;
    const double inverse = 1.0 / triangle.support;
    for (int64_t i = 0; i < out; i++) {
        const int64_t begin = triangle.begin(i);
        const int64_t end = triangle.end(i);
        const int64_t first = std::min(begin, in - taps);
        weights.first[i] = static_cast<int32_t>(first);
        double* row = exact + i * taps;
        for (int64_t t = 0; t < taps; t++) row[t] = 0;
        row += begin - first;
        const double centre = (static_cast<double>(i) + 0.5) * scale;
        double sum = 0;
        for (int64_t t = 0; t < end - begin; t++) {
            row[t] = std::max(0.0, 1 - std::fabs((static_cast<double>(begin + t) - centre + 0.5) * inverse));
            sum += row[t];
        }
        for (int64_t t = 0; t < end - begin && sum != 0; t++) {
            row[t] /= sum;
            largest = std::max(largest, row[t]);
        }
    }
    weights.taps = static_cast<int32_t>(taps);
    weights.places = rounding == IM_PILLOW ? kMaxPlaces : places_for_int16(largest);
    for (int64_t i = 0; i < out * taps; i++) {
        weights.value[i] = static_cast<int32_t>(0.5 + exact[i] * (1 << weights.places));
    }
    return true;
}

// ---- along x: a row of interleaved pixels to one row a colour --------------------------------------------------------

// The common numbers of weights are written out: a loop of two or three costs more than its sums.
template <int kTaps>
void across(uint8_t* codes, const uint8_t* rgb, const Weights& weights, int64_t from) {
    const int32_t taps = kTaps > 0 ? kTaps : weights.taps;
    const int32_t half = weights.half();
    const int32_t places = weights.places;
    const int64_t out = weights.out;
    const int32_t* value = weights.value + from * taps;
    for (int64_t x = from; x < out; x++, value += taps) {
        const uint8_t* at = rgb + int64_t{3} * weights.first[x];
        int32_t red = half;
        int32_t green = half;
        int32_t blue = half;
        for (int32_t t = 0; t < taps; t++, at += 3) {
            red += at[0] * value[t];
            green += at[1] * value[t];
            blue += at[2] * value[t];
        }
        codes[x] = static_cast<uint8_t>(std::min(red >> places, 255));
        codes[x + out] = static_cast<uint8_t>(std::min(green >> places, 255));
        codes[x + 2 * out] = static_cast<uint8_t>(std::min(blue >> places, 255));
    }
}

#if defined(__x86_64__)

// Sixteen outputs at a time: one look-up of bytes brings each of them two neighbouring source pixels of a colour, wherever
// they are among the 64 bytes from the first one's on; products of pairs follow. For weights of 16 bits.
struct Sixteens {
    uint8_t* places;  // [groups, 64] of the bytes that hold the pair's red
    int32_t* pairs;   // [groups, pairs, 16] two weights each
    int64_t groups;
    int32_t count;  // pairs of taps
};

// Where the processor or the scale does not allow it, places is null. False where there is no memory.
bool make_sixteens(im_ctx* ctx, Sixteens& sixteens, const Weights& weights) {
    sixteens.places = nullptr;
    if (!__builtin_cpu_supports("avx512vbmi") || !__builtin_cpu_supports("avx512bw") || weights.places == 0) return true;
    const int64_t groups = weights.out / 16;  // the few behind them go one by one
    for (int64_t i = 0; i < groups; i++) {
        if (3 * (weights.first[16 * i + 15] - weights.first[16 * i]) + 5 > 63) return true;
    }
    for (int64_t i = 0; i < weights.out * weights.taps; i++) {
        if (weights.value[i] > INT16_MAX) return true;
    }
    const int32_t count = (weights.taps + 1) / 2;
    sixteens.groups = groups;
    sixteens.count = count;
    sixteens.pairs = static_cast<int32_t*>(allocate(ctx, 64 * groups * count));
    sixteens.places = static_cast<uint8_t*>(allocate(ctx, 64 * groups));
    if (!sixteens.pairs || !sixteens.places) return false;
    for (int64_t x = 0; x < 16 * groups; x++) {
        const int64_t group = x / 16;
        const int32_t from = 3 * (weights.first[x] - weights.first[16 * group]);
        uint8_t* place = sixteens.places + 4 * x;
        place[0] = place[1] = static_cast<uint8_t>(from);
        place[2] = place[3] = static_cast<uint8_t>(from + 3);
        for (int32_t p = 0; p < count; p++) {
            const int32_t* w = weights.value + x * weights.taps + 2 * p;
            sixteens.pairs[(group * count + p) * 16 + x % 16] = w[0] | (2 * p + 1 < weights.taps ? w[1] << 16 : 0);
        }
    }
    return true;
}

// rgb may be read to kReach bytes behind the row's end.
constexpr int64_t kReach = 64 + 6;

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi"))) void across_sixteens(uint8_t* codes, const uint8_t* rgb,
                                                                                      const Weights& weights,
                                                                                      const Sixteens& sixteens) {
    const __mmask64 low_bytes = 0x5555555555555555;  // a pair's two pixels, each in 16 bits
    const __mmask16 all = 0xffff;  // without a mask GCC 12 warns of its own header
    const __m512i half = _mm512_set1_epi32(weights.half());
    const __m128i places = _mm_cvtsi32_si128(weights.places);
    for (int64_t group = 0; group < sixteens.groups; group++) {
        const uint8_t* at = rgb + int64_t{3} * weights.first[16 * group];
        const __m512i place = _mm512_loadu_si512(sixteens.places + 64 * group);
        __m512i sum[3] = {half, half, half};
        for (int32_t p = 0; p < sixteens.count; p++) {
            const __m512i source = _mm512_loadu_si512(at + 6 * p);
            const __m512i pair = _mm512_loadu_si512(sixteens.pairs + (group * sixteens.count + p) * 16);
            for (int c = 0; c < 3; c++) {
                const __m512i of_colour = _mm512_add_epi8(place, _mm512_set1_epi8(static_cast<char>(c)));
                const __m512i pixels = _mm512_maskz_permutexvar_epi8(low_bytes, of_colour, source);
                sum[c] = _mm512_add_epi32(sum[c], _mm512_madd_epi16(pixels, pair));
            }
        }
        for (int c = 0; c < 3; c++) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + c * weights.out + 16 * group),
                             _mm512_maskz_cvtusepi32_epi8(all, _mm512_maskz_sra_epi32(all, sum[c], places)));
        }
    }
}

#endif

// The outputs from that one on.
void across_rest(uint8_t* codes, const uint8_t* rgb, const Weights& weights, int64_t from) {
    switch (weights.taps) {
        case 1:
            return across<1>(codes, rgb, weights, from);
        case 2:
            return across<2>(codes, rgb, weights, from);
        case 3:
            return across<3>(codes, rgb, weights, from);
        default:
            return across<0>(codes, rgb, weights, from);
    }
}

// ---- along y: rows of codes to one -------------------------------------------------------------------------------------

KT_CLONES void down_two(uint8_t* __restrict out, const uint8_t* __restrict a, const uint8_t* __restrict b, int64_t n,
                        int32_t wa, int32_t wb, int32_t half, int32_t places) {
    for (int64_t i = 0; i < n; i++) out[i] = static_cast<uint8_t>(std::min((a[i] * wa + b[i] * wb + half) >> places, 255));
}

KT_CLONES void down_three(uint8_t* __restrict out, const uint8_t* __restrict a, const uint8_t* __restrict b,
                          const uint8_t* __restrict c, int64_t n, int32_t wa, int32_t wb, int32_t wc, int32_t half,
                          int32_t places) {
    for (int64_t i = 0; i < n; i++) {
        out[i] = static_cast<uint8_t>(std::min((a[i] * wa + b[i] * wb + c[i] * wc + half) >> places, 255));
    }
}

KT_CLONES void down_begin(int32_t* __restrict sum, const uint8_t* __restrict row, int64_t n, int32_t weight, int32_t half) {
    for (int64_t i = 0; i < n; i++) sum[i] = row[i] * weight + half;
}

KT_CLONES void down_add(int32_t* __restrict sum, const uint8_t* __restrict row, int64_t n, int32_t weight) {
    for (int64_t i = 0; i < n; i++) sum[i] += row[i] * weight;
}

KT_CLONES void down_end(uint8_t* __restrict out, const int32_t* __restrict sum, int64_t n, int32_t places) {
    for (int64_t i = 0; i < n; i++) out[i] = static_cast<uint8_t>(std::min(sum[i] >> places, 255));
}

}  // namespace

int32_t resize(im_ctx* ctx, uint8_t* codes, const uint8_t* rgb, int64_t width, int64_t height, int64_t rgb_width,
               int64_t rgb_height, int32_t rounding) {
    for (int64_t side : {width, height, rgb_width, rgb_height}) {
        if (side < 1 || side > kMaxSide || (rounding != IM_TORCHVISION && rounding != IM_PILLOW)) {
            return fail(ctx, IM_BAD_ARGUMENT, "resize: %lld x %lld to %lld x %lld pixels, rounding %d",
                        static_cast<long long>(rgb_width), static_cast<long long>(rgb_height),
                        static_cast<long long>(width), static_cast<long long>(height), rounding);
        }
    }
    Weights x;
    Weights y;
    const int64_t n = 3 * width;
    if (!make_weights(ctx, x, rgb_width, width, rounding) || !make_weights(ctx, y, rgb_height, height, rounding)) {
        return fail(ctx, IM_OUT_OF_MEMORY, "resize: the system has no memory for weights");
    }
    // source row r, resized along x, is in rows + r % taps * n
    uint8_t* rows = static_cast<uint8_t*>(allocate(ctx, n * y.taps));
    int32_t* sum = static_cast<int32_t*>(allocate(ctx, 4 * n));
    if (!rows || !sum) return fail(ctx, IM_OUT_OF_MEMORY, "resize: the system has no memory for %d rows", y.taps);
    const int64_t row_bytes = 3 * rgb_width;
#if defined(__x86_64__)
    Sixteens sixteens;
    uint8_t* padded = static_cast<uint8_t*>(allocate(ctx, row_bytes + kReach + 6 * int64_t{x.taps}));
    if (!padded || !make_sixteens(ctx, sixteens, x)) return fail(ctx, IM_OUT_OF_MEMORY, "resize: the system has no memory");
    std::memset(padded + row_bytes, 0, static_cast<size_t>(kReach));
#endif
    const auto resize_row = [&](uint8_t* to, const uint8_t* from) {
#if defined(__x86_64__)
        if (sixteens.places) {
            std::memcpy(padded, from, static_cast<size_t>(row_bytes));
            across_sixteens(to, padded, x, sixteens);
            across_rest(to, from, x, 16 * sixteens.groups);
            return;
        }
#endif
        across_rest(to, from, x, 0);
    };
    int64_t done = 0;
    for (int64_t i = 0; i < height; i++) {
        const int64_t first = y.first[i];
        for (; done < first + y.taps; done++) resize_row(rows + done % y.taps * n, rgb + row_bytes * done);
        const int32_t* w = y.value + i * y.taps;
        const auto row = [&](int64_t t) { return rows + (first + t) % y.taps * n; };
        for (int c = 0; c < 3; c++) {
            uint8_t* to = codes + (c * height + i) * width;
            const int64_t at = c * width;
            if (y.places == 0) {
                std::memcpy(to, row(0) + at, static_cast<size_t>(width));
            } else if (y.taps == 2) {
                down_two(to, row(0) + at, row(1) + at, width, w[0], w[1], y.half(), y.places);
            } else if (y.taps == 3) {
                down_three(to, row(0) + at, row(1) + at, row(2) + at, width, w[0], w[1], w[2], y.half(), y.places);
            } else {
                down_begin(sum, row(0) + at, width, w[0], y.half());
                for (int32_t t = 1; t < y.taps; t++) down_add(sum, row(t) + at, width, w[t]);
                down_end(to, sum, width, y.places);
            }
        }
    }
    return IM_OK;
}

namespace {

KT_CLONES void values_of_codes(float* __restrict y, const uint8_t* __restrict codes, int64_t n, float mean, float std) {
    for (int64_t i = 0; i < n; i++) y[i] = (static_cast<float>(codes[i]) - mean) / std;
}

KT_CLONES void values(float* __restrict y, const uint8_t* __restrict codes, int64_t n, double factor, float mean, float std) {
    for (int64_t i = 0; i < n; i++) y[i] = (static_cast<float>(codes[i] * factor) - mean) / std;
}

}  // namespace

int32_t normalise(im_ctx* ctx, float* y, const uint8_t* codes, int64_t n, double factor, float mean, float std) {
    if (n < 0) return fail(ctx, IM_BAD_ARGUMENT, "normalise: %lld values", static_cast<long long>(n));
    if (factor == 1) {  // a code is a float without rounding
        values_of_codes(y, codes, n, mean, std);
    } else {
        values(y, codes, n, factor, mean, std);
    }
    return IM_OK;
}

}  // namespace im
