// A head of 262k rows is multiplied by cuBLASLt, a chunk of tokens at a time, and cross_entropy takes the chunk's logits: a GPU's
// memory holds them, and no kernel that kept them nearer would reach cuBLASLt's rate. So this entry is not supported here.
#include "context.h"
#include "table.h"

namespace kt {
namespace {

int32_t linear_cross_entropy_supported(kt_ctx*, int32_t* supported, int64_t, int32_t) {
    *supported = 0;
    return KT_OK;
}

int32_t linear_cross_entropy(kt_ctx* ctx, float*, float*, int32_t*, void*, float*, const void*, const void*, const int32_t*,
                             int64_t, int64_t, int64_t cols, float, int32_t dtype) {
    return fail(ctx, KT_BAD_ARGUMENT, "linear_cross_entropy: %lld columns of dtype %d are not supported here",
                static_cast<long long>(cols), static_cast<int>(dtype));
}

}  // namespace

void add_linear_cross_entropy(kt_table& table) {
    table.linear_cross_entropy_supported = linear_cross_entropy_supported;
    table.linear_cross_entropy = linear_cross_entropy;
}

}  // namespace kt
