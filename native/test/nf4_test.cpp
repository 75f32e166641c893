// The dequantising variants of nf4.cpp against each other: all bits equal. One machine runs only the variants it has; the
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
    if (kt::instruction_set() == kt::Isa::avx512) {
        compare("avx512", [&](T* y) { kt::blocks_avx512(y, w, 0, blocks); });
    }
    if (__builtin_cpu_supports("avx2")) compare("avx2", [&](T* y) { kt::blocks_avx2(y, w, 0, blocks); });
#endif
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
    std::printf("%d failures\n", failures);
    return failures != 0;
}
