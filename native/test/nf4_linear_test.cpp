// Every variant of nf4_linear.cpp that this processor has, at odd shapes, against sums in double over the matrix's values.
#include "../cpu/nf4_linear.cpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

namespace {

struct Shape {
    int64_t rows, out, in;
};

// Around the sizes of strips, blocks and depths, and enough rows to be parted among threads.
constexpr Shape kShapes[] = {{1, 1, 1},    {1, 64, 64},   {3, 5, 7},      {33, 47, 129},  {64, 64, 64},
                             {17, 31, 4304}, {70, 100, 1000}, {2, 33, 515}, {600, 40, 96}, {5, 700, 64},
                             {1, 300, 2},  {48, 64, 1152}, {40, 1030, 48},
                             // few rows, in one pass of 1, 2, 4 and 8 and in two; one block at a row's end, scales made in pieces
                             {1, 37, 64},  {2, 10, 640},  {3, 9, 192},    {5, 7, 4160},  {8, 66, 640},  {11, 5, 128}, {16, 13, 1152}};

struct Packed {
    std::vector<uint8_t> packed, codes;
    std::vector<float> absmax, nested, map;

    Packed(std::mt19937& random, int64_t n) {
        const size_t blocks = static_cast<size_t>((n + kt::kNf4Block - 1) / kt::kNf4Block);
        packed.resize(static_cast<size_t>((n + 1) / 2));
        codes.resize(blocks);
        absmax.resize(blocks);
        for (uint8_t& byte : packed) byte = static_cast<uint8_t>(random());
        for (uint8_t& code : codes) code = static_cast<uint8_t>(random());
        for (float& scale : absmax) scale = 0.02f + 0.001f * static_cast<float>(random() % 100);
        nested.assign((blocks + 255) / 256, 0.01f);
        for (int i = 0; i < 256; i++) map.push_back(static_cast<float>(i) / 128 - 1);
    }

    kt::Nf4 values(bool twice) const {
        return {packed.data(), twice ? nullptr : absmax.data(), codes.data(), nested.data(), map.data(), 0.05f};
    }
};

// One product of activations of T, Forward or not, with what it has to be.
template <typename T, bool Forward>
class Case {
  public:
    Case(std::mt19937& random, const Shape& shape, bool twice, bool accumulate)
        : shape_(shape),
          matrix_(random, shape.out * shape.in),
          weights_{matrix_.values(twice), shape.out, shape.in},
          depth_(Forward ? shape.in : shape.out),
          width_(Forward ? shape.out : shape.in),
          accumulate_(accumulate) {
        std::normal_distribution<float> normal;
        const auto fill = [&](std::vector<T>& values, int64_t n) {
            values.resize(static_cast<size_t>(n));
            for (T& value : values) value = kt::store<T>(normal(random));
        };
        fill(x_, shape.rows * depth_);
        fill(bias_, width_);
        fill(before_, shape.rows * width_);
        std::vector<double> w(static_cast<size_t>(shape.out * shape.in));
        for (size_t i = 0; i < w.size(); i++) {
            w[i] = kt::rounded<T>(kt::nf4_value(weights_.values, static_cast<int64_t>(i)));
        }
        for (int64_t r = 0; r < shape.rows; r++) {
            for (int64_t c = 0; c < width_; c++) {
                double sum = Forward ? kt::load(bias_[static_cast<size_t>(c)])
                                     : accumulate ? kt::load(before_[static_cast<size_t>(r * width_ + c)]) : 0;
                double size = std::fabs(sum);
                for (int64_t k = 0; k < depth_; k++) {
                    const double term = static_cast<double>(kt::load(x_[static_cast<size_t>(r * depth_ + k)])) *
                                        w[static_cast<size_t>(Forward ? c * shape.in + k : k * shape.in + c)];
                    sum += term;
                    size += std::fabs(term);
                }
                expected_.push_back(sum);
                // Rounding of sums in F32 grows with the root of their length; a BF16 result is rounded once more.
                const double sums = size * 4 * 0x1p-24 * std::sqrt(static_cast<double>(depth_));
                limit_.push_back(sums + (sizeof(T) == 2 ? std::fabs(sum) * 0x1p-8 : 0) + 1e-30);
            }
        }
    }

    // How many results of a variant are off by more than rounding.
    template <typename Tiles>
    int run(kt_ctx* ctx, const char* name) const {
        std::vector<T> y = before_;
        const T* bias = Forward ? bias_.data() : nullptr;
        int failures = kt::Product<Tiles, Forward>(y.data(), x_.data(), weights_, bias, shape_.rows, accumulate_).run(ctx) != KT_OK;
        for (size_t i = 0; i < y.size(); i++) {
            failures += !(std::fabs(static_cast<double>(kt::load(y[i])) - expected_[i]) <= limit_[i]);
        }
        if (failures) {
            std::printf("%s %s, %lld rows, [%lld, %lld]: %d values are off\n", name, Forward ? "forward" : "backward",
                        static_cast<long long>(shape_.rows), static_cast<long long>(shape_.out),
                        static_cast<long long>(shape_.in), failures);
        }
        return failures;
    }

#if defined(__x86_64__)
    // The same of the products of few rows, where they are for this shape; a row alone must be equal to the bit.
    template <typename Arithmetic>
    int run_few(kt_ctx* ctx, const char* name) const {
        if (!Forward || shape_.rows > kt::kFewRows || shape_.in % kt::kNf4Block != 0) return 0;
        std::vector<T> y = before_;
        few<Arithmetic>(ctx, y.data(), 0, shape_.rows);
        int failures = 0;
        std::vector<T> alone(static_cast<size_t>(shape_.out));
        for (int64_t r = 0; r < shape_.rows; r++) {
            few<Arithmetic>(ctx, alone.data(), r, 1);
            failures += std::memcmp(alone.data(), y.data() + r * shape_.out, alone.size() * sizeof(T)) != 0;
        }
        for (size_t i = 0; i < y.size(); i++) {
            failures += !(std::fabs(static_cast<double>(kt::load(y[i])) - expected_[i]) <= limit_[i]);
        }
        if (failures) {
            std::printf("%s few, %lld rows, [%lld, %lld]: %d values or rows are off\n", name, static_cast<long long>(shape_.rows),
                        static_cast<long long>(shape_.out), static_cast<long long>(shape_.in), failures);
        }
        return failures;
    }
#endif

  private:
#if defined(__x86_64__)
    template <typename Arithmetic>
    void few(kt_ctx* ctx, T* y, int64_t row, int64_t rows) const {
        kt::Nf4Few<Arithmetic>(y, x_.data() + row * shape_.in, weights_.values, bias_.data(), rows, shape_.out, shape_.in).run(ctx);
    }
#endif

    const Shape shape_;
    const Packed matrix_;
    const kt::Matrix weights_;
    const int64_t depth_;
    const int64_t width_;
    const bool accumulate_;
    std::vector<T> x_, bias_, before_;
    std::vector<double> expected_, limit_;
};

template <kt::Strips* Strips>
kt::Strips* always() {
    return Strips;
}

template <typename T, bool Forward>
int variants(kt_ctx* ctx, std::mt19937& random, const Shape& shape, bool twice, bool accumulate) {
    const Case<T, Forward> product(random, shape, twice, accumulate);
    int failures = product.template run<kt::Plain<T, always<kt::strips_base>>>(ctx, "base");
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        failures += product.template run<kt::Plain<T, always<kt::strips_avx2>>>(ctx, "avx2");
    }
    if (__builtin_cpu_supports("x86-64-v4")) failures += product.template run<kt::Plain<T, always<kt::strips_avx512>>>(ctx, "avx512");
    if (__builtin_cpu_supports("x86-64-v4")) failures += product.template run_few<kt::Nf4Sums<T>>(ctx, "avx512");
    if constexpr (sizeof(T) == sizeof(kt::bf16)) {
        if (__builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512bf16")) {
            failures += product.template run_few<kt::Nf4Dots>(ctx, "avx512bf16");
            failures += product.template run<kt::Bf16<false>>(ctx, "avx512bf16");
        }
        if (kt::processor().amx_bf16) failures += product.template run<kt::Bf16<true>>(ctx, "amx");
    }
#endif
    return failures;
}

}  // namespace

int main() {
    kt_ctx ctx{};
    ctx.threads = 2;
    std::mt19937 random(1);
    int failures = 0;
    for (const Shape& shape : kShapes) {
        for (const bool twice : {false, true}) {
            failures += variants<float, true>(&ctx, random, shape, twice, false);
            failures += variants<kt::bf16, true>(&ctx, random, shape, twice, false);
            failures += variants<float, false>(&ctx, random, shape, twice, twice);
            failures += variants<kt::bf16, false>(&ctx, random, shape, twice, twice);
        }
    }
    std::free(ctx.scratch);
    delete ctx.team;
    std::printf("%d failures\n", failures);
    return failures != 0;
}
