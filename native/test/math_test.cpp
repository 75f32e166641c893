// Every function of math.h over all 2^32 floats (or every n-th, by argument) against libm in double: prints the largest
// error in ulp and fails above the bound that math.h states. Built and run by hand, two
// minutes for all floats: cmake --build java/engine/target/native-build --target math_test
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "context.h"
#include "math.h"

namespace {

constexpr int kBlock = 4096;

KT_CLONES void all_exp(float* y, const float* x) {
    for (int i = 0; i < kBlock; i++) y[i] = kt::exp_fast(x[i]);
}
KT_CLONES void all_exp_nonpositive(float* y, const float* x) {
    for (int i = 0; i < kBlock; i++) y[i] = kt::exp_nonpositive(x[i]);
}
KT_CLONES void all_tanh(float* y, const float* x) {
    for (int i = 0; i < kBlock; i++) y[i] = kt::tanh_fast(x[i]);
}

double exp_exact(double x) { return std::exp(x); }
double exp_nonpositive_exact(double x) { return x < -87.33f ? 0 : std::exp(x); }
double tanh_exact(double x) { return std::tanh(x); }

// Distance of y from exact in units of the F32 spacing at exact; infinite where one is NaN or infinite and the other not.
double ulp_error(float y, double exact) {
    if (std::isnan(exact) || std::isnan(y)) return std::isnan(exact) == std::isnan(y) ? 0 : INFINITY;
    if (std::fabs(exact) >= 3.4028235677973366e38) return y == (exact > 0 ? INFINITY : -INFINITY) ? 0 : INFINITY;
    int exponent = 0;
    std::frexp(exact, &exponent);
    const double spacing = std::ldexp(1.0, std::max(exponent - 24, -149));
    return std::fabs(static_cast<double>(y) - exact) / spacing;
}

bool check(const char* name, void (*all)(float*, const float*), double (*exact)(double), float largest, double bound,
           uint32_t step) {
    float x[kBlock];
    float y[kBlock];
    double worst = 0;
    float where = 0;
    uint64_t bits = 0;
    while (bits < (uint64_t{1} << 32)) {
        for (int i = 0; i < kBlock; i++, bits += step) x[i] = kt::float_of_bits(static_cast<uint32_t>(bits));
        all(y, x);
        for (int i = 0; i < kBlock; i++) {
            if (x[i] > largest) continue;
            const double error = ulp_error(y[i], exact(x[i]));
            if (!(error <= worst)) worst = error, where = x[i];
        }
    }
    std::printf("%s: %.3f ulp at %.9g, allowed %.1f\n", name, worst, static_cast<double>(where), bound);
    return worst <= bound;
}

}  // namespace

int main(int argc, char** argv) {
    const uint32_t step = argc > 1 ? static_cast<uint32_t>(std::atoi(argv[1])) : 1;
    bool good = check("exp_fast", all_exp, exp_exact, INFINITY, 1, step);
    good = check("exp_nonpositive", all_exp_nonpositive, exp_nonpositive_exact, 88.0f, 1, step) && good;
    good = check("tanh_fast", all_tanh, tanh_exact, INFINITY, 2, step) && good;
    return good ? 0 : 1;
}
