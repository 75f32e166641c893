#include <cstring>

#include "bf16.h"
#include "context.h"
#include "table.h"

namespace kt {
namespace {

// ---- pieces of one thread ----------------------------------------------------------------------------------------

// Patches [begin, end) of all images, counted row-major.
template <typename T>
[[gnu::always_inline]] inline void unfold(T* y, const float* pixels, int64_t begin, int64_t end, int64_t channels,
                                          int64_t size, int64_t patch) {
    const int64_t side = size / patch;
    for (int64_t i = begin; i < end; i++) {
        const int64_t image = i / (side * side);
        const int64_t down = i / side % side;
        const int64_t right = i % side;
        T* row = y + i * channels * patch * patch;
        for (int64_t c = 0; c < channels; c++) {
            const float* corner = pixels + ((image * channels + c) * size + down * patch) * size + right * patch;
            for (int64_t py = 0; py < patch; py++) {
#pragma omp simd
                for (int64_t px = 0; px < patch; px++) row[px] = store<T>(corner[py * size + px]);
                row += patch;
            }
        }
    }
}

KT_CLONES void unfold_patches(float* y, const float* pixels, int64_t begin, int64_t end, int64_t channels, int64_t size,
                              int64_t patch) {
    unfold(y, pixels, begin, end, channels, size, patch);
}

KT_CLONES void unfold_patches(bf16* y, const float* pixels, int64_t begin, int64_t end, int64_t channels, int64_t size,
                              int64_t patch) {
    unfold(y, pixels, begin, end, channels, size, patch);
}

// Output rows [begin, end) of all images. Cells add up row by row in F32 and are divided once.
template <typename T>
[[gnu::always_inline]] inline void pool(T* y, const T* x, int64_t begin, int64_t end, int64_t side, int64_t kernel,
                                        int64_t cols) {
    constexpr int64_t kBlock = 1024;
    float sum[kBlock];
    const int64_t out = side / kernel;
    const float cells = static_cast<float>(kernel * kernel);
    for (int64_t i = begin; i < end; i++) {
        const int64_t image = i / (out * out);
        const int64_t top = i / out % out * kernel;
        const int64_t left = i % out * kernel;
        for (int64_t first = 0; first < cols; first += kBlock) {
            const int64_t n = std::min(kBlock, cols - first);
            std::memset(sum, 0, static_cast<size_t>(n) * sizeof(float));
            for (int64_t k = 0; k < kernel * kernel; k++) {
                const T* cell = x + ((image * side + top + k / kernel) * side + left + k % kernel) * cols + first;
#pragma omp simd
                for (int64_t c = 0; c < n; c++) sum[c] += load(cell[c]);
            }
            T* row = y + i * cols + first;
#pragma omp simd
            for (int64_t c = 0; c < n; c++) row[c] = store<T>(sum[c] / cells);
        }
    }
}

KT_CLONES void pool_rows(float* y, const float* x, int64_t begin, int64_t end, int64_t side, int64_t kernel, int64_t cols) {
    pool(y, x, begin, end, side, kernel, cols);
}

KT_CLONES void pool_rows(bf16* y, const bf16* x, int64_t begin, int64_t end, int64_t side, int64_t kernel, int64_t cols) {
    pool(y, x, begin, end, side, kernel, cols);
}

// Input rows [begin, end) of all images; cells that no window covers get zero.
template <typename T>
[[gnu::always_inline]] inline void spread(T* dx, const T* dy, int64_t begin, int64_t end, int64_t side, int64_t kernel,
                                          int64_t cols) {
    const int64_t out = side / kernel;
    const float cells = static_cast<float>(kernel * kernel);
    for (int64_t i = begin; i < end; i++) {
        const int64_t image = i / (side * side);
        const int64_t down = i / side % side / kernel;
        const int64_t right = i % side / kernel;
        T* row = dx + i * cols;
        if (down >= out || right >= out) {
            std::memset(row, 0, static_cast<size_t>(cols) * sizeof(T));
            continue;
        }
        const T* from = dy + ((image * out + down) * out + right) * cols;
#pragma omp simd
        for (int64_t c = 0; c < cols; c++) row[c] = store<T>(load(from[c]) / cells);
    }
}

KT_CLONES void spread_rows(float* dx, const float* dy, int64_t begin, int64_t end, int64_t side, int64_t kernel,
                           int64_t cols) {
    spread(dx, dy, begin, end, side, kernel, cols);
}

KT_CLONES void spread_rows(bf16* dx, const bf16* dy, int64_t begin, int64_t end, int64_t side, int64_t kernel,
                           int64_t cols) {
    spread(dx, dy, begin, end, side, kernel, cols);
}

// ---- entries -----------------------------------------------------------------------------------------------------

int32_t patch_unfold(kt_ctx* ctx, void* y, const float* pixels, int64_t images, int64_t channels, int64_t size,
                     int64_t patch, int32_t dtype) {
    if (patch < 1 || size % patch != 0) {
        return fail(ctx, KT_BAD_ARGUMENT, "patch_unfold: images of %lld are not whole patches of %lld",
                    static_cast<long long>(size), static_cast<long long>(patch));
    }
    const int64_t side = size / patch;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, images * side * side, rows_grain(channels * patch * patch), [&](int64_t begin, int64_t end) {
            unfold_patches(static_cast<T*>(y), pixels, begin, end, channels, size, patch);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "patch_unfold", dtype);
}

int32_t average_pool_forward(kt_ctx* ctx, void* y, const void* x, int64_t images, int64_t side, int64_t kernel,
                             int64_t cols, int32_t dtype) {
    if (kernel < 1) return fail(ctx, KT_BAD_ARGUMENT, "average_pool_forward: kernel is %lld", static_cast<long long>(kernel));
    const int64_t out = side / kernel;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, images * out * out, rows_grain(kernel * kernel * cols), [&](int64_t begin, int64_t end) {
            pool_rows(static_cast<T*>(y), static_cast<const T*>(x), begin, end, side, kernel, cols);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "average_pool_forward", dtype);
}

int32_t average_pool_backward(kt_ctx* ctx, void* dx, const void* dy, int64_t images, int64_t side, int64_t kernel,
                              int64_t cols, int32_t dtype) {
    if (kernel < 1) return fail(ctx, KT_BAD_ARGUMENT, "average_pool_backward: kernel is %lld", static_cast<long long>(kernel));
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(ctx, images * side * side, rows_grain(cols), [&](int64_t begin, int64_t end) {
            spread_rows(static_cast<T*>(dx), static_cast<const T*>(dy), begin, end, side, kernel, cols);
        });
    });
    return known ? KT_OK : bad_dtype(ctx, "average_pool_backward", dtype);
}

}  // namespace

void add_vision(kt_table& table) {
    table.patch_unfold = patch_unfold;
    table.average_pool_forward = average_pool_forward;
    table.average_pool_backward = average_pool_backward;
}

}  // namespace kt
