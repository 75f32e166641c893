// cuBLASLt of the CUDA for tests, as far as the engine calls it: matrices by columns, sums in F32. An algorithm holds for
// exactly the product that it was chosen for.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "fake_cuda.h"

namespace {

constexpr int kInvalidValue = 7;
constexpr int kNotSupported = 15;
constexpr int kBf16 = 14;
constexpr int kF32 = 0;
constexpr size_t kWorkspace = 1 << 20;

struct Operation {
    int32_t transpose_a = 0, transpose_b = 0, epilogue = 1, bias_type = -1;
    const void* bias = nullptr;
};

struct Layout {
    int32_t type;
    uint64_t rows, cols;
    int64_t ld;
    size_t bytes() const { return static_cast<size_t>(ld) * cols * (type == kBf16 ? 2 : 4); }
};

struct Preference {
    uint64_t workspace = 0;
    uint32_t reduction = 7;
    uint32_t alignment[4] = {256, 256, 256, 256};
};

struct Algorithm {
    int64_t m, n, k;
    int32_t transpose_a, transpose_b, in, out, epilogue;
    uint32_t alignment;
    char unused[16];
};
static_assert(sizeof(Algorithm) == 64, "as cublasLtMatmulAlgo_t");

struct HeuristicResult {
    Algorithm algorithm;
    size_t workspace;
    int32_t state;
    float waves;
    int32_t reserved[4];
};

float widen(uint16_t x) {
    const uint32_t bits = uint32_t{x} << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

uint16_t narrow(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if (std::isnan(x)) return 0x7fc0;
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float at(const void* x, int32_t type, size_t i) {
    return type == kBf16 ? widen(static_cast<const uint16_t*>(x)[i]) : static_cast<const float*>(x)[i];
}

Algorithm describe(const Operation& op, const Layout& a, const Layout& d, uint32_t alignment) {
    Algorithm it;
    std::memset(&it, 0, sizeof it);
    it.m = static_cast<int64_t>(d.rows);
    it.n = static_cast<int64_t>(d.cols);
    it.k = static_cast<int64_t>(op.transpose_a ? a.rows : a.cols);
    it.transpose_a = op.transpose_a;
    it.transpose_b = op.transpose_b;
    it.in = a.type;
    it.out = d.type;
    it.epilogue = op.epilogue;
    it.alignment = alignment;
    return it;
}

bool fits(const Operation& op, const Layout& a, const Layout& b, const Layout& d) {
    const uint64_t m = op.transpose_a ? a.cols : a.rows, ka = op.transpose_a ? a.rows : a.cols;
    const uint64_t kb = op.transpose_b ? b.cols : b.rows, n = op.transpose_b ? b.rows : b.cols;
    const bool types = a.type == b.type && (d.type == a.type || (a.type == kBf16 && d.type == kF32));
    const bool bias = op.epilogue == 1 || (op.epilogue == 4 && op.bias_type == d.type);
    return types && bias && m == d.rows && n == d.cols && ka == kb && ka > 0 && m > 0 && n > 0;
}

// Row i of op(x) or column j of it, whichever runs along the sum, as floats next to each other.
std::vector<float> packed(const void* x, const Layout& layout, bool along_rows) {
    const size_t lines = along_rows ? layout.cols : layout.rows, length = along_rows ? layout.rows : layout.cols;
    std::vector<float> y(lines * length);
    for (size_t line = 0; line < lines; line++) {
        for (size_t p = 0; p < length; p++) {
            const size_t row = along_rows ? p : line, col = along_rows ? line : p;
            y[line * length + p] = at(x, layout.type, row + col * static_cast<size_t>(layout.ld));
        }
    }
    return y;
}

float dot(const float* a, const float* b, int64_t k) {
    float sums[16] = {};
    int64_t p = 0;
    for (; p + 16 <= k; p += 16) {
        for (int lane = 0; lane < 16; lane++) sums[lane] += a[p + lane] * b[p + lane];
    }
    float sum = 0;
    for (; p < k; p++) sum += a[p] * b[p];
    for (float lane : sums) sum += lane;
    return sum;
}

}  // namespace

FAKE_EXPORT int cublasLtCreate(void** handle) {
    *handle = new char;
    return 0;
}

FAKE_EXPORT int cublasLtDestroy(void* handle) {
    delete static_cast<char*>(handle);
    return 0;
}

FAKE_EXPORT size_t cublasLtGetVersion() { return 130101; }

FAKE_EXPORT const char* cublasLtGetStatusName(int status) {
    return status == kInvalidValue ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_OF_TEST";
}

FAKE_EXPORT int cublasLtMatmulDescCreate(Operation** out, int compute, int scale) {
    if (compute != 68 || scale != kF32) return kNotSupported;
    *out = new Operation;
    return 0;
}

FAKE_EXPORT int cublasLtMatmulDescDestroy(Operation* it) {
    delete it;
    return 0;
}

FAKE_EXPORT int cublasLtMatmulDescSetAttribute(Operation* it, int attribute, const void* value, size_t bytes) {
    if (attribute == 8) {
        if (bytes != sizeof(void*)) return kInvalidValue;
        std::memcpy(&it->bias, value, bytes);
        return 0;
    }
    if (bytes != 4) return kInvalidValue;
    int32_t number;
    std::memcpy(&number, value, 4);
    switch (attribute) {
        case 3: it->transpose_a = number; return 0;
        case 4: it->transpose_b = number; return 0;
        case 7: it->epilogue = number; return 0;
        case 26: it->bias_type = number; return 0;
        default: return kInvalidValue;
    }
}

FAKE_EXPORT int cublasLtMatrixLayoutCreate(Layout** out, int type, uint64_t rows, uint64_t cols, int64_t ld) {
    if ((type != kBf16 && type != kF32) || ld < static_cast<int64_t>(rows)) return kInvalidValue;
    *out = new Layout{type, rows, cols, ld};
    return 0;
}

FAKE_EXPORT int cublasLtMatrixLayoutDestroy(Layout* it) {
    delete it;
    return 0;
}

FAKE_EXPORT int cublasLtMatmulPreferenceCreate(Preference** out) {
    *out = new Preference;
    return 0;
}

FAKE_EXPORT int cublasLtMatmulPreferenceDestroy(Preference* it) {
    delete it;
    return 0;
}

FAKE_EXPORT int cublasLtMatmulPreferenceSetAttribute(Preference* it, int attribute, const void* value, size_t bytes) {
    if (attribute == 1 && bytes == 8) {
        std::memcpy(&it->workspace, value, 8);
    } else if (attribute == 3 && bytes == 4) {
        std::memcpy(&it->reduction, value, 4);
    } else if (attribute >= 5 && attribute <= 8 && bytes == 4) {
        std::memcpy(&it->alignment[attribute - 5], value, 4);
    } else {
        return kInvalidValue;
    }
    return 0;
}

FAKE_EXPORT int cublasLtMatmulAlgoGetHeuristic(void*, const Operation* op, const Layout* a, const Layout* b, const Layout* c,
                                               const Layout* d, const Preference* wish, int wanted, HeuristicResult* results,
                                               int* count) {
    *count = 0;
    if (wanted < 1 || c->type != d->type) return kInvalidValue;
    if (!fits(*op, *a, *b, *d)) return kNotSupported;
    const uint32_t alignment = *std::max_element(wish->alignment, wish->alignment + 4);
    results[0] = {describe(*op, *a, *d, alignment), std::min<size_t>(wish->workspace, kWorkspace), 0, 1, {}};
    *count = 1;
    return 0;
}

FAKE_EXPORT int cublasLtMatmul(void*, const Operation* op, const float* alpha, const void* a, const Layout* la, const void* b,
                               const Layout* lb, const float* beta, const void* c, const Layout* lc, void* d,
                               const Layout* ld, const Algorithm* algorithm, void* workspace, size_t workspace_bytes,
                               void* stream) {
    const Algorithm expected = describe(*op, *la, *ld, algorithm->alignment);
    uintptr_t pointers = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) | reinterpret_cast<uintptr_t>(d);
    if (op->epilogue == 4) pointers |= reinterpret_cast<uintptr_t>(op->bias);
    if (!stream || !fits(*op, *la, *lb, *ld) || std::memcmp(&expected, algorithm, sizeof expected) != 0 ||
        pointers % algorithm->alignment != 0 || c != d || lc != ld || !fake_cuda_is_device(a, la->bytes()) ||
        !fake_cuda_is_device(b, lb->bytes()) || !fake_cuda_is_device(d, ld->bytes()) ||
        !fake_cuda_is_device(workspace, workspace_bytes) ||
        (op->epilogue == 4 && !fake_cuda_is_device(op->bias, ld->rows * (ld->type == kBf16 ? 2 : 4)))) {
        return kInvalidValue;
    }
    fake::Open open;
    std::memset(workspace, 0xff, std::min(workspace_bytes, kWorkspace));  // nobody else's memory
    const int64_t m = expected.m, n = expected.n, k = expected.k;
    const std::vector<float> rows = packed(a, *la, op->transpose_a != 0);
    const std::vector<float> cols = packed(b, *lb, op->transpose_b == 0);
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = 0; i < m; i++) {
            float value = *alpha * dot(&rows[static_cast<size_t>(i * k)], &cols[static_cast<size_t>(j * k)], k);
            const size_t place = static_cast<size_t>(i + j * ld->ld);
            if (*beta != 0) value += *beta * at(d, ld->type, place);
            if (op->epilogue == 4) value += at(op->bias, ld->type, static_cast<size_t>(i));
            if (ld->type == kBf16) {
                static_cast<uint16_t*>(d)[place] = narrow(value);
            } else {
                static_cast<float*>(d)[place] = value;
            }
        }
    }
    return 0;
}
