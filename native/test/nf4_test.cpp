// The variants of nf4.cpp against each other: all bits equal. One machine runs only the variants it has; the
// tests in Java hold the one that is chosen against bitsandbytes.
#include "../cpu/nf4.cpp"

#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

namespace {

template <typename T>
int differences(const char* name, const kt::Nf4& w, int64_t blocks) {
    std::vector<T> expected(static_cast<size_t>(blocks * kt::kNf4Block));
    kt::blocks_scalar(expected.data(), w, 0, blocks);
    int failures = 0;
    const auto compare = [&](const char* isa, auto run) {
        std::vector<T> actual(expected.size());
        run(actual.data());
        if (std::memcmp(actual.data(), expected.data(), expected.size() * sizeof(T)) != 0) {
            std::printf("%s: %s differs from scalar\n", name, isa);
            failures++;
        }
    };
#if defined(__x86_64__)
    if (kt::processor().vectors == kt::Vectors::avx512) {
        compare("avx512", [&](T* y) { kt::blocks_avx512(y, w, 0, blocks); });
    }
    if (__builtin_cpu_supports("avx2")) compare("avx2", [&](T* y) { kt::blocks_avx2(y, w, 0, blocks); });
#endif
    return failures;
}

// Quantising in plain loops against the hand-written variant, T to W, from buffers without a byte to spare.
template <typename T, typename W>
int quantise_differences(const char* name, const std::vector<T>& x) {
    const int64_t blocks = static_cast<int64_t>(x.size()) / kt::kNf4Block;
    std::vector<uint8_t> expected(static_cast<size_t>(blocks * kt::kNf4Block / 2));
    std::vector<uint8_t> actual(expected.size());
    std::vector<float> expected_max(static_cast<size_t>(blocks));
    std::vector<float> actual_max(expected_max.size());
    const bool finite = kt::quantize_loops(expected.data(), expected_max.data(), x.data(), W{}, blocks);
    bool same = finite == kt::quantize_blocks(actual.data(), actual_max.data(), x.data(), W{}, blocks);
    if (finite) {  // what is made of NaN is never used
        same = same && expected == actual &&
               std::memcmp(expected_max.data(), actual_max.data(), expected_max.size() * sizeof(float)) == 0;
    }
    if (!same) std::printf("%s: quantised codes or maxima differ\n", name);
    return !same;
}

int quantising(std::mt19937& random) {
    const int64_t n = 64 * 500;
    std::vector<float> x(static_cast<size_t>(n));
    std::vector<kt::bf16> brief(x.size());
    std::vector<kt::half> halves(x.size());
    int failures = 0;
    // Values of all sizes, then of one size with midpoints among them, so that ties are met; NaN in the third round.
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < x.size(); i++) {
            const uint32_t bits = static_cast<uint32_t>(random());
            const float midpoint = (kt::kNf4[bits % 15] + kt::kNf4[bits % 15 + 1]) / 2;
            x[i] = round == 0   ? kt::float_of_bits(bits % 0x7f000000u | (bits & 0x80000000u))
                   : i % 64 == 9 ? 1.0f
                   : i % 2       ? midpoint
                                 : static_cast<float>(bits) * 0x1p-31f - 1.0f;
            brief[i] = kt::round_bf16(x[i]);
            halves[i] = {static_cast<uint16_t>(bits % 0x7c00u | (bits >> 16 & 0x8000u))};
        }
        if (round == 2) {
            x[777] = kt::float_of_bits(0x7fffffffu);
            brief[777] = {0x7fff};
            halves[777] = {0x7fff};
        }
        failures += quantise_differences<float, float>("F32", x) + quantise_differences<float, kt::bf16>("F32 to BF16", x);
        failures += quantise_differences<kt::bf16, kt::bf16>("BF16", brief);
        failures += quantise_differences<kt::bf16, float>("BF16 to F32", brief);
        failures += quantise_differences<kt::half, kt::bf16>("F16 to BF16", halves);
        failures += quantise_differences<kt::half, float>("F16 to F32", halves);
    }
    return failures;
}

// The entries themselves at sizes around a block's, for what only a sanitiser sees.
int entries(std::mt19937& random) {
    kt_ctx ctx{};
    ctx.threads = 2;
    int failures = 0;
    for (const int64_t n : {1, 2, 63, 64, 65, 127, 129, 64 * 257 + 3}) {
        std::vector<float> x(static_cast<size_t>(n));
        for (float& value : x) value = static_cast<float>(random()) * 0x1p-31f - 1.0f;
        const int64_t blocks = (n + 63) / 64;
        std::vector<uint8_t> packed(static_cast<size_t>((n + 1) / 2));
        std::vector<float> absmax(static_cast<size_t>(blocks));
        std::vector<uint8_t> codes(static_cast<size_t>(blocks));
        std::vector<float> nested(static_cast<size_t>((blocks + 255) / 256));
        std::vector<float> map(256);
        for (size_t i = 0; i < map.size(); i++) map[i] = static_cast<float>(i) / 128 - 1;
        std::vector<float> y(x.size());
        float offset = 0;
        failures += kt::nf4_quantize(&ctx, packed.data(), absmax.data(), x.data(), n, KT_BF16, KT_F32) != KT_OK;
        failures += kt::nf4_quantize_absmax(&ctx, codes.data(), nested.data(), &offset, absmax.data(), map.data(),
                                            blocks) != KT_OK;
        for (int64_t first = 0; first < n; first += 41) {
            failures += kt::nf4_dequantize(&ctx, y.data(), packed.data(), absmax.data(), nullptr, nullptr, nullptr, 0, first,
                                           n - first, KT_F32) != KT_OK;
        }
    }
    return failures;
}

}  // namespace

int main() {
    std::mt19937 random(1);
    const int64_t blocks = 1000;
    std::vector<uint8_t> packed(static_cast<size_t>(blocks * kt::kNf4Block / 2));
    for (uint8_t& byte : packed) byte = static_cast<uint8_t>(random());
    // Scales of all sizes, subnormal ones too, and both signs of zero.
    std::vector<float> absmax(static_cast<size_t>(blocks));
    for (float& a : absmax) a = kt::float_of_bits(static_cast<uint32_t>(random()) % 0x7f000000u);
    absmax[0] = 0.0f;
    absmax[1] = -0.0f;
    absmax[2] = 1e-45f;
    std::vector<uint8_t> codes(absmax.size());
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random());
    std::vector<float> map(256);
    for (float& entry : map) entry = static_cast<float>(random()) * 0x1p-31f - 1.0f;
    const std::vector<float> nested{0.013f, 0.02f, 0.005f, 1e-3f};
    const kt::Nf4 plain{packed.data(), absmax.data(), nullptr, nullptr, nullptr, 0};
    const kt::Nf4 twice{packed.data(), nullptr, codes.data(), nested.data(), map.data(), 0.05f};
    int failures = differences<float>("F32", plain, blocks) + differences<float>("nested F32", twice, blocks);
    failures += differences<kt::bf16>("BF16", plain, blocks) + differences<kt::bf16>("nested BF16", twice, blocks);
    failures += quantising(random) + entries(random);
    std::printf("%d failures\n", failures);
    return failures != 0;
}
