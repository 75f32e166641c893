// What the tests share: exact-size buffers, random numbers, comparison, and a run in every order.
#pragma once
#include "cuda_on_cpu.h"
#include "kernels.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

using bf16 = __nv_bfloat16;

inline std::mt19937 generator(1);
inline float uniform() { return std::uniform_real_distribution<float>(-1, 1)(generator); }

// As a device buffer: of exactly its size, so that a step beyond is seen, and full of NaN.
template <class T> struct Named {
    using value_type = T;
    T* allocate(size_t n) {
        auto p = static_cast<T*>(malloc(n * sizeof(T)));
        emu::name_memory(p, n * sizeof(T));
        return p;
    }
    void deallocate(T* p, size_t) { emu::forget_memory(p), free(p); }
    bool operator==(const Named&) const { return true; }
    bool operator!=(const Named&) const { return false; }
};
template <class T> using Buffer = std::vector<T, Named<T>>;
template <class T> Buffer<T> buffer(size_t n) {
    Buffer<T> v(n);
    std::memset(static_cast<void*>(v.data()), 0xff, n * sizeof(T));
    return v;
}
inline double value(float x) { return x; }
inline double value(bf16 x) { return __bfloat162float(x); }
inline void set(float& to, float x) { to = x; }
inline void set(bf16& to, float x) { to = __float2bfloat16_rn(x); }
template <class T> Buffer<T> random_buffer(size_t n, float scale = 1) {
    auto v = buffer<T>(n);
    for (auto& x : v) set(x, uniform() * scale);
    return v;
}

inline int passed = 0, failed = 0;
inline const char* order_name = "";

inline void fail_case(const std::string& name, const std::string& why) {
    if (++failed <= 5) printf("  FAILED %s [%s]: %s\n", name.c_str(), order_name, why.c_str());
}

// Each element within its own tolerance; a NaN is never near.
template <class T>
bool near(const std::string& name, const Buffer<T>& got, const std::vector<double>& expected, const std::vector<double>& tolerance) {
    for (size_t i = 0; i < got.size(); ++i)
        if (!(std::fabs(value(got[i]) - expected[i]) <= tolerance[i]) && !(std::isinf(expected[i]) && value(got[i]) == expected[i])) {
            fail_case(name, "element " + std::to_string(i) + " is " + std::to_string(value(got[i])) + ", expected " + std::to_string(expected[i]));
            return false;
        }
    return true;
}
inline bool ran(const std::string& name, int status) {
    if (status != 0) fail_case(name, cudaGetErrorString(cudaError_t(status)));
    return status == 0;
}

// Runs `test` in the orders that the arguments name (default: all); returns main's exit code.
inline int run_orders(int argc, char** argv, const std::function<void()>& test) {
    std::string only = argc > 1 ? argv[1] : "";
    auto begin = std::chrono::steady_clock::now();
    auto in = [&](const char* name, emu::Order order, unsigned seed) {
        if (!only.empty() && only != name) return;
        order_name = name;
        generator.seed(1);
        emu::set_order(order, seed);
        test();
    };
    in("plain", emu::Order::plain, 0);
    in("reversed", emu::Order::reversed, 0);
    for (unsigned seed = 1; seed <= 3; ++seed) in("shuffled", emu::Order::shuffled, seed);
    double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    printf("%d passed, %d failed (%.2f s)\n", passed, failed, s);
    return failed ? 1 : 0;
}
