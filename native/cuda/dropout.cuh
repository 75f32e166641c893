// Which elements dropout keeps, for every kernel that drops: the mask is a function of the element's index alone.
#pragma once

#include <cmath>

#include "kernel.cuh"

namespace kt {
namespace {

struct Dropout {
    uint32_t threshold;  // of 16 drawn bits, from which on an element is kept
    float factor;
    uint64_t seed, stream;
};

// False, with the text left in last_error, where p is no probability.
inline bool make_dropout(kt_ctx* ctx, const char* op, Dropout* dropout, float p, uint64_t seed, uint64_t stream) {
    if (!(p >= 0 && p <= 1)) {
        fail(ctx, KT_BAD_ARGUMENT, "%s: p is %g, expected 0 <= p <= 1", op, static_cast<double>(p));
        return false;
    }
    const float threshold = std::nearbyint(p * 65536.0f);
    // With everything dropped the factor would be infinite; nothing is multiplied by it then.
    const float factor = threshold == 65536.0f ? 0.0f : 1.0f / (1.0f - threshold / 65536.0f);
    *dropout = {static_cast<uint32_t>(threshold), factor, seed, stream};
    return true;
}

// The four words of Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011) of the counter (group,
// stream), which serve the eight elements of the group.
__device__ inline void draw(uint32_t* word, int64_t group, const Dropout& dropout) {
    const uint64_t counter = static_cast<uint64_t>(group);
    uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32);
    uint32_t c2 = static_cast<uint32_t>(dropout.stream), c3 = static_cast<uint32_t>(dropout.stream >> 32);
    uint32_t low = static_cast<uint32_t>(dropout.seed), high = static_cast<uint32_t>(dropout.seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64_t left = uint64_t{0xD2511F53u} * c0, right = uint64_t{0xCD9E8D57u} * c2;
        c0 = static_cast<uint32_t>(right >> 32) ^ c1 ^ low;
        c1 = static_cast<uint32_t>(right);
        c2 = static_cast<uint32_t>(left >> 32) ^ c3 ^ high;
        c3 = static_cast<uint32_t>(left);
        low += 0x9E3779B9u;
        high += 0xBB67AE85u;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

// Drops of eight elements that begin at index i of the whole. aligned: i is a multiple of 8, so one counter serves them.
__device__ inline void drop8(float* v, int64_t i, const Dropout& dropout, bool aligned) {
    uint32_t word[8];
    draw(word, i / 8, dropout);
    if (!aligned) {  // two counters' 16 halves, of which the first i % 8 are shifted out
        draw(word + 4, i / 8 + 1, dropout);
        const int skipped = static_cast<int>(i % 8);
#pragma unroll
        for (int j = 0; j < 6; j++) word[j] = skipped & 4 ? word[j + 2] : word[j];
#pragma unroll
        for (int j = 0; j < 5; j++) word[j] = skipped & 2 ? word[j + 1] : word[j];
#pragma unroll
        for (int j = 0; j < 4; j++) word[j] = skipped & 1 ? word[j] >> 16 | word[j + 1] << 16 : word[j];
    }
    // The upper half is compared where it lies, which spares a shift an element; 2^16 does not fit there, and keeps nothing.
    const bool some = dropout.threshold < 65536;
    const uint32_t upper = dropout.threshold << 16;
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
        v[j] = (word[j / 2] & 0xffffu) >= dropout.threshold ? v[j] * dropout.factor : 0.0f;
        v[j + 1] = some && word[j / 2] >= upper ? v[j + 1] * dropout.factor : 0.0f;
    }
}

}  // namespace
}  // namespace kt
