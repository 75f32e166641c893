// Every float to bf16 and half, and back: the emulation against CUDA's own headers (their host functions). Takes half a minute and
// needs CUDA's headers, so it is no part of the tests. Both define __nv_bfloat16, hence compiled twice:
//   g++ -O2 -DOURS -c conversions_exhaustive.cpp -o ours.o && g++ -O2 -I $CUDA_HOME/include conversions_exhaustive.cpp ours.o
#include <cstdint>
#include <cstdio>
#include <cstring>

uint16_t our_bf16(float);
uint16_t our_half(float);
float our_float_of_half(uint16_t);
float our_float_of_bf16(uint16_t);

#ifdef OURS
#include "cuda_on_cpu.h"
uint16_t our_bf16(float f) { return __float2bfloat16_rn(f).bits; }
uint16_t our_half(float f) { return __float2half_rn(f).bits; }
float our_float_of_half(uint16_t h) { return __half2float({h}); }
float our_float_of_bf16(uint16_t b) { return __bfloat162float({b}); }
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>

template <class To, class From> To bits_of(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(static_cast<void*>(&to), &from, sizeof to);
    return to;
}

int main() {
    uint64_t wrong = 0;
    uint32_t u = 0;
    do {
        float f = bits_of<float>(u);
        wrong += bits_of<uint16_t>(__float2bfloat16_rn(f)) != our_bf16(f);
        wrong += bits_of<uint16_t>(__float2half_rn(f)) != our_half(f);
    } while (++u);
    for (uint32_t i = 0; i < 65536; ++i) {
        wrong += bits_of<uint32_t>(__half2float(bits_of<__half>(uint16_t(i)))) != bits_of<uint32_t>(our_float_of_half(uint16_t(i)));
        wrong += bits_of<uint32_t>(__bfloat162float(bits_of<__nv_bfloat16>(uint16_t(i)))) != bits_of<uint32_t>(our_float_of_bf16(uint16_t(i)));
    }
    printf("%llu differences\n", static_cast<unsigned long long>(wrong));
    return wrong != 0;
}
#endif
