// Patches of images and average pooling. A thread owns an element of the output.
#include "kernel.cuh"
#include "table.h"

namespace kt {
namespace {

template <typename T>
__global__ void __launch_bounds__(kEach) unfold_kernel(T* y, const float* pixels, int64_t n, int64_t channels, int64_t size,
                                                       int64_t patch) {
    const int64_t i = int64_t(blockIdx.x) * kEach + threadIdx.x;
    if (i >= n) return;
    const int64_t side = size / patch;
    const int64_t px = i % patch, py = i / patch % patch, c = i / (patch * patch) % channels;
    const int64_t p = i / (patch * patch * channels);
    const int64_t right = p % side, down = p / side % side, image = p / (side * side);
    y[i] = store<T>(pixels[((image * channels + c) * size + down * patch + py) * size + right * patch + px]);
}

// Cells add up row by row in F32 and are divided once.
template <typename T>
__global__ void __launch_bounds__(kEach) pool_kernel(T* y, const T* x, int64_t n, int64_t side, int64_t kernel,
                                                     int64_t cols) {
    const int64_t i = int64_t(blockIdx.x) * kEach + threadIdx.x;
    if (i >= n) return;
    const int64_t out = side / kernel;
    const int64_t c = i % cols, left = i / cols % out * kernel, top = i / (cols * out) % out * kernel;
    const int64_t image = i / (cols * out * out);
    float sum = 0;
    for (int64_t row = 0; row < kernel; row++) {
        for (int64_t column = 0; column < kernel; column++) {
            sum += load(x[((image * side + top + row) * side + left + column) * cols + c]);
        }
    }
    y[i] = store<T>(sum / static_cast<float>(kernel * kernel));
}

// Cells that no window covers get zero.
template <typename T>
__global__ void __launch_bounds__(kEach) spread_kernel(T* dx, const T* dy, int64_t n, int64_t side, int64_t kernel,
                                                       int64_t cols) {
    const int64_t i = int64_t(blockIdx.x) * kEach + threadIdx.x;
    if (i >= n) return;
    const int64_t out = side / kernel;
    const int64_t c = i % cols, right = i / cols % side / kernel, down = i / (cols * side) % side / kernel;
    const int64_t image = i / (cols * side * side);
    const bool covered = down < out && right < out;
    const float sum = covered ? load(dy[((image * out + down) * out + right) * cols + c]) : 0.0f;
    dx[i] = store<T>(sum / static_cast<float>(kernel * kernel));
}

int32_t patch_unfold(kt_ctx* ctx, void* y, const float* pixels, int64_t images, int64_t channels, int64_t size,
                     int64_t patch, int32_t dtype) {
    if (patch < 1 || size % patch != 0) {
        return fail(ctx, KT_BAD_ARGUMENT, "patch_unfold: images of %lld are not whole patches of %lld",
                    static_cast<long long>(size), static_cast<long long>(patch));
    }
    const int64_t n = images * channels * size * size;
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "patch_unfold", unfold_kernel<T>, blocks_of(n, kEach), kEach, 0, static_cast<T*>(y), pixels, n,
                       channels, size, patch);
    });
    return known ? status : bad_dtype(ctx, "patch_unfold", dtype);
}

int32_t average_pool_forward(kt_ctx* ctx, void* y, const void* x, int64_t images, int64_t side, int64_t kernel,
                             int64_t cols, int32_t dtype) {
    if (kernel < 1) return fail(ctx, KT_BAD_ARGUMENT, "average_pool_forward: kernel is %lld", static_cast<long long>(kernel));
    const int64_t n = images * (side / kernel) * (side / kernel) * cols;
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "average_pool_forward", pool_kernel<T>, blocks_of(n, kEach), kEach, 0, static_cast<T*>(y),
                       static_cast<const T*>(x), n, side, kernel, cols);
    });
    return known ? status : bad_dtype(ctx, "average_pool_forward", dtype);
}

int32_t average_pool_backward(kt_ctx* ctx, void* dx, const void* dy, int64_t images, int64_t side, int64_t kernel,
                              int64_t cols, int32_t dtype) {
    if (kernel < 1) return fail(ctx, KT_BAD_ARGUMENT, "average_pool_backward: kernel is %lld", static_cast<long long>(kernel));
    const int64_t n = images * side * side * cols;
    int32_t status = KT_OK;
    const bool known = with_type(dtype, [&](auto type) {
        using T = decltype(type);
        status = start(ctx, "average_pool_backward", spread_kernel<T>, blocks_of(n, kEach), kEach, 0, static_cast<T*>(dx),
                       static_cast<const T*>(dy), n, side, kernel, cols);
    });
    return known ? status : bad_dtype(ctx, "average_pool_backward", dtype);
}

}  // namespace

void add_vision(kt_table& table) {
    table.patch_unfold = patch_unfold;
    table.average_pool_forward = average_pool_forward;
    table.average_pool_backward = average_pool_backward;
}

}  // namespace kt
