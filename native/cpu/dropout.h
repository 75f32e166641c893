// Which elements dropout keeps, for every kernel that drops: the mask is a function of the element's index alone.
#pragma once

#include "bf16.h"
#include "context.h"

namespace kt {

struct Dropout {
    uint32_t threshold;  // of 16 drawn bits, from which on an element is kept
    float factor;
    uint64_t seed, stream;
};

// False, with the text left in last_error, where p is no probability.
bool make_dropout(kt_ctx* ctx, const char* op, Dropout* dropout, float p, uint64_t seed, uint64_t stream);

// y = x with drops, for n elements of which the first has that index in the whole; y may be x.
void drop(float* y, const float* x, int64_t first, int64_t n, const Dropout& dropout);
void drop(bf16* y, const bf16* x, int64_t first, int64_t n, const Dropout& dropout);

}  // namespace kt
