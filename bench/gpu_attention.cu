// Attention of builds of the CUDA library beside each other, without Java: milliseconds forward and backward, and how far each
// one's outputs are from the first's (y, dq, dk, dv: norm of the difference over the norm). To try other sizes of blocks. On a
// Hopper each library runs a second time with the kernels for every card (attention_tiles.cu): "tiles".
//
//   nvcc -O2 -std=c++17 -Inative/include -Inative/cuda bench/gpu_attention.cu -o gpu_attention -ldl
//   ./gpu_attention ./one.so ./other.so        # libraries with the kernel table of native/include/kernels.h
//
// Random values of variance 1; a time is the median of 7, of 3 calls each between two events. `bench/gpu.sh PACK OUT attention` does
// all this.
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "context.h"
#include "kernels.h"

using bf16 = __nv_bfloat16;

static void check(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
    std::exit(1);
}

__global__ void fill(bf16* p, int64_t n, uint32_t seed) {
    for (int64_t i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll) {
        uint32_t h = static_cast<uint32_t>(i) * 2654435761u ^ seed * 0x9E3779B9u;
        h ^= h >> 16, h *= 0x85ebca6bu, h ^= h >> 13, h *= 0xc2b2ae35u, h ^= h >> 16;
        p[i] = __float2bfloat16((h / 4294967296.0f - 0.5f) * 3.4641f);
    }
}

template <class T>
static T* allocate(int64_t n) {
    void* p = nullptr;
    check(cudaMalloc(&p, n * sizeof(T)), "cudaMalloc");
    check(cudaMemset(p, 0xff, n * sizeof(T)), "cudaMemset");  // NaN: what is not written shows
    return static_cast<T*>(p);
}

template <class F>
static float median_ms(F call) {
    cudaEvent_t begin, end;
    cudaEventCreate(&begin), cudaEventCreate(&end);
    std::vector<float> times(7);
    for (float& time : times) {
        cudaEventRecord(begin);
        for (int i = 0; i < 3; i++) call();
        cudaEventRecord(end);
        check(cudaEventSynchronize(end), "attention");
        cudaEventElapsedTime(&time, begin, end);
    }
    cudaEventDestroy(begin), cudaEventDestroy(end);
    std::sort(times.begin(), times.end());
    return times[3] / 3;
}

struct Shape {
    const char* name;
    int rows, length, heads, kv_heads, head_dim;
    bool causal;
    int window, image;  // in each row that many tokens, from the 20th on, see each other
};

int main(int argc, char** argv) {
    const Shape shapes[] = {{"vision", 8, 4096, 16, 16, 72, false, 0, 0},
                            {"64, causal, window", 3, 1500, 8, 4, 64, true, 512, 0},
                            {"80, odd", 5, 333, 4, 2, 80, true, 0, 0},
                            {"text", 8, 600, 8, 4, 256, true, 0, 0},
                            {"text, images", 8, 600, 8, 4, 256, true, 1024, 256},
                            {"text, window", 1, 4096, 8, 4, 256, true, 1024, 0},
                            {"text, long", 2, 4096, 8, 4, 256, true, 0, 0},
                            {"text, 4 heads of 1", 8, 600, 4, 1, 256, true, 0, 0},
                            {"text, odd heads", 7, 333, 3, 3, 256, true, 0, 0}};
    for (const Shape& s : shapes) {
        const int64_t tokens = int64_t{s.rows} * s.length;
        const int64_t sizes[4] = {tokens * s.heads * s.head_dim, tokens * s.heads * s.head_dim, tokens * s.kv_heads * s.head_dim,
                                  tokens * s.kv_heads * s.head_dim};  // y, dq, dk, dv
        bf16 *q = allocate<bf16>(sizes[0]), *k = allocate<bf16>(sizes[2]), *v = allocate<bf16>(sizes[2]);
        bf16 *dy = allocate<bf16>(sizes[0]), *out[4];
        for (int i = 0; i < 4; i++) out[i] = allocate<bf16>(sizes[i]);
        float* lse = allocate<float>(tokens * s.heads);
        fill<<<1024, 256>>>(q, sizes[0], 1), fill<<<1024, 256>>>(k, sizes[2], 2);
        fill<<<1024, 256>>>(v, sizes[2], 3), fill<<<1024, 256>>>(dy, sizes[0], 4);
        std::vector<int32_t> first(s.rows + 1);
        for (int r = 0; r <= s.rows; r++) first[r] = r * s.length;
        int32_t* starts = allocate<int32_t>(s.rows + 1);
        check(cudaMemcpy(starts, first.data(), first.size() * sizeof(int32_t), cudaMemcpyHostToDevice), "starts");
        std::vector<int32_t> image_of(tokens, -1);
        double pairs = 0;
        for (int i = 0; i < s.length; i++) {
            pairs += !s.causal ? s.length : s.window ? std::min(i + 1, s.window) : i + 1;
            if (i < 20 || i >= 20 + s.image) continue;
            pairs += 20 + s.image - i - 1;
            for (int r = 0; r < s.rows; r++) image_of[int64_t{r} * s.length + i] = r;
        }
        int32_t* const spans = s.image ? allocate<int32_t>(tokens) : nullptr;
        if (spans) check(cudaMemcpy(spans, image_of.data(), tokens * sizeof(int32_t), cudaMemcpyHostToDevice), "spans");
        const double flops = 4.0 * s.rows * pairs * s.heads * s.head_dim;
        const float scale = 1 / std::sqrt(static_cast<float>(s.head_dim));

        std::vector<bf16> reference[4];
        for (int run = 0; run < 2 * (argc - 1); run++) {
            const char* const path = argv[1 + run / 2];
            void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
            if (!library) {
                std::fprintf(stderr, "%s\n", dlerror());
                return 1;
            }
            auto* const table = reinterpret_cast<const kt_table* (*)()>(dlsym(library, "lapidary_cuda_kernels"))();
            kt_ctx* context = nullptr;
            if (table->context_create(&context, 0) != KT_OK) return 1;
            if (run % 2 == 1) {
                if (!context->warpgroups) {
                    table->context_destroy(context);
                    continue;
                }
                context->warpgroups = false;
            }
            const std::string name = std::string(path).substr(std::string(path).rfind('/') + 1) + (run % 2 == 1 ? ", tiles" : "");
            for (int i = 0; i < 4; i++) check(cudaMemset(out[i], 0xff, sizes[i] * sizeof(bf16)), "cudaMemset");
            const auto forward = [&] {
                return table->attention_forward(context, out[0], lse, q, k, v, starts, spans, tokens, s.rows, s.heads,
                                                s.kv_heads, s.head_dim, scale, s.causal, s.window, KT_BF16);
            };
            const auto backward = [&] {
                return table->attention_backward(context, out[1], out[2], out[3], dy, q, k, v, out[0], lse, starts, spans,
                                                 tokens, s.rows, s.heads, s.kv_heads, s.head_dim, scale, s.causal, s.window,
                                                 KT_BF16);
            };
            if (forward() != KT_OK || backward() != KT_OK) {
                std::fprintf(stderr, "%s\n", table->last_error(context));
                return 1;
            }
            check(cudaDeviceSynchronize(), path);
            double apart[4] = {};
            for (int i = 0; i < 4; i++) {
                std::vector<bf16> got(sizes[i]);
                check(cudaMemcpy(got.data(), out[i], sizes[i] * sizeof(bf16), cudaMemcpyDeviceToHost), "cudaMemcpy");
                if (run == 0) reference[i] = got;
                double difference = 0, norm = 0;
                for (int64_t j = 0; j < sizes[i]; j++) {
                    const double a = __bfloat162float(got[j]), b = __bfloat162float(reference[i][j]);
                    difference += (a - b) * (a - b), norm += b * b;
                }
                apart[i] = std::sqrt(difference / norm);
            }
            const float f = median_ms(forward), b = median_ms(backward);
            std::printf("%-20s %-28s forward %7.3f ms %6.1f TFLOP/s  backward %7.3f ms %6.1f TFLOP/s"
                        "  apart %.1e %.1e %.1e %.1e\n",
                        s.name, name.c_str(), f, flops / f / 1e9, b, 2.5 * flops / b / 1e9, apart[0], apart[1], apart[2], apart[3]);
            std::fflush(stdout);
            table->context_destroy(context);
        }
        for (void* p : {static_cast<void*>(q), static_cast<void*>(k), static_cast<void*>(v), static_cast<void*>(dy),
                        static_cast<void*>(lse), static_cast<void*>(starts), static_cast<void*>(spans)}) {
            cudaFree(p);
        }
        for (bf16* p : out) cudaFree(p);
    }
    return 0;
}
