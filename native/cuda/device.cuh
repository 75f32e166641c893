// What every kernel includes: CUDA's headers and thin wrappers of the PTX that the kernels use, or, compiled as C++, the emulation.
#pragma once
#ifndef __CUDACC__
#include "cuda_on_cpu.h"
#else
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

// Launches `kernel` on `stream`; the same call runs it in the emulation, where <<<>>> does not exist.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                   Arguments... arguments) {
    if (shared > 48 * 1024) {                       // more than the default must be asked for
        cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
        if (e != cudaSuccess) return e;
    }
    kernel<<<grid, block, shared, stream>>>(static_cast<Parameters>(arguments)...);
    return cudaGetLastError();
}

// The block's dynamic shared memory. A function, because `extern __shared__` of an unknown size has no meaning in C++.
template <class T> __device__ inline T* dynamic_shared() {
    extern __shared__ __align__(128) unsigned char dynamic_shared_bytes[];
    return reinterpret_cast<T*>(dynamic_shared_bytes);
}

// 2^x within 2 ulp (PTX ISA, ex2.approx.ftz.f32: 2^-22 relative); numbers under the normal ones are zero.
__device__ inline float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// d[16, 8] += a[16, 16] b[16, 8]; fragments as in the PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
__device__ inline void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices of 16-bit elements; lane 8 m + r gives the address of row r of matrix m.
__device__ inline void ldmatrix_x4(uint32_t* out, const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                              : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(shared_address(row)) : "memory");
}
__device__ inline void ldmatrix_x4_trans(uint32_t* out, const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                              : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(shared_address(row)) : "memory");
}

// Copies 16 bytes from global to shared memory, or zeros if not `inside` (then `global` is not read).
__device__ inline void cp_async_16(void* shared, const void* global, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(shared_address(shared)), "l"(global), "r"(inside ? 16 : 0) : "memory");
}
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int Pending> __device__ inline void cp_async_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(Pending) : "memory"); }

// ---- Hopper's matrix products of four warps (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions"), sm_90a alone --------

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define KT_WGMMA 1
#endif

#ifdef KT_WGMMA
// What this thread wrote to shared memory, its copies that are done included, will be seen by products after the next barrier.
__device__ inline void fence_for_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Before the first product, and after registers of one were written.
__device__ inline void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Keeps what is computed with these registers from being moved across products_begin or a wait, which do not name them.
template <int N> __device__ inline void settle(float (*d)[4]) {
#pragma unroll
    for (int i = 0; i < N / 8; i++) asm volatile("" : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3]) :: "memory");
}
template <int N> __device__ inline void settle(uint32_t (*a)[4]) {
#pragma unroll
    for (int i = 0; i < N / 16; i++) asm volatile("" : "+r"(a[i][0]), "+r"(a[i][1]), "+r"(a[i][2]), "+r"(a[i][3]) :: "memory");
}
__device__ inline void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int Pending> __device__ inline void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(Pending) : "memory");
}

#define KT_D4(c, i) c(d[i][0]), c(d[i][1]), c(d[i][2]), c(d[i][3])
#define KT_D32(c, i) \
    KT_D4(c, i), KT_D4(c, i + 1), KT_D4(c, i + 2), KT_D4(c, i + 3), KT_D4(c, i + 4), KT_D4(c, i + 5), KT_D4(c, i + 6), KT_D4(c, i + 7)
#define KT_D64(c) KT_D32(c, 0)
#define KT_D80(c) KT_D64(c), KT_D4(c, 8), KT_D4(c, 9)
#define KT_D256(c) KT_D32(c, 0), KT_D32(c, 8), KT_D32(c, 16), KT_D32(c, 24)
#define KT_R0                                                                                                                \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "         \
    "%24, %25, %26, %27, %28, %29, %30, %31"
#define KT_R32                                                                                                               \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, "         \
    "%54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define KT_R64                                                                                                               \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, "         \
    "%86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define KT_R96                                                                                                               \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, "         \
    "%115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define KT_N64 "{" KT_R0 "}"
#define KT_N80 "{" KT_R0 ", %32, %33, %34, %35, %36, %37, %38, %39}"
#define KT_N256 "{" KT_R0 ", " KT_R32 ", " KT_R64 ", " KT_R96 "}"

// d[64, 64] = or += a[64, 16] b[64, 16]', both by rows in shared memory. d as 8 fragments of mma, a warp 16 rows.
template <bool Add> __device__ inline void multiply_shared(float (*d)[4], uint64_t a, uint64_t b) {
    if constexpr (Add) {
        asm volatile("{.reg .pred p; setp.eq.b32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " KT_N64
                     ", %32, %33, p, 1, 1, 0, 0;}" : KT_D64("+f") : "l"(a), "l"(b));
    } else {
        asm volatile("{.reg .pred p; setp.ne.b32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " KT_N64
                     ", %32, %33, p, 1, 1, 0, 0;}" : KT_D64("=f") : "l"(a), "l"(b));
    }
}
// d[64, N] += a[64, 16] b[16, N]: a's fragments in registers as those of mma, b by rows in shared memory.
template <int N> __device__ inline void multiply_registers(float (*d)[4], const uint32_t* a, uint64_t b) {
    static_assert(N == 64 || N == 80 || N == 256, "head sizes");
    if constexpr (N == 64) {
        asm volatile("{.reg .pred p; setp.eq.b32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " KT_N64
                     ", {%32, %33, %34, %35}, %36, p, 1, 1, 1;}"
                     : KT_D64("+f") : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
    } else if constexpr (N == 80) {
        asm volatile("{.reg .pred p; setp.eq.b32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 " KT_N80
                     ", {%40, %41, %42, %43}, %44, p, 1, 1, 1;}"
                     : KT_D80("+f") : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
    } else {
        asm volatile("{.reg .pred p; setp.eq.b32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " KT_N256
                     ", {%128, %129, %130, %131}, %132, p, 1, 1, 1;}"
                     : KT_D256("+f") : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
    }
}
#undef KT_D4
#undef KT_D32
#undef KT_D64
#undef KT_D80
#undef KT_D256
#undef KT_R0
#undef KT_R32
#undef KT_R64
#undef KT_R96
#undef KT_N64
#undef KT_N80
#undef KT_N256
#endif
#endif

#ifdef KT_WGMMA
// Says where a matrix of pieces of 8 rows of 16 bytes lies in shared memory, each piece 128 bytes in a row: `leading` bytes lie
// between pieces that are neighbours in the direction of the sum, `stride` bytes between neighbours in the other.
__device__ inline uint64_t matrix_descriptor(const void* first, uint32_t leading, uint32_t stride) {
    return (shared_address(first) & 0x3ffffu) >> 4 | uint64_t{leading >> 4} << 16 | uint64_t{stride >> 4} << 32;
}
#endif
