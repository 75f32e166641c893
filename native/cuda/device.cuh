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
#endif
